"""Decode photos in a separate process, so that one that crashes or never ends harms nobody else."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

if sys.platform == "linux":
    import resource

from portrait.errors import ImageReadError, PortraitError
from portrait.images.decode import BYTES_PER_PIXEL, MAX_PIXELS, Photo, decode_photo, read_file
from portrait.records import RgbImage

MAX_SECONDS = 60.0
"""Limit for one photo; the slowest kinds take a tenth of it at 64 megapixels."""
_LOOK_SECONDS = 0.1
"""How often to ask whether a photo is still wanted."""
_LAST_SECONDS = 5.0
"""How long to wait for a process that ends by itself, so that its exit code is its own."""
RESERVE = 2**28 + 2**24 * (os.cpu_count() or 1)
"""Bytes that decoding may take whatever the size of the picture, among them the stacks of a decoder's threads."""
_ROWS = 64
"""Rows of a picture that are sent at a time."""


class DecoderProcess:
    """Decodes one photo at a time in one process, which is kept for the next photo.

    A photo that takes too long, is no longer wanted, or crashes it ends the process; the next photo gets a new one. On Linux
    a photo may not take more memory than the largest that is decoded. What it sends back is numbers and text; nothing is unpickled. If somebody ends it with SIGTERM, such as a service manager that
    ends all processes of a service, the photo is decoded again. A photo may take so many `seconds`, and so many bytes besides
    those for pixels (`reserve`).
    """

    def __init__(self, seconds: float = MAX_SECONDS, reserve: int = RESERVE) -> None:
        self.seconds = seconds
        self._reserve = reserve
        self._turn = threading.Lock()
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None
        self._has_begun = False

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._process.pid if self._process is not None and self._process.is_alive() else None

    def start(self) -> None:
        """Start the process, so that the first photo need not wait for it; it ends with the current process."""
        if self.pid is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, end = context.Pipe()
            process = context.Process(target=_serve, args=(end, self._reserve), daemon=True)
            process.start()
            self._process = process
            self._has_begun = False
            end.close()

    def stop(self) -> None:
        """Stop the process; a photo that it is decoding is abandoned."""
        process = self._process
        if process is not None:
            process.kill()
            process.join()

    def read(self, path: Path) -> Photo:
        """The photo of a file; errors are those of `read_photo` and `decode`."""
        return self.decode(read_file(path), path)

    def decode(
        self,
        data: bytes,
        path: str | Path,
        *,
        name: str = "",
        max_pixels: int = MAX_PIXELS,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Photo:
        """Decode the bytes of a photo's file like `decode_photo`; a second caller waits for its turn.

        Args:
            data: The file's bytes.
            path: The file's, which is not opened.
            name: For messages, where it is not the path.
            max_pixels: Larger pictures are refused before they are decoded.
            is_wanted: Asked repeatedly; the photo is abandoned as soon as it returns False.

        Raises:
            ImageReadError: as `decode_photo`; or it takes too long, crashes the decoder, or is no longer wanted.
            PortraitError: the process cannot be started, which is not the photo's fault.
        """
        name = name or str(path)
        with self._my_turn(name, is_wanted):
            while True:
                pipe = self._begun(name, is_wanted)
                try:
                    pipe.send_bytes(json.dumps([name, max_pixels]).encode())
                    pipe.send_bytes(data)
                    self._await_answer(pipe, name, is_wanted)
                    return _receive(pipe, Path(path))
                except (EOFError, OSError):
                    if self._exit_code() != -signal.SIGTERM:
                        raise ImageReadError(f"{name} crashed its decoder; save it again as JPEG or PNG") from None

    def _begun(self, name: str, is_wanted: Callable[[], bool]) -> Connection:
        """The pipe to a process that has said that it runs."""
        self.start()
        assert self._pipe is not None
        if not self._has_begun:
            try:
                self._await_answer(self._pipe, name, is_wanted)
                self._pipe.recv_bytes()
            except (EOFError, OSError):
                raise PortraitError(
                    f"the process that decodes photos ended with {self._exit_code()} before it began; is there enough memory, "
                    'and does your script begin with if __name__ == "__main__"?'
                ) from None
            self._has_begun = True
        return self._pipe

    def _exit_code(self) -> int | None:
        """Of a process that has closed its pipe, once it has ended."""
        assert self._process is not None
        self._process.join(_LAST_SECONDS)
        self.stop()
        return self._process.exitcode

    @contextmanager
    def _my_turn(self, name: str, is_wanted: Callable[[], bool]) -> Iterator[None]:
        while not self._turn.acquire(timeout=_LOOK_SECONDS):
            _require_wanted(name, is_wanted)
        try:
            yield
        finally:
            self._turn.release()

    def _await_answer(self, pipe: Connection, name: str, is_wanted: Callable[[], bool]) -> None:
        end = time.monotonic() + self.seconds
        try:
            while not pipe.poll(max(0.0, min(_LOOK_SECONDS, end - time.monotonic()))):
                _require_wanted(name, is_wanted)
                if time.monotonic() >= end:
                    raise ImageReadError(
                        f"{name} takes longer than {self.seconds:g} s to decode; save it again as JPEG or PNG"
                    )
        except BaseException:  # KeyboardInterrupt too: a late answer must not be taken for the next photo's
            self.stop()
            raise


def _require_wanted(name: str, is_wanted: Callable[[], bool]) -> None:
    if not is_wanted():
        raise ImageReadError(f"{name} is no longer wanted")


def _receive(pipe: Connection, path: Path) -> Photo:
    error, height, width, notes, sha256 = json.loads(pipe.recv_bytes())
    if error:
        raise ImageReadError(str(error))
    pixels = np.empty((int(height), int(width), 3), np.uint8)
    for row in range(0, len(pixels), _ROWS):
        pipe.recv_bytes_into(pixels[row : row + _ROWS].data.cast("B"))
    return Photo(pixels=RgbImage(pixels), path=path, sha256=str(sha256), notes=tuple(map(str, notes)))


def _serve(pipe: Connection, reserve: int) -> None:
    """The decoder process's loop; it ends when the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C ends the parent, and this process with it
    _silence_decoders()
    with suppress(EOFError, OSError):
        pipe.send_bytes(b"begun")
        while True:
            name, max_pixels = json.loads(pipe.recv_bytes())
            data = pipe.recv_bytes()
            try:
                with _limited_memory(BYTES_PER_PIXEL * max_pixels + reserve):
                    photo = decode_photo(data, name, max_pixels=max_pixels)
            except ImageReadError as error:
                pipe.send_bytes(json.dumps([str(error), 0, 0, [], ""]).encode())
                continue
            height, width = photo.pixels.shape[:2]
            pipe.send_bytes(json.dumps(["", height, width, photo.notes, photo.sha256]).encode())
            for row in range(0, height, _ROWS):
                pipe.send_bytes(np.ascontiguousarray(photo.pixels[row : row + _ROWS]).data.cast("B"))
            del data, photo  # do not keep a photo in memory until the next one arrives


@contextmanager
def _limited_memory(more: int) -> Iterator[None]:
    """On Linux, limit this process to so many bytes more than it has: beyond that, allocation fails."""
    if sys.platform != "linux" or not (now := _data_bytes()):
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [now + more, *before]
    resource.setrlimit(resource.RLIMIT_DATA, (min(n for n in limits if n != resource.RLIM_INFINITY), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _data_bytes() -> int:
    """The private memory that this process has reserved, which is what Linux limits; 0 where the system does not say."""
    with suppress(OSError), open("/proc/self/status", encoding="ascii", errors="replace") as status:
        return next((1024 * int(line.split()[1]) for line in status if line.startswith("VmData:")), 0)
    return 0


def _silence_decoders() -> None:
    """Discard what libraries print and log about damaged files; Python's own tracebacks are still shown."""
    logging.disable()
    terminal = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    sys.stderr = os.fdopen(terminal, "w", encoding="utf-8", errors="backslashreplace")
