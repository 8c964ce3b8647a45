"""Photo-to-photo thresholds for `portrait compare`, from all pairs of different people.

    python eval/photo_thresholds.py --data FACES     # writes portrait/recipes/photo.thresholds.json

`detectors` holds those of SFace and dlib with YuNet's landmarks, for commercial use; both must have been fetched.
The data has one photo per person, so false rejects cannot be measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from held_out_people import data_argument, everyone, subjects

from portrait.faces.dlib_recognizer import DlibRecognizer
from portrait.faces.identity import FaceChoice, choose_faces, identify
from portrait.faces.opencv import YuNetAnalyzer
from portrait.files import write_json
from portrait.images import read_photo
from portrait.judge.thresholds import round_up, threshold_at_far
from portrait.loop.load import load_loop
from portrait.records import Identity

FAR = 0.001
OUTPUT = Path(__file__).parents[1] / "portrait" / "recipes" / "photo.thresholds.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    loop = load_loop("mini")
    paths = everyone(args.data)
    usual = limits([subject.identity for subject in subjects(loop, paths)], ("arcface", "dlib"))
    analyzer, recognizers = YuNetAnalyzer(), [DlibRecognizer()]
    free = []
    for path in paths:
        pixels = read_photo(path).pixels
        _, face = choose_faces(pixels, str(path), FaceChoice("largest"), analyzer)[0]
        free.append(identify([(pixels, face)], analyzer, recognizers))
    detectors = {analyzer.detector: {"far": FAR, "recognisers": limits(free, ("sface", "dlib"))}}
    note = "false rejects were not measured: one photo a person"
    table = {"far": FAR, "recognisers": usual, "detectors": detectors, "note": note}
    print(write_json(args.output, table))


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
