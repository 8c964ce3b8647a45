"""Checks on pixels: is the face stylized, is the picture burned."""

from __future__ import annotations

import cv2
import numpy as np

from portrait.errors import ShapeError
from portrait.records import RgbImage

_SIGMA = 1.5  # of the Gaussian window, pixels at 224
_FLAT = 9.0  # (3 / 100 of lightness) ** 2: below this contrast a window says nothing


def style_on_face(photo: RgbImage, picture: RgbImage) -> float:
    """How differently the picture is drawn on the face, in [0, 1]; 0 for a copy, also a re-lit one.

    One minus the mean of the contrast-structure term of SSIM over the CIE lightness of two aligned
    face crops, after the picture's lightness is brought to the photo's mean and deviation. Exposure,
    contrast, tint and mild compression therefore count as nothing: what counts is that edges and
    shading are drawn anew. `eval/calibrate.py` measures what copies reach, and sets the limit above it.
    Where a crop leaves the picture (both are black there) nothing is counted.

    Args:
        photo: (S, S, 3) uint8 aligned crop of the framed photo, S = 224.
        picture: The crop of the picture at the same points.

    Raises:
        ShapeError: the crops differ in shape.

    Reference:
        Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity".
    """
    if photo.shape != picture.shape:
        raise ShapeError(f"crops differ: {photo.shape} and {picture.shape}")
    a, b = (cv2.cvtColor(x.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 0] for x in (photo, picture))
    b = (b - b.mean()) / (b.std() + 1e-3) * a.std() + a.mean()
    mean_a, mean_b = _window(a), _window(b)
    var_a = _window(a * a) - mean_a * mean_a
    var_b = _window(b * b) - mean_b * mean_b
    covariance = _window(a * b) - mean_a * mean_b
    structure = (2 * covariance + _FLAT) / (var_a + var_b + _FLAT)
    inside = (photo.max(-1) > 0) | (picture.max(-1) > 0)
    return float(np.clip(1 - structure[inside].mean(), 0, 1)) if inside.any() else 0.0


def _window(x: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(x, (0, 0), _SIGMA)


def burned_share(photo: RgbImage, picture: RgbImage) -> float:
    """The share of the picture's pixels, in [0, 1], that are burned out and were not so in the photo.

    Burned is: white or black in all channels (above 253, below 2), or a fully saturated colour (one
    channel above 250 while another is below 5). Paper and ink of a style are not that extreme.
    """

    def extreme(image: RgbImage) -> np.ndarray:
        low, high = image.min(-1), image.max(-1)
        return (low > 253) | (high < 2) | ((high > 250) & (low < 5))

    return float((extreme(picture) & ~extreme(photo)).mean())
