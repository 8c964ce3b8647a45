"""Start the page, and leave nothing behind: no photo on disk, no request to anybody else."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock

from portrait.errors import InputError, SettingsError
from portrait.settings import Settings

SWEEP_SECONDS = 60.0
"""So often whoever left is looked for."""
NEW_SECONDS = 60.0
"""A folder without a lock is that of a studio which is starting, or has been left by one that was killed before so long."""
_PREFIX = "portrait-studio-"
_LOCK = ".lock"
"""Held in a folder for as long as its studio lives."""
_POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'"
)
"""The browser itself refuses every request to another server, whatever Gradio's page asks for."""


@contextmanager
def private_folder() -> Iterator[Path]:
    """A temporary folder for everything that is written, gone at the end; those of studios that were killed go now."""
    for old in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if _is_left(old):
                with FileLock(old / _LOCK, timeout=0):  # or its studio lives
                    pass
                shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))  # for this user only
    before, of_gradio = tempfile.tempdir, os.environ.get("GRADIO_TEMP_DIR")
    tempfile.tempdir = os.environ["GRADIO_TEMP_DIR"] = str(folder)
    try:
        with FileLock(folder / _LOCK):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        tempfile.tempdir = before
        os.environ.pop("GRADIO_TEMP_DIR", None)
        if of_gradio is not None:
            os.environ["GRADIO_TEMP_DIR"] = of_gradio


def _is_left(folder: Path) -> bool:
    """Whether a studio of this user made a folder, as mkdtemp does, and is not just making it."""
    what = folder.lstat()
    if not stat.S_ISDIR(what.st_mode) or not re.fullmatch(_PREFIX + "[a-z0-9_]{8}", folder.name):
        return False
    if hasattr(os, "geteuid") and (what.st_uid, stat.S_IMODE(what.st_mode)) != (os.geteuid(), 0o700):
        return False
    return (folder / _LOCK).exists() or time.time() - what.st_mtime > NEW_SECONDS


async def _refuse_address(url: str, cache_dir: str) -> str:
    """In place of Gradio's download of what a caller names by its address: the studio asks nobody for anything."""
    raise InputError(f"a studio fetches nothing from other computers; upload the photo instead of {url[:80]}")


def serve(
    settings: Settings, *, host: str, port: int | None, auth: tuple[str, str] | None, runs: Path, local: bool
) -> int:
    """Show the page until Ctrl+C or SIGTERM; the folder with everything written is then deleted.

    Raises:
        SettingsError: the recipe does not exist, or the port is taken.
        WeightsMissingError: the recipe is not installed.
    """
    from portrait.studio.work import require_installed

    require_installed(settings.recipe)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, lambda *_: stop.set())
    with (
        private_folder() as folder,
        running(settings, folder, host=host, port=port, auth=auth, runs=runs, local=local) as (url, _),
    ):
        print(f"portrait studio: {url} (Ctrl+C ends it)", flush=True)
        while not stop.wait(0.5):  # a wait without end would not see signals on Windows
            pass
    return 0


