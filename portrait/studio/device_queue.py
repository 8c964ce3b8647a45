"""The line in front of a device: one works, the others know their place."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from portrait.errors import PortraitError
from portrait.studio import strings


class LineFullError(PortraitError):
    """More are waiting than make sense."""


class Line:
    """First come, first served. `join` returns a place, which is used in a `with` block."""

    def __init__(self, longest: int = 16) -> None:
        self.longest = longest
        self._moved = threading.Condition()
        self._places: list[Place] = []

    def join(self, leaving: Callable[[], bool] = lambda: False) -> Place:
        """A place at the end; who is `leaving` does not count as somebody for those behind.

        Raises:
            LineFullError: `longest` wait already.
        """
        with self._moved:
            if len(self._places) > self.longest:
                raise LineFullError(strings.LINE_FULL.format(n=self.longest))
            place = Place(self, leaving)
            self._places.append(place)
            return place


class Place:
    """One place in a line; leaving the `with` block gives it up, whether it was served or not."""

    def __init__(self, line: Line, leaving: Callable[[], bool]) -> None:
        self._line = line
        self._leaving = leaving

    @property
    def before(self) -> int:
        """How many come first; 0 when it is this one's turn, or will be in a moment."""
        with self._line._moved:
            places = self._line._places
            return sum(not place._leaving() for place in places[: places.index(self)])

    def wait(self, seconds: float) -> bool:
        """Wait until the line moves, or so long; True when it is this one's turn."""
        with self._line._moved:
            if self._line._places[0] is not self:
                self._line._moved.wait(seconds)
            return self._line._places[0] is self

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._line._moved:
            self._line._places.remove(self)
            self._line._moved.notify_all()
