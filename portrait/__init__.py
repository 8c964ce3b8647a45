"""portrait: identity-preserving portrait stylization, measured rather than hoped.

A photo goes in; a stylized portrait comes out in which the same person is still recognized.
`portrait.PortraitStylizer` is one call for one picture, `portrait.loop.attempt_loop.AttemptLoop` the pipeline as an object;
`portrait --help` is the pipeline as a command.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portrait.api import PortraitStylizer, Result
    from portrait.errors import PortraitError
    from portrait.records.portrait import AttemptRecord, FailureRecord, PortraitRecord, read_record

__all__ = [
    "AttemptRecord", "FailureRecord", "PortraitError", "PortraitRecord", "PortraitStylizer", "Result", "__version__",
    "read_record",
]  # fmt: skip

# Before any of these libraries is imported: onnxruntime >= 1.29 uploads telemetry unless told otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
# Else it warns on import of optional packages that are missing.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

# Let threads sleep at barriers. By default they spin; beside another busy process they then take the time of the very
# threads that they wait for. OpenMP reads this once, when torch is loaded; if the user has set any of the three, it is
# left alone.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

__version__ = "0.1.0"


_HOMES = {
    "AttemptRecord": "portrait.records.portrait",
    "FailureRecord": "portrait.records.portrait",
    "PortraitError": "portrait.errors",
    "PortraitRecord": "portrait.records.portrait",
    "PortraitStylizer": "portrait.api",
    "Result": "portrait.api",
    "read_record": "portrait.records.portrait",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that `import portrait` alone loads no library."""
    if name not in _HOMES:
        raise AttributeError(f"module 'portrait' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
