"""TIFF kinds that Pillow misreads, which page of a TIFF is the photo, and how to recognize camera raw files."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from portrait.errors import ImageReadError
from portrait.images.color import bands

if TYPE_CHECKING:
    import tifffile

Tags = dict[int, tuple[int, ...]]
"""The integer tags of one page."""

SUBFILE, OLD_SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, MAKE = 254, 255, 256, 257, 258, 259, 262, 271
ORIENTATION, SAMPLES, PLANAR, SUB_PAGES, EXTRA_SAMPLES, SAMPLE_FORMAT = 274, 277, 284, 330, 338, 339
TILE_WIDTH, TILE_HEIGHT, DEPTH = 322, 323, 32997
_TIFF_EP, _DNG_VERSION = 37398, 50706
_EXIF_PAGES = (34665, 34853, 40965)
"""The pages within an EXIF block: of the camera, of the place, and of interoperability."""
_COLOR_FILTER_ARRAY, _LINEAR_RAW = 32803, 34892
_READ = frozenset(
    [
        SUBFILE, OLD_SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, MAKE, ORIENTATION, SAMPLES, PLANAR, SUB_PAGES,
        EXTRA_SAMPLES, SAMPLE_FORMAT, TILE_WIDTH, TILE_HEIGHT, DEPTH, _TIFF_EP, _DNG_VERSION, *_EXIF_PAGES,
    ]
)  # fmt: skip
_TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 18: "Q"}
_TYPE_BYTES = {kind: struct.calcsize("=" + code) for kind, code in _TYPES.items()}
_TYPE_BYTES |= {5: 8, 7: 1, 10: 8, 11: 4, 12: 8, 17: 8}
_MAX_PAGES, _MAX_TAGS, _MAX_VALUES, _MAX_BYTES = 1000, 1000, 256, 1_500_000_000
_DEFLATE = (8, 32946, 50013)
_PIECE = 2**12
"""Bytes that are unpacked at a time, to at most 1,032 times as many."""
_OUTSIDE = (struct.error, OverflowError)
"""What `struct` raises for an offset outside the file, or larger than the machine can address."""
_RAW_STARTS = {
    b"FUJIFILMCCD-RAW": "RAF",
    b"IIU\0": "RW2",
    b"IIRO": "ORF",
    b"IIRS": "ORF",
    b"MMOR": "ORF",
    b"FOVb": "X3F",
    b"\0MRM": "MRW",
}
_RAW_MAKES = {b"NIKON": "NEF", b"SONY": "ARW", b"Canon": "CR2", b"PENTAX": "PEF", b"SAMSUNG": "SRW", b"EPSON": "ERF"}


def is_tiff(data: bytes) -> bool:
    """Whether the first bytes are those of a TIFF or BigTIFF, or of a TIFF with its version in the wrong order, which Pillow reads."""
    return data[:4] in (b"II*\0", b"MM\0*", b"MM*\0", b"II\0*", b"II+\0", b"MM\0+")


def read_pages(data: bytes) -> list[Tags]:
    """The pages of a TIFF in order, at most 1000, up to the first that is damaged or costs too much."""
    first = _first_offset(data)
    return list(_chain(data, first, set())) if first else []


def costs_too_much(data: bytes) -> bool:
    """Whether the first page of a TIFF or an EXIF block, with the EXIF pages below it, costs far more than a photo's."""
    if not is_tiff(data):
        return False
    try:
        _read_page(data, _first_offset(data), _Cost(4 * len(data)))
    except _CostsTooMuchError:
        return True
    return False


class _CostsTooMuchError(Exception):
    """Pages have far more tags than a photo's, or their tags share bytes."""


@dataclass(slots=True)
class _Cost:
    """What Pillow copies when it reads pages, which is the bytes of each tag: gigabytes for kilobytes that tags share."""

    max_bytes: int
    bytes: int = 0
    tags: int = 0

    def add(self, size: int) -> None:
        """Count a tag that takes so many bytes outside of its page."""
        self.bytes += size
        self.tags += 1
        if self.bytes > self.max_bytes or self.tags > _MAX_TAGS:
            raise _CostsTooMuchError


