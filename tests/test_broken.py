"""Deliberately broken generators, judged by the real judges: each is rejected with the right reason.

Each check of the judge also has a picture that must fail it and one that must pass. If a check has its tests elsewhere,
they are named here: `CHECKS` covers all of `judge.verdict.REASONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from portrait.generate.framing import Framed, frame_portrait
from portrait.images import Photo, read_photo
from portrait.judge.checks import StyleStatistics, leave_one_person_out_distances, style_distance
from portrait.judge.thresholds import Thresholds
from portrait.judge.verdict import REASONS, Measurement, decide
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.scoring import Judges, face_features
from portrait.loop.types import Subject
from portrait.recipes.load import load_recipe
from portrait.records import RgbImage
from portrait.settings import Settings
from tests.fakes import FakeGenerator, rgb
from tests.proofs import missing

CHECKS = {
    "no_face": [
        "test_broken.py::test_a_grey_picture_has_no_face",
        "test_faceless.py::test_none_of_fifty_pictures_without_a_face_is_accepted",
        "test_faceless.py::test_a_face_without_eyes_has_a_reason_of_its_own",
        "test_broken.py::test_a_face_that_is_painted_over_is_not_the_person",
        "test_loop.py::test_a_picture_without_a_face_is_a_rejection_and_is_counted",
    ],
    "identity_low": [
        "test_broken.py::test_a_face_of_somebody_else_is_low_in_identity_and_swapped_when_known",
        "test_broken.py::test_a_face_that_is_painted_over_is_not_the_person",
        "test_loop.py::test_one_judge_is_not_enough",
    ],
    "not_stylized": [
        "test_broken.py::test_the_photo_itself_is_not_stylized_however_alike",
        "test_broken.py::test_a_face_that_is_not_drawn_in_the_style_is_rejected_and_one_that_is_passes",
        "test_judge.py::test_a_copy_of_the_photo_is_not_a_style",
    ],
    "burned": [
        "test_broken.py::test_a_glowing_picture_is_burned",
        "test_judge.py::test_burned_counts_what_the_photo_did_not_have",
    ],
    "changed": [
        "test_style_judge.py::test_a_skin_that_was_lightened_is_a_change_of_the_person",
        "test_style_judge.py::test_a_mouth_that_was_opened_is_a_change_and_a_drawing_of_it_is_none",
    ],
    "swapped": [
        "test_broken.py::test_a_face_of_somebody_else_is_low_in_identity_and_swapped_when_known",
        "test_loop.py::test_a_portrait_that_is_more_like_somebody_else_is_swapped",
    ],
    "broken_keep": [
        "test_keep.py::test_a_broken_promise_is_a_rejection_with_its_reason",
        "test_keep.py::test_a_head_that_moved_is_rejected_when_the_pose_must_stay",
    ],
}
"""Reason -> the tests with a picture that must be rejected for it, and with one that must not."""


def test_every_reason_has_tests_that_exist() -> None:
    assert CHECKS.keys() == REASONS.keys()
    assert {reason: missing(tests) for reason, tests in CHECKS.items() if not tests or missing(tests)} == {}


def drawn(photo: RgbImage) -> RgbImage:
    """A right picture: a drawing by filters, in flat warm colors with dark lines. It passes every check."""
    smooth = cv2.bilateralFilter(photo, 9, 60, 9)
    for _ in range(3):
        smooth = cv2.bilateralFilter(smooth, 9, 60, 9)
    flat = (smooth // 24 * 24 + 12).astype(np.float32) * np.array([1.0, 0.95, 0.85])
    gray = cv2.medianBlur(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), 5)
    lines = cv2.adaptiveThreshold(gray, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 15, 4)[..., None] > 0
    return np.where(lines, flat, 0.55 * flat).clip(0, 255).astype(np.uint8)


def blurred(photo: RgbImage) -> RgbImage:
    return rgb(cv2.GaussianBlur(photo, (0, 0), 18))


def gray(photo: RgbImage) -> RgbImage:
    return np.full_like(photo, 128)


@pytest.fixture(scope="module")
def judges(mini: AttemptLoop) -> Judges:
    """Those whose scores mini's calibration is about."""
    return mini.judges


@pytest.fixture(scope="module")
def people(photos: Path, judges: Judges) -> list[Subject]:
    loop = AttemptLoop(load_recipe("mini"), FakeGenerator(lambda photo, *_: photo), judges.analyzer, judges.recognizers)
    return loop.subjects(read_photo(photos / "t1.png"), "each")


@pytest.fixture(scope="module")
def anna(astronaut: Photo, judges: Judges) -> Subject:
    loop = AttemptLoop(load_recipe("mini"), FakeGenerator(lambda photo, *_: photo), judges.analyzer, judges.recognizers)
    return loop.subjects(astronaut)[0]


Judged = Callable[..., list[str]]


@pytest.fixture(scope="module")
def judged(judges: Judges, anna: Subject, people: list[Subject]) -> Judged:
    """Run a generator that uses `paint`, and return the reasons of its only attempt."""

    def run(paint: Callable[[RgbImage], RgbImage], known: bool = False) -> list[str]:
        generator = FakeGenerator(lambda photo, knobs, seed: paint(photo))
        loop = AttemptLoop(load_recipe("mini"), generator, judges.analyzer, judges.recognizers)
        others = [p.identity for p in people] if known else []
        portrait = loop.stylize(anna, "comic", Settings(max_attempts=1), others=others)
        print(portrait.record.attempts[0])
        return list(portrait.record.reasons)

    return run


@pytest.fixture(scope="module")
def framed(anna: Subject) -> Framed:
    return frame_portrait(anna.photo.pixels, anna.face, "bust", 512)


