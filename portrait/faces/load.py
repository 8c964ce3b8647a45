"""Load the models that find faces and judge them."""

from __future__ import annotations

from collections.abc import Iterable
from pkgutil import resolve_name
from typing import cast

from portrait.faces.form import PLAIN, Form
from portrait.faces.identity import FaceAnalyzer, Recognizer
from portrait.hub.judges import FACE_TOOLS, JUDGES, Judge, tools_for


def load_analyzer(*, commercial: bool, threads: int = 0, form: Form = PLAIN) -> FaceAnalyzer:
    """Load the detector with the first judge's recognizer; on 0 `threads`, on all cores.

    Raises:
        WeightsError: a model is missing or damaged.
    """
    first = JUDGES[FACE_TOOLS[tools_for(commercial=commercial)][0]]
    return cast(FaceAnalyzer, resolve_name(first.analyzer)(form=form, **_options(first, threads)))


def load_face_tools(*, commercial: bool, threads: int = 0, form: Form = PLAIN) -> tuple[FaceAnalyzer, list[Recognizer]]:
    """Load the analyzer and the other judges; arguments and errors as in `load_analyzer`."""
    analyzer = load_analyzer(commercial=commercial, threads=threads, form=form)
    return analyzer, load_recognizers(FACE_TOOLS[tools_for(commercial=commercial)][1:], threads, form)


def load_recognizers(names: Iterable[str], threads: int = 0, form: Form = PLAIN) -> list[Recognizer]:
    """Load the judges of these names, for use with any detector; raises as `load_analyzer` does."""
    judges = [JUDGES[name] for name in names]
    return [cast(Recognizer, resolve_name(judge.recognizer)(form=form, **_options(judge, threads))) for judge in judges]


def _options(judge: Judge, threads: int) -> dict[str, int | None]:
    return {"threads": threads or None} if judge.threaded else {}
