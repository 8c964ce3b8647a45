"""The loop: make and judge pictures until one is accepted or the budget is spent."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from math import ceil
from typing import Any

import numpy as np

from portrait.errors import SettingsError
from portrait.faces.conditioning_recognizer import ConditioningRecognizer
from portrait.faces.identity import (
    SMALLEST_FACE,
    Detector,
    FaceAnalyzer,
    FaceChoice,
    Recognizer,
    choose_faces,
    face_warnings,
    require_large_enough,
)
from portrait.faces.upright import upright_photo
from portrait.generate.background import Backdrop, prepare_background
from portrait.generate.framing import Framed, frame_portrait
from portrait.generate.inputs import Cache
from portrait.generate.keep import Kept, prepare_keeps
from portrait.images import Photo, read_photo, turned
from portrait.judge.style_judge import StyleJudge
from portrait.judge.thresholds import Thresholds
from portrait.judge.verdict import decide
from portrait.loop.limits import resolve_thresholds, style_limit
from portrait.loop.policy import Policy
from portrait.loop.record import portrait_record
from portrait.loop.response import STYLE, Curves, curves_for
from portrait.loop.scoring import Judges, compose_output, score_attempt
from portrait.loop.types import Candidate, PortraitGenerator, StylizeContext, StylizedPortrait, Subject
from portrait.recipes.recipe import Recipe
from portrait.records import Embedding, Face, Identity, Knobs, Preview, RgbImage
from portrait.records.portrait import AttemptRecord, Forecast, LicenseLink, PolicyRecord, PortraitRecord
from portrait.records.reasons import Reason
from portrait.settings import Settings

log = logging.getLogger(__name__)

MAX_BYSTANDERS = 12
"""A portrait is compared with at most this many other people in the photo, those with the largest faces."""
HEAD_SIDE = 512
"""Side in pixels of the head crops that a model is shown."""
MAX_PREVIEWS = 8
"""A forming picture is shown at most this many times."""
VARIANT_STRIDE = 1000
"""Variant v starts at seed + 1000 v; its attempt k uses the k-th seed from there."""


class AttemptLoop:
    """A recipe's models, loaded once, and the judges.

    Args:
        recipe: The models and knobs.
        generator: Makes the pictures.
        analyzer: Detects faces; its embedding is the first judge, and conditions the generator unless another recognizer does.
        recognizers: Additional judges, each of which must accept too; at least one, unless no recognizer conditions the
            pictures.
        conditioning_recognizer: The recognizer that conditions the generator, if it is not the analyzer's.
        second_opinion: Another detector, for pictures in which the analyzer finds no face.
        style_judge: The judge of how these weights draw each style.
    """

    def __init__(
        self,
        recipe: Recipe,
        generator: PortraitGenerator,
        analyzer: FaceAnalyzer,
        recognizers: Sequence[Recognizer],
        conditioning_recognizer: ConditioningRecognizer | None = None,
        second_opinion: Detector | None = None,
        style_judge: StyleJudge | None = None,
    ) -> None:
        if not recognizers and recipe.recognizer:
            raise SettingsError("the conditioning recognizer must not be the only judge: add another one")
        self.recipe = recipe
        self.generator = generator
        self.analyzer = analyzer
        self.judges = Judges(analyzer, tuple(recognizers), second_opinion, style_judge)
        self.conditioning_recognizer = conditioning_recognizer
        self.digests: dict[str, str] = dict(generator.digests) | self.judges.digests
        self._like_embeddings: dict[str, Embedding] = {}
        self._framed = Cache[Framed](1)
        self._kept = Cache[Kept](1)
        self._backdrops = Cache[Backdrop](1)

    def subjects(
        self, photo: Photo, face: str = "auto", references: Sequence[Photo] = (), *, upright: str = "auto"
    ) -> list[Subject]:
        """The people of `photo` to make portraits of, as `FaceChoice.parse` reads `face`; `like:FILE` reads that file.

        `references` are more photos of the same person, whose identity is averaged with this one's. With `upright` "auto",
        photos whose faces are sideways or upside down are turned; "off" leaves them as they are.

        Raises:
            FaceError: there is no face, more than one, or none that is large enough; or a reference shows somebody else.
        """
        choice = FaceChoice.parse(face)
        if upright == "auto":
            photo, *references = (upright_photo(view, self.analyzer) for view in (photo, *references))
        like = self._like_embedding(choice.reference) if choice.kind == "like" else None
        faces = self.analyzer.detect(photo.pixels)
        chosen = choose_faces(photo.pixels, str(photo.path), choice, self.analyzer, like, faces)
        chosen = _large_enough(chosen, str(photo.path))
        identities = self._identities(photo, faces)
        return [
            Subject(
                photo=photo,
                index=index,
                face=chosen_face,
                identity=self._identity(photo, chosen_face, references, identities.get(index)),
                references=tuple(references),
                bystanders=tuple(identity for other, identity in identities.items() if other != index),
                warnings=(*face_warnings(photo.pixels, chosen_face), *self._unseen_references(1 + len(references))),
            )
            for index, chosen_face in chosen
        ]

    def _unseen_references(self, photos: int) -> list[str]:
        """A warning about photos beyond the number that the model is shown."""
        count = self.recipe.family_facts.pictures
        if not 0 < count < photos:
            return []
        return [
            f"recipe {self.recipe.name} is shown only {count} of the {photos} photos of the person; the rest is used for judging only"
        ]

    def _identities(self, photo: Photo, faces: Sequence[Face]) -> dict[int, Identity]:
        """Index -> identity of the largest faces in a photo of several people, by size; empty for one person."""
        if len(faces) < 2:
            return {}
        largest = sorted(range(len(faces)), key=lambda index: -faces[index].size)[: MAX_BYSTANDERS + 1]
        return {index: self.judges.identify([(photo.pixels, faces[index])]) for index in largest}

    def _identity(self, photo: Photo, face: Face, references: Sequence[Photo], alone: Identity | None) -> Identity:
        """The identity of a face, averaged over the references; `alone` is the identity by the photo only, if already known."""
        views = [(photo.pixels, face)]
        if references:
            person = self.analyzer.embed(photo.pixels, face.kps)
            for reference in references:
                match = choose_faces(reference.pixels, str(reference.path), FaceChoice("like"), self.analyzer, person)
                views.append((reference.pixels, match[0][1]))
        identity = self.judges.identify(views) if references or alone is None else alone
        if self.conditioning_recognizer is not None:
            identity = replace(identity, conditioning=self.conditioning_recognizer.embed(views))
        return replace(identity, pictures=self._heads(views))

    def _heads(self, views: Sequence[tuple[RgbImage, Face]]) -> tuple[RgbImage, ...]:
        """The heads in the first photos, as many as the recipe's model takes."""
        used = views[: self.recipe.family_facts.pictures]
        return tuple(frame_portrait(pixels, face, "head", HEAD_SIDE).image for pixels, face in used)

    def _like_embedding(self, path: str) -> Embedding:
        """The embedding of the one face of a `like:FILE`, read once."""
        if path not in self._like_embeddings:
            reference = upright_photo(read_photo(path), self.analyzer)
            _, face = choose_faces(reference.pixels, path, FaceChoice("auto"), self.analyzer)[0]
            self._like_embeddings[path] = self.analyzer.embed(reference.pixels, face.kps)
        return self._like_embeddings[path]

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
    ) -> StylizedPortrait:
        """Make pictures until one is accepted or the budget is spent.

        Args:
            subject: From `subjects`.
            style: A style of the recipe.
            settings: Budget, balance, knobs, frame, FAR.
            variant: Number, from 0, of this picture among several of the same subject and style.
            others: People, besides the others in the photo, whom the portrait must not resemble more than the subject.
            on_step: Called with (attempt from 1, steps done, total steps). An exception it raises ends everything.
            on_preview: Called between steps with the forming picture: the decoded estimate of the first finished picture
                of a batch, (S, S, 3) uint8. Each costs one decoding and does not change the result.

        Returns:
            The best picture with its record, whose `status` is accepted or rejected.
        """
        start = time.perf_counter()
        self.recipe.check_settings(settings.chosen())

        # 1. Limits: what a picture must meet to be accepted.
        thresholds, uncalibrated = self._thresholds(style, settings)

        # 2. Frame: the square of the photo that is drawn, and what of it must stay.
        framed = self._frame(settings, subject)
        keeps = self._prepare_keeps(settings, subject, framed)
        backdrop = self._prepare_backdrop(settings, subject, framed)

        # 3. Condition: the generator's inputs from photo, person and style, the same for every attempt.
        prompt, negative_prompt = self._prompts(style, settings, variant)
        context = StylizeContext(
            subject=subject,
            style=style,
            settings=settings,
            variant=variant,
            others=(*subject.bystanders, *others),
            thresholds=thresholds,
            uncalibrated=uncalibrated,
            framed=framed,
            kept=keeps,
            backdrop=backdrop,
            prompt=prompt,
            negative_prompt=negative_prompt,
            warnings=self.generator.warnings(prompt, negative_prompt),
            conditions=self._conditions(framed, subject.identity, prompt, negative_prompt),
        )
        policy = self._policy(context)
        knobs, forecast = policy.first, policy.forecast(policy.first)
        candidates: list[Candidate] = []
        while True:
            # 4. Attempt: a batch of pictures with the same knobs, each from its own seed.
            seeds = self._next_seeds(context, len(candidates))
            pictures, seconds = self._attempt(context, knobs, seeds, len(candidates) + 1, on_step, on_preview)

            # 5. Judge: measure each picture, and let the policy learn from it.
            for seed, picture in zip(seeds, pictures, strict=True):
                candidate = self._judge(context, picture, knobs, seed, seeds, forecast, seconds)
                candidates.append(candidate)
                policy.learn(knobs, candidate.outputs, candidate.verdict.reasons)

            # 6. Choose: the next knobs, or none if the policy is satisfied or the budget is spent.
            proposal = policy.choose(settings.max_attempts - len(candidates))
            ended = policy.over or _spent_budget(len(candidates), settings, time.perf_counter() - start)
            if proposal is None or ended:
                break
            knobs, forecast = proposal
            log.info("attempt %d: %s", len(candidates), ", ".join(candidates[-1].verdict.reasons) or "accepted")

        # 7. Record: the best picture before its background, and everything that led to it.
        best = best_candidate(candidates)
        delivered = candidates[best]
        picture, cutout = (delivered.image, None) if backdrop is None else backdrop.behind(delivered.image)
        choice = PolicyRecord(until=settings.until, prior=policy.curves.origin, ended=ended)
        record = portrait_record(
            context,
            candidates,
            best,
            recipe=self.recipe,
            generator=self.generator,
            weights=self.digests | self.generator.graphs,
            licenses=self.licenses(),
            policy=choice,
            seconds=time.perf_counter() - start,
            pixels=picture if cutout is None else cutout,
        )
        before = subject.photo.pixels if settings.frame == "full" else framed.image
        return StylizedPortrait(
            picture=picture, before=before, record=record, embeddings=delivered.embeddings, cutout=cutout
        )

    def warnings(self, style: str, settings: Settings, variant: int = 0) -> tuple[str, ...]:
        """Warnings about unused parts of the prompts and of the model's files, as also recorded."""
        return self.generator.warnings(*self._prompts(style, settings, variant))

    def _prompts(self, style: str, settings: Settings, variant: int) -> tuple[str, str]:
        """The user's own prompt and negative prompt, or else the style's with its palette, and the recipe's."""
        chosen = self.recipe.style(style)
        palette = self.recipe.palette_for(chosen, settings.palette, settings.seed + variant)
        prompt = settings.prompt or self.recipe.prompt_of(chosen, palette, settings.balance)
        self.recipe.check_prompt(prompt, chosen)
        if prompt == chosen.prompt:
            prompt = self.recipe.prompt_of(chosen, palette, settings.balance)
        return prompt, settings.negative_prompt or self.recipe.negative_prompt

    def calibrated_thresholds(self, style: str, settings: Settings) -> tuple[Thresholds, str]:
        """The thresholds of every judge by the calibration in use, and a note if they are not the recipe's own."""
        judges, weights = self.judges, self.generator.digests
        names, detector, form = judges.names, judges.detector, judges.form
        return resolve_thresholds(self.recipe, style, settings.far, settings.thresholds, weights, names, detector, form)

    def _thresholds(self, style: str, settings: Settings) -> tuple[Thresholds, str]:
        """The same with the style judge's limits."""
        judges = self.judges.names
        thresholds, uncalibrated = self.calibrated_thresholds(style, settings)
        if set(judges) != thresholds.identity.keys():
            raise SettingsError(
                f"the thresholds are for {', '.join(thresholds.identity)}, but the judges are {', '.join(judges)}"
            )
        return self.judges.with_drawing(thresholds), uncalibrated

    def _frame(self, settings: Settings, subject: Subject) -> Framed:
        """Crop the square that is drawn, once for all styles and variants of a photo."""
        photo, size = subject.photo, self.recipe.size_for(settings.size)
        key = (photo.sha256, photo.turned, subject.index, settings.frame, size, settings.shifted())
        return self._framed.get(
            key, lambda: frame_portrait(photo.pixels, subject.face, settings.frame, size, settings.shifted())
        )

    def _prepare_keeps(self, settings: Settings, subject: Subject, framed: Framed) -> Kept:
        """What must stay, prepared once for all styles and variants of a photo."""
        photo, whole = subject.photo, settings.frame == "full"
        side = framed.image.shape[0]

        def prepare() -> Kept:
            size = framed.box[2] if whole else side
            return prepare_keeps(
                settings.keeps(), photo.pixels, subject.face, framed.box, size, whole=whole, photo_turned=photo.turned
            )

        key = (settings.keep, photo.sha256, photo.turned, subject.index, settings.frame, framed.box, side)
        return self._kept.get(key, prepare)

    def _prepare_backdrop(self, settings: Settings, subject: Subject, framed: Framed) -> Backdrop | None:
        """The background to apply, prepared once for all styles and variants of a photo."""
        background = settings.backdrop()
        if background is None:
            return None
        photo = subject.photo

        def prepare() -> Backdrop:
            if settings.frame == "full":
                return prepare_background(background, photo.pixels, subject.face, framed.box)
            return prepare_background(background, framed.image, framed.face)

        key = (background, photo.sha256, photo.turned, subject.index, settings.frame, framed.box)
        return self._backdrops.get(key, prepare)

    def _conditions(self, framed: Framed, identity: Identity, prompt: str, negative_prompt: str) -> Any:
        return self.generator.prepare(
            framed.image,
            self.conditioning_embedding(identity),
            prompt,
            negative_prompt,
            framed.face,
            identity.pictures,
        )

    def _policy(self, context: StylizeContext) -> Policy:
        """The policy that chooses the knobs of each attempt, starting from the user's balance and knobs."""
        settings = context.settings
        fixed = settings.fixed_knobs()
        curves = self.curves(context.style, settings.curves)
        position = curves.position(settings.balance, context.thresholds.style_on_face)

        def with_enough_steps(knobs: Knobs) -> Knobs:
            return knobs if "num_inference_steps" in fixed else self.recipe.with_enough_steps(knobs)

        immovable = fixed | set(self.recipe.lacks)
        if self.recipe.min_steps > 1:  # a distilled model is made for a single guidance scale
            immovable.add("guidance_scale")
        if self.recipe.family_facts.least_strength == 1:
            immovable.add("strength")
        return Policy(
            curves,
            with_enough_steps(settings.knobs(self.recipe.knobs_at(position))),
            context.thresholds,
            fixed=immovable,
            until=settings.until,
            with_enough_steps=with_enough_steps,
        )

    def _next_seeds(self, context: StylizeContext, done: int) -> tuple[int, ...]:
        """The seeds of the next batch, after `done` attempts."""
        settings = context.settings
        count = min(settings.batch, self.generator.max_batch_size, settings.max_attempts - done)
        first = settings.seed + VARIANT_STRIDE * context.variant + done
        return tuple(range(first, first + count))

    def _attempt(
        self,
        context: StylizeContext,
        knobs: Knobs,
        seeds: Sequence[int],
        number: int,
        on_step: Callable[[int, int, int], None] | None,
        on_preview: Callable[[RgbImage], None] | None,
    ) -> tuple[list[RgbImage], float]:
        """Make a batch of pictures, of which attempt `number` is the first. Return them and the seconds per picture."""
        start = time.perf_counter()
        report = None if on_step is None else (lambda step, total: on_step(number, step, total))
        preview = None if on_preview is None else _preview(knobs.steps, on_preview)
        pictures = self.generator.generate(context.conditions, knobs, seeds, report, preview)
        return pictures, (time.perf_counter() - start) / len(seeds)

    def _judge(
        self,
        context: StylizeContext,
        picture: RgbImage,
        knobs: Knobs,
        seed: int,
        batch: tuple[int, ...],
        forecast: Forecast,
        seconds: float,
    ) -> Candidate:
        """Measure a generated square and decide on it; `seconds` is the time that it took to make."""
        start = time.perf_counter()
        settings = context.settings
        image, square = compose_output(picture, context.subject.photo, context.framed, context.kept, settings.frame)
        score = score_attempt(self.judges, context, square, image)
        measured = score.measurement
        verdict = decide(measured, context.thresholds)
        attempt = AttemptRecord(
            **asdict(measured),
            knobs=knobs,
            seed=seed,
            accepted=verdict.accepted,
            reasons=tuple(Reason(reason) for reason in verdict.reasons),
            seconds=seconds + time.perf_counter() - start,
            forecast=forecast,
            evidence=context.thresholds.evidence(measured.similarity),
            strangers=context.thresholds.strangers_like(measured.similarity),
            batch=batch,
        )
        outputs = measured.similarity | {STYLE: measured.style_on_face}
        return Candidate(attempt=attempt, verdict=verdict, image=image, embeddings=score.embeddings, outputs=outputs)

    def draw(
        self,
        framed: Framed,
        identity: Identity,
        style: str,
        knobs: Knobs,
        seed: int,
        on_step: Callable[[int, int], None] | None = None,
    ) -> RgbImage:
        """Draw one picture in a style of the recipe without judging it, for calibration, benchmarks and previews."""
        chosen = self.recipe.style(style)
        prompt = self.recipe.prompt_of(chosen, self.recipe.palette_for(chosen, "", seed))
        conditions = self._conditions(framed, identity, prompt, self.recipe.negative_prompt)
        return self.generator.generate(conditions, knobs, [seed], on_step)[0]

    def replay(self, record: PortraitRecord, photo: Photo, references: Sequence[Photo] = ()) -> np.ndarray:
        """Make the chosen picture of a record again: the same batch, knobs, seeds, frame and background.

        On the same machine, with the record's versions and threads, the result is identical bit for bit.

        Returns:
            The picture as it was written: (H, W, 3) uint8, or (H, W, 4) if the background is transparent.

        Raises:
            SettingsError: the record is for another recipe, mask or background.
        """
        frame = record.settings.frame
        chosen = record.chosen_attempt
        photo = turned(photo, record.input.turned)
        if record.settings.upright == "auto":
            references = [upright_photo(reference, self.analyzer) for reference in references]
        subject = self.subjects(photo, str(record.input.face.index), references, upright="off")[0]
        framed = frame_portrait(photo.pixels, subject.face, frame, record.size[0], record.settings.shifted())
        keeps = self._prepare_keeps(record.settings, subject, framed)
        if [digest for _, digest in keeps.files] != [mask.sha256 for mask in record.input.masks]:
            raise SettingsError("a mask differs from the one in the record")
        backdrop = self._prepare_backdrop(record.settings, subject, framed)
        if backdrop is not None and not backdrop.same_as(record.background):
            raise SettingsError("the background's file or the matte network differs from the one in the record")
        conditions = self._conditions(framed, subject.identity, record.prompt, record.negative_prompt)
        pictures = self.generator.generate(conditions, chosen.knobs, chosen.batch)
        picture = compose_output(pictures[chosen.batch.index(chosen.seed)], photo, framed, keeps, frame)[0]
        if backdrop is None:
            return picture
        picture, cutout = backdrop.behind(picture)
        return picture if cutout is None else cutout

    def curves(self, style: str, file: str = "") -> Curves:
        """The curves of a style of the recipe, see `curves_for`."""
        return curves_for(self.recipe, style, self.judges.names, self.generator.digests, file)

    def knobs_for_balance(self, style: str, balance: float, limit: float | None = None, curves: str = "") -> Knobs:
        """The knobs at a balance in [0, 1], along the style's measured curves or the recipe's own points.

        `limit` is the `style_on_face` to reach safely, from the recipe's calibration unless given; `curves` is a file to use
        instead of the recipe's.
        """
        if limit is None:
            limit = style_limit(self.recipe, style, self.generator.digests)
        return self.recipe.with_enough_steps(self.recipe.knobs_at(self.curves(style, curves).position(balance, limit)))

    def conditioning_embedding(self, identity: Identity) -> Embedding:
        """The embedding for the generator: the conditioning recognizer's or, without one, the analyzer's."""
        if identity.conditioning is not None:
            return identity.conditioning
        return identity.embeddings[self.analyzer.name]

    def licenses(self) -> list[LicenseLink]:
        """The license of every part of the chain."""
        return [*self.recipe.licenses, *self.judges.licenses]

    def clear_cache(self) -> None:
        """Forget what is cached about photos between calls: embeddings of `like:FILE`, kept pixels."""
        self._like_embeddings.clear()
        for cache in (self._framed, self._kept, self._backdrops):
            cache.clear()
        self.generator.clear_cache()


