"""The queue for a device: one job works, the others know their position."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from portrait.errors import PortraitError
from portrait.studio import strings


class QueueFullError(PortraitError):
    """Too many are waiting already."""


class DeviceQueue:
    """First come, first served; patient tickets come after all others. `max_waiting` may wait while one is being served."""

    def __init__(self, max_waiting: int = 16) -> None:
        self.max_waiting = max_waiting
        self._changed = threading.Condition()
        self._tickets: list[Ticket] = []

    def __len__(self) -> int:
        """How many are being served or waiting."""
        return len(self._tickets)

    def join(self, is_leaving: Callable[[], bool] = lambda: False, *, patient: bool = False) -> Ticket:
        """Join the end of the queue with a ticket, to be used in a `with` block; a leaving ticket no longer counts for others.

        A patient ticket waits behind everybody, and gives way if it is being served and somebody is `kept_waiting`.

        Raises:
            QueueFullError: `max_waiting` are waiting already; patient tickets are neither refused nor counted.
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
        """Whether anybody who is not patient is waiting."""
        with self._queue._changed:
            return any(not ticket.patient for ticket in self._queue._tickets if ticket is not self)

    @property
    def ahead(self) -> int:
        """How many are served first; 0 if it is this one's turn, or will be in a moment."""
        with self._queue._changed:
            tickets = self._queue._tickets
            before = tickets[: tickets.index(self)]
            return sum(not (ticket.patient or ticket._is_leaving()) for ticket in before)

    def wait(self, seconds: float) -> bool:
        """Wait until the queue moves, or the time is over; return whether it is this one's turn."""
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
