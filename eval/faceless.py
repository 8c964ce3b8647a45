"""Is a picture without a face ever accepted? Portraits whose face was blurred, blanked, erased or never drawn.

    python eval/styles.py --data FACES --pictures DIR --draw --only-draw     # portraits of the held-out people
    python eval/faceless.py --data FACES --pictures DIR [--people 12] [--output faceless.json]

From each portrait in DIR/STYLE/PERSON.png every kind of `FACELESS` is made and judged against the person's photo by the
whole gate of a fresh installation, at the loosest calibrated rate. The table has how many of them and of the intact portraits
are accepted, the minimum, median and maximum of what is seen of eyes and mouth, and the first reasons for rejection.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from held_out_people import JUDGES, calibrated_rates, data_argument, file_of, held_out, name_of, spread
from tqdm import tqdm

from portrait.faces.alignment import ARCFACE_TEMPLATE, similarity_transform
from portrait.faces.load import load_face_tools
from portrait.files import write_json
from portrait.generate.framing import frame_portrait
from portrait.images import read_photo
from portrait.judge.thresholds import Thresholds, thresholds_for
from portrait.judge.verdict import Measurement, decide
from portrait.loop.scoring import Judges, face_features_shown
from portrait.recipes.load import load_recipe
from portrait.records import Face, RgbImage

BLOB = 11
"""Height in pixels of a face in which nobody can be recognized."""
Ellipses = tuple[tuple[tuple[int, int], tuple[int, int]], ...]
"""(center, half axes) of each ellipse, in pixels of ArcFace's template."""
_SIDE = 112
_HEAD = (56, 60), (40, 54)
_FEATURES = (  # of the template: center and half axes of both eyes with their brows, the nose and the mouth
    ((38, 47), (15, 13)),
    ((74, 47), (15, 13)),
    ((56, 68), (12, 14)),
    ((56, 93), (22, 11)),
)


def _mask(picture: RgbImage, face: Face, ellipses: Ellipses) -> np.ndarray:
    """(H, W) float32 in [0, 1], 1 within ellipses of the aligned face, soft at their edges."""
    drawn = np.zeros((_SIDE, _SIDE), np.uint8)
    for center, axes in ellipses:
        cv2.ellipse(drawn, center, axes, 0, 0, 360, 255, -1)
    matrix = similarity_transform(face.kps, ARCFACE_TEMPLATE)
    size = (picture.shape[1], picture.shape[0])
    mask = cv2.warpAffine(drawn, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return cv2.GaussianBlur(mask, (0, 0), 0.03 * face.size).astype(np.float32)[..., None] / 255


def _over(picture: RgbImage, other: np.ndarray, mask: np.ndarray) -> RgbImage:
    return RgbImage((mask * other + (1 - mask) * picture + 0.5).clip(0, 255).astype(np.uint8))


def _skin(picture: RgbImage, face: Face) -> np.ndarray:
    """The mean color of the face."""
    return (picture * (mask := _mask(picture, face, (_HEAD,)))).sum((0, 1)) / mask.sum()


def _smooth_within(picture: RgbImage, face: Face, ellipses: Ellipses) -> np.ndarray:
    """What replaces the ellipses: the shading of the skin around them, with the grain of a cheek."""
    weight = _mask(picture, face, (_HEAD,)) * (1 - _mask(picture, face, ellipses)) + 1e-4
    sigma = 0.12 * face.size
    shading = cv2.GaussianBlur(picture * weight, (0, 0), sigma) / cv2.GaussianBlur(weight, (0, 0), sigma)[..., None]
    x, y = (int(v) for v in face.kps[[0, 3]].mean(0))
    reach = max(4, int(0.09 * face.size))
    cheek = picture[max(y - reach, 0) : y + reach, max(x - reach, 0) : x + reach].astype(np.float32)
    grain = cheek - cv2.GaussianBlur(cheek, (0, 0), reach / 2)
    rows, columns = (np.arange(side) % (2 * n) for side, n in zip(picture.shape[:2], grain.shape[:2], strict=True))
    mirrored = np.concatenate([grain, grain[::-1]])
    mirrored = np.concatenate([mirrored, mirrored[:, ::-1]], 1)
    return np.asarray(shading + mirrored[np.ix_(rows, columns)], np.float32)


def _coarse(picture: RgbImage, face: Face, pixels: float, enlarged: int) -> RgbImage:
    height, width = picture.shape[:2]
    scale = pixels / face.size
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return RgbImage(np.asarray(cv2.resize(small, (width, height), interpolation=enlarged), np.uint8))


def blob(picture: RgbImage, face: Face) -> RgbImage:
    """The whole picture shrunk until the face has `BLOB` pixels, and enlarged again."""
    return _coarse(picture, face, BLOB, cv2.INTER_CUBIC)


def _blurred(picture: RgbImage, face: Face) -> RgbImage:
    return RgbImage(np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.12 * face.size), np.uint8))


def _blurred_face(picture: RgbImage, face: Face) -> RgbImage:
    return _over(picture, _blurred(picture, face), _mask(picture, face, (_HEAD,)))


def _blanked(picture: RgbImage, face: Face) -> RgbImage:
    return _over(picture, np.broadcast_to(_skin(picture, face), picture.shape), _mask(picture, face, (_HEAD,)))


