"""Measure a generated picture, with pure functions of the picture, the photo and the judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from portrait.faces.alignment import align_face
from portrait.faces.identity import Detector, FaceAnalyzer, FaceModel, Recognizer, identify
from portrait.generate.framing import Framed, paste_back
from portrait.generate.keep import Kept, hold_colors
from portrait.images import Photo, resized
from portrait.judge.changes import features_shown
from portrait.judge.checks import (
    burned_share,
    color_distance,
    edge_agreement,
    face_style_features,
    point_displacement,
    psnr_inside,
    style_distance,
    style_lead,
    style_on_face,
)
from portrait.judge.style_judge import StyleJudge
from portrait.judge.thresholds import Thresholds
from portrait.judge.verdict import Measurement
from portrait.judge.verification import similarities, swap_margin
from portrait.loop.types import StylizeContext
from portrait.records import Embedding, Face, Identity, Keep, RgbImage
from portrait.records.portrait import LicenseLink

STYLE_CROP = 224
"""Side of the aligned face, in pixels, on which style is measured."""
NO_FACE_DISPLACEMENT = 10.0
"""The value of `pose` if the picture has no face: far beyond any limit."""
MOVED_FACE = 0.1
"""A face whose points are this far from the photo's, in inter-eye distances, was moved and not only redrawn."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PictureScore:
    """The judges' result for one picture: the measurement, the face (None: not found), and recognizer -> embedding."""

    measurement: Measurement
    face: Face | None
    embeddings: dict[str, Embedding]


@dataclass(frozen=True, slots=True, eq=False)
class Judges:
    """All models that judge a picture.

    The analyzer detects faces, and its embedding is the first judge of whether they are the person's; each of the other
    recognizers must accept too. `second_opinion` is another detector, for pictures in which the analyzer finds no face;
    `style_judge` judges how the recipe's weights draw each style.
    """

    analyzer: FaceAnalyzer
    recognizers: tuple[Recognizer, ...] = ()
    second_opinion: Detector | None = None
    style_judge: StyleJudge | None = None

    @property
    def names(self) -> list[str]:
        """The analyzer's name first."""
        return [self.analyzer.name, *(recognizer.name for recognizer in self.recognizers)]

    @property
    def detector(self) -> str:
        """The name of the detector, as in calibrations."""
        return self.analyzer.detector

    @property
    def form(self) -> str:
        """How the faces that are judged are prepared, as calibrations name it."""
        return self.analyzer.form.name

    @property
    def digests(self) -> dict[str, str]:
        """File name -> SHA-256 of the models that judge."""
        digests: dict[str, str] = {}
        for model in self._face_models:
            digests |= model.digests
        return digests | (self.style_judge.digests if self.style_judge else {})

    @property
    def licenses(self) -> list[LicenseLink]:
        """The license of each model file that judges."""
        files = [file for model in self._face_models for file in model.licenses]
        return [LicenseLink(part=file.name, license=file.license, commercial=file.commercial) for file in files]

    @property
    def _face_models(self) -> list[FaceModel]:
        models: list[FaceModel] = [self.analyzer, *self.recognizers]
        return models if self.second_opinion is None else [*models, self.second_opinion]

    def with_drawing(self, thresholds: Thresholds) -> Thresholds:
        """Add the style judge's limits for the style to the thresholds; they replace its statistics."""
        limits = None if self.style_judge is None else self.style_judge.limits.get(thresholds.style)
        return thresholds if limits is None else replace(thresholds, drawing=limits, statistics=None)

    def identify(self, views: Sequence[tuple[RgbImage, Face]]) -> Identity:
        """The identity, by every judge, of the person in these photos and faces."""
        return identify(views, self.analyzer, self.recognizers)

    def find_face(self, picture: RgbImage, expected: Face) -> Face | None:
        """The face in a picture of the framed square where it is expected; None if no detector finds one."""
        return _nearest_face(self.analyzer, picture, expected) or self._second_look(picture, expected)

    def _second_look(self, picture: RgbImage, expected: Face) -> Face | None:
        return None if self.second_opinion is None else _nearest_face(self.second_opinion, picture, expected)

    def detect_and_embed(self, picture: RgbImage, expected: Face) -> tuple[Face | None, dict[str, Embedding]]:
        """Find the face in a generated picture where it is expected, and embed it with every recognizer.

        Returns:
            The face, or None if no detector finds one there; and recognizer -> embedding, taken at the landmarks of
            `expected` if the analyzer finds no face, because thresholds hold for the points of one detector.
        """
        analyzed = _nearest_face(self.analyzer, picture, expected)
        embedded = analyzed or expected
        embeddings = {self.analyzer.name: self.analyzer.embed(picture, embedded.kps)}
        for recognizer in self.recognizers:
            embeddings[recognizer.name] = recognizer.embed(picture, embedded)
        return analyzed or self._second_look(picture, expected), embeddings

    def score_picture(
        self, framed: Framed, identity: Identity, picture: RgbImage, thresholds: Thresholds | None = None
    ) -> PictureScore:
        """Measure a (S, S, 3) uint8 picture of the framed square, which should show `identity`, without keeps and others.

        Properties for which the style's `thresholds` have no limit are not measured.
        """
        face, embeddings = self.detect_and_embed(picture, framed.face)
        measurement = Measurement(
            similarity=similarities(identity, embeddings),
            face_found=face is not None,
            style_on_face=face_style(framed, picture, face),
            burned=burned_share(framed.image, picture),
            **({} if thresholds is None else self.how_drawn(framed, picture, thresholds, face)),
        )
        return PictureScore(measurement=measurement, face=face, embeddings=embeddings)

    def how_drawn(self, framed: Framed, picture: RgbImage, thresholds: Thresholds, face: Face | None) -> dict[str, Any]:
        """How the face is drawn, as far as `thresholds` have limits: fields of `Measurement` by name.

        `face` is the picture's own, if a detector finds one.
        """
        values = {}
        if thresholds.features_shown is not None:
            values["features_shown"] = face_features_shown(framed, picture, face)
        return values | self._drawn_in_style(framed, picture, thresholds)

    def _drawn_in_style(self, framed: Framed, picture: RgbImage, thresholds: Thresholds) -> dict[str, Any]:
        """How well the face matches the style, by the style judge or by the style's statistics."""
        if thresholds.drawing is not None and self.style_judge is not None:
            probabilities = self.style_judge.probabilities(picture, framed.face.kps)
            changed = thresholds.drawing.changes(*face_crops(framed, picture))
            return {"style_probability": probabilities[thresholds.style], "changed": changed}
        if thresholds.statistics is not None:
            features = face_features(framed, picture)
            distance = style_distance(features, thresholds.statistics)
            lead = style_lead(features, thresholds.statistics) if thresholds.statistics.rivals else None
            return {"style_distance": distance, "style_lead": lead}
        return {}


