"""One tab: photo, faces, pictures and the way back. All of it is in memory, and `forget` drops it."""

from __future__ import annotations

import logging
import secrets
import shlex
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from portrait.errors import InputError, SettingsError
from portrait.faces.identity import face_warnings, photo_notes
from portrait.generate.framing import frame_portrait
from portrait.images import Photo, resized, write_bytes
from portrait.paths import is_file_name
from portrait.records import Face, RgbImage
from portrait.settings import Settings, flags_of
from portrait.studio import strings
from portrait.studio.uploads import read_upload

if TYPE_CHECKING:
    from portrait.loop.types import StylizedPortrait, Subject
    from portrait.studio.jobs import RenderJob

log = logging.getLogger(__name__)

MAX_HISTORY = 60
"""How many pictures of a session are kept; the oldest without a star are dropped first."""
MAX_HISTORY_BYTES = 500_000_000
"""How much memory their pixels may take; the last one is kept whatever it takes."""
MAX_UNDO = 10
"""How many steps can be undone; a picture that was deleted is kept for so long."""
MAX_BACKDROP_BYTES = 200_000_000
"""How much the backgrounds of one session may take on disk."""
MAX_REFERENCES = 4
"""How many further photos of a person are taken: each is in memory whole."""
CROP_SIDE = 160
"""Of a face beside the photo, pixels."""
CROP_ROOM = 1.8
"""Side of such a crop over the face's longer one: the head, with some room."""

Wish: TypeAlias = tuple[str, float]
"""A style and a balance."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HistoryEntry:
    """One finished picture, and the settings that make it again, alone.

    `photo` and `references` are the photos' names, and `has_file` says whether the photo came as a file of that name;
    `thumbnail` is small, for the history.
    """

    number: int
    portrait: StylizedPortrait
    settings: Settings
    photo: str
    has_file: bool
    thumbnail: RgbImage
    references: tuple[str, ...] = ()
    is_starred: bool = False

    def command(self) -> str:
        """The shell command that makes this picture, pixel for pixel, on this computer."""
        words = ["portrait", "stylize", _as_argument(self.photo)]
        for reference in self.references:
            words += ["--reference", _as_argument(reference)]
        return shlex.join([*words, *flags_of(named_background(self.settings))])

    @property
    def stem(self) -> str:
        """Of the names of its files for download: at most 80 bytes of the photo's name, the style, the number."""
        photo = Path(self.photo).stem.encode()[:80].decode(errors="ignore")
        return f"{photo}-{self.settings.style[0]}-{self.number}"


def _as_argument(name: str) -> str:
    return f"./{name}" if name.startswith("-") else name


def named_background(settings: Settings) -> Settings:
    """The same with the name alone of a background's file, which lies on the visitor's computer under that name."""
    background = settings.backdrop()
    if background is None or background.file is None:
        return settings
    return replace(settings, background=_as_argument(background.file.name))


def named(portrait: StylizedPortrait, photo: str) -> StylizedPortrait:
    """The same with the names that the visitor knows in its record, and no path of this computer."""
    portrait = portrait.named(photo)
    record = portrait.record
    settings = named_background(record.settings)
    references = [file.model_copy(update={"path": Path(file.path).name}) for file in record.input.references]
    changes: dict[str, object] = {
        "settings": settings,
        "input": record.input.model_copy(update={"references": tuple(references)}),
    }
    if record.background is not None:
        changes["background"] = record.background.model_copy(update={"value": settings.background})
    return replace(portrait, record=record.model_copy(update=changes))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """What `undo` restores: the picture that was shown, and, where one was starred or deleted, what it was before."""

    current: int | None
    entry: HistoryEntry | None = None


