"""Let a signal end a command like Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupted_by(*names: str) -> Iterator[None]:
    """Let these signals end the block like Ctrl-C, so that finished work is kept and reported; if ignored, they stay so."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set a handler
        yield
        return
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]  # Windows has no SIGHUP
    before = {number: signal.getsignal(number) for number in numbers}  # a library, such as Ray, may have set its own
    heeded = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in heeded:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in heeded.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
