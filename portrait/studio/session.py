"""One tab: photo, faces, pictures and undo. Everything is in memory, and `forget` drops it."""

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
from typing import TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from portrait.errors import InputError, SettingsError
from portrait.faces.identity import face_warnings, photo_notes
from portrait.files import write_bytes
from portrait.generate.framing import Square, square_around
from portrait.images import Photo, resized
from portrait.loop.types import StylizedPortrait, Subject
from portrait.paths import is_file_name, shorten_name
from portrait.records import Face, RgbImage
from portrait.settings import Settings, flags_of
from portrait.studio import strings
from portrait.studio.jobs import RenderJob
from portrait.studio.uploads import read_upload

log = logging.getLogger(__name__)

MAX_HISTORY = 60
"""How many pictures of a session are kept; the oldest without a star are dropped first."""
MAX_HISTORY_BYTES = 500_000_000
"""Bytes that their pixels may take; the last one is always kept."""
MAX_UNDO = 10
"""How many steps can be undone; deleted pictures are kept for that long."""
MAX_BACKDROP_BYTES = 200_000_000
"""Bytes that the backgrounds of one session may take on disk."""
MAX_REFERENCES = 4
"""How many further photos of a person are accepted: each is held in memory completely."""
CROP_SIDE = 160
"""Side of a face beside the photo, in pixels."""
CROP_ROOM = 1.8
"""Side of such a crop relative to the face's longer side: the head, with some room."""

Wish: TypeAlias = tuple[str, float]
"""A style and a balance."""


class Form(BaseModel):
    """The values of the page's form, as text.

    Further values are settings of `ADVANCED`, by name; one that is left to the balance is absent.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, str] = Field(init=False)

    recipe: str = ""
    style: str = ""
    palette: str = ""
    balance: str = ""
    frame: str = ""
    shift: str = ""
    size: str = ""
    keep: tuple[str, ...] = ()
    region: str = ""
    variants: str = ""
    background: str = ""
    color: str = ""
    color2: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HistoryEntry:
    """One finished picture, and the settings that make exactly this one again.

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
        """Stem of the names of its files for download: the photo's name, shortened if it is long, the style, the number."""
        return f"{shorten_name(Path(self.photo).stem)}-{self.settings.style[0]}-{self.number}"


def _as_argument(name: str) -> str:
    return f"./{name}" if name.startswith("-") else name


def named_background(settings: Settings) -> Settings:
    """The same settings with only the name of a background's file, as on the visitor's computer."""
    background = settings.backdrop()
    if background is None or background.file is None:
        return settings
    return replace(settings, background=_as_argument(background.file.name))


def named(portrait: StylizedPortrait, photo: str) -> StylizedPortrait:
    """The same portrait with the visitor's file names in its record, and no path on this computer."""
    record = portrait.record.with_input_path(photo)
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
    """What `undo` restores: the picture that was shown and, if one was starred or deleted, its earlier state."""

    current: int | None
    entry: HistoryEntry | None = None


