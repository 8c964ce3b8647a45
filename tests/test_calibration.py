"""Thresholds from impostors: exact with the fakes, and once for real."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from portrait.calibrate.degrade import DEGRADATIONS, copies, degrade
from portrait.calibrate.sample import DIAL, Sample, SampleOptions, measure_sample
from portrait.calibrate.statistics import STYLE_REJECTED, AcceptedPictures, style_statistics, weak_checks
from portrait.calibrate.thresholds import calibrate_thresholds, thresholds_from
from portrait.cli.main import main
from portrait.errors import SettingsError, TooFewPairsError
from portrait.images import Photo, write_picture
from portrait.intervals import bootstrap_pairs, wilson
from portrait.judge.checks import StyleStatistics, format_confusable, style_distance, style_lead
from portrait.judge.thresholds import Thresholds, equal_error_rate, thresholds_for
from portrait.judge.verdict import Measurement, decide
from portrait.loop.attempt_loop import AttemptLoop
from portrait.records import Face, Knobs, RgbImage
from portrait.records.calibration import CalibrationTable
from portrait.report.explain import explain
from portrait.settings import Settings
from tests.fakes import (
    KNOBS,
    RECIPE,
    SIZE,
    FakeAnalyzer,
    FakeGenerator,
    a_photo,
    calibrate_people,
    fake_loop,
    restyled,
    rgb,
)


@pytest.mark.slow
def test_a_threshold_accepts_no_more_impostors_than_its_rate(people: list[Path]) -> None:
    table, generator = calibrate_people(lambda photo, knobs, seed: restyled(photo), people)
    assert len(generator.calls) == 2 * 12  # once as asked, once at an end of the dial
    for judge in ("arcface", "dlib"):
        entry = table["styles"]["oil"]["recognisers"][judge]
        assert entry["impostor_pairs"] == 12 * 11
        assert entry["genuine_pairs"] == 12
        assert entry["genuine_mean"] == pytest.approx(1, abs=0.001)
        assert entry["tar"]["0.1"] == {"rate": 1.0, "interval": [0.7575, 1.0], "of": 12}
        low, high = entry["threshold_intervals"]["0.1"]
        assert low < entry["thresholds"]["0.1"] <= high + 1e-4
        above = [far for threshold, far, _ in entry["det"] if threshold >= entry["thresholds"]["0.1"]]
        assert max(above) <= 0.1


@pytest.mark.slow
def test_the_judge_reads_the_table_that_calibration_writes(people: list[Path], tmp_path: Path) -> None:
    table, _ = calibrate_people(lambda photo, knobs, seed: restyled(photo), people)
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table))
    limits = thresholds_for("mini", "oil", 0.1, path)
    gate = table["styles"]["oil"]["gates"][0]
    assert limits.identity == gate["floors"]
    assert limits.gate is not None
    assert limits.gate.least == gate["rates"]["0.1"]["least"]
    alone = thresholds_for("mini", "oil", 0.1, path, judges=["dlib"]).gate
    assert alone is not None
    assert alone.floors.keys() == alone.weights.keys() == {"dlib"}
    with pytest.raises(SettingsError, match="FAR 0.01 is not calibrated for mini / oil; calibrated: 0.1"):
        thresholds_for("mini", "oil", 0.01, path)


@pytest.mark.slow
def test_a_recipe_that_returns_the_photo_has_nothing_accepted(people: list[Path]) -> None:
    table, _ = calibrate_people(lambda photo, knobs, seed: photo, people)
    assert table["styles"]["oil"]["first_attempt_accepted"]["0.1"]["rate"] == 0


def test_too_few_people_are_refused_before_anything_is_made(people: list[Path]) -> None:
    generator = FakeGenerator(lambda photo, knobs, seed: photo)
    loop = fake_loop(generator)
    with pytest.raises(TooFewPairsError, match="132 impostor pairs; a FAR of 0.01 needs 500"):
        calibrate_thresholds(loop, people, SampleOptions(styles=["oil"], rates=[0.01]))
    with pytest.raises(SettingsError, match="1.5 is not between 0 and 1"):
        calibrate_thresholds(loop, people, SampleOptions(styles=["oil"], rates=[1.5]))
    assert not generator.calls


@pytest.mark.slow
def test_photos_of_other_people_make_more_impostor_pairs(people: list[Path]) -> None:
    table, generator = calibrate_people(lambda photo, knobs, seed: restyled(photo), people[:6], impostors=people[6:])
    assert len(generator.calls) == 2 * 6
    assert table["styles"]["oil"]["recognisers"]["dlib"]["impostor_pairs"] == 6 * 11


@pytest.mark.slow
def test_a_photo_that_cannot_be_used_is_named_and_counted_and_not_scored(
    people: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    people[0].write_bytes(people[0].read_bytes()[:100])

    class Blind(FakeAnalyzer):
        def candidates(self, image: RgbImage) -> list[Face]:
            return [] if image[..., 0].mean() > 140 else super().candidates(image)

        detect = candidates

    loop = fake_loop(lambda photo, knobs, seed: photo, Blind())
    table = calibrate_thresholds(loop, people, SampleOptions(styles=["oil"], rates=[0.1]))
    assert table["failure_to_acquire"] == ["00.png", "11.png"]
    assert len(table["people"]) == 10
    assert "00.png is damaged or truncated" in caplog.text
    assert "no face found in" in caplog.text


@pytest.mark.slow
def test_the_people_are_spread_over_the_dial_and_every_style_has_others_at_its_ends(people: list[Path]) -> None:
    dial = replace(RECIPE, balance=((0.0, replace(KNOBS, strength=0.2)), (1.0, replace(KNOBS, strength=0.6))))
    drawn: list[float] = []

    def paint(photo: RgbImage, knobs: Knobs, seed: int) -> RgbImage:
        drawn.append(knobs.strength)
        return restyled(photo)

    loop = fake_loop(paint, recipe=dial)
    sample = measure_sample(loop, people, SampleOptions(styles=["watercolor", "oil"], rates=[0.1]))
    expected = [round(0.2 + 0.4 * position, 4) for position in DIAL]
    assert drawn[:12] == [expected[i % 5] for i in range(12)]
    assert drawn[24:36] == [expected[(i + 1) % 5] for i in range(12)]
    assert sample.styles["watercolor"].positions.tolist() == [DIAL[i % 5] for i in range(12)]
    without = sample.without(next(iter(sample.people)))
    assert without.styles["watercolor"].positions.tolist() == [DIAL[i % 5] for i in range(1, 12)]
    alone = measure_sample(loop, people, SampleOptions(styles=["oil"], rates=[0.1]))
    assert alone.styles["oil"].positions.tolist() == sample.styles["oil"].positions.tolist()


def test_every_picture_is_made_at_the_requested_balance_and_with_a_seed_of_its_own(people: list[Path]) -> None:
    """The first of each person at the balance, the second at one of the dial's ends, in turn over the degradations.

    The seed decides the palette of a style that has several, so limits from a single seed would refuse all others.
    """
    dial = replace(RECIPE, balance=((0.0, replace(KNOBS, strength=0.3)), (1.0, replace(KNOBS, strength=0.7))))
    drawn: list[tuple[Knobs, int]] = []

    def paint(photo: RgbImage, knobs: Knobs, seed: int) -> RgbImage:
        drawn.append((knobs, seed))
        return restyled(photo)

    table, _ = calibrate_people(paint, people, recipe=dial, seed=7, balance=0.25)
    assert [seed for _, seed in drawn] == list(range(table["seed"], table["seed"] + 24)) == list(range(7, 31))
    strengths = [round(knobs.strength, 6) for knobs, _ in drawn]
    assert strengths[:12] == [0.4] * 12
    assert strengths[12:] == [0.3] * len(DEGRADATIONS) + [0.7] * (12 - len(DEGRADATIONS))
    assert table["balance"] == 0.25
    assert table["styles"]["oil"]["knobs"]["strength"] == pytest.approx(0.4)


def test_one_photo_for_two_people_is_refused(people: list[Path]) -> None:
    twin = people[0].with_name("twin.png")
    twin.write_bytes(people[0].read_bytes())
    with pytest.raises(SettingsError, match="are the same photo; give each person once"):
        calibrate_people(lambda photo, knobs, seed: photo, people, impostors=[twin])


def test_the_style_s_statistics_reject_other_styles_and_few_of_their_own() -> None:
    rng = np.random.default_rng(0)
    drawn_before, new = rng.normal(size=(2, 60, 12))
    whose = np.arange(60) // 2
    drawn = {
        "oil": AcceptedPictures(
            features=drawn_before, styled=0.3 + 0.001 * np.arange(60), shown=np.ones(60), people=whose
        ),
        "popart": AcceptedPictures(
            features=drawn_before + 3.0, styled=np.full(60, 0.4), shown=np.ones(60), people=whose
        ),
        "sketch": AcceptedPictures(
            features=drawn_before[:10], styled=np.full(10, 0.3), shown=np.ones(10), people=whose[:10]
        ),
    }
    statistics = style_statistics(drawn)
    assert statistics["sketch"] is None  # ten pictures say nothing of a style
    oil = statistics["oil"]
    assert oil is not None
    assert oil["other_styles_rejected"]["popart"] == 1.0
    assert oil["right_pictures_rejected"] <= STYLE_REJECTED
    assert oil["least"] == pytest.approx(0.3)  # of 60 right pictures the least one, for 2 % is less than two of them
    limits = StyleStatistics(mean=np.array(oil["mean"]), precision=np.array(oil["precision"]), limit=oil["limit"])
    assert np.mean([style_distance(x, limits) > limits.limit for x in new]) <= 0.05  # the stated 2 %, and chance


def test_a_style_within_another_is_distinguished_from_it(tmp_path: Path) -> None:
    """Oil varies much and pastel little, about the same middle: by its distance alone every pastel could be an oil."""
    rng = np.random.default_rng(0)
    whose = np.arange(80) // 2

    def pictures(spread: float) -> AcceptedPictures:
        features = spread * rng.normal(size=(80, 12))
        return AcceptedPictures(features=features, styled=np.full(80, 0.4), shown=np.ones(80), people=whose)

    drawn = {"oil": pictures(2.0), "pastel": pictures(0.5)}
    statistics = style_statistics(drawn)
    oil, pastel = statistics["oil"], statistics["pastel"]
    assert oil is not None
    assert pastel is not None
    assert oil["other_styles_rejected"]["pastel"] > 0.95
    assert pastel["other_styles_rejected"]["oil"] > 0.95
    entries = {"style_on_face": {"limit": 0.1}, "recognisers": {"arcface": {"thresholds": {"0.01": 0.4}}}}
    table = {"burned": {"limit": 0.1}, "styles": {n: entries | {"style_statistics": statistics[n]} for n in statistics}}
    (tmp_path / "table.json").write_text(json.dumps(table))
    limits = thresholds_for("mini", "oil", 0.01, tmp_path / "table.json", judges=["arcface"])
    assert limits.statistics is not None
    verdicts = {}
    for style in drawn:
        new = pictures(2.0 if style == "oil" else 0.5).features
        measures = [(style_distance(x, limits.statistics), style_lead(x, limits.statistics)) for x in new]
        assert np.mean([distance <= limits.statistics.limit for distance, _ in measures]) > 0.9
        sure = Measurement(similarity={"arcface": 0.6}, face_found=True, style_on_face=0.4, burned=0.0)
        verdicts[style] = np.mean(
            [decide(replace(sure, style_distance=d, style_lead=lead), limits).accepted for d, lead in measures]
        )
    print(verdicts)
    assert verdicts["oil"] > 0.9
    assert verdicts["pastel"] < 0.05
    alone = style_statistics({"oil": drawn["oil"]})["oil"]
    assert alone is not None
    assert alone["lead"] is None  # nothing to be told from


@pytest.mark.slow
def test_the_judge_reads_the_statistics_that_calibration_writes(
    people: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in DEGRADATIONS:  # to the fakes a person is a color: in another light it would be somebody else
        monkeypatch.setitem(DEGRADATIONS, kind, lambda photo: photo)
    table, _ = calibrate_people(lambda photo, knobs, seed: restyled(photo, 1), people)
    entry = table["styles"]["oil"]["style_statistics"]
    assert entry["pictures"] == 24
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table))
    limits = thresholds_for("mini", "oil", 0.1, path)
    assert limits.statistics is not None
    assert limits.statistics.limit == entry["limit"]
    assert limits.style == "oil"
    assert table["styles"]["oil"]["features_shown"]["pictures"] == 24
    assert limits.features_shown == table["styles"]["oil"]["features_shown"]["limit"]


@pytest.mark.slow
def test_a_style_check_that_other_styles_pass_is_named_to_the_evaluator_and_the_creator(
    people: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A generator that draws watercolor as it draws oil: the check of neither can tell."""
    for kind in DEGRADATIONS:
        monkeypatch.setitem(DEGRADATIONS, kind, lambda photo: photo)
    table, generator = calibrate_people(
        lambda photo, knobs, seed: restyled(photo, 1), people, styles=["oil", "watercolor"]
    )
    calibration = CalibrationTable.model_validate(table)
    assert list(weak_checks(calibration)["oil"]) == ["watercolor"]
    assert "oil: the check of the style is weak: " in caplog.text
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table))
    loop = fake_loop(generator)
    (subject,) = loop.subjects(a_photo())
    record = loop.stylize(subject, "oil", Settings(thresholds=str(path), far=0.1)).record
    assert record.limits.styles_not_told_apart == weak_checks(calibration)["oil"]
    assert "does not tell it from every style: " in explain(record)
    assert "of watercolor portraits would pass too" in explain(record)
    strong = table["styles"]["oil"]["style_statistics"] | {"other_styles_rejected": {"watercolor": 0.95}}
    path.write_text(json.dumps(table | {"styles": {"oil": table["styles"]["oil"] | {"style_statistics": strong}}}))
    record = loop.stylize(subject, "oil", Settings(thresholds=str(path), far=0.1)).record
    assert "does not tell it from" not in explain(record)


