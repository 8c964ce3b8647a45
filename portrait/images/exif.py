"""EXIF blocks, read at a bounded cost."""

from __future__ import annotations

from contextlib import suppress

from PIL import Image, _avif

from portrait.images import tiff

_PREFIX = b"Exif\0\0"
"""What may stand before the block, also several times."""
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
    return Image.Exif() if _costs_too_much(bytes(block)) else image.getexif()


def avif_costs_too_much(data: bytes) -> bool:
    """Whether an AVIF has an EXIF block like these, which Pillow reads when it opens the file."""
    with suppress(Exception):  # not an AVIF, or a damaged one
        return _costs_too_much(bytes(_avif.AvifDecoder(data, "auto", 1).get_info()[4] or b""))
    return False


def _costs_too_much(block: bytes) -> bool:
    while block.startswith(_PREFIX):
        block = block[len(_PREFIX) :]
    return tiff.costs_too_much(block)


def exif_orientation(image: Image.Image) -> int:
    """The orientation that EXIF tells, 1 to 8; 1, upright, where it tells none or is damaged."""
    try:
        orientation = read_exif(image).get(tiff.ORIENTATION, 1)
    except Exception:
        return 1
    return orientation if orientation in range(1, 9) else 1
