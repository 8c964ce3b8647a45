"""What `mini` sees behind the person: the colors of the surroundings without their outlines, and never very dark.

The painters that it learned from simplify the background to its broad colors (`weights/training/painters/scene.py`). A door
frame or a branch beside the head would otherwise be drawn as part of the person, and so would a dark wall beside dark hair.
"""

from __future__ import annotations

import cv2
import numpy as np

from portrait.generate.inputs import Cache
from portrait.generate.matte import person_matte
from portrait.images import pixels_sha256
from portrait.records import Face, RgbImage

SIGMA = 28 / 512
"""Of the Gaussian over the background, as a share of the side."""
DARKEST = 40
"""Lightness in CIELAB that a black background is lifted to; from twice that on, nothing changes."""
COARSE_SIDE = 128
"""The background is blurred at this size."""


def without_outlines(photo: RgbImage, face: Face | None) -> RgbImage:
    """Blur everything in a photo but its people, and lighten it where it is dark.

    Only background colors are blurred, so that no person bleeds into them. Everybody in the photo counts as a person.

    Args:
        photo: (S, S, 3) uint8.
        face: A face whose inner part is kept whatever the matte says; None keeps what the matte finds.

    Returns:
        (S, S, 3) uint8.

    Raises:
        WeightsMissingError, WeightsCorruptError: the matte's network is missing or damaged.
    """
    side = photo.shape[0]
    matte = person_matte(photo)
    if face is not None:
        inner = ((face.center[0], face.center[1]), (0.84 * face.width, 0.9 * face.height), 0.0)
        cv2.ellipse(matte, inner, 1.0, -1)
    coarse = (COARSE_SIDE, COARSE_SIDE)
    certain = np.clip((0.5 - matte) / 0.48, 0, 1)[..., None].astype(np.float32)
    colors = cv2.resize(photo * certain, coarse, interpolation=cv2.INTER_AREA)
    weight = cv2.resize(certain, coarse, interpolation=cv2.INTER_AREA)
    sigma = SIGMA * COARSE_SIDE
    colors, weight = (cv2.GaussianBlur(plane, (0, 0), sigma) for plane in (colors, weight))
    far = photo.reshape(-1, 3).mean(0) if weight.max() < 1e-3 else (colors.sum((0, 1)) / weight.sum())
    blurred = (colors + 1e-3 * far) / (weight[..., None] + 1e-3)
    behind = cv2.resize(_lifted(blurred.astype(np.float32)), (side, side), interpolation=cv2.INTER_CUBIC)
    share = np.clip(matte / 0.9, 0, 1)[..., None]
    return RgbImage(np.clip(photo * share + behind * (1 - share) + 0.5, 0, 255).astype(np.uint8))


def _lifted(colors: np.ndarray) -> np.ndarray:
    """The same colors, (h, w, 3) float32 in [0, 255], none of them darker than `DARKEST`."""
    lab = cv2.cvtColor(np.clip(colors / 255, 0, 1), cv2.COLOR_RGB2LAB)
    lightness = lab[..., 0]
    lab[..., 0] = np.where(lightness < 2 * DARKEST, DARKEST + lightness**2 / (4 * DARKEST), lightness)
    return 255 * cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


class Surroundings:
    """`without_outlines` of the last photo, which its styles share."""

    def __init__(self) -> None:
        self._last = Cache[RgbImage](1)

    def of(self, photo: RgbImage, face: Face | None) -> RgbImage:
        """The photo as the model sees it."""
        key = (pixels_sha256(photo), None if face is None else face.center)
        return self._last.get(key, lambda: without_outlines(photo, face))

    def clear(self) -> None:
        """Forget the last photo."""
        self._last.clear()
