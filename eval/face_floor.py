"""How small a face may be before a judge cannot tell people apart: the size below which a photo is refused.

    python eval/face_floor.py --data FACES

Each person's photo is shrunk until the face has N pixels, and compared with all photos at full size. Reported is the share
of people whose own photo passes at the threshold that 1 % of the other people's photos pass. The same photo, only smaller,
is the easiest case: what fails here fails everywhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from held_out_people import everyone, spread

from portrait.faces.dlib_recognizer import DlibRecognizer
from portrait.faces.insightface_analyzer import InsightFaceAnalyzer
from portrait.images import read_photo, resized
from portrait.records import Face, RgbImage

SIZES = (6, 8, 10, 12, 14, 16, 20, 24, 32, 48, 64)


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the CC0 portraits")
    parser.add_argument("--people", type=int, default=60)
    args = parser.parse_args()
    analyzer, dlib = InsightFaceAnalyzer(), DlibRecognizer()
    people = []
    for path in spread(everyone(args.data), args.people):
        pixels = read_photo(path).pixels
        people.append((pixels, max(analyzer.detect(pixels), key=lambda face: face.size)))

    def embed(judge: str, image: RgbImage, face: Face) -> np.ndarray:
        return np.asarray(analyzer.embed(image, face.kps) if judge == "arcface" else dlib.embed(image, face))

    print(f"{len(people)} people; share that passes where 1 % of others do")
    print("| face, px | arcface | dlib |\n|---|---|---|")
    full = {judge: np.stack([embed(judge, *person) for person in people]) for judge in ("arcface", "dlib")}
    for size in SIZES:
        smaller = [shrunk(image, face, size) for image, face in people]
        shares = []
        for judge, references in full.items():
            scores = np.stack([embed(judge, *person) for person in smaller]) @ references.T
            others = scores[~np.eye(len(people), dtype=bool)]
            shares.append(float((np.diag(scores) >= np.quantile(others, 0.99)).mean()))
        print(f"| {size} | {shares[0]:.0%} | {shares[1]:.0%} |", flush=True)


def shrunk(image: RgbImage, face: Face, size: int) -> tuple[RgbImage, Face]:
    """The photo at the size at which the face has `size` pixels, and the face in it."""
    height, width = image.shape[:2]
    scale = size / face.size
    small = resized(image, max(1, round(width * scale)), max(1, round(height * scale)))
    return small, face.moved(scale, 0.0, 0.0)


if __name__ == "__main__":
    main()
