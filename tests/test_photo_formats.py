"""One test per row of docs/photo-formats.md: each kind of file gives the right pixels."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image, ImageCms

from portrait.errors import ImageReadError
from portrait.images import Photo, decode_photo, read_photo
from portrait.images.color import SDR_WHITE
from portrait.images.signals import heif_signal

P3_TO_SRGB = np.array([[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]])  # CSS Color 4
BT2020_TO_SRGB = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])


def ramp() -> np.ndarray:
    """(40, 64, 3) sRGB from 0 to 1: ramps of four dull colors that are inside every gamut."""
    shades = np.array([[1, 1, 1], [0.9, 0.6, 0.5], [0.5, 0.7, 0.6], [0.5, 0.55, 0.8]])
    values = np.linspace(0.1, 0.98, 64)[None, :, None] * shades[:, None, :]
    return np.repeat(values, 10, axis=0)


def light(srgb: np.ndarray) -> np.ndarray:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def pq(nits: np.ndarray) -> np.ndarray:
    power = (nits / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def in_bt2020_pq(srgb: np.ndarray, white: float = SDR_WHITE) -> np.ndarray:
    return pq(np.clip(light(srgb) @ np.linalg.inv(BT2020_TO_SRGB).T, 0, 1) * white)


def in_p3(srgb: np.ndarray) -> np.ndarray:
    linear = np.clip(light(srgb) @ np.linalg.inv(P3_TO_SRGB).T, 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def eight(values: np.ndarray) -> np.ndarray:
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)


def sixteen(values: np.ndarray) -> np.ndarray:
    return (np.clip(values, 0, 1) * 65535 + 0.5).astype(np.uint16)


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunk(png: bytes, kind: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk before its pixels."""
    return png[:33] + chunk(kind, body) + png[33:]


def png(values: np.ndarray, *chunks: tuple[bytes, bytes], **options: object) -> bytes:
    """8 or 16 bits by the dtype."""
    if values.dtype == np.uint16:
        data = cv2.imencode(".png", values[..., ::-1] if values.ndim == 3 else values)[1].tobytes()
    else:
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, "PNG", **options)
        data = buffer.getvalue()
    for kind, body in chunks:
        data = with_chunk(data, kind, body)
    return data


def read(folder: Path, data: bytes) -> Photo:
    path = folder / "photo"
    path.write_bytes(data)
    return read_photo(path)


def assert_pixels(photo: Photo, expected: np.ndarray, *, mean: float = 1.0) -> None:
    """Within `mean` of 255 on average."""
    assert photo.pixels.shape == expected.shape
    assert np.abs(photo.pixels.astype(float) - expected).mean() < mean


def gama(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(value * 100_000))


P3_CHRM = (b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))


@pytest.mark.parametrize("deep", [False, True])
def test_png_cicp_pq(tmp_path: Path, deep: bool) -> None:
    values = in_bt2020_pq(ramp())
    photo = read(tmp_path, png(sixteen(values) if deep else eight(values), (b"cICP", bytes((9, 16, 0, 1)))))
    assert_pixels(photo, eight(ramp()), mean=0.6 if deep else 1.5)
    assert photo.notes == ("colors converted to sRGB: cICP BT.2020 PQ",)


