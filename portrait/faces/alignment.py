"""Align a face to a recognizer's template by rotation, uniform scale and shift alone."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from portrait.errors import ShapeError
from portrait.records import Points, RgbImage

ARCFACE_TEMPLATE = np.array(  # Deng et al. 2019, insightface `face_align.py`: the five points at 112 x 112
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
_FINEST = 8
"""Times the side of a crop at which a large face is read: one of 900 px is then seen whole, and larger ones nearly so."""


def similarity_transform(source: NDArray[np.floating], target: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the (2, 3) float32 similarity that maps `source` to `target` with least squared error.

    Raises:
        ShapeError: the points are not two arrays of shape (N, 2), or all coincide.

    Reference:
        Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns".
    """
    source = np.asarray(source, np.float64)
    target = np.asarray(target, np.float64)
    if source.ndim != 2 or source.shape != target.shape or source.shape[1] != 2:
        raise ShapeError(f"points must be two (N, 2) arrays, got {source.shape} and {target.shape}")
    mean_s = source.mean(0)
    mean_t = target.mean(0)
    centered_s = source - mean_s
    centered_t = target - mean_t
    variance = (centered_s**2).sum() / len(source)
    if variance < 1e-9:
        raise ShapeError("the points of the face lie on one spot, so no alignment exists")
    u, d, vt = np.linalg.svd(centered_t.T @ centered_s / len(source))
    flip = np.diag([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ flip @ vt
    scale = np.trace(np.diag(d) @ flip) / variance
    matrix = np.empty((2, 3))
    matrix[:, :2] = scale * rotation
    matrix[:, 2] = mean_t - scale * rotation @ mean_s
    return matrix.astype(np.float32)


def align_face(image: RgbImage, kps: Points, size: int = 112) -> RgbImage:
    """Return the square crop in which the five points sit on the ArcFace template.

    Only rotation, uniform scale and shift are used, so the face keeps its proportions.

    Args:
        image: (H, W, 3) uint8, RGB.
        kps: (5, 2) float32 pixels: left eye, right eye, nose, left and right mouth corner,
            left meaning left in the picture.
        size: Side of the crop in pixels, a multiple of 112.

    Returns:
        (size, size, 3) uint8, RGB; black where the photo ends.

    Raises:
        ShapeError: kps is not (5, 2), image is not (H, W, 3) uint8, or size is not a multiple of 112.

    Reference:
        Deng et al. 2019 (ArcFace); template as in insightface `face_align.py`.
    """
    _check(image, kps, size)
    matrix = similarity_transform(kps, ARCFACE_TEMPLATE * (size / 112))
    crop = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR)
    return RgbImage(crop.astype(np.uint8, copy=False))


def align_smoothly(image: RgbImage, kps: Points, size: int = 112) -> RgbImage:
    """The crop of `align_face`, in which every pixel of a larger face counts.

    `align_face` reads four pixels for each of its own, as the networks were trained with; of a face that is larger it
    leaves most out, and cuts and hatching come out as noise. Arguments and errors are the same.
    """
    _check(image, kps, size)
    return warp_smoothly(image, similarity_transform(kps, ARCFACE_TEMPLATE * (size / 112)), size)


def warp_smoothly(image: RgbImage, matrix: NDArray[np.float32], size: int) -> RgbImage:
    """The (size, size, 3) picture into which a (2, 3) similarity maps the image; where it shrinks, every pixel counts."""
    finer = int(np.clip(np.ceil(1 / np.sqrt(abs(np.linalg.det(matrix[:, :2])))), 1, _FINEST))
    matrix = matrix * finer
    matrix[:, 2] += (finer - 1) / 2  # the middle of the first pixel stays that of the first block
    crop = cv2.warpAffine(image, matrix, (size * finer, size * finer), flags=cv2.INTER_LINEAR)
    return RgbImage(np.asarray(cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA), np.uint8))


def _check(image: RgbImage, kps: Points, size: int) -> None:
    """Raises ShapeError for arguments that `align_face` does not take."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ShapeError(f"image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
    if np.shape(kps) != (5, 2):
        raise ShapeError(f"kps must be (5, 2), got {np.shape(kps)}")
    if size <= 0 or size % 112:
        raise ShapeError(f"size must be a positive multiple of 112, got {size}")
