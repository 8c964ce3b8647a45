"""Build the record of a portrait: what was requested, what was tried, and with which models and versions."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import numpy as np

import portrait
from portrait.images import pixels_sha256
from portrait.judge.checks import confusable_styles
from portrait.judge.thresholds import Thresholds
from portrait.judge.verdict import KEEP_LIMITS
from portrait.loop.types import Candidate, PortraitGenerator, StylizeContext, Subject
from portrait.recipes.recipe import Recipe
from portrait.records.portrait import (
    FaceRecord,
    FileRecord,
    GateRecord,
    InputRecord,
    JudgeThreshold,
    LicenseLink,
    Limits,
    PictureRecord,
    PolicyRecord,
    PortraitRecord,
    Status,
)
from portrait.settings import Settings

_LIBRARIES = (
    "torch", "diffusers", "transformers", "insightface", "onnxruntime", "dlib-bin", "numpy", "opencv-python", "Pillow",
)  # fmt: skip


def portrait_record(
    context: StylizeContext,
    candidates: Sequence[Candidate],
    chosen: int,
    *,
    recipe: Recipe,
    generator: PortraitGenerator,
    weights: dict[str, str],
    licenses: Sequence[LicenseLink],
    policy: PolicyRecord,
    seconds: float,
    pixels: np.ndarray,
) -> PortraitRecord:
    """Build the record of a portrait from all attempts in order and the index of the delivered one.

    `weights` maps the file of every model involved to its SHA-256; `seconds` are from the photo to the record; `pixels` are
    those of the picture as it is written, (H, W, 3) or (H, W, 4) uint8, with its background.
    """
    settings = context.settings
    delivered = candidates[chosen]
    height, width = pixels.shape[:2]
    return PortraitRecord(
        status=Status.ACCEPTED if delivered.verdict.accepted else Status.REJECTED,
        reasons=delivered.attempt.reasons,
        input=_input_record(context.subject, context.kept.files),
        recipe=recipe.name,
        style=context.style,
        prompt=context.prompt,
        negative_prompt=context.negative_prompt,
        balance=settings.balance,
        seed=delivered.attempt.seed,
        variant=context.variant,
        frame=settings.frame,
        box=context.framed.box,
        size=(context.framed.image.shape[1], context.framed.image.shape[0]),
        thresholds={
            judge: JudgeThreshold(value=value, far=context.thresholds.far)
            for judge, value in context.thresholds.identity.items()
        },
        gate=_gate(context.thresholds),
        limits=_limits(context.thresholds, settings),
        kept_share={name: float(mask.mean()) for name, mask in context.kept.masks.items()},
        attempts=tuple(candidate.attempt for candidate in candidates),
        chosen=chosen,
        seconds=seconds,
        settings=settings,
        weights=weights,
        licenses=tuple(licenses),
        threads=generator.threads,
        device=str(generator.device),
        memory_tier=generator.tier,
        dtype=generator.dtype,
        runtime=generator.runtime,
        sampler=generator.sampler,
        versions=library_versions(),
        policy=policy,
        provisional_thresholds=context.uncalibrated,
        warnings=context.warnings,
        picture=PictureRecord(pixels_sha256=pixels_sha256(pixels), size=(width, height)),
        background=None if context.backdrop is None else context.backdrop.as_record(),
    )


def _input_record(subject: Subject, mask_files: Sequence[tuple[str, str]]) -> InputRecord:
    left, top, right, bottom = (float(value) for value in subject.face.bbox)
    face = FaceRecord(
        index=subject.index,
        bbox=(left, top, right, bottom),
        kps=tuple((float(x), float(y)) for x, y in subject.face.kps),
        det_score=subject.face.det_score,
    )
    return InputRecord(
        path=str(subject.photo.path.resolve()),
        sha256=subject.photo.sha256,
        face=face,
        references=tuple(
            FileRecord(path=str(photo.path.resolve()), sha256=photo.sha256) for photo in subject.references
        ),
        masks=tuple(FileRecord(path=path, sha256=digest) for path, digest in mask_files),
        notes=subject.photo.notes,
        turned=subject.photo.turned,
        warnings=subject.warnings,
    )


def _gate(thresholds: Thresholds) -> GateRecord | None:
    gate = thresholds.gate
    if gate is None or not gate.weights:
        return None
    return GateRecord(weights=gate.weights, offset=gate.offset, least=gate.least, far=gate.far)


def _limits(thresholds: Thresholds, settings: Settings) -> Limits:
    statistics, drawing = thresholds.statistics, thresholds.drawing
    return Limits(
        style_on_face=thresholds.style_on_face,
        style_on_face_of_style=thresholds.required_style_on_face,
        burned=thresholds.burned,
        style_distance=None if statistics is None else statistics.limit,
        style_lead=statistics.lead if statistics is not None and statistics.rivals else None,
        style_probability=None if drawing is None else drawing.probability,
        features_shown=thresholds.features_shown,
        changed={} if drawing is None else drawing.most,
        styles_not_told_apart={} if statistics is None else confusable_styles(statistics.other_styles_rejected),
        kept={keep.name: KEEP_LIMITS[keep.kind][1] for keep in settings.keeps()},
    )


@cache
def library_versions() -> dict[str, str]:
    """Versions of everything that influences the pixels; read once, as loaded libraries do not change."""
    versions = {"portrait": portrait.__version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions
