"""The lock file: hashes of files without a pin in the manifest, recorded when they are first fetched."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path

import platformdirs

from portrait.errors import InputError, WeightsCorruptError, WeightsError, one_line
from portrait.files import write_json
from portrait.hub.manifest import SHA256, Part


def lock_file() -> Path:
    """The lock file's path: `PORTRAIT_LOCK`, or weights.lock.json in the user's data folder."""
    override = os.environ.get("PORTRAIT_LOCK")
    return (
        Path(override)
        if override
        else Path(platformdirs.user_data_dir("portrait", appauthor=False)) / "weights.lock.json"
    )


def read_lock() -> dict[str, str]:
    """Name of a pin -> SHA-256; empty if there is no lock file.

    Raises:
        WeightsCorruptError: the file is damaged; it is left unchanged.
    """
    path = lock_file()
    try:
        digests = json.loads(path.read_text("utf-8"))["files"]
        if not all(re.fullmatch(SHA256, digest) for digest in digests.values()):
            raise ValueError("an entry is not a SHA-256")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsCorruptError(
            f"the lock file {path} cannot be used ({error!r}); restore it, or move it away to pin anew"
        ) from None
    return dict(digests)


def expected_digests(part: Part) -> dict[str, str]:
    """Path of each file of a part -> expected SHA-256: from the manifest, or else the lock file, or else empty."""
    locked = {} if all(file.sha256 for file in part.files) else read_lock()
    return {file.path: file.sha256 or locked.get(part.pin_name(file), "") for file in part.files}


def extend_lock(digests: dict[str, str]) -> None:
    """Add pins to the lock file, all of them or none; pins are never changed.

    Processes take turns if the file system supports locks. Otherwise one of two pins that are added at the same moment may
    be lost; the next verification records it again.

    Raises:
        WeightsCorruptError: a name is pinned to another hash.
        WeightsError: the lock file cannot be written.
    """
    from filelock import FileLock

    path = lock_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(NotImplementedError):
                stack.enter_context(FileLock(path.with_name(f".{path.name}.lock")))
            locked = read_lock()
            for name, digest in digests.items():
                if locked.setdefault(name, digest) != digest:
                    raise WeightsCorruptError(
                        f"{name} has SHA-256 {digest[:16]}..., but {locked[name][:16]}... was pinned on first use in {path}"
                    )
            write_json(path, {"version": 1, "files": dict(sorted(locked.items()))})
    except (OSError, InputError) as error:
        raise WeightsError(f"{one_line(error, 300)}; set PORTRAIT_LOCK to a writable file") from None
