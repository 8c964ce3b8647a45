"""The decoder process: the same pixels as in this process, and a photo that crashes it or never ends harms no other."""

from __future__ import annotations

import contextlib
import errno
import io
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from portrait.errors import ImageReadError, PortraitError
from portrait.images import decode_photo, decoder_process
from portrait.images.decoder_process import DecoderProcess
from tests.fakes import needs_sigstop, stop_answering

pytestmark = needs_sigstop


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecoderProcess]:
    process = DecoderProcess()
    yield process
    process.stop()
    assert process.pid is None


def a_jpeg(side: int = 300, **options: object) -> bytes:
    y, x = np.mgrid[0:side, 0:side]
    buffer = io.BytesIO()
    Image.fromarray(np.stack([x % 256, y % 256, (x + y) % 256], -1).astype(np.uint8)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def test_it_gives_what_decoding_here_gives(decoder: DecoderProcess) -> None:
    data = a_jpeg(exif=Image.Exif())
    here, apart = decode_photo(data, "anna.jpg"), decoder.decode(data, "in/anna.jpg")
    np.testing.assert_array_equal(here.pixels, apart.pixels)
    assert apart.pixels.flags.writeable
    assert (apart.path, apart.sha256, apart.notes) == (Path("in/anna.jpg"), here.sha256, here.notes)


def test_one_process_decodes_all_photos_and_its_errors_are_those_of_decoding_here(decoder: DecoderProcess) -> None:
    decoder.decode(a_jpeg(), "anna.jpg")
    pid = decoder.pid
    for data, says in (
        (b"", "no\udcff is empty"),
        (b"x", "no\udcff is not a picture"),
        (a_jpeg(301), "301 x 301 pixels"),
    ):
        with pytest.raises(ImageReadError, match=says):
            decoder.decode(data, "no\udcff", max_pixels=300 * 300)
    assert decoder.pid == pid is not None


@pytest.fixture
def stuck(decoder: DecoderProcess) -> DecoderProcess:
    """One that answers nothing, as with a photo that takes for ever."""
    decoder.decode(a_jpeg(), "anna.jpg")
    stop_answering(decoder)
    return decoder


def test_a_photo_that_takes_too_long_is_given_up_and_the_next_one_is_read(
    stuck: DecoderProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stuck, "seconds", 0.2)
        with pytest.raises(ImageReadError, match=r"anna.jpg takes longer than 0.2 s to decode; save it again"):
            stuck.decode(a_jpeg(), "anna.jpg")
    assert stuck.pid is None
    assert stuck.decode(a_jpeg(), "anna.jpg").pixels.shape == (300, 300, 3)


def test_a_photo_that_crashes_the_decoder_is_one_line(stuck: DecoderProcess) -> None:
    def crash() -> bool:
        if stuck.pid:
            os.kill(stuck.pid, signal.SIGKILL)
        return True

    with pytest.raises(ImageReadError, match="anna.jpg crashed its decoder; save it again"):
        stuck.decode(a_jpeg(), "anna.jpg", is_wanted=crash)
    assert stuck.decode(a_jpeg(), "anna.jpg").pixels.shape == (300, 300, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_a_photo_that_takes_more_memory_than_one_may_is_one_line_and_the_next_one_is_read() -> None:
    """A TIFF of 64 bytes a pixel, in a process that may take 30 a pixel and 25 MB."""
    buffer, side = io.BytesIO(), 1000
    values = np.zeros((side, side, 8), np.float64)
    tifffile.imwrite(buffer, values, photometric="rgb", extrasamples=[0] * 5, compression="zlib")
    process = DecoderProcess(reserve=25_000_000)
    try:
        process.decode(a_jpeg(), "anna.jpg")
        pid = process.pid
        with pytest.raises(ImageReadError, match=r"large.tif needs more memory than there is for a photo"):
            process.decode(buffer.getvalue(), "large.tif", max_pixels=side * side)
        assert process.decode(a_jpeg(side), "anna.jpg", max_pixels=side * side).pixels.shape == (side, side, 3)
        assert process.pid == pid is not None
    finally:
        process.stop()


def test_a_process_that_cannot_begin_is_not_the_photos_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_process, "_serve", print)  # which ends at once
    process = DecoderProcess()
    with pytest.raises(PortraitError, match="before it began") as error:
        process.decode(a_jpeg(), "anna.jpg")
    assert not isinstance(error.value, ImageReadError)


def test_who_waits_is_served_when_the_photo_before_is_no_longer_wanted(stuck: DecoderProcess) -> None:
    begun, gone, says = threading.Event(), threading.Event(), []

    def is_wanted() -> bool:
        begun.set()
        return not gone.is_set()

    def first() -> None:
        try:
            stuck.decode(a_jpeg(), "first.jpg", is_wanted=is_wanted)
        except ImageReadError as error:
            says.append(str(error))

    thread = threading.Thread(target=first)
    thread.start()
    assert begun.wait(60)
    with pytest.raises(ImageReadError, match="second.jpg is no longer wanted"):
        stuck.decode(a_jpeg(), "second.jpg", is_wanted=lambda: False)
    gone.set()
    assert stuck.decode(a_jpeg(), "third.jpg").pixels.shape == (300, 300, 3)
    thread.join(60)
    assert says == ["first.jpg is no longer wanted"]


def test_what_libraries_say_of_a_damaged_file_stays_in_the_process(capfd: pytest.CaptureFixture[str]) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).random((64, 64)) < 0.5).save(buffer, "TIFF", compression="group4")
    damaged = bytearray(buffer.getvalue())
    at = Image.open(buffer).tag_v2[273][0]  # type: ignore[attr-defined]
    damaged[at : at + 8] = b"\x55" * 8
    with contextlib.suppress(ImageReadError):
        decode_photo(bytes(damaged), "fax.tif")
    assert "Fax4Decode" in capfd.readouterr().err
    process = DecoderProcess()
    with contextlib.suppress(ImageReadError):
        process.decode(bytes(damaged), "fax.tif")
    process.stop()
    assert capfd.readouterr().err == ""


def test_a_process_that_cannot_start_leaves_nothing_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_processes(self: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(multiprocessing.get_context("spawn").Process, "start", out_of_processes)
    process = DecoderProcess()
    with pytest.raises(OSError, match="Resource temporarily unavailable"):
        process.start()
    process.stop()
    assert process.pid is None