def test_png_cicp_counts_before_a_profile(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = png(eight(in_p3(ramp())), (b"cICP", bytes((12, 13, 0, 1))), icc_profile=srgb)
    assert_pixels(read(tmp_path, data), eight(ramp()))


def test_png_cicp_narrow_range(tmp_path: Path) -> None:
    data = png(eight((ramp() * 219 + 16) / 255), (b"cICP", bytes((1, 13, 0, 0))))
    assert_pixels(read(tmp_path, data), eight(ramp()))


def test_hdr_is_tone_mapped_and_says_by_what(tmp_path: Path) -> None:
    photo = read(tmp_path, png(sixteen(in_bt2020_pq(ramp(), white=1000)), (b"cICP", bytes((9, 16, 0, 1)))))
    gray = photo.pixels[5, :, 1].astype(int)
    assert (np.diff(gray) >= 0).all()  # brighter stays brighter
    assert 235 <= gray[-1] <= 255
    assert np.unique(gray[32:]).size > 12  # above 200 cd/m² on: plain clipping would leave one value
    assert gray[44] < 255  # 430 cd/m²
    assert "tone-mapped to SDR by ITU-R BT.2390 EETF" in photo.notes[0]


def test_hlg_shows_its_reference_white_as_white(tmp_path: Path) -> None:
    """75 % HLG is the white of a page (BT.2408); 50 % is 50.4 cd/m² on a display of 1000 cd/m²."""
    values = np.repeat(np.array([0.0, 0.5, 0.75])[None, :, None], 3, axis=2).repeat(8, axis=0)
    pixels = read(tmp_path, png(sixteen(values), (b"cICP", bytes((9, 18, 0, 1))))).pixels
    assert pixels[0, 0].tolist() == [0, 0, 0]
    np.testing.assert_allclose(pixels[0, 1], 137, atol=2)
    np.testing.assert_allclose(pixels[0, 2], 255, atol=1)


@pytest.mark.parametrize("deep", [False, True])
def test_png_gama(tmp_path: Path, deep: bool) -> None:
    values = light(ramp())
    assert_pixels(read(tmp_path, png(sixteen(values) if deep else eight(values), gama(1.0))), eight(ramp()))


def test_png_gama_with_chrm(tmp_path: Path) -> None:
    data = png(eight(in_p3(ramp())), gama(0.45455), P3_CHRM)
    assert_pixels(read(tmp_path, data), eight(ramp()))


@pytest.mark.parametrize("chunks", [[gama(0.45455)], [gama(1.0), (b"sRGB", b"\0")]], ids=["gAMA", "sRGB chunk"])
def test_png_srgb_stays_as_it_is(tmp_path: Path, chunks: list[tuple[bytes, bytes]]) -> None:
    photo = read(tmp_path, png(eight(ramp()), *chunks))
    np.testing.assert_array_equal(photo.pixels, eight(ramp()))
    assert photo.notes == ()


def test_png_gray_of_16_bits_with_gama(tmp_path: Path) -> None:
    gray = ramp()[..., 0]
    photo = read(tmp_path, png(sixteen(light(gray)), gama(1.0)))
    assert_pixels(photo, np.repeat(eight(gray)[..., None], 3, axis=2))


def gray_profile(gamma: float) -> bytes:
    """A gray ICC profile with a power curve (ICC.1:2001: 128 bytes of head, then the tags)."""
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    words = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"gray\0" + b"\0" * 78
    words += b"\0" * (-len(words) % 4)
    tags, body, at = [], b"", 128 + 4 + 3 * 12
    for name, data in ((b"kTRC", curve), (b"wtpt", white), (b"desc", words)):
        tags.append(name + struct.pack(">II", at + len(body), len(data)))
        body += data
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"\0" * 4, 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    head = head.ljust(36, b"\0") + b"acsp"
    head = head.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", 3) + b"".join(tags) + body


@pytest.mark.parametrize("kind", ["L", "LA", "I;16"])
def test_gray_profile(tmp_path: Path, kind: str) -> None:
    gray = ramp()[..., 0]
    stored = light(gray) ** (1 / 1.8)
    buffer = io.BytesIO()
    image = Image.fromarray(sixteen(stored) if kind == "I;16" else eight(stored))
    if kind == "LA":
        image.putalpha(255)
    assert image.mode == kind
    image.save(buffer, "PNG", icc_profile=gray_profile(1.8))
    assert_pixels(read(tmp_path, buffer.getvalue()), np.repeat(eight(gray)[..., None], 3, axis=2))


def heif(values: np.ndarray, primaries: int, transfer: int) -> bytes:
    mode = "RGB;16" if values.dtype == np.uint16 else "RGB"
    file = pillow_heif.from_bytes(mode, (values.shape[1], values.shape[0]), values.tobytes())
    buffer = io.BytesIO()
    file.save(
        buffer,
        quality=-1,
        chroma=444,
        matrix_coefficients=0,
        color_primaries=primaries,
        transfer_characteristics=transfer,
        full_range_flag=1,
        save_nclx_profile=True,
    )
    return buffer.getvalue()


def test_heic_nclx_p3(tmp_path: Path) -> None:
    photo = read(tmp_path, heif(eight(in_p3(ramp())), 12, 13))
    assert_pixels(photo, eight(ramp()))
    assert photo.notes == ("colors converted to sRGB: nclx Display P3",)


@pytest.mark.parametrize("deep", [False, True])
def test_heic_nclx_pq(tmp_path: Path, deep: bool) -> None:
    values = in_bt2020_pq(ramp())
    photo = read(tmp_path, heif(sixteen(values) if deep else eight(values), 9, 16))
    assert_pixels(photo, eight(ramp()), mean=1.0 if deep else 1.5)


def avif(values: np.ndarray, primaries: int, transfer: int) -> bytes:
    """An AVIF whose nclx box is overwritten, since Pillow writes sRGB's."""
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "AVIF", quality=100, subsampling="4:4:4")
    return with_nclx(buffer.getvalue(), primaries, transfer)


