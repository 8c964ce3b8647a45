"""All judges together: the rate is that of the gate, by numbers computed by hand and on simulated people."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portrait.calibrate.combine import combine_tables
from portrait.calibrate.gate import fused_gate, gates_table, llr_weights, passes, subsets
from portrait.calibrate.sample import SampleOptions
from portrait.calibrate.thresholds import calibrate_thresholds
from portrait.errors import SettingsError, TooFewPairsError
from portrait.judge.thresholds import Gate, calibrated_together, calibration_table, thresholds_for
from portrait.judge.verdict import Measurement, decide, describe_reason, describe_strangers
from portrait.loop.policy import Policy
from portrait.loop.response import default_curves, measured_judges
from portrait.recipes.families import FAMILIES
from portrait.recipes.load import load_recipe
from portrait.records import Knobs, RgbImage
from portrait.records.portrait import read_record
from portrait.report.explain import explain
from portrait.settings import Settings
from tests.fakes import KNOBS, LIMITS, a_photo, calibrate_people, fake_loop, restyled


def simulated(people: int, seed: int, separation: tuple[float, float] = (3.75, 1.7)) -> dict[str, np.ndarray]:
    """Scores of a strong and a weak judge with a correlation of 0.4, in standard deviations of the strangers."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(people, people, 2)) @ np.linalg.cholesky(np.array([[1, 0.4], [0.4, 1]])).T
    noise[np.arange(people), np.arange(people)] += separation
    return {"arcface": noise[..., 0], "dlib": noise[..., 1]}


def rates(gate: Gate, scores: dict[str, np.ndarray]) -> tuple[float, float]:
    """The false and the true accept rate."""
    passed = passes(gate, scores)
    is_own = np.eye(len(passed), dtype=bool)
    return float(passed[~is_own].mean()), float(passed[is_own].mean())


@pytest.mark.parametrize("rate", [0.01, 0.1])
def test_the_requested_rate_is_that_of_the_whole_gate(rate: float) -> None:
    sample, others = simulated(120, 0), simulated(200, 1)
    gate = fused_gate(sample, rate)
    assert rate * 0.95 <= rates(gate, sample)[0] <= rate
    assert rates(gate, others)[0] == pytest.approx(rate, rel=0.25)


def test_a_weak_judge_costs_few_right_pictures() -> None:
    sample, others = simulated(120, 0), simulated(200, 1)
    far, tar = rates(fused_gate(sample, 0.01), others)
    strict = {judge: float(np.quantile(values, 0.99)) for judge, values in sample.items()}
    each_at_its_own = rates(Gate(floors=strict, far=0.01), others)[1]
    print(far, tar, each_at_its_own)
    assert tar > 0.9
    assert each_at_its_own < 0.4


def test_no_judge_may_be_much_less_convinced_than_of_strangers() -> None:
    gate = fused_gate(simulated(120, 0), 0.01)
    sure = {"arcface": np.array([9.0]), "dlib": np.array([-2.0])}
    assert gate.evidence({judge: float(v[0]) for judge, v in sure.items()}) > gate.least
    assert not passes(gate, sure)[0]


def test_rates_are_reported_along_the_dial_as_strangers_become_more_similar() -> None:
    """Bold portraits resemble everybody a little: the limit holds over the whole dial, and the rates along it are reported."""
    scores = simulated(120, 0)
    positions = np.arange(120) % 2.0
    scores = {judge: values + 0.7 * positions for judge, values in scores.items()}
    (limits,) = gates_table(scores, [0.02], positions=positions, intervals=False)[:1]
    rate = limits["rates"]["0.02"]
    assert rate["along_dial"]["1"]["far"] > 2 * rate["along_dial"]["0"]["far"]
    assert np.mean([entry["far"] for entry in rate["along_dial"].values()]) == pytest.approx(rate["far"], abs=1e-5)
    assert "along_dial" not in gates_table(scores, [0.02], positions=np.zeros(120), intervals=False)[0]["rates"]["0.02"]


