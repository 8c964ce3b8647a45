"""Find the photos in a folder, and say which files were skipped and why."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from portrait.errors import ImageReadError, SettingsError
from portrait.images.decode import open_picture, read_file
from portrait.validation import read_lines

_RAW_SUFFIXES = frozenset((
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mrw", ".nef", ".nrw", ".orf", ".pef",
    ".raf", ".raw", ".rw2", ".sr2", ".srw", ".x3f",
))  # fmt: skip
PHOTO_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".tif", ".tiff", ".avif", ".heic", ".heif",
    ".hif", ".bmp", ".dib", ".gif",
))  # fmt: skip
"""The suffixes of files that `read_photo` reads, in lower case. Files without a suffix are opened to find out."""


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A file or folder that was skipped, and why: "camera raw; export a JPEG or TIFF"."""

    path: Path
    reason: str


def photos_in(folder: Path) -> tuple[list[Path], list[PassedOver]]:
    """The picture files directly in a folder, sorted by name, and the files skipped; hidden files are not mentioned."""
    return _sorted_out(path for path in folder.iterdir() if not os.path.isdir(path))


def photos_below(folder: Path, only: Path | None = None) -> tuple[list[Path], list[PassedOver]]:
    """The picture files in a folder and its subfolders, or those that a list names; and the files skipped.

    Raises:
        SettingsError: there are no photos, or the list names one that does not exist.
    """
    passed_over: list[PassedOver] = []
    if only is not None:
        photos = _listed(only, folder)
    else:
        files, folders = _walk(folder)
        photos, passed_over = _sorted_out(files)
        passed_over += folders
    if not photos:
        raise SettingsError(f"no photos in {folder}" + (f"; {describe(passed_over)}" if passed_over else ""))
    return photos, passed_over


def _walk(folder: Path) -> tuple[list[Path], list[PassedOver]]:
    """The files in a folder and its subfolders, but for hidden ones; and the folders that are not looked into."""
    passed_over: list[PassedOver] = []

    def pass_over(error: OSError) -> None:
        passed_over.append(PassedOver(Path(error.filename), f"a folder that cannot be read: {error.strerror}"))

    files: list[Path] = []
    for top, folders, names in os.walk(folder, onerror=pass_over):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = (Path(top, name) for name in folders if os.path.islink(os.path.join(top, name)))
        passed_over += [PassedOver(path, "a link to a folder") for path in links]
        files += [Path(top, name) for name in names]
    return files, passed_over


def _listed(only: Path, folder: Path) -> list[Path]:
    """The photos of a folder that a text file names, one on each line."""
    photos = [folder / line for line in read_lines(only, f"--only {only}")]
    for path in photos:
        if not path.is_file():
            raise SettingsError(f"{only} names {path}, which is not there")
    return photos


def describe(passed_over: Iterable[PassedOver]) -> str:
    """Describe all in one line: "passed over 2 files: a.nef, b.nef (camera raw; export a JPEG or TIFF)"; empty for none.

    Files with the same name are named with their folder.
    """
    items = list(passed_over)
    names = Counter(item.path.name for item in items)
    by_reason: dict[str, list[str]] = {}
    for item in items:
        name = item.path.name if names[item.path.name] == 1 else f"{item.path.parent.name}/{item.path.name}"
        by_reason.setdefault(item.reason, []).append(name)
    count = sum(map(len, by_reason.values()))
    listed = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())
    return f"passed over {count} file{'s' * (count > 1)}: {listed}" if count else ""


def _sorted_out(paths: Iterable[Path]) -> tuple[list[Path], list[PassedOver]]:
    photos, passed_over = [], []
    for path in sorted(paths):
        if path.name.startswith(".") or path.name.lower() in ("thumbs.db", "desktop.ini"):
            continue
        if reason := _why_not(path):
            passed_over.append(PassedOver(path, reason))
        else:
            photos.append(path)
    return photos, passed_over


def _why_not(path: Path) -> str:
    """Why a file is not a photo that can be read; empty if it is one."""
    if not os.path.isfile(path):
        return _why_no_file(path)
    suffix = path.suffix.lower()
    if suffix in PHOTO_SUFFIXES:
        return ""
    if suffix in _RAW_SUFFIXES:
        return "camera raw; export a JPEG or TIFF"
    if suffix and not suffix[1:].isdecimal():  # as in IMG.2024: the suffix names no file format
        return f"{suffix} is not a kind of picture that is read"
    return _why_no_picture(path)


def _why_no_file(path: Path) -> str:
    try:
        path.stat()
    except OSError as error:
        return "a link to nothing" if os.path.islink(path) else f"it cannot be read: {error.strerror}"
    return "a device or a pipe, not a file"


def _why_no_picture(path: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            open_picture(read_file(path), "what is inside")
        except ImageReadError as error:
            return f"no suffix, and {error}"
        return ""
