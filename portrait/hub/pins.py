"""The lock file: hashes of files that the manifest has none for, as seen on first use."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path

import platformdirs

from portrait.errors import WeightsCorruptError, WeightsError
from portrait.hub.manifest import Part, PartFile

SHA256 = re.compile(r"[0-9a-f]{64}")


def lock_file() -> Path:
    """Where hashes seen on first use are kept: `PORTRAIT_LOCK`, or weights.lock.json in the user's data folder."""
    own = os.environ.get("PORTRAIT_LOCK")
    return Path(own) if own else Path(platformdirs.user_data_dir("portrait", appauthor=False)) / "weights.lock.json"


def pins() -> dict[str, str]:
    """Pin name -> SHA-256 of the lock file; empty when there is none.

    Raises:
        WeightsCorruptError: the file is damaged; it is left as it is.
    """
    path = lock_file()
    try:
        found = json.loads(path.read_text("utf-8"))["files"]
        if not all(isinstance(k, str) and SHA256.fullmatch(v) for k, v in found.items()):
            raise ValueError("an entry is not a SHA-256")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsCorruptError(
            f"the lock file {path} cannot be used ({error!r}); restore it, or move it away to pin anew"
        ) from None
    return dict(found)


def pinned(part: Part, file: PartFile) -> str:
    """The SHA-256 that a file must have: the manifest's, else the lock file's, else empty."""
    return file.sha256 or pins().get(part.pin_name(file), "")


def pin(digests: dict[str, str]) -> None:
    """Add pins to the lock file, whole or not at all; what is pinned already is never changed.

    Raises:
        WeightsCorruptError: a name is pinned to another hash.
        WeightsError: the lock file cannot be written.
    """
    from huggingface_hub.utils import WeakFileLock

    path = lock_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(path.with_name(f".{path.name}.lock")):
            known = pins()
            for name, digest in digests.items():
                if known.setdefault(name, digest) != digest:
                    raise WeightsCorruptError(
                        f"{name} has SHA-256 {digest[:16]}..., but {known[name][:16]}... was pinned on first use in {path}"
                    )
            handle, staging = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                json.dump({"version": 1, "files": dict(sorted(known.items()))}, out, indent=1)
            os.replace(staging, path)
    except OSError as error:
        raise WeightsError(
            f"cannot write the lock file {path} ({error.strerror}); set PORTRAIT_LOCK to a file that can be written"
        ) from None
