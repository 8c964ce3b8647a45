"""What is on this machine: find files, check them against their pins, lay them out, remove what is not needed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from portrait.errors import WeightsCorruptError, WeightsError, WeightsMissingError
from portrait.hub.files import sha256_of, whole_folder
from portrait.hub.manifest import Part, PartFile
from portrait.hub.pins import pin, pinned, pins
from portrait.paths import cache_dir

log = logging.getLogger(__name__)

RESERVE = 512 * 2**20
"""Free bytes that a download leaves on the disk."""
PARTIAL = ".portrait.incomplete"


def hub_cache() -> Path:
    """huggingface_hub's cache folder, by `HF_HUB_CACHE` or `HF_HOME`."""
    from huggingface_hub import constants

    if own := os.environ.get("HF_HUB_CACHE"):
        return Path(own).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return Path(constants.HF_HUB_CACHE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How much of a part is on this machine: files that are here, files in all, bytes that are here."""

    part: Part
    here: int
    bytes: int

    @property
    def complete(self) -> bool:
        return self.here == len(self.part.files)


def status(part: Part) -> Status:
    """Look for a part's files without hashing them."""
    found = [path for file in part.files if (path := find_file(part, file)) is not None]
    return Status(part=part, here=len(found), bytes=sum(path.stat().st_size for path in found))


def find_file(part: Part, file: PartFile) -> Path | None:
    """Where a file of a part lies on this machine, not verified; None if it does not."""
    folder = assembled(part)
    if folder is not None and (folder / file.path).is_file():
        return folder / file.path
    if part.archive:
        root = Path(os.environ.get("INSIGHTFACE_HOME", "~/.insightface")).expanduser() / "models" / part.name
        places = [root / file.path, root / part.name / file.path]  # antelopev2 unpacks into a folder of its own name
        return next((place for place in places if place.is_file()), None)
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(part.repo, file.path, cache_dir=hub_cache(), revision=part.revision)
    return Path(found) if isinstance(found, str) else None


def assembled(part: Part) -> Path | None:
    """The folder of verified links, if every hash is known and the folder was built; its name carries the hashes."""
    known = pins() if any(not file.sha256 for file in part.files) else {}
    digests = {file.path: file.sha256 or known.get(part.pin_name(file), "") for file in part.files}
    folder = folder_of(part, digests)
    return folder if all(digests.values()) and (folder / "manifest.json").is_file() else None


def _is_whole(part: Part, folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("manifest.json", *(file.path for file in part.files)))


def folder_of(part: Part, digests: dict[str, str]) -> Path:
    mark = hashlib.sha256("".join(f"{n}\0{d}\n" for n, d in sorted(digests.items())).encode()).hexdigest()
    return cache_dir() / "models" / f"{part.name}-{mark[:12]}"


def verify_part(part: Part) -> dict[str, str]:
    """Hash every file of a part against its pin; a file that was never pinned is pinned now.

    Returns:
        Path within the part -> SHA-256.

    Raises:
        WeightsMissingError: files are not on this machine; says how to get them.
        WeightsCorruptError: a file is another one. Nothing is deleted.
    """
    places = {file: find_file(part, file) for file in part.files}
    if missing := [file for file, place in places.items() if place is None]:
        raise WeightsMissingError(
            f"{part.name}: {len(missing)} of {len(part.files)} files are not on this machine, such as "
            f"{missing[0].path}{_size_note(missing)}; run: portrait weights fetch {part.name}"
        )
    return _checked(part, {file: place for file, place in places.items() if place is not None})


def _checked(part: Part, places: dict[PartFile, Path]) -> dict[str, str]:
    digests, first_seen = {}, {}
    for file, place in places.items():
        digests[file.path] = seen = sha256_of(place.resolve())
        wanted = pinned(part, file)
        if wanted and seen != wanted:
            raise WeightsCorruptError(
                f"{place} has SHA-256 {seen[:16]}..., expected {wanted[:16]}... for {part.origin}; it was left as it "
                f"is. To download it again: portrait weights fetch --force {part.name}"
            )
        if not wanted:
            first_seen[part.pin_name(file)] = seen
    if first_seen:
        pin(first_seen)
        log.info("%s: %d file(s) pinned on first use", part.name, len(first_seen))
    return digests


def part_folder(part: Part) -> Path:
    """Return a folder that holds exactly the verified files of a part, under their own paths, and `manifest.json`.

    The files are links where the file system has them, so they take no room twice.

    Raises:
        WeightsMissingError, WeightsCorruptError: as `verify_part`.
    """
    digests = verify_part(part)
    folder = folder_of(part, digests)
    if _is_whole(part, folder):
        return folder
    with staged(part, folder) as staging:
        for file in part.files:
            source = find_file(part, file)
            if source is None:
                raise WeightsMissingError(f"{part.name}: {file.path} went away while it was used; try again")
            target = staging / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(source.resolve(), target)
        write_list(part, digests, staging)
    return folder


def write_list(part: Part, digests: dict[str, str], folder: Path) -> None:
    listed = {name: {"sha256": digest} for name, digest in digests.items()}
    (folder / "manifest.json").write_text(json.dumps({"part": part.name, "files": listed}, indent=1), "utf-8")


@contextlib.contextmanager
def staged(part: Part, folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """`weights.whole_folder` for a part's files and `manifest.json`; a full disk is said as such."""
    try:
        with whole_folder(folder, lambda: _is_whole(part, folder), replace=replace) as staging:
            yield staging
    except OSError as error:
        raise disk_error(error, folder.parent) from None


def _link(source: Path, target: Path) -> None:
    for way in (os.link, os.symlink, shutil.copyfile):
        with contextlib.suppress(OSError):
            way(source, target)
            return
    raise OSError(errno.EIO, f"cannot link or copy {source}")


def disk_error(error: OSError, folder: Path, what: str = "") -> WeightsError:
    about = f" for {what}" if what else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return WeightsError(
            f"the disk of {folder} is full{about}; free some space, or set HF_HOME or PORTRAIT_CACHE to another disk, "
            "then run the same command again: it goes on where this one ended"
        )
    return WeightsError(f"cannot write to {folder}{about}: {error.strerror or error}")


def check_disk(needed: dict[Path, int]) -> None:
    """Raises WeightsError if a disk has too little room for what comes to the folders on it."""
    disks: dict[int, list[Path]] = {}
    for folder in needed:
        place = next(p for p in (folder, *folder.parents) if p.exists())
        disks.setdefault(place.stat().st_dev, []).append(folder)
    for folders in disks.values():
        total = sum(needed[folder] for folder in folders)
        free = shutil.disk_usage(next(p for p in (folders[0], *folders[0].parents) if p.exists())).free
        if total and total + RESERVE > free:
            raise WeightsError(
                f"{_gib(total)} are needed in {' and '.join(map(str, folders))}, {_gib(free)} are free (and "
                f"{_gib(RESERVE)} stay free); free some space, or set HF_HOME or PORTRAIT_CACHE to another disk"
            )


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**29 else f"{size / 2**20:.1f} MiB"


def _size_note(files: Iterable[PartFile]) -> str:
    size = sum(file.bytes for file in files)
    return f" ({_gib(size)})" if size else ""


def leftovers(parts: Iterable[Part], *, everything: bool = False) -> list[Path]:
    """What of our own cache no part needs any more: broken-off downloads and folders of other versions.

    Args:
        parts: The parts that are kept.
        everything: Also the folders that are in use, and every pickled adapter's copy as safetensors; they are built
            anew from the hub's cache, archives are downloaded again.

    Returns:
        Files and folders under `cache_dir()`, and what broken-off downloads of ours left in huggingface_hub's cache;
        nothing else of that cache, which is shared with other programs.
    """
    keep = set() if everything else {folder for part in parts if (folder := assembled(part)) is not None}
    found = []
    for place in (cache_dir() / "models", cache_dir() / "downloads", cache_dir() / "adapters"):
        if not place.is_dir():
            continue
        whole = place.name == "adapters" and not everything
        found += [path for path in sorted(place.iterdir()) if path not in keep and not whole]
    return found + sorted(hub_cache().glob(f"models--*/blobs/*{PARTIAL}"))


def prune(parts: Iterable[Part], *, everything: bool = False) -> list[Path]:
    """Remove `leftovers`; returns what was removed."""
    removed = leftovers(parts, everything=everything)
    for path in removed:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return removed
