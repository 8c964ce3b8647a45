"""Write pictures and other files atomically, without the source's metadata; resize pictures and hash their pixels."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from portrait.errors import InputError, ShapeError, one_line
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


def write_json(path: str | Path, value: object) -> Path:
    """Write JSON, completely or not at all."""
    return write_bytes(Path(path), (json.dumps(value, indent=1) + "\n").encode())


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file atomically: a temporary file beside it, flushed to disk, then renamed over it.

    Raises:
        InputError: the folder cannot be made or written to.
    """
    with _written_beside(path, data) as temporary:
        os.replace(temporary, path)
    return path


def write_new(path: Path, data: bytes) -> Path:
    """Write a file under its name or, if a file with other content has it, under the next free number.

    Processes that write at the same time never get the same name; the file appears completely or not at all.

    Raises:
        InputError: the folder cannot be made or written to.
    """
    with _written_beside(path, data) as temporary:
        for number in count(1):
            place = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
            if _take_name(temporary, place) or _holds(place, data):
                return place
    raise AssertionError("counting has no end")


@contextmanager
def _written_beside(path: Path, data: bytes) -> Iterator[str]:
    """Write a temporary file beside `path`, flushed to disk, which is deleted after the block.

    Raises:
        InputError: it cannot be written or renamed.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            yield temporary
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None


def _take_name(file: str, place: Path) -> bool:
    """Give a file a name that is free; return False if it is taken."""
    try:
        os.link(file, place)
    except FileExistsError:
        return False
    except (
        OSError
    ):  # no hard links on this file system, such as exFAT: claim the name first, then replace it by the file
        try:
            place.touch(exist_ok=False)
        except FileExistsError:
            return False
        os.replace(file, place)
    return True


def _holds(file: Path, data: bytes) -> bool:
    try:
        return file.is_file() and file.stat().st_size == len(data) and file.read_bytes() == data
    except OSError:
        return False


def leftovers(folder: Path) -> list[Path]:
    """Unfinished files that `write_bytes` left in a folder when its process was killed, sorted."""
    try:
        return sorted(path for path in folder.iterdir() if re.fullmatch(r"\..+\.[a-z0-9_]{8}", path.name))
    except OSError:  # not a folder
        return []


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
