"""The models of one device, loaded once and used by one job at a time."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from portrait.errors import ManyFacesError, PortraitError
from portrait.faces.identity import FaceAnalyzer, FaceChoice, choose_faces
from portrait.faces.upright import upright_photo
from portrait.images import Photo
from portrait.records import Face, RgbImage
from portrait.settings import Settings
from portrait.studio.device_queue import DeviceQueue, Ticket
from portrait.studio.jobs import RenderJob

if TYPE_CHECKING:
    from portrait.loop.attempt_loop import AttemptLoop
    from portrait.loop.types import Subject

CLOSE_SECONDS = 5.0
"""How long a studio that ends waits for a step of the denoising."""

log = logging.getLogger(__name__)


class ModelHost:
    """The models of one device. One recipe is in memory at a time, and one picture is made at a time.

    Args:
        settings: recipe, device, memory, threads, commercial, base, lora and thresholds of every job come from here.
        load: Loads a recipe's models; tests give their own.
        analyzer: Makes the detector for photos as they arrive; tests give their own.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[Settings], AttemptLoop] | None = None,
        analyzer: Callable[[], FaceAnalyzer] | None = None,
    ) -> None:
        self.settings = settings
        self.queue = DeviceQueue()
        self._load = load or _load
        self._make_analyzer = analyzer or self._default_analyzer
        self._analyzer: FaceAnalyzer | None = None
        self._detect_lock = threading.Lock()
        self._load_lock = threading.Lock()
        self._loaded: tuple[str, AttemptLoop] | None = None
        self._jobs: weakref.WeakSet[RenderJob] = weakref.WeakSet()
        self._start_lock = threading.Lock()
        self._closed = False

    def _default_analyzer(self) -> FaceAnalyzer:
        from portrait.faces.load import load_analyzer

        return load_analyzer(commercial=self.settings.commercial, threads=self.settings.threads)

    def warm_up(self) -> threading.Thread:
        """Load the models in the background, so that the first visitor need not wait for them."""

        def load() -> None:
            try:
                with self._detect_lock:
                    self._detector()
                self.stylizer(self.settings.recipe)
            except PortraitError as error:  # shown again to whoever makes a picture
                log.error("%s", error)

        thread = threading.Thread(target=load, daemon=True)
        thread.start()
        return thread

    def _detector(self) -> FaceAnalyzer:
        if self._analyzer is None:
            self._analyzer = self._make_analyzer()
        return self._analyzer

    def upright(self, photo: Photo) -> Photo:
        """The photo as it should be looked at: turned if its faces lie on their side, unless the studio was told not to."""
        if self.settings.upright == "off":
            return photo
        with self._detect_lock:
            return upright_photo(photo, self._detector())

    def detect_faces(self, photo: Photo) -> tuple[list[Face], int | None]:
        """The faces of a photo from left to right, and the index of the one that is meant without asking, if any.

        Raises:
            NoFaceError: there is none; the sentence of the command line.
        """
        with self._detect_lock:  # a detector of its own, so that nobody waits for a picture that is being made
            detector = self._detector()
            faces = detector.detect(photo.pixels)
            try:
                ((index, _),) = choose_faces(photo.pixels, photo.path.name, FaceChoice("auto"), detector, None, faces)
            except ManyFacesError:
                return faces, None
        return faces, index

    def stylizer(self, recipe: str) -> AttemptLoop:
        """The models of a recipe, loaded unless they are those in memory."""
        with self._load_lock:
            if self._loaded is None or self._loaded[0] != recipe:
                self._loaded = None  # frees the memory first
                self._loaded = (recipe, self._load(replace(self.settings, recipe=recipe)))
            return self._loaded[1]

    def is_loaded(self, recipe: str) -> bool:
        """Whether these are the models in memory."""
        return self._loaded is not None and self._loaded[0] == recipe

    def clear_cache(self) -> None:
        """Drop what the models remember of the last photo."""
        loaded = self._loaded  # another thread may just be loading another recipe
        if loaded is not None:
            loaded[1].clear_cache()

    def close(self) -> None:
        """Cancel every job, those that are still to come too, and wait for the step that is being done."""
        with self._start_lock:
            self._closed = True
            jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
        for job in jobs:
            job.wait(CLOSE_SECONDS)
        self.clear_cache()

    def start(
        self,
        photo: Photo,
        settings: Settings,
        *,
        references: Sequence[Photo] = (),
        subject: Subject | None = None,
        on_subject: Callable[[Subject], None] | None = None,
    ) -> RenderJob:
        """Begin to make `settings.variants` pictures in `settings.style`.

        Args:
            photo: The photo.
            settings: What to make; `face` names one face.
            references: More photos of the same person.
            subject: Who that is, if an earlier job has found out.
            on_subject: Called with who it is, for the next job; without it the job is private.

        Returns:
            The job, which waits in the queue or works already.
        """

        def work(job: RenderJob) -> None:
            with self.queue.join(lambda: job.cancelled) as ticket:
                _wait_for_turn(job, ticket)
                if not self.is_loaded(settings.recipe):
                    job.emit("loading")
                stylizer = self.stylizer(settings.recipe)
                try:
                    job.check()
                    person = subject or stylizer.subjects(photo, settings.face, references, upright=settings.upright)[0]
                    if on_subject is not None:
                        on_subject(person)
                    for variant in range(settings.variants):
                        _make_variant(job, stylizer, person, settings, variant)
                finally:
                    if job.private or on_subject is None:
                        stylizer.clear_cache()

        with self._start_lock:
            job = RenderJob(work, cancelled=self._closed)
            self._jobs.add(job)
        return job


def _wait_for_turn(job: RenderJob, ticket: Ticket) -> None:
    """Wait in the queue; tells the job's position whenever it changes."""
    announced = -1
    while not ticket.wait(0.5):
        job.check()
        ahead = ticket.ahead
        if ahead != announced:
            announced = ahead
            job.emit("waiting", position=ahead + 1)
    job.check()


def _make_variant(job: RenderJob, stylizer: AttemptLoop, subject: Subject, settings: Settings, variant: int) -> None:
    from portrait.loop.attempt_loop import VARIANT_STRIDE

    alone = replace(settings, variants=1, seed=settings.seed + VARIANT_STRIDE * variant)
    progress = {"variant": variant + 1, "attempt": 1, "step": 0, "total": 0}

    def on_step(attempt: int, step: int, total: int) -> None:
        job.check()
        progress.update(attempt=attempt, step=step, total=total)
        job.emit("step", **progress)

    def on_preview(preview: RgbImage) -> None:
        job.check()
        job.emit("step", **progress, preview=preview)

    job.check()
    portrait = stylizer.stylize(subject, settings.style[0], alone, on_step=on_step, on_preview=on_preview)
    job.check()
    job.emit("portrait", variant=variant + 1, portrait=portrait, settings=alone)


def _load(settings: Settings) -> AttemptLoop:
    from portrait.loop.load import load_loop_for

    return load_loop_for(settings)
