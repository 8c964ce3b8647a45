"""What a file says about its colors other than by an ICC profile: cICP, gAMA and cHRM of PNG, nclx of HEIC and AVIF, EXIF."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import ExifTags, Image

Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""CIE 1931 x and y of white, red, green and blue."""

_D65 = (0.3127, 0.3290)
BT709: Chromaticities = (*_D65, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060)
_PRIMARIES: dict[int, tuple[str, Chromaticities]] = {  # ITU-T H.273, table 2
    1: ("BT.709", BT709),
    4: ("BT.470M", (0.310, 0.316, 0.670, 0.330, 0.210, 0.710, 0.140, 0.080)),
    5: ("BT.601 625", (*_D65, 0.640, 0.330, 0.290, 0.600, 0.150, 0.060)),
    6: ("BT.601 525", (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070)),
    7: ("SMPTE 240M", (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070)),
    9: ("BT.2020", (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)),
    11: ("DCI-P3", (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)),
    12: ("Display P3", (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)),
    22: ("EBU 3213", (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077)),
}
_TRANSFERS = {4: "gamma 2.2", 5: "gamma 2.8", 8: "linear", 16: "PQ", 18: "HLG"}
"""H.273, table 3. Curves not listed here are sRGB's, or camera curves of nearly the same shape (BT.709, BT.601, BT.2020)."""
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}


@dataclass(frozen=True, slots=True)
class ColorSignal:
    """The colors that the values of a picture stand for.

    Args:
        source: What declared them, for the record: "cICP BT.2020 PQ".
        primaries: White, red, green and blue.
        transfer: "srgb", "pq", "hlg", or "gamma", the power in `gamma`.
        gamma: Exponent from values to light.
        narrow: Values from 16 to 235 of 255, as in video.
        before_profile: Takes precedence over an ICC profile (cICP, by the PNG specification).
    """

    source: str
    primaries: Chromaticities = BT709
    transfer: str = "srgb"
    gamma: float = 1.0
    narrow: bool = False
    before_profile: bool = False

    @property
    def is_srgb(self) -> bool:
        """Whether the values already are sRGB."""
        return self.primaries == BT709 and self.transfer == "srgb" and not self.narrow


ADOBE_RGB = ColorSignal(
    "EXIF Adobe RGB", (*_D65, 0.640, 0.330, 0.210, 0.710, 0.150, 0.060), "gamma", gamma=2 + 51 / 256
)
"""What cameras that are set to Adobe RGB write, often without a profile."""


def exif_signal(exif: Image.Exif) -> ColorSignal | None:
    """Adobe RGB, where EXIF says so: its interoperability index is R03 (DCF 2.0)."""
    interoperability = (
        exif.get_ifd(ExifTags.IFD.Interop) if ExifTags.IFD.Interop in exif.get_ifd(ExifTags.IFD.Exif) else {}
    )
    return ADOBE_RGB if str(interoperability.get(1, "")).strip("\0 ") == "R03" else None


def code_points(kind: str, primaries: int, transfer: int, *, narrow: bool = False) -> ColorSignal:
    """The signal that ITU-T H.273 code points stand for; unspecified or unknown ones count as sRGB."""
    name, xy = _PRIMARIES.get(primaries, ("", BT709))
    curve = {16: "pq", 18: "hlg"}.get(transfer, "gamma" if transfer in _GAMMAS else "srgb")
    words = [kind, name, _TRANSFERS.get(transfer, ""), "narrow range" if narrow else ""]
    return ColorSignal(
        source=" ".join(word for word in words if word),
        primaries=xy,
        transfer=curve,
        gamma=_GAMMAS.get(transfer, 1.0),
        narrow=narrow,
        before_profile=kind == "cICP",
    )


