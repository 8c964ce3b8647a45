"""The single list of recognizers that can judge likeness, and of the sets that judge together.

A new judge is an entry of `_JUDGES`, its class, and its name in `FACE_TOOLS` or `FURTHER_JUDGES`; licenses, loading,
commands, the studio page and the default curves of uncalibrated recipes all follow from the entry.
"""

from __future__ import annotations

from dataclasses import dataclass

from portrait.hub import store
from portrait.hub.files import DLIB_LANDMARKS, DLIB_RESNET, SCRFD_500M, W600K_MBF, WeightFile
from portrait.hub.manifest import Part, find_part

SECOND_DETECTOR = "yunet"
"""The part of the weights manifest with the second detector, for pictures in which the first finds no face, once fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """A recognizer that judges likeness.

    Args:
        name: Its name in records and tables of thresholds; if it is one of `FURTHER_JUDGES`, also the name of its part.
        title: Its name on pages.
        files: Its model files with their licenses, including its detector's if it has its own.
        analyzer: MODULE:CLASS of a `FaceAnalyzer` that also finds faces; empty if there is none.
        recognizer: MODULE:CLASS of a `Recognizer` that judges the faces of another detector; empty if there is none.
        parts: Parts of the weights manifest that it needs, including its detector's; they are fetched, not installed.
        threaded: Whether it takes a number of threads.
        unit: The difference in its similarity that corresponds to a difference of 1 by ArcFace.
        guessed_level: Mean and deviation of a portrait's similarity if no curves were measured.
    """

    name: str
    title: str
    files: tuple[WeightFile, ...] = ()
    parts: tuple[str, ...] = ()
    analyzer: str = ""
    recognizer: str = ""
    threaded: bool = False
    unit: float = 1.0
    guessed_level: tuple[float, float] = (0.5, 0.2)


_JUDGES = (
    Judge(
        name="arcface",
        title="ArcFace",
        files=(SCRFD_500M, W600K_MBF),
        analyzer="portrait.faces.insightface_analyzer:InsightFaceAnalyzer",
        threaded=True,
    ),
    Judge(
        name="dlib",
        title="dlib",
        files=(DLIB_RESNET, DLIB_LANDMARKS),
        recognizer="portrait.faces.dlib_recognizer:DlibRecognizer",
        unit=0.1,  # its cosines of faces are all close to 1
        guessed_level=(0.95, 0.03),
    ),
    Judge(
        name="sface",
        title="SFace",
        parts=("yunet", "sface"),
        analyzer="portrait.faces.opencv:YuNetAnalyzer",
        recognizer="portrait.faces.opencv:SFaceRecognizer",
    ),
    Judge(
        name="auraface",
        title="AuraFace",
        parts=("auraface",),
        recognizer="portrait.faces.auraface:AuraFaceRecognizer",
        threaded=True,
    ),
)
JUDGES = {judge.name: judge for judge in _JUDGES}
FACE_TOOLS = {"insightface": ("arcface", "dlib"), "opencv": ("sface", "dlib")}
"""Name of a set of face tools -> its judges; the first one also finds the faces."""
FURTHER_JUDGES = {"insightface": ("sface", "auraface"), "opencv": ("auraface",)}
"""Name of a set of face tools -> additional judges, used once fetched if the calibration includes them."""
DETECTORS = {"insightface": "det_500m", "opencv": "yunet"}
"""Name of a set of face tools -> its detector's name in calibrations."""


def tools_for(*, commercial: bool) -> str:
    """The set of face tools to use: for commercial use, one of which every license allows that."""
    return "opencv" if commercial else "insightface"


def face_files(tools: str) -> tuple[WeightFile, ...]:
    """The model files of a set of face tools."""
    return tuple(file for name in FACE_TOOLS[tools] for file in JUDGES[name].files)


def face_parts(tools: str) -> list[Part]:
    """The parts of the weights manifest that a set of face tools needs."""
    return [find_part(part) for name in FACE_TOOLS[tools] for part in JUDGES[name].parts]


def fetched_judges(tools: str) -> tuple[str, ...]:
    """The judges of `FURTHER_JUDGES` whose model has been fetched."""
    return tuple(name for name in FURTHER_JUDGES[tools] if store.status(find_part(name)).complete)


def second_detector_part() -> Part | None:
    """The second detector's part if it has been fetched, else None."""
    state = store.status(find_part(SECOND_DETECTOR))
    return state.part if state.complete else None
