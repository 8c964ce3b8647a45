"""Pictures without a face are never accepted: fifty of them, of several people and drawing techniques."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from portrait.errors import ShapeError
from portrait.faces.insightface_analyzer import InsightFaceAnalyzer
from portrait.generate.framing import Framed, frame_portrait
from portrait.images import read_photo
from portrait.judge.changes import features_shown
from portrait.judge.thresholds import Thresholds, thresholds_for
from portrait.judge.verdict import Measurement, decide, describe_reason
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.scoring import Judges, face_crops
from portrait.records import Identity, RgbImage
from tests.fakes import LIMITS, rgb
from tests.scripts import script

MIN_SHOWN = 0.75
"""A limit of `features_shown`: portraits by these techniques are far above it, pictures without a face below."""


def comic(photo: RgbImage) -> RgbImage:
    """Flat colors and dark lines."""
    flat = cv2.bilateralFilter(photo, 9, 60, 9) // 24 * 24 + 12
    gray = cv2.medianBlur(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), 5)
    lines = cv2.adaptiveThreshold(gray, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 15, 4)[..., None] > 0
    return rgb(np.where(lines, flat, flat // 2).astype(np.uint8))


def pencil(photo: RgbImage) -> RgbImage:
    """Gray lines and shades on paper."""
    gray = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    dodged = cv2.divide(gray, np.maximum(cv2.GaussianBlur(gray, (0, 0), 8), 1), scale=256)
    toned = cv2.addWeighted(dodged, 0.7, cv2.GaussianBlur(gray, (0, 0), 3), 0.3, 0)
    return rgb(np.repeat(toned[..., None], 3, 2))


STYLES: dict[str, Callable[[RgbImage], RgbImage]] = {"comic": comic, "sketch": pencil}


@pytest.fixture(scope="module")
def faceless() -> ModuleType:
    return script("faceless")


def reasons_of(
    judges: Judges, framed: Framed, identity: Identity, picture: RgbImage, limits: Thresholds
) -> tuple[str, ...]:
    """The reasons why a picture is rejected, apart from its style."""
    measurement = judges.score_picture(framed, identity, picture, limits).measurement
    return decide(replace(measurement, style_on_face=1.0, burned=0.0), limits).reasons


@pytest.mark.slow
def test_none_of_fifty_pictures_without_a_face_is_accepted(
    photos: Path, mini: AttemptLoop, faceless: ModuleType
) -> None:
    """Only for its likeness and its face: its style is not checked."""
    judges = mini.judges
    crowd, alone = (read_photo(photos / name).pixels for name in ("t1.png", "astronaut.png"))
    sitters = [(photo, face) for photo in (alone, crowd) for face in judges.analyzer.detect(photo)]
    pictures, accepted = 0, []
    for number, (photo, face) in enumerate(sitters):
        style = list(STYLES)[number % len(STYLES)]
        limits = thresholds_for("mini", style, max(faceless.calibrated_rates()), judges=judges.names)
        limits = replace(limits, features_shown=MIN_SHOWN, style_on_face=0.0, statistics=None)
        framed = frame_portrait(photo, face, "bust", 512)
        identity = judges.identify([(photo, face)])

        portrait = STYLES[style](framed.image)
        assert reasons_of(judges, framed, identity, portrait, limits) == (), (number, style)
        bare = faceless.faceless(portrait, framed.face)
        pictures += len(bare)
        accepted += [
            (number, style, kind)
            for kind, picture in bare.items()
            if not reasons_of(judges, framed, identity, picture, limits)
        ]
    assert pictures >= 50
    assert accepted == []


def test_eyes_and_mouth_are_seen_in_drawings_and_not_where_they_were_painted_over(
    photos: Path, analyzer: InsightFaceAnalyzer, faceless: ModuleType
) -> None:
    photo = read_photo(photos / "astronaut.png").pixels
    (face,) = analyzer.detect(photo)
    framed = frame_portrait(photo, face, "bust", 512)
    for draw in STYLES.values():
        portrait = draw(framed.image)
        bare = faceless.FACELESS["without eyes and mouth"](portrait, framed.face)
        print(features_shown(*face_crops(framed, portrait)), features_shown(*face_crops(framed, bare)))
        assert features_shown(*face_crops(framed, portrait)) > 0.8
        assert features_shown(*face_crops(framed, bare)) < 0.55
    crop, _ = face_crops(framed, framed.image)
    assert features_shown(crop, crop) == pytest.approx(1, abs=1e-4)
    plain = rgb(np.full_like(crop, 128))
    assert features_shown(plain, crop) == 1  # the photo shows nothing that could be missing
    with pytest.raises(ShapeError):
        features_shown(crop, rgb(crop[:112]))


def test_a_face_without_eyes_has_a_reason_of_its_own() -> None:
    limits = replace(LIMITS, features_shown=MIN_SHOWN)
    sure = {"arcface": 0.6, "dlib": 0.95}
    bare = Measurement(similarity=sure, face_found=True, style_on_face=0.3, burned=0.0, features_shown=0.6)
    assert decide(bare, limits).reasons == ("no_face:features",)
    assert decide(bare, LIMITS).accepted  # where nobody measured what is usual, it is not asked
    assert decide(replace(bare, features_shown=0.8), limits).accepted
    assert decide(replace(bare, face_found=False), limits).reasons == ("no_face",)
    assert "eyes or the mouth" in describe_reason("no_face:features")
