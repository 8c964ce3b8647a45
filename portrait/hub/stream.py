"""Download one address into one file: resumed, counted, limited, and stopped on demand."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

_RETRIES, _PROGRESS = 5, 2**16  # so many connections in a row may bring fewer bytes than this
_SLOWEST, _PATIENCE = 1024, 30.0  # bytes a second over so many seconds: below, the connection is given up
_BUSY = (408, 429, 500, 502, 503, 504)

Report = Callable[[str, int, int], None]
"""Called with (file, bytes done, bytes in all); from several threads."""


class TooLongError(Exception):
    """More bytes came than were pinned."""


class StoppedError(Exception):
    """Another download failed, or the user stopped them."""


class Meter:
    """Counts bytes: reports them, and stops a download that grows beyond `limit`, or on demand."""

    def __init__(self, name: str, total: int, limit: int, report: Report | None, stop: threading.Event) -> None:
        self.name, self.total, self.limit, self.report, self.stop = name, total, limit, report, stop

    def at(self, done: int) -> None:
        if done > self.limit:
            raise TooLongError(f"more than {self.limit} bytes came")
        if self.stop.is_set():
            raise StoppedError
        if self.report is not None:
            self.report(self.name, done, self.total)


def stream(url: str, partial: Path, size: int, headers: dict[str, str], meter: Meter) -> None:
    """Download `url` into `partial`, going on where it ends; what arrived stays when it fails.

    Args:
        url: Asked anew for each connection, since the addresses it redirects to expire.
        partial: What arrived before, or nothing.
        size: Bytes in all; 0 if nobody knows.
        headers: Of each request; the authorization does not follow a redirect to another host.
        meter: Called with the bytes so far as they come.

    Raises:
        httpx2.HTTPError, HfHubHTTPError: after `_RETRIES` connections in a row that brought next to nothing, or as
            many that began anew, whatever came in between.
        TooLongError: the file was removed.
    """
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import get_session, hf_raise_for_status

    failures = restarts = 0
    with partial.open("ab") as out:
        if size and out.tell() > size:
            _empty(out)
        while not size or out.tell() < size:
            have = out.tell()
            ask = headers | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
            try:
                with get_session().stream(
                    "GET", url, headers=ask, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT, follow_redirects=True
                ) as answer:
                    if answer.status_code == 416:  # what is here is not the beginning of what is there
                        restarts += 1
                        _empty(out)
                        raise httpx2.RemoteProtocolError(f"there is no byte {have}")
                    if answer.is_error:  # without its body, which may be endless
                        about = {k: v for k, v in answer.headers.items() if k.startswith("x-error")}
                        hf_raise_for_status(
                            httpx2.Response(answer.status_code, headers=about, content=b"", request=answer.request)
                        )
                    if have and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                        restarts += 1
                        _empty(out)
                    _receive(answer, out, meter)
                if not size or out.tell() >= size:
                    return
                raise httpx2.RemoteProtocolError("the connection ended too early")
            except (httpx2.TransportError, HfHubHTTPError) as error:
                failures = 0 if out.tell() - have >= _PROGRESS else failures + 1
                busy = not isinstance(error, HfHubHTTPError) or error.response.status_code in _BUSY
                if not busy or max(failures, restarts) > _RETRIES:
                    raise
                log.info("%s: %s; going on at byte %d", url, error, out.tell())
                if meter.stop.wait(min(8.0, 0.25 * 2**failures)):
                    raise StoppedError from None
            except TooLongError:
                _empty(out)
                raise


def _empty(out: Any) -> None:
    out.seek(0)
    out.truncate()


def _receive(answer: Any, out: Any, meter: Meter) -> None:
    """Write what comes, as it comes. A connection slower than `_SLOWEST` is a broken one."""
    import httpx2

    since, mark = time.monotonic(), out.tell()
    for block in answer.iter_bytes():
        meter.at(out.tell() + len(block))
        out.write(block)
        if (now := time.monotonic()) - since >= _PATIENCE:
            if out.tell() - mark < _SLOWEST * _PATIENCE:
                raise httpx2.ReadTimeout(f"fewer than {_SLOWEST} bytes a second came")
            since, mark = now, out.tell()


@contextlib.contextmanager
def locked(path: Path, stop: threading.Event) -> Iterator[None]:
    """One process at a time, by huggingface_hub's own lock; waiting ends on demand."""
    from filelock import Timeout
    from huggingface_hub.utils import WeakFileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(WeakFileLock(path, timeout=0.5))
                break
            except Timeout:
                if stop.is_set():
                    raise StoppedError from None
        yield


def short(error: BaseException) -> str:
    """An error of the network in a few words, on one line."""
    return " ".join(f"{type(error).__name__} {error}".split())[:120]
