"""Negative examples for the style judge: filtered photographs, and photographs that are partly drawings."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Filter = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""(H, W, 3) float32 in [0, 1] and a random generator -> the filtered picture, not yet clipped."""


def _bytes(x: np.ndarray) -> np.ndarray:
    return (np.clip(x, 0, 1) * 255 + 0.5).astype(np.uint8)


def _gray(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.repeat(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)


def _tinted(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Map the lightness to a gradient from a dark over a middle to a light color: sepia, teal, duotone."""
    gray = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)
    ramp = [rng.uniform(0, 0.35, 3), rng.uniform(0.2, 0.8, 3), rng.uniform(0.65, 1, 3)]
    return np.stack([np.interp(gray, [0, 0.5, 1], [c[k] for c in ramp]) for k in range(3)], -1).astype(np.float32)


def _cast(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return x * rng.uniform(0.6, 1.3, 3).astype(np.float32)


def _relit(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (x ** rng.uniform(0.5, 2) - 0.5) * rng.uniform(0.4, 2.2) + 0.5


def _jpeg(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    encoded = cv2.imencode(".jpg", _bytes(x), [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(2, 40))])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded.astype(np.float32) / 255


def _mosaic(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    side = x.shape[0]
    small = cv2.resize(x, (side // int(rng.integers(3, 15)),) * 2, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (side, side), interpolation=cv2.INTER_NEAREST)


def _small(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    side = x.shape[0]
    small = cv2.resize(x, (int(side / rng.uniform(1.5, 6)),) * 2, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)


def _blurred(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return cv2.GaussianBlur(x, (0, 0), float(rng.uniform(0.6, 6)))


def _sharpened(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return x + rng.uniform(0.8, 3) * (x - cv2.GaussianBlur(x, (0, 0), float(rng.uniform(0.8, 3))))


def _grainy(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    channels = 1 if rng.random() < 0.5 else 3
    return x + rng.normal(0, rng.uniform(0.03, 0.2), (*x.shape[:2], channels)).astype(np.float32)


def _posterized(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    levels = int(rng.integers(2, 8)) - 0.001
    return (np.floor(x * levels) / (np.ceil(levels) - 1)).astype(np.float32)


def _few_colors(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Reduce the photo to a few of its colors (k-means), like a GIF."""
    pixels = x.reshape(-1, 3)
    count = int(rng.integers(4, 16))
    stop = (cv2.TERM_CRITERIA_MAX_ITER, 6, 1.0)
    _, owner, centers = cv2.kmeans(pixels, count, np.empty(0), stop, 1, cv2.KMEANS_RANDOM_CENTERS)
    return centers[owner.ravel()].reshape(x.shape).astype(np.float32)


def _smoothed(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The art filter of phones: smooth within edges."""
    if rng.random() < 0.5:
        return cv2.medianBlur(_bytes(x), int(rng.choice([3, 5, 7, 9]))).astype(np.float32) / 255
    return cv2.bilateralFilter(x, 9, float(rng.uniform(0.1, 0.4)), float(rng.uniform(3, 9)))


FILTERS: dict[str, Filter] = {
    "gray": _gray,
    "tinted": _tinted,
    "cast": _cast,
    "relit": _relit,
    "jpeg": _jpeg,
    "mosaic": _mosaic,
    "small": _small,
    "blurred": _blurred,
    "sharpened": _sharpened,
    "grainy": _grainy,
    "posterized": _posterized,
    "few colors": _few_colors,
    "smoothed": _smoothed,
}


def _half_drawn(photo: np.ndarray, drawing: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A photograph blended with a drawing, or half photograph and half drawing."""
    if rng.random() < 0.6:
        share = rng.uniform(0.1, 0.5)
        return share * drawing + (1 - share) * photo
    at = int(rng.uniform(0.4, 0.6) * photo.shape[1])
    halves = (drawing[:, :at], photo[:, at:]) if rng.random() < 0.5 else (photo[:, :at], drawing[:, at:])
    return np.concatenate(halves, 1)


def fake(photo: np.ndarray, drawing: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture in no style: a photograph with up to two filters, or one that is partly a drawing.

    Args:
        photo: (H, W, 3) uint8.
        drawing: The same shape; not necessarily of the same person.
        rng: Chooses the filters.
    """
    x = photo.astype(np.float32) / 255
    if rng.random() < 0.15:
        return _bytes(_half_drawn(x, drawing.astype(np.float32) / 255, rng))
    for name in rng.choice(list(FILTERS), int(rng.integers(0, 3)), replace=False):
        x = np.clip(FILTERS[name](x, rng), 0, 1).astype(np.float32)
    return _bytes(x)
