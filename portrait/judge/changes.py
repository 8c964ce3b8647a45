"""Changes to a person that judges of likeness do not notice: the lightness of the skin, the shape of the mouth.

Also features that are missing: a face whose eyes and mouth were painted over is still detected, and often still recognized.
"""

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
"""Both cheeks on the ArcFace template: (x, y), and the half axes of an ellipse without eyes, nose and mouth."""
_LOWER_LIP = (40, 88, 72, 104)
"""Left, top, right and bottom on the template: from the line of the mouth to the chin."""
_REACH = 7
"""How far up and down the lip is searched for, on the template."""
_FEATURES = ((26, 40, 52, 64), (60, 40, 86, 64), (36, 80, 76, 104))
"""Both eyes with their brows, and the mouth, on the template: left, top, right and bottom."""
_FEATURE_REACH = 3
"""How far in each direction they are searched for, on the template."""
_PLAIN = 0.5
"""Deviation of lightness, CIE L, below which a photo shows no feature to search for."""
_FAINT = 0.6
"""Share of a feature's contrast in the photo below which it counts less the fainter it is."""
_SMOOTH = 1.5
_SHADING = 4.0
"""Sigma of the Gaussian, on the template, that separates shading from features: a face of 11 pixels has little but
shading."""
_EYES = 35.2
"""Distance between the eyes of the template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SkinLimits:
    """How a style that keeps the skin's own color renders its lightness, and how much a picture may differ.

    In CIE L, 0 to 100: a style is expected to turn a photo's L into `slope` L + `offset`; `most` is the largest difference
    from that, either way, among its good pictures.
    """

    slope: float
    offset: float
    most: float

    def change(self, photo: RgbImage, picture: RgbImage) -> float:
        """How much lighter the skin of the picture is than the style would make it, in units of CIE L; negative if darker.

        Both are crops as for `mouth_shift`.
        """
        return skin_lightness(picture) - self.slope * skin_lightness(photo) - self.offset


def skin_lightness(crop: RgbImage) -> float:
    """Mean CIE L, 0 to 100, of both cheeks of an aligned face, (S, S, 3) uint8 with S a multiple of 112.

    Raises:
        ShapeError: the crop has another shape.
    """
    scale = _scale(crop)
    mask = np.zeros(crop.shape[:2], np.uint8)
    for x, y in _CHEEKS:
        cv2.ellipse(mask, (x * scale, y * scale), (_RADII[0] * scale, _RADII[1] * scale), 0, 0, 360, 1, -1)
    return float(_lightness(crop)[mask > 0].mean())


def mouth_shift(photo: RgbImage, picture: RgbImage) -> float:
    """How much lower the lower lip is than in the photo, in inter-eye distances; negative if it is higher.

    The lightness around the photo's lower lip, smoothed so that marks do not count, is searched for above and below its
    place in the picture by normalized cross-correlation. This needs no landmarks, so it works in any style.

    Args:
        photo: (S, S, 3) uint8 aligned crop of the framed photo, S a multiple of 112.
        picture: The crop of the picture at the same points.

    Raises:
        ShapeError: the crops have a wrong shape, or different shapes.
    """
    before, after, scale = _smooth_lightness(photo, picture)
    left, top, right, bottom = (value * scale for value in _LOWER_LIP)
    reach = _REACH * scale
    window = after[top - reach : bottom + reach, left - 2 * scale : right + 2 * scale]
    agreement = cv2.matchTemplate(window, before[top:bottom, left:right], cv2.TM_CCOEFF_NORMED)
    return (int(np.argmax(agreement.max(1))) - reach) / scale / _EYES


def features_shown(photo: RgbImage, picture: RgbImage) -> float:
    """How well the picture shows the photo's eyes and mouth, in [-1, 1]; 1 for a copy.

    The lightness of each feature, band-passed to exclude marks and shading, is searched for near its place by normalized
    cross-correlation, which counts less if it is faint. The result is the mean over both eyes and the mouth, so closed eyes
    or a laugh cost little. A feature that the photo itself does not show counts as shown. `eval/faceless.py` measures this
    on portraits with and without eyes and mouth. The crops and errors are those of `mouth_shift`.
    """
    before, after, scale = _smooth_lightness(photo, picture)
    sigma = float(np.sqrt(_SHADING**2 - _SMOOTH**2)) * scale
    before, after = (smooth - cv2.GaussianBlur(smooth, (0, 0), sigma) for smooth in (before, after))
    reach = _FEATURE_REACH * scale
    scores = []
    for box in _FEATURES:
        left, top, right, bottom = (value * scale for value in box)
        feature = before[top:bottom, left:right]
        if feature.std() < _PLAIN:
            scores.append(1.0)
            continue
        window = after[top - reach : bottom + reach, left - reach : right + reach]
        agreement = cv2.matchTemplate(window, feature, cv2.TM_CCOEFF_NORMED)
        y, x = np.unravel_index(int(agreement.argmax()), agreement.shape)
        contrast = float(window[y : y + feature.shape[0], x : x + feature.shape[1]].std() / feature.std())
        scores.append(float(agreement.max()) * min(1.0, contrast / _FAINT))
    return float(np.clip(np.mean(scores), -1, 1))


def _smooth_lightness(photo: RgbImage, picture: RgbImage) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
    """The lightness of both crops, smoothed so that marks do not count, and the pixels per unit of the template."""
    if photo.shape != picture.shape:
        raise ShapeError(f"crops differ: {photo.shape} and {picture.shape}")
    scale = _scale(photo)
    before, after = (
        np.asarray(cv2.GaussianBlur(_lightness(crop), (0, 0), _SMOOTH * scale), np.float32) for crop in (photo, picture)
    )
    return before, after, scale


def _scale(crop: RgbImage) -> int:
    height, width = crop.shape[:2]
    if height != width or height % _TEMPLATE:
        raise ShapeError(f"an aligned face is a square with sides of a multiple of {_TEMPLATE}, got {width} x {height}")
    return int(height) // _TEMPLATE


def _lightness(crop: RgbImage) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(crop.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 0], np.float32)
