"""The loop and the policy, exactly, with the fakes of the three interfaces."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from portrait.errors import FaceError, NoFaceError, SettingsError
from portrait.faces.identity import SMALLEST_FACE
from portrait.judge.thresholds import Thresholds
from portrait.judge.verdict import Measurement, decide
from portrait.judge.verification import same_person
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.directions import next_knobs
from portrait.loop.response import STEP
from portrait.records import Embedding, Face, Knobs, Points, RgbImage
from portrait.records.portrait import read_portrait, read_record
from portrait.settings import Settings
from tests.fakes import KNOBS, RECIPE, SIZE, FakeAnalyzer, FakeGenerator, a_face, a_photo, fake_loop, restyled, run_loop


def test_a_good_first_picture_ends_the_loop(limits: str) -> None:
    result, generator = run_loop(lambda photo, knobs, seed: restyled(photo), limits)
    assert result.accepted
    assert len(generator.calls) == 1
    assert result.record.status == "accepted"
    assert result.record.attempts[0].similarity["arcface"] == pytest.approx(1, abs=0.01)


def test_the_photo_itself_is_rejected_as_not_stylized(limits: str) -> None:
    result, generator = run_loop(lambda photo, knobs, seed: photo, limits, max_attempts=3)
    assert not result.accepted
    assert result.record.reasons == ("not_stylized",)
    structure = [knobs.controlnet_conditioning_scale for knobs, _ in generator.calls]
    assert structure == sorted(structure, reverse=True)
    assert structure[-1] < structure[0]
    assert len({knobs.strength for knobs, _ in generator.calls}) == 1  # mini is good for a single one


def test_somebody_else_is_rejected_by_both_judges_and_the_knobs_move_towards_likeness(limits: str) -> None:
    result, generator = run_loop(lambda photo, knobs, seed: restyled(photo, 150), limits, max_attempts=3)
    assert result.record.reasons == ("identity_low:arcface", "identity_low:dlib")
    first, last = generator.calls[0][0], generator.calls[-1][0]
    assert last.ip_adapter_scale > first.ip_adapter_scale
    assert last.controlnet_conditioning_scale > first.controlnet_conditioning_scale


def test_a_retry_rescues_what_the_first_attempt_missed(limits: str) -> None:
    result, generator = run_loop(
        lambda photo, knobs, seed: restyled(photo, 0 if knobs.ip_adapter_scale > 0.9 else 150), limits
    )
    assert result.accepted
    assert result.record.chosen == len(generator.calls) - 1 >= 1


def test_a_shift_moves_what_is_drawn_and_is_in_the_record_and_its_replay(limits: str) -> None:
    loop = fake_loop(lambda photo, knobs, seed: restyled(photo))
    (subject,) = loop.subjects(a_photo())
    settings = Settings(thresholds=limits, frame="head", max_attempts=1)
    still, moved = (loop.stylize(subject, "oil", replace(settings, shift=shift)) for shift in ("0,0", "0.1,-0.2"))
    left, top, side = still.record.box
    assert moved.record.box == (left + round(0.1 * side), top - round(0.2 * side), side)
    assert "shift" not in json.loads(still.record.to_json())["settings"]  # as in records of before
    record = read_portrait(moved.record.to_json())
    assert record.settings.shift == "0.1,-0.2"
    np.testing.assert_array_equal(loop.replay(record, subject.photo), moved.picture)


def test_a_missing_face_is_the_first_reason_whatever_else_is_wrong() -> None:
    measured = Measurement(
        similarity={"arcface": 0.0, "dlib": 0.0}, face_found=False, style_on_face=0.3, burned=0.9, swap=0.2
    )
    limits = Thresholds(identity={"arcface": 0.4, "dlib": 0.9}, far=0.01, style_on_face=0.1, burned=0.1)
    reasons = decide(measured, limits).reasons
    assert reasons == ("no_face", "swapped", "identity_low:arcface", "identity_low:dlib", "burned")


def test_a_portrait_that_is_more_like_somebody_else_is_swapped(limits: str) -> None:
    loop = fake_loop(lambda photo, knobs, seed: restyled(photo, 40))
    (anna,) = loop.subjects(a_photo())
    other = a_photo()
    other.pixels[...] = (other.pixels.astype(int) + np.array([40, 40, 0])).clip(0, 255)
    (bea,) = loop.subjects(other)
    settings = Settings(thresholds=limits, max_attempts=1)
    together = replace(anna, bystanders=(bea.identity,))
    portrait = loop.stylize(together, "oil", settings)
    assert portrait.record.reasons[0] == "swapped"
    assert (portrait.record.attempts[0].swap or 0) > 0
    assert loop.stylize(anna, "oil", settings, others=[bea.identity]).record.reasons[0] == "swapped"
    alone = loop.stylize(anna, "oil", settings)
    assert alone.accepted  # by the thresholds alone it would pass
    assert alone.record.attempts[0].swap is None


def test_the_same_person_twice_in_a_photo_is_nobody_else(limits: str) -> None:
    """A sheet of passport photos: to every judge its faces are one person, so a portrait may resemble any of them."""
    loop = fake_loop(lambda *_: restyled(a_photo().pixels))
    (anna,) = loop.subjects(a_photo())
    (nearer,) = loop.subjects(replace(a_photo(), pixels=restyled(a_photo().pixels)))
    assert same_person(anna.identity, nearer.identity)
    portrait = loop.stylize(
        replace(anna, bystanders=(nearer.identity,)), "oil", Settings(thresholds=limits, max_attempts=1)
    )
    assert portrait.record.attempts[0].swap is None
    assert portrait.accepted


def test_the_others_in_a_photo_are_known_whichever_face_is_chosen() -> None:
    def three(image: RgbImage) -> list[Face]:
        first_face = a_face(image.shape[0])
        return [first_face, first_face.moved(0.7, 5, 5), first_face.moved(0.5, 60, 60)]

    loop = fake_loop(lambda *_: a_photo().pixels, FakeAnalyzer(three))
    (chosen,) = loop.subjects(a_photo(), "1")
    assert len(chosen.bystanders) == 2
    assert [len(s.bystanders) for s in loop.subjects(a_photo(), "each")] == [2, 2, 2]


def test_faces_that_are_too_small_are_left_out_of_each_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    def two(image: RgbImage) -> list[Face]:
        one = a_face(image.shape[0])
        return [one.moved(0.8 * SMALLEST_FACE / one.size, 0, 0), one]

    loop = fake_loop(lambda *_: a_photo().pixels, FakeAnalyzer(two))
    assert [subject.index for subject in loop.subjects(a_photo(), "each")] == [1]
    assert "anna.png: face 0 is left out: it is only 11 px" in caplog.text
    with pytest.raises(FaceError, match="is 11 px"):
        loop.subjects(a_photo(), "0")


def test_one_judge_is_not_enough(limits: str) -> None:
    def paint(photo: RgbImage, knobs: Knobs, seed: int) -> RgbImage:
        out = restyled(photo).astype(int)
        out[..., 1] += 150  # the second judge looks at green
        return RgbImage(out.clip(0, 255).astype(np.uint8))

    result, _ = run_loop(paint, limits, max_attempts=1)
    assert result.record.reasons == ("identity_low:dlib",)
    with pytest.raises(SettingsError, match="only judge"):
        AttemptLoop(RECIPE, FakeGenerator(paint), FakeAnalyzer(), [])


def test_a_picture_without_a_face_is_a_rejection_and_is_counted(limits: str) -> None:
    def faces(image: RgbImage) -> list[Face]:
        return [a_face()] if image[..., 2].std() < 1 else []  # only the photo's blue is flat

    result, _ = run_loop(lambda p, k, s: restyled(p, 150), limits, FakeAnalyzer(faces), max_attempts=2)
    assert result.record.reasons[0] == "no_face"
    assert [a.face_found for a in result.record.attempts] == [False, False]
    alike, _ = run_loop(lambda p, k, s: restyled(p), limits, FakeAnalyzer(faces), max_attempts=1)
    assert alike.record.reasons == ("no_face",)  # although both judges know the person at the photo's landmarks


def test_a_face_that_only_the_second_detector_sees_is_a_face(limits: str) -> None:
    def faces(image: RgbImage) -> list[Face]:
        return [a_face()] if image[..., 2].std() < 1 else []  # only the photo's blue is flat

    loop = fake_loop(lambda photo, knobs, seed: restyled(photo), FakeAnalyzer(faces), second_opinion=FakeAnalyzer())
    (subject,) = loop.subjects(a_photo())
    portrait = loop.stylize(subject, "watercolor", Settings(thresholds=limits, max_attempts=1))
    assert portrait.accepted
    assert portrait.record.attempts[0].face_found
    loop.judges = replace(loop.judges, second_opinion=FakeAnalyzer(lambda image: [a_face().moved(1, 200, 0)]))
    elsewhere = loop.stylize(subject, "watercolor", Settings(thresholds=limits, max_attempts=1))
    assert elsewhere.record.reasons == ("no_face",)


def test_the_face_that_is_judged_is_the_one_where_the_photos_face_was(limits: str) -> None:
    stranger = a_face().moved(1.6, -170, -170)  # larger than the face that is meant, and elsewhere

    def faces(image: RgbImage) -> list[Face]:
        return [a_face()] if image[..., 2].std() < 1 else [stranger, a_face()]

    class KnowsPlaces(FakeAnalyzer):
        def embed(self, image: RgbImage, kps: Points) -> Embedding:
            right = super().embed(image, kps)
            return right if kps.mean() > 30 else Embedding(np.roll(right, 3))

    result, _ = run_loop(lambda p, k, s: restyled(p), limits, KnowsPlaces(faces))
    assert result.accepted


def test_the_budget_in_attempts_is_kept_also_with_batches(limits: str) -> None:
    result, generator = run_loop(lambda photo, knobs, seed: photo, limits, max_attempts=5, batch=2)
    assert [len(seeds) for _, seeds in generator.calls] == [2, 2, 1]
    assert len(result.record.attempts) == 5
    assert [a.seed for a in result.record.attempts] == [1, 2, 3, 4, 5]


def test_the_budget_in_seconds_is_kept(limits: str) -> None:
    result, generator = run_loop(lambda photo, knobs, seed: photo, limits, max_attempts=50, max_seconds=0)
    assert len(generator.calls) == 1
    assert result.record.status == "rejected"


def test_everything_constant_is_computed_once(limits: str) -> None:
    _, generator = run_loop(lambda photo, knobs, seed: photo, limits, max_attempts=4)
    assert len(generator.calls) == 4
    assert generator.prepared == 1


def test_of_the_rejected_the_closest_is_kept(limits: str) -> None:
    result, _ = run_loop(lambda p, k, seed: restyled(p, {1: 160, 2: 110, 3: 170}[seed]), limits, max_attempts=3)
    assert result.record.chosen == 1
    assert result.record.status == "rejected"


def test_the_record_holds_what_design_promises(limits: str) -> None:
    result, _ = run_loop(lambda photo, knobs, seed: restyled(photo), limits)
    promised = (
        "version status reasons output input recipe style balance seed frame size thresholds attempts chosen seconds "
        "weights licenses versions"
    )
    written = json.loads(result.record.to_json())
    assert set(promised.split()) <= written.keys()
    promised = "knobs similarity style_on_face face_found accepted reasons seconds"
    assert set(promised.split()) <= written["attempts"][0].keys()
    assert read_record(result.record.to_json()) == result.record


# ---- policy


@pytest.mark.parametrize(
    ("reasons", "up", "down"),
    [
        (["identity_low:dlib"], ["ip_adapter_scale", "controlnet_conditioning_scale"], ["strength", "guidance_scale"]),
        (["no_face"], ["ip_adapter_scale"], ["strength"]),
        (["not_stylized"], ["strength", "guidance_scale"], ["controlnet_conditioning_scale"]),
        (["burned"], [], ["guidance_scale"]),
    ],
)
def test_knobs_move_with_the_reason(reasons: list[str], up: list[str], down: list[str]) -> None:
    moved = next_knobs(KNOBS, reasons)
    for name in up:
        assert getattr(moved, name) > getattr(KNOBS, name), name
    for name in down:
        assert getattr(moved, name) < getattr(KNOBS, name), name


def test_knobs_stay_in_their_ranges_and_always_leave_a_step() -> None:
    knobs = KNOBS
    for _ in range(30):
        knobs = next_knobs(knobs, ["identity_low:arcface"])
    assert knobs.ip_adapter_scale == 1.4
    assert knobs.strength == 0.3
    assert int(knobs.strength * knobs.num_inference_steps) >= 1
    custom = replace(KNOBS, ip_adapter_scale=2.5)
    assert next_knobs(custom, ["identity_low:arcface"]).ip_adapter_scale == 2.5


def test_a_knob_that_the_user_set_is_not_moved() -> None:
    moved = next_knobs(KNOBS, ["identity_low:arcface"], fixed={"ip_adapter_scale"})
    assert moved.ip_adapter_scale == KNOBS.ip_adapter_scale
    assert moved.strength < KNOBS.strength


def test_no_knob_moves_more_than_one_step_however_many_reasons_ask_for_it() -> None:
    moved = next_knobs(KNOBS, ["identity_low:arcface", "swapped", "broken_keep:pose", "burned"])
    for name, step in STEP.items():
        assert abs(getattr(moved, name) - getattr(KNOBS, name)) <= step + 1e-9, name
    assert moved.controlnet_conditioning_scale > KNOBS.controlnet_conditioning_scale


@pytest.mark.parametrize("closer", [["burned"], ["identity_low:dlib", "broken_keep:pose"], ["no_face", "burned"]])
def test_opposite_wishes_cancel_however_many_stand_on_one_side(closer: list[str]) -> None:
    moved = next_knobs(KNOBS, ["not_stylized", *closer])
    assert moved.guidance_scale == KNOBS.guidance_scale


def test_opposite_wishes_leave_the_structure_and_the_strength() -> None:
    moved = next_knobs(KNOBS, ["identity_low:arcface", "not_stylized"])
    assert moved.strength == KNOBS.strength
    assert moved.controlnet_conditioning_scale == KNOBS.controlnet_conditioning_scale


def test_a_photo_on_its_side_is_turned_and_the_record_says_so() -> None:
    """The fake only detects faces in portrait format, so the photo in landscape format is turned."""

    def upright_alone(image: RgbImage) -> list[Face]:
        return [a_face(image.shape[1])] if image.shape[0] > image.shape[1] else []

    wide = replace(a_photo(), pixels=RgbImage(np.full((SIZE, 2 * SIZE, 3), 90, np.uint8)))
    generator = FakeGenerator(lambda photo, knobs, seed: restyled(photo))
    loop = fake_loop(generator, FakeAnalyzer(upright_alone))
    (subject,) = loop.subjects(wide)
    assert subject.photo.turned == 90
    assert subject.photo.pixels.shape == (2 * SIZE, SIZE, 3)
    with pytest.raises(NoFaceError):
        loop.subjects(wide, upright="off")
