"""What the page sets in motion: models, the line in front of them, jobs that can be cancelled."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import queue
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portrait.errors import ImageReadError, ManyFacesError, PortraitError, SettingsError
from portrait.faces.identity import FaceAnalyzer, FaceChoice, choose_faces
from portrait.hub.manifest import find_part
from portrait.hub.store import status
from portrait.images import Photo, decode
from portrait.recipes.load import load_recipe, recipe_names
from portrait.recipes.locate import resolve_files
from portrait.recipes.recipe import Recipe
from portrait.records import Face, RgbImage
from portrait.settings import Settings
from portrait.studio import strings
from portrait.studio.device_queue import Line
from portrait.validation import check_names

if TYPE_CHECKING:
    from portrait.loop.stylizer import AttemptLoop
    from portrait.loop.types import StylizedPortrait, Subject

MAX_PIXELS = 64_000_000
"""A photo with more is refused: several visitors' photos must fit into memory."""
MAX_UPLOAD_MB = 100
CLOSE_SECONDS = 5.0
"""So long a studio that ends waits for a step of the denoising."""

log = logging.getLogger(__name__)


class Cancelled(Exception):
    """Raised in the middle of the denoising."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Event:
    """What happens to a job. `kind` is waiting (`place`; 1 is being served), loading, step, portrait, failed, cancelled or still.

    A step has `variant`, `attempt`, `step` and `total`, and `preview`, the picture as it forms, once there is one.
    A portrait has `portrait` and `settings`, which alone make it again.
    """

    kind: str
    place: int = 0
    variant: int = 0
    attempt: int = 0
    step: int = 0
    total: int = 0
    preview: RgbImage | None = None
    portrait: StylizedPortrait | None = None
    settings: Settings | None = None
    sentence: str = ""


class Job:
    """One wish of one visitor: `settings.variants` pictures. Runs in a thread of its own; `events` tells of it.

    When it ends and is `private`, the models forget the photo.
    """

    def __init__(self, work: Callable[[Job], None], *, cancelled: bool = False) -> None:
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        if cancelled:
            self._stop.set()
        self.private = False
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[Job], None]) -> None:
        try:
            work(self)
        except Cancelled:
            self.tell("cancelled")
        except Exception as error:
            self.tell("failed", sentence=str(as_told(error)))
        finally:
            self._events.put(None)

    def tell(self, kind: str, **more: Any) -> None:
        self._events.put(Event(kind=kind, **more))

    def cancel(self) -> None:
        self._stop.set()

    @property
    def cancelled(self) -> bool:
        return self._stop.is_set()

    def wait(self, seconds: float) -> None:
        """Wait until it has ended, or so long."""
        self._thread.join(seconds)

    def check(self) -> None:
        """Raises Cancelled when that was asked for."""
        if self.cancelled:
            raise Cancelled

    def events(self, pulse: float | None = None) -> Iterator[Event]:
        """Everything that happens, until it ends; with `pulse` a still event whenever nothing did for so many seconds."""
        while True:
            try:
                event = self._events.get(timeout=pulse)
            except queue.Empty:
                event = Event(kind="still")
            if event is None:
                return
            yield event


def as_told(error: Exception) -> PortraitError:
    """What a visitor is told of an error: its sentence; of a bug what it is, and the log has the rest."""
    if isinstance(error, PortraitError):
        return error
    log.error("this should not happen", exc_info=error)
    return PortraitError(strings.UNEXPECTED.format(error=repr(error)))


class Workshop:
    """The models of one device. One recipe is in memory at a time, and one picture is made at a time.

    Args:
        settings: recipe, device, memory, threads, commercial, base, lora and thresholds of every job come from here.
        load: Loads a AttemptLoop; tests give their own.
        analyzer: Makes the detector that looks at photos as they arrive; tests give their own.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[Settings], AttemptLoop] | None = None,
        analyzer: Callable[[], FaceAnalyzer] | None = None,
    ) -> None:
        self.settings = settings
        self.line = Line()
        self._load = load or _load
        self._make_analyzer = analyzer or self._default_analyzer
        self._analyzer: FaceAnalyzer | None = None
        self._looking = threading.Lock()
        self._loading = threading.Lock()
        self._loaded: tuple[str, AttemptLoop] | None = None
        self._jobs: weakref.WeakSet[Job] = weakref.WeakSet()
        self._starting = threading.Lock()
        self._closed = False

    def _default_analyzer(self) -> FaceAnalyzer:
        if self.settings.commercial:
            from portrait.faces.dlib_analyzer import DlibAnalyzer

            return DlibAnalyzer()
        from portrait.faces.insightface_analyzer import InsightFaceAnalyzer

        return InsightFaceAnalyzer(threads=self.settings.threads or None)

    def warm_up(self) -> threading.Thread:
        """Load the models in the background, so that the first visitor need not wait for them."""

        def load() -> None:
            try:
                with self._looking:
                    self._detector()
                self.stylizer(self.settings.recipe)
            except PortraitError as error:  # said again to whoever makes a picture
                log.error("%s", error)

        thread = threading.Thread(target=load, daemon=True)
        thread.start()
        return thread

    def _detector(self) -> FaceAnalyzer:
        if self._analyzer is None:
            self._analyzer = self._make_analyzer()
        return self._analyzer

    def look(self, photo: Photo) -> tuple[list[Face], int | None]:
        """The faces of a photo from left to right, and the index of the one that is meant without asking.

        Raises:
            NoFaceError: none; the sentence of the command line.
        """
        with self._looking:  # a detector of its own: nobody waits for it while a picture is made
            detector = self._detector()
            faces = detector.detect(photo.pixels)
            try:
                ((index, _),) = choose_faces(photo.pixels, photo.path.name, FaceChoice("auto"), detector, None, faces)
            except ManyFacesError:
                return faces, None
        return faces, index

    def stylizer(self, recipe: str) -> AttemptLoop:
        """The models of a recipe, loaded when they are not those in memory."""
        with self._loading:
            if self._loaded is None or self._loaded[0] != recipe:
                self._loaded = None  # frees the memory first
                self._loaded = recipe, self._load(replace(self.settings, recipe=recipe))
            return self._loaded[1]

    def is_loaded(self, recipe: str) -> bool:
        return self._loaded is not None and self._loaded[0] == recipe

    def forget(self) -> None:
        """Let go of what the models remember of the last photo."""
        loaded = self._loaded  # another recipe may just be loaded
        if loaded is not None:
            loaded[1].clear_cache()

    def close(self) -> None:
        """Cancel everything that waits or works, or will, and wait for the step that is being done."""
        with self._starting:
            self._closed = True
            jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
        for job in jobs:
            job.wait(CLOSE_SECONDS)
        self.forget()

    def start(
        self,
        photo: Photo,
        settings: Settings,
        *,
        references: Sequence[Photo] = (),
        known: Subject | None = None,
        on_subject: Callable[[Subject], None] | None = None,
    ) -> Job:
        """Begin to make `settings.variants` pictures in `settings.style`.

        Args:
            photo: The photo.
            settings: What to make; `face` names one face.
            references: More photos of the same person.
            known: Who that is, if a job before found out.
            on_subject: Told who it is, for the next time; without it the job is private.

        Returns:
            The job, which waits in line or works already.
        """

        def work(job: Job) -> None:
            with self.line.join(lambda: job.cancelled) as place:
                said = -1
                while not place.wait(0.5):
                    job.check()
                    if (before := place.before) != said:
                        said = before
                        job.tell("waiting", place=before + 1)
                job.check()
                if not self.is_loaded(settings.recipe):
                    job.tell("loading")
                stylizer = self.stylizer(settings.recipe)
                try:
                    job.check()
                    subject = known or stylizer.subjects(photo, settings.face, references)[0]
                    if on_subject is not None:
                        on_subject(subject)
                    for variant in range(settings.variants):
                        self._make(job, stylizer, subject, settings, variant)
                finally:
                    if job.private or on_subject is None:
                        stylizer.clear_cache()

        with self._starting:
            job = Job(work, cancelled=self._closed)
            self._jobs.add(job)
        return job

    @staticmethod
    def _make(job: Job, stylizer: AttemptLoop, subject: Subject, settings: Settings, variant: int) -> None:
        from portrait.loop.stylizer import VARIANT_STRIDE

        alone = replace(settings, variants=1, seed=settings.seed + VARIANT_STRIDE * variant)

        at = {"variant": variant + 1, "attempt": 1, "step": 0, "total": 0}

        def on_step(attempt: int, step: int, total: int) -> None:
            job.check()
            at.update(attempt=attempt, step=step, total=total)
            job.tell("step", **at)

        def on_preview(preview: RgbImage) -> None:
            job.check()
            job.tell("step", **at, preview=preview)

        job.check()
        made = stylizer.stylize(subject, settings.style[0], alone, on_step=on_step, on_preview=on_preview)
        job.check()
        job.tell("portrait", variant=variant + 1, portrait=made, settings=alone)


