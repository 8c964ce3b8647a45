"""Folders of the user, names of files that come from elsewhere, and how many cores there are."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from math import ceil
from pathlib import Path

from portrait.errors import InputError

MAX_NAME_BYTES = 80
"""Of a name that becomes a folder, or a part of a file's name; file systems take 255."""
MAX_PHOTO_BYTES = 2 * 10**9
"""Of a photo's file: more than the largest picture that is decoded takes without compression."""
_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
JOINERS = "\u200c\u200d"
"""Of letters in Persian and Hindi, and of the parts of an emoji."""


def cache_dir() -> Path:
    """The folder for what can be built again; `PORTRAIT_CACHE` overrides the platform's own."""
    import platformdirs

    override = os.environ.get("PORTRAIT_CACHE")
    return Path(override) if override else Path(platformdirs.user_cache_dir("portrait", appauthor=False))


def config_dir() -> Path:
    """The folder for the user's own recipes and styles; `PORTRAIT_CONFIG` overrides the platform's own."""
    import platformdirs

    override = os.environ.get("PORTRAIT_CONFIG")
    return Path(override) if override else Path(platformdirs.user_config_dir("portrait", appauthor=False))


def cpu_threads() -> int:
    """Cores that this process may use: those that it is bound to, and no more than a container's share of time.

    More threads than that share would spend most of it waiting for each other.
    They are counted, not measured: beside busy processes the clock favors more threads than cores, which take the time from those.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    share = _container_share()
    return max(1, cores if share is None else min(cores, ceil(share)))


def _container_share() -> float | None:
    """How many cores' time the container may use (`docker run --cpus`, Linux's cgroup v2); None without a limit."""
    try:
        quota, period = _CPU_MAX.read_text("ascii").split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        return None


def require_regular_file(path: Path, max_bytes: int = MAX_PHOTO_BYTES) -> None:
    """Refuse what never ends or never answers when it is read: a device, a pipe, a file beyond every photo.

    Raises:
        OSError: `strerror` says which; also where there is no such file.
    """
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is a device or a pipe, no file", str(path))
    if status.st_size > max_bytes:
        raise OSError(errno.EFBIG, f"it has more than {max_bytes / 1e9:.1f} GB", str(path))


def is_file_name(text: str, max_bytes: int = MAX_NAME_BYTES) -> bool:
    """Whether a text is the name of one file or folder everywhere: no separator, no `..`, nothing that does not print."""
    return (
        0 < len(text.encode(errors="replace")) <= max_bytes
        and not text.startswith(".")
        and all(char.isprintable() or char in JOINERS for char in text)
        and not any(char in '/\\:*?"<>|' for char in text)
    )


def shorten_name(name: str, max_bytes: int = MAX_NAME_BYTES, *, of: str = "") -> str:
    """A name of at most so many bytes; one that is cut ends in six digits of the SHA-256 of all of it, or of `of`."""
    data = os.fsencode(name)
    if len(data) <= max_bytes:
        return name
    digits = hashlib.sha256(os.fsencode(of or name)).hexdigest()[:6]
    return f"{data[: max_bytes - 7].decode(errors='ignore').rstrip('-_')}-{digits}"


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk where a folder is, or will be."""
    place = folder.absolute()
    return shutil.disk_usage(next(path for path in (place, *place.parents) if path.exists())).free


def format_size(count: float) -> str:
    """Bytes in MiB or GiB."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{count / 2**20:.1f} MiB"


def prove_writable(folder: Path, room: float = 0) -> None:
    """Make a folder, if it is not there, and find out whether files can be written to it and so many bytes are free.

    Raises:
        InputError: they cannot be written, or there is too little room.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"portrait")
        free = free_bytes(folder)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}; name another folder with -o") from None
    if free < room:
        raise InputError(
            f"{folder} has {free / 2**20:.0f} MiB free, and the pictures may need {room / 2**20:.0f} MiB; free some space, or "
            "name another folder with -o"
        )


@contextmanager
def choosing_names(folder: Path) -> Iterator[None]:
    """While names in a folder are chosen and their first files written, no other process of this user does the same there."""
    from filelock import FileLock

    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    with ExitStack() as stack:
        with suppress(OSError, NotImplementedError):  # nowhere to keep a lock
            (cache_dir() / "locks").mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(cache_dir() / "locks" / f"{name}.lock"))
        yield


def below(root: Path, name: str) -> Path:
    """A file or folder below `root`, whether it is there or not.

    Whatever a file of somebody else names in a folder is opened, written and removed by the path that this returns.

    Args:
        root: A folder that the user named.
        name: Relative, with `/` between its parts.

    Raises:
        InputError: it leads elsewhere, by its parts or by a link.
    """
    parts = name.split("/")
    if not all(is_file_name(part, 255) for part in parts):
        raise InputError(f"{name[:200]!r} is not a valid file name in {root}")
    path = root.joinpath(*parts)
    try:
        top, target = root.resolve(), path.resolve()
    except (OSError, RuntimeError):  # a circle of links
        raise InputError(f"{path} cannot be followed to a file in {root}") from None
    if not target.is_relative_to(top):
        raise InputError(f"{path} is a link out of {root}, to {target}; remove it")
    return path


def is_within(path: Path, folders: Iterable[Path]) -> bool:
    """Whether a path lies in one of the folders, by its name and by where its links lead.

    What does not by its name is not looked at: on Windows, a look at another machine's folder signs in there.
    """
    absolute = Path(os.path.abspath(path))
    tops = [(Path(os.path.abspath(folder)), folder.resolve()) for folder in folders]
    named = any(absolute.is_relative_to(top) or absolute.is_relative_to(target) for top, target in tops)
    try:
        return named and any(path.resolve().is_relative_to(target) for _, target in tops)
    except (OSError, RuntimeError, ValueError):  # a circle of links, a zero byte
        return False