def _oval(picture: RgbImage, face: Face) -> RgbImage:
    """An ellipse of the skin's color on the mean color of the rest, without hair."""
    around = np.broadcast_to(picture.reshape(-1, 3).mean(0), picture.shape)
    return _over(
        RgbImage(around.astype(np.uint8)),
        np.broadcast_to(_skin(picture, face), picture.shape),
        _mask(picture, face, (_HEAD,)),
    )


def _without_features(picture: RgbImage, face: Face) -> RgbImage:
    return _over(picture, _smooth_within(picture, face, _FEATURES), _mask(picture, face, _FEATURES))


def _without_eyes_and_mouth(picture: RgbImage, face: Face) -> RgbImage:
    some = (_FEATURES[0], _FEATURES[1], _FEATURES[3])
    return _over(picture, _smooth_within(picture, face, some), _mask(picture, face, some))


def _mosaic(picture: RgbImage, face: Face) -> RgbImage:
    return _coarse(picture, face, 6, cv2.INTER_NEAREST)


FACELESS: Mapping[str, Callable[[RgbImage, Face], RgbImage]] = {
    "blurred": _blurred,
    "its face blurred": _blurred_face,
    "blanked": _blanked,
    "an oval": _oval,
    "erased": _without_features,
    "without eyes and mouth": _without_eyes_and_mouth,
    "mosaic": _mosaic,
    "few pixels, enlarged": blob,
}
"""Kind -> function of a (S, S, 3) uint8 picture and the face in it that removes the face."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgedPicture:
    """The measurements of one picture: `kind` is "intact" or one of `FACELESS`."""

    style: str
    kind: str
    measured: Measurement


def judge_pictures(judges: Judges, people: Sequence[Path], folder: Path, styles: Sequence[str]) -> list[JudgedPicture]:
    """Judge every kind of every portrait in DIR/STYLE/PERSON.png of these people."""
    judged = []
    for path in tqdm(people, unit=" people"):
        pixels = read_photo(path).pixels
        face = max(judges.analyzer.detect(pixels), key=lambda face: face.size)
        identity = judges.identify([(pixels, face)])
        for style in styles:
            file = folder / style / file_of(name_of(path), ".png")
            if not file.is_file():
                continue
            portrait = read_photo(file).pixels
            framed = frame_portrait(pixels, face, "bust", portrait.shape[0])
            for kind, picture in {"intact": portrait, **faceless(portrait, framed.face)}.items():
                score = judges.score_picture(framed, identity, picture)
                visibility = face_features_shown(framed, picture, score.face)
                measured = replace(score.measurement, features_shown=visibility)
                judged.append(JudgedPicture(style=style, kind=kind, measured=measured))
    return judged


def faceless(picture: RgbImage, face: Face) -> dict[str, RgbImage]:
    """Kind -> the picture without its face."""
    return {kind: spoil(picture, face) for kind, spoil in FACELESS.items()}


def count(pictures: Sequence[JudgedPicture], far: float) -> dict[str, dict[str, object]]:
    """Kind -> how many pictures there are, how many are accepted, in which styles, and the first reasons of the others."""
    limits = {
        style: thresholds_for("mini", style, far, judges=JUDGES) for style in {picture.style for picture in pictures}
    }
    kinds = ("intact", *FACELESS)
    return {kind: summary([picture for picture in pictures if picture.kind == kind], limits) for kind in kinds}


def summary(pictures: Sequence[JudgedPicture], limits: Mapping[str, Thresholds]) -> dict[str, object]:
    """How many of these pictures are accepted at the limits of their styles, and why the others are not."""
    verdicts = [decide(picture.measured, limits[picture.style]) for picture in pictures]
    accepted = Counter(picture.style for picture, verdict in zip(pictures, verdicts, strict=True) if verdict.accepted)
    visibility = [p.measured.features_shown for p in pictures if p.measured.features_shown is not None]
    shown: Iterable[float] = np.quantile(visibility, [0, 0.5, 1]) if visibility else ()
    return {
        "pictures": len(pictures),
        "features_shown": [round(float(value), 2) for value in shown],
        "accepted": accepted.total(),
        "accepted_in": dict(accepted),
        "first_reasons": dict(Counter(verdict.reasons[0] for verdict in verdicts if verdict.reasons)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--pictures", type=Path, required=True, help="portraits, DIR/STYLE/PERSON.png")
    parser.add_argument("--people", type=int, default=36, help="number of held-out people, evenly over the list")
    parser.add_argument("--far", type=float, help="false accept rate (default: the loosest calibrated one)")
    parser.add_argument("--output", type=Path, help="also write the table as JSON")
    args = parser.parse_args()
    analyzer, recognizers = load_face_tools(commercial=False)
    judged = judge_pictures(
        Judges(analyzer, tuple(recognizers)),
        spread(held_out(args.data), args.people),
        args.pictures,
        load_recipe("mini").styles,
    )
    table = count(judged, args.far or max(calibrated_rates()))
    print("| kind | pictures | eyes and mouth seen | accepted | in | first reasons |\n|---|---|---|---|---|---|")
    for kind, row in table.items():
        cells = [", ".join(f"{k} {n}" for k, n in row[name].items()) for name in ("accepted_in", "first_reasons")]  # type: ignore[attr-defined]
        print(
            f"| {kind} | {row['pictures']} | {row['features_shown']} | {row['accepted']} | " + " | ".join(cells) + " |"
        )
    if args.output is not None:
        print(write_json(args.output, table))


if __name__ == "__main__":
    main()