def _nearest_face(detector: Detector, picture: RgbImage, expected: Face) -> Face | None:
    """The face whose center is nearest to the expected one, within half of the expected face's size.

    That is not necessarily the largest.
    """

    def distance(face: Face) -> float:
        return float(np.hypot(*(np.array(face.center) - np.array(expected.center))))

    nearest = min(detector.detect(picture), key=distance, default=None)
    return nearest if nearest is not None and distance(nearest) <= 0.5 * expected.size else None


def score_attempt(judges: Judges, context: StylizeContext, square: RgbImage, output: RgbImage) -> PictureScore:
    """Measure a picture against the photo, the person, all other known people, and what must stay.

    `square` is judged; pixels that must not change are measured on `output`, the picture for the user; see `compose_output`.
    """
    framed = context.framed
    if context.settings.frame == "full":
        left, top, side = framed.box
        output = RgbImage(output[top : top + side, left : left + side])
    score = judges.score_picture(framed, context.subject.identity, square, context.thresholds)
    keeps = context.settings.keeps()
    keep_values = {keep.name: _measure_keep(keep, context, square, output, score.face) for keep in keeps}
    swap = swap_margin(context.subject.identity, score.embeddings, context.others)
    return replace(score, measurement=replace(score.measurement, kept=keep_values, swap=swap))


def _measure_keep(keep: Keep, context: StylizeContext, square: RgbImage, output: RgbImage, face: Face | None) -> float:
    """How well something that must stay did, in the unit of `judge.verdict.KEEP_LIMITS`."""
    photo = context.framed.image
    if keep.kind == "pose":
        return NO_FACE_DISPLACEMENT if face is None else point_displacement(context.framed.face.kps, face.kps)
    if keep.kind == "composition":
        return edge_agreement(photo, square, context.kept.figure)
    if keep.kind == "colors":
        return color_distance(photo, square)
    return psnr_inside(context.kept.before, output, context.kept.masks[keep.name])


def compose_output(
    picture: RgbImage, photo: Photo, framed: Framed, kept: Kept, frame: str
) -> tuple[RgbImage, RgbImage]:
    """Compose the user's picture from a generated square; also return the square to judge, the part of it that they will see.

    With `frame` full, the square, (S, S, 3) uint8, is pasted back into the photo; the first picture then has the photo's size.
    """
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

    If `face`, the picture's own, is elsewhere, it is compared at its own landmarks too, and the smaller value counts.
    """
    photo, *candidates = _crops_to_compare(framed, picture, face)
    return min(style_on_face(photo, crop) for crop in candidates)


def face_features_shown(framed: Framed, picture: RgbImage, face: Face | None) -> float:
    """`judge.changes.features_shown` of a picture of the framed square, at the photo's landmarks.

    If `face`, the picture's own, is elsewhere, it is compared at its own landmarks too, and the larger value counts.
    """
    photo, *candidates = _crops_to_compare(framed, picture, face)
    return max(features_shown(photo, crop) for crop in candidates)


def _crops_to_compare(framed: Framed, picture: RgbImage, face: Face | None) -> list[RgbImage]:
    """Crops of the photo's face, of the picture at the same landmarks and, if its face is elsewhere, at its own."""
    crops = [*face_crops(framed, picture)]
    if face is not None and point_displacement(framed.face.kps, face.kps) > MOVED_FACE:
        crops.append(align_face(picture, face.kps, STYLE_CROP))
    return crops


def face_features(framed: Framed, picture: RgbImage) -> np.ndarray:
    """`judge.checks.face_style_features` of a picture of the framed square, at the photo's landmarks."""
    return face_style_features(*face_crops(framed, picture))


def face_crops(framed: Framed, picture: RgbImage) -> tuple[RgbImage, RgbImage]:
    """Crops of the face in the photo and in a picture of the framed square, both at the photo's landmarks."""
    photo, drawn = (align_face(image, framed.face.kps, STYLE_CROP) for image in (framed.image, picture))
    return photo, drawn
