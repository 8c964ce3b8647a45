"""Read files of the user, and write files atomically: completely or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from portrait.errors import InputError, SettingsError, one_line
from portrait.paths import require_regular_file


def read_bytes(path: Path) -> bytes:
    """Read a regular file.

    Raises:
        SettingsError: it is not one, or cannot be read.
    """
    try:
        require_regular_file(path)
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from None


def read_json(path: Path, name: str) -> object:
    """Read a JSON file; `name` is its name in messages.

    Raises:
        SettingsError: it cannot be read, or is not JSON.
    """
    try:
        require_regular_file(path)
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"cannot read {name}: {one_line(error)}") from None


def json_sha256(value: object) -> str:
    """SHA-256 of a value as JSON; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_json(path: str | Path, value: object) -> Path:
    """Write JSON, completely or not at all."""
    return write_bytes(Path(path), (json.dumps(value, indent=1) + "\n").encode())


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file atomically: a temporary file beside it, flushed to disk, then renamed over it.

    Raises:
        InputError: the folder cannot be made or written to.
    """
    with _written_beside(path, data) as temporary:
        os.replace(temporary, path)
    return path


def write_new(path: Path, data: bytes) -> Path:
    """Write a file under its name or, if a file with other content has it, under the next free number.

    Processes that write at the same time never get the same name; the file appears completely or not at all.

    Raises:
        InputError: the folder cannot be made or written to.
    """
    with _written_beside(path, data) as temporary:
        for number in count(1):
            place = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
            if _take_name(temporary, place) or _holds(place, data):
                return place
    raise AssertionError("counting has no end")


@contextmanager
def _written_beside(path: Path, data: bytes) -> Iterator[str]:
    """Write a temporary file beside `path`, flushed to disk, which is deleted after the block.

    Raises:
        InputError: it cannot be written or renamed.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            yield temporary
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None


def _take_name(file: str, place: Path) -> bool:
    """Give a file a name that is free; return False if it is taken."""
    try:
        os.link(file, place)
    except FileExistsError:
        return False
    except (
        OSError
    ):  # no hard links on this file system, such as exFAT: claim the name first, then replace it by the file
        try:
            place.touch(exist_ok=False)
        except FileExistsError:
            return False
        os.replace(file, place)
    return True


def _holds(file: Path, data: bytes) -> bool:
    try:
        return file.is_file() and file.stat().st_size == len(data) and file.read_bytes() == data
    except OSError:
        return False


def leftovers(folder: Path) -> list[Path]:
    """Unfinished files that `write_bytes` left in a folder when its process was killed, sorted."""
    try:
        return sorted(path for path in folder.iterdir() if re.fullmatch(r"\..+\.[a-z0-9_]{8}", path.name))
    except OSError:  # not a folder
        return []


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
