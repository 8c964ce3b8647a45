"""Frame the photo as a portrait around the face, and paste a stylized frame back into the photo."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Square:
    """The square that a frame draws of a photo, in pixels of the photo.

    It lies at `left` and `top`, and can be moved to `lefts` and `tops`, (least, most) each.
    """

    side: int
    left: int
    top: int
    lefts: tuple[int, int]
    tops: tuple[int, int]

    def moved(self, shift: tuple[float, float]) -> tuple[int, int, int]:
        """(left, top, side) after a shift to the right and down, in shares of the side, as far as the square can go."""
        left, top = (
            int(np.clip(start + round(share * self.side), low, high))
            for start, share, (low, high) in zip((self.left, self.top), shift, (self.lefts, self.tops), strict=True)
        )
        return left, top, self.side


def square_around(photo: RgbImage, face: Face, frame: str) -> Square:
    """The square of a frame, with the face a little above its middle.

    If the photo is too small for the frame, the square is as large as the photo allows. Wherever it is moved, it stays in the
    photo, and the face's box stays in it.

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
    x1, y1, x2, y2 = (float(value) for value in face.bbox)
    return Square(
        side=side,
        left=left,
        top=top,
        lefts=_room(left, width - side, x2 - side, x1),
        tops=_room(top, height - side, y2 - side, y1),
    )


def _room(start: int, limit: int, least: float, most: float) -> tuple[int, int]:
    """Where a square may begin, (least, most): from 0 to `limit`, with the face in it from `least` to `most`; at `start` always."""
    return min(start, max(0, ceil(least))), max(start, min(limit, floor(most)))


def frame_portrait(
    photo: RgbImage, face: Face, frame: str, size: int, shift: tuple[float, float] = (0.0, 0.0)
) -> Framed:
    """Crop the square of a frame, moved by `shift` as in `Square.moved`, and resize it to `size`.

    Raises:
        SettingsError: `frame` is not head, bust or full.
    """
    left, top, side = square_around(photo, face, frame).moved(shift)
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
    """Paste a stylized square, (S, S, 3) uint8 with any S, back into the photo, blended over a rim inside the square.

    `box` is (left, top, side) in the photo. Outside of it the result is equal to the photo, pixel for pixel.
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
    for first in range(0, side, STRIP):  # in strips, so that a large photo is never held in floats as a whole
        rows = slice(first, min(first + STRIP, side))
        alpha = np.minimum(across[None], down[rows, None])
        alpha = (alpha * alpha * (3 - 2 * alpha))[..., None]
        under = photo[top + rows.start : top + rows.stop, left : left + side]
        mixed = (under * (1 - alpha) + over[rows] * alpha + 0.5).astype(np.uint8)
        result[top + rows.start : top + rows.stop, left : left + side] = mixed
    return result
