"""Photo-to-photo thresholds for `portrait compare`, from all pairs of different people.

    python eval/photo_thresholds.py --data FACES     # writes portrait/recipes/photo.thresholds.json

`detectors` holds those of SFace and dlib with YuNet's landmarks, for commercial use; both must have been fetched.
With `--form smooth` the thresholds are only printed: those of plain faces are used for smoothed ones too, since they
differ little. The data has one photo per person, so false rejects cannot be measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from held_out_people import data_argument, everyone

from portrait.faces.dlib_recognizer import DlibRecognizer
from portrait.faces.form import FORMS, PLAIN, form_named
from portrait.faces.identity import FaceAnalyzer, FaceChoice, Recognizer, choose_faces, identify
from portrait.faces.load import load_face_tools
from portrait.faces.opencv import YuNetAnalyzer
from portrait.files import write_json
from portrait.images import read_photo
from portrait.judge.thresholds import round_up, threshold_at_far
from portrait.records import Identity

FAR = 0.001
OUTPUT = Path(__file__).parents[1] / "portrait" / "recipes" / "photo.thresholds.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument(
        "--form", choices=FORMS, default=PLAIN.name, help="how faces are prepared (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    form = form_named(args.form)
    paths = everyone(args.data)
    usual = limits(identities(paths, *load_face_tools(commercial=False, form=form)), ("arcface", "dlib"))
    analyzer = YuNetAnalyzer(form=form)
    free = limits(identities(paths, analyzer, [DlibRecognizer(form=form)]), ("sface", "dlib"))
    if form != PLAIN:
        return
    detectors = {analyzer.detector: {"far": FAR, "recognisers": free}}
    note = "false rejects were not measured: one photo a person"
    table = {"far": FAR, "recognisers": usual, "detectors": detectors, "note": note}
    print(write_json(args.output, table))


def identities(paths: Sequence[Path], analyzer: FaceAnalyzer, recognizers: Sequence[Recognizer]) -> list[Identity]:
    """The person in each photo."""
    people = []
    for path in paths:
        pixels = read_photo(path).pixels
        _, face = choose_faces(pixels, str(path), FaceChoice("largest"), analyzer)[0]
        people.append(identify([(pixels, face)], analyzer, recognizers))
    return people


def limits(people: list[Identity], judges: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Judge -> threshold, pairs and people."""
    table = {}
    for name in judges:
        vectors = np.stack([identity.embeddings[name] for identity in people])
        scores = (vectors @ vectors.T)[np.triu_indices(len(people), 1)]
        value = round_up(threshold_at_far(scores, FAR))
        table[name] = {"threshold": value, "impostor_pairs": len(scores), "people": len(people)}
        print(name, table[name])
    return table


if __name__ == "__main__":
    main()