def codes(reasons: list[str]) -> set[str]:
    return {reason.partition(":")[0] for reason in reasons}


def test_a_right_picture_is_not_blamed_for_its_likeness_or_colours(judged: Judged) -> None:
    """Its style is none of mini's, so that alone may be said against it."""
    assert codes(judged(drawn)) <= {"not_stylized"}
    assert "not_stylized" not in judged(drawn)  # it is no copy


def test_the_photo_itself_is_not_stylized_however_alike(judged: Judged) -> None:
    reasons = judged(lambda photo: photo)
    assert reasons == ["not_stylized"]


@pytest.mark.parametrize(
    "move",
    [
        lambda photo: np.roll(photo, (2, 2), (0, 1)),
        lambda photo: np.ascontiguousarray(photo[:, ::-1]),
        lambda photo: cv2.warpAffine(photo, cv2.getRotationMatrix2D((256, 256), 3, 1.03), (512, 512)),
    ],
    ids=["shifted", "mirrored", "turned and zoomed"],
)
def test_the_photo_moved_is_still_the_photo(judged: Judged, move: Callable[[RgbImage], RgbImage]) -> None:
    assert "not_stylized" in judged(move)


def test_a_blurred_photo_is_rejected(judged: Judged) -> None:
    reasons = judged(blurred)
    assert "identity_low" in codes(reasons)


def test_a_face_of_somebody_else_is_low_in_identity_and_swapped_when_known(
    judged: Judged, people: list[Subject]
) -> None:
    other = frame_portrait(people[0].photo.pixels, people[0].face, "bust", 512)
    assert "identity_low" in codes(judged(lambda photo: drawn(other.image)))
    assert judged(lambda photo: drawn(other.image), known=True)[0] == "swapped"


def test_a_face_that_is_painted_over_is_not_the_person(judged: Judged, framed: Framed) -> None:
    def paint(photo: RgbImage) -> RgbImage:
        out = drawn(photo)
        x, y = (int(v) for v in framed.face.center)
        cv2.ellipse(
            out, (x, y), (int(framed.face.width * 0.6), int(framed.face.height * 0.65)), 0, 0, 360, (190, 150, 120), -1
        )
        return out

    reasons = judged(paint)
    assert "no_face" in reasons
    assert "identity_low" in codes(reasons)


def test_a_grey_picture_has_no_face(judged: Judged) -> None:
    reasons = judged(gray)
    assert reasons[0] == "no_face"
    assert "identity_low" in codes(reasons)


def test_a_glowing_picture_is_burned(judged: Judged) -> None:
    def glow(photo: RgbImage) -> RgbImage:
        return np.clip((drawn(photo).astype(int) - 60) * 4, 0, 255).astype(np.uint8)

    assert "burned" in judged(glow)
    assert "burned" not in judged(drawn)


# ---- the style's own statistics, on real faces


def printed(photo: RgbImage) -> RgbImage:
    """Another style: five bright inks."""
    inks = np.array([[33, 13, 82], [191, 18, 122], [242, 107, 66], [250, 204, 51], [250, 247, 199]], np.uint8)
    return inks[np.digitize(cv2.GaussianBlur(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), (0, 0), 2), [50, 100, 150, 200])]


def test_a_face_that_is_not_drawn_in_the_style_is_rejected_and_one_that_is_passes(
    people: list[Subject], anna: Subject
) -> None:
    rng = np.random.default_rng(0)
    frames = [frame_portrait(s.photo.pixels, s.face, "bust", 512) for s in people]
    shaken = [
        (i, RgbImage(np.clip(f.image * rng.uniform(0.8, 1.15, 3), 0, 255).astype(np.uint8)))
        for i, f in enumerate(frames)
        for _ in range(5)
    ]

    def features(paint: Callable[[RgbImage], RgbImage]) -> tuple[np.ndarray, list[int]]:
        vectors = [face_features(Framed(image=x, face=frames[i].face, box=frames[i].box), paint(x)) for i, x in shaken]
        return np.array(vectors), [i for i, _ in shaken]

    comic, whose = features(drawn)
    limit = float(leave_one_person_out_distances(comic, whose).max())
    statistics = StyleStatistics.of(comic, limit)
    loud, _ = features(printed)
    copies, _ = features(lambda photo: photo)
    assert min(style_distance(x, statistics) for x in loud) > 2 * limit
    assert min(style_distance(x, statistics) for x in copies) > limit
    new = frame_portrait(anna.photo.pixels, anna.face, "bust", 512)  # somebody whom the statistics do not know
    print(limit, style_distance(face_features(new, drawn(new.image)), statistics))
    assert style_distance(face_features(new, drawn(new.image)), statistics) < 1.5 * limit

    limits = Thresholds(
        identity={"arcface": 0.4}, far=0.01, style_on_face=0.15, burned=0.05, style="comic", statistics=statistics
    )
    for x, reasons in ((comic[0], ()), (loud[0], ("not_stylized:comic",))):
        measured = Measurement(
            similarity={"arcface": 0.6},
            face_found=True,
            style_on_face=0.3,
            burned=0.0,
            style_distance=style_distance(x, statistics),
        )
        assert decide(measured, limits).reasons == reasons


def test_the_distance_by_hand() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4000, 3)) * [1, 2, 4] + [5, 6, 7]
    statistics = StyleStatistics.of(features)
    assert style_distance(np.array([5.0, 6, 7]), statistics) == pytest.approx(0, abs=0.05)
    assert style_distance(np.array([6.0, 8, 11]), statistics) == pytest.approx(1, abs=0.06)  # one deviation in each
    distances = leave_one_person_out_distances(features[:60], list(range(30)) * 2)
    assert distances.shape == (60,)
    assert 0.5 < np.median(distances) < 1.5
