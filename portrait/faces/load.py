"""Loads what finds faces and judges them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import cast

from portrait.faces.identity import FaceAnalyzer, Recogniser
from portrait.hub.judges import FACE_TOOLS, JUDGES, tools_for


def load_analyzer(*, commercial: bool, threads: int = 0) -> FaceAnalyzer:
    """What finds faces and judges first.

    Args:
        commercial: Only models that are licensed for commercial use.
        threads: Processor threads, 0 for all cores.

    Raises:
        WeightsError: a model is not here, or damaged.
    """
    first = JUDGES[FACE_TOOLS[tools_for(commercial=commercial)][0]]
    options = {"threads": threads or None} if first.threaded else {}
    return cast(FaceAnalyzer, _class(first.analyzer)(**options))


def load_face_tools(*, commercial: bool, threads: int = 0) -> tuple[FaceAnalyzer, list[Recogniser]]:
    """The analyzer and the further judges; arguments and errors as of `load_analyzer`."""
    analyzer = load_analyzer(commercial=commercial, threads=threads)
    further = FACE_TOOLS[tools_for(commercial=commercial)][1:]
    return analyzer, [cast(Recogniser, _class(JUDGES[name].recognizer)()) for name in further]


def _class(path: str) -> Callable[..., object]:
    """The class of a MODULE:CLASS; only here, so that no library is imported before its judge is asked for."""
    module, _, name = path.partition(":")
    loaded: Callable[..., object] = getattr(import_module(module), name)
    return loaded
