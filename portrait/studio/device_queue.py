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
    """First come, first served; whoever is patient comes after all others.

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

    def join(self, is_leaving: Callable[[], bool] = lambda: False, *, patient: bool = False) -> Ticket:
        """A ticket at the end of the queue, to be used in a `with` block; the others do not count one that is leaving.

        A patient one waits behind everybody, and gives way when it is served and somebody is `kept_waiting`.

        Raises:
            QueueFullError: `max_waiting` wait already; nobody patient is refused, or counted.
        """
        with self._changed:
            ahead = sum(not ticket.patient for ticket in self._tickets)
            if ahead > self.max_waiting and not patient:
                raise QueueFullError(strings.QUEUE_FULL.format(n=self.max_waiting))
            ticket = Ticket(self, is_leaving, patient)
            served_first = bool(self._tickets) and self._tickets[0].patient
            place = len(self._tickets) if patient else ahead + served_first
            self._tickets.insert(place, ticket)
            return ticket


class Ticket:
    """A position in a queue; leaving the `with` block gives it up, whether it was served or not."""

    def __init__(self, queue: DeviceQueue, is_leaving: Callable[[], bool], patient: bool) -> None:
        self._queue = queue
        self._is_leaving = is_leaving
        self.patient = patient

    @property
    def kept_waiting(self) -> bool:
        """Whether anybody waits who is not patient."""
        with self._queue._changed:
            return any(not ticket.patient for ticket in self._queue._tickets if ticket is not self)

    @property
    def ahead(self) -> int:
        """How many are served first; 0 when it is this one's turn, or will be in a moment."""
        with self._queue._changed:
            tickets = self._queue._tickets
            before = tickets[: tickets.index(self)]
            return sum(not (ticket.patient or ticket._is_leaving()) for ticket in before)

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
