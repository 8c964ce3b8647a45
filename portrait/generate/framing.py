"""Frame the photo as a portrait around the face, and paste a stylized frame back into the photo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from portrait.errors import SettingsError
from portrait.images import resized
from portrait.records import Face, RgbImage

FRAMES = {"head": 0.62, "bust": 0.42, "full": 0.42}
"""Face height as a share of the square's side; `full` is a bust that is pasted back into the whole photo."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Framed:
    """A square crop of a photo at the recipe's size, and where it came from.

    `image` is (size, size, 3) uint8; `box` (left, top, side) in pixels of the photo; `face` in pixels of `image`.
    """

    image: RgbImage
    face: Face
    box: tuple[int, int, int]


def frame_portrait(photo: RgbImage, face: Face, frame: str, size: int) -> Framed:
    """Crop a square around the face and resize it to `size`.

    The face is placed a little above the middle. The square never leaves the photo: if the photo is too small for the frame,
    the square is as large as the photo allows.

    Raises:
        SettingsError: `frame` is not head, bust or full.
    """
    if frame not in FRAMES:
        raise SettingsError(f"frame {frame!r} is not one of: {', '.join(FRAMES)}")
    height, width = photo.shape[:2]
    side = max(1, int(min(face.height / FRAMES[frame], height, width)))
    x, y = face.center
    left = int(np.clip(x - side * 0.5, 0, width - side)) if width > side else 0
    top = int(np.clip(y - side * 0.47, 0, height - side)) if height > side else 0
    crop = RgbImage(photo[top : top + side, left : left + side])
    scale = size / side
    return Framed(
        image=resized(crop, size, size), face=face.moved(scale, -left * scale, -top * scale), box=(left, top, side)
    )


STRIP = 64
"""Rows that are blended at a time."""
_RIM = 0.12
"""Width of the blend, as a share of the square's side. Sides that lie on the photo's border have none."""


def paste_back(photo: RgbImage, stylized: RgbImage, box: tuple[int, int, int]) -> RgbImage:
    """Paste the stylized square back into the photo, blended over a rim inside the square.

    Args:
        photo: (H, W, 3) uint8.
        stylized: (S, S, 3) uint8, any S.
        box: (left, top, side) in the photo.

    Returns:
        (H, W, 3) uint8; outside the box equal to the photo, pixel for pixel.
    """
    left, top, side = box
    height, width = photo.shape[:2]
    ramp = np.clip((np.arange(side) + 0.5) / max(1.0, _RIM * side), 0, 1)
    across = np.ones(side) if left == 0 else ramp
    across = across * (1 if left + side >= width else ramp[::-1])
    down = np.ones(side) if top == 0 else ramp
    down = down * (1 if top + side >= height else ramp[::-1])
    result = photo.copy()
    over = resized(stylized, side, side)
    for first in range(0, side, STRIP):  # blend row by row, so that a large photo is never held in floats as a whole
        rows = slice(first, min(first + STRIP, side))
        alpha = np.minimum(across[None], down[rows, None])
        alpha = (alpha * alpha * (3 - 2 * alpha))[..., None]
        under = photo[top + rows.start : top + rows.stop, left : left + side]
        mixed = (under * (1 - alpha) + over[rows] * alpha + 0.5).astype(np.uint8)
        result[top + rows.start : top + rows.stop, left : left + side] = mixed
    return result
