"""One visitor: photo, faces, pictures and the way back. In memory; `forget` lets go of all of it."""

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
    from portrait.studio.work import Job

MOST_SHOTS = 60
"""So many pictures of a session are remembered; the oldest go first."""
MOST_BYTES = 500_000_000
"""So much memory their pixels may take; the last one is kept whatever it takes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shot:
    """One finished picture: what came of it, and the settings that make it again, alone.

    `named` says whether the photo came as a file with a name; `thumbnail` is small, for the history.
    """

    number: int
    portrait: StylizedPortrait
    settings: Settings
    photo: str
    named: bool
    thumbnail: RgbImage
    files: tuple[Path, ...] = ()

    def command(self) -> str:
        """The line for a shell that makes this picture, pixel for pixel, on this machine."""
        photo = f"./{self.photo}" if self.photo.startswith("-") else self.photo
        return shlex.join(["portrait", "stylize", photo, *flags_of(self.settings)])


class Session:
    """What one browser tab knows.

    Args:
        folder: Where files for download go; made when needed, removed by `forget`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self.reading = threading.Lock()
        """Held while a photo is read and looked at: one at a time of each visitor is in memory."""
        self.job: Job | None = None
        self.seen = time.monotonic()
        self.style = ""
        self.moves = 0
        self.turn = 0
        self.left = False
        """Whether the tab is taken for closed; nothing that comes later belongs to this session."""
        self._clear()

    def _clear(self) -> None:
        self.photo: Photo | None = None
        self.named = False
        self.faces: list[Face] = []
        self.face: int | None = None
        self.shots: list[Shot] = []
        self.shown: int | None = None
        self.against: int | None = None
        self._numbered = 0
        self._subjects: dict[tuple[str, int], Subject] = {}

    def next_turn(self) -> int:
        """The visitor chose a photo: whichever was chosen before and is still being read is no longer wanted."""
        with self.lock:
            self.turn += 1
            return self.turn

    def open(self, photo: Photo, faces: list[Face], *, named: bool, face: int | None, turn: int | None = None) -> bool:
        """Take a photo; `face` is the one that is meant, None if the visitor has to say so.

        The pictures made so far stay in the history.

        Returns:
            False, and nothing is taken, if the visitor chose another photo, reset the page or left after `turn`.
        """
        with self.lock:
            if self.left or turn not in (None, self.turn):
                return False
            self.cancel()
            self.photo, self.faces, self.face, self.named = photo, faces, face, named
            self._subjects.clear()
            return True

    def choose(self, face: int) -> None:
        with self.lock:
            if 0 <= face < len(self.faces):
                self.face = face

    def subject(self, recipe: str, face: int) -> Subject | None:
        """Who was found before, if the photo and the models are the same."""
        return self._subjects.get((recipe, face))

    def keep_subject(self, recipe: str, face: int, subject: Subject) -> None:
        with self.lock:
            if self.photo is subject.photo:  # a visitor who has moved on gets nothing remembered
                self._subjects = {(recipe, face): subject}

    def add(
        self, portrait: StylizedPortrait, settings: Settings, thumbnail: RgbImage, photo: Photo, *, named: bool
    ) -> Shot:
        """Remember a finished picture and show it."""
        with self.lock:
            self._numbered += 1
            shot = Shot(
                number=self._numbered,
                portrait=portrait,
                settings=settings,
                photo=photo.path.name,
                named=named,
                thumbnail=thumbnail,
            )
            self.shots.append(shot)
            while len(self.shots) > MOST_SHOTS or (len(self.shots) > 1 and self._bytes() > MOST_BYTES):
                self._remove(self.shots.pop(0))
            self.shown, self.against = shot.number, None
            return shot

    def with_files(self, shot: Shot, files: tuple[Path, ...]) -> Shot:
        """`shot` with its files for download, which go with the session."""
        with self.lock:
            fuller = replace(shot, files=files)
            self.shots = [fuller if one is shot else one for one in self.shots]
            return fuller

    def _bytes(self) -> int:
        return sum(shot.portrait.picture.nbytes + shot.portrait.before.nbytes for shot in self.shots)

    @staticmethod
    def _remove(shot: Shot) -> None:
        for file in shot.files:
            file.unlink(missing_ok=True)

    def find(self, number: int | None) -> Shot | None:
        return next((shot for shot in self.shots if shot.number == number), None)

    def show(self, number: int) -> Shot | None:
        """Show one of the pictures again."""
        with self.lock:
            shot = self.find(number)
            if shot is not None:
                self.shown = number
                self.against = None if self.against == number else self.against
            return shot

    def compare(self, number: int | None) -> None:
        """Put another picture, or with None the photo, on the other side of the slider."""
        with self.lock:
            self.against = number if self.find(number) is not None and number != self.shown else None

    def undo(self) -> Shot | None:
        """Go back to the picture made before the one that is shown; None if there is none."""
        with self.lock:
            earlier = [shot for shot in self.shots if self.shown is not None and shot.number < self.shown]
            return self.show(earlier[-1].number) if earlier else None

    def cancel(self) -> None:
        """Stop what is being made, between two steps of the denoising."""
        if self.job is not None:
            self.job.cancel()

    def forget(self) -> None:
        """Let go of photos, pictures, embeddings and files."""
        with self.lock:
            if self.job is not None:
                self.job.private = True
            self.cancel()
            self.job = None
            self.turn += 1
            self._clear()
            shutil.rmtree(self.folder, ignore_errors=True)
