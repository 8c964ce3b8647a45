"""The field's common measurement errors, each with the tests that rule it out.

`TRAPS` is the list; the first test checks that every test and table in it exists. Tests that fit nowhere else are here.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from portrait.faces.insightface_analyzer import InsightFaceAnalyzer
from portrait.images import Photo, read_photo, resized, write_picture
from portrait.judge.thresholds import photo_thresholds
from portrait.judge.verification import similarity
from portrait.records import RgbImage
from tests.fakes import calibrate_people, restyled, run_loop
from tests.proofs import ROOT, missing

TRAPS = {
    "the conditioning recognizer is the only judge": ["test_loop.py::test_one_judge_is_not_enough"],
    "detection failures are dropped from means": [
        "test_loop.py::test_a_picture_without_a_face_is_a_rejection_and_is_counted",
        "test_traps.py::test_a_lost_face_lowers_the_accept_rate_of_the_calibration",
    ],
    "a missing face passes the gate": ["test_broken.py::test_a_grey_picture_has_no_face"],
    "photo thresholds on stylized faces": [
        "eval/thresholds.json",
        "test_judge.py::test_an_uncalibrated_rate_or_style_says_what_is_there",
    ],
    "random easy impostors": [
        "test_traps.py::test_impostors_are_of_the_same_style_and_the_harder_ones_are_counted_apart",
        "test_calibration.py::test_photos_of_other_people_make_more_impostor_pairs",
    ],
    "best of N inflates the judge that chooses": [
        "test_traps.py::test_the_best_of_many_looks_better_to_the_judge_that_chose_than_to_another",
        "eval/loop.json",
    ],
    "an unchanged photo wins": [
        "test_broken.py::test_the_photo_itself_is_not_stylized_however_alike",
        "test_judge.py::test_a_copy_of_the_photo_is_not_a_style",
        "test_calibration.py::test_a_recipe_that_returns_the_photo_has_nothing_accepted",
    ],
    "a picture is not like itself after re-encoding": [
        "test_judge.py::test_similarity_of_a_picture_with_itself_survives_the_codecs",
        "test_traps.py::test_a_picture_is_like_itself_after_resizing_and_our_own_formats",
    ],
    "the wrong face is judged": [
        "test_loop.py::test_the_face_that_is_judged_is_the_one_where_the_photos_face_was",
        "test_loop.py::test_a_portrait_that_is_more_like_somebody_else_is_swapped",
    ],
    "intervals over pictures instead of people": [
        "test_eval_measures.py::test_an_interval_of_a_mean_draws_people_and_not_pictures"
    ],
    "raw embeddings taken for unit ones": ["test_judge.py::test_similarity_refuses_raw_embeddings"],
    "judged by limits that one's own pictures have set": [
        "test_eval_loop.py::test_nobody_has_a_part_in_their_own_limits"
    ],
    "too small a sample": ["test_judge.py::test_too_small_a_sample_is_an_error_not_a_number"],
}


def test_every_trap_has_a_test_or_a_table_that_exists() -> None:
    assert {trap: missing(proofs) for trap, proofs in TRAPS.items() if not proofs or missing(proofs)} == {}


@pytest.mark.slow
def test_a_lost_face_lowers_the_accept_rate_of_the_calibration(people: list[Path]) -> None:
    """Half of the pictures have no face: they count as made, judged and not accepted."""
    lost = {0, 2, 4, 6, 8, 10}
    order: list[int] = []

    def paint(photo: RgbImage, knobs: object, seed: int) -> RgbImage:
        order.append(len(order))
        return restyled(photo) if order[-1] % 12 not in lost else RgbImage(np.zeros_like(photo))

    table, _ = calibrate_people(paint, people)
    entry = table["styles"]["oil"]
    assert entry["first_attempt_accepted"]["0.1"]["of"] == 12
    assert entry["first_attempt_accepted"]["0.1"]["rate"] <= 0.5
    assert entry["recognisers"]["arcface"]["genuine_pairs"] == 12


def test_impostors_are_of_the_same_style_and_the_harder_ones_are_counted_apart() -> None:
    """Thresholds come from all pairs of the style's portraits; pairs of the same sex pass more often."""
    shipped = json.loads((ROOT / "portrait" / "recipes" / "mini.thresholds.json").read_text("utf-8"))
    table = json.loads((ROOT / "eval" / "thresholds.json").read_text("utf-8"))
    assert table["weights"] == shipped["weights"]
    for style, entry in shipped["styles"].items():
        pairs, count = entry["recognisers"]["arcface"]["impostor_pairs"], len(shipped["people"])
        assert pairs == count * (count - 1 + len(shipped["impostors"])), style
        assert entry["recognisers"].keys() >= {"arcface", "dlib"}
        for judge in ("arcface", "dlib"):  # of whom there are limits of photos to compare with
            rates = table["styles"][style][judge]["calibrated at 0.01"]
            assert rates["far"] < 0.02, (style, judge)
            assert rates["far"] < rates["far_same_group"] < 0.05, (style, judge)


def test_the_best_of_many_looks_better_to_the_judge_that_chose_than_to_another() -> None:
    """In the benchmark's results, if one judge alone decides, the other one accepts less in every arm."""
    table = json.loads((ROOT / "eval" / "loop.json").read_text("utf-8"))["settings"]
    arms = table["balance 0.8, FAR 0.001, ArcFace decides"]["arms"]
    for name, arm in arms.items():
        assert arm["accepted_also_by_the_other_judge"][0] < arm["accepted"][0] - 0.05, name


def test_the_loop_does_not_choose_by_likeness(limits: str) -> None:
    """The most stylized of the accepted pictures is chosen, so the choice inflates no judge's likeness."""

    def paint(photo: RgbImage, knobs: object, seed: int) -> RgbImage:
        return restyled(photo, 6 * (seed - 1))  # each seed is less alike than the one before; all pass

    portrait, _ = run_loop(paint, limits, max_attempts=3, batch=3)
    attempts = portrait.record.attempts
    assert all(a.accepted for a in attempts)
    styles = [a.style_on_face for a in attempts]
    assert portrait.record.chosen == styles.index(max(styles))


def test_a_picture_is_like_itself_after_resizing_and_our_own_formats(
    astronaut: Photo, analyzer: InsightFaceAnalyzer, tmp_path: Path
) -> None:
    (face,) = analyzer.detect(astronaut.pixels)
    reference = analyzer.embed(astronaut.pixels, face.kps)
    pixels = astronaut.pixels
    again = {
        "half size": resized(pixels, pixels.shape[1] // 2, pixels.shape[0] // 2),
        "twice the size": resized(pixels, pixels.shape[1] * 2, pixels.shape[0] * 2),
    }
    again |= {kind: read_photo(write_picture(tmp_path / f"a.{kind}", pixels)).pixels for kind in ("png", "jpg", "webp")}
    limit = photo_thresholds().limits["arcface"]
    for name, picture in again.items():
        (detected,) = analyzer.detect(picture)
        value = similarity(reference, analyzer.embed(picture, detected.kps))
        print(name, round(value, 4))
        assert value > (0.99999 if name == "png" else 0.9), name
        assert value > limit + 0.3, name