@contextmanager
def running(
    settings: Settings,
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    auth: tuple[str, str] | None = None,
    runs: Path = Path("."),
    local: bool = True,
    workshop: Any = None,
) -> Iterator[tuple[str, Any]]:
    """The server in the background: the page's address, and Gradio's blocks. At the end all work stops."""
    for switch, value in (("GRADIO_ANALYTICS_ENABLED", "False"), ("GRADIO_RUN_HISTORY", "False")):
        os.environ[switch] = value
    import gradio as gr
    from gradio import processing_utils, route_utils
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from portrait.studio import page
    from portrait.studio.app import Studio
    from portrait.studio.reports import Reports
    from portrait.studio.work import MAX_UPLOAD_MB, Workshop

    processing_utils.async_ssrf_protected_download = _refuse_address
    route_utils.GradioUploadFile = _apart(route_utils.GradioUploadFile)
    shop = workshop or Workshop(settings)
    studio = Studio(shop, folder, Reports(runs), local=local)
    blocks = studio.build()
    middleware = [Middleware(_Headers), Middleware(_OwnPage, most_bytes=(MAX_UPLOAD_MB + 1) * 1_000_000)]
    if local:  # a name that somebody else made point here is refused
        middleware.append(Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]", host]))
    try:
        _, url, _ = blocks.launch(
            server_name=f"[{host}]" if ":" in host else host,
            server_port=port,
            auth=auth,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            inbrowser=False,
            show_error=True,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            max_file_size=f"{MAX_UPLOAD_MB}mb",
            theme=_theme(gr),
            css=page.asset("page.css"),
            head=f"<style>{page.asset('frame.css')}</style><script>{page.asset('page.js')}</script>",
            app_kwargs={"middleware": middleware},
        )
    except OSError as error:
        raise SettingsError(f"cannot listen on {host} port {port or 7860}: {error}; choose another --port") from None
    studio.visitors.states = blocks.state_holder
    shop.warm_up()

    def tidy() -> None:
        while blocks.is_running:
            with suppress(OSError):  # what cleans temporary folders takes the old
                os.utime(folder / _LOCK)
            studio.visitors.sweep()
            time.sleep(SWEEP_SECONDS)

    threading.Thread(target=tidy, daemon=True).start()
    try:
        yield url, blocks
    finally:
        try:
            studio.close()
        finally:
            blocks.close(verbose=False)


def _apart(upload: Any) -> Any:
    """Gradio's class of uploads, each in a folder of its own: Gradio's is named by the content, which others may have."""

    class Upload(upload):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.sha.update(secrets.token_bytes(32))

    return Upload


class _Headers:
    """Adds the content security policy, and forbids caches to keep pictures."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_headers(message: Any) -> None:
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

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


class _OwnPage:
    """Refuses what a page of another origin asks for, addresses in place of files, and uploads that do not end.

    Gradio fetches `file=https://...` for whoever asks, lets pages of other local servers in, and limits each file of
    an upload, but not their number.
    """

    def __init__(self, app: Any, most_bytes: int) -> None:
        self.app = app
        self.most_bytes = most_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        origin, path = headers.get(b"origin"), scope.get("path", "")
        if origin is not None and urlsplit(origin).netloc != headers.get(b"host", ""):
            await _refuse(send, 403, "this page belongs to another address")
        elif re.search(r"file=\w+:/", path):
            await _refuse(send, 403, "a studio fetches nothing")
        elif path.endswith("/upload") and int(headers.get(b"content-length", "0")) > self.most_bytes:
            await _refuse(send, 413, "too large")
        else:
            await self.app(scope, self._counted(receive) if path.endswith("/upload") else receive, send)

    def _counted(self, receive: Any) -> Any:
        seen = 0

        async def counted() -> Any:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            return message if seen <= self.most_bytes else {"type": "http.disconnect"}

        return counted


async def _refuse(send: Any, status: int, text: str) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": text.encode()})


def _theme(gr: Any) -> Any:
    """Quiet, with fonts of the system: nothing is fetched."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
    subdued = {"body_text_color_subdued": "#5f584e", "body_text_color_subdued_dark": "#b9b1a5"}
    info = {"block_info_text_color": "#5f584e", "block_info_text_color_dark": "#b9b1a5"}
    title = {"block_title_text_color": "#26221d", "block_title_text_color_dark": "#f3efe8"}
    accent = {"color_accent": "#0f766e", "slider_color": "#0f766e", "slider_color_dark": "#5ec7bb"}
    button = {
        "button_primary_background_fill": "#0f766e",
        "button_primary_background_fill_hover": "#0b5d57",
        "button_primary_background_fill_dark": "#0f766e",
        "button_primary_background_fill_hover_dark": "#0b5d57",
        "button_primary_text_color": "#ffffff",
    }
    chosen = {"checkbox_background_color_selected": "#0f766e", "checkbox_border_color_selected": "#0f766e"}
    base = gr.themes.Default(primary_hue="teal", neutral_hue="stone", font=fonts, font_mono=mono, radius_size="lg")
    return base.set(**subdued, **info, **title, **accent, **button, **chosen)
