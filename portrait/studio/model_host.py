"""The models of one device, loaded once and used by one job at a time."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from math import ceil

from portrait.errors import ManyFacesError
from portrait.faces.identity import FaceAnalyzer, FaceChoice, choose_faces
from portrait.faces.load import load_analyzer
from portrait.faces.upright import upright_photo
from portrait.generate.framing import frame_portrait
from portrait.images import Photo, thumbnail
from portrait.loop.attempt_loop import VARIANT_STRIDE, AttemptLoop
from portrait.loop.load import load_loop
from portrait.loop.types import StylizedPortrait, Subject
from portrait.records import Face, RgbImage
from portrait.settings import Settings
from portrait.studio.device_queue import DeviceQueue, Ticket
from portrait.studio.jobs import Cancelled, RenderJob, to_user_error

PREVIEW_SIDE = 256
"""Side of the pictures of `start_previews`, in pixels."""
PREVIEW_STEPS = 4
"""They are drawn in one of this many denoising steps: at that size, one step of `mini`'s four shows the style as well."""
CLOSE_SECONDS = 5.0
"""Seconds that an ending studio waits for a denoising step."""

log = logging.getLogger(__name__)


class ModelHost:
    """The models of one device. One recipe is in memory at a time, and one picture is made at a time.

    recipe, device, memory, threads, commercial, base, lora and thresholds of every job are those of `settings`. `load` loads a
    recipe's models, `analyzer` the detector for arriving photos.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[Settings], AttemptLoop] = load_loop,
        analyzer: Callable[[], FaceAnalyzer] | None = None,
    ) -> None:
        self.settings = settings
        self.queue = DeviceQueue()
        self._load = load
        self._make_analyzer = analyzer or (
            lambda: load_analyzer(commercial=settings.commercial, threads=settings.threads)
        )
        self._analyzer: FaceAnalyzer | None = None
        self._detect_lock = threading.Lock()
        self._load_lock = threading.Lock()
        self._loaded: tuple[str, AttemptLoop] | None = None
        self._jobs: weakref.WeakSet[RenderJob] = weakref.WeakSet()
        self._start_lock = threading.Lock()
        self._closed = False

    def warm_up(self) -> threading.Thread:
        """Load the models in the background, so that the first visitor need not wait for them."""

        def load() -> None:
            try:
                with self._detect_lock:
                    self._detector()
                self.loop(self.settings.recipe)
            except Exception as error:  # the error is shown again when somebody makes a picture
                log.error("%s", to_user_error(error))

        thread = threading.Thread(target=load, daemon=True)
        thread.start()
        return thread

    def _detector(self) -> FaceAnalyzer:
        if self._analyzer is None:
            self._analyzer = self._make_analyzer()
        return self._analyzer

    def upright(self, photo: Photo) -> Photo:
        """Turn the photo upright if its faces are sideways or upside down, unless the studio was told not to."""
        if self.settings.upright == "off":
            return photo
        with self._detect_lock:
            return upright_photo(photo, self._detector())

    def detect_faces(self, photo: Photo) -> tuple[list[Face], int | None]:
        """The faces of a photo from left to right, and the index of the one to use without asking, if any.

        Raises:
            NoFaceError: there is none; with the same message as on the command line.
        """
        with self._detect_lock:  # a separate detector, so that nobody waits for a picture that is being made
            detector = self._detector()
            faces = detector.detect(photo.pixels)
            try:
                ((index, _),) = choose_faces(photo.pixels, photo.path.name, FaceChoice("auto"), detector, None, faces)
            except ManyFacesError:
                return faces, None
        return faces, index

    def check_reference(self, photo: Photo, face: Face, reference: Photo) -> None:
        """Check that another photo shows the same person as a face; the models later find the face in it again.

        Raises:
            NoFaceError, FaceError: it shows nobody, or nobody who looks like that person.
        """
        with self._detect_lock:
            detector = self._detector()
            person = detector.embed(photo.pixels, face.kps)
            choose_faces(reference.pixels, reference.path.name, FaceChoice("like"), detector, person)

    def loop(self, recipe: str) -> AttemptLoop:
        """The models of a recipe, loaded unless they are already in memory."""
        with self._load_lock:
            if self._loaded is None or self._loaded[0] != recipe:
                self._loaded = None  # free the memory first
                self._loaded = (recipe, self._load(replace(self.settings, recipe=recipe)))
            return self._loaded[1]

    def is_loaded(self, recipe: str) -> bool:
        """Whether these are the models in memory."""
        return self._loaded is not None and self._loaded[0] == recipe

    def clear_cache(self) -> None:
        loaded = self._loaded  # another thread may just be loading another recipe
        if loaded is not None:
            loaded[1].clear_cache()

    def close(self) -> None:
        """Cancel all current and future jobs, and wait for the current step."""
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
        on_portrait: Callable[[StylizedPortrait, Settings], None] | None = None,
    ) -> RenderJob:
        """Start making `settings.variants` pictures in `settings.style`.

        Args:
            photo: The photo.
            settings: What to make; `face` names one face.
            references: More photos of the same person.
            subject: The person, if known from an earlier job.
            on_subject: Called with the person, for the next job; without it the job is private.
            on_portrait: Called with each finished picture and the settings that make exactly this one again, in the job's
                thread, whether anybody follows the job or not. An error it raises becomes the sentence of the event.

        Returns:
            The job, which is waiting in the queue or already working.
        """

        def work(job: RenderJob) -> None:
            with self.queue.join(lambda: job.cancelled) as ticket:
                _wait_for_turn(job, ticket)
                if not self.is_loaded(settings.recipe):
                    job.emit("loading")
                loop = self.loop(settings.recipe)
                try:
                    job.check()
                    person = subject or loop.subjects(photo, settings.face, references, upright=settings.upright)[0]
                    if on_subject is not None:
                        on_subject(person)
                    for variant in range(settings.variants):
                        _make_variant(job, loop, person, settings, variant, on_portrait)
                finally:
                    if job.private or on_subject is None:
                        loop.clear_cache()

        return self._begin(work)

    def start_previews(
        self,
        photo: Photo,
        settings: Settings,
        wishes: Sequence[tuple[str, float]],
        *,
        references: Sequence[Photo] = (),
        subject: Subject | None = None,
        on_subject: Callable[[Subject], None] = lambda subject: None,
    ) -> RenderJob:
        """Start making a small picture of a photo for each (style, balance): few steps, one attempt, not judged.

        It only works while nobody else does: a request for a portrait is served within a step, and the interrupted preview
        starts over afterwards. Another recipe's models are never unloaded for it.

        Args:
            photo: The photo.
            settings: `recipe`, `frame`, `shift`, `seed` and the one `face`; the rest is ignored.
            wishes: The previews to make, in this order.
            references: More photos of the same person.
            subject: The person, if known from an earlier job.
            on_subject: Called with the person, for the next job.
        """
        person = subject

        def draw(job: RenderJob, ticket: Ticket, style: str, balance: float) -> RgbImage:
            nonlocal person
            if self._loaded is not None and not self.is_loaded(settings.recipe):
                raise Cancelled
            loop = self.loop(settings.recipe)
            try:
                if person is None:
                    person = loop.subjects(photo, settings.face, references, upright=settings.upright)[0]
                    on_subject(person)
                return _draw_preview(job, ticket, loop, person, settings, style, balance)
            finally:
                if job.private:
                    loop.clear_cache()

        def work(job: RenderJob) -> None:
            for style, balance in wishes:
                picture = None
                while picture is None:
                    with self.queue.join(patient=True) as ticket, suppress(_GiveWay):
                        _wait_for_turn(job, ticket, is_reported=False)
                        picture = draw(job, ticket, style, balance)
                job.emit("preview", style=style, balance=balance, preview=picture)

        return self._begin(work)

    def _begin(self, work: Callable[[RenderJob], None]) -> RenderJob:
        with self._start_lock:
            job = RenderJob(work, cancelled=self._closed)
            self._jobs.add(job)
        return job


def _wait_for_turn(job: RenderJob, ticket: Ticket, *, is_reported: bool = True) -> None:
    """Wait in the queue, and report the job's position whenever it changes."""
    announced = -1
    while not ticket.wait(0.5):
        job.check()
        ahead = ticket.ahead
        if is_reported and ahead != announced:
            announced = ahead
            job.emit("waiting", position=ahead + 1)
    job.check()


