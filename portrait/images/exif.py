"""EXIF blocks, read at a bounded cost."""

from __future__ import annotations

from PIL import Image

from portrait.images import tiff

_RAW_PROFILE = "Raw profile type exif"
"""Where older tools put the block in a PNG, as hexadecimal digits below three lines."""


def read_exif(image: Image.Image) -> Image.Exif:
    """The EXIF block of an open picture; an empty one in place of a block that no camera writes.

    Pillow copies the bytes of each tag, which would be gigabytes for a block of kilobytes whose tags share their bytes.

    Raises:
        Exception: the block is damaged; Pillow's classes for this are many.
    """
    if image.format == "PNG" and not image.info.keys() & {"exif", _RAW_PROFILE}:
        image.load()  # the block may stand behind the pixels
    block = image.info.get("exif") or b""
    if not block and (text := image.info.get(_RAW_PROFILE)):
        block = bytes.fromhex("".join(text.split("\n")[3:]))
    return Image.Exif() if tiff.costs_too_much(bytes(block).removeprefix(b"Exif\0\0")) else image.getexif()


def exif_orientation(image: Image.Image) -> int:
    """The orientation that EXIF tells, 1 to 8; 1, upright, where it tells none or is damaged."""
    try:
        orientation = read_exif(image).get(tiff.ORIENTATION, 1)
    except Exception:
        return 1
    return orientation if orientation in range(1, 9) else 1
