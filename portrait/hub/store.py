"""The store of model files on this machine: find files, verify their pins, build folders, and remove unused files.

Verified files are in `blobs` in portrait's cache, each under its SHA-256. Files in huggingface_hub's cache and in
InsightFace's folder are used in place and never changed. Models are loaded from folders that contain only links to verified
files, so a file that another program put beside them is never loaded by accident.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from portrait.errors import WeightsCorruptError, WeightsError, WeightsMissingError
from portrait.hub.files import build_folder, folder_for, sha256_of
from portrait.hub.manifest import Part, PartFile
from portrait.hub.partial import is_abandoned
from portrait.hub.pins import expected_digests, extend_lock
from portrait.paths import cache_dir, format_size, free_bytes

log = logging.getLogger(__name__)

RESERVE = 512 * 2**20
"""Free bytes that downloads leave on the disk."""


def hub_cache() -> Path:
    """huggingface_hub's cache folder, by `HF_HUB_CACHE` or `HF_HOME`; it is only read."""
    from huggingface_hub import constants

    if override := os.environ.get("HF_HUB_CACHE"):
        return Path(override).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return Path(constants.HF_HUB_CACHE)


def blobs() -> Path:
    """The folder of verified files, each under its SHA-256."""
    return cache_dir() / "blobs"


def downloads() -> Path:
    """The folder of partial files."""
    return cache_dir() / "downloads"


# ---- find


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How much of a part is on this machine: number of files, and their bytes."""

    part: Part
    here: int
    bytes: int

    @property
    def complete(self) -> bool:
        """Whether every file is on this machine."""
        return self.here == len(self.part.files)


def status(part: Part) -> Status:
    """Look for a part's files without hashing them."""
    paths = _find_files(part).values()
    return Status(part=part, here=len(paths), bytes=sum(path.stat().st_size for path in paths))


def find_file(part: Part, file: PartFile) -> Path | None:
    """The unverified path of a part's file on this machine; None if it is not here."""
    return _find_files(part).get(file.path)


def _find_files(part: Part) -> dict[str, Path]:
    digests = expected_digests(part)
    candidates = {path: _candidates(part, path, digests) for path in digests}
    places = {path: next(filter(Path.is_file, paths), None) for path, paths in candidates.items()}
    return {path: place for path, place in places.items() if place is not None}


def _candidates(part: Part, path: str, digests: dict[str, str]) -> Iterator[Path]:
    """Possible paths of a file, best first."""
    if digests[path]:
        yield blobs() / digests[path]
    if all(digests.values()):
        yield folder_for("models", part.name, digests) / path
    if part.archive:
        root = Path(os.environ.get("INSIGHTFACE_HOME", "~/.insightface")).expanduser() / "models" / part.name
        yield root / path
        yield root / part.name / path  # antelopev2 unpacks into a subfolder of the same name
        return
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(part.repo, path, cache_dir=hub_cache(), revision=part.revision)
    if isinstance(cached, str):
        yield Path(cached)


# ---- verify and lay out


def verify_part(part: Part) -> dict[str, str]:
    """Compare the hash of every file of a part with its pin; files without a pin are pinned now.

    Returns:
        Path within the part -> SHA-256.

    Raises:
        WeightsMissingError: files are not on this machine; the message says how to get them.
        WeightsCorruptError: a file differs from its pin. Nothing is deleted.
    """
    return {path: sha256_of(place.resolve()) for path, place in _verified(part).items()}


def part_folder(part: Part) -> Path:
    """Return a folder with exactly the verified files of a part, under their own paths, and `manifest.json`.

    Raises:
        WeightsMissingError, WeightsCorruptError: as `verify_part`.
        WeightsError: the folder cannot be written.
    """
    places = _verified(part)
    try:
        return build_folder("models", part.name, places)
    except OSError as error:
        raise disk_error(error, cache_dir()) from None


def part_file(part: Part) -> Path:
    """The verified file of a part that has only one; raises as `part_folder` does."""
    return part_folder(part) / part.files[0].path


def _verified(part: Part) -> dict[str, Path]:
    places = _find_files(part)
    if missing := [file for file in part.files if file.path not in places]:
        size = sum(file.bytes for file in missing)
        raise WeightsMissingError(
            f"{part.name}: {len(missing)} of {len(part.files)} files are not on this machine, such as "
            f"{missing[0].path}{f' ({format_size(size)})' if size else ''}; run: portrait weights fetch {part.name}"
        )
    expected = expected_digests(part)
    first_seen = {}
    for file in part.files:
        place = places[file.path]
        pinned = expected[file.path]
        digest = sha256_of(place.resolve())
        if not pinned:
            first_seen[part.pin_name(file)] = digest
        elif digest != pinned:
            raise WeightsCorruptError(
                f"{file.path} has SHA-256 {digest[:16]}..., expected {pinned[:16]}... for {part.origin}; {place} was left "
                f"as it is. To download it again: portrait weights fetch --force {part.name}"
            )
    if first_seen:
        extend_lock(first_seen)
        log.info("%s: %d file(s) pinned on first use", part.name, len(first_seen))
    return places


def add_blob(path: Path, digest: str) -> None:
    """Move a verified file into the store."""
    blobs().mkdir(parents=True, exist_ok=True)
    try:
        os.replace(path, blobs() / digest)
    except OSError:  # another process may have been faster, or may have it open
        if not (blobs() / digest).is_file() or sha256_of(blobs() / digest) != digest:
            raise


# ---- the disk


def check_disk(needed: int) -> None:
    """Refuse a download for which the cache's disk has too little space.

    Raises:
        WeightsError: there is too little; the message says how many bytes are needed and free.
    """
    free = free_bytes(cache_dir())
    if needed and needed + RESERVE > free:
        raise WeightsError(
            f"{format_size(needed)} are needed in {cache_dir()}, but {format_size(free)} are free (of which {format_size(RESERVE)} "
            "must stay free); free some space, or set PORTRAIT_CACHE to a folder on another disk"
        )


def disk_error(error: OSError, folder: Path, what: str = "") -> WeightsError:
    """The error to raise for an error of the disk."""
    purpose = f" for {what}" if what else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return WeightsError(
            f"the disk of {folder} is full{purpose}; free some space, or set PORTRAIT_CACHE to a folder on another disk, "
            "then run the same command again: it resumes where this one ended"
        )
    return WeightsError(f"cannot write to {folder}{purpose}: {error.strerror or error}")


# ---- prune


def leftovers(parts: Iterable[Part], *, everything: bool = False) -> list[Path]:
    """Files and folders under `cache_dir()` that are unused: interrupted downloads, and other versions than those of `parts`.

    Running downloads are not included. With `everything` no part is kept, nor copies of pickled adapters; they must then be
    downloaded and converted again.
    """
    keep: set[Path] = set()
    for part in () if everything else parts:
        digests = expected_digests(part)
        keep |= {blobs() / digest for digest in digests.values()} | {folder_for("models", part.name, digests)}
    places = [*_entries(cache_dir() / "models"), *_entries(blobs())]
    if everything:
        places += _entries(cache_dir() / "adapters")
    return [path for path in places if path not in keep] + [
        path for path in _entries(downloads()) if is_abandoned(path)
    ]


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def prune(parts: Iterable[Part], *, everything: bool = False) -> list[Path]:
    """Remove `leftovers`; return what was removed."""
    removed = leftovers(parts, everything=everything)
    for path in removed:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return removed
