"""What a portrait may change of a person though every judge of likeness passes it: how light the skin is, the mouth."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from portrait.errors import ShapeError
from portrait.records import RgbImage

_CHEEKS = ((34, 73), (78, 73))
_RADII = (8, 9)
_TEMPLATE = 112
"""Where both cheeks lie on the ArcFace template: (x, y), and the half axes of an ellipse that leaves out eyes, nose and mouth."""
_LOWER_LIP = (40, 88, 72, 104)
"""Left, top, right and bottom on the template, from the line of the mouth to the chin."""
_REACH = 7
"""So far up and down the lip is looked for, on the template."""
_SMOOTH = 1.5
_EYES = 35.2
"""Distance between the eyes of the template."""


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
    scale = _scale(crop)
    mask = np.zeros(crop.shape[:2], np.uint8)
    for x, y in _CHEEKS:
        cv2.ellipse(mask, (x * scale, y * scale), (_RADII[0] * scale, _RADII[1] * scale), 0, 0, 360, 1, -1)
    return float(_lightness(crop)[mask > 0].mean())


def mouth_shift(photo: RgbImage, picture: RgbImage) -> float:
    """By how much the lower lip lies lower than in the photo, in distances between the eyes; negative where it is higher.

    The lightness around the photo's lower lip, smoothed so that marks do not count, is looked for in the picture above
    and below its place, by normalized cross-correlation: it knows no landmarks, and so it works in any style.

    Args:
        photo: (S, S, 3) uint8 aligned crop of the framed photo, S a multiple of 112.
        picture: The crop of the picture at the same points.

    Raises:
        ShapeError: the crops have another shape, or differ in it.
    """
    if photo.shape != picture.shape:
        raise ShapeError(f"crops differ: {photo.shape} and {picture.shape}")
    scale = _scale(photo)
    left, top, right, bottom = (value * scale for value in _LOWER_LIP)
    reach = _REACH * scale
    before, after = (cv2.GaussianBlur(_lightness(crop), (0, 0), _SMOOTH * scale) for crop in (photo, picture))
    window = after[top - reach : bottom + reach, left - 2 * scale : right + 2 * scale]
    agreement = cv2.matchTemplate(window, before[top:bottom, left:right], cv2.TM_CCOEFF_NORMED)
    return (int(np.argmax(agreement.max(1))) - reach) / scale / _EYES


def _scale(crop: RgbImage) -> int:
    height, width = crop.shape[:2]
    if height != width or height % _TEMPLATE:
        raise ShapeError(f"an aligned face is a square with sides of a multiple of {_TEMPLATE}, got {width} x {height}")
    return int(height) // _TEMPLATE


def _lightness(crop: RgbImage) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(crop.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 0], np.float32)
