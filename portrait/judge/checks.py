"""Checks on pixels: is the face stylized, is the picture burned, did stay what had to."""

from __future__ import annotations

import cv2
import numpy as np

from portrait.errors import ShapeError
from portrait.records import Points, RgbImage

_WINDOW = 3.0  # deviation of the Gaussian window, pixels at 224
_CHROMA = 3.0  # chroma is compared at this smoothness, as eyes and codecs do
_FLAT = 9.0  # 3 units of CIE Lab, squared: below this contrast a window says nothing


def style_on_face(photo: RgbImage, picture: RgbImage) -> float:
    """How differently the picture is drawn on the face, in [0, 1]; 0 for a copy, also a re-coloured one.

    The photo's CIE Lab colours are first carried to the picture's by the best affine map (least squares
    over the crop), so exposure, contrast, tint and fading count as nothing. What is left is compared by
    the contrast-structure term of SSIM, its variances and covariances summed over L, a and b; the result
    is one minus its mean. It counts edges and shading that are drawn anew, and colours that no affine map
    of the photo's gives: a palette. `portrait calibrate` measures what copies reach, and sets the limit
    above it. Where both crops are black, outside of a picture, nothing is counted.

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
    inside = (photo.max(-1) > 0) | (picture.max(-1) > 0)
    if not inside.any():
        return 0.0
    a, b = _soft_lab(photo), _soft_lab(picture)
    terms = np.concatenate([a, np.full_like(a[..., :1], 100.0)], -1)
    affine, *_ = np.linalg.lstsq(terms[inside], b[inside], rcond=None)
    a = (terms @ affine).astype(np.float32)
    mean_a, mean_b = _window(a), _window(b)
    covariance = (_window(a * b) - mean_a * mean_b).sum(-1)
    variances = (_window(a * a) - mean_a * mean_a + _window(b * b) - mean_b * mean_b).sum(-1)
    structure = (2 * covariance + _FLAT) / (variances + _FLAT)
    return float(np.clip(1 - structure[inside].mean(), 0, 1))


def _soft_lab(image: RgbImage) -> np.ndarray:
    """CIE Lab, float32, with smoothed chroma."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lab[..., 1:] = cv2.GaussianBlur(lab, (0, 0), _CHROMA)[..., 1:]
    return lab


def _window(x: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(x, (0, 0), _WINDOW)


def burned_share(photo: RgbImage, picture: RgbImage) -> float:
    """The share of the picture's pixels, in [0, 1], that are burned out and were not so in the photo.

    Burned is: white or black in all channels (above 253, below 2), or a fully saturated colour (one
    channel above 250 while another is below 5). Paper and ink of a style are not that extreme.
    """

    def extreme(image: RgbImage) -> np.ndarray:
        low, high = image.min(-1), image.max(-1)
        return (low > 253) | (high < 2) | ((high > 250) & (low < 5))

    return float((extreme(picture) & ~extreme(photo)).mean())


def point_displacement(photo: Points, picture: Points) -> float:
    """Mean distance of the five points between photo and picture, in inter-eye distances of the photo.

    0 is the same pose at the same place. 0.1 is the usual limit of a landmark failure (Sagonas et al. 2016,
    "300 Faces In-The-Wild Challenge").
    """
    return float(np.linalg.norm(photo - picture, axis=1).mean() / max(1e-6, float(np.linalg.norm(photo[1] - photo[0]))))


def edge_agreement(photo: RgbImage, picture: RgbImage, side: int = 96) -> float:
    """How alike the edges of two pictures lie, in [-1, 1]: 1 for a copy, near 0 for another composition.

    Pearson correlation of the gradient magnitudes of CIE lightness at `side` pixels, smoothed by one pixel.

    Raises:
        ShapeError: the pictures differ in shape.
    """
    if photo.shape != picture.shape:
        raise ShapeError(f"pictures differ: {photo.shape} and {picture.shape}")

    def edges(image: RgbImage) -> np.ndarray:
        small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        light = cv2.cvtColor(small, cv2.COLOR_RGB2LAB)[..., 0]
        size = np.hypot(cv2.Sobel(light, cv2.CV_32F, 1, 0), cv2.Sobel(light, cv2.CV_32F, 0, 1))
        return cv2.GaussianBlur(np.sqrt(size), (0, 0), 1.0).ravel()

    a, b = edges(photo), edges(picture)
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / max(1e-6, float(np.linalg.norm(a) * np.linalg.norm(b))))


def color_distance(photo: RgbImage, picture: RgbImage) -> float:
    """Mean distance of coarse chroma (CIE a, b; smoothed over 1/48 of the side), in units of CIE Lab.

    2.3 is a just noticeable difference. Lightness does not count: it is the style's.

    Raises:
        ShapeError: the pictures differ in shape.
    """
    if photo.shape != picture.shape:
        raise ShapeError(f"pictures differ: {photo.shape} and {picture.shape}")
    sigma = max(photo.shape[:2]) / 48
    a, b = (
        cv2.GaussianBlur(cv2.cvtColor(x.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 1:], (0, 0), sigma)
        for x in (photo, picture)
    )
    return float(np.linalg.norm(a - b, axis=-1).mean())


def psnr_inside(photo: RgbImage, picture: RgbImage, mask: np.ndarray) -> float:
    """Peak signal-to-noise ratio where `mask` is True, dB; 100 when not a pixel differs.

    Args:
        photo: (H, W, 3) uint8.
        picture: The same shape.
        mask: (H, W) bool; where nothing is True nothing differs.
    """
    difference = photo[mask].astype(np.float64) - picture[mask]
    error = float(np.mean(difference * difference)) if difference.size else 0.0
    return 100.0 if error == 0 else float(min(100.0, 10 * np.log10(255**2 / error)))
