"""Partial files of downloads: each of one process alone, and left to the next run if the download fails.

A run that fails leaves its partial file as `KEY.part`, and the next run takes it over by renaming it; the file of a killed
process is taken over if nothing was written to it for five minutes. Since renaming is atomic and every process writes to its
own file, processes that fetch the same file at the same time need no locks, which some file systems only pretend to have;
each of them downloads the file.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

ABANDONED = 300.0
"""Seconds without a write after which a partial file counts as abandoned; running downloads never pause that long."""


@contextlib.contextmanager
def partial_file(folder: Path, key: str) -> Iterator[Path]:
    """A path for this process alone, with the partial file of an earlier run if there is one.

    If the block fails, the file is left for the next run; if it succeeds, the file is removed. `key` names the content.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, handed_on = folder / f"{key}.{uuid.uuid4().hex}.live", folder / f"{key}.part"
    for leftover in [handed_on, *(live for live in folder.glob(f"{key}.*.live") if is_abandoned(live))]:
        with contextlib.suppress(OSError):  # another process was first
            os.rename(leftover, path)
            break
    try:
        yield path
    except BaseException:
        with contextlib.suppress(OSError):
            if path.lstat().st_size:
                os.replace(path, handed_on)
        raise
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def is_abandoned(path: Path) -> bool:
    """Whether no process writes to a partial file anymore."""
    try:
        return path.suffix != ".live" or time.time() - path.lstat().st_mtime > ABANDONED
    except OSError:
        return False


def open_partial(path: Path) -> BinaryIO:
    """Open a partial file; links are refused, as they would write to somebody else's file."""
    with contextlib.suppress(FileNotFoundError):
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            path.unlink()
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o666), "r+b")
