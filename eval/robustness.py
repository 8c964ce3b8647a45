"""Robustness of `mini` to ordinary photos: photos of the same people, degraded in various ways.

    python eval/robustness.py --data FACES [--people 8] [--sheet DIR]    # writes eval/robustness.json

Each degraded photo passes through the whole pipeline: detection, embedding, framing, one drawing at balance 0.5, and a
verdict at FAR 0.01 against the face of the degraded photo, by limits that exclude the person (`held_out_people.left_out`).
"against the clean photo" is the likeness to the original photo, which the run does not use. Held-out people; intervals are
for people with several pictures each. With --sheet, pictures of all degraded photos with one style are written.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from held_out_people import JUDGES, data_argument, held_out, judged, left_out, name_of, spread

from portrait.errors import FaceError
from portrait.files import write_json
from portrait.generate.framing import frame_portrait
from portrait.images import Photo, read_photo, write_picture
from portrait.intervals import wilson_people
from portrait.judge.thresholds import thresholds_for
from portrait.loop.load import load_loop
from portrait.records import Face, RgbImage
from portrait.settings import Settings

Spoil = Callable[[RgbImage, Face], RgbImage]


def _float(image: RgbImage) -> np.ndarray:
    return image.astype(np.float32) / 255


def _bytes(image: np.ndarray) -> RgbImage:
    return RgbImage((np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8))


def small(image: RgbImage, face: Face, height: int) -> RgbImage:
    """The photo shrunk until the face is `height` pixels high."""
    scale = min(1.0, height / face.height)
    return RgbImage(np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8))


def crop(image: RgbImage, face: Face, fraction: float) -> RgbImage:
    side = face.height / fraction
    x, y = face.center
    left, top = (int(max(0, v)) for v in (x - side / 2, y - side * 0.47))
    return RgbImage(np.ascontiguousarray(image[top : top + int(side), left : left + int(side)]))


def jpeg(image: RgbImage, quality: int) -> RgbImage:
    coded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return RgbImage(np.ascontiguousarray(decoded[:, :, ::-1]))


def motion(image: RgbImage, face: Face, share: float) -> RgbImage:
    """A slanted streak, `share` of the face's height long."""
    length = max(3, int(face.height * share))
    kernel = np.zeros((length, length), np.float32)
    cv2.line(kernel, (0, length - 1), (length - 1, length // 3), 1.0, 1)
    return RgbImage(np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.uint8))


def flash(image: RgbImage, face: Face) -> RgbImage:
    """Hard frontal light that falls off toward the sides of the face."""
    y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]].astype(np.float32)
    far = np.hypot(x - face.center[0], y - face.center[1]) / face.height
    return _bytes(_float(image) * (1.75 * np.exp(-0.7 * far * far) + 0.12)[..., None])


def noise(image: RgbImage, deviation: float) -> RgbImage:
    return _bytes(_float(image) + np.random.default_rng(0).normal(0, deviation, image.shape).astype(np.float32))


def gray(image: RgbImage) -> RgbImage:
    flat = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return RgbImage(np.asarray(cv2.cvtColor(flat, cv2.COLOR_GRAY2RGB), np.uint8))


def faded(image: RgbImage) -> RgbImage:
    tint = np.array([0.98, 0.9, 0.74], np.float32)
    return _bytes((0.35 * _float(image) + 0.65 * _float(gray(image))) * 0.55 * tint + 0.32 * tint)


def turned(image: RgbImage, face: Face, degrees: float) -> RgbImage:
    """The photo turned about the middle of the face."""
    matrix = cv2.getRotationMatrix2D((float(face.center[0]), float(face.center[1])), degrees, 1)
    whole = cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    return RgbImage(np.asarray(whole, np.uint8))


