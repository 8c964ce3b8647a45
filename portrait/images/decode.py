"""Read photos of any kind as sRGB pixels."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from pillow_heif import open_heif, register_heif_opener

import portrait.images.tiff as tiff
from portrait.errors import ImageReadError, ShapeError, one_line
from portrait.images.color import TONE_MAPPING, apply_profile, deep_to_srgb, signal_to_srgb
from portrait.images.exif import avif_costs_too_much, exif_orientation, read_exif
from portrait.images.signals import ColorSignal, avif_bits, exif_signal, heif_signal, png_is_whole, png_signal
from portrait.images.write import pixels_sha256
from portrait.paths import require_regular_file
from portrait.records import RgbImage

register_heif_opener(thumbnails=False)

MAX_PIXELS = 120_000_000
"""Larger pictures are refused before they are decoded (a 108-megapixel phone still passes)."""
MAX_RATIO = 1000
"""Of a picture's sides: decoders take memory for whole rows, and what looks for faces shrinks the long side."""
BYTES_PER_PIXEL = 30
"""Of memory that decoding takes at most, beside the file."""
MAX_SCANS = 200
"""Of a JPEG; encoders write up to about 20."""
MAX_SCANNED = 30 * MAX_PIXELS
"""Pixels of a JPEG times its scans: so many take seconds."""
MAX_SEGMENTS = 10_000
"""Of a JPEG; photos have dozens, or hundreds if a depth map is stored in their metadata."""
READ_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF", "GIF", "BMP", "DIB")
_JPEG_MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")
"""All markers but those within the data of a scan and those without a length."""
_ORIENTATIONS: dict[int, Callable[[NDArray[np.uint16]], NDArray[np.uint16]]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
"""EXIF orientation -> function that makes an array upright."""
_TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The same for pictures."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Photo:
    """A photo as it was read: (H, W, 3) uint8 sRGB pixels, its path, and the SHA-256 of the file.

    `notes` say what decoding did beyond the usual, such as converting colors or tone-mapping HDR. `turned` is how many
    degrees clockwise the photo was turned after it was read.
    """

    pixels: RgbImage
    path: Path
    sha256: str
    notes: tuple[str, ...] = ()
    turned: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Decoded:
    """(H, W, 3) uint8 sRGB pixels, their opacity (None: fully opaque), and what decoding did beyond the usual."""

    pixels: RgbImage
    alpha: Image.Image | None = None
    notes: tuple[str, ...] = ()

    def over(self, gray: int) -> RgbImage:
        """The pixels composited over a gray backdrop."""
        if self.alpha is None:
            return self.pixels if self.pixels.flags.writeable else RgbImage(self.pixels.copy())
        image = Image.fromarray(self.pixels)
        return RgbImage(
            np.asarray(Image.composite(image, Image.new("RGB", image.size, (gray,) * 3), self.alpha)).copy()
        )


def read_photo(path: str | Path, *, backdrop: int = 255) -> Photo:
    """Read a photo: orientation applied, colors in sRGB, first frame of an animation, transparency over `backdrop`.

    That gray, 0 to 255, is white, but black for masks, whose transparent parts are not selected.

    Raises:
        ImageReadError: missing, empty, truncated, not a picture, of an unsupported kind, or larger than `MAX_PIXELS`.
            The message is one line that names the file.
    """
    return decode_photo(read_file(Path(path)), path, backdrop=backdrop)


def read_picture(path: Path) -> NDArray[np.uint8]:
    """The pixels of a picture as it was written: (H, W, 3) uint8, or (H, W, 4) where it has alpha.

    Raises:
        ImageReadError: as `read_photo`.
    """
    with _memory_error_named(str(path)):
        decoded = _decode(read_file(path), str(path), MAX_PIXELS)
        return decoded.pixels if decoded.alpha is None else np.dstack([decoded.pixels, np.asarray(decoded.alpha)])


def read_file(path: Path) -> bytes:
    """The bytes of a photo's file.

    Raises:
        ImageReadError: it is not a file, or cannot be read; the message is one line that names it.
    """
    try:
        require_regular_file(path)
        return path.read_bytes()
    except IsADirectoryError:
        raise ImageReadError(f"{path} is a folder; name the photos in it, for example {path}/*.jpg") from None
    except OSError as error:
        raise ImageReadError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError:  # a zero byte
        raise ImageReadError(f"{str(path)!r} is not a valid file name") from None


def decode_photo(
    data: bytes, path: str | Path, *, name: str = "", max_pixels: int = MAX_PIXELS, backdrop: int = 255
) -> Photo:
    """Decode the bytes of a photo's file; `name` replaces the path in messages.

    Raises:
        ImageReadError: as `read_photo`.
    """
    name = name or str(path)
    if not data:
        raise ImageReadError(f"{name} is empty (0 bytes)")
    with _memory_error_named(name):
        decoded = _decode(data, name, max_pixels)
        pixels = decoded.over(backdrop)
    if not pixels.size:
        raise ImageReadError(f"{name} is damaged: it has no pixels")
    return Photo(pixels=pixels, path=Path(path), sha256=hashlib.sha256(data).hexdigest(), notes=decoded.notes)


@contextlib.contextmanager
def _memory_error_named(name: str) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise ImageReadError(f"{name} needs more memory than there is for a photo; use a smaller copy") from None


def _decode(data: bytes, name: str, max_pixels: int) -> _Decoded:
    if kind := tiff.raw_kind(data):
        raise ImageReadError(
            f"{name} is a camera raw file ({kind}), which is not read: develop it in a photo program "
            "(darktable, RawTherapee, the camera's own) and export a JPEG or TIFF"
        )
    pages = tiff.read_pages(data) if tiff.is_tiff(data) else []
    if tiff.is_tiff(data) and not pages:
        raise ImageReadError(f"{name} is damaged or truncated: it has no page that can be read")
    page = tiff.photo_page(pages)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if pages:
                _check_size(name, *tiff.stored_size(pages[page]), max_pixels)
            if pages and (tiff.needs_decoder(pages[page]) or data[:4] == b"MM\0+"):
                return _decode_tiff_page(data, page, pages[page], name)
            image = open_picture(data, name, max_pixels)
            if image.format != "HEIF":  # which has already selected the primary item, wherever it is stored
                image.seek(page)
                _check_size(name, image.width, image.height, max_pixels)
            image.load()
            return _picture_to_srgb(image, data)
        except (ImageReadError, MemoryError):
            raise
        except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...
            raise ImageReadError(f"{name} is damaged or truncated: {one_line(error)}") from None


def open_picture(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open a picture without decoding it, unless that would cost more than a photo does.

    Raises:
        ImageReadError: it is not a picture, or has too many pixels, scans, segments or tags.
    """
    scans = _scans(data, name)
    if tiff.costs_too_much(data) or (data[4:8] == b"ftyp" and avif_costs_too_much(data)):
        raise ImageReadError(f"{name} has too many tags, or tags that share their bytes, as in no photo; save it again")
    if tiff.is_tiff(data) and (pages := tiff.read_pages(data)):
        _check_size(name, *tiff.stored_size(pages[0]), max_pixels)
    image = _opened(data, name, max_pixels)
    _check_size(name, image.width, image.height, max_pixels)
    if scans * image.width * image.height > MAX_SCANNED:
        raise ImageReadError(f"{name} has {scans} scans, which no photo of its size has; save it again")
    return image


class _Jpeg(JpegImageFile):
    """A JPEG whose EXIF block Pillow does not read when it opens it, but `read_exif` after a check.

    Nor does it read the index of other pictures in the file, of which the first is the photo.
    """

    def _read_dpi_from_exif(self) -> None:
        """A photo's dots per inch say nothing."""


def _opened(data: bytes, name: str, max_pixels: int) -> Image.Image:
    try:
        is_jpeg = data.startswith(b"\xff\xd8\xff")
        return _Jpeg(io.BytesIO(data)) if is_jpeg else Image.open(io.BytesIO(data), formats=READ_FORMATS)
    except UnidentifiedImageError:
        if tiff.is_tiff(data):
            raise ImageReadError(f"{name} is a kind of TIFF that is not read; save it as 8-bit RGB") from None
        if data[4:11] == b"ftypavi":
            raise ImageReadError(f"{name} is damaged or truncated: no picture in the AVIF") from None
        kinds = "JPEG, PNG, WebP, TIFF, AVIF, HEIC, GIF, BMP"
        raise ImageReadError(f"{name} is not a picture that can be read ({kinds})") from None
    except Image.DecompressionBombError:
        raise ImageReadError(_too_large(name, "far too many", max_pixels)) from None
    except Exception as error:
        raise ImageReadError(f"{name} is damaged: {one_line(error)}") from None


def _scans(data: bytes, name: str) -> int:
    """Count the scans of a JPEG, and refuse one with too many of them or of segments.

    A few bytes of either cost far more time than bytes of pixels: a scan is a pass over the whole picture. Only the picture's own count: not those of previews in its header, nor
    anything in a video that follows it.
    """
    if data[:2] != b"\xff\xd8":
        return 0
    scans, segments, at = 0, 0, 2
    while (marker := _JPEG_MARKER.search(data, at)) and marker[1] != b"\xd9":
        segments += 1
        scans += marker[1] == b"\xda"
        if scans > MAX_SCANS or segments > MAX_SEGMENTS:
            limit = f"{MAX_SCANS} scans" if scans > MAX_SCANS else f"{MAX_SEGMENTS} segments"
            raise ImageReadError(f"{name} has more than {limit}, which no photo has; save it again")
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return scans


def _check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageReadError(_too_large(name, f"{width} x {height}", max_pixels))
    if max(width, height) > MAX_RATIO * max(1, min(width, height)):
        raise ImageReadError(f"{name} has {width} x {height} pixels: far too narrow; use a part of it")


def _too_large(name: str, size: str, limit: int) -> str:
    return f"{name} has {size} pixels: more than the limit of {limit / 1e6:.0f} million; use a smaller copy"


def turned(photo: Photo, degrees: int) -> Photo:
    """Turn the photo clockwise by a multiple of 90 degrees."""
    if not degrees % 360:
        return photo
    pixels = np.ascontiguousarray(np.rot90(photo.pixels, -degrees // 90))
    return replace(photo, pixels=RgbImage(pixels), turned=(photo.turned + degrees) % 360)


def as_photo(picture: str | Path | Image.Image | NDArray[np.uint8] | Photo) -> Photo:
    """Make a photo of a path, PIL image or array; what is not a file is called "photo", and its `sha256` is of its pixels.

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
            pixels = _picture_to_srgb(picture, b"").over(255)
        except Exception as error:  # Pillow may read the file only now
            raise ImageReadError(f"photo is damaged or truncated: {one_line(error)}") from None
    else:
        pixels = RgbImage(np.asarray(picture))
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise ShapeError(f"a photo is (H, W, 3) uint8 RGB, got {pixels.shape} {pixels.dtype}")
    return Photo(pixels=pixels, path=Path("photo"), sha256=pixels_sha256(pixels))


def _picture_to_srgb(image: Image.Image, data: bytes) -> _Decoded:
    """Convert an open picture to upright 8-bit sRGB, whatever its orientation, bit depth and colors; `data` is its file's."""
    signal, profile = _signal_of(image, data), image.info.get("icc_profile")
    if signal is not None and (signal.before_profile or not profile):
        return _converted(image, data, signal)
    tags = getattr(image, "tag_v2", {})
    opaque = _opaque_of_16_bits(image, data)
    image = _upright(image)
    if image.mode.startswith(("I", "F")):
        return _Decoded(deep_to_srgb(_deep_gray(image, tags), profile), opaque)
    image, alpha = _without_alpha(image)
    image = apply_profile(image, profile) if profile else image
    return _Decoded(RgbImage(np.asarray(_as_rgb(image), np.uint8)), opaque or alpha)


def _as_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB; no copy is made if it is RGB already."""
    return image if image.mode == "RGB" else image.convert("RGB")


def _converted(image: Image.Image, data: bytes, signal: ColorSignal) -> _Decoded:
    """Convert colors that the file declares without a profile to sRGB."""
    deep, opaque = _deep_values(image, data), _opaque_of_16_bits(image, data)
    orientation = exif_orientation(image)
    tags = getattr(image, "tag_v2", {})
    image = _upright(image)
    alpha = None
    if image.mode.startswith(("I", "F")):
        values: NDArray[Any] = np.repeat(_deep_gray(image, tags)[..., None], 3, axis=2)
    else:
        image, alpha = _without_alpha(image)
        if deep is not None:
            values = np.ascontiguousarray(_ORIENTATIONS.get(orientation, np.asarray)(deep))
        else:
            values = np.asarray(_as_rgb(image), np.uint8)
    pixels, peak = signal_to_srgb(values, signal)
    return _Decoded(pixels, opaque or alpha, _notes(signal, peak))


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; a damaged EXIF block is ignored, as the pixels are still good."""
    method = _TRANSPOSED.get(exif_orientation(image))
    return image if method is None else image.transpose(method)


def _without_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Split the picture into its colors and its opacity; None if it is fully opaque."""
    if image.mode == "P" or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode not in ("RGBA", "LA", "PA"):
        return image, None
    return image.getchannel("L") if image.mode == "LA" else image.convert("RGB"), image.getchannel("A")


def _signal_of(image: Image.Image, data: bytes) -> ColorSignal | None:
    """The colors that the file declares without a profile; None if they are sRGB or not declared."""
    if not data:
        return None
    signal: ColorSignal | None = None
    if image.format == "PNG":
        signal = png_signal(data)
    elif image.format in ("HEIF", "AVIF"):
        signal = heif_signal(data)
    elif image.format == "JPEG" and image.mode == "RGB":
        with contextlib.suppress(Exception):  # a damaged EXIF block
            signal = exif_signal(read_exif(image))
    return None if signal is None or (signal.is_srgb and not signal.before_profile) else signal


def _opaque_of_16_bits(image: Image.Image, data: bytes) -> Image.Image | None:
    """The opacity, upright, of a 16-bit PNG with one transparent color, which Pillow would look for in 8 bits."""
    key = image.info.get("transparency")
    if key is None or image.format != "PNG" or data[24:25] != b"\x10":
        return None
    del image.info["transparency"]
    color = _deep_values(image, data)
    differs = np.asarray(image) != key if color is None else (color != np.asarray(key)).any(-1)
    opaque = Image.fromarray(np.where(differs, np.uint8(255), np.uint8(0)))
    method = _TRANSPOSED.get(exif_orientation(image))
    return opaque if method is None else opaque.transpose(method)


def _deep_values(image: Image.Image, data: bytes) -> NDArray[np.uint16] | None:
    """(H, W, 3) uint16 values of a deep picture of which Pillow keeps only 8 bits; None for any other."""
    if image.format == "HEIF" and image.info.get("bit_depth", 8) > 8:
        heif = open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
        values = np.asarray(heif[heif.primary_index])
        bits = int(image.info["bit_depth"])
        return tiff.to_16_bits(values[..., :3] >> (16 - bits), bits) if values.ndim == 3 else None
    if image.format == "PNG" and data[24] == 16 and data[25] in (2, 4, 6) and png_is_whole(data):
        return _decoded_by_opencv(data, image.size)
    if image.format == "AVIF" and (bits := avif_bits(data)) > 8:
        deep = _decoded_by_opencv(data, image.size)
        return None if deep is None else tiff.to_16_bits(deep, bits)
    return None


def _decoded_by_opencv(data: bytes, size: tuple[int, int]) -> NDArray[np.uint16] | None:
    """(H, W, 3) uint16 in the file's own scale; None where OpenCV cannot read it, or not as color of that size."""
    import cv2

    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if bgr is None or bgr.dtype != np.uint16 or bgr.ndim != 3 or bgr.shape[1::-1] != size:
        return None
    return np.asarray(bgr[..., 2::-1], np.uint16)


def _deep_gray(image: Image.Image, tags: Mapping[int, Any]) -> NDArray[np.uint16]:
    """(H, W) uint16 values of a deep gray picture, inverted if the TIFF's `tags` say that 0 means white."""
    values = np.asarray(image)
    bits = int((tags.get(tiff.BITS) or (0,))[0])
    if image.mode == "F":
        deep = tiff.to_16_bits(values, 32)
    else:
        bits = bits or (16 if ";16" in image.mode or values.max(initial=0) > 255 else 8)
        positive = np.maximum(values, 0)
        deep = tiff.to_16_bits(positive.view(np.uint32) if values.dtype == np.int32 else positive, bits)
    return 65535 - deep if tags.get(tiff.PHOTOMETRIC) == 0 else deep


def _decode_tiff_page(data: bytes, index: int, page: tiff.Tags, name: str) -> _Decoded:
    values, alpha, profile = tiff.decode_page(data, index, page, name)
    upright = _ORIENTATIONS.get(tiff.first(page, tiff.ORIENTATION), np.asarray)
    pixels = deep_to_srgb(np.ascontiguousarray(upright(values)), profile)
    return _Decoded(pixels, None if alpha is None else Image.fromarray((upright(alpha) >> 8).astype(np.uint8)))


def _notes(signal: ColorSignal, peak: float) -> tuple[str, ...]:
    if signal.is_srgb:
        return ()
    toned = f", HDR of {peak:.0f} cd/m² tone-mapped to SDR by {TONE_MAPPING}" if peak else ""
    return (f"colors converted to sRGB: {signal.source}{toned}",)
