"""Download a URL into a file of this process alone: resumed, counted, limited, and stopped on demand.

Interrupted downloads are resumed, within a run and by the next one. A run that fails leaves its partial file as `KEY.part`,
and the next run takes it over by renaming it; the file of a killed process is taken over if nothing was written to it for
five minutes. Since renaming is atomic and every process writes to its own file, processes that fetch the same file at the
same time need no locks, which some file systems only pretend to have; each of them downloads the file.

The server is not trusted: bodies of redirects and errors are never read, nothing is decompressed, and a body that is longer
than its pin, or too slow, is cut off.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from httpx2 import Response

log = logging.getLogger(__name__)

ABANDONED = 300.0
"""Seconds without a write after which a partial file counts as abandoned; running downloads never pause that long."""
_MAX_FAILURES = 5  # consecutive connections that bring fewer than _PROGRESS bytes
_PROGRESS = 2**16
_MIN_RATE, _RATE_WINDOW = 1024, 30.0  # bytes per second, and over how many seconds: slower connections are closed
_MAX_REDIRECTS = 20
_TRANSIENT = (408, 429, 500, 502, 503, 504)

Report = Callable[[str, int, int], None]
"""Called with (file, bytes done, total bytes or 0), from several threads."""


class AnswerError(Exception):
    """The server answered, but not with the file; the text is appended to the server's name."""

    def __init__(self, text: str, *, transient: bool = False) -> None:
        """Keep the text, and whether trying again may help."""
        super().__init__(text)
        self.transient = transient


class TooLongError(Exception):
    """The server sent more bytes than pinned."""


class StoppedError(Exception):
    """Another download failed, or the user stopped all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """Counts the bytes of one download.

    Args:
        name: Name of the file, for reports.
        size: Total bytes; 0 if unknown.
        limit: Maximum number of bytes.
        report: Called with the progress.
        stop: Set to stop the download.
    """

    name: str
    size: int
    limit: int
    report: Report | None
    stop: threading.Event

    def update(self, done: int) -> None:
        """Report `done` bytes.

        Raises:
            TooLongError, StoppedError: the download must end here.
        """
        if done > self.limit:
            raise TooLongError(f"more than {self.limit} bytes came")
        if self.stop.is_set():
            raise StoppedError
        if self.report is not None:
            self.report(self.name, done, self.size)

    def wait(self, seconds: float) -> None:
        """Sleep, but not longer than until the download is stopped.

        Raises:
            StoppedError: it was.
        """
        if self.stop.wait(seconds):
            raise StoppedError


# ---- the partial file


@contextlib.contextmanager
def partial_file(folder: Path, key: str) -> Iterator[Path]:
    """A path for this process alone, with the partial file of an earlier run if there is one.

    If the block fails, the file is left for the next run; if it succeeds, the file is removed.

    Args:
        folder: Where partial files are kept.
        key: Name of the content, in plain characters.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, handed_on = folder / f"{key}.{uuid.uuid4().hex}.live", folder / f"{key}.part"
    for leftover in [handed_on, *(live for live in folder.glob(f"{key}.*.live") if is_abandoned(live))]:
        with contextlib.suppress(OSError):  # another process was first
            os.rename(leftover, path)
            break
    try:
        yield path
    except BaseException:
        with contextlib.suppress(OSError):
            if path.lstat().st_size:
                os.replace(path, handed_on)
        raise
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def is_abandoned(path: Path) -> bool:
    """Whether no process writes to a partial file anymore."""
    try:
        return path.suffix != ".live" or time.time() - path.lstat().st_mtime > ABANDONED
    except OSError:
        return False


def _open(path: Path) -> BinaryIO:
    """Open a partial file; links are refused, as they would write to somebody else's file."""
    with contextlib.suppress(FileNotFoundError):
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            path.unlink()
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o666), "r+b")


# ---- the download


def download(url: str, path: Path, meter: Meter, token: str = "") -> None:
    """Download `url` into `path`, resuming where the file ends.

    Args:
        url: Requested anew for each connection, since the addresses it redirects to expire.
        path: From `partial_file`.
        meter: Updated as bytes arrive.
        token: The hub's token, which is not sent on redirects to other hosts.

    Raises:
        httpx2.RequestError, httpx2.InvalidURL, AnswerError: the server does not send the file, or too many consecutive
        connections broke without progress.
        TooLongError: more bytes came than `meter` allows; nothing is kept.
        StoppedError: the download was stopped.
        OSError: the file cannot be written.
    """
    import httpx2

    furthest = failures = 0
    with _open(path) as out:
        start = out.seek(0, os.SEEK_END)
        while start < meter.size or not meter.size:
            try:
                os.utime(path)  # a sign of life while nothing arrives
                _append(url, out, start, meter, token)
                return
            except (httpx2.TransportError, AnswerError) as error:
                start = out.seek(0, os.SEEK_END)
                failures = 0 if start >= furthest + _PROGRESS else failures + 1
                furthest = max(furthest, start)
                hopeless = isinstance(error, AnswerError) and not error.transient
                if hopeless or failures > _MAX_FAILURES:
                    raise
                log.info("%s: %s; resuming at byte %d", url, error, start)
                meter.wait(min(8.0, 0.25 * 2**failures))
            except TooLongError:
                out.truncate(0)
                raise


def _append(url: str, out: BinaryIO, start: int, meter: Meter, token: str) -> None:
    """Append what one connection sends to the first `start` bytes.

    Raises:
        httpx2.TransportError: the connection ended too early.
    """
    import httpx2

    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    if token:
        headers["Authorization"] = f"Bearer {token}"
    with _request(url, headers) as response:
        if response.status_code not in (200, 206, 416):
            raise AnswerError(f"answered {response.status_code}", transient=response.status_code in _TRANSIENT)
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise AnswerError("sent a compressed body")
        if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            out.truncate(out.seek(0))  # our bytes are not the beginning of that file, or the server cannot resume
        if response.status_code == 416:
            raise httpx2.RemoteProtocolError(f"there is no byte {start}")
        _receive(response, out, meter)
    if out.tell() < meter.size:
        raise httpx2.RemoteProtocolError("the connection ended too early")


def _receive(response: Response, out: BinaryIO, meter: Meter) -> None:
    """Write the body as it arrives, without decoding."""
    import httpx2

    window_start, window_bytes = time.monotonic(), 0
    for block in response.iter_raw():
        meter.update(out.tell() + len(block))
        out.write(block)
        window_bytes += len(block)
        if (now := time.monotonic()) - window_start >= _RATE_WINDOW:
            if window_bytes < _MIN_RATE * _RATE_WINDOW:
                raise httpx2.ReadTimeout(f"fewer than {_MIN_RATE} bytes per second arrived")
            window_start, window_bytes = now, 0


@contextlib.contextmanager
def _request(url: str, headers: dict[str, str]) -> Iterator[Response]:
    """Send a GET request; the body is not read yet, and those of redirects never are."""
    import httpx2
    from huggingface_hub import constants, get_session

    for _ in range(_MAX_REDIRECTS):
        with get_session().stream(
            "GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT, follow_redirects=False
        ) as response:
            if not response.has_redirect_location:
                yield response
                return
            target = response.url.join(response.headers["Location"])
            if (target.scheme, target.host, target.port) != (response.url.scheme, response.url.host, response.url.port):
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
        url = str(target)
    raise httpx2.TooManyRedirects(f"more than {_MAX_REDIRECTS} redirects")