class Session:
    """What belongs to one browser tab.

    `face` and `form`, what the page's form says, are what the next picture is made from. `choices` are the pictures of
    the last job that made several, and `is_choosing` says that they are shown together. `upload_generation` counts the
    photos that were chosen, so that one which is read too slowly is not taken. `job` is the newest, also when it is
    over. `closed` says that the session is forgotten: nothing that comes later belongs to it. `away_since` is when its
    tab was closed or reloaded, None while it is open.

    Args:
        folder: Where backgrounds lie; made when needed, removed by `forget`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = secrets.token_urlsafe(16)
        """What a reloaded tab is known by, and a part of the addresses of its files."""
        self.lock = threading.RLock()
        self.reading = threading.Lock()
        """Held while a photo is read and its faces are detected, so that each session has one such photo in memory."""
        self.job: RenderJob | None = None
        self.preview_job: RenderJob | None = None
        self.last_used = time.monotonic()
        self.away_since: float | None = None
        self.is_away = threading.Event()
        self.form: dict[str, str | list[str]] = {}
        self.upload_generation = 0
        self.closed = False
        self.lost = False
        """Whether it stands for an earlier session of an open tab that is gone, of which the visitor is still to be told."""
        self.stopped = False
        """Whether a portrait was stopped because the tab was away for long, of which the visitor is still to be told."""
        self.greeted = ""
        """Which load of the page was answered last."""
        self._numbered = 0
        """Of the newest picture; it goes on after `forget`, so that no two files for download have one name."""
        self._clear()

    def _clear(self) -> None:
        self.photo: Photo | None = None
        self.has_file = False
        self.faces: list[Face] = []
        self.face: int | None = None
        self.references: tuple[Photo, ...] = ()
        self.backdrop: Path | None = None
        self.history: list[HistoryEntry] = []
        self.dropped = 0
        """How many pictures had to leave the history, which was full."""
        self.current: int | None = None
        self.compared: int | None = None
        self.choices: tuple[int, ...] = ()
        self.is_choosing = False
        self._steps: list[_Step] = []
        self._forget_person()

    def _forget_person(self) -> None:
        """Drop what was found out of the face that was meant so far."""
        self.cancel_previews()
        self.previews: dict[tuple[str, str, str, float], str] = {}
        self._subjects: dict[tuple[str, int], Subject] = {}
        self._advice: tuple[str, ...] | None = None

    # The tab -------------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """The tab was closed or reloaded, or its connection broke."""
        self.away_since = time.monotonic()
        self.is_away.set()

    def come_back(self) -> None:
        """The tab is open."""
        self.away_since = None
        self.is_away.clear()
        self.last_used = time.monotonic()

    # The photo -----------------------------------------------------------------------------------------------

    def begin_upload(self) -> int:
        """The visitor chose a photo: one that was chosen earlier and is still being read is no longer wanted."""
        with self.lock:
            self.upload_generation += 1
            return self.upload_generation

    def open(
        self, photo: Photo, faces: list[Face], *, has_file: bool, face: int | None, generation: int | None = None
    ) -> bool:
        """Take a photo; `face` is the one that is meant, None if the visitor has to say so.

        The pictures made so far stay in the history; further photos of the person before do not.

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
            self.references = ()
            self._forget_person()
            return True

    def choose(self, face: int) -> None:
        """Say who is meant, by the index from the left; one that is not there changes nothing."""
        with self.lock:
            if 0 <= face < len(self.faces) and face != self.face:
                self.face = face
                self.references = ()
                self._forget_person()

    def add_reference(self, photo: Photo) -> None:
        """Take one more photo of the person, whom `ModelHost.check_reference` has found in it.

        Raises:
            SettingsError: there are `MAX_REFERENCES` already.
        """
        with self.lock:
            if len(self.references) >= MAX_REFERENCES:
                raise SettingsError(strings.MANY_REFERENCES.format(n=MAX_REFERENCES))
            self.references = (*self.references, photo)
            self._forget_person()

    def drop_reference(self, index: int) -> None:
        """Take one of these photos away again."""
        with self.lock:
            self.references = tuple(photo for i, photo in enumerate(self.references) if i != index)
            self._forget_person()

    @property
    def advice(self) -> tuple[str, ...]:
        """What is to be known of the photo and the chosen face before anything is made; nothing while none is chosen."""
        photo, face = self.photo, self.face
        if photo is None or face is None:
            return ()
        if self._advice is None:
            self._advice = tuple(photo_notes(photo, face_warnings(photo.pixels, self.faces[face])))
        return self._advice

    def crop(self, frame: str) -> tuple[int, int, int] | None:
        """(left, top, side), in pixels of the photo, of what a frame draws of the chosen face; None while none is chosen."""
        if self.photo is None or self.face is None:
            return None
        return frame_portrait(self.photo.pixels, self.faces[self.face], frame, 8).box

    def face_crop(self, index: int) -> RgbImage:
        """A face of the photo with some room, (CROP_SIDE, CROP_SIDE, 3) uint8.

        Raises:
            InputError: the photo has no such face.
        """
        with self.lock:
            photo, faces = self.photo, self.faces
        if photo is None or not 0 <= index < len(faces):
            raise InputError(f"there is no face {index}")
        height, width = photo.pixels.shape[:2]
        side = max(1, int(min(CROP_ROOM * faces[index].size, height, width)))
        x, y = faces[index].center
        left, top = (int(np.clip(c - side / 2, 0, limit - side)) for c, limit in ((x, width), (y, height)))
        crop = np.ascontiguousarray(photo.pixels[top : top + side, left : left + side])
        return resized(RgbImage(crop), CROP_SIDE, CROP_SIDE)

    def take_backdrop(self, data: bytes, name: str) -> None:
        """Take a picture to stand behind the person; earlier ones stay, because pictures were made with them.

        Args:
            data: The file's bytes.
            name: Its name on the visitor's computer.

        Raises:
            ImageReadError: it is no picture.
            InputError: its name is no name for a file, it cannot be written, or the session has too many of them.
        """
        read_upload(data, name, lambda: not self.closed)
        name = name if Path(name).suffix else f"{name}.png"
        if not is_file_name(name):
            raise InputError(strings.BAD_NAME.format(name=name[:80]))
        taken = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
        if taken + len(data) > MAX_BACKDROP_BYTES:
            raise InputError(strings.BACKDROPS_FULL)
        try:
            file = write_bytes(self.folder / secrets.token_urlsafe(12) / name, data)
        except InputError as error:
            log.error("%s", error)  # the visitor need not know where
            raise InputError(strings.DISK_FULL) from None
        with self.lock:
            self.backdrop = file

    # Who it is, and previews ---------------------------------------------------------------------------------

    def subject(self, recipe: str, face: int) -> Subject | None:
        """Who a face is to the models of a recipe, if a job has found out."""
        return self._subjects.get((recipe, face))

    def remember_subject(self, recipe: str, face: int, subject: Subject) -> None:
        """Keep who a face is, unless the photo, or what is known of the person, was replaced meanwhile."""
        with self.lock:
            if subject.photo is self.photo and subject.references == self.references:
                self._subjects = {(recipe, face): subject}

    def missing_previews(self, recipe: str, frame: str, wishes: Sequence[Wish]) -> list[Wish]:
        """Those of the wishes that no preview is there for."""
        return [(style, balance) for style, balance in wishes if (recipe, style, frame, balance) not in self.previews]

    def begin_previews(self, start: Callable[[], RenderJob]) -> RenderJob:
        """Start a job of previews in place of the one before."""
        with self.lock:
            self.cancel_previews()
            self.preview_job = start()
            return self.preview_job

    def keep_preview(self, job: RenderJob, key: tuple[str, str, str, float], uri: str) -> bool:
        """Keep a preview, a data URI, under (recipe, style, frame, balance); False if the session has given up its job."""
        with self.lock:
            is_wanted = self.preview_job is job and not job.cancelled
            if is_wanted:
                self.previews[key] = uri
            return is_wanted

    def cancel_previews(self) -> None:
        """Stop making previews."""
        if self.preview_job is not None:
            self.preview_job.cancel()
        self.preview_job = None

    # The history ---------------------------------------------------------------------------------------------

    def add(
        self, portrait: StylizedPortrait, settings: Settings, thumbnail: RgbImage, photo: Photo, *, has_file: bool
    ) -> HistoryEntry:
        """Remember a finished picture and show it."""
        with self.lock:
            self._numbered += 1
            entry = HistoryEntry(
                number=self._numbered,
                portrait=named(portrait, photo.path.name),
                settings=settings,
                photo=photo.path.name,
                has_file=has_file,
                thumbnail=thumbnail,
                references=tuple(reference.path.name for reference in self.references),
            )
            self._remember_step()
            self.last_used = time.monotonic()  # the wait was long perhaps
            self.history.append(entry)
            self._make_room()
            self.current = entry.number
            self.compared = None
            return entry

    def _make_room(self) -> None:
        """Let go of what was deleted, then of the oldest pictures without a star, then of the oldest."""
        while self._is_history_full():
            deleted = [step for step in self._steps if step.entry and not self.find(step.entry.number)]
            if deleted:
                self._steps.remove(deleted[0])
                continue
            oldest = next((entry for entry in self.history[:-1] if not entry.is_starred), self.history[0])
            self.history.remove(oldest)
            self.dropped += 1

    def _is_history_full(self) -> bool:
        kept = {entry.number: entry for step in self._steps if (entry := step.entry)}
        kept |= {entry.number: entry for entry in self.history}
        pixels = sum(entry.portrait.pixels.nbytes + entry.portrait.before.nbytes for entry in kept.values())
        return len(self.history) > MAX_HISTORY or (len(kept) > 1 and pixels > MAX_HISTORY_BYTES)

    def find(self, number: int | None) -> HistoryEntry | None:
        """The picture of this number; None if it was dropped, or there never was one."""
        return next((entry for entry in self.history if entry.number == number), None)

    def show(self, number: int) -> HistoryEntry | None:
        """Show one of the pictures again."""
        with self.lock:
            entry = self.find(number)
            if entry is not None and number != self.current:
                self._remember_step()
                self._show(number)
            return entry

    def _show(self, number: int | None) -> None:
        self.current = number
        self.compared = None if self.compared == number or self.find(self.compared) is None else self.compared

    def star(self, number: int, is_starred: bool) -> HistoryEntry | None:
        """Give a picture a star, or take it away; it is then the last to leave a history that is full."""
        with self.lock:
            entry = self.find(number)
            if entry is not None and entry.is_starred != is_starred:
                self._remember_step(entry)
                self._put(replace(entry, is_starred=is_starred))
            return self.find(number)

    def delete(self, number: int) -> HistoryEntry | None:
        """Take a picture out of the history; returns the one that is shown then, the next newer or else the newest."""
        with self.lock:
            entry = self.find(number)
            if entry is not None:
                self._remember_step(entry)
                self.history.remove(entry)
                if self.current == number:
                    later = [other.number for other in self.history if other.number > number]
                    newest = self.history[-1].number if self.history else None
                    self._show(later[0] if later else newest)
                else:
                    self._show(self.current)
            return self.find(self.current)

    def compare(self, number: int | None) -> None:
        """Put another picture, or with None the photo, on the other side of the slider."""
        with self.lock:
            self.compared = number if self.find(number) is not None and number != self.current else None

    @property
    def can_undo(self) -> bool:
        """Whether there is anything to undo."""
        return bool(self._steps)

    def undo(self) -> HistoryEntry | None:
        """Take back the last of: a picture was made, shown, starred or deleted; returns the one that is shown then.

        A picture that was made stays in the history.
        """
        with self.lock:
            if not self._steps:
                return None
            step = self._steps.pop()
            if step.entry is not None:
                self._put(step.entry)
            self._show(step.current if self.find(step.current) else self.current)
            return self.find(self.current)

    def _remember_step(self, entry: HistoryEntry | None = None) -> None:
        if entry is None and self.current is None:
            return  # the first picture
        self._steps = [*self._steps, _Step(current=self.current, entry=entry)][-MAX_UNDO:]

    def _put(self, entry: HistoryEntry) -> None:
        """Put a picture at its place, instead of what is there under its number."""
        others = [other for other in self.history if other.number != entry.number]
        self.history = sorted([*others, entry], key=lambda other: other.number)

    # Work ----------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Stop what is being made, between two steps of the denoising."""
        if self.job is not None:
            self.job.cancel()

    @property
    def is_working(self) -> bool:
        """Whether a picture is being made."""
        return self.job is not None and not self.job.is_over

    def forget(self) -> None:
        """Drop photos, pictures, embeddings and files."""
        with self.lock:
            for job in (self.job, self.preview_job):
                if job is not None:
                    job.private = True
            self.cancel()
            self.job = None
            self.upload_generation += 1
            self._clear()
            shutil.rmtree(self.folder, ignore_errors=True)
