"""One tab: photo, faces, pictures and the way back. All of it is in memory, and `forget` drops it."""

from __future__ import annotations

import shlex
import shutil
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from portrait.images import Photo
from portrait.records import Face, RgbImage
from portrait.settings import Settings, flags_of

if TYPE_CHECKING:
    from portrait.loop.types import StylizedPortrait, Subject
    from portrait.studio.jobs import RenderJob

MAX_HISTORY = 60
"""How many pictures of a session are kept; the oldest are dropped first."""
MAX_HISTORY_BYTES = 500_000_000
"""How much memory their pixels may take; the last one is kept whatever it takes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HistoryEntry:
    """One finished picture, and the settings that make it again, alone.

    `photo` is the photo's name, and `has_file` says whether it came as a file of that name; `thumbnail` is small, for
    the history.
    """

    number: int
    portrait: StylizedPortrait
    settings: Settings
    photo: str
    has_file: bool
    thumbnail: RgbImage
    files: tuple[Path, ...] = ()

    def command(self) -> str:
        """The shell command that makes this picture, pixel for pixel, on this computer."""
        photo = f"./{self.photo}" if self.photo.startswith("-") else self.photo
        return shlex.join(["portrait", "stylize", photo, *flags_of(self.settings)])


class Session:
    """What belongs to one browser tab.

    `style`, `face` and the controls' values are what the next picture is made from. `upload_generation` counts the
    photos that were chosen, so that one which is read too slowly is not taken; `slider_moves` does the same for the
    slider. `closed` says that the tab is taken for closed: nothing that comes later belongs to this session.

    Args:
        folder: Where files for download go; made when needed, removed by `forget`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self.reading = threading.Lock()
        """Held while a photo is read and its faces are detected, so that each session has one such photo in memory."""
        self.job: RenderJob | None = None
        self.last_used = time.monotonic()
        self.style = ""
        self.slider_moves = 0
        self.upload_generation = 0
        self.closed = False
        self._clear()

    def _clear(self) -> None:
        self.photo: Photo | None = None
        self.has_file = False
        self.faces: list[Face] = []
        self.face: int | None = None
        self.history: list[HistoryEntry] = []
        self.current: int | None = None
        self.compared: int | None = None
        self._numbered = 0
        self._subjects: dict[tuple[str, int], Subject] = {}

    def begin_upload(self) -> int:
        """The visitor chose a photo: one that was chosen earlier and is still being read is no longer wanted."""
        with self.lock:
            self.upload_generation += 1
            return self.upload_generation

    def open(
        self, photo: Photo, faces: list[Face], *, has_file: bool, face: int | None, generation: int | None = None
    ) -> bool:
        """Take a photo; `face` is the one that is meant, None if the visitor has to say so.

        The pictures made so far stay in the history.

        Returns:
            False, and nothing is taken, if the visitor chose another photo, reset the page or left since `generation`.
        """
        with self.lock:
            if self.closed or generation not in (None, self.upload_generation):
                return False
            self.cancel()
            self.photo = photo
            self.has_file = has_file
            self.faces = faces
            self.face = face
            self._subjects.clear()
            return True

    def choose(self, face: int) -> None:
        """Choose a face by its index; nothing happens where there is none."""
        with self.lock:
            if 0 <= face < len(self.faces):
                self.face = face

    def subject(self, recipe: str, face: int) -> Subject | None:
        """Who the face is, if an earlier job with the same photo and models found out."""
        return self._subjects.get((recipe, face))

    def remember_subject(self, recipe: str, face: int, subject: Subject) -> None:
        """Keep who the face is for the next job."""
        with self.lock:
            if self.photo is subject.photo:  # not if the visitor has another photo by now
                self._subjects = {(recipe, face): subject}

    def add(
        self, portrait: StylizedPortrait, settings: Settings, thumbnail: RgbImage, photo: Photo, *, has_file: bool
    ) -> HistoryEntry:
        """Remember a finished picture and show it."""
        with self.lock:
            self._numbered += 1
            entry = HistoryEntry(
                number=self._numbered,
                portrait=portrait,
                settings=settings,
                photo=photo.path.name,
                has_file=has_file,
                thumbnail=thumbnail,
            )
            self.history.append(entry)
            while self._is_history_full():
                for file in self.history.pop(0).files:
                    file.unlink(missing_ok=True)
            self.current = entry.number
            self.compared = None
            return entry

    def attach_files(self, entry: HistoryEntry, files: tuple[Path, ...]) -> HistoryEntry:
        """`entry` with its files for download, which are deleted with the session."""
        with self.lock:
            with_files = replace(entry, files=files)
            self.history[self.history.index(entry)] = with_files
            return with_files

    def _is_history_full(self) -> bool:
        pixels = sum(entry.portrait.picture.nbytes + entry.portrait.before.nbytes for entry in self.history)
        return len(self.history) > MAX_HISTORY or (len(self.history) > 1 and pixels > MAX_HISTORY_BYTES)

    def find(self, number: int | None) -> HistoryEntry | None:
        """The picture of this number; None if it was dropped, or there never was one."""
        return next((entry for entry in self.history if entry.number == number), None)

    def show(self, number: int) -> HistoryEntry | None:
        """Show one of the pictures again."""
        with self.lock:
            entry = self.find(number)
            if entry is not None:
                self.current = number
                self.compared = None if self.compared == number else self.compared
            return entry

    def compare(self, number: int | None) -> None:
        """Put another picture, or with None the photo, on the other side of the slider."""
        with self.lock:
            self.compared = number if self.find(number) is not None and number != self.current else None

    def undo(self) -> HistoryEntry | None:
        """Go back to the picture made before the one that is shown; None if there is none."""
        with self.lock:
            earlier = [entry for entry in self.history if self.current is not None and entry.number < self.current]
            return self.show(earlier[-1].number) if earlier else None

    def cancel(self) -> None:
        """Stop what is being made, between two steps of the denoising."""
        if self.job is not None:
            self.job.cancel()

    def end_job(self, job: RenderJob) -> bool:
        """Note that a job has ended; returns whether it was the session's newest."""
        with self.lock:
            is_newest = self.job is job
            if is_newest:
                self.job = None
            self.last_used = time.monotonic()  # the wait was long perhaps
            return is_newest

    def forget(self) -> None:
        """Drop photos, pictures, embeddings and files."""
        with self.lock:
            if self.job is not None:
                self.job.private = True
            self.cancel()
            self.job = None
            self.upload_generation += 1
            self._clear()
            shutil.rmtree(self.folder, ignore_errors=True)
