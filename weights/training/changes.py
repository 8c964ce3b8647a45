"""How each style renders skin and how far it moves a mouth, measured on the painters' pictures; and planted faults.

The pictures are the crops from `style_crops.py`, each with the photo that it was drawn from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from dataset import read
from examples import Index
from style_crops import KINDS
from style_crops import SIDE as PIECE

from portrait.faces.alignment import align_face
from portrait.judge.changes import SkinLimits, mouth_shift, skin_lightness
from portrait.records import Points, RgbImage

LOCAL_COLOR = ("watercolor", "oil", "comic", "lowpoly", "pastel", "cinematic")
"""Styles in which faces keep their color; the others have their own inks."""
CROP = 224
NEGLIGIBLE = 5.0
"""A smaller difference in CIE L does not count as a change of the skin, however exact a style is."""
NEGLIGIBLE_SHIFT = 0.045
"""Nor does a smaller shift of a lip, in inter-eye distances: three steps of `mouth_shift`."""
Faces = list[tuple[RgbImage, RgbImage]]
"""Aligned crops of photos and of the pictures drawn from them."""


def lighter(crop: RgbImage) -> RgbImage:
    """A planted fault: the whole face is 15 units of CIE L lighter."""
    return _with_lightness(crop, 15)


def darker(crop: RgbImage) -> RgbImage:
    return _with_lightness(crop, -15)


def _with_lightness(crop: RgbImage, more: float) -> RgbImage:
    lab = np.asarray(cv2.cvtColor(crop.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
    lab[..., 0] += more
    return RgbImage((cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).clip(0, 1) * 255 + 0.5).astype(np.uint8))


def mouth_opened(crop: RgbImage, by: float = 0.15) -> RgbImage:
    """A planted fault: lower lip and chin are pulled down, a dark gap opens above them.

    Args:
        crop: (224, 224, 3) uint8 aligned face.
        by: In inter-eye distances.
    """
    scale = crop.shape[0] / 112
    ys, xs = np.mgrid[0 : crop.shape[0], 0 : crop.shape[1]].astype(np.float32) / np.float32(scale)
    opening = np.clip(1 - ((xs - 56) / 16) ** 2, 0, 1) * 35.2 * by
    below = ys - 92.3
    taken_from = np.where(below >= opening, ys - opening * np.clip(1 - below / 45, 0, 1), np.minimum(ys, 92.3))
    pulled = cv2.remap(crop, xs * scale, (taken_from * scale).astype(np.float32), cv2.INTER_LINEAR)
    gap = cv2.GaussianBlur(((below > 0) & (below < opening)).astype(np.float32), (0, 0), 1.2)[..., None]
    return RgbImage((pulled * (1 - gap) + np.array([60, 20, 20]) * gap).astype(np.uint8))


def faces(out: Path, index: Index, parts: Sequence[str], style: str) -> Faces:
    """The crops of a style, of the people in `index`."""
    return list(_faces(out, index, parts, style))


def _faces(out: Path, index: Index, parts: Sequence[str], style: str) -> Iterator[tuple[RgbImage, RgbImage]]:
    for folder in (out / "judge" / part / kind / style for part in parts for kind in KINDS):
        for path in sorted(folder.glob("*.png")):
            row = int(path.stem)
            kps = index.kps[row]
            corner = np.round(kps.mean(0)).astype(int) - PIECE // 2  # as `face_window` cuts
            photo = align_face(RgbImage(index.photo(row)), Points(kps), CROP)
            yield photo, align_face(read(path), Points((kps - corner).astype(np.float32)), CROP)


def fit_skin(pairs: Faces, rejected: float) -> SkinLimits:
    """The line through the lightness of photos and pictures, and the distance from it that all but a share keep.

    Distances are those of each pair from the line through all other pairs, and at least `NEGLIGIBLE`.
    """
    lightness = np.array([(skin_lightness(photo), skin_lightness(picture)) for photo, picture in pairs])
    terms = np.stack([lightness[:, 0], np.ones(len(lightness))], 1)
    (slope, offset), *_ = np.linalg.lstsq(terms, lightness[:, 1], rcond=None)
    leverage = np.einsum("ij,ji->i", terms, np.linalg.pinv(terms))
    distances = np.abs(lightness[:, 1] - terms @ np.array([slope, offset])) / (1 - leverage)
    limit = max(NEGLIGIBLE, order_statistic(distances, rejected))
    return SkinLimits(slope=round(float(slope), 4), offset=round(float(offset), 3), most=round(limit, 2))


def fit_expression(pairs: Faces, rejected: float) -> float:
    """The largest shift of a mouth in both directions that all but a share of the pictures keep; at least `NEGLIGIBLE_SHIFT`."""
    shifts = np.abs([mouth_shift(*pair) for pair in pairs])
    return max(NEGLIGIBLE_SHIFT, round(order_statistic(shifts, rejected), 4))


def order_statistic(distances: np.ndarray, rejected: float) -> float:
    """The value that all but a share of new pictures stay below (conformal prediction); the maximum if there are too few."""
    rank = min(len(distances), int(np.ceil((len(distances) + 1) * (1 - rejected))))
    return float(np.sort(distances)[rank - 1])


def rejected_share(change: Callable[[RgbImage, RgbImage], float], most: float, pairs: Faces) -> float:
    """The share of pictures that are changed by more than `most`."""
    return float(np.mean([abs(change(*pair)) > most for pair in pairs])) if pairs else 0.0