def best_candidate(candidates: Sequence[Candidate]) -> int:
    """Index of the accepted picture with the most style; without one, of the closest rejection.

    The closest is the one with the fewest reasons and, among those, the largest margin.
    """
    accepted = [index for index, candidate in enumerate(candidates) if candidate.verdict.accepted]
    if accepted:
        return max(accepted, key=lambda index: candidates[index].attempt.style_on_face)

    def closeness(index: int) -> tuple[int, float]:
        verdict = candidates[index].verdict
        return -len(verdict.reasons), verdict.margin

    return max(range(len(candidates)), key=closeness)


def _large_enough(chosen: Sequence[tuple[int, Face]], name: str) -> list[tuple[int, Face]]:
    """The chosen faces that are large enough to recognize; logs a warning about each of the others, raises FaceError if none is left."""
    large = [(index, face) for index, face in chosen if face.size >= SMALLEST_FACE]
    if not large:
        require_large_enough(chosen[0][1], name)
    for index, face in chosen:
        if face.size < SMALLEST_FACE:
            log.warning("%s: face %d is left out: it is only %.0f px", name, index, face.size)
    return large


def _spent_budget(attempts: int, settings: Settings, seconds: float) -> str:
    """Which budget is spent; empty while none is."""
    if attempts >= settings.max_attempts:
        return "attempts"
    return "seconds" if seconds >= settings.max_seconds else ""


def _preview(total: int, on_preview: Callable[[RgbImage], None]) -> Preview:
    """A preview of the first picture of a batch, shown at most `MAX_PREVIEWS` times and not after the last step."""
    every = max(1, ceil(total / MAX_PREVIEWS))
    return Preview(steps=tuple(range(every, total, every)), show=lambda step, pictures: on_preview(pictures[0]))
