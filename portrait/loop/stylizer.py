"""The loop: the only place where making and judging meet."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from math import ceil
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import portrait
from portrait.errors import SettingsError
from portrait.faces.alignment import align_face
from portrait.faces.conditioning_recogniser import ConditioningRecogniser
from portrait.faces.identity import FaceAnalyzer, FaceChoice, Recogniser, choose_faces, identify
from portrait.generate.framing import Framed, frame_portrait, paste_back
from portrait.generate.keep import Kept, hold_colors, prepare_keeps
from portrait.images import Photo, pixels_sha256, resized
from portrait.judge.checks import (
    StyleStatistics,
    burned_share,
    color_distance,
    confusable_styles,
    edge_agreement,
    face_style_features,
    point_displacement,
    psnr_inside,
    style_distance,
    style_on_face,
)
from portrait.judge.thresholds import Thresholds
from portrait.judge.verdict import KEEP_LIMITS, Measurement, Verdict, decide
from portrait.judge.verification import similarities, swap_margin
from portrait.loop.limits import limits_for, style_limit_of
from portrait.loop.policy import Policy
from portrait.loop.response import STYLE, Curves, curves_for
from portrait.recipes.licensing import require_commercial
from portrait.recipes.load import load_recipe
from portrait.recipes.locate import resolve_files
from portrait.recipes.override import with_overrides
from portrait.recipes.recipe import Recipe
from portrait.records import Embedding, Face, Identity, Knobs, Preview, RgbImage
from portrait.records.portrait import (
    AttemptRecord,
    FaceRecord,
    FileRecord,
    Forecast,
    InputRecord,
    JudgeThreshold,
    LicenseLink,
    Limits,
    PictureRecord,
    PolicyRecord,
    PortraitRecord,
    Status,
)
from portrait.records.reasons import Reason
from portrait.settings import Settings

log = logging.getLogger(__name__)

STYLE_CROP = 224
NO_FACE_DISPLACEMENT = 10.0
"""What `pose` is measured as when the picture has no face: far beyond any limit."""
ELSEWHERE = 0.1
"""A face whose points lie so far from the photo's, in inter-eye distances, was moved and not only drawn."""
MOST_BYSTANDERS = 12
"""So many of the other people of a photo, the largest ones, a portrait is compared with."""
VARIANT_STRIDE = 1000
"""Variant v starts at seed + 1000 v; attempt k of it uses the k-th seed from there."""