class _GiveWay(Exception):
    """Raised in the middle of a preview, because somebody is waiting for a portrait."""


def _draw_preview(
    job: RenderJob,
    ticket: Ticket,
    loop: AttemptLoop,
    subject: Subject,
    settings: Settings,
    style: str,
    balance: float,
) -> RgbImage:
    def on_step(step: int, total: int) -> None:
        job.check()
        if ticket.kept_waiting:
            raise _GiveWay

    on_step(0, 0)
    shift = settings.shifted()
    framed = frame_portrait(subject.photo.pixels, subject.face, settings.frame, loop.recipe.resolution, shift)
    knobs = loop.knobs_for_balance(style, balance)
    steps = max(knobs.num_inference_steps // PREVIEW_STEPS, ceil(1 / max(knobs.strength, 0.01)))
    few = loop.recipe.with_enough_steps(replace(knobs, num_inference_steps=steps))
    picture = loop.draw(framed, subject.identity, style, few, settings.seed, on_step)
    return thumbnail(picture, PREVIEW_SIDE)


def _make_variant(
    job: RenderJob,
    loop: AttemptLoop,
    subject: Subject,
    settings: Settings,
    variant: int,
    on_portrait: Callable[[StylizedPortrait, Settings], None] | None,
) -> None:
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
    portrait = loop.stylize(subject, settings.style[0], alone, on_step=on_step, on_preview=on_preview)
    job.check()
    sentence = ""
    if on_portrait is not None:
        try:
            on_portrait(portrait, alone)
        except Exception as error:
            sentence = str(to_user_error(error))
    job.emit("portrait", variant=variant + 1, portrait=portrait, settings=alone, sentence=sentence)