def test_passing_in_words() -> None:
    assert format_confusable({"watercolor": 0.0, "oil": 0.278}) == "100% of watercolor, 72% of oil portraits"


def test_wilson_by_hand() -> None:
    low, high = wilson(36, 36)
    assert (round(low, 3), high) == (0.904, 1.0)
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(5, 10)
    assert low == pytest.approx(0.2366, abs=1e-4)
    assert high == pytest.approx(0.7634, abs=1e-4)


def test_equal_error_rate_by_hand() -> None:
    assert equal_error_rate(np.array([0.6, 0.7, 0.8, 0.9]), np.array([0.1, 0.2, 0.3, 0.4])) == 0
    assert equal_error_rate(np.array([0.3, 0.7, 0.8, 0.9]), np.array([0.1, 0.2, 0.25, 0.75])) == 0.25


def test_an_interval_over_pairs_is_wider_than_one_over_independent_scores() -> None:
    rng = np.random.default_rng(0)
    people = rng.normal(size=(20, 1))
    scores = people + rng.normal(size=(20, 20)) * 0.1
    low, high = bootstrap_pairs(scores, lambda x: float(x.mean()))
    assert high - low > 3 * (2 * 1.96 * scores.std() / 20)


def test_copies_are_pictures_of_the_photo_s_size() -> None:
    photo = a_photo().pixels
    copied = copies(photo, np.random.default_rng(0))
    assert len(copied) >= 8
    assert all(c.shape == photo.shape == (SIZE, SIZE, 3) and c.dtype == np.uint8 for c in copied.values())


