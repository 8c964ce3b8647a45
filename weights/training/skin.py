"""How each style renders the skin's lightness, and by how much its good pictures differ from that."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from dataset import read
from examples import Index
from style_crops import KINDS
from style_crops import SIDE as PIECE

from portrait.faces.alignment import align_face
from portrait.judge.changes import SkinLimits, skin_lightness
from portrait.records import Points, RgbImage

LOCAL_COLOR = ("watercolor", "oil", "comic", "lowpoly", "pastel", "cinematic")
"""Styles in which a face keeps its color; the others print in inks of their own."""
CROP = 224


def lightness(out: Path, index: Index, part: str, style: str, planted: float = 0.0) -> np.ndarray:
    """(N, 2) CIE L of the skin in photo and picture, of the pieces that `style_crops.py` drew.

    Args:
        out: Work folder.
        index: Of the part's people.
        part: learn, settle or held.
        style: A style.
        planted: So many units of L are added to the picture first: a fault that should be found.
    """
    pairs = []
    for kind in KINDS:
        for path in sorted((out / "judge" / part / kind / style).glob("*.png")):
            row = int(path.stem)
            kps = index.kps[row]
            corner = np.round(kps.mean(0)).astype(int) - PIECE // 2  # as `face_window` cuts
            photo = align_face(RgbImage(index.photo(row)), Points(kps), CROP)
            picture = align_face(_lighter(read(path), planted), Points((kps - corner).astype(np.float32)), CROP)
            pairs.append((skin_lightness(photo), skin_lightness(picture)))
    return np.array(pairs, float).reshape(-1, 2)


def _lighter(picture: RgbImage, by: float) -> RgbImage:
    if not by:
        return picture
    lab = np.asarray(cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
    lab[..., 0] += by
    return RgbImage((cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).clip(0, 1) * 255 + 0.5).astype(np.uint8))


def fit_skin(pairs: np.ndarray, rejected: float) -> SkinLimits:
    """The line through (N, 2) lightness of photo and picture, and the distance from it that all but a share keep.

    Distances are those of each pair from the line through all others; the limit is their order statistic for new
    pictures (the jackknife of conformal prediction), or the largest where there are too few.
    """
    terms = np.stack([pairs[:, 0], np.ones(len(pairs))], 1)
    (slope, offset), *_ = np.linalg.lstsq(terms, pairs[:, 1], rcond=None)
    leverage = np.einsum("ij,ji->i", terms, np.linalg.pinv(terms))
    distances = np.sort(np.abs(pairs[:, 1] - terms @ np.array([slope, offset])) / (1 - leverage))
    rank = min(len(pairs), int(np.ceil((len(pairs) + 1) * (1 - rejected))))
    return SkinLimits(
        slope=round(float(slope), 4), offset=round(float(offset), 3), most=round(float(distances[rank - 1]), 2)
    )


def rejected_share(limits: SkinLimits, pairs: np.ndarray) -> float:
    """The share of (N, 2) pairs that the limits reject."""
    change = pairs[:, 1] - limits.slope * pairs[:, 0] - limits.offset
    return float((np.abs(change) > limits.most).mean())