def test_more_likeness_never_counts_against_a_picture() -> None:
    """The second judge is the first one with more noise: an unconstrained fit would give it a weight below 0."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=4000)
    correlated = np.stack([signal, signal + 0.3 * rng.normal(size=4000)], -1)
    weights, _ = llr_weights(correlated[:300] + np.array([3.0, 1.0]), correlated)
    assert weights[0] > 0
    assert weights[1] == 0


def test_the_log_likelihood_ratio_by_hand() -> None:
    rng = np.random.default_rng(0)
    strangers, genuine = rng.normal(size=(200_000, 1)), rng.normal(size=(200_000, 1)) + 3
    weights, offset = llr_weights(genuine, strangers)
    assert weights[0] == pytest.approx(3, abs=0.05)  # log N(x; 3, 1) / N(x; 0, 1) = 3 x - 4.5
    assert offset == pytest.approx(-4.5, abs=0.1)


def test_too_few_people_are_an_error() -> None:
    with pytest.raises(TooFewPairsError, match="90 impostor pairs cannot show a FAR of 0.01"):
        fused_gate(simulated(10, 0), 0.01)


def test_there_is_a_gate_for_every_choice_of_judges_with_intervals_and_groups() -> None:
    scores = simulated(60, 0)
    women = ["f"] * 30 + ["m"] * 29 + [""]
    scores = {
        judge: values + 1.5 * (np.arange(60) // 30 == (np.arange(60) // 30)[:, None])
        for judge, values in scores.items()
    }
    gates = gates_table(scores, [0.05], {"sex": women}, intervals=True)
    assert [gate["judges"] for gate in gates] == [["arcface", "dlib"], ["arcface"], ["dlib"]]
    for gate in gates:
        limits = gate["rates"]["0.05"]
        low, high = limits["far_interval"]
        assert low <= limits["far"] <= min(high, 0.05)
        assert limits["tar"]["of"] == 60
        within = limits["within"]["sex"]
        assert within["same"]["far"] > 1.5 * limits["far"]  # the harder pairs are told beside the overall rate
        assert within["f"]["pairs"] == 30 * 29
        assert within["m"]["pairs"] == 29 * 28
        shares = [share for _, share in gate["strangers"]]
        assert shares == sorted(shares, reverse=True)
    assert len(subsets(["a", "b", "c"])) == 7


GATED: dict[str, Any] = {
    "burned": {"limit": 0.05},
    "styles": {
        "oil": {
            "style_on_face": {"limit": 0.15},
            "recognisers": {},
            "gates": [
                {
                    "judges": ["arcface", "dlib"],
                    "floors": {"arcface": 0.1, "dlib": 0.8},
                    "weights": {"arcface": 10, "dlib": 20},
                    "offset": -20,
                    "rates": {"0.01": {"least": 2.5}},
                },
                {"judges": ["dlib"], "rates": {"0.01": {"floors": {"dlib": 0.94}}}},
            ],
        }
    },
}


@pytest.fixture
def gated(tmp_path: Path) -> Callable[..., Path]:
    def write(table: dict[str, Any] = GATED) -> Path:
        path = tmp_path / "gated.json"
        path.write_text(json.dumps(table))
        return path

    return write


def measured(arcface: float, dlib: float) -> Measurement:
    return Measurement(similarity={"arcface": arcface, "dlib": dlib}, face_found=True, style_on_face=0.3, burned=0)


def test_what_one_judge_lacks_the_other_may_bring_but_not_below_its_floor(gated: Callable[..., Path]) -> None:
    limits = thresholds_for("mini", "oil", 0.01, gated())
    assert limits.identity == {"arcface": 0.1, "dlib": 0.8}
    assert decide(measured(0.5, 0.9), limits).accepted  # 5 + 18 - 20 = 3
    short = decide(measured(0.5, 0.85), limits)  # 2
    assert short.reasons == ("identity_low:together",)
    assert short.margin == pytest.approx(-0.5)
    assert "all judges together" in describe_reason(short.reasons[0])
    assert decide(measured(0.75, 0.85), limits).accepted
    assert decide(measured(0.99, 0.79), limits).reasons == ("identity_low:dlib",)
    assert decide(measured(0.05, 0.5), limits).reasons == ("identity_low:arcface", "identity_low:dlib")


def test_limits_hold_for_one_choice_of_judges_and_one_detector(gated: Callable[..., Path]) -> None:
    alone = thresholds_for("mini", "oil", 0.01, gated(), judges=["dlib"])
    assert alone.identity == {"dlib": 0.94}
    assert alone.evidence({"dlib": 0.9}) is None
    with pytest.raises(SettingsError, match=r"are for arcface \+ dlib; dlib, not for dlib \+ sface"):
        thresholds_for("mini", "oil", 0.01, gated(), judges=["sface", "dlib"])
    with pytest.raises(SettingsError, match="FAR 0.001 is not calibrated for mini / oil; calibrated: 0.01"):
        thresholds_for("mini", "oil", 0.001, gated())
    with pytest.raises(SettingsError, match="hold for faces located by det_500m, not by yunet"):
        thresholds_for("mini", "oil", 0.01, gated(), detector="yunet")
    with pytest.raises(SettingsError, match="hold for faces located by yunet, not by det_500m"):
        thresholds_for("mini", "oil", 0.01, gated(GATED | {"detector": "yunet"}), detector="det_500m")
    assert thresholds_for("mini", "oil", 0.01, detector="det_500m").gate is not None


@pytest.mark.parametrize(
    "broken", [{"weights": {"arcface": 1}}, {"floors": {"arcface": 0}}, {"weights": {"arcface": -1, "dlib": 1}}]
)
def test_a_damaged_gate_is_one_line(gated: Callable[..., Path], broken: dict[str, Any]) -> None:
    table = json.loads(json.dumps(GATED))
    table["styles"]["oil"]["gates"][0] |= broken
    with pytest.raises(SettingsError, match="are damaged"):
        thresholds_for("mini", "oil", 0.01, gated(table))


def test_figures_of_real_people_count_before_what_was_measured_on_others(gated: Callable[..., Path]) -> None:
    figures = {
        "source": "300 people, figures only",
        "styles": {
            "oil": {
                "gates": [{"judges": ["arcface", "dlib"], "rates": {"0.01": {"floors": {"arcface": 0.3, "dlib": 0.9}}}}]
            }
        },
    }
    rest = GATED | {"recipe": "mini", "source": "synthetic faces", "people": {"a": "0"}, "weights": {"unet": "1"}}
    both = combine_tables([figures, rest])
    limits = thresholds_for("mini", "oil", 0.01, gated(both))
    assert limits.identity == {"arcface": 0.3, "dlib": 0.9}
    assert limits.style_on_face == 0.15
    assert thresholds_for("mini", "oil", 0.01, gated(both), judges=["dlib"]).identity == {"dlib": 0.94}
    assert [source["source"] for source in both["sources"]] == ["300 people, figures only", "synthetic faces"]
    assert [gate["source"] for gate in both["styles"]["oil"]["gates"]] == [
        "300 people, figures only",
        "synthetic faces",
    ]
    with pytest.raises(SettingsError, match="no table has the limit of style_on_face of oil"):
        combine_tables([figures])
    with pytest.raises(SettingsError, match="different detector: det_500m and yunet"):
        combine_tables([rest | {"detector": "det_500m"}, rest | {"detector": "yunet"}])


def test_sface_judges_beside_the_others_only_where_limits_and_curves_know_it(
    gated: Callable[..., Path], tmp_path: Path
) -> None:
    judges = ["arcface", "dlib", "sface"]
    assert calibrated_together("mini", judges)
    assert not calibrated_together("mini", judges, gated())
    assert calibrated_together("mini", ["dlib", "arcface"], gated())
    table = json.loads(json.dumps(GATED))
    table["styles"]["oil"]["gates"].append({"judges": judges, "rates": {}})
    assert calibrated_together("mini", judges, gated(table))
    table["styles"]["sketch"] = GATED["styles"]["oil"]
    assert not calibrated_together("mini", judges, gated(table))  # not in every style
    assert measured_judges("mini") == {"arcface", "dlib", "sface"}
    assert measured_judges("sd15-faceid") == set()


def test_a_score_is_reported_as_the_number_of_strangers_who_would_be_as_similar(gated: Callable[..., Path]) -> None:
    table = json.loads(json.dumps(GATED))
    points = [[0.5, 0.001, 0.2], [0.3, 0.01, 0.1], [0.1, 0.1, 0.0]]
    table["styles"]["oil"]["recognisers"] = {"arcface": {"thresholds": {"0.01": 0.3}, "det": points}}
    limits = thresholds_for("mini", "oil", 0.01, gated(table))
    shares = [
        limits.strangers_like({"arcface": score, "dlib": 0.9})["arcface"] for score in (0.05, 0.1, 0.2, 0.3, 0.5, 0.9)
    ]
    assert shares == pytest.approx([1, 0.1, 0.0316, 0.01, 0.001, 0.001], rel=0.01)
    assert describe_strangers(0.0316) == "of 1,000 strangers, 32 would look this much like the photo"
    assert describe_strangers(0.0004) == "of 1,000 strangers, fewer than 1 would look this much like the photo"
    assert describe_strangers(1.0) == "of 1,000 strangers, more than 900 would look this much like the photo"


def test_the_shipped_table_has_strangers_at_the_limits_of_each_judge() -> None:
    table = calibration_table("mini", None)
    assert table is not None
    for style in load_recipe("mini").styles:
        limits = thresholds_for("mini", style, 0.01)
        each = {judge: entry.thresholds[0.01] for judge, entry in table.styles[style].recognizers.items()}
        assert each.keys() == {"arcface", "dlib", "sface"}
        for judge, share in limits.strangers_like(each).items():
            assert share == pytest.approx(0.01, rel=0.1), (style, judge)


def test_explanations_say_strangers_and_cosines_only_when_asked(people: list[Path], tmp_path: Path) -> None:
    table = tmp_path / "oil.json"
    table.write_text(json.dumps(calibrate_people(lambda photo, knobs, seed: restyled(photo), people)[0]))
    loop = fake_loop(lambda photo, knobs, seed: restyled(photo))
    (subject,) = loop.subjects(a_photo())
    record = loop.stylize(subject, "oil", Settings(thresholds=str(table), far=0.1, max_attempts=1)).record
    assert record.chosen_attempt.strangers.keys() == {"arcface", "dlib"}
    assert record.gate is not None
    assert record.chosen_attempt.evidence is not None
    assert read_record(record.to_json()) == record
    text, more = explain(record), explain(record, verbose=True)
    assert "likeness by arcface: of 1,000 strangers," in text
    assert "cosine" not in text
    assert "(cosine 1.000" in more
    assert "false accept rate 0.1 for all judges together" in text


def test_the_policy_expects_what_the_gate_asks_for(gated: Callable[..., Path]) -> None:
    curves = default_curves(KNOBS, ["arcface", "dlib"], FAMILIES["mini"])

    def chance(least: float) -> float:
        table = json.loads(json.dumps(GATED))
        table["styles"]["oil"]["gates"][0]["rates"]["0.01"]["least"] = least
        limits = thresholds_for("mini", "oil", 0.01, gated(table))
        return Policy(curves, KNOBS, limits).forecast(KNOBS).accepted

    assert chance(-100) > chance(4) > chance(100) == 0
    assert LIMITS.gate is None


def test_a_stopped_calibration_continues_and_keeps_no_embedding(people: list[Path], tmp_path: Path) -> None:
    journal = tmp_path / "oil.measured.jsonl"
    drawn: list[int] = []

    def paint(photo: RgbImage, knobs: Knobs, seed: int) -> RgbImage:
        drawn.append(seed)
        return restyled(photo)

    def stop(style: str, made: int, total: int, picture: RgbImage | None) -> None:
        if made == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate_people(paint, people, journal=journal, on_picture=stop)
    text = journal.read_text()
    assert "embedding" not in text
    assert len(text.splitlines()) == 1 + 9
    journal.write_text(text[:-20])  # the last line was cut off
    resumed, _ = calibrate_people(paint, people, journal=journal)
    assert len(drawn) == 9 + 24 - 8
    assert resumed["styles"] == calibrate_people(paint, people)[0]["styles"]
    with pytest.raises(SettingsError, match="is for other people, models or settings; delete it"):
        calibrate_people(paint, people, journal=journal, seed=2)
    journal.write_text("{\n")
    loop = fake_loop(paint)
    with pytest.raises(SettingsError, match="cannot read"):
        calibrate_thresholds(loop, people, SampleOptions(styles=["oil"], rates=[0.1], journal=journal))
