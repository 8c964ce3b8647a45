"""Who is here: a session for each tab, what they upload, and who is forgotten when."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.state_holder import StateHolder

from portrait.errors import InputError
from portrait.studio import strings
from portrait.studio.session import Session

IDLE_SECONDS = 3600.0
"""A session that was not used for so long is forgotten."""
LEFT_SECONDS = 600.0
"""A file that belongs to no session is deleted after so long: an upload that was broken off, the answer to a call."""


class Visitors:
    """The sessions of all tabs.

    Args:
        folder: Where their files lie.
        style: The style that a new session begins with.
        forget: Lets go of what the models remember of photos.
    """

    def __init__(self, folder: Path, style: str, forget: Callable[[], None]) -> None:
        self.folder = folder
        self.states: StateHolder | None = None  # where Gradio remembers what each tab shows: every picture on it
        self._style = style
        self._forget = forget
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def session(self, request: gr.Request) -> Session:
        """The visitor's; made on first use. Who calls without a name gets one that nobody else has."""
        name = request.session_hash or secrets.token_urlsafe()
        with self._lock:
            if name not in self._sessions:
                self._sessions[name] = Session(self.folder / secrets.token_urlsafe(12))
                self._sessions[name].style = self._style
            found = self._sessions[name]
            found.seen = time.monotonic()
        return found

    def leave(self, request: gr.Request) -> None:
        """The tab was closed: cancel and forget."""
        self._drop([str(request.session_hash)])

    def close(self) -> None:
        """The studio ends: cancel and forget everybody."""
        with self._lock:
            everybody = list(self._sessions)
        self._drop(everybody)

    def sweep(self) -> None:
        """Forget who was idle for long, and delete what belongs to nobody."""
        idle = time.monotonic() - IDLE_SECONDS
        with self._lock:
            gone = [name for name, one in self._sessions.items() if one.seen < idle and one.job is None]
        self._drop(gone)
        with self._lock:
            used = {one.folder for one in self._sessions.values()}
            known = set(self._sessions)
        if self.states is not None:
            left = datetime.now() - timedelta(seconds=LEFT_SECONDS)
            last = list(self.states.time_last_used.items())
            self._drop([name for name, when in last if name not in known and when < left])
        for path in self.folder.glob("[!.]*"):
            with suppress(OSError):  # it is gone already
                if path not in used and time.time() - path.stat().st_mtime > LEFT_SECONDS:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _drop(self, names: list[str]) -> None:
        with self._lock:
            gone = [self._sessions.pop(name) for name in names if name in self._sessions]
        for session in gone:
            session.left = True
            session.forget()
        if gone:
            self._forget()
        if self.states is not None:
            for name in names:
                self.states.session_data.pop(name, None)
                self.states.time_last_used.pop(name, None)


def take_upload(data: Any, folder: Path) -> tuple[bytes, str]:
    """The bytes of an upload and the name of the file; the file itself is deleted at once.

    Args:
        data: Its `path`, below `folder`, and the `name` that it had with the visitor.
        folder: Where uploads lie.

    Raises:
        InputError: it is not there.
    """
    path = Path(str(data.get("path", ""))).resolve()
    if not path.is_relative_to(folder.resolve()) or path.name.startswith(".") or not path.is_file():
        raise InputError(strings.UPLOAD_FAILED)
    name = Path(str(data.get("name") or path.name).replace("\\", "/")).name
    try:
        return path.read_bytes(), name
    finally:
        path.unlink(missing_ok=True)
