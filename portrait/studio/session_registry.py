"""The sessions of all tabs, and when each is forgotten."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import gradio as gr
from gradio.state_holder import StateHolder

from portrait.studio.session import Session

IDLE_SECONDS = 3600.0
"""A session is forgotten after so long without activity."""
ORPHAN_SECONDS = 600.0
"""A file that belongs to no session is deleted after so long: an interrupted upload, the answer to a call."""


class Sessions:
    """A session per tab, made on first use.

    Args:
        folder: Where their files lie.
        style: The style that a new session begins with.
        clear_cache: Drops what the models remember of photos.
    """

    def __init__(self, folder: Path, style: str, clear_cache: Callable[[], None]) -> None:
        self.folder = folder
        self.states: StateHolder | None = None  # where Gradio remembers what each tab shows: every picture on it
        self._style = style
        self._clear_cache = clear_cache
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def get(self, request: gr.Request) -> Session:
        """The tab's session. A caller without a session name gets one that is shared with nobody."""
        name = request.session_hash or secrets.token_urlsafe()
        with self._lock:
            if name not in self._sessions:
                self._sessions[name] = Session(self.folder / secrets.token_urlsafe(12))
                self._sessions[name].style = self._style
            session = self._sessions[name]
            session.last_used = time.monotonic()
        return session

    def end(self, request: gr.Request) -> None:
        """The tab was closed: cancel and forget."""
        self._drop([str(request.session_hash)])

    def close(self) -> None:
        """The studio ends: cancel and forget everybody."""
        with self._lock:
            names = list(self._sessions)
        self._drop(names)

    def sweep(self) -> None:
        """Forget sessions without activity, and delete what belongs to no session."""
        oldest = time.monotonic() - IDLE_SECONDS
        with self._lock:
            idle = [name for name, one in self._sessions.items() if one.last_used < oldest and one.job is None]
        self._drop(idle)
        with self._lock:
            folders = {session.folder for session in self._sessions.values()}
            names = set(self._sessions)
        self._drop_orphaned_states(names)
        self._delete_orphaned_files(folders)

    def _drop_orphaned_states(self, names: set[str]) -> None:
        if self.states is None:
            return
        oldest = datetime.now() - timedelta(seconds=ORPHAN_SECONDS)
        last_used = list(self.states.time_last_used.items())
        self._drop([name for name, when in last_used if name not in names and when < oldest])

    def _delete_orphaned_files(self, folders: set[Path]) -> None:
        for path in self.folder.glob("[!.]*"):
            with suppress(OSError):  # it is deleted already
                if path not in folders and time.time() - path.stat().st_mtime > ORPHAN_SECONDS:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _drop(self, names: Sequence[str]) -> None:
        with self._lock:
            dropped = [self._sessions.pop(name) for name in names if name in self._sessions]
        for session in dropped:
            session.closed = True
            session.forget()
        if dropped:
            self._clear_cache()
        if self.states is not None:
            for name in names:
                self.states.session_data.pop(name, None)
                self.states.time_last_used.pop(name, None)
