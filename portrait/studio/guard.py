"""Security: keep the studio from talking to anybody but its own page, within Gradio, in front of it, and in the browser."""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from portrait.errors import InputError, PortraitError
from portrait.studio import strings

log = logging.getLogger(__name__)

_POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'"
)
"""The browser itself refuses every request to another server, whatever Gradio's page asks for."""
MAX_BODY_BYTES = 1_000_000
"""Maximum bytes of a request that is not an upload: the values of the controls, a preset."""
MAX_WAITING_BYTES = 2_000_000_000
"""Bytes on disk above which uploads are refused: pages read their uploads at once, but other callers may not."""
FIRST_LOGIN_SECONDS, MAX_LOGIN_SECONDS = 0.5, 16.0
"""Seconds by which the answer to a wrong password is delayed: doubled each time, up to the second value."""
MAX_LOGINS = 8
"""How many answers are delayed for one address at a time."""
MAX_ADDRESSES = 1000
"""How many addresses with wrong passwords are remembered."""
_sleep = asyncio.sleep


async def refuse_address(url: str, cache_dir: str) -> str:
    """Replaces Gradio's download of addresses that a caller names: the studio never fetches anything."""
    raise InputError(f"a studio fetches nothing from other computers; upload the photo instead of {url[:80]}")


_received: ContextVar[list[Path]] = ContextVar("_received")
"""The files that Gradio opens for the current request."""


def salted_upload(upload: Any) -> Any:
    """Gradio's upload class with one folder per upload; Gradio's own are named by content, which others may share."""

    class SaltedUpload(upload):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.sha.update(secrets.token_bytes(32))
            _received.get([]).append(Path(self.file.name))

    return SaltedUpload


@contextmanager
def guarded_gradio() -> Iterator[None]:
    """Within the block, Gradio fetches no addresses named by callers, and uploads never share a file.

    Raises:
        PortraitError: this Gradio lacks a name that is replaced, so replacing it would protect nothing.
    """
    from gradio import processing_utils, route_utils
    from gradio.state_holder import StateHolder

    require_attributes(StateHolder(), "session_data", "time_last_used")  # which `Sessions` clears
    require_attributes(processing_utils, "async_ssrf_protected_download")
    require_attributes(route_utils, "GradioUploadFile")
    download = processing_utils.async_ssrf_protected_download
    upload = route_utils.GradioUploadFile
    processing_utils.async_ssrf_protected_download = refuse_address
    route_utils.GradioUploadFile = salted_upload(upload)
    try:
        yield
    finally:
        processing_utils.async_ssrf_protected_download = download
        route_utils.GradioUploadFile = upload


def require_attributes(thing: Any, *names: str) -> None:
    """Check that Gradio still has the attributes that the studio replaces or clears.

    Raises:
        PortraitError: one is missing; the message names the version of Gradio.
    """
    for name in names:
        if not hasattr(thing, name):
            where = getattr(thing, "__name__", type(thing).__name__)
            raise PortraitError(
                f"gradio {version('gradio')} has no {where}.{name}, which protects the studio's visitors; "
                "run: pip install 'portrait-stylizer[studio]'"
            )


def require_route(app: Any, end: str) -> Any:
    """Gradio's route with this end of the path.

    Raises:
        PortraitError: there is none; the message names the version of Gradio.
    """
    for route in app.routes:
        if getattr(route, "path", "").endswith(end):
            return route
    raise PortraitError(f"gradio {version('gradio')} has no route {end}; run: pip install 'portrait-stylizer[studio]'")


