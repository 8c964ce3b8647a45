"""What keeps the studio from talking to anybody but its own page: in Gradio's place, in front of it, and in the browser."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from portrait.errors import InputError, PortraitError

_POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'"
)
"""The browser itself refuses every request to another server, whatever Gradio's page asks for."""


async def refuse_address(url: str, cache_dir: str) -> str:
    """In place of Gradio's download of what a caller names by its address: the studio never fetches anything."""
    raise InputError(f"a studio fetches nothing from other computers; upload the photo instead of {url[:80]}")


def salted_upload(upload: Any) -> Any:
    """Gradio's class of uploads, with a folder for each: Gradio names it by the content, which others may have too."""

    class SaltedUpload(upload):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.sha.update(secrets.token_bytes(32))

    return SaltedUpload


@contextmanager
def guarded_gradio() -> Iterator[None]:
    """Within the block Gradio fetches no address that a caller names, and no two uploads share a file.

    Raises:
        PortraitError: this Gradio lacks a name that is replaced, so that replacing it would protect nothing.
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
    """Check that Gradio still has what the studio replaces or clears.

    Raises:
        PortraitError: it has not; says which Gradio this is.
    """
    for name in names:
        if not hasattr(thing, name):
            where = getattr(thing, "__name__", type(thing).__name__)
            raise PortraitError(
                f"gradio {version('gradio')} has no {where}.{name}, which protects the studio's visitors; "
                "run: pip install 'portrait-stylizer[studio]'"
            )


class SecurityHeaders:
    """Adds the content security policy, and forbids caches to keep pictures."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one ASGI request."""

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", _POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"),
                    (b"x-content-type-options", b"nosniff"),
                ]
                if "/file=" in scope.get("path", ""):
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class RequestGuard:
    """Refuses what a page of another origin asks for, addresses in place of files, and uploads that do not end.

    Gradio fetches `file=https://...` for whoever asks, lets pages of other local servers in, and limits each file of
    an upload, but not their number.

    Args:
        app: The ASGI application behind it.
        max_upload_bytes: Of all files of one upload together.
    """

    def __init__(self, app: Any, max_upload_bytes: int) -> None:
        self.app = app
        self.max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one ASGI request, or pass it on."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        path = scope.get("path", "")
        origin = headers.get(b"origin")
        is_upload = path.endswith("/upload")
        if origin is not None and urlsplit(origin).netloc != headers.get(b"host", ""):
            await _refuse(send, 403, "this page belongs to another address")
        elif re.search(r"file=\w+:/", path):
            await _refuse(send, 403, "a studio fetches nothing")
        elif is_upload and int(headers.get(b"content-length", "0")) > self.max_upload_bytes:
            await _refuse(send, 413, "too large")
        else:
            await self.app(scope, self._limited(receive) if is_upload else receive, send)

    def _limited(self, receive: Any) -> Any:
        """`receive` that hangs up after `max_upload_bytes`, whatever length the request announced."""
        received = 0

        async def limited() -> Any:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message if received <= self.max_upload_bytes else {"type": "http.disconnect"}

        return limited


async def _refuse(send: Any, status: int, text: str) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": text.encode()})
