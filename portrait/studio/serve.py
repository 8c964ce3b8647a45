"""Start the page, and leave nothing behind: no photo on disk, no request to other servers."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from portrait.errors import SettingsError
from portrait.provenance.credentials import Signer
from portrait.settings import Settings
from portrait.studio.guard import RequestGuard, SecurityHeaders, guarded_gradio
from portrait.studio.model_host import ModelHost
from portrait.studio.reports import Reports
from portrait.studio.uploads import MAX_UPLOAD_MB, decoder
from portrait.studio.web_settings import require_installed

SWEEP_SECONDS = 15.0
"""Seconds between searches for ended sessions."""
NEW_SECONDS = 60.0
"""A folder without a lock belongs to a studio that is starting, or, when it is older, to one that crashed while starting."""
_PREFIX = "portrait-studio-"
_LOCK = ".lock"
"""Name of the lock that is held in a folder as long as its studio runs."""


@contextmanager
def private_folder() -> Iterator[Path]:
    """A temporary folder for all files, deleted at the end; those of crashed studios are deleted now."""
    for old in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if _is_abandoned(old):
                with FileLock(old / _LOCK, timeout=0):  # fails while its studio is running
                    pass
                shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))  # for this user only
    tempdir = tempfile.tempdir
    gradio_tempdir = os.environ.get("GRADIO_TEMP_DIR")
    tempfile.tempdir = os.environ["GRADIO_TEMP_DIR"] = str(folder)
    try:
        with FileLock(folder / _LOCK):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        tempfile.tempdir = tempdir
        os.environ.pop("GRADIO_TEMP_DIR", None)
        if gradio_tempdir is not None:
            os.environ["GRADIO_TEMP_DIR"] = gradio_tempdir


def _is_abandoned(folder: Path) -> bool:
    """Whether a folder was created by a studio of this user, by mkdtemp, that is not just starting."""
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode) or not re.fullmatch(_PREFIX + "[a-z0-9_]{8}", folder.name):
        return False
    if hasattr(os, "geteuid") and (info.st_uid, stat.S_IMODE(info.st_mode)) != (os.geteuid(), 0o700):
        return False
    return (folder / _LOCK).exists() or time.time() - info.st_mtime > NEW_SECONDS


def serve(
    settings: Settings,
    *,
    host: str,
    port: int | None,
    auth: tuple[str, str] | None,
    runs: Path,
    local: bool,
    signer: Signer | None,
    announce: Callable[[str], None],
) -> int:
    """Show the page until Ctrl+C or SIGTERM; the folder with everything written is then deleted.

    `announce` is called with a sentence that has the page's address; the other arguments are those of `running`.

    Returns:
        The exit code, 0.

    Raises:
        SettingsError: the recipe does not exist, or the port is taken.
        WeightsMissingError: the recipe is not installed.
    """
    require_installed(settings.recipe)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, lambda *_: stop.set())
    with (
        private_folder() as folder,
        running(settings, folder, host=host, port=port, auth=auth, runs=runs, local=local, signer=signer) as (url, _),
    ):
        announce(f"portrait studio: {url} (Ctrl+C ends it)")
        while not stop.wait(0.5):  # waiting without a timeout would not notice signals on Windows
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
    signer: Signer | None = None,
    models: ModelHost | None = None,
) -> Iterator[tuple[str, Any]]:
    """Run the server in the background; at the end all work stops.

    Args:
        settings: The settings that every job starts from.
        folder: Where uploads and files for download lie; from `private_folder`.
        host: The address to listen on.
        port: The port to listen on; None for the first free one from 7860.
        auth: Name and password that the page requires.
        runs: The folder below which the viewer opens runs.
        local: Whether only this computer can reach the page.
        signer: Signs files for download; None leaves them unsigned.
        models: A `ModelHost` to use instead of one for `settings`.

    Yields:
        The page's address, and Gradio's blocks.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_RUN_HISTORY"] = "False"
    from portrait.studio.app import StudioPage
    from portrait.studio.downloads import add_route

    models = models or ModelHost(settings)
    studio = StudioPage(models, folder, Reports(runs), local=local, signer=signer)
    with guarded_gradio():
        blocks = studio.build()
        app, url = _launch(blocks, folder, host=host, port=port, auth=auth, local=local)
        add_route(app, studio.sessions, signer)
        studio.sessions.states = blocks.state_holder
        models.warm_up()
        decoder.start()
        threading.Thread(target=_sweep_regularly, args=(studio, blocks, folder), daemon=True).start()
        try:
            yield url, blocks
        finally:
            try:
                studio.close()
            finally:
                decoder.stop()
                blocks.close(verbose=False)


def _launch(
    blocks: Any, folder: Path, *, host: str, port: int | None, auth: tuple[str, str] | None, local: bool
) -> tuple[Any, str]:
    """Start Gradio's server; return its application and the page's address.

    Raises:
        SettingsError: the port is taken.
    """
    import gradio as gr
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from portrait.studio import page

    middleware = [
        Middleware(SecurityHeaders),
        Middleware(RequestGuard, folder=folder, max_upload_bytes=(MAX_UPLOAD_MB + 1) * 1_000_000),
    ]
    if local:  # refuse other host names that somebody made point at this computer
        middleware.append(Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]", host]))
    try:
        app, url, _ = blocks.launch(
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
            head=page.head(),
            app_kwargs={"middleware": middleware},
        )
    except OSError as error:
        raise SettingsError(f"cannot listen on {host} port {port or 7860}: {error}; choose another --port") from None
    return app, str(url)


def _sweep_regularly(studio: Any, blocks: Any, folder: Path) -> None:
    while blocks.is_running:
        with suppress(OSError):  # keep programs that clean temporary folders from deleting it
            os.utime(folder / _LOCK)
        studio.sessions.sweep()
        time.sleep(SWEEP_SECONDS)


def _theme(gr: Any) -> Any:
    """A quiet theme with system fonts, so that none are fetched; teal on stone."""
    base = gr.themes.Default(
        primary_hue="teal",
        neutral_hue="stone",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"],
        radius_size="lg",
    )
    return base.set(
        body_text_color_subdued="#5f584e",
        body_text_color_subdued_dark="#b9b1a5",
        block_info_text_color="#5f584e",
        block_info_text_color_dark="#b9b1a5",
        block_title_text_color="#26221d",
        block_title_text_color_dark="#f3efe8",
        color_accent="var(--ps-accent)",  # the only one that Gradio uses for the dark page
        slider_color="#0f766e",
        slider_color_dark="#5ec7bb",
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_hover="#0b5d57",
        button_primary_background_fill_dark="#0f766e",
        button_primary_background_fill_hover_dark="#0b5d57",
        button_primary_text_color="#ffffff",
        checkbox_background_color_selected="#0f766e",
        checkbox_border_color_selected="#0f766e",
    )