class SecurityHeaders:
    """Adds the content security policy, and forbids caching of pictures."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", _POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"),
                    (b"x-content-type-options", b"nosniff"),
                ]
                if re.search(r"/file=|^/studio/", scope.get("path", "")):
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class RequestGuard:
    """Refuses requests by pages of other origins, addresses instead of files, and bodies that are too long.

    Gradio fetches `file=https://...` for anybody, accepts pages of other local servers, reads bodies of any length before
    authentication, limits each file of an upload but not their number, keeps the files of interrupted uploads, and does not
    slow down password guessing.

    `app` is the ASGI application behind it, `folder` Gradio's for uploads, `max_upload_bytes` the limit for all files of one
    upload together.
    """

    def __init__(self, app: Any, folder: Path, max_upload_bytes: int) -> None:
        self.app = app
        self.folder = folder
        self.max_upload_bytes = max_upload_bytes
        self.logins = FailedLogins()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        path = scope.get("path", "")
        origin = headers.get(b"origin")
        is_upload = path.endswith("/upload")
        limit = self.max_upload_bytes if is_upload else MAX_BODY_BYTES
        if origin is not None and urlsplit(origin).netloc != headers.get(b"host", ""):
            await _refuse(send, 403, "this page belongs to another address")
        elif re.search(r"file=\w+:/", path):
            await _refuse(send, 403, "a studio fetches nothing")
        elif int(headers.get(b"content-length", "0")) > limit:
            await _refuse(send, 413, _too_long(limit))
        elif path.rstrip("/") == "/login":
            await self.logins.answer(self.app, scope, _limited(receive, limit), send)
        elif is_upload and self._waiting_bytes() > MAX_WAITING_BYTES:
            await _refuse(send, 507, strings.DISK_FULL)
        elif is_upload:
            await self._take_upload(scope, _limited(receive, limit), send)
        else:
            await self.app(scope, _limited(receive, limit), send)

    def _waiting_bytes(self) -> int:
        """Bytes of uploads that have not been read yet, and of everything else in the studio's folder."""
        sizes = 0
        for path in self.folder.rglob("*"):
            with suppress(OSError):  # it has just been read
                sizes += path.stat().st_size
        return sizes

    async def _take_upload(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass an upload on; files of interrupted or refused uploads are deleted at once."""
        files: list[Path] = []
        token = _received.set(files)
        try:
            await self.app(scope, receive, send)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            log.error("an upload was refused: %s", error)
            await _refuse(send, 507, strings.DISK_FULL)
        finally:
            _received.reset(token)
            for file in files:  # files of accepted uploads have been moved
                file.unlink(missing_ok=True)


class FailedLogins:
    """Delays the answer to wrong passwords, longer each time, without affecting others who log in.

    Failures are counted by address; a right password resets the count.
    """

    def __init__(self) -> None:
        self._failures: dict[str, int] = {}
        self._open: dict[str, int] = {}

    async def answer(self, app: Any, scope: Any, receive: Any, send: Any) -> None:
        """Pass a login request on, and delay the answer if the password was wrong."""
        address = str((scope.get("client") or ("",))[0])
        if self._open.get(address, 0) >= MAX_LOGINS:
            await _refuse(send, 429, "too many passwords are being tried from this address; wait a minute")
            return

        async def send_later(message: Any) -> None:
            if message["type"] == "http.response.start":
                await _sleep(self._wait(address, failed=message["status"] >= 400))
            await send(message)

        self._open[address] = self._open.get(address, 0) + 1
        try:
            await app(scope, receive, send_later)
        finally:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]

    def _wait(self, address: str, *, failed: bool) -> float:
        """Seconds to delay an answer."""
        failures = self._failures.pop(address, 0)
        if not failed:
            return 0.0
        if len(self._failures) >= MAX_ADDRESSES:
            self._failures.pop(next(iter(self._failures)))  # the address that failed longest ago
        self._failures[address] = failures + 1
        return float(min(MAX_LOGIN_SECONDS, FIRST_LOGIN_SECONDS * 2**failures))


def _limited(receive: Any, limit: int) -> Any:
    """Wrap `receive` to refuse more than `limit` bytes, whatever length the request announced."""
    received = 0

    async def limited() -> Any:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            from starlette.exceptions import HTTPException

            raise HTTPException(413, _too_long(limit))
        return message

    return limited


def _too_long(limit: int) -> str:
    return f"more than the {limit / 1e6:g} MB that may be sent here"


async def _refuse(send: Any, status: int, text: str) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": text.encode()})
