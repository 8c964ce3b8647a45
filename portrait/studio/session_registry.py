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

from portrait.studio.session import Form, Session

IDLE_SECONDS = 3600.0
"""Seconds without activity after which a session is forgotten."""
GRACE_SECONDS = 600.0
"""Seconds after its tab was closed when a session is forgotten; until then a reloaded tab finds everything."""
AWAY_SECONDS = 120.0
"""Seconds after which work for a closed tab is stopped."""
RELOAD_SECONDS = 15.0
"""Seconds that a reloaded tab waits for its old connection to end; if it does not, another tab has the session."""
ORPHAN_SECONDS = 600.0
"""Seconds after which a file without a session is deleted: an unused upload, the answer to a call."""


class Sessions:
    """One session per tab, created on first use with its files in `folder` and with `form`.

    `clear_cache` clears what the models cached for photos.
    """

    def __init__(self, folder: Path, form: Form, clear_cache: Callable[[], None]) -> None:
        self.folder = folder
        self.states: StateHolder | None = None  # where Gradio stores what each tab shows, including every picture
        self._form = form
        self._clear_cache = clear_cache
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def get(self, request: gr.Request) -> Session:
        """The tab's session. A caller without a session name gets a session that is shared with nobody.

        A tab that was loaded before this studio started, or whose session was forgotten, gets a new one that is `lost`.
        """
        name = request.session_hash or secrets.token_urlsafe()
        with self._lock:
            if name not in self._sessions:
                self._sessions[name] = Session(self.folder / secrets.token_urlsafe(12))
                self._sessions[name].form = self._form
                self._sessions[name].lost = True
            session = self._sessions[name]
            session.come_back()
        return session

    def _new(self, request: gr.Request, *, lost: bool) -> Session:
        session = self.get(request)
        session.lost = lost
        return session

    def find(self, key: str) -> Session | None:
        """The session with a key, if it is not forgotten."""
        with self._lock:
            sessions = list(self._sessions.values())
        return next(
            (session for session in sessions if secrets.compare_digest(session.key.encode(), key.encode())), None
        )

    def resume(self, request: gr.Request, key: str) -> Session:
        """The session of a newly loaded tab: its previous one, if `key` names one that no other tab has.

        A new one is `lost` if the previous one is gone. `key` is the `Session.key` that the tab remembers; empty for a new tab.
        """
        before = self.find(key)
        if before is None:
            return self._new(request, lost=bool(key))
        if before is self._sessions.get(str(request.session_hash)):  # its connection was broken
            return self.get(request)
        if before.is_away.wait(RELOAD_SECONDS):  # the connection of a tab that is reloaded ends now
            with self._lock:
                names = [
                    name for name, session in self._sessions.items() if session is before and before.is_away.is_set()
                ]
                for name in names:
                    self._sessions[request.session_hash or name] = self._sessions.pop(name)
                    before.come_back()
            if names:
                return before
        return self._new(request, lost=before.closed)

    def end(self, request: gr.Request) -> None:
        """The tab was closed or is being reloaded: its session waits for it for a while."""
        with self._lock:
            session = self._sessions.get(str(request.session_hash))
            if session is not None:
                session.leave()

    def close(self) -> None:
        """The studio ends: cancel all jobs and forget all sessions."""
        with self._lock:
            names = list(self._sessions)
        self._drop(names)

    def sweep(self) -> None:
        """Forget sessions without a tab or activity, stop work that nobody waits for, and delete files without a session."""
        now = time.monotonic()
        with self._lock:
            sessions = dict(self._sessions)
        for session in sessions.values():
            if session.away_since is not None and now - session.away_since > AWAY_SECONDS:
                session.stopped |= session.is_working
                session.cancel()
                session.cancel_previews()
        self._drop([name for name, session in sessions.items() if _is_over(session, now)])
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
            with suppress(OSError):  # it was already deleted
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


def _is_over(session: Session, now: float) -> bool:
    if session.away_since is not None:
        return now - session.away_since > GRACE_SECONDS
    return not session.is_working and now - session.last_used > IDLE_SECONDS
