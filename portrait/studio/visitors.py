"""Who is here: a session for each tab, what they upload, and who is forgotten when."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from portrait.errors import InputError
from portrait.studio import strings
from portrait.studio.session import Session

IDLE_SECONDS = 3600.0
"""A session that was not used for so long is forgotten."""


class Visitors:
    """The sessions of all tabs.

    Args:
        folder: Where their files lie.
        style: The style that a new session begins with.
        forget: Lets go of what the models remember of photos.
    """

    def __init__(self, folder: Path, style: str, forget: Callable[[], None]) -> None:
        self.folder = folder
        self._style = style
        self._forget = forget
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def session(self, request: gr.Request) -> Session:
        """The visitor's; made on first use. Sessions that were idle for long go."""
        name, now = str(request.session_hash), time.monotonic()
        with self._lock:
            idle = [key for key, one in self._sessions.items() if now - one.seen > IDLE_SECONDS and key != name]
            gone = [self._sessions.pop(key) for key in idle]
            if name not in self._sessions:
                self._sessions[name] = Session(self.folder / secrets.token_urlsafe(12))
                self._sessions[name].style = self._style
            found = self._sessions[name]
            found.seen = now
        for one in gone:
            one.forget()
        return found

    def leave(self, request: gr.Request) -> None:
        """The tab was closed: cancel and forget."""
        with self._lock:
            session = self._sessions.pop(str(request.session_hash), None)
        if session is not None:
            session.forget()
            self._forget()


def take_upload(data: Any, folder: Path) -> tuple[bytes, str]:
    """The bytes of an upload and the name of the file; the file itself is deleted at once.

    Args:
        data: Its `path`, below `folder`, and the `name` that it had with the visitor.
        folder: Where uploads lie.

    Raises:
        InputError: it is not there.
    """
    path = Path(str(data.get("path", ""))).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise InputError(strings.UPLOAD_FAILED)
    name = Path(str(data.get("name") or path.name).replace("\\", "/")).name
    try:
        return path.read_bytes(), name
    finally:
        path.unlink(missing_ok=True)