def with_nclx(avif: bytes, primaries: int, transfer: int) -> bytes:
    data = bytearray(avif)
    at = data.index(b"colrnclx") + 8
    data[at : at + 4] = struct.pack(">HH", primaries, transfer)
    return bytes(data)


@pytest.mark.parametrize(
    ("primaries", "transfer", "encode"), [(12, 13, in_p3), (9, 16, in_bt2020_pq)], ids=["P3", "PQ"]
)
def test_avif_nclx(tmp_path: Path, primaries: int, transfer: int, encode: Callable[[np.ndarray], np.ndarray]) -> None:
    assert_pixels(read(tmp_path, avif(eight(encode(ramp())), primaries, transfer)), eight(ramp()), mean=2.0)


@pytest.mark.skipif(not cv2.haveImageWriter(".avif"), reason="this OpenCV writes no AVIF")
@pytest.mark.parametrize("bits", [10, 12])
def test_avif_of_more_than_8_bits_is_converted_before_it_is_rounded(bits: int) -> None:
    values = (in_bt2020_pq(ramp()) * (2**bits - 1) + 0.5).astype(np.uint16)
    options = [cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_QUALITY, 100]
    data = cv2.imencode(".avif", np.ascontiguousarray(values[..., ::-1]), options)[1].tobytes()
    assert_pixels(decode_photo(with_nclx(data, 9, 16), "hdr.avif"), eight(ramp()), mean=0.5)


def test_a_cut_file_has_no_signal_and_no_crash() -> None:
    data = avif(eight(ramp()), 12, 13)
    assert all(heif_signal(data[:length]) is None or length > 100 for length in range(0, 400, 7))


def test_heic_primary_item_is_read_wherever_it_stands(tmp_path: Path) -> None:
    file = pillow_heif.HeifFile()
    for value in (30, 200):
        file.add_from_pillow(Image.new("RGB", (64, 64), (value, value, value)))
    file.save(tmp_path / "two.heic", primary_index=1)
    assert abs(int(read_photo(tmp_path / "two.heic").pixels[9, 9, 0]) - 200) < 4


