"""What commands print: lines of text that cannot control a terminal. It needs no library, so that --help answers at once."""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO

from portrait.errors import PortraitError
from portrait.paths import JOINERS

MAX_ERROR = 2000
"""Maximum characters of a printed message, which may quote a long value from a file."""


def complain(error: PortraitError) -> int:
    """Print an error in one line on stderr; return the exit code that it stands for."""
    text = str(error)
    more = f" ... ({len(text) - MAX_ERROR} more characters)" if len(text) > MAX_ERROR else ""
    say(f"portrait: {printable(text[:MAX_ERROR])}{more}", error=True)
    return error.exit_code


def say(text: object, *, error: bool = False) -> None:
    """Print lines of text at once, on stderr for an `error`, without terminal control characters.

    Raises:
        PortraitError: stdout cannot be written, such as to a full disk.
    """
    try:
        print(printable_lines(str(text)), file=sys.stderr if error else sys.stdout, flush=True)
    except BrokenPipeError:
        raise
    except OSError as why:
        if error:
            return  # there is no other place to say it
        sys.stdout = _nowhere()  # Python would flush the other at its end, and fail again
        raise PortraitError(f"cannot print: {why.strerror}") from None


def open_streams() -> None:
    """Give stdout and stderr to a process that was started without them; what it prints is discarded."""
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def printable(text: str) -> str:
    """A text on one line, with unprintable characters as escapes, so that it cannot control a terminal."""
    return "".join(
        char if char.isprintable() or char in JOINERS else char.encode("unicode_escape").decode() for char in text
    )


def printable_lines(text: str) -> str:
    """The same, but line breaks are kept."""
    return "\n".join(map(printable, text.split("\n")))


class LogLines(logging.Formatter):
    """Formats log messages, which may quote anything, with `printable_lines`."""

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))
