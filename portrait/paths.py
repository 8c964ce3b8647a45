"""The user's folders, checks of file names from untrusted sources, and the number of usable cores."""

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
"""Bytes of a name that becomes a folder or part of a file's name; file systems allow 255."""
MAX_PHOTO_BYTES = 2 * 10**9
"""Bytes of a photo's file: more than the largest picture that is decoded takes uncompressed."""
_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
JOINERS = "\u200c\u200d"
"""Joiners within words in Persian and Hindi, and within emoji."""


def cache_dir() -> Path:
    """The folder for files that can be recreated; `PORTRAIT_CACHE` overrides the platform's default."""
    import platformdirs

    override = os.environ.get("PORTRAIT_CACHE")
    return Path(override) if override else Path(platformdirs.user_cache_dir("portrait", appauthor=False))


def config_dir() -> Path:
    """The folder for the user's own recipes and styles; `PORTRAIT_CONFIG` overrides the platform's default."""
    import platformdirs

    override = os.environ.get("PORTRAIT_CONFIG")
    return Path(override) if override else Path(platformdirs.user_config_dir("portrait", appauthor=False))


def cpu_threads() -> int:
    """The number of cores that this process may use: those it is bound to, limited by its container's CPU quota.

    More threads than the quota allows would mostly wait for each other. Cores are counted, not measured: beside busy
    processes a measurement favors more threads than cores, at the expense of those processes.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    share = _container_share()
    return max(1, cores if share is None else min(cores, ceil(share)))


def _container_share() -> float | None:
    """The container's CPU quota in cores (`docker run --cpus`, Linux's cgroup v2); None without a limit."""
    try:
        quota, period = _CPU_MAX.read_text("ascii").split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        return None


def require_regular_file(path: Path) -> None:
    """Refuse files that may block or never end when read: devices, pipes, and files larger than any photo.

    Raises:
        OSError: `strerror` says why; also if there is no such file.
    """
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is a device or a pipe, not a file", str(path))
    if status.st_size > MAX_PHOTO_BYTES:
        raise OSError(errno.EFBIG, f"it has more than {MAX_PHOTO_BYTES / 1e9:.1f} GB", str(path))


def is_file_name(text: str, max_bytes: int = MAX_NAME_BYTES) -> bool:
    """Whether a text names one file or folder on any system: no separator, no `..`, only printable characters."""
    return (
        0 < len(text.encode(errors="replace")) <= max_bytes
        and not text.startswith(".")
        and all(char.isprintable() or char in JOINERS for char in text)
        and not any(char in '/\\:*?"<>|' for char in text)
    )


def shorten_name(name: str, max_bytes: int = MAX_NAME_BYTES, *, of: str = "") -> str:
    """Shorten a name to at most `max_bytes`; a cut name ends in six digits of the SHA-256 of the whole name, or of `of`."""
    data = os.fsencode(name)
    if len(data) <= max_bytes:
        return name
    digits = hashlib.sha256(os.fsencode(of or name)).hexdigest()[:6]
    return f"{data[: max_bytes - 7].decode(errors='ignore').rstrip('-_')}-{digits}"


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder that may not exist yet."""
    place = folder.absolute()
    return shutil.disk_usage(next(path for path in (place, *place.parents) if path.exists())).free


def format_size(count: float) -> str:
    """Format a number of bytes in MiB or GiB."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{count / 2**20:.1f} MiB"


def prove_writable(folder: Path, room: float = 0) -> None:
    """Check that a folder can be written to and has enough free space; one that does not exist is not created.

    Raises:
        InputError: the folder cannot be created or written to, or has too little space.
    """
    try:
        existing = _nearest(folder)
        with tempfile.TemporaryDirectory(prefix=".portrait-", dir=existing) as trial:
            inner = Path(trial, *folder.absolute().relative_to(existing).parts)
            inner.mkdir(parents=True, exist_ok=True)
            (inner / "trial").write_bytes(b"portrait")
        free = shutil.disk_usage(existing).free
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}; name another folder with -o") from None
    if free < room:
        raise InputError(
            f"{folder} has {format_size(free)} free, and the pictures may need {format_size(room)}; free some space, or "
            "name another folder with -o"
        )


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    place = folder.absolute()
    for path in (place, *place.parents):
        with suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()
            return path
    return place


@contextmanager
def choosing_names(folder: Path) -> Iterator[None]:
    """Hold a lock while names in a folder are chosen and their first files written."""
    from filelock import FileLock

    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    with ExitStack() as stack:
        with suppress(OSError, NotImplementedError):  # no place for a lock file
            (cache_dir() / "locks").mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(cache_dir() / "locks" / f"{name}.lock"))
        yield


def below(root: Path, name: str) -> Path:
    """The path of a file or folder below `root`, whether it exists or not.

    Use the returned path to open, write or remove whatever an untrusted file names in a folder.

    Args:
        root: A folder that the user named.
        name: Relative path, with `/` between its parts.

    Raises:
        InputError: the path leads outside of `root`, by its parts or by a link.
    """
    parts = name.split("/")
    if not all(is_file_name(part, 255) for part in parts):
        raise InputError(f"{name[:200]!r} is not a valid file name in {root}")
    path = root.joinpath(*parts)
    try:
        top, target = root.resolve(), path.resolve()
    except (OSError, RuntimeError):  # a loop of links
        raise InputError(f"{path} cannot be followed to a file in {root}") from None
    if not target.is_relative_to(top):
        raise InputError(f"{path} is a link out of {root}, to {target}; remove it")
    return path


def is_within(path: Path, folders: Iterable[Path]) -> bool:
    """Whether a path lies in one of the folders, both by its name and after resolving links.

    Paths that do not by name are never resolved: on Windows, resolving another machine's folder would sign in there.
    """
    absolute = Path(os.path.abspath(path))
    tops = [(Path(os.path.abspath(folder)), folder.resolve()) for folder in folders]
    named = any(absolute.is_relative_to(top) or absolute.is_relative_to(target) for top, target in tops)
    try:
        return named and any(path.resolve().is_relative_to(target) for _, target in tops)
    except (OSError, RuntimeError, ValueError):  # a loop of links, a zero byte
        return False