def read_upload(data: bytes, name: str) -> Photo:
    """Read what a visitor uploaded, under the name it had with them.

    Raises:
        ImageReadError: as `images.read_photo`; or it has more pixels than a studio takes.
    """
    if not data:
        raise ImageReadError(f"{name} is empty (0 bytes)")
    pixels = decode(data, name, max_pixels=MAX_PIXELS)
    return Photo(pixels=pixels, path=Path(name), sha256=hashlib.sha256(data).hexdigest())


def _load(settings: Settings) -> AttemptLoop:
    from portrait.loop.stylizer import AttemptLoop

    return AttemptLoop.from_settings(settings)


WEB_SETTINGS = [
    "recipe",
    "style",
    "balance",
    "variants",
    "seed",
    "frame",
    "face",
    "keep",
    "far",
    "max_attempts",
    "max_seconds",
    "until",
    "prompt",
    "negative_prompt",
    "strength",
    "guidance_scale",
    "ip_adapter_scale",
    "controlnet_conditioning_scale",
    "num_inference_steps",
]
"""What a visitor may set. The rest names files or machines, and belongs to whoever started the studio."""


MOST = {"max_attempts": 32, "max_seconds": 3600.0, "num_inference_steps": 100}
"""What one wish may take of a machine that others wait for."""