class _Layout(NamedTuple):
    """How the numbers of a file are stored: byte order, formats of counts and offsets, and the bytes of an entry."""

    order: str
    counts: str
    offsets: str
    entry_bytes: int


def _layout(data: bytes) -> _Layout:
    order = "<" if data[:2] == b"II" else ">"
    return _Layout(order, "Q", "Q", 20) if b"+" in data[2:4] else _Layout(order, "H", "I", 12)


def _first_offset(data: bytes) -> int:
    layout = _layout(data)
    try:
        return int(struct.unpack_from(layout.order + layout.offsets, data, 8 if layout.offsets == "Q" else 4)[0])
    except _OUTSIDE:
        return 0


def _chain(data: bytes, offset: int, visited: set[int]) -> Iterator[Tags]:
    """The pages from one on, each with the tags that are read here, up to the first that is damaged or costs too much."""
    cost = _Cost(4 * len(data))
    try:
        while offset and offset not in visited and len(visited) < _MAX_PAGES:
            visited.add(offset)
            cost.tags = 0
            page = _read_page(data, offset, cost)
            offset = _next_offset(data, offset)
            yield page
    except (_CostsTooMuchError, *_OUTSIDE):
        return


def _next_offset(data: bytes, offset: int) -> int:
    """Where the page behind one starts; 0 if it is the last. Raises what `struct` raises if the page is not all there."""
    layout = _layout(data)
    count = struct.unpack_from(layout.order + layout.counts, data, offset)[0]
    end = offset + struct.calcsize("=" + layout.counts) + layout.entry_bytes * count
    return int(struct.unpack_from(layout.order + layout.offsets, data, end)[0])


def _read_page(data: bytes, offset: int, cost: _Cost) -> Tags:
    """The tags of a page that are read here, up to the end of the file; the EXIF pages below it are only counted."""
    page = dict(_entries(data, offset, cost))
    below = [page[tag][0] for tag in _EXIF_PAGES if tag in page]
    while below:
        inner = dict(_entries(data, below.pop(), cost))
        below += [inner[tag][0] for tag in _EXIF_PAGES if tag in inner]
    return page


def _entries(data: bytes, offset: int, cost: _Cost) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The tags of one page that are read here with their values, up to the end of the file; all its tags are counted."""
    layout = _layout(data)
    with suppress(*_OUTSIDE):
        count = struct.unpack_from(layout.order + layout.counts, data, offset)[0]
        start = offset + struct.calcsize("=" + layout.counts)
        for at in range(start, start + layout.entry_bytes * count, layout.entry_bytes):
            tag, size, values = _entry(data, at, layout)
            cost.add(size)
            if values:
                yield tag, values


def _entry(data: bytes, at: int, layout: _Layout) -> tuple[int, int, tuple[int, ...]]:
    """A tag, the bytes that it takes outside of its page, and its values, if they are a few integers and read here."""
    tag, kind = struct.unpack_from(layout.order + "HH", data, at)
    count = struct.unpack_from(layout.order + layout.offsets, data, at + 4)[0]
    inside = struct.calcsize("=" + layout.offsets)
    place, size = at + 4 + inside, count * _TYPE_BYTES.get(kind, 0)
    if size > inside:
        place = struct.unpack_from(layout.order + layout.offsets, data, place)[0]
    outside = size if inside < size <= len(data) - place else 0
    if tag not in _READ or kind not in _TYPES or count > _MAX_VALUES:
        return tag, outside, ()
    try:
        return tag, outside, struct.unpack_from(f"{layout.order}{count}{_TYPES[kind]}", data, place)
    except _OUTSIDE:
        return tag, outside, ()


def raw_kind(data: bytes) -> str | None:
    """The kind of a camera raw file, such as "NEF", recognized by its bytes alone; None for anything else."""
    for start, kind in _RAW_STARTS.items():
        if data.startswith(start):
            return kind
    if data[4:12] == b"ftypcrx ":
        return "CR3"
    if data[6:14] == b"HEAPCCDR":
        return "CRW"
    if not is_tiff(data):
        return None
    return "CR2" if data[8:10] == b"CR" else _raw_kind_of_tiff(data)


def _raw_kind_of_tiff(data: bytes) -> str | None:
    pages = _all_pages(data)
    if any(_DNG_VERSION in page for page in pages):
        return "DNG"
    if not any(_TIFF_EP in page or _has_sensor_values(page) for page in pages):
        return None
    make = bytes(v for v in pages[0].get(MAKE, ()) if 0 < v < 256)
    return next((kind for start, kind in _RAW_MAKES.items() if make.startswith(start)), "raw")


def _all_pages(data: bytes) -> list[Tags]:
    """The pages in order, followed by their subpages."""
    visited: set[int] = set()
    pages = list(_chain(data, _first_offset(data), visited))
    return pages + [sub for page in pages for at in page.get(SUB_PAGES, ())[:16] for sub in _chain(data, at, visited)]


def _has_sensor_values(page: Tags) -> bool:
    return first(page, PHOTOMETRIC) in (_COLOR_FILTER_ARRAY, _LINEAR_RAW) or first(page, COMPRESSION) in (34713, 32767)


def first(page: Tags, tag: int, default: int = 1) -> int:
    """The tag's first value."""
    return page.get(tag, (default,))[0]


