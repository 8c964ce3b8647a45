"""Degrade good photos to typical snapshots, and make copies of a photo that are not stylized."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from portrait.records import RgbImage


def _tone(photo: np.ndarray, gray: float, contrast: float, paper: Sequence[float]) -> np.ndarray:
    """Fade `photo` in [0, 1]: less color, and less contrast toward the color of the paper."""
    luma = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[..., None]
    tint = np.array(paper, np.float32)
    faded = gray * luma * tint / tint.max() + (1 - gray) * photo
    toned: np.ndarray = contrast * faded + (1 - contrast) * tint
    return toned


def _jpeg(bgr: np.ndarray, quality: int) -> np.ndarray:
    """Compress a (H, W, 3) uint8 picture as JPEG and decode it; the channel order does not matter."""
    encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    if decoded is None:
        raise RuntimeError("OpenCV cannot read the JPEG that it has just written")
    return decoded


def _shrink(photo: np.ndarray) -> np.ndarray:
    """Compress the picture at a third of its size."""
    height, width = photo.shape[:2]
    small = cv2.resize((255 * photo).astype(np.uint8), (width // 3, height // 3), interpolation=cv2.INTER_AREA)
    enlarged = cv2.resize(_jpeg(small, 40), (width, height), interpolation=cv2.INTER_CUBIC)
    return enlarged.astype(np.float32) / 255


DEGRADATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda photo: photo,
    "gray": lambda photo: _tone(photo, 1.0, 1.0, (1.0, 1.0, 1.0)),
    "faded": lambda photo: _tone(photo, 0.6, 0.55, (0.85, 0.78, 0.64)),
    "low contrast": lambda photo: _tone(photo, 0.0, 0.4, (0.55, 0.55, 0.55)),
    "dark": lambda photo: 0.85 * photo**1.9,
    "bright": lambda photo: 1.25 * photo**0.8,
    "yellow light": lambda photo: photo * np.array([1.1, 0.95, 0.65], np.float32),
    "small": _shrink,
}
"""Ways to degrade a good photo: (H, W, 3) float32 in [0, 1] -> the same, not yet clipped."""


def degrade(photo: RgbImage, kind: int) -> RgbImage:
    """Degrade a (H, W, 3) uint8 photo as ordinary light, cameras, prints and messengers do: the `kind`-th of `DEGRADATIONS`."""
    spoil = list(DEGRADATIONS.values())[kind % len(DEGRADATIONS)]
    degraded = spoil(photo.astype(np.float32) / 255)
    return RgbImage((np.clip(degraded, 0, 1) * 255 + 0.5).astype(np.uint8))


def copies(photo: RgbImage, rng: np.random.Generator) -> dict[str, RgbImage]:
    """Kind -> copy of a photo, (H, W, 3) uint8: compressed, shrunk, moved, relit, tinted or grainy, but not stylized."""
    gray = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[..., None]
    height, width = photo.shape[:2]

    def smaller(n: int) -> np.ndarray:
        small = cv2.resize(photo, (width // n, height // n), interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (width, height))

    def moved(degrees: float, zoom: float, shift: float) -> np.ndarray:
        """Rotate and zoom about the center, and shift by a share of the width."""
        affine = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, zoom)
        affine[:, 2] += shift * width
        return cv2.warpAffine(photo, affine, (width, height), borderMode=cv2.BORDER_REFLECT)

    pictures = {
        "jpeg quality 20": _jpeg(photo, 20),
        "shifted": moved(0, 1, 0.006),
        "turned, compressed": _jpeg(moved(3, 1, 0), 20),
        "zoomed": moved(0, 1.04, 0),
        "mirrored": photo[:, ::-1],
        "gamma 1.5": (255 * (photo / 255) ** 1.5).astype(np.uint8),
        "contrast 1.4": np.clip((photo.astype(float) - 128) * 1.4 + 128, 0, 255).astype(np.uint8),
        "sepia": np.clip(gray * np.array([1.05, 0.95, 0.8]), 0, 255).astype(np.uint8),
        "duotone": (gray / 255 * np.array([200, 60, 90]) + np.array([40, 20, 120])).astype(np.uint8),
        "noise 10": np.clip(photo + rng.normal(0, 10, photo.shape), 0, 255).astype(np.uint8),
        "half size": smaller(2),
        "third size": smaller(3),
    }
    return {kind: RgbImage(np.ascontiguousarray(picture)) for kind, picture in pictures.items()}
