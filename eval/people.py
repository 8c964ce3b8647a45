"""The people that training never saw, how their photos become subjects, and one picture judged."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from portrait.generate.framing import Framed
from portrait.images import read_photo
from portrait.judge.checks import burned_share, style_distance
from portrait.judge.thresholds import Thresholds
from portrait.judge.verdict import Measurement, decide
from portrait.judge.verification import similarities
from portrait.records import RgbImage
from portrait.stylizer import Stylizer, Subject, face_features, face_style

HELD_OUT = Path(__file__).parents[1] / "weights" / "training" / "held_out.txt"


def held_out(data: Path) -> list[Path]:
    """The people that training never sees: 36 of the 180, 18 women and 18 men."""
    names = [line for line in HELD_OUT.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    missing = [name for name in names if not (data / name).is_file()]
    if missing:
        raise SystemExit(f"{data} lacks {missing[0]} and {len(missing) - 1} more; it should hold the CC0 portraits")
    return [data / name for name in names]


def everyone(data: Path) -> list[Path]:
    return sorted(data.glob("*/*.jpg"))


def subjects(stylizer: Stylizer, paths: list[Path]) -> list[Subject]:
    return [stylizer.subjects(read_photo(path), "largest")[0] for path in paths]


def spread(paths: list[Path], count: int) -> list[Path]:
    """`count` of the paths, evenly over the list: nobody is picked by a result."""
    picks = np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)
    return [paths[i] for i in picks]


def judged(
    stylizer: Stylizer, framed: Framed, subject: Subject, picture: RgbImage, thresholds: Thresholds
) -> dict[str, float | bool | list[str]]:
    """A picture's likeness to the subject by each judge, its style, and the verdict that the loop would give."""
    face, embeddings = stylizer.look(picture, framed.face)
    measured = Measurement(
        similarity=similarities(subject.identity, embeddings),
        face_found=face is not None,
        style_on_face=face_style(framed, picture),
        burned=burned_share(framed.image, picture),
        style_distance=None
        if thresholds.statistics is None
        else style_distance(face_features(framed, picture), thresholds.statistics),
    )
    verdict = decide(measured, thresholds)
    row: dict[str, float | bool | list[str]] = {name: round(v, 4) for name, v in measured.similarity.items()}
    row |= {"style_on_face": round(measured.style_on_face, 4), "face_found": measured.face_found}
    return row | {"accepted": verdict.accepted, "reasons": list(verdict.reasons)}


def data_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with female/*.jpg and male/*.jpg (the CC0 portraits)"
    )


def measured_on(recipe: str = "mini") -> set[str]:
    """Names (folder/file) of the people that the recipe's curves were measured on: they are not for verdicts."""
    path = Path(__file__).parents[1] / "portrait" / "recipes" / f"{recipe}.curves.json"
    return set(json.loads(path.read_text("utf-8"))["people"]) if path.is_file() else set()


def for_verdicts(data: Path, recipe: str = "mini") -> list[Path]:
    """The held-out people that neither training nor the curves saw."""
    seen = measured_on(recipe)
    return [path for path in held_out(data) if f"{path.parent.name}/{path.name}" not in seen]
