"""Networks that onnxruntime runs on the CPU: graphs without weights, and the weights by their names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portrait.errors import MemoryLimitError, WeightsCorruptError, WeightsMissingError, one_line
from portrait.faces.onnx_session import session_options
from portrait.hub.files import GRAPHS, verify


def read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """The weights in a safetensors file by name, in float32.

    Raises:
        WeightsMissingError, WeightsCorruptError: there is no such file, or it cannot be read.
    """
    from safetensors.numpy import load_file

    if not path.is_file():
        raise WeightsMissingError(f"no file {path}")
    try:
        return {name: np.asarray(value, np.float32) for name, value in load_file(path).items()}
    except Exception as error:  # safetensors raises several kinds of errors
        raise_if_oom(error)
        raise WeightsCorruptError(f"{path} cannot be read: {one_line(error, 200)}") from error


class OnnxNetwork:
    """A graph of `weights/training/graphs.py` with its weights.

    Args:
        graph: An ONNX file in which weights have only names.
        weights: Exactly these weights, float32.
        threads: CPU threads; no result depends on them.

    Raises:
        WeightsCorruptError: the graph cannot be read, or these are not its weights.
        MemoryLimitError: memory ran out.
    """

    def __init__(self, graph: Path, weights: Mapping[str, NDArray[np.float32]], threads: int) -> None:
        import onnxruntime

        options = session_options(threads)
        try:
            values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
            options.add_external_initializers(list(weights), values)
            self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exception classes are private
            raise_if_oom(error)
            raise WeightsCorruptError(
                f"{graph} is not the graph of the weights beside it: {one_line(error, 300)}"
            ) from error

    def __call__(self, **inputs: NDArray[Any] | float) -> list[NDArray[np.float32]]:
        """Compute all outputs.

        Raises:
            MemoryLimitError: memory ran out.
        """
        arrays = {
            name: value if isinstance(value, np.ndarray) else np.array(value, np.float32)
            for name, value in inputs.items()
        }
        try:
            outputs: list[NDArray[np.float32]] = self._session.run(None, arrays)
        except Exception as error:
            raise_if_oom(error)
            raise
        return outputs


@lru_cache(maxsize=4)
def load_listed(folder: Path, name: str) -> OnnxNetwork:
    """The network `name` of a folder: its weights beside the manifest, which lists them, and its graph. It runs in one thread.

    Raises:
        WeightsMissingError, WeightsCorruptError: a file is missing or damaged, or the manifest does not list it.
        MemoryLimitError: memory ran out.
    """
    weights, graph = (
        verify(folder / file, listed_sha256(folder, file)) for file in (f"{name}.safetensors", f"{GRAPHS}/{name}.onnx")
    )
    return OnnxNetwork(graph, read_weights(weights), threads=1)


def listed_sha256(folder: Path, file: str) -> str:
    """SHA-256 of a file as the folder's `manifest.json` says, in whichever section.

    Raises:
        WeightsCorruptError: the manifest cannot be read, or does not list it.
    """
    manifest = folder / "manifest.json"
    try:
        sections = json.loads(manifest.read_text("utf-8"))
        listed = {
            name: entry for files in sections.values() if isinstance(files, dict) for name, entry in files.items()
        }
        return str(listed[file]["sha256"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsCorruptError(f"{manifest} does not list {file}: {error!r}") from None


OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate memory")
"""What onnxruntime's errors say if memory ran out, of any compiler's standard library."""


def raise_if_oom(error: Exception) -> None:
    """Raises MemoryLimitError if an error of onnxruntime or numpy means that memory ran out."""
    if isinstance(error, MemoryError) or any(sign in str(error) for sign in OUT_OF_MEMORY):
        raise MemoryLimitError(f"out of memory ({one_line(error)}); close other programs") from None


@contextmanager
def oom_is_memory_limit() -> Iterator[None]:
    """Within the block, a MemoryError of numpy becomes a MemoryLimitError."""
    try:
        yield
    except MemoryError as error:
        raise_if_oom(error)
        raise
