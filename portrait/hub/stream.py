"""Download a URL into a file of this process alone: resumed, counted, limited, and stopped on demand.

The server is not trusted: bodies of redirects and errors are never read, nothing is decompressed, and a body that is longer
than its pin, or too slow, is cut off.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import httpx2
from httpx2 import Response
from huggingface_hub import constants, get_session

from portrait.hub.partial import open_partial

log = logging.getLogger(__name__)

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
        super().__init__(text)
        self.transient = transient


class TooLongError(Exception):
    """The server sent more bytes than pinned."""


class StoppedError(Exception):
    """Another download failed, or the user stopped all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """Counts the bytes of one download: `size` in all, 0 if unknown, and `limit` at most. Setting `stop` stops it."""

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


def download(url: str, path: Path, meter: Meter, token: str = "") -> None:
    """Download `url` into `path`, a `partial_file`, resuming where the file ends.

    The address is requested anew for each connection, since those that it redirects to expire; the hub's token is not sent on
    redirects to other hosts.

    Raises:
        httpx2.RequestError, httpx2.InvalidURL, AnswerError: the server does not send the file, or too many consecutive
        connections broke without progress.
        TooLongError: more bytes came than `meter` allows; nothing is kept.
        StoppedError: the download was stopped.
        OSError: the file cannot be written.
    """
    furthest = failures = 0
    with open_partial(path) as out:
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
