"""Fuzz the photo decoders: thousands of damaged files of every supported kind must be read, or refused in one line.

    python eval/fuzz_photos.py                        # 10,000 files, seed 1
    python eval/fuzz_photos.py --count 500 --seed 7 --kinds TIFF --keep work/found

Files are decoded in the studio's decoder process. A file is a finding if it crashes that process, hangs, raises anything but
an `ImageReadError`, or takes more memory than its pixels justify; the next file is decoded all the same. Bytes are changed
mostly near the beginning, where the structure is; parts are removed, doubled, and replaced by parts of other kinds. The exit
code is 1 if there is a finding.
"""

from __future__ import annotations

import argparse
import io
import struct
import sys
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pillow_heif
import tifffile
from numpy.random import Generator
from PIL import Image, ImageCms

from portrait.errors import ImageReadError
from portrait.files import write_bytes
from portrait.images.decoder_process import DecoderProcess

SECONDS = 20.0
"""Seconds; a small file that takes longer counts as a hang."""
MAX_PIXELS = 4_000_000
MEGABYTES = 400.0
"""Megabytes; the pixels take at most 30 bytes each, and the libraries about 100 MB."""
NUMBERS = (
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\1",
    b"\1\0\0\0",
    b"\0\0",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="files (default: 10000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default="", metavar="WORD", help="only kinds whose name contains this")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="folder to write the findings to")
    args = parser.parse_args()
    whole = samples()
    kinds = [name for name in whole if args.kinds in name]
    if not kinds:
        raise SystemExit(f"no kind has {args.kinds!r} in its name; kinds: {', '.join(whole)}")
    generator, decoder = np.random.default_rng(args.seed), DecoderProcess(SECONDS)
    for name in kinds:
        if (outcome := decoded(decoder, whole[name], name)) != "read":
            raise SystemExit(f"{name} without damage: {outcome}")
    outcomes: Counter[str] = Counter()
    slowest, failures = (0.0, ""), 0
    for number in range(args.count):
        name = kinds[number % len(kinds)]
        data, start = damaged(whole[name], list(whole.values()), generator), time.perf_counter()
        outcome = decoded(decoder, data, name)
        slowest = max(slowest, (time.perf_counter() - start, f"{name}, file {number}"))
        outcomes[outcome] += 1
        if outcome not in ("read", "refused"):
            failures += 1
            print(f"{name}, file {number}: {outcome}", flush=True)
            if args.keep:
                write_bytes(args.keep / f"{name.replace(' ', '-')}-{args.seed}-{number}", data)
    decoder.stop()
    print(
        f"{args.count} files of {len(kinds)} kinds, seed {args.seed}: {outcomes['read']} read, {outcomes['refused']} refused "
        f"in one line, {failures} found; the slowest took {slowest[0]:.1f} s ({slowest[1]})"
    )
    return 1 if failures else 0


def decoded(decoder: DecoderProcess, data: bytes, name: str) -> str:
    """The outcome of a file: "read", "refused" in one line, or a description of the finding."""
    text = ""
    try:
        decoder.decode(data, name, max_pixels=MAX_PIXELS)
    except ImageReadError as error:
        text = str(error)
    if (megabytes := peak_megabytes(decoder)) > MEGABYTES:
        decoder.stop()  # its peak would be that of the next files too
        return f"took {megabytes:.0f} MB"
    if not text:
        return "read"
    is_ours = "crashed its decoder" not in text and "takes longer than" not in text
    return "refused" if is_ours and text.startswith(name) and text.isprintable() and len(text) < 400 else repr(text)


def peak_megabytes(decoder: DecoderProcess) -> float:
    """The process's peak memory in megabytes; 0 where the system does not report it."""
    try:
        status = Path(f"/proc/{decoder.pid}/status").read_text()
    except OSError:
        return 0.0
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024


def damaged(data: bytes, others: list[bytes], generator: Generator) -> bytes:
    """A copy of the file with one to eight faults."""
    result = bytearray(data)
    for _ in range(generator.integers(1, 9)):
        if len(result) < 8:
            break
        near = min(len(result), 700) if generator.random() < 0.7 else len(result)
        at, length = int(generator.integers(near)), int(generator.integers(1, 64))
        other = others[generator.integers(len(others))]
        place = int(generator.integers(len(other)))
        kind = generator.integers(10)
        if kind < 4:
            result[at] = int(generator.integers(256))
        elif kind < 5:
            result[at] ^= 1 << int(generator.integers(8))
        elif kind < 7:
            number = NUMBERS[generator.integers(len(NUMBERS))]
            result[at : at + len(number)] = number
        elif kind < 8:
            result[at:at] = result[at : at + length]
        elif kind < 9:
            result[at : at + length] = other[place : place + length]
        elif generator.random() < 0.5:
            del result[at : at + length]
        else:
            del result[int(generator.integers(len(result))) :]
    return bytes(result)


def samples() -> dict[str, bytes]:
    """A small valid file of each kind."""
    y, x = np.mgrid[0:48, 0:64]
    values = np.stack([x * 4, y * 5, (x + y) * 2], -1).astype(np.uint8)
    deep = values.astype(np.uint16) * 257
    color = Image.fromarray(values)
    gray = color.convert("L")
    clear = color.copy()
    clear.putalpha(gray)
    return (
        pillow_samples(color, gray, clear) | png_samples(values, deep) | tiff_samples(values, deep) | heif_samples(deep)
    )


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pillow_samples(color: Image.Image, gray: Image.Image, clear: Image.Image) -> dict[str, bytes]:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    few = color.quantize(16)
    flipped = color.transpose(Image.Transpose.ROTATE_180)
    return {
        "JPEG": saved(color, "JPEG", exif=exif, icc_profile=profile),
        "JPEG gray": saved(gray, "JPEG"),
        "JPEG progressive": saved(color, "JPEG", progressive=True, subsampling=0),
        "JPEG CMYK": saved(color.convert("CMYK"), "JPEG"),
        "MPO": saved(color.copy(), "MPO", save_all=True, append_images=[flipped.copy()]),
        "WebP": saved(color, "WEBP", exif=exif, icc_profile=profile),
        "WebP lossless with alpha": saved(clear, "WEBP", lossless=True),
        "WebP animated": saved(clear, "WEBP", save_all=True, append_images=[flipped]),
        "GIF": saved(few, "GIF", transparency=3),
        "GIF animated": saved(few, "GIF", save_all=True, append_images=[flipped.quantize(8)]),
        "BMP": saved(color, "BMP"),
        "BMP with a palette": saved(few, "BMP"),
        "BMP of 1 bit": saved(color.convert("1"), "BMP"),
        "AVIF": saved(color, "AVIF", exif=exif),
        "AVIF with alpha": saved(clear, "AVIF"),
        "AVIF animated": saved(color, "AVIF", save_all=True, append_images=[flipped]),
        "TIFF by LZW": saved(color, "TIFF", compression="tiff_lzw", icc_profile=profile),
        "TIFF by JPEG": saved(color, "TIFF", compression="jpeg"),
        "TIFF by deflate with alpha": saved(clear, "TIFF", compression="tiff_adobe_deflate"),
        "TIFF of 1 bit": saved(color.convert("1"), "TIFF", compression="group4"),
        "TIFF with a palette": saved(few, "TIFF"),
        "TIFF of pages": saved(color, "TIFF", save_all=True, append_images=[gray.copy(), flipped.copy()]),
        "TIFF CMYK": saved(color.convert("CMYK"), "TIFF"),
    }


def png_samples(values: np.ndarray, deep: np.ndarray) -> dict[str, bytes]:
    color = Image.fromarray(values)
    exif = Image.Exif()
    exif[0x0112] = 8
    sixteen = bytes(cv2.imencode(".png", deep)[1])
    gray = bytes(cv2.imencode(".png", deep[..., 0])[1])
    chrm = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
    return {
        "PNG": saved(color, "PNG", exif=exif),
        "PNG with a palette": saved(color.quantize(16), "PNG", transparency=2),
        "PNG of 1 bit": saved(color.convert("1"), "PNG"),
        "PNG with gray and alpha": saved(color.convert("LA"), "PNG"),
        "APNG": saved(color, "PNG", save_all=True, append_images=[color.rotate(90)]),
        "PNG of 16 bits, PQ": with_chunk(sixteen, b"cICP", bytes((9, 16, 0, 1))),
        "PNG of 16 bits, HLG": with_chunk(sixteen, b"cICP", bytes((9, 18, 0, 0))),
        "PNG, gray of 16 bits, linear": with_chunk(gray, b"gAMA", struct.pack(">I", 100_000)),
        "PNG, gAMA with cHRM": with_chunk(with_chunk(sixteen, b"cHRM", chrm), b"gAMA", struct.pack(">I", 45455)),
    }


def with_chunk(png: bytes, kind: bytes, body: bytes) -> bytes:
    return png[:33] + struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) + png[33:]


