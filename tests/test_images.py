"""Photos of every kind are read as sRGB pixels; pictures are written completely, and without the source's metadata."""

from __future__ import annotations

import io
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from portrait.errors import ImageReadError, InputError, ShapeError
from portrait.files import write_bytes, write_new
from portrait.images import pixels_sha256, read_photo, write_picture

RED = (200, 40, 30)


def two_halves(mode: str = "RGB", size: tuple[int, int] = (48, 32)) -> Image.Image:
    """Left half red, right half dark blue."""
    image = Image.new("RGB", size, RED)
    image.paste((20, 30, 90), (size[0] // 2, 0, *size))
    return image.convert(mode)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF", "BMP", "DIB", "GIF"])
def test_each_format_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"photo.{kind.lower()}"
    two_halves().save(path, kind, **({} if kind in ("GIF", "BMP", "DIB", "TIFF", "PNG") else {"quality": 95}))
    pixels = read_photo(path).pixels
    assert pixels.shape == (32, 48, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels[16, 8].astype(int), RED, atol=12)


def test_the_suffix_does_not_matter(tmp_path: Path) -> None:
    two_halves().save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(tmp_path / "x.jpg")
    assert read_photo(tmp_path / "x.jpg").pixels.shape == (32, 48, 3)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn clockwise
    two_halves().save(tmp_path / "turned.jpg", exif=exif, quality=95)
    pixels = read_photo(tmp_path / "turned.jpg").pixels
    assert pixels.shape == (48, 32, 3)
    np.testing.assert_allclose(pixels[8, 16].astype(int), RED, atol=12)


def test_a_colour_profile_is_converted_to_srgb(tmp_path: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    srgb = ImageCms.createProfile("sRGB")
    in_lab = ImageCms.profileToProfile(two_halves(), srgb, lab, outputMode="LAB")
    assert in_lab is not None
    in_lab.save(tmp_path / "lab.tif", icc_profile=lab.tobytes())
    pixels = read_photo(tmp_path / "lab.tif").pixels
    np.testing.assert_allclose(pixels[16, 8].astype(int), RED, atol=6)


def test_a_broken_profile_does_not_lose_the_photo(tmp_path: Path) -> None:
    two_halves().save(tmp_path / "x.png", icc_profile=b"not a profile")
    np.testing.assert_array_equal(read_photo(tmp_path / "x.png").pixels[16, 8], RED)


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    image = two_halves("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 24, 16))
    image.save(tmp_path / "a.png")
    pixels = read_photo(tmp_path / "a.png").pixels
    np.testing.assert_array_equal(pixels[4, 4], (255, 255, 255))
    np.testing.assert_array_equal(pixels[24, 4], RED)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "CMYK", "I;16", "F"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "m.tif"
    if mode == "I;16":
        Image.fromarray(np.full((32, 48), 40_000, np.uint16)).save(path)
        expected = 156
    elif mode == "F":  # the usual range of a float picture is 0 to 1
        Image.fromarray(np.full((32, 48), 0.5, np.float32)).save(path)
        expected = 128
    else:
        two_halves(mode).save(path)
        expected = None
    pixels = read_photo(path).pixels
    assert pixels.shape == (32, 48, 3)
    assert pixels.dtype == np.uint8
    if expected is not None:
        assert abs(int(pixels[3, 3, 0]) - expected) <= 1
    else:
        assert pixels[:, :24].mean() > pixels[:, 24:].mean()  # red stays lighter than dark blue


def test_the_first_frame_of_an_animation_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (40, 40), c) for c in ("red", "green", "blue")]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    np.testing.assert_array_equal(read_photo(tmp_path / "a.webp").pixels[20, 20], (255, 0, 0))


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + body
        + struct.pack(">I", zlib.crc32(body))
        + b"\0\0\0\x10IDAT"
        + b"\0" * 20
    )


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("empty.jpg", b"", "is empty"),
        ("text.jpg", b"hello, I am not a photo", "is not a picture"),
        ("page.png", b"<html><body>404</body></html>", "is not a picture"),
        ("bomb.png", png_header(60_000, 60_000), "far too many pixels: more than the limit of 120 million"),
        ("large.png", png_header(12_000, 11_000), "12000 x 11000 pixels"),
    ],
)
def test_bad_files_give_one_clear_line(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ImageReadError, match=says) as caught:
        read_photo(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
def test_a_truncated_file_is_refused(tmp_path: Path, kind: str) -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(buffer, kind)
    path = tmp_path / "cut.img"
    for share in (2, 10):
        path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // share])
        with pytest.raises(ImageReadError, match=r"cut\.img is damaged"):
            read_photo(path)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match="No such file"):
        read_photo(tmp_path / "nobody.jpg")
    with pytest.raises(ImageReadError, match="is a folder"):
        read_photo(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_parameters_travel_in_the_picture_as_other_tools_read_them(tmp_path: Path, suffix: str) -> None:
    text = "watercolor portrait\nSteps: 10, Seed: 1"
    path = write_picture(tmp_path / f"p.{suffix}", np.full((16, 16, 3), 90, np.uint8), parameters=text)
    image = Image.open(path)
    if suffix == "png":
        assert image.info["parameters"] == text
    else:
        comment = image.getexif().get_ifd(0x8769)[0x9286]
        assert comment.removeprefix(b"UNICODE\0").decode("utf-16-be") == text


def test_png_keeps_every_pixel(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (33, 21, 3), np.uint8)
    again = read_photo(write_picture(tmp_path / "x.png", pixels)).pixels
    assert pixels_sha256(again) == pixels_sha256(pixels)


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_bytes(tmp_path / "x.bin", b"old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="No space left"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.bin"]


def test_only_pictures_are_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="suffix"):
        write_picture(tmp_path / "x.exe", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ShapeError, match="uint8"):
        write_picture(tmp_path / "x.png", np.zeros((4, 4, 3), np.float32))


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "none, as on exFAT"])
def test_of_many_that_write_one_name_at_once_each_gets_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", lambda *names: os.open(tmp_path / "no" / "links", os.O_RDONLY))
    contents = [str(n).encode() * 1000 for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        places = list(pool.map(lambda data: write_new(tmp_path / "sheet.jpg", data), contents))
    assert [place.read_bytes() for place in places] == contents
    assert sorted(places) == sorted(tmp_path.iterdir())
    assert write_new(tmp_path / "sheet.jpg", contents[7]) in places
    assert len(list(tmp_path.iterdir())) == 40