def passes_gate(scores: dict[str, np.ndarray], limits: Thresholds, photo: int, portrait: int) -> bool:
    similarity = {judge: float(values[photo, portrait]) for judge, values in scores.items()}
    return decide(Measurement(similarity=similarity, face_found=True, style_on_face=1.0, burned=0.0), limits).accepted


def test_portrait_calibrate_measures_mini_on_the_six_faces(
    photos: Path,
    mini: AttemptLoop,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With real portraits by the real judges: the rate that the table names is that of what the loop decides by it."""
    from portrait.images import read_photo

    samples: list[Sample] = []

    def keep(sample: Sample, rates: Sequence[float], **options: Any) -> dict[str, Any]:
        samples.append(sample)
        return thresholds_from(sample, rates, **options)

    monkeypatch.setattr("portrait.calibrate.thresholds.thresholds_from", keep)
    t1: Photo = read_photo(photos / "t1.png")
    for subject in mini.subjects(t1, "each"):
        x1, y1, x2, y2 = subject.face.bbox
        grow = 0.6 * max(x2 - x1, y2 - y1)
        left, top = (max(0, int(v - grow)) for v in (x1, y1))
        crop = t1.pixels[top : int(y2 + grow), left : int(x2 + grow)]
        write_picture(tmp_path / "people" / f"{subject.index}.png", np.ascontiguousarray(crop))
    output = tmp_path / "table.json"
    curves = tmp_path / "curves.json"
    command = ["calibrate", "--subjects", str(tmp_path / "people"), "--style", "sketch", "--far", "0.2"]
    command += ["--curve-people", "4", "--curves", str(curves)]
    assert main([*command, "-o", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "sketch: along the dial arcface, dlib, style_on_face" in printed
    assert f"--thresholds {output} --curves {curves}" in printed
    table = json.loads(output.read_text())
    assert table["weights"] == mini.generator.digests
    assert thresholds_for("mini", "sketch", 0.2, output, mini.generator.digests).identity.keys() == {"arcface", "dlib"}
    gate = table["styles"]["sketch"]["gates"][0]
    assert gate["judges"] == ["arcface", "dlib"]
    assert set(gate["rates"]["0.2"]["along_dial"]) == {"0", "0.25", "0.5", "0.75", "1"}
    limits = thresholds_for("mini", "sketch", 0.2, output, mini.generator.digests)
    scores = samples[0].styles["sketch"].scores
    passed = np.array([[passes_gate(scores, limits, photo, portrait) for portrait in range(6)] for photo in range(6)])
    is_own = np.eye(6, dtype=bool)
    print(scores, passed)
    assert passed[~is_own].mean() == pytest.approx(gate["rates"]["0.2"]["far"], abs=1e-4)
    assert 0 < passed[~is_own].mean() <= 0.2
    assert passed[is_own].mean() == pytest.approx(gate["rates"]["0.2"]["tar"]["rate"], abs=1e-4)
    measured = json.loads(curves.read_text())
    assert len(measured["people"]) == 4
    limit = table["styles"]["sketch"]["style_on_face"]["limit"]
    assert table["styles"]["sketch"]["knobs"] == asdict(mini.knobs_for_balance("sketch", 0.5, limit, str(curves)))
    assert main([*command, "--only", str(tmp_path / "none.txt")]) == 2
    assert "none.txt" in capsys.readouterr().err


def test_curves_come_first_and_what_was_measured_before_is_not_measured_again(
    people: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = FakeGenerator(lambda photo, knobs, seed: restyled(photo))
    loop = fake_loop(generator)
    monkeypatch.setattr("portrait.cli.calibrate.load_loop", lambda *_, **__: loop)
    curves = tmp_path / "curves.json"
    command = ["calibrate", "--subjects", str(people[0].parent), "--style", "oil", "--far", "0.1"]
    command += ["--curves", str(curves), "-o", str(tmp_path / "thresholds.json"), "--curve-people", "4"]
    assert main(command) == 0
    first = len(generator.calls)
    assert first > 2 * 12
    assert "oil: along the dial" in capsys.readouterr().out
    assert main(command) == 0
    assert len(generator.calls) - first == 2 * 12
    assert f"oil: using the curves already in {curves}" in capsys.readouterr().out
    curves.write_text(json.dumps(json.loads(curves.read_text()) | {"weights": {"unet": "0"}}))
    assert main(command) == 2
    assert "other weights" in capsys.readouterr().err


def test_measurements_are_kept_on_request_and_give_tables_at_other_rates(
    people: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = FakeGenerator(lambda photo, knobs, seed: restyled(photo))
    loop = fake_loop(generator)
    monkeypatch.setattr("portrait.cli.calibrate.load_loop", lambda *_, **__: loop)
    output = tmp_path / "thresholds.json"
    command = ["calibrate", "--subjects", str(people[0].parent), "--style", "oil", "--curve-people", "4", "--quiet"]
    command += ["--curves", str(tmp_path / "curves.json"), "-o", str(output)]
    assert main([*command, "--far", "0.1", "--measured", str(tmp_path / "oil.jsonl")]) == 0
    drawn = len(generator.calls)
    assert main([*command, "--far", "0.2", "--measured", str(tmp_path / "oil.jsonl")]) == 0
    assert len(generator.calls) == drawn
    assert json.loads(output.read_text())["styles"]["oil"]["first_attempt_accepted"].keys() == {"0.2"}


def test_what_cannot_be_calibrated_is_refused_before_anything_is_loaded(
    people: list[Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portrait.cli.calibrate.load_loop", lambda *_, **__: pytest.fail("models were loaded"))
    command = ["calibrate", "--subjects", str(people[0].parent)]
    for flags, code, message in (
        (["--curve-people", "0"], 2, "--curve-people 0 is below 1"),
        (["--style", "oill"], 2, "did you mean oil"),
        (["--far", "0.01"], 1, "132 impostor pairs; a FAR of 0.01 needs 500"),
        (["--far", "low"], 2, "is not a list of numbers"),
        (["--seed", "-1"], 2, "--seed -1 is outside"),
    ):
        assert main([*command, *flags]) == code
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("kind", range(len(DEGRADATIONS)), ids=list(DEGRADATIONS))
def test_an_ordinary_photo_is_the_same_picture_in_another_light(kind: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3)).astype(np.uint8)
    soft = cv2.GaussianBlur(noise, (0, 0), 6)
    photo = rgb(np.interp(soft, (soft.min(), soft.max()), (20, 230)).astype(np.uint8))
    spoiled = degrade(photo, kind)
    assert spoiled.shape == photo.shape
    assert spoiled.dtype == np.uint8
    assert np.corrcoef(photo.mean(-1).ravel(), spoiled.mean(-1).ravel())[0, 1] > 0.95
    assert (kind == 0) == np.array_equal(spoiled, photo)
    assert np.array_equal(spoiled, degrade(photo, kind + len(DEGRADATIONS)))


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["-o", "a-file/table.json"], "cannot write to"),
        (["--curves", "a-file/curves.json"], "cannot write to"),
        (["--sheet", "sheet.gif"], "the suffix must be one of"),
    ],
)
def test_calibrate_proves_that_it_can_write_before_anything_is_made(
    people: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argv: list[str], says: str
) -> None:
    monkeypatch.setattr("portrait.cli.calibrate.load_loop", lambda *args, **keywords: pytest.fail("it is too late"))
    monkeypatch.chdir(people[0].parent)
    Path("a-file").write_text("")
    assert main(["calibrate", "--subjects", ".", "--far", "0.1", *argv]) == 2
    assert says in capsys.readouterr().err.splitlines()[-1]
