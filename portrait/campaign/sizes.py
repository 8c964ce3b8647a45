"""Sizes for platforms: crops of a finished portrait that keep the face."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageChops, ImageDraw

from portrait.images import encode_picture
from portrait.provenance.mark import xmp_mark
from portrait.records.portrait import PortraitRecord
from portrait.validation import did_you_mean

Box = tuple[float, float, float, float]
"""(x1, y1, x2, y2) in pixels."""

_MARGIN = 0.15
"""Hair and chin: the crop includes the face's box and this share of it on every side."""
_FACE_HEIGHT = 0.45
"""The center of the face is at this share of the crop's height, if the picture allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A picture of `width` x `height` pixels; with `round_mask` the corners outside of the circle are transparent."""

    width: int
    height: int
    round_mask: bool = False


SIZES: dict[str, Size | None] = {
    "original": None,
    "square": Size(width=1080, height=1080),
    "portrait": Size(width=1080, height=1350),
    "wide": Size(width=1920, height=1080),
    "story": Size(width=1080, height=1920),
    **{f"avatar-{side}": Size(width=side, height=side) for side in (1024, 800, 512, 400, 256, 128)},
    **{f"round-{side}": Size(width=side, height=side, round_mask=True) for side in (1024, 800, 512, 400, 256)},
}
"""Name -> size; None is the picture as it was made."""


def unknown_size(names: Iterable[str]) -> str:
    """A phrase about the first name that is not in `SIZES`; empty if all are."""
    for name in names:
        if name not in SIZES:
            hint = did_you_mean(name, SIZES, "did you mean {}? ")
            return f"no size {name!r}; {hint}sizes: {', '.join(SIZES)}"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """The part of the picture that a size takes, and what was done to it.

    `box` may exceed the picture if no crop of that shape could include the face: missing parts are filled with the picture's
    own blurred border. `scale` above 1 means that it was enlarged.
    """

    box: tuple[int, int, int, int]
    scale: float
    padded: bool


def face_box(record: PortraitRecord) -> Box:
    """The box of the face in the picture of a record, in pixels of that picture.

    The generated square keeps the photo's layout, so this is the photo's face, mapped to the picture.
    """
    x1, y1, x2, y2 = record.input.face.bbox
    if record.frame == "full":
        return x1, y1, x2, y2
    left, top, side = record.box
    scale = record.picture.size[0] / side
    return (x1 - left) * scale, (y1 - top) * scale, (x2 - left) * scale, (y2 - top) * scale


def crop_for(size: Size, width: int, height: int, face: Box) -> Crop:
    """The largest crop of the size's shape, within a picture of width x height pixels, that has the face; padded if there is none."""
    aspect = size.width / size.height
    x1, y1, x2, y2 = face
    face_width, face_height = x2 - x1, y2 - y1
    needed_width = face_width * (1 + 2 * _MARGIN)
    needed_height = face_height * (1 + 2 * _MARGIN)
    if size.round_mask:  # the circle cuts off the corners of the face's box
        needed_width = needed_height = float(np.hypot(face_width, face_height)) * (1 + _MARGIN)
    crop_width = max(min(width, height * aspect), needed_width, needed_height * aspect)
    crop_height = crop_width / aspect
    left = _fit((x1 + x2) / 2 - crop_width / 2, crop_width, width)
    top = _fit((y1 + y2) / 2 - crop_height * _FACE_HEIGHT, crop_height, height)
    box = (round(left), round(top), round(left + crop_width), round(top + crop_height))
    is_padded = box[0] < 0 or box[1] < 0 or box[2] > width or box[3] > height
    return Crop(box=box, scale=round(size.width / crop_width, 3), padded=is_padded)


def _fit(start: float, length: float, limit: int) -> float:
    """The start of a span that lies inside the picture if it fits, and else is centered on the picture."""
    return float(np.clip(start, 0, limit - length)) if length <= limit else (limit - length) / 2


def suffix_of(picture: np.ndarray, size: Size) -> str:
    """The suffix of `encode_size`'s file: png if any part is transparent, else jpg."""
    return "png" if size.round_mask or picture.shape[2] == 4 else "jpg"


def encode_size(picture: np.ndarray, size: Size, face: Box, *, tool: bool = True) -> tuple[bytes, str, Crop]:
    """Crop and encode a picture, (H, W, 3) or (H, W, 4) uint8; return the file's bytes, its suffix, and what was done.

    Without `tool` the file does not name it; the mark that the picture is generated is always included.
    """
    crop = crop_for(size, picture.shape[1], picture.shape[0], face)
    image = Image.fromarray(_cut(picture, crop.box)).resize((size.width, size.height), Image.Resampling.LANCZOS)
    if size.round_mask:
        big = Image.new("L", (size.width * 4, size.height * 4), 0)
        ImageDraw.Draw(big).ellipse((0, 0, big.width - 1, big.height - 1), fill=255)
        circle = big.resize(image.size, Image.Resampling.LANCZOS)
        image.putalpha(ImageChops.multiply(circle, image.getchannel("A")) if image.mode == "RGBA" else circle)
    suffix = suffix_of(picture, size)
    return encode_picture(np.asarray(image), suffix, xmp=xmp_mark(tool=tool), quality=93), suffix, crop


def _cut(picture: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Cut out a box of a picture; parts outside are the picture's own border, mirrored and blurred, or transparent."""
    x1, y1, x2, y2 = box
    height, width = picture.shape[:2]
    inside = picture[max(0, y1) : min(height, y2), max(0, x1) : min(width, x2)]
    rows, columns = inside.shape[:2]
    if (rows, columns) == (y2 - y1, x2 - x1):
        return inside
    top, bottom, left, right = max(0, -y1), max(0, y2 - height), max(0, -x1), max(0, x2 - width)
    if picture.shape[2] == 4:
        return np.asarray(cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_CONSTANT))
    widest = max(top, bottom, left, right)
    can_mirror = min(rows, columns) > widest
    mode = cv2.BORDER_REFLECT_101 if can_mirror else cv2.BORDER_REPLICATE
    padded = cv2.copyMakeBorder(inside, top, bottom, left, right, mode)
    blurred = cv2.GaussianBlur(padded, (0, 0), max(2.0, widest / 4))
    blurred[top : top + rows, left : left + columns] = inside
    return np.ascontiguousarray(blurred, np.uint8)
