"""How onnxruntime runs networks on a CPU: recognizers, `mini`, the person matte and the style judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portrait.paths import cpu_threads

if TYPE_CHECKING:
    import onnxruntime


def session_options(threads: int | None = None) -> onnxruntime.SessionOptions:
    """Options of a CPU session whose threads sleep while they have nothing to do; None for all cores of this process."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or cpu_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options