def tiff_samples(values: np.ndarray, deep: np.ndarray) -> dict[str, bytes]:
    def written(array: np.ndarray, **options: Any) -> bytes:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, array, **options)
        return buffer.getvalue()

    floats = (deep / 65535).astype(np.float32)
    planes = np.moveaxis(deep, -1, 0).copy()
    return {
        "TIFF of 16 bits in planes": written(planes, photometric="rgb", planarconfig="separate"),
        "TIFF of 16 bits with alpha": written(
            np.dstack([deep, deep[..., :1]]), photometric="rgb", extrasamples=["assocalpha"], compression="deflate"
        ),
        "TIFF of floats": written(floats, photometric="rgb", tile=(16, 16)),
        "TIFF of 64-bit floats": written(floats.astype(np.float64), photometric="rgb", byteorder=">"),
        "TIFF of gray floats": written(floats[..., 0], photometric="minisblack"),
        "TIFF, MinIsWhite": written(deep[..., 0], photometric="miniswhite"),
        "TIFF of 32 bits": written(deep.astype(np.uint32) << 16, photometric="rgb"),
        "BigTIFF": written(values, photometric="rgb", bigtiff=True, byteorder=">"),
        "TIFF of gray and alpha": written(deep[..., :2], photometric="minisblack", extrasamples=["unassalpha"]),
    }


def heif_samples(deep: np.ndarray) -> dict[str, bytes]:
    def written(mode: str, array: np.ndarray, **options: object) -> bytes:
        buffer = io.BytesIO()
        pillow_heif.from_bytes(mode, array.shape[1::-1], array.tobytes()).save(buffer, quality=60, **options)
        return buffer.getvalue()

    two = pillow_heif.HeifFile()
    for value in (30, 200):
        two.add_from_pillow(Image.new("RGB", (64, 48), (value, 99, value)))
    buffer = io.BytesIO()
    two.save(buffer, primary_index=1)
    nclx = {"color_primaries": 9, "transfer_characteristics": 16, "matrix_coefficients": 9, "full_range_flag": 1}
    eight = (deep >> 8).astype(np.uint8)
    return {
        "HEIC": written("RGB", eight),
        "HEIC with alpha": written("RGBA", np.dstack([eight, eight[..., 0]])),
        "HEIC of 10 bits, PQ": written("RGB;16", deep, save_nclx_profile=True, **nclx),
        "HEIC of two pictures": buffer.getvalue(),
    }


if __name__ == "__main__":
    sys.exit(main())