class PortraitGenerator(Protocol):
    """Identity and photo -> pictures; `generate.diffusion.DiffusionGenerator` is the real one.

    `device` reads as text such as cpu or cuda; `tier` is that of `generate.memory`, lower after memory ran out.
    """

    digests: dict[str, str]
    threads: int
    device: Any
    tier: str
    dtype: str
    sampler: str
    max_batch_size: int

    def prepare(
        self,
        image: RgbImage,
        embedding: Embedding,
        prompt: str,
        negative_prompt: str = "",
        face: Face | None = None,
    ) -> Any: ...

    def generate(
        self,
        conditions: Any,
        knobs: Knobs,
        seeds: Sequence[int],
        on_step: Callable[[int, int], None] | None = None,
        preview: Preview | None = None,
    ) -> list[RgbImage]: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """One person in one photo: which face, who that is to every recogniser, and who else is in the photo."""

    photo: Photo
    index: int
    face: Face
    identity: Identity
    references: tuple[Photo, ...] = ()
    bystanders: tuple[Identity, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Portrait:
    """What one stylization ended in: the best picture, the framed photo beside it, and the record.

    `picture` is the accepted picture with most style, or the rejected one that came closest; `embeddings` are what
    each recogniser sees in it, for comparisons with other people. They are biometric data and stay out of the record.
    """

    picture: RgbImage
    before: RgbImage
    record: PortraitRecord
    embeddings: dict[str, Embedding] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        return self.record.accepted

    def named(self, path: str) -> Portrait:
        """The same with another name for the photo in its record."""
        return replace(self, record=self.record.with_input_path(path))


@dataclass(slots=True, kw_only=True, eq=False)
class _Try:
    attempt: AttemptRecord
    verdict: Verdict
    image: RgbImage
    embeddings: dict[str, Embedding]
    learned: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Job:
    """Everything that does not change between the attempts at one portrait."""

    subject: Subject
    others: tuple[Identity, ...]
    settings: Settings
    thresholds: Thresholds
    framed: Framed
    kept: Kept
    conditions: Any


class Stylizer:
    """A recipe's models, loaded once, and the judges.

    Args:
        recipe: Which models, which knobs.
        generator: Makes pictures.
        analyzer: Detects faces; its embedding conditions the generator and is the first judge.
        referees: Further recognisers, each of which must accept as well; at least one, unless no recogniser
            conditions the pictures.
        conditioner: The recogniser that conditions the generator, where that is not the analyzer's.
    """

    def __init__(
        self,
        recipe: Recipe,
        generator: PortraitGenerator,
        analyzer: FaceAnalyzer,
        referees: Sequence[Recogniser],
        conditioner: ConditioningRecogniser | None = None,
    ) -> None:
        if not referees and recipe.recogniser:
            raise SettingsError("the conditioning recogniser may not be the only judge: give a second one")
        self.recipe = recipe
        self.generator = generator
        self.analyzer = analyzer
        self.referees = tuple(referees)
        self.conditioner = conditioner
        self.digests: dict[str, str] = dict(generator.digests)
        self._likes: dict[str, Embedding] = {}
        self._last_kept: tuple[object, Kept] | None = None

    @classmethod
    def from_recipe(
        cls,
        name: str = "mini",
        *,
        threads: int = 0,
        device: str = "auto",
        memory: str = "auto",
        base: str = "",
        loras: Sequence[str] = (),
        commercial: bool = False,
    ) -> Stylizer:
        """Load the real models of a recipe.

        Args:
            name: A recipe's name or TOML file.
            threads: Processor threads, 0 for all cores.
            device: auto, cpu, cuda or mps.
            memory: auto, full, offload or sequential.
            base: Another base model, as `recipes.override.with_overrides` takes it.
            loras: More LoRAs, FILE.safetensors:WEIGHT each.
            commercial: Refuse a recipe that is not for commercial use, and use face tools that are.

        Raises:
            SettingsError, WeightsError: the recipe does not fit, or its files are not here.
        """
        recipe = with_overrides(load_recipe(name), base, loras)
        if commercial:
            require_commercial(recipe)
        recipe = resolve_files(recipe)
        from portrait.faces.dlib_analyzer import DlibAnalyzer
        from portrait.faces.dlib_recogniser import DlibRecogniser
        from portrait.faces.insightface_analyzer import InsightFaceAnalyzer
        from portrait.generate.diffusion import DiffusionGenerator

        analyzer: FaceAnalyzer = DlibAnalyzer() if commercial else InsightFaceAnalyzer(threads=threads or None)
        referees: list[Recogniser] = [] if commercial else [DlibRecogniser()]
        conditioner = None
        if recipe.recogniser_file is not None:
            conditioner = ConditioningRecogniser(recipe.recogniser_file, recipe.embedding, threads=threads or None)
        generator = DiffusionGenerator(recipe, threads=threads or None, device=device, tier=memory)
        stylizer = cls(recipe, generator, analyzer, referees, conditioner)
        for judge in (analyzer, *referees):
            stylizer.digests |= getattr(judge, "digests", {})
        return stylizer

    @classmethod
    def from_settings(cls, settings: Settings) -> Stylizer:
        """Load what `settings` name; raises as `from_recipe`."""
        return cls.from_recipe(
            settings.recipe,
            threads=settings.threads,
            device=settings.device,
            memory=settings.memory,
            base=settings.base,
            loras=settings.lora,
            commercial=settings.commercial,
        )

    def subjects(self, photo: Photo, face: str = "auto", references: Sequence[Photo] = ()) -> list[Subject]:
        """The people of `photo` that are meant.

        Args:
            photo: The photo to stylize.
            face: A policy as `FaceChoice.parse` reads it; `like:FILE` reads that file.
            references: More photos of the same person; their identity is averaged with this one's.

        Raises:
            FaceError: none, too many, or references that show somebody else.
        """
        choice = FaceChoice.parse(face)
        like = self._embedding_of(choice.reference) if choice.kind == "like" else None
        faces = self.analyzer.detect(photo.pixels)
        chosen = choose_faces(photo.pixels, str(photo.path), choice, self.analyzer, like, faces)
        near = sorted(range(len(faces)), key=lambda i: -faces[i].size)[: MOST_BYSTANDERS + 1]
        known = {i: identify([(photo.pixels, faces[i])], self.analyzer, self.referees) for i in near if len(faces) > 1}
        found = []
        for index, one in chosen:
            views = [(photo.pixels, one)]
            own = self.analyzer.embed(photo.pixels, one.kps) if references else None
            for reference in references:
                match = choose_faces(reference.pixels, str(reference.path), FaceChoice("like"), self.analyzer, own)
                views.append((reference.pixels, match[0][1]))
            alone = known.get(index) if not references else None
            identity = alone or identify(views, self.analyzer, self.referees)
            if self.conditioner is not None:
                identity = replace(identity, conditioning=self.conditioner.embed(views))
            found.append(
                Subject(
                    photo=photo,
                    index=index,
                    face=one,
                    identity=identity,
                    references=tuple(references),
                    bystanders=tuple(other for i, other in known.items() if i != index),
                )
            )
        return found

    def _embedding_of(self, path: str) -> Embedding:
        from portrait.images import read_photo

        if path not in self._likes:
            reference = read_photo(path)
            _, face = choose_faces(reference.pixels, path, FaceChoice("auto"), self.analyzer)[0]
            self._likes[path] = self.analyzer.embed(reference.pixels, face.kps)
        return self._likes[path]

    def stylize(
        self,
        subject: Subject,
        style: str,
        settings: Settings,
        *,
        variant: int = 0,
        others: Sequence[Identity] = (),
        on_step: Callable[[int, int, int], None] | None = None,
        on_preview: Callable[[RgbImage], None] | None = None,
    ) -> Portrait:
        """Make pictures until one is accepted or the budget ends.

        Args:
            subject: From `subjects`.
            style: A style of the recipe.
            settings: Budget, balance, knobs, frame, FAR.
            variant: Which of several pictures of the same subject and style this is, from 0.
            others: People, besides the others of the photo, whom the portrait must not look like more than
                like the subject.
            on_step: Called with (attempt from 1, steps done, steps in all). What it raises ends everything.
            on_preview: Called between the steps with the picture as it forms: the decoded estimate of the finished
                one, (S, S, 3) uint8, of the first of a batch. It costs a decoding each, and changes nothing.

        Returns:
            The best picture with its record, whose `status` is accepted or rejected.
        """
        start = time.perf_counter()
        chosen_style = self.recipe.style(style)
        custom = Path(settings.thresholds) if settings.thresholds else None
        judges = {self.analyzer.name, *(referee.name for referee in self.referees)}
        thresholds, provisional = limits_for(self.recipe, style, settings.far, custom, self.generator.digests, judges)
        if judges != thresholds.identity.keys():
            raise SettingsError(f"thresholds are for {', '.join(thresholds.identity)}; the judges: {', '.join(judges)}")
        framed = frame_portrait(subject.photo.pixels, subject.face, settings.frame, self.recipe.resolution)
        kept = self._kept(settings, subject, framed)
        prompt = settings.prompt or self.recipe.prompt_of(chosen_style)
        negative = settings.negative_prompt or self.recipe.negative_prompt
        conditions = self.generator.prepare(
            framed.image, self.conditioning(subject.identity), prompt, negative, framed.face
        )
        job = _Job(
            subject=subject,
            others=(*subject.bystanders, *others),
            settings=settings,
            thresholds=thresholds,
            framed=framed,
            kept=kept,
            conditions=conditions,
        )
        fixed = settings.fixed_knobs()
        curves = self.curves(style, settings.curves)
        first = settings.knobs(self._dialled(curves, settings.balance, thresholds.style_on_face))
        policy = Policy(
            curves,
            self._fitted(first, fixed),
            thresholds,
            fixed=fixed | ({"guidance_scale"} if self.recipe.min_steps > 1 else set()),  # distilled for one guidance
            until=settings.until,
            fitted=lambda knobs: self._fitted(knobs, fixed),
        )
        seed = settings.seed + VARIANT_STRIDE * variant
        tries: list[_Try] = []
        chosen = policy.first, policy.forecast(policy.first)
        while True:
            left = settings.max_attempts - len(tries)
            count = min(settings.batch, self.generator.max_batch_size, left)
            seeds = tuple(range(seed + len(tries), seed + len(tries) + count))
            made = self._attempt(job, *chosen, seeds, len(tries), on_step, on_preview)
            tries += made
            for t in made:
                policy.learn(t.attempt.knobs, t.learned, t.verdict.reasons)
            proposed = policy.choose(max(1, settings.max_attempts - len(tries)))
            ended = policy.over or _ended(tries, settings, time.perf_counter() - start)
            if proposed is None or ended:
                break
            chosen = proposed
            log.info("attempt %d: %s", len(tries), ", ".join(made[-1].verdict.reasons) or "accepted")
        best = self._best(tries)
        picture = tries[best].image
        before = subject.photo.pixels if settings.frame == "full" else framed.image
        prior = "measured curves" if curves.measured else "guesses"
        record = self._record(
            job,
            [t.attempt for t in tries],
            best,
            picture=picture,
            style=chosen_style.name,
            prompts=(prompt, negative),
            variant=variant,
            policy=PolicyRecord(until=settings.until, prior=prior, ended=ended),
            provisional=provisional,
            seconds=time.perf_counter() - start,
        )
        return Portrait(picture=picture, before=before, record=record, embeddings=tries[best].embeddings)

    def forget(self) -> None:
        """Let go of what is remembered of photos between calls: embeddings of `like:FILE`, pixels that stay."""
        self._likes.clear()
        self._last_kept = None
        forget = getattr(self.generator, "forget", None)
        if forget is not None:
            forget()

    def conditioning(self, identity: Identity) -> Embedding:
        """What the generator is fed of an identity: the conditioner's embedding, or the analyzer's where it has none."""
        own = identity.conditioning
        return identity.embeddings[self.analyzer.name] if own is None else own

    def curves(self, style: str, file: str = "") -> Curves:
        """What the knobs do in a style of the recipe, as `curves_for` finds it."""
        judges = [self.analyzer.name, *(referee.name for referee in self.referees)]
        return curves_for(self.recipe, style, judges, self.generator.digests, Path(file) if file else None)

    def dialled(self, style: str, balance: float, style_limit: float | None = None) -> Knobs:
        """The knobs at a position of the dial: along the measured curves of the style, or the recipe's own points.

        Args:
            style: A style of the recipe.
            balance: In [0, 1].
            style_limit: Where the dial must be safely above; from the recipe's calibration unless given.
        """
        if style_limit is None:
            style_limit = style_limit_of(self.recipe, style, self.generator.digests)
        return self.recipe.with_enough_steps(self._dialled(self.curves(style), balance, style_limit))

    def _dialled(self, curves: Curves, balance: float, style_limit: float) -> Knobs:
        return self.recipe.knobs_at(curves.position(balance, style_limit))

    def draw(self, framed: Framed, identity: Identity, style: str, knobs: Knobs, seed: int) -> RgbImage:
        """One picture in a style of the recipe, not judged: what calibration and benchmarks measure."""
        prompt, negative = self.recipe.prompt_of(self.recipe.style(style)), self.recipe.negative_prompt
        conditions = self.generator.prepare(framed.image, self.conditioning(identity), prompt, negative, framed.face)
        return self.generator.generate(conditions, knobs, [seed])[0]

    def _fitted(self, knobs: Knobs, fixed: set[str]) -> Knobs:
        """As many steps as the recipe's model needs at this strength, unless the user set the steps."""
        return knobs if "num_inference_steps" in fixed else self.recipe.with_enough_steps(knobs)

    def _kept(self, settings: Settings, subject: Subject, framed: Framed) -> Kept:
        """What must stay, found once for all styles and variants of a photo."""
        whole = settings.frame == "full"
        key = (settings.keep, subject.photo.sha256, subject.index, settings.frame)
        last = self._last_kept
        if last is None or last[0] != key:
            size = framed.box[2] if whole else framed.image.shape[0]
            photo = subject.photo.pixels
            kept = prepare_keeps(settings.keeps(), photo, subject.face, framed.box, size, whole=whole)
            self._last_kept = last = key, kept
        return last[1]

    def _attempt(
        self,
        job: _Job,
        knobs: Knobs,
        forecast: Forecast,
        seeds: tuple[int, ...],
        done: int,
        on_step: Callable[[int, int, int], None] | None,
        on_preview: Callable[[RgbImage], None] | None,
    ) -> list[_Try]:
        start = time.perf_counter()
        report = None if on_step is None else (lambda step, total: on_step(done + 1, step, total))
        preview = None if on_preview is None else _preview(knobs.steps, on_preview)
        pictures = self.generator.generate(job.conditions, knobs, seeds, report, preview)
        made = (time.perf_counter() - start) / len(seeds)
        results = []
        for seed, picture in zip(seeds, pictures, strict=True):
            start = time.perf_counter()
            delivered, judged = _delivered(picture, job.subject.photo, job.framed, job.kept, job.settings.frame)
            measured, seen = self._measure(job, judged, delivered)
            verdict, learned = decide(measured, job.thresholds), measured.similarity | {STYLE: measured.style_on_face}
            attempt = AttemptRecord(
                knobs=knobs,
                seed=seed,
                similarity=measured.similarity,
                style_on_face=measured.style_on_face,
                face_found=measured.face_found,
                accepted=verdict.accepted,
                reasons=tuple(map(Reason, verdict.reasons)),
                seconds=made + time.perf_counter() - start,
                kept=measured.kept,
                forecast=forecast,
                burned=measured.burned,
                swap=measured.swap,
                style_distance=measured.style_distance,
                batch=seeds,
            )
            results.append(_Try(attempt=attempt, verdict=verdict, image=delivered, embeddings=seen, learned=learned))
        return results

    def replay(self, record: PortraitRecord, photo: Photo, references: Sequence[Photo] = ()) -> RgbImage:
        """Make the chosen picture of a record again: the same batch, knobs, seeds and frame.

        On the same machine, with the record's versions and threads, it is the same bit for bit.

        Raises:
            SettingsError: the record is of another recipe, or of another mask.
        """
        frame, chosen = record.settings.frame, record.chosen_attempt
        subject = self.subjects(photo, str(record.input.face.index), references)[0]
        framed = frame_portrait(photo.pixels, subject.face, frame, self.recipe.resolution)
        kept = self._kept(record.settings, subject, framed)
        if [digest for _, digest in kept.files] != [mask.sha256 for mask in record.input.masks]:
            raise SettingsError("a mask is not the one of the record")
        embedding = self.conditioning(subject.identity)
        conditions = self.generator.prepare(framed.image, embedding, record.prompt, record.negative_prompt, framed.face)
        pictures = self.generator.generate(conditions, chosen.knobs, chosen.batch)
        return _delivered(pictures[chosen.batch.index(chosen.seed)], photo, framed, kept, frame)[0]

    def _measure(self, job: _Job, picture: RgbImage, delivered: RgbImage) -> tuple[Measurement, dict[str, Embedding]]:
        """Measure a generated square picture against the framed photo, the person and what must stay.

        The face that is judged is the one where the photo's face was, not the largest one. Without a face,
        `pose` is broken. What stays pixel by pixel is measured on `delivered`, what the user gets.
        """
        framed, kept = job.framed, job.kept
        if job.settings.frame == "full":
            left, top, side = framed.box
            delivered = RgbImage(delivered[top : top + side, left : left + side])
        measured, face, candidate = self.measure(framed, job.subject.identity, picture, job.thresholds.statistics)
        values: dict[str, float] = {}
        for keep in job.settings.keeps():
            if keep.kind == "pose":
                values["pose"] = point_displacement(framed.face.kps, face.kps) if face else NO_FACE_DISPLACEMENT
            elif keep.kind == "composition":
                values["composition"] = edge_agreement(framed.image, picture)
            elif keep.kind == "colors":
                values["colors"] = color_distance(framed.image, picture)
            else:
                values[keep.name] = psnr_inside(kept.before, delivered, kept.masks[keep.name])
        swap = swap_margin(job.subject.identity, candidate, job.others)
        return replace(measured, kept=values, swap=swap), candidate

    def measure(
        self, framed: Framed, identity: Identity, picture: RgbImage, statistics: StyleStatistics | None = None
    ) -> tuple[Measurement, Face | None, dict[str, Embedding]]:
        """What the judges measure on a picture of the framed square, whatever else must stay and whoever else is known.

        Args:
            framed: The photo's square.
            identity: Whom the picture is to show.
            picture: (S, S, 3) uint8, as `draw` returns it.
            statistics: Of the style, for `style_distance`.

        Returns:
            The measurement, and the face and embeddings as `look` finds them.
        """
        face, embeddings = self.look(picture, framed.face)
        measured = Measurement(
            similarity=similarities(identity, embeddings),
            face_found=face is not None,
            style_on_face=face_style(framed, picture, face),
            style_distance=None if statistics is None else style_distance(face_features(framed, picture), statistics),
            burned=burned_share(framed.image, picture),
        )
        return measured, face, embeddings

    def find(self, picture: RgbImage, expected: Face) -> Face | None:
        """The face of a picture of the framed square where it should be; None when the detector sees none there."""
        return _face_in_place(self.analyzer.detect(picture), expected)

    def look(self, picture: RgbImage, expected: Face) -> tuple[Face | None, dict[str, Embedding]]:
        """Find the face of a generated picture where it should be, and embed it with every recogniser.

        Returns:
            The face, or None when the detector sees none there; and recogniser -> embedding, taken at
            `expected`'s landmarks in that case.
        """
        face = self.find(picture, expected)
        used = face or expected
        embeddings = {self.analyzer.name: self.analyzer.embed(picture, used.kps)}
        return face, embeddings | {referee.name: referee.embed(picture, used) for referee in self.referees}

    @staticmethod
    def _best(tries: Sequence[_Try]) -> int:
        accepted = [i for i, t in enumerate(tries) if t.verdict.accepted]
        if accepted:
            return max(accepted, key=lambda i: tries[i].attempt.style_on_face)
        return max(range(len(tries)), key=lambda i: (-len(tries[i].verdict.reasons), tries[i].verdict.margin))

    def _record(
        self,
        job: _Job,
        attempts: Sequence[AttemptRecord],
        best: int,
        *,
        picture: RgbImage,
        style: str,
        prompts: tuple[str, str],
        variant: int,
        policy: PolicyRecord,
        provisional: str,
        seconds: float,
    ) -> PortraitRecord:
        chosen, settings = attempts[best], job.settings
        return PortraitRecord(
            status=Status.ACCEPTED if chosen.accepted else Status.REJECTED,
            reasons=chosen.reasons,
            input=_input_record(job.subject, job.kept),
            recipe=self.recipe.name,
            style=style,
            prompt=prompts[0],
            negative_prompt=prompts[1],
            balance=settings.balance,
            seed=chosen.seed,
            variant=variant,
            frame=settings.frame,
            box=job.framed.box,
            size=(self.recipe.resolution, self.recipe.resolution),
            thresholds={
                judge: JudgeThreshold(value=value, far=job.thresholds.far)
                for judge, value in job.thresholds.identity.items()
            },
            limits=_limits_record(job.thresholds, settings),
            kept_share={name: float(mask.mean()) for name, mask in job.kept.masks.items()},
            attempts=tuple(attempts),
            chosen=best,
            seconds=seconds,
            settings=settings,
            weights=self.digests,
            licenses=tuple(LicenseLink(**link) for link in self.licenses()),
            threads=self.generator.threads,
            device=str(self.generator.device),
            memory_tier=self.generator.tier,
            dtype=self.generator.dtype,
            sampler=self.generator.sampler,
            versions=library_versions(),
            policy=policy,
            provisional_thresholds=provisional,
            picture=PictureRecord(pixels_sha256=pixels_sha256(picture), size=(picture.shape[1], picture.shape[0])),
        )

    def licenses(self) -> list[dict[str, str]]:
        """The licence of every part of the chain: part, license, commercial (yes, no, unknown)."""
        files = [f for judge in (self.analyzer, *self.referees) for f in getattr(judge, "licenses", ())]
        return [
            *self.recipe.licenses,
            *({"part": f.name, "license": f.license, "commercial": f.commercial} for f in files),
        ]


def _delivered(picture: RgbImage, photo: Photo, framed: Framed, kept: Kept, frame: str) -> tuple[RgbImage, RgbImage]:
    """What the user gets of a generated square, and the square that is judged: the part of it that they will see."""
    if kept.colors:
        picture = hold_colors(framed.image, picture)
    if frame != "full":
        held = kept.hold(picture)
        return held, held
    left, top, side = framed.box
    whole = paste_back(photo.pixels, picture, framed.box)
    square = RgbImage(whole[top : top + side, left : left + side])
    square[...] = kept.hold(square)
    return whole, resized(square, picture.shape[1], picture.shape[0])


def face_style(framed: Framed, picture: RgbImage, face: Face | None = None) -> float:
    """`judge.checks.style_on_face` of a picture of the framed square, at the photo's landmarks.

    Where `face`, the picture's own, lies elsewhere, it is compared at its landmarks too, and the smaller value counts.
    """
    photo, places = align_face(framed.image, framed.face.kps, STYLE_CROP), [framed.face.kps]
    if face is not None and point_displacement(framed.face.kps, face.kps) > ELSEWHERE:
        places.append(face.kps)
    return min(style_on_face(photo, align_face(picture, kps, STYLE_CROP)) for kps in places)


def face_features(framed: Framed, picture: RgbImage) -> np.ndarray:
    """`judge.checks.face_style_features` of a picture of the framed square, at the photo's landmarks."""
    return face_style_features(*(align_face(image, framed.face.kps, STYLE_CROP) for image in (framed.image, picture)))


def _ended(tries: Sequence[_Try], settings: Settings, spent: float) -> str:
    """Which budget ended the run; empty while none did."""
    if len(tries) >= settings.max_attempts:
        return "attempts"
    if spent >= settings.max_seconds:
        return "seconds"
    return ""


def _preview(total: int, on_preview: Callable[[RgbImage], None]) -> Preview:
    """Shows the first picture of a batch, at most eight times and not after the last step."""
    every = max(1, ceil(total / 8))
    return Preview(steps=tuple(range(every, total, every)), show=lambda step, pictures: on_preview(pictures[0]))


def _face_in_place(faces: Sequence[Face], expected: Face) -> Face | None:
    """The face whose centre is nearest to the expected one, if within half of the expected face's size."""

    def distance(face: Face) -> float:
        return float(np.hypot(*(np.array(face.center) - np.array(expected.center))))

    nearest = min(faces, key=distance, default=None)
    return nearest if nearest is not None and distance(nearest) <= 0.5 * expected.size else None


def _input_record(subject: Subject, kept: Kept) -> InputRecord:
    x1, y1, x2, y2 = (float(value) for value in subject.face.bbox)
    return InputRecord(
        path=str(subject.photo.path.resolve()),
        sha256=subject.photo.sha256,
        face=FaceRecord(
            index=subject.index,
            bbox=(x1, y1, x2, y2),
            kps=tuple((float(x), float(y)) for x, y in subject.face.kps),
            det_score=subject.face.det_score,
        ),
        references=tuple(
            FileRecord(path=str(photo.path.resolve()), sha256=photo.sha256) for photo in subject.references
        ),
        masks=tuple(FileRecord(path=path, sha256=digest) for path, digest in kept.files),
    )


def _limits_record(thresholds: Thresholds, settings: Settings) -> Limits:
    statistics = thresholds.statistics
    return Limits(
        style_on_face=thresholds.style_on_face,
        style_on_face_of_style=thresholds.required_style_on_face,
        burned=thresholds.burned,
        style_distance=None if statistics is None else statistics.limit,
        styles_not_told_apart={} if statistics is None else confusable_styles(statistics.other_styles_rejected),
        kept={keep.name: KEEP_LIMITS[keep.kind][1] for keep in settings.keeps()},
    )


def library_versions() -> dict[str, str]:
    """Versions of everything that has a say in the pixels."""
    found = {"portrait": portrait.__version__, "python": platform.python_version()}
    for name in (
        "torch",
        "diffusers",
        "transformers",
        "insightface",
        "onnxruntime",
        "dlib-bin",
        "opencv-python",
        "Pillow",
    ):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
