"""A job makes the pictures of one request in its own thread, reports its progress, and can be cancelled."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from portrait.errors import PortraitError
from portrait.loop.types import StylizedPortrait
from portrait.records import RgbImage
from portrait.settings import Settings
from portrait.studio import strings

log = logging.getLogger(__name__)


class Cancelled(Exception):
    """Raised in the middle of denoising."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JobEvent:
    """An event of a job.

    `kind` is one of:
        waiting: `position` in the queue; 1 is being served.
        loading: the models of the recipe.
        step: `variant`, `attempt`, `step` and `total`, and `preview`, the forming picture, once there is one.
        portrait: `portrait`, and `settings` that make exactly this one again; `sentence` if it could not be kept.
        preview: of `style` at `balance`, small, in `preview`.
        failed: `sentence` says why.
        cancelled: nothing more follows.
        still: nothing has happened for a while.
    """

    kind: str
    position: int = 0
    variant: int = 0
    attempt: int = 0
    step: int = 0
    total: int = 0
    preview: RgbImage | None = None
    portrait: StylizedPortrait | None = None
    settings: Settings | None = None
    style: str = ""
    balance: float = 0.0
    sentence: str = ""


_Events: TypeAlias = "queue.SimpleQueue[JobEvent | None]"


class RenderJob:
    """One request of one visitor: `settings.variants` pictures, or the previews of a photo.

    When it ends and is `private`, the models' caches of the photo are cleared. `work` runs in the job's own thread; it calls
    `check` between steps and `emit` with events.
    """

    def __init__(self, work: Callable[[RenderJob], None], *, cancelled: bool = False) -> None:
        self._lock = threading.Lock()
        self._unread: _Events | None = queue.SimpleQueue()
        """Events before anybody follows."""
        self._followers: list[_Events] = [self._unread]
        self._newest: JobEvent | None = None
        self._is_over = False
        self._stop = threading.Event()
        if cancelled:
            self._stop.set()
        self.private = False
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[RenderJob], None]) -> None:
        try:
            work(self)
        except Cancelled:
            self.emit("cancelled")
        except Exception as error:
            self.emit("failed", sentence=str(to_user_error(error)))
        finally:
            with self._lock:
                self._is_over = True
                for follower in self._followers:
                    follower.put(None)

    def emit(self, kind: str, **fields: Any) -> None:
        """Add an event; see `JobEvent` for its fields."""
        event = JobEvent(kind=kind, **fields)
        with self._lock:
            self._newest = event
            for follower in self._followers:
                follower.put(event)

    def cancel(self) -> None:
        """Request that it end at the next step."""
        self._stop.set()

    @property
    def cancelled(self) -> bool:
        return self._stop.is_set()

    @property
    def is_over(self) -> bool:
        return self._is_over

    def wait(self, seconds: float) -> None:
        """Wait until it has ended, or the time is over."""
        self._thread.join(seconds)

    def check(self) -> None:
        """Raises Cancelled if the job was cancelled."""
        if self.cancelled:
            raise Cancelled

    def events(self, pulse: float | None = None) -> Iterator[JobEvent]:
        """Events until the job ends; with `pulse`, also a still event after that many seconds without one.

        The first follower gets all events, later ones the last event and everything after it.
        """
        events = self._follow()
        try:
            while True:
                try:
                    event = events.get(timeout=pulse)
                except queue.Empty:
                    event = JobEvent(kind="still")
                if event is None:
                    return
                yield event
        finally:
            with self._lock, suppress(ValueError):
                self._followers.remove(events)

    def _follow(self) -> _Events:
        with self._lock:
            if self._unread is not None:
                events, self._unread = self._unread, None
                return events
            events = queue.SimpleQueue()
            if self._newest is not None:
                events.put(self._newest)
            if self._is_over:
                events.put(None)
            else:
                self._followers.append(events)
            return events


def to_user_error(error: Exception) -> PortraitError:
    """The message for the visitor: our own errors as they are; for a bug only its name, and the log has the rest."""
    if isinstance(error, PortraitError):
        return error
    log.error("unexpected error", exc_info=error)
    return PortraitError(strings.UNEXPECTED.format(error=repr(error)))
