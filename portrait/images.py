"""Read photos of any kind into sRGB pixels; write pictures atomically, with nothing of the source's metadata."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, UnidentifiedImageError
from pillow_heif import register_heif_opener

from portrait.errors import ImageReadError, InputError, SettingsError, ShapeError, one_line
from portrait.records import RgbImage

register_heif_opener(thumbnails=False)

MAX_PIXELS = 120_000_000
"""Larger pictures are refused before they are decoded (a 108-megapixel phone still passes)."""

WRITE_FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}
COARSE_CHROMA = 1 / 48
"""Deviation of the Gaussian that leaves a picture's coarse chroma, over its larger side: what `colors` holds and judges."""
_READ_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF", "GIF", "BMP")
_USER_COMMENT, _EXIF_IFD = 0x9286, 0x8769


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Photo:
    """A photo as it was read: (H, W, 3) uint8 sRGB pixels, its path, and the SHA-256 of the file."""

    pixels: RgbImage
    path: Path
    sha256: str


def read_photo(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read a photo: orientation applied, colours in sRGB, alpha over white, first frame of an animation.

    Raises:
        ImageReadError: missing, empty, truncated, not a picture, of a kind that is not read, or larger
            than `max_pixels`. The message is one line that names the file.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except IsADirectoryError:
        raise ImageReadError(f"{path} is a folder; name the photos in it, for example {path}/*.jpg") from None
    except OSError as error:
        raise ImageReadError(f"cannot read {path}: {error.strerror or error}") from None
    if not data:
        raise ImageReadError(f"{path} is empty (0 bytes)")
    return Photo(
        pixels=decode(data, str(path), max_pixels=max_pixels), path=path, sha256=hashlib.sha256(data).hexdigest()
    )


def decode(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> RgbImage:
    """Decode the bytes of a picture file as `read_photo` does; `name` is for messages."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=_READ_FORMATS)
        except UnidentifiedImageError:
            kinds = "JPEG, PNG, WebP, TIFF, AVIF, HEIC"
            raise ImageReadError(
                f"{name} is not a picture that can be read ({kinds}), whatever its name says"
            ) from None
        except Image.DecompressionBombError:
            raise ImageReadError(_too_large(name, "far too many", max_pixels)) from None
        except Exception as error:
            raise ImageReadError(f"{name} is damaged: {one_line(error)}") from None
        if image.width * image.height > max_pixels:
            raise ImageReadError(_too_large(name, f"{image.width} x {image.height}", max_pixels))
        try:
            image.seek(0)
            image.load()
            return _to_srgb(image)
        except MemoryError:
            raise ImageReadError(f"{name} needs more memory than there is; use a smaller copy") from None
        except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...
            raise ImageReadError(f"{name} is damaged or truncated: {one_line(error)}") from None


def as_photo(picture: str | Path | Image.Image | NDArray[np.uint8] | Photo, name: str = "photo") -> Photo:
    """A photo of whatever the caller has; `name` stands for what is no file, whose `sha256` is that of its pixels.

    Raises:
        ImageReadError: as `read_photo`, or a PIL image that cannot be loaded.
        ShapeError: an array that is not (H, W, 3) uint8.
    """
    if isinstance(picture, Photo):
        return picture
    if isinstance(picture, str | Path):
        return read_photo(picture)
    if isinstance(picture, Image.Image):
        try:
            pixels = _to_srgb(picture)
        except Exception as error:  # it may be read from a file only now
            raise ImageReadError(f"{name} is damaged or truncated: {one_line(error)}") from None
    else:
        pixels = RgbImage(np.asarray(picture))
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise ShapeError(f"a photo is (H, W, 3) uint8 RGB, got {pixels.shape} {pixels.dtype}")
    return Photo(pixels=pixels, path=Path(name), sha256=pixels_sha256(pixels))


def _too_large(name: str, size: str, limit: int) -> str:
    return f"{name} has {size} pixels: more than the limit of {limit / 1e6:.0f} million; use a smaller copy"


def _to_srgb(image: Image.Image) -> RgbImage:
    """Orientation, bit depth, colour profile, transparency: everything to (H, W, 3) uint8 sRGB."""
    profile = image.info.get("icc_profile")
    with contextlib.suppress(Exception):  # a damaged EXIF block does not make the pixels any worse
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        values = np.nan_to_num(np.asarray(image, np.float64), posinf=0.0, neginf=0.0)
        ranges = (1.0, 255.0, 65535.0) if image.mode == "F" else (65535.0,) if ";16" in image.mode else (255.0, 65535.0)
        top = next((r for r in ranges if values.max() <= r), float(values.max()))
        image = Image.fromarray(np.clip(values * 255 / max(top, 1.0), 0, 255).round().astype(np.uint8))
        profile = None
    if image.mode == "P" or "transparency" in image.info:
        image = image.convert("RGBA")
    alpha = image.getchannel("A") if image.mode in ("RGBA", "LA", "PA") else None
    if alpha is not None:
        image = image.convert("RGB")
    if profile:
        image = _apply_profile(image, profile)
    image = image.convert("RGB")
    if alpha is not None:
        image = Image.composite(image, Image.new("RGB", image.size, "white"), alpha)
    return RgbImage(np.asarray(image, np.uint8).copy())


def _apply_profile(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image  # a profile that does not fit its own picture: the plain values are the better guess
    return converted or image


def resized(image: RgbImage, width: int, height: int) -> RgbImage:
    """`image` at another size; antialiased when it shrinks, bicubic when it grows."""
    if image.shape[:2] == (height, width):
        return image
    return RgbImage(np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)))


def pixels_sha256(image: np.ndarray) -> str:
    """SHA-256 of the shape and the pixels, so that two pictures can be compared across file formats."""
    return hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


def write_picture(path: str | Path, image: np.ndarray, *, parameters: str | None = None, quality: int = 95) -> Path:
    """Write PNG, JPEG or WebP by suffix, whole or not at all.

    Args:
        path: Suffix .png, .jpg, .jpeg or .webp.
        image: (H, W, 3) uint8, RGB; or (H, W, 4) with alpha, not in JPEG.
        parameters: The text that other tools read: PNG chunk `parameters`, else EXIF UserComment
            (the convention of AUTOMATIC1111's web UI).
        quality: Of JPEG and WebP, 1 to 100.

    Raises:
        InputError: the suffix is none of these, or the folder cannot be written to.
        ShapeError: the array is no picture.
    """
    path = Path(path)
    kind = {"jpeg": "jpg"}.get(path.suffix[1:].lower(), path.suffix[1:].lower())
    if kind not in WRITE_FORMATS:
        raise InputError(f"cannot write {path}: the suffix must be one of .png, .jpg, .webp")
    try:
        data = encode_picture(image, kind, parameters=parameters, quality=quality)
    except InputError as error:
        raise type(error)(f"cannot write {path}: {error}") from None
    return write_bytes(path, data)


def encode_picture(image: np.ndarray, kind: str, *, parameters: str | None = None, quality: int = 95) -> bytes:
    """The bytes of a picture file; `kind` is a key of `WRITE_FORMATS`, the rest as in `write_picture`.

    Raises:
        ShapeError: the array is no picture.
        InputError: it is too large for the kind, or has alpha and the kind has none.
    """
    if image.ndim != 3 or image.shape[2] not in (3, 4) or image.dtype != np.uint8:
        raise ShapeError(f"a picture is (H, W, 3) or (H, W, 4) uint8, got {image.shape} {image.dtype}")
    if kind == "jpg" and image.shape[2] == 4:
        raise InputError("JPEG has no transparency; use png or webp")
    options: dict[str, object] = {}
    if kind == "png":
        info = PngImagePlugin.PngInfo()
        if parameters:
            info.add_text("parameters", parameters) if parameters.isascii() else info.add_itxt("parameters", parameters)
        options["pnginfo"] = info
    else:
        options["quality"] = quality
        if kind == "jpg":
            options["subsampling"] = 0
        if parameters:
            exif = Image.Exif()
            exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = b"UNICODE\0" + parameters.encode("utf-16-be")
            options["exif"] = exif
    buffer = io.BytesIO()
    try:
        Image.fromarray(image).save(buffer, WRITE_FORMATS[kind], **options)
    except (OSError, ValueError) as error:  # more than 65,500 px in JPEG, 16,383 px in WebP
        raise InputError(f"{image.shape[1]} x {image.shape[0]} px: {one_line(error)}; use png") from None
    return buffer.getvalue()


def photos_below(folder: Path, only: Path | None = None) -> list[Path]:
    """The picture files of a folder and the folders below it, or those that a list names.

    Raises:
        SettingsError: there are none, or one that the list names is not there.
    """
    if only is not None:
        try:
            lines = [line.strip() for line in only.read_text("utf-8").splitlines()]
        except (OSError, ValueError) as error:
            raise SettingsError(f"cannot read --only {only}: {error}") from None
        found = [folder / line for line in lines if line and not line.startswith("#")]
        for path in found:
            if not path.is_file():
                raise SettingsError(f"{only} names {path}, which is not there")
    else:
        kinds = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".avif", ".heic"}
        found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in kinds and p.is_file())
    if not found:
        raise SettingsError(f"no photos in {folder}")
    return found


def write_json(path: str | Path, value: object) -> Path:
    """Write JSON, whole or not at all."""
    return write_bytes(Path(path), (json.dumps(value, indent=1) + "\n").encode())


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file atomically: a temporary file beside it, flushed to disk, then renamed over it.

    Raises:
        InputError: the folder cannot be made or written to.
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
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