def web_settings(base: Settings, wishes: dict[str, Any]) -> Settings:
    """`base` with a visitor's wishes; None is no wish.

    Raises:
        SettingsError: an unknown name, a value that does not fit, no such recipe, or a file of this computer
            (mask:FILE, like:FILE), which a visitor may not name.
        WeightsMissingError: the recipe is not installed; says how to.
    """
    check_names(wishes, "studio", WEB_SETTINGS)
    given = {name: value for name, value in wishes.items() if value is not None}
    for name in ("style", "keep"):
        if name in given:
            value = given[name]
            given[name] = (value,) if isinstance(value, str) else tuple(value)
    settings = replace(base, **given)
    if any(keep.kind == "mask" for keep in settings.keeps()) or FaceChoice.parse(settings.face).kind in (
        "like",
        "each",
    ):
        raise SettingsError("a studio takes no file of its own computer, and one face at a time")
    for name, most in MOST.items():
        if getattr(settings, name) is not None and getattr(settings, name) > most:
            raise SettingsError(f"{name} {getattr(settings, name):g} is more than a studio gives one visitor: {most:g}")
    if len(settings.style) != 1:
        raise SettingsError(f"a studio makes one style at a time, got {', '.join(settings.style) or 'none'}")
    if settings.recipe != base.recipe:
        if settings.recipe not in recipe_names():
            raise SettingsError(f"no recipe {settings.recipe!r} here; installed are: {', '.join(installed_recipes())}")
        require_installed(settings.recipe)
    load_recipe(settings.recipe).style(settings.style[0])
    return settings


def installed_recipes() -> list[str]:
    """Recipes whose every file is on this machine."""
    found = []
    for name in recipe_names():
        with contextlib.suppress(PortraitError):
            if _is_installed(load_recipe(name)):
                found.append(name)
    return found


def require_installed(name: str) -> None:
    """Raises SettingsError for no such recipe, WeightsMissingError with the command that fetches what it lacks."""
    recipe = load_recipe(name)
    if not _is_installed(recipe):
        resolve_files(recipe)


def _is_installed(recipe: Recipe) -> bool:
    return all(status(find_part(part)).complete for part in recipe.part_names)