def tiff(values: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


DEEP_TIFFS = {
    "16 bits": lambda v: tiff(sixteen(v), photometric="rgb"),
    "16 bits in planes": lambda v: tiff(sixteen(v).transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
    "8 bits in planes": lambda v: tiff(eight(v).transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
    "deflated 16 bits in planes": lambda v: tiff(
        sixteen(v).transpose(2, 0, 1), photometric="rgb", planarconfig="separate", compression="zlib"
    ),
    "float": lambda v: tiff(v.astype(np.float32), photometric="rgb"),
    "double in planes": lambda v: tiff(v.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
    "half": lambda v: tiff(v.astype(np.float16), photometric="rgb"),
    "32 bits": lambda v: tiff((v * (2**32 - 1)).astype(np.uint32), photometric="rgb"),
    "64 bits": lambda v: tiff((v * (2**63 - 1)).astype(np.uint64) * 2, photometric="rgb"),
    "signed 8 bits": lambda v: tiff((v * 127 + 0.5).astype(np.int8), photometric="rgb"),
    "big-endian BigTIFF": lambda v: tiff(sixteen(v), photometric="rgb", byteorder=">", bigtiff=True),
}


@pytest.mark.parametrize("kind", DEEP_TIFFS)
def test_tiff_color(tmp_path: Path, kind: str) -> None:
    assert_pixels(read(tmp_path, DEEP_TIFFS[kind](ramp())), eight(ramp()))


GRAY_TIFFS = {
    "8 bits": lambda v: tiff(eight(v)),
    "8 bits, MinIsWhite": lambda v: tiff(255 - eight(v), photometric="miniswhite"),
    "16 bits": lambda v: tiff(sixteen(v)),
    "16 bits, MinIsWhite": lambda v: tiff(65535 - sixteen(v), photometric="miniswhite"),
    "float": lambda v: tiff(v.astype(np.float32)),
    "float of 0 to 255": lambda v: tiff((v * 255).astype(np.float32)),
    "double": lambda v: tiff(v),
    "half": lambda v: tiff(v.astype(np.float16)),
    "32 bits": lambda v: tiff((v * (2**32 - 1)).astype(np.uint32)),
    "32 bits, big-endian": lambda v: tiff((v * (2**32 - 1)).astype(np.uint32), byteorder=">"),
    "64 bits": lambda v: tiff((v * (2**63 - 1)).astype(np.uint64) * 2),
    "signed 8 bits": lambda v: tiff((v * 127 + 0.5).astype(np.int8)),
    "signed 16 bits": lambda v: tiff((v * 32767).astype(np.int16)),
    "8 bits + alpha": lambda v: tiff(
        np.stack([eight(v), np.full_like(eight(v), 255)], -1), extrasamples=["unassalpha"]
    ),
    "16 bits + alpha": lambda v: tiff(
        np.stack([sixteen(v), np.full_like(sixteen(v), 65535)], -1), extrasamples=["unassalpha"]
    ),
}


@pytest.mark.parametrize("kind", GRAY_TIFFS)
def test_tiff_gray(tmp_path: Path, kind: str) -> None:
    gray = ramp()[..., 0]
    assert_pixels(read(tmp_path, GRAY_TIFFS[kind](gray)), np.repeat(eight(gray)[..., None], 3, axis=2))


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
def test_tiff_alpha_of_16_bits_is_laid_over_white(tmp_path: Path, kind: str) -> None:
    alpha = 0.5
    stored = ramp() * (alpha if kind == "assocalpha" else 1)
    values = np.concatenate([stored, np.full((40, 64, 1), alpha)], -1)
    planes = sixteen(values).transpose(2, 0, 1)
    data = tiff(planes, photometric="rgb", planarconfig="separate", extrasamples=[kind])
    assert_pixels(read(tmp_path, data), eight(ramp() * alpha + 1 - alpha))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_pictures_are_turned_as_shallow_ones(tmp_path: Path, orientation: int) -> None:
    tags = {"photometric": "rgb", "extratags": [(274, 3, 1, orientation, True)]}
    upright = read(tmp_path, tiff(eight(ramp()), **tags)).pixels  # by Pillow
    deep = tiff(sixteen(ramp()).transpose(2, 0, 1), planarconfig="separate", **tags)
    assert_pixels(read(tmp_path, deep), upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    linear = png(sixteen(light(ramp())), gama(1.0), (b"eXIf", exif.tobytes()[6:]))
    assert_pixels(read(tmp_path, linear), upright)


def raw_png(values: np.ndarray, color_type: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """16 bits of a color type that no library here writes."""
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, color_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize("is_gray", [False, True], ids=["color", "gray"])
@pytest.mark.parametrize("is_linear", [False, True], ids=["sRGB", "linear"])
def test_png_of_16_bits_with_a_transparent_color_is_composited_over_white(
    tmp_path: Path, is_gray: bool, is_linear: bool
) -> None:
    srgb = ramp()[..., :1].repeat(3, 2) if is_gray else ramp()
    stored, expected = sixteen(light(srgb) if is_linear else srgb), eight(srgb)
    stored[:10], expected[:10] = 12345, 255
    stored[10:12], expected[10:12] = 12346, 0  # in 8 bits the same
    chunks = [(b"tRNS", struct.pack(">H", 12345) * (1 if is_gray else 3)), *([gama(1.0)] if is_linear else [])]
    photo = read(tmp_path, raw_png(stored[..., 0] if is_gray else stored, 0 if is_gray else 2, *chunks))
    expected[10:12] = photo.pixels[10, 0]
    assert 30 < photo.pixels[10, 0, 0] < 140
    assert_pixels(photo, expected)


@pytest.mark.parametrize("length", [0x7FFFFFFF, 0x00FFFFFF])
def test_a_png_that_promises_more_than_it_has_takes_no_memory_for_it(
    monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """OpenCV would take 2 GB for 64 by 40 pixels."""
    import cv2

    data = raw_png(sixteen(light(ramp())), 2, gama(1.0))
    promising = data[:-12] + struct.pack(">I", length) + b"tEXt" + data[-12:]
    monkeypatch.setattr(cv2, "imdecode", lambda *arguments: 1 / 0)
    with contextlib.suppress(ImageReadError):
        assert_pixels(decode_photo(promising, "promising.png"), eight(ramp()), mean=3)
    with pytest.raises(ImageReadError, match="division by zero"):  # a whole one is read by it
        decode_photo(data, "whole.png")


def test_a_picture_without_pixels_is_damaged() -> None:
    data = bytearray(tiff(sixteen(ramp()).transpose(2, 0, 1), photometric="rgb", planarconfig="separate"))
    at = data.index(struct.pack("<HHII", 257, 4, 1, 40))
    data[at + 8 : at + 12] = bytes(4)
    with pytest.raises(ImageReadError, match="empty.tif is damaged"):
        decode_photo(bytes(data), "empty.tif")


def test_png_of_gray_and_alpha_of_16_bits_is_converted_before_it_is_rounded(tmp_path: Path) -> None:
    gray = ramp()[..., 0]
    values = np.dstack([sixteen(light(gray)), np.full(gray.shape, 65535)])
    photo = read(tmp_path, raw_png(values, 4, gama(1.0)))
    assert_pixels(photo, np.repeat(eight(gray)[..., None], 3, axis=2), mean=0.6)


def test_tiff_planes_of_8_bits_with_premultiplied_alpha(tmp_path: Path) -> None:
    values = np.dstack([eight(ramp() * 0.5), np.full((40, 64), 128, np.uint8)]).transpose(2, 0, 1)
    data = tiff(values, photometric="rgb", planarconfig="separate", extrasamples=["assocalpha"])
    assert_pixels(read(tmp_path, data), eight(ramp() * 0.5 + 0.5), mean=1.5)


@pytest.mark.parametrize("is_marked", [True, False])
def test_tiff_thumbnail_page_is_not_the_photo(tmp_path: Path, is_marked: bool) -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        file.write(np.zeros((10, 16, 3), np.uint8), photometric="rgb", subfiletype=int(is_marked))
        file.write(eight(ramp()), photometric="rgb")
    np.testing.assert_array_equal(read(tmp_path, buffer.getvalue()).pixels, eight(ramp()))


def test_tiff_of_several_pages_is_its_first(tmp_path: Path) -> None:
    pages = np.stack([eight(ramp()), np.zeros((40, 64, 3), np.uint8)])
    np.testing.assert_array_equal(read(tmp_path, tiff(pages, photometric="rgb")).pixels, eight(ramp()))


RAW_FILES = {
    "DNG": lambda: tiff(np.zeros((8, 8, 3), np.uint8), photometric="rgb", extratags=[(50706, 1, 4, b"\1\4\0\0", True)]),
    "NEF": lambda: tiff(np.zeros((8, 8), np.uint16), photometric=32803, extratags=[(271, 2, 0, "NIKON", True)]),
    "ARW": lambda: tiff(np.zeros((8, 8), np.uint16), photometric=32803, extratags=[(271, 2, 0, "SONY", True)]),
    "CR2": lambda: b"II*\0\x10\0\0\0CR\2\0" + b"\0" * 64,
    "CR3": lambda: b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + b"\0" * 64,
    "RAF": lambda: b"FUJIFILMCCD-RAW 0201" + b"\0" * 64,
    "ORF": lambda: b"IIRO\x08\0\0\0" + b"\0" * 64,
}


@pytest.mark.parametrize("kind", RAW_FILES)
def test_camera_raw_is_refused_with_the_way_out(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ImageReadError, match=rf"camera raw file \({kind}\).*export a JPEG or TIFF"):
        read(tmp_path, RAW_FILES[kind]())


def test_tiff_kind_that_is_not_read_says_so(tmp_path: Path) -> None:
    data = tiff(np.zeros((8, 8, 5), np.float32), photometric="separated", planarconfig="contig")
    with pytest.raises(ImageReadError, match="a kind of TIFF that is not read"):
        read(tmp_path, data)


def test_adobe_rgb_that_a_camera_says_in_exif_alone() -> None:
    to_srgb = np.array([[1.3984, -0.3984, 0], [0, 1, 0], [0, -0.0429, 1.0429]])
    adobe = eight(np.clip(light(ramp()) @ np.linalg.inv(to_srgb).T, 0, 1) ** (256 / 563))
    exif = Image.Exif()
    exif[0x8769] = {0xA005: {1: "R03"}}
    buffer = io.BytesIO()
    Image.fromarray(adobe).save(buffer, "JPEG", quality=100, subsampling=0, exif=exif)
    photo = decode_photo(buffer.getvalue(), "anna.jpg")
    assert_pixels(photo, eight(ramp()))
    assert photo.notes == ("colors converted to sRGB: EXIF Adobe RGB",)


def test_mpo_is_its_first_picture(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (40, 40), color) for color in ((200, 40, 30), (20, 30, 90)))
    first.save(tmp_path / "x.mpo", save_all=True, append_images=[second], quality=95)
    np.testing.assert_allclose(read_photo(tmp_path / "x.mpo").pixels[9, 9].astype(int), (200, 40, 30), atol=4)


def encoded_samples() -> list[bytes]:
    values = eight(ramp())
    samples = [
        png(values, (b"cICP", bytes((9, 16, 0, 1)))),
        png(sixteen(ramp()), gama(1.0), P3_CHRM),
        heif(values, 12, 13),
        avif(values, 12, 13),
        *(encode(ramp()) for encode in DEEP_TIFFS.values()),
        *(encode(ramp()[..., 0]) for encode in GRAY_TIFFS.values()),
        RAW_FILES["DNG"](),
    ]
    for kind in ("JPEG", "WEBP", "GIF", "BMP"):
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, kind)
        samples.append(buffer.getvalue())
    return samples


def test_a_bigtiff_whose_offsets_no_machine_can_count_is_read_or_refused() -> None:
    data = tiff(eight(ramp()), photometric="rgb", bigtiff=True)
    for at in range(8, 300, 4):
        with contextlib.suppress(ImageReadError):
            decode_photo(data[:at] + b"\xff" * 8 + data[at + 8 :], "far.tif")


def test_a_mutated_file_is_read_or_refused_in_one_line() -> None:
    """With bytes changed, mostly in the header, or the end cut off, only `ImageReadError` is raised."""
    generator = np.random.default_rng(5)
    read, messages = 0, []
    for data in encoded_samples():
        for _ in range(25):
            mutated = bytearray(data)
            for _ in range(generator.integers(1, 6)):
                place = generator.integers(len(data) if generator.random() < 0.3 else min(len(data), 600))
                mutated[place] = generator.integers(256)
            if generator.random() < 0.2:
                del mutated[generator.integers(len(mutated)) :]
            try:
                decode_photo(bytes(mutated), "mutated", max_pixels=1_000_000)
                read += 1
            except ImageReadError as error:
                messages.append(str(error))
    assert not [message for message in messages if "\n" in message]
    assert min(read, len(messages)) > 50
