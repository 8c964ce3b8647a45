"""Write pictures without the source's metadata, resize them and hash their pixels."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from portrait.errors import InputError, ShapeError, one_line
from portrait.files import write_bytes
from portrait.records import RgbImage

WRITE_FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tif": "TIFF"}
COARSE_CHROMA = 1 / 48
"""Sigma of the Gaussian that extracts a picture's coarse chroma, as a share of its larger side; `colors` keeps and checks
that chroma."""
_USER_COMMENT, _EXIF_IFD, _IMAGE_DESCRIPTION, _XMP = 0x9286, 0x8769, 270, 700


def resized(image: RgbImage, width: int, height: int) -> RgbImage:
    """Resize `image`: antialiased when it shrinks, bicubic when it grows."""
    if image.shape[:2] == (height, width):
        return image
    return RgbImage(np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)))


def thumbnail(image: RgbImage, side: int = 320) -> RgbImage:
    """`image` with its longer side at `side` pixels, never enlarged."""
    scale = min(1.0, side / max(image.shape[:2]))
    return resized(image, max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))


def pixels_sha256(image: np.ndarray) -> str:
    """SHA-256 of the shape and the pixels, so that two pictures can be compared across file formats."""
    return hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


def kind_of(path: str | Path) -> str:
    """The key of `WRITE_FORMATS` for a file's suffix.

    Raises:
        InputError: no format has this suffix.
    """
    suffix = Path(path).suffix[1:].lower()
    kind = {"jpeg": "jpg", "tiff": "tif"}.get(suffix, suffix)
    if kind not in WRITE_FORMATS:
        raise InputError(
            f"cannot write {path}: the suffix must be one of {', '.join(f'.{key}' for key in WRITE_FORMATS)}"
        )
    return kind


def write_picture(
    path: str | Path, image: np.ndarray, *, parameters: str | None = None, xmp: str | None = None, quality: int = 95
) -> Path:
    """Write PNG, JPEG, WebP or TIFF by suffix, completely or not at all.

    Args:
        path: Suffix .png, .jpg, .jpeg, .webp, .tif or .tiff.
        image: (H, W, 3) uint8, RGB; or (H, W, 4) with alpha, not in JPEG.
        parameters: The text that other tools read: PNG chunk `parameters`, else EXIF UserComment
            (the convention of AUTOMATIC1111's web UI), and ImageDescription in TIFF.
        xmp: An XMP packet.
        quality: Of JPEG and WebP, 1 to 100.

    Raises:
        InputError: the suffix is none of these, or the folder cannot be written to.
        ShapeError: the array is not a picture.
    """
    path = Path(path)
    kind = kind_of(path)
    try:
        data = encode_picture(image, kind, parameters=parameters, xmp=xmp, quality=quality)
    except InputError as error:
        raise type(error)(f"cannot write {path}: {error}") from None
    return write_bytes(path, data)


def encode_picture(
    image: np.ndarray, kind: str, *, parameters: str | None = None, xmp: str | None = None, quality: int = 95
) -> bytes:
    """Encode a picture file as bytes; `kind` is a key of `WRITE_FORMATS`, the rest as in `write_picture`.

    Raises:
        ShapeError: the array is not a picture.
        InputError: it is too large for the kind, or has alpha and the kind has none.
    """
    if image.ndim != 3 or image.shape[2] not in (3, 4) or image.dtype != np.uint8:
        raise ShapeError(f"a picture is (H, W, 3) or (H, W, 4) uint8, got {image.shape} {image.dtype}")
    if kind == "jpg" and image.shape[2] == 4:
        raise InputError("JPEG has no transparency; use png or webp")
    texts = _png_texts(parameters, xmp) if kind == "png" else _exif_and_xmp(kind, parameters, xmp)
    compression: dict[str, dict[str, object]] = {
        "png": {"compress_level": 4},  # half the time of the default level 6, for files that are 0 to 6 % larger
        "jpg": {"quality": quality, "subsampling": 0},
        "webp": {"quality": quality},
        "tif": {"compression": "tiff_adobe_deflate"},
    }
    buffer = io.BytesIO()
    try:
        Image.fromarray(image).save(buffer, WRITE_FORMATS[kind], **compression[kind], **texts)
    except (OSError, ValueError) as error:  # more than 65,500 px in JPEG, 16,383 px in WebP
        raise InputError(f"{image.shape[1]} x {image.shape[0]} px: {one_line(error)}; use png") from None
    return buffer.getvalue()


def _png_texts(parameters: str | None, xmp: str | None) -> dict[str, object]:
    info = PngImagePlugin.PngInfo()
    if parameters:
        info.add_text("parameters", parameters) if parameters.isascii() else info.add_itxt("parameters", parameters)
    if xmp:
        info.add_itxt("XML:com.adobe.xmp", xmp)
    return {"pnginfo": info}


def _exif_and_xmp(kind: str, parameters: str | None, xmp: str | None) -> dict[str, object]:
    options: dict[str, object] = {}
    exif = Image.Exif()
    if parameters or kind == "tif":
        options["exif"] = exif
    if parameters and kind == "tif":
        exif[_IMAGE_DESCRIPTION] = parameters.encode()  # as str, Pillow would write `?` for anything but ASCII
    elif parameters:
        exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = b"UNICODE\0" + parameters.encode("utf-16-be")
    if xmp and kind == "tif":
        exif[_XMP] = xmp.encode()
    elif xmp:
        options["xmp"] = xmp.encode()
    return options