SPOILS: dict[str, Spoil] = {
    "clean": lambda image, face: image,
    "gray": lambda image, face: gray(image),
    "faded": lambda image, face: faded(image),
    "low contrast": lambda image, face: _bytes(0.35 + 0.3 * _float(image)),
    "dark": lambda image, face: _bytes(0.8 * _float(image) ** 2.2),
    "flash": flash,
    "motion blur": lambda image, face: motion(image, face, 0.05),
    "JPEG quality 15": lambda image, face: jpeg(small(image, face, 400), 15),
    "noise": lambda image, face: noise(small(image, face, 400), 0.08),
    "face 200 px": lambda image, face: small(image, face, 200),
    "face 100 px": lambda image, face: small(image, face, 100),
    "tight crop": lambda image, face: crop(image, face, 0.85),
    "mirrored": lambda image, face: RgbImage(np.ascontiguousarray(image[:, ::-1])),
    "turned 15 degrees": lambda image, face: turned(image, face, 15),
}


def summary(rows: list[dict[str, Any]], lost: int) -> dict[str, object]:
    """The results of one kind of photo: a row per picture, and how many photos had no face."""
    passed = np.array([row["accepted"] for row in rows], bool)
    low, high = wilson_people(passed, np.array([row["person"] for row in rows]))
    entry: dict[str, object] = {"pictures": len(rows), "photos without a face": lost, "accepted": int(passed.sum())}
    entry |= {"share": round(int(passed.sum()) / max(1, len(rows)), 4), "wilson": [round(low, 4), round(high, 4)]}
    for score in ("arcface", "dlib", "style_on_face", "arcface clean", "dlib clean"):
        mean = float(np.mean([row[score] for row in rows]))
        entry[score.replace("clean", "against the clean photo")] = round(mean, 4)
    return entry | {"reasons": dict(Counter(reason for row in rows for reason in row["reasons"]))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--styles", default="", help="such as oil,comic (default: all styles of the recipe)")
    parser.add_argument("--sheet", type=Path, help="folder for pictures: a column per person, a row per kind of photo")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "robustness.json")
    args = parser.parse_args()
    loop = load_loop(Settings())
    styles = args.styles.split(",") if args.styles else list(loop.recipe.styles)
    knobs = {style: loop.knobs_for_balance(style, 0.5) for style in styles}
    files = left_out(loop, args.data)
    photos = [read_photo(path) for path in spread(held_out(args.data), args.people)]
    clean = [loop.subjects(photo, "largest")[0] for photo in photos]
    table: dict[str, dict[str, object]] = {}
    sheet: list[np.ndarray] = []
    for name, spoil in SPOILS.items():
        rows: list[dict[str, Any]] = []
        lost, line = 0, []
        for n, (photo, who) in enumerate(zip(photos, clean, strict=True)):
            pixels = spoil(photo.pixels, who.face)
            try:
                subject = loop.subjects(Photo(path=photo.path, pixels=pixels, sha256=f"{name}-{n}"), "largest")[0]
            except FaceError:
                lost += 1
                continue
            framed = frame_portrait(pixels, subject.face, "bust", loop.recipe.resolution)
            for style in styles:
                picture = loop.draw(framed, subject.identity, style, knobs[style], 1)
                limits = thresholds_for("mini", style, 0.01, files[name_of(photo.path)], judges=JUDGES)
                row, embeddings = judged(loop, framed, subject, picture, limits)
                to_clean = {f"{j} clean": float(v @ who.identity.embeddings[j]) for j, v in embeddings.items()}
                rows.append(row | {"person": n} | to_clean)
                if style == styles[n % len(styles)]:
                    line.append(
                        cv2.resize(np.hstack([framed.image, picture]), (384, 192), interpolation=cv2.INTER_AREA)
                    )
        table[name] = summary(rows, lost)
        print(name, json.dumps(table[name]), flush=True)
        if args.sheet is not None and len(line) == len(photos):
            sheet.append(np.hstack(line))
    if args.sheet is not None:
        args.sheet.mkdir(parents=True, exist_ok=True)
        print(write_picture(args.sheet / "robustness.jpg", np.vstack(sheet)))
    result = {"people": len(photos), "styles": styles, "weights": loop.generator.digests, "photos": table}
    print(write_json(args.output, result))


if __name__ == "__main__":
    main()