class Session:
    """What belongs to one browser tab.

    The next picture is made from `face` and `form`. `choices` are the pictures of the last
    job that made several, and `is_choosing` says that they are shown together. `upload_generation` counts the chosen photos,
    so that a photo that is read too late is ignored. `job` is the newest one, even if it is over. `closed` says that the
    session is forgotten: later events do not belong to it. `away_since` is when its tab was closed or reloaded, None while
    it is open.

    Args:
        folder: Folder for backgrounds; created when needed, removed by `forget`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = secrets.token_urlsafe(16)
        """The key by which a reloaded tab is recognized, and a part of its files' addresses."""
        self.lock = threading.RLock()
        self.reading = threading.Lock()
        """Held while a photo is read and its faces are detected, so that each session has one such photo in memory."""
        self.job: RenderJob | None = None
        self.preview_job: RenderJob | None = None
        self.last_used = time.monotonic()
        self.away_since: float | None = None
        self.is_away = threading.Event()
        self.form = Form()
        self.upload_generation = 0
        self.closed = False
        self.lost = False
        """Whether it replaces a lost session of an open tab, which the visitor must still be told."""
        self.stopped = False
        """Whether a portrait was stopped because the tab was away for long, which the visitor must still be told."""
        self.greeted = ""
        """The page load that was answered last."""
        self._numbered = 0
        """Number of the newest picture; it continues after `forget`, so that files for download never share a name."""
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
        """How many pictures were removed from the full history."""
        self.current: int | None = None
        self.compared: int | None = None
        self.choices: tuple[int, ...] = ()
        self.is_choosing = False
        self._steps: list[_Step] = []
        self._forget_person()

    def _forget_person(self) -> None:
        """Forget what is known about the face chosen so far."""
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
        self.away_since = None
        self.is_away.clear()
        self.last_used = time.monotonic()

    # The photo -----------------------------------------------------------------------------------------------

    def begin_upload(self) -> int:
        """The visitor chose a photo: an earlier one that is still being read is no longer wanted."""
        with self.lock:
            self.upload_generation += 1
            return self.upload_generation

    def open(
        self, photo: Photo, faces: list[Face], *, has_file: bool, face: int | None, generation: int | None = None
    ) -> bool:
        """Open a photo; `face` is the one to use, None if the visitor has to choose.

        The pictures made so far stay in the history; further photos of the previous person do not.

        Returns:
            False, without opening it, if the visitor chose another photo, reset the page or left since `generation`.
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
        """Choose a face by its index from the left; an index without a face changes nothing."""
        with self.lock:
            if 0 <= face < len(self.faces) and face != self.face:
                self.face = face
                self.references = ()
                self._forget_person()

    def add_reference(self, photo: Photo) -> None:
        """Add another photo of the person, as checked by `ModelHost.check_reference`.

        Raises:
            SettingsError: there are `MAX_REFERENCES` already.
        """
        with self.lock:
            if len(self.references) >= MAX_REFERENCES:
                raise SettingsError(strings.MANY_REFERENCES.format(n=MAX_REFERENCES))
            self.references = (*self.references, photo)
            self._forget_person()

    def drop_reference(self, index: int | None) -> None:
        with self.lock:
            self.references = tuple(photo for i, photo in enumerate(self.references) if i != index)
            self._forget_person()

    @property
    def advice(self) -> tuple[str, ...]:
        """What the visitor should know about the photo and the chosen face; empty while none is chosen."""
        photo, face = self.photo, self.face
        if photo is None or face is None:
            return ()
        if self._advice is None:
            self._advice = tuple(photo_notes(photo, face_warnings(photo.pixels, self.faces[face])))
        return self._advice

    def square(self, frame: str) -> Square | None:
        """The square of a frame around the chosen face, and how far it can be moved; None while no face is chosen."""
        if self.photo is None or self.face is None:
            return None
        return square_around(self.photo.pixels, self.faces[self.face], frame)

    def face_crop(self, index: int) -> RgbImage:
        """Crop a face of the photo with some room, (CROP_SIDE, CROP_SIDE, 3) uint8.

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
        """Store a picture as background; earlier ones stay, because pictures were made with them.

        Raises:
            ImageReadError: it is not a picture.
            InputError: its name is not a valid file name, it cannot be written, or the session has too many of them.
        """
        read_upload(data, name, lambda: not self.closed)
        name = name if Path(name).suffix else f"{name}.png"
        if not is_file_name(name):
            raise InputError(strings.BAD_NAME.format(name=name[:80]))
        used_bytes = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
        if used_bytes + len(data) > MAX_BACKDROP_BYTES:
            raise InputError(strings.BACKDROPS_FULL)
        try:
            file = write_bytes(self.folder / secrets.token_urlsafe(12) / name, data)
        except InputError as error:
            log.error("%s", error)  # without the path, which is not for visitors
            raise InputError(strings.DISK_FULL) from None
        with self.lock:
            self.backdrop = file

    # Who it is, and previews ---------------------------------------------------------------------------------

    def subject(self, recipe: str, face: int) -> Subject | None:
        """The identity of a face by a recipe's models, if known from a job."""
        return self._subjects.get((recipe, face))

    def remember_subject(self, recipe: str, face: int, subject: Subject) -> None:
        """Store the identity of a face, unless the photo or the person was replaced in the meantime."""
        with self.lock:
            if subject.photo is self.photo and subject.references == self.references:
                self._subjects = {(recipe, face): subject}

    def missing_previews(self, recipe: str, crop: str, wishes: Sequence[Wish]) -> list[Wish]:
        """The requested previews that are missing; `crop` is a frame and a shift."""
        return [(style, balance) for style, balance in wishes if (recipe, style, crop, balance) not in self.previews]

    def begin_previews(self, start: Callable[[], RenderJob]) -> RenderJob:
        """Start a job of previews instead of the previous one."""
        with self.lock:
            self.cancel_previews()
            self.preview_job = start()
            return self.preview_job

    def keep_preview(self, job: RenderJob, key: tuple[str, str, str, float], uri: str) -> bool:
        """Store a preview, a data URI, under (recipe, style, crop, balance); return False if the session dropped its job."""
        with self.lock:
            is_wanted = self.preview_job is job and not job.cancelled
            if is_wanted:
                self.previews[key] = uri
            return is_wanted

    def cancel_previews(self) -> None:
        if self.preview_job is not None:
            self.preview_job.cancel()
        self.preview_job = None

    # The history ---------------------------------------------------------------------------------------------

    def add(
        self, portrait: StylizedPortrait, settings: Settings, thumbnail: RgbImage, photo: Photo, *, has_file: bool
    ) -> HistoryEntry:
        """Add a finished picture and show it."""
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
            self.last_used = time.monotonic()  # waiting may have taken long
            self.history.append(entry)
            self._make_room()
            self.current = entry.number
            self.compared = None
            return entry

    def _make_room(self) -> None:
        """Drop deleted pictures, then the oldest ones without a star, then the oldest."""
        while self._is_history_full():
            deleted = [step for step in self._steps if step.entry and not self.find(step.entry.number)]
            if deleted:
                self._steps.remove(deleted[0])
                continue
            oldest = next((entry for entry in self.history[:-1] if not entry.is_starred), self.history[0])
            self.history.remove(oldest)
            self.dropped += 1

    def _is_history_full(self) -> bool:
        entries = {entry.number: entry for step in self._steps if (entry := step.entry)}
        entries |= {entry.number: entry for entry in self.history}
        pixels = sum(entry.portrait.pixels.nbytes + entry.portrait.before.nbytes for entry in entries.values())
        return len(self.history) > MAX_HISTORY or (len(entries) > 1 and pixels > MAX_HISTORY_BYTES)

    def find(self, number: int | None) -> HistoryEntry | None:
        """The picture with this number; None if it was dropped or never existed."""
        return next((entry for entry in self.history if entry.number == number), None)

    def show(self, number: int | None) -> HistoryEntry | None:
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

    def star(self, number: int | None, is_starred: bool) -> HistoryEntry | None:
        """Give a picture a star, or remove it; starred pictures are the last to leave a full history."""
        with self.lock:
            entry = self.find(number)
            if entry is not None and entry.is_starred != is_starred:
                self._remember_step(entry)
                self._put(replace(entry, is_starred=is_starred))
            return self.find(number)

    def delete(self, number: int | None) -> HistoryEntry | None:
        """Delete a picture from the history; return the one shown instead, the next newer or else the newest."""
        with self.lock:
            entry = self.find(number)
            if entry is not None:
                self._remember_step(entry)
                self.history.remove(entry)
                if self.current == entry.number:
                    later = [other.number for other in self.history if other.number > entry.number]
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
        return bool(self._steps)

    def undo(self) -> HistoryEntry | None:
        """Undo the last of these: a picture was made, shown, starred or deleted. Return the one that is then shown.

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
        """Put a picture in its place, replacing any with the same number."""
        others = [other for other in self.history if other.number != entry.number]
        self.history = sorted([*others, entry], key=lambda other: other.number)

    # Work ----------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Stop the current job, between two denoising steps."""
        if self.job is not None:
            self.job.cancel()

    @property
    def is_working(self) -> bool:
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
