"""Sizes for platforms: crops of a finished portrait that keep the face."""

from __future__ import annotations

import io
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw

from portrait.records import RgbImage
from portrait.records.portrait import PortraitRecord

Box = tuple[float, float, float, float]
"""(x1, y1, x2, y2) in pixels."""

_ROOM = 0.15
"""Hair and chin: the crop holds the face's box and this share of it on every side."""
_EYE_LINE = 0.45
"""The middle of the face comes to this share of the crop's height, where the picture allows."""


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
    "avatar-512": Size(width=512, height=512),
    "avatar-256": Size(width=256, height=256),
    "avatar-128": Size(width=128, height=128),
    "round-512": Size(width=512, height=512, round_mask=True),
    "round-256": Size(width=256, height=256, round_mask=True),
}
"""Name -> size; None is the picture as it was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """Which part of the picture a size takes, and what was done to it.

    `box` may leave the picture where no crop of that shape could hold the face: what is missing is filled with the
    picture's own blurred border. `scale` above 1 means that it was enlarged.
    """

    box: tuple[int, int, int, int]
    scale: float
    padded: bool


def face_box(record: PortraitRecord) -> Box:
    """Where the face is in the picture of a record, in pixels of that picture.

    The generated square keeps the layout of the photo's, so it is the photo's face carried over.
    """
    x1, y1, x2, y2 = record.input.face.bbox
    if record.frame == "full":
        return x1, y1, x2, y2
    left, top, side = record.box
    scale = record.picture.size[0] / side
    return (x1 - left) * scale, (y1 - top) * scale, (x2 - left) * scale, (y2 - top) * scale


def crop_for(size: Size, width: int, height: int, face: Box) -> Crop:
    """The largest crop of the size's shape that lies in the picture and holds the face; padded where none does.

    Args:
        size: What is wanted.
        width: Of the picture, pixels.
        height: Of the picture, pixels.
        face: Its face.
    """
    aspect = size.width / size.height
    crop_w = min(width, height * aspect)
    x1, y1, x2, y2 = face
    need_w, need_h = (x2 - x1) * (1 + 2 * _ROOM), (y2 - y1) * (1 + 2 * _ROOM)
    if size.round_mask:  # the circle cuts the corners of the face's box
        need_w = need_h = float(np.hypot(x2 - x1, y2 - y1)) * (1 + _ROOM)
    crop_w = max(crop_w, need_w, need_h * aspect)
    crop_h = crop_w / aspect
    left = _placed((x1 + x2) / 2 - crop_w / 2, crop_w, width)
    top = _placed((y1 + y2) / 2 - crop_h * _EYE_LINE, crop_h, height)
    box = (round(left), round(top), round(left + crop_w), round(top + crop_h))
    padded = box[0] < 0 or box[1] < 0 or box[2] > width or box[3] > height
    return Crop(box=box, scale=round(size.width / crop_w, 3), padded=padded)


def _placed(start: float, length: float, limit: int) -> float:
    """Inside of the picture if it fits, else with the picture in its middle."""
    return float(np.clip(start, 0, limit - length)) if length <= limit else (limit - length) / 2


def encode_size(picture: RgbImage, size: Size, face: Box) -> tuple[bytes, str, Crop]:
    """Cut and encode: the file's bytes, its suffix (jpg, or png where it has a mask), and what was done."""
    crop = crop_for(size, picture.shape[1], picture.shape[0], face)
    image = Image.fromarray(_cut(picture, crop.box)).resize((size.width, size.height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if not size.round_mask:
        image.save(buffer, "JPEG", quality=93, subsampling=0)
        return buffer.getvalue(), "jpg", crop
    big = Image.new("L", (size.width * 4, size.height * 4), 0)
    ImageDraw.Draw(big).ellipse((0, 0, big.width - 1, big.height - 1), fill=255)
    image.putalpha(big.resize(image.size, Image.Resampling.LANCZOS))
    image.save(buffer, "PNG")
    return buffer.getvalue(), "png", crop


def _cut(picture: RgbImage, box: tuple[int, int, int, int]) -> RgbImage:
    x1, y1, x2, y2 = box
    height, width = picture.shape[:2]
    inside = picture[max(0, y1) : min(height, y2), max(0, x1) : min(width, x2)]
    if inside.shape[:2] == (y2 - y1, x2 - x1):
        return RgbImage(inside)
    rim = (max(0, -y1), max(0, y2 - height), max(0, -x1), max(0, x2 - width))
    filled = cv2.copyMakeBorder(
        inside, *rim, cv2.BORDER_REFLECT_101 if min(inside.shape[:2]) > max(rim) else cv2.BORDER_REPLICATE
    )
    soft = cv2.GaussianBlur(filled, (0, 0), max(2.0, max(rim) / 4))
    soft[rim[0] : rim[0] + inside.shape[0], rim[2] : rim[2] + inside.shape[1]] = inside
    return RgbImage(np.ascontiguousarray(soft, np.uint8))
