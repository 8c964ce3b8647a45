"""What smoothing the faces before they are judged is worth, per form: the same portraits, the same people, limits of others.

    python eval/forms.py --data FACES [--styles woodcut,oil]     # writes eval/forms.json

Every held-out person is drawn once in each style, spread over the dial as calibration does it, and everybody in FACES is a
stranger to the others. Limits are read off all but three of the people and judged on these three, twelve times. A form is
compared with `plain` on the same portraits; intervals resample people. `second look` judges the portraits by a spoiled copy
of the person's photo (`calibrate/degrade.py`): the people have one photo each, so a second photo is not measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from held_out_people import data_argument, everyone, held_out, name_of, progress

from portrait.calibrate.degrade import degrade
from portrait.calibrate.gate import fused_gate, passes
from portrait.calibrate.sample import Person, dial_positions, read_people
from portrait.faces.form import FORMS, PLAIN, form_named
from portrait.faces.load import load_face_tools, load_recognizers
from portrait.files import write_json
from portrait.hub.judges import fetched_judges
from portrait.images import read_photo
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.load import load_loop
from portrait.loop.scoring import Judges
from portrait.records import RgbImage
from portrait.settings import Settings

CHOICES = (
    ("arcface", "dlib"),
    ("dlib", "sface"),
    ("arcface", "dlib", "sface"),
    ("arcface",),
    ("dlib",),
    ("sface",),
)
RATES = (0.01, 0.001)
FOLDS = 12
ROUNDS = 2000
SPOILED = (2, 4, 7)
"""Kinds of `degrade`, in turn over the people: faded, dark, small."""
Scores = dict[str, np.ndarray]
"""Judge -> (styles, references, people) likeness, the people's own photos first."""


def out_of_fold(scores: Scores, far: float) -> np.ndarray:
    """(styles, references, people) which pairs pass, each person judged by limits in which they have no part."""
    styles, references, people = next(iter(scores.values())).shape
    passed = np.zeros((styles, references, people), bool)
    for fold in range(FOLDS):
        new = np.arange(people) % FOLDS == fold
        rows = np.concatenate([~new, np.ones(references - people, bool)])
        for style in range(styles):
            seen = {judge: values[style][np.ix_(rows, ~new)] for judge, values in scores.items()}
            asked = {judge: values[style][:, new] for judge, values in scores.items()}
            passed[style][:, new] = passes(fused_gate(seen, far), asked)
    return passed


def share_of_right(passed: np.ndarray) -> np.ndarray:
    """(people,) the share of a person's own portraits that pass."""
    people = np.arange(passed.shape[2])
    return np.asarray(passed[:, people, people].mean(0))


def with_interval(values: np.ndarray) -> list[float]:
    """Mean of (people,) values and its 95 % interval over people."""
    picks = np.random.default_rng(0).integers(0, len(values), (ROUNDS, len(values)))
    low, high = np.quantile(values[picks].mean(1), [0.025, 0.975])
    return [round(float(value), 4) for value in (values.mean(), low, high)]


def judges_of(name: str) -> Judges:
    """Every judge that has been fetched, who see faces in a form."""
    form = form_named(name)
    analyzer, recognizers = load_face_tools(commercial=False, form=form)
    return Judges(analyzer, (*recognizers, *load_recognizers(fetched_judges("insightface"), form=form)))


def embedded_photos(judges: Judges, paths: Sequence[Path], kinds: Sequence[int]) -> dict[str, np.ndarray]:
    """Judge -> (photos, D) embeddings of the largest face of each, spoiled as `kinds` say (0: as it is)."""
    rows = []
    for path, kind in zip(paths, kinds, strict=True):
        pixels = read_photo(path).pixels
        face = max(judges.analyzer.detect(pixels), key=lambda face: face.size)
        rows.append(judges.identify([(degrade(pixels, kind), face)]).embeddings)
    return {judge: np.stack([row[judge] for row in rows]) for judge in judges.names}


def drawn(loop: AttemptLoop, people: Sequence[Person], styles: Sequence[str]) -> list[list[RgbImage]]:
    """Per style everybody's portrait, over the dial."""
    pictures = []
    for style in progress(styles, "styles drawn"):
        positions = dial_positions(len(people), list(loop.recipe.styles).index(style))
        knobs = [loop.knobs_for_balance(style, position) for position in positions]
        pictures.append(
            [
                loop.draw(person.framed, person.identity, style, knob, 1)
                for person, knob in zip(people, knobs, strict=True)
            ]
        )
    return pictures


def measured(scores: Scores, plain: Mapping[str, list[float]] | None) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """What a form gives for every choice of judges and rate, and each person's share of right portraits that pass."""
    rows: dict[str, Any] = {}
    shares: dict[str, list[float]] = {}
    for choice in CHOICES:
        if not set(choice) <= scores.keys():
            continue
        for far in RATES:
            passed = out_of_fold({judge: scores[judge] for judge in choice}, far)
            name = f"{' + '.join(choice)}, FAR {far:g}"
            right = share_of_right(passed)
            stranger = ~np.eye(passed.shape[1], passed.shape[2], dtype=bool)
            shares[name] = right.tolist()
            rows[name] = {"tar": with_interval(right), "far": round(float(passed[:, stranger].mean()), 5)}
            if plain is not None:
                rows[name]["more_than_plain"] = with_interval(right - np.array(plain[name]))
    return rows, shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--styles", default="", help="comma-separated (default: all)")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    loop = load_loop(Settings(), form=PLAIN.name)
    styles = args.styles.split(",") if args.styles else list(loop.recipe.styles)
    paths = held_out(args.data)
    others = [path for path in everyone(args.data) if path not in paths]
    people, _ = read_people(loop, paths)
    pictures = drawn(loop, people, styles)
    table: dict[str, Any] = {}
    plain: dict[str, dict[str, list[float]]] = {}
    for name in progress(list(FORMS), "forms"):
        judges = judges_of(name)
        seen = [
            [
                judges.detect_and_embed(picture, person.framed.face)[1]
                for picture, person in zip(row, people, strict=True)
            ]
            for row in pictures
        ]
        strangers = embedded_photos(judges, others, [0] * len(others))
        for look, kinds in (("photo", [0] * len(paths)), ("second look", [SPOILED[i % 3] for i in range(len(paths))])):
            own = embedded_photos(judges, paths, kinds)
            scores = {
                judge: np.stack(
                    [
                        np.concatenate([own[judge], strangers[judge]]) @ np.stack([e[judge] for e in row]).T
                        for row in seen
                    ]
                )
                for judge in judges.names
            }
            rows, shares = measured(scores, plain.get(look))
            plain.setdefault(look, shares)
            table.setdefault(name, {})[look] = rows
            print(name, look, *(f"{key}: {row}" for key, row in rows.items()), sep="\n  ", flush=True)
    print(write_json(args.output, {"people": [name_of(path) for path in paths], "styles": styles, "forms": table}))


if __name__ == "__main__":
    main()