def stored_size(page: Tags) -> tuple[int, int]:
    """The page's width and height in whole tiles, which are decoded whole; a volume counts as its slices, one below the other."""
    width, height = first(page, WIDTH), first(page, HEIGHT) * first(page, DEPTH)
    across, down = max(1, first(page, TILE_WIDTH)), max(1, first(page, TILE_HEIGHT))
    return math.ceil(width / across) * across, math.ceil(height / down) * down


def photo_page(pages: list[Tags]) -> int:
    """The page that is the photo: the first that is not a thumbnail, preview or mask.

    Thumbnails are marked as such, or are less than half as wide as the widest page.
    """
    full = [
        i for i, page in enumerate(pages) if not first(page, SUBFILE, 0) & 0b101 and first(page, OLD_SUBFILE, 0) != 2
    ]
    full = full or list(range(len(pages)))
    widest = max((first(pages[i], WIDTH) for i in full), default=0)
    return next((i for i in full if 2 * first(pages[i], WIDTH) >= widest), 0)


def needs_decoder(page: Tags) -> bool:
    """Whether Pillow misreads the page or cannot read it.

    It fails on signed samples, planes with premultiplied alpha, deep planes, color in floats, deep gray with alpha, and gray
    of 16-bit floats or of 32 and 64 bits other than 32-bit floats.
    """
    samples, bits, kind = first(page, SAMPLES), max(page.get(BITS, (1,))), first(page, SAMPLE_FORMAT)
    if bits <= 8:
        return kind == 2 or (first(page, PLANAR) == 2 and first(page, EXTRA_SAMPLES, 0) == 1)
    if samples == 1:
        return bits == 64 or kind == 2 or (bits, kind) in ((32, 1), (16, 3))
    return samples == 2 or bits != 16 or kind != 1 or first(page, PLANAR) == 2


