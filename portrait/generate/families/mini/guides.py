"""Guides: planes that show `mini`'s decoder where the features of a face lie, finer than it sees the photo."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from portrait.generate.families.mini.marks.layout import GUIDES
from portrait.generate.families.mini.sitter import (
    BROWS,
    CREASES,
    LIPS,
    LOWER_LIDS,
    MOUTH_BOTTOM,
    MOUTH_TOP,
    NOSE_BASE,
    NOSTRILS,
    OVAL,
    SIZE,
    UPPER_LIDS,
    UPPER_LIP,
)

Plane = NDArray[np.float32]


def draw_guides(
    mesh: NDArray[np.float32], irises: Sequence[tuple[float, float, float]], side: int
) -> NDArray[np.float32]:
    """Draw where the features are.

    Args:
        mesh: (468, 2) float32 pixels of a photo with sides of SIZE.
        irises: Center and radius of each iris that is seen, in the same pixels.
        side: Of the planes, pixels.

    Returns:
        (len(GUIDES), side, side) float32 in [0, 1]: upper lids strong, lower ones and creases weak; the eyes between their
        lids; irises between them; brows; lips, the upper one stronger; the line of the mouth and the nose's base; the face.
    """
    span = float(np.linalg.norm(mesh[263] - mesh[33]))
    planes: dict[str, Plane] = {name: np.zeros((SIZE, SIZE), np.float32) for name in GUIDES}

    def line(name: str, points: list[int], width: float, strength: float = 1.0) -> None:
        curve = [_fixed(mesh[points])]
        cv2.polylines(planes[name], curve, False, strength, max(1, round(width * span)), cv2.LINE_AA, 4)

    def area(name: str, points: list[int], strength: float = 1.0) -> None:
        cv2.fillPoly(planes[name], [_fixed(mesh[points])], strength, cv2.LINE_AA, 4)

    for crease, lower, upper in zip(CREASES, LOWER_LIDS, UPPER_LIDS, strict=True):
        line("lids", crease, 0.02, 0.3)
        line("lids", lower, 0.02, 0.5)
        line("lids", upper, 0.035)
        area("eyes", upper + lower[::-1])
    for x, y, radius in irises:
        center = round(16 * x), round(16 * y)
        cv2.circle(planes["irises"], center, round(16 * radius), 1.0, -1, cv2.LINE_AA, 4)
    planes["irises"] *= planes["eyes"]
    for brow in BROWS:
        area("brows", brow)
    area("lips", LIPS, 0.6)
    area("lips", UPPER_LIP + MOUTH_TOP[::-1])
    area("lips", MOUTH_TOP + MOUTH_BOTTOM[::-1], 0.0)
    for chain in (MOUTH_TOP, MOUTH_BOTTOM, NOSE_BASE, *NOSTRILS):
        line("lines", chain, 0.025)
    area("face", OVAL)
    return np.stack([cv2.resize(plane, (side, side), interpolation=cv2.INTER_AREA) for plane in planes.values()])


def _fixed(points: NDArray[np.floating]) -> NDArray[np.int32]:
    """Pixels as OpenCV takes them with four bits behind the point."""
    return np.round(16 * points).astype(np.int32)
