"""The queue for a device: one job works, the others know their position."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from portrait.errors import PortraitError
from portrait.studio import strings


class QueueFullError(PortraitError):
    """More are waiting than make sense."""


class DeviceQueue:
    """First come, first served.

    Args:
        max_waiting: How many may wait behind the one that is served.
    """

    def __init__(self, max_waiting: int = 16) -> None:
        self.max_waiting = max_waiting
        self._changed = threading.Condition()
        self._tickets: list[Ticket] = []

    def __len__(self) -> int:
        """How many are served or wait."""
        return len(self._tickets)

    def join(self, is_leaving: Callable[[], bool] = lambda: False) -> Ticket:
        """A ticket at the end of the queue, to be used in a `with` block; the others do not count one that is leaving.

        Raises:
            QueueFullError: `max_waiting` wait already.
        """
        with self._changed:
            if len(self._tickets) > self.max_waiting:
                raise QueueFullError(strings.QUEUE_FULL.format(n=self.max_waiting))
            ticket = Ticket(self, is_leaving)
            self._tickets.append(ticket)
            return ticket


class Ticket:
    """A position in a queue; leaving the `with` block gives it up, whether it was served or not."""

    def __init__(self, queue: DeviceQueue, is_leaving: Callable[[], bool]) -> None:
        self._queue = queue
        self._is_leaving = is_leaving

    @property
    def ahead(self) -> int:
        """How many are served first; 0 when it is this one's turn, or will be in a moment."""
        with self._queue._changed:
            tickets = self._queue._tickets
            return sum(not ticket._is_leaving() for ticket in tickets[: tickets.index(self)])

    def wait(self, seconds: float) -> bool:
        """Wait until the queue moves, at most so long; returns whether it is this one's turn."""
        with self._queue._changed:
            if self._queue._tickets[0] is not self:
                self._queue._changed.wait(seconds)
            return self._queue._tickets[0] is self

    def __enter__(self) -> Ticket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._queue._changed:
            self._queue._tickets.remove(self)
            self._queue._changed.notify_all()
