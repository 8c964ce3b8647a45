"""What a portrait may change of a person though every judge of likeness passes it: how light the skin is."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from portrait.errors import ShapeError
from portrait.records import RgbImage

_CHEEKS = ((34, 73), (78, 73))
_RADII = (8, 9)
_TEMPLATE = 112
"""Where both cheeks lie on the ArcFace template: (x, y), and the half axes of an ellipse that leaves out eyes, nose and mouth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SkinLimits:
    """What a style that keeps the skin's own color makes of its lightness, and by how much a picture may differ.

    CIE L, 0 to 100: a style is expected to make `slope` L + `offset` of a photo's L; `most` is the largest difference from
    that, either way, that its good pictures show.
    """

    slope: float
    offset: float
    most: float

    def change(self, photo: RgbImage, picture: RgbImage) -> float:
        """By how much the skin is lighter than the style makes it, in units of CIE L; negative where it is darker.

        Args:
            photo: (S, S, 3) uint8 aligned crop of the framed photo, S a multiple of 112.
            picture: The crop of the picture at the same points.
        """
        return skin_lightness(picture) - self.slope * skin_lightness(photo) - self.offset


def skin_lightness(crop: RgbImage) -> float:
    """Mean CIE L, 0 to 100, of both cheeks.

    Args:
        crop: (S, S, 3) uint8 aligned face, S a multiple of 112.

    Raises:
        ShapeError: it is of another shape.
    """
    height, width = crop.shape[:2]
    if height != width or height % _TEMPLATE:
        raise ShapeError(f"an aligned face is a square with sides of a multiple of {_TEMPLATE}, got {width} x {height}")
    scale = height // _TEMPLATE
    mask = np.zeros((height, width), np.uint8)
    for x, y in _CHEEKS:
        cv2.ellipse(mask, (x * scale, y * scale), (_RADII[0] * scale, _RADII[1] * scale), 0, 0, 360, 1, -1)
    light = cv2.cvtColor(crop.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 0]
    return float(light[mask > 0].mean())