def decode_page(
    data: bytes, index: int, page: Tags, name: str
) -> tuple[NDArray[np.uint16], NDArray[np.uint16] | None, bytes | None]:
    """Decode a page: gray (H, W) or color (H, W, 3) uint16, alpha (H, W) or None, and the ICC profile.

    Premultiplied color is divided by its alpha.

    Raises:
        ImageReadError: the kind of TIFF is not supported.
    """
    photometric, samples = first(page, PHOTOMETRIC), first(page, SAMPLES)
    size = math.prod(stored_size(page)) * samples * max(page.get(BITS, (1,))) // 8
    if size > _MAX_BYTES:
        raise ImageReadError(
            f"{name} holds {size / 1e9:.1f} GB of samples, more than can be read; save it with 8 or 16 bits"
        )
    colors = {0: 1, 1: 1, 2: 3}.get(photometric)
    if colors is None or not colors <= samples <= 8:
        raise ImageReadError(
            _not_read(name, f"photometric {photometric} with {samples} samples of {max(page.get(BITS, (1,)))} bits")
        )
    values, icc = _samples_and_icc(data, index, name)
    if samples > 1 and first(page, PLANAR) == 2:
        values = np.moveaxis(values, 0, -1)
    values = values.reshape(first(page, HEIGHT), first(page, WIDTH), samples)
    deep = to_16_bits(values[..., :colors], max(page.get(BITS, (1,))))
    if photometric == 0:
        np.subtract(65535, deep, out=deep)
    alpha = None
    if samples > colors and (kind := first(page, EXTRA_SAMPLES, 0)) in (1, 2):
        alpha = to_16_bits(values[..., colors], max(page.get(BITS, (1,))))
        for band in bands(deep.shape) if kind == 1 else ():
            deep[band] = np.minimum(deep[band] / np.maximum(alpha[band][..., None] / 65535, 1e-4), 65535)
    return (deep[..., 0] if colors == 1 else deep), alpha, icc


def _samples_and_icc(data: bytes, index: int, name: str) -> tuple[NDArray[Any], bytes | None]:
    """The samples of a page in the file's order, and its ICC profile."""
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[index]
            if not isinstance(page, tifffile.TiffPage):
                raise ImageReadError(_not_read(name, "a page without tags"))
            _require_bounded(data, page)
            icc = page.tags.get(34675)
            return np.asarray(page.asarray(maxworkers=1)), bytes(icc.value) if icc else None
    except (ValueError, ImportError, NotImplementedError) as error:
        if isinstance(error, ImportError) or "imagecodecs" in str(error):
            what = "a compression or a number of bits that needs another library"
            raise ImageReadError(f"{_not_read(name, what)}; or pip install imagecodecs") from None
        raise


def _require_bounded(data: bytes, page: tifffile.TiffPage) -> None:
    """Refuse a strip or tile that would be unpacked to more than its samples: only the unpackers of imagecodecs have a limit.

    Raises:
        ImportError: imagecodecs is needed.
        ValueError: a strip or tile is larger than its samples.
    """
    if page.compression == 1 or find_spec("imagecodecs"):
        return
    if page.compression not in _DEFLATE:
        raise ImportError("imagecodecs")
    most = math.prod(page.chunks) * (page.dtype.itemsize if page.dtype else 1)
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        unpacking, size = zlib.decompressobj(), 0
        for at in range(offset, offset + count, _PIECE):
            size += len(unpacking.decompress(data[at : min(at + _PIECE, offset + count)]))
            if size > most:
                raise ValueError("a strip or tile unpacks to more than its samples")


def to_16_bits(values: NDArray[np.generic], bits: int) -> NDArray[np.uint16]:
    """Scale samples to 0 to 65535; floats are assumed to range to the first of 1, 255 and 65535 that holds them all."""
    if values.dtype.kind == "f":
        largest = max(
            (float(_numbers(values[band], bits).max(initial=0.0)) for band in bands(values.shape)), default=0.0
        )
        top = next((limit for limit in (1.0, 255.0, 65535.0) if largest <= limit), largest)
    else:
        top = float(2 ** (bits - (values.dtype.kind == "i")) - 1)
    deep = np.empty(values.shape, np.uint16)
    for band in bands(values.shape):
        deep[band] = np.clip(_numbers(values[band], bits) / top, 0, 1) * 65535 + 0.5
    return deep


def _numbers(values: NDArray[np.generic], bits: int) -> NDArray[np.floating]:
    """Samples as floats, with 0 for any that is not finite."""
    if values.dtype.kind != "f":
        return values.astype(np.float64 if bits > 16 else np.float32)
    return np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def _not_read(name: str, what: str) -> str:
    return f"{name} is a kind of TIFF that is not read ({what}); save it as 8-bit RGB"
