"""The memory of `portrait watch`: the files that arrived in a folder, and the outcome of each photo."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from portrait.errors import InputError
from portrait.images.search import PassedOver, photos_in

Signature = tuple[int, int]
"""A file's size and modification time: if both stay the same, nobody is writing to it."""


class Inbox:
    """The files that arrive in a folder, without subfolders.

    A file has arrived once its size and time are unchanged between two checks, so files that are still being copied are left
    alone. A file that changes after it was taken arrives again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._signatures: dict[Path, Signature] = {}
        self._taken: dict[Path, Signature] = {}

    def look(self) -> tuple[list[Path], list[PassedOver]]:
        """The photos that have arrived but were not taken yet, the oldest first; and other files that have arrived.

        Raises:
            OSError: the folder cannot be read.
        """
        photos, passed_over = photos_in(self.folder)
        before = self._signatures
        self._signatures = {}
        for path in [*photos, *(item.path for item in passed_over)]:
            with suppress(OSError):  # it was removed in the meantime
                self._signatures[path] = _signature(path)
        arrived = {
            path
            for path, signature in self._signatures.items()
            if before.get(path) == signature != self._taken.get(path)
        }
        oldest_first = sorted(arrived.intersection(photos), key=lambda path: (self._signatures[path][1], path))
        return oldest_first, [item for item in passed_over if item.path in arrived]

    def take(self, path: Path) -> None:
        """Do not return this file again until it changes."""
        self._taken[path] = self._signatures[path]

    def is_unchanged(self, path: Path) -> bool:
        """Whether the file is unchanged since the last check."""
        with suppress(OSError):
            return _signature(path) == self._signatures.get(path)
        return False


def _signature(path: Path) -> Signature:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


class _Event(BaseModel):
    """A line of the journal: the outcome of the photo with these bytes, with the settings of this `job`."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    job: str

    @property
    def photo(self) -> tuple[str, str]:
        return self.sha256, self.job


class _Begun(_Event):
    event: Literal["photo"] = "photo"
    name: str
    stem: str


class _Finished(_Event):
    event: Literal["style"] = "style"
    style: str
    files: tuple[str, ...]


class _Failed(_Event):
    event: Literal["failed"] = "failed"
    name: str
    reason: str


_EVENT: TypeAdapter[_Begun | _Finished | _Failed] = TypeAdapter(
    Annotated[_Begun | _Finished | _Failed, Field(discriminator="event")]
)


class Journal:
    """The outcome of each photo: one line of JSON per event, flushed to disk, so that a restart continues from there.

    A photo is known by the SHA-256 of its bytes, whatever its name, together with a `job`: the settings that its
    pictures were made with. Its `stem` is the prefix of their names. An incomplete last line after a crash is ignored.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._photos: dict[tuple[str, str], _Begun] = {}
        self._styles: set[tuple[str, str, str]] = set()
        self._failures: dict[tuple[str, str], _Failed] = {}
        try:
            lines = file.read_bytes().splitlines() if file.exists() else []
        except OSError as error:
            raise InputError(f"cannot read {file}: {error.strerror or error}") from None
        for line in lines:
            with suppress(ValueError):
                self._learn(_EVENT.validate_json(line))

    def _learn(self, event: _Begun | _Finished | _Failed) -> None:
        if isinstance(event, _Begun):
            self._photos[event.photo] = event
        elif isinstance(event, _Finished):
            self._styles.add((*event.photo, event.style))
        else:
            self._failures[event.photo] = event

    def _append(self, event: _Begun | _Finished | _Failed) -> None:
        try:
            with self._file.open("a+b") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":  # a crash cut the last line short
                        file.write(b"\n")
                file.write(json.dumps(event.model_dump()).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(f"cannot write {self._file}: {error.strerror or error}") from None
        self._learn(event)

    def name_of(self, sha256: str, job: str) -> str:
        """The file name under which a photo first arrived; empty for a new one."""
        event = self._photos.get((sha256, job)) or self._failures.get((sha256, job))
        return event.name if event else ""

    def stem_of(self, sha256: str, job: str) -> str:
        """The prefix of the names of a photo's pictures; empty for a new one."""
        event = self._photos.get((sha256, job))
        return event.stem if event else ""

    def is_taken(self, stem: str) -> bool:
        """Whether the names of another photo's pictures begin with `stem`, ignoring case like some file systems."""
        return any(event.stem.casefold() == stem.casefold() for event in self._photos.values())

    def has(self, sha256: str, job: str, style: str) -> bool:
        return (sha256, job, style) in self._styles

    def failure(self, sha256: str, job: str) -> str:
        """Why a photo failed; empty if it did not, or is new."""
        event = self._failures.get((sha256, job))
        return event.reason if event else ""

    def begin(self, sha256: str, job: str, *, name: str, stem: str) -> None:
        """Record a photo's file name, and the names of its pictures."""
        self._append(_Begun(sha256=sha256, job=job, name=name, stem=stem))

    def finish(self, sha256: str, job: str, style: str, files: Sequence[str]) -> None:
        """Record that a photo was finished in a style, with the names of its pictures."""
        self._append(_Finished(sha256=sha256, job=job, style=style, files=tuple(files)))

    def fail(self, sha256: str, job: str, *, name: str, reason: str) -> None:
        self._append(_Failed(sha256=sha256, job=job, name=name, reason=reason))