def png_signal(data: bytes) -> ColorSignal | None:
    """Read the color chunks of a PNG in its specification's order of precedence: cICP, sRGB, then gAMA with cHRM.

    A gamma within 5 % of 1/2.2 is sRGB's curve, as in libpng: that is how files without an sRGB chunk mean it.
    """
    chunks = dict(_png_chunks(data))
    if len(cicp := chunks.get(b"cICP", b"")) == 4:
        return code_points("cICP", cicp[0], cicp[1], narrow=cicp[3] == 0)
    if b"sRGB" in chunks or len(chunks.get(b"gAMA", b"")) != 4:
        return None
    exponent = struct.unpack(">I", chunks[b"gAMA"])[0] / 100_000
    if not 0.05 < exponent < 20:
        return None
    primaries, words = BT709, f"gAMA {exponent:g}"
    if len(chrm := chunks.get(b"cHRM", b"")) == 32:
        xy = tuple(value / 100_000 for value in struct.unpack(">8I", chrm))
        if all(xy[1::2]) and max(abs(a - b) for a, b in zip(xy, BT709, strict=True)) > 0.002:
            primaries, words = xy, f"{words} with cHRM"
    is_srgb = abs(exponent * 2.2 - 1) < 0.05
    return ColorSignal(words, primaries, "srgb" if is_srgb else "gamma", 1 / exponent)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks before the pixels."""
    at = 8
    while at + 8 <= len(data) and data[at + 4 : at + 8] != b"IDAT":
        length = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += length + 12


def png_is_whole(data: bytes) -> bool:
    """Whether every chunk of a PNG ends inside the file: OpenCV allocates whatever length a chunk claims."""
    at = 8
    while data[at + 4 : at + 8] not in (b"IEND", b""):
        at += int.from_bytes(data[at : at + 4], "big") + 12
    return at + 12 <= len(data)


def heif_signal(data: bytes) -> ColorSignal | None:
    """The nclx colors of the primary item of a HEIC or AVIF file."""
    for kind, body in _primary_properties(data):
        if kind == b"colr" and body[:4] == b"nclx" and len(body) >= 10:
            return code_points("nclx", _number(body[4:6]), _number(body[6:8]))
    return None


def avif_bits(data: bytes) -> int:
    """Bits of a sample of the primary item of an AVIF file: 8, 10 or 12."""
    flags = next((body[2] for kind, body in _primary_properties(data) if kind == b"av1C" and len(body) > 2), 0)
    return (12 if flags & 0x20 else 10) if flags & 0x40 else 8


def _primary_properties(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The properties of the primary item as (type, body)."""
    meta = next((body for kind, body in _boxes(data) if kind == b"meta"), b"")
    boxes = dict(_boxes(meta[4:]))
    primary = _number(boxes.get(b"pitm", b"")[4:])
    properties = dict(_boxes(boxes.get(b"iprp", b"")))
    listed = list(_boxes(properties.get(b"ipco", b"")))
    for index in _property_indices(properties.get(b"ipma", b""), primary):
        if 0 < index <= len(listed):
            yield listed[index - 1]


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The boxes of an ISO base media file as (type, body)."""
    at = 0
    while at + 8 <= len(data):
        size, kind, head = _number(data[at : at + 4]), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = _number(data[at + 8 : at + 16]), 16
        size = size or len(data) - at
        if size < head:
            return
        yield kind, data[at + head : at + size]
        at += size


def _property_indices(ipma: bytes, item: int) -> list[int]:
    """The properties of an item, as 1-based indices into `ipco`."""
    if len(ipma) < 8:
        return []
    id_size, index_size = 4 if ipma[0] else 2, 2 if ipma[3] & 1 else 1
    mask, at = (1 << (8 * index_size - 1)) - 1, 8
    for _ in range(_number(ipma[4:8])):
        if at + id_size >= len(ipma):
            break
        name, count = _number(ipma[at : at + id_size]), ipma[at + id_size]
        at += id_size + 1
        if name == item:
            places = range(at, at + count * index_size, index_size)
            return [_number(ipma[place : place + index_size]) & mask for place in places]
        at += count * index_size
    return []


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")
