"""A job makes the pictures of one request in a thread of its own, tells what happens, and can be cancelled."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from portrait.errors import PortraitError
from portrait.records import RgbImage
from portrait.settings import Settings
from portrait.studio import strings

if TYPE_CHECKING:
    from portrait.loop.types import StylizedPortrait

log = logging.getLogger(__name__)


class Cancelled(Exception):
    """Raised in the middle of the denoising."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JobEvent:
    """What happens to a job.

    `kind` is one of:
        waiting: `position` in the queue; 1 is being served.
        loading: the models of the recipe.
        step: `variant`, `attempt`, `step` and `total`, and `preview`, the picture as it forms, once there is one.
        portrait: `portrait`, and `settings`, which alone make it again.
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
    sentence: str = ""


class RenderJob:
    """One request of one visitor: `settings.variants` pictures.

    When it ends and is `private`, the models' caches of the photo are cleared.

    Args:
        work: What it does, in a thread of its own; calls `check` between steps and `emit` with what happens.
        cancelled: Whether it is cancelled before it begins.
    """

    def __init__(self, work: Callable[[RenderJob], None], *, cancelled: bool = False) -> None:
        self._events: queue.SimpleQueue[JobEvent | None] = queue.SimpleQueue()
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
            self._events.put(None)

    def emit(self, kind: str, **fields: Any) -> None:
        """Add an event; see `JobEvent` for its fields."""
        self._events.put(JobEvent(kind=kind, **fields))

    def cancel(self) -> None:
        """Ask it to end at the next step."""
        self._stop.set()

    @property
    def cancelled(self) -> bool:
        """Whether it was asked to end."""
        return self._stop.is_set()

    def wait(self, seconds: float) -> None:
        """Wait until it has ended, at most so long."""
        self._thread.join(seconds)

    def check(self) -> None:
        """Raises Cancelled if that was asked for."""
        if self.cancelled:
            raise Cancelled

    def events(self, pulse: float | None = None) -> Iterator[JobEvent]:
        """Everything that happens, until it ends; with `pulse` also a still event after so many seconds without one."""
        while True:
            try:
                event = self._events.get(timeout=pulse)
            except queue.Empty:
                event = JobEvent(kind="still")
            if event is None:
                return
            yield event


def to_user_error(error: Exception) -> PortraitError:
    """What a visitor is shown: our own errors as they are; of a bug its name, and the log has the rest."""
    if isinstance(error, PortraitError):
        return error
    log.error("unexpected error", exc_info=error)
    return PortraitError(strings.UNEXPECTED.format(error=repr(error)))
