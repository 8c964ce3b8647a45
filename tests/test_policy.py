"""The policy and its prior: what it learns, what it chooses, when it ends; the dial along measured curves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portrait.calibrate.response import check_curves, measure_curves, merge_curves
from portrait.errors import SettingsError, TooFewPairsError
from portrait.files import write_json
from portrait.hub.files import mini_folder, verify_manifest
from portrait.judge.thresholds import Thresholds, thresholds_for
from portrait.loop.policy import Policy
from portrait.loop.response import KNOBS, STYLE, Curves, as_table, curves_for, default_curves, read_curves
from portrait.recipes.families import FAMILIES
from portrait.recipes.load import load_recipe
from portrait.records import Knobs, RgbImage
from portrait.records.curves import CurvesFile
from portrait.report.explain import explain
from tests.fakes import KNOBS as FIRST
from tests.fakes import RECIPE, fake_loop, restyled, run_loop

LIMITS = Thresholds(identity={"arcface": 0.4}, far=0.01, style_on_face=0.15, burned=0.05)
START = Knobs(
    strength=1.0, guidance_scale=1.5, ip_adapter_scale=1.0, controlnet_conditioning_scale=0.7, num_inference_steps=4
)


def a_world(**change: Any) -> Curves:
    """Structure trades likeness (0.3 to 0.7) for style (0.45 to 0.15); no other knob has an effect."""
    at = np.array([0.55, 0.7, 1.0])
    mean = np.array([[0.3, 0.45], [0.5, 0.3], [0.7, 0.15]])
    world = Curves(
        outputs=("arcface", STYLE),
        base=START,
        level=mean[1],
        effects={"controlnet_conditioning_scale": (at, mean - mean[1])},
        people=np.diag([0.1**2, 0.02**2]),
        residual=np.diag([0.02**2, 0.01**2]),
        slope_spread=0.1,
        dial=(np.array([0.0, 0.5, 1.0]), mean[::-1]),
        dial_outputs=("arcface", STYLE),
        measured=True,
    )
    return replace(world, **change)


def shows(world: Curves, knobs: Knobs, own: float) -> dict[str, float]:
    """The measurements of a person whose likeness is `own` above the mean."""
    likeness, style = world.level + world.changes([knobs])[0].sum(0)
    return {"arcface": float(likeness + own), STYLE: float(style)}


def reasons_of(seen: dict[str, float]) -> list[str]:
    low = ["identity_low:arcface"] if seen["arcface"] < 0.4 else []
    return low + (["not_stylized"] if seen[STYLE] < 0.15 else [])


def follow(own: float, until: str, attempts: int = 4, **settings: Any) -> tuple[list[Knobs], list[dict[str, float]]]:
    world = a_world()
    policy = Policy(world, START, LIMITS, until=until, **settings)
    knobs, tried, outcomes = START, [], []
    while True:
        tried.append(knobs)
        outcomes.append(shows(world, knobs, own))
        policy.learn(knobs, outcomes[-1], reasons_of(outcomes[-1]))
        proposed = policy.choose(attempts - len(tried)) if len(tried) < attempts else None
        if proposed is None:
            return tried, outcomes
        knobs = proposed[0]


def test_a_likely_person_needs_one_attempt() -> None:
    tried, _ = follow(0.0, "accepted")
    assert tried == [START]


def test_one_attempt_at_a_hard_person_shows_how_far_to_go() -> None:
    tried, outcomes = follow(-0.2, "accepted")  # likeness 0.3 at the start: passes only above a structure of 0.85
    assert len(tried) == 2  # a ladder of single steps would need three
    assert outcomes[-1]["arcface"] >= 0.4
    assert tried[-1].controlnet_conditioning_scale < 1.0  # no farther than needed: style counts
    assert outcomes[-1][STYLE] >= 0.16


def test_best_continues_to_the_most_stylized_picture_that_passes() -> None:
    tried, outcomes = follow(0.2, "best")  # an easy person: 0.5 at the most stylized end
    assert len(tried) >= 2
    accepted = [s for s in outcomes if not reasons_of(s)]
    assert max(s[STYLE] for s in accepted) > 0.42
    once, _ = follow(0.2, "accepted")
    assert once == [START]


def test_best_ends_when_nothing_more_is_to_be_expected() -> None:
    world = a_world()
    end = replace(START, controlnet_conditioning_scale=0.55)
    policy = Policy(world, end, LIMITS, until="best")
    policy.learn(end, shows(world, end, 0.3), [])
    assert policy.choose(10) is None
    assert policy.over == "no more style to be expected"


def test_with_one_attempt_left_it_plays_safer_than_with_many() -> None:
    world = a_world()
    policy = Policy(world, START, LIMITS, until="best")
    policy.learn(START, shows(world, START, -0.15), ["identity_low:arcface"])
    bold, safe = policy.choose(6), policy.choose(1)
    assert bold is not None
    assert safe is not None
    assert safe[1].accepted >= bold[1].accepted
    assert safe[1].style_on_face <= bold[1].style_on_face


def test_nothing_is_weighed_for_an_attempt_that_the_budget_does_not_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    world = a_world()
    policy = Policy(world, START, LIMITS)
    policy.learn(START, shows(world, START, -0.15), ["identity_low:arcface"])
    monkeypatch.setattr(Policy, "_outlook", None)
    assert policy.choose(0) is None
    assert policy.over == ""


def test_knobs_of_the_user_never_move() -> None:
    for fixed in (set(KNOBS), {"controlnet_conditioning_scale"}):
        tried, _ = follow(-0.3, "best", fixed=fixed)
        assert len(tried) == 4
        assert all(getattr(k, name) == getattr(START, name) for k in tried for name in fixed)


@pytest.mark.parametrize(
    ("reason", "knob", "side"),
    [
        ("burned", "guidance_scale", -1),
        ("broken_keep:pose", "controlnet_conditioning_scale", 1),
        ("swapped", "ip_adapter_scale", 1),
    ],
)
def test_a_reason_outside_the_model_moves_its_knob_by_a_step(reason: str, knob: str, side: int) -> None:
    policy = Policy(default_curves(FIRST, ["arcface"], FAMILIES["mini"]), FIRST, LIMITS)
    policy.learn(FIRST, {"arcface": 0.6, STYLE: 0.3}, [reason])
    proposed = policy.choose(3)
    assert proposed is not None
    assert side * (getattr(proposed[0], knob) - getattr(FIRST, knob)) > 0


@pytest.mark.parametrize(("style", "side"), [(0.4, 1), (0.2, -1)])
def test_a_face_off_the_style_goes_back_when_it_went_too_far_and_on_when_not(style: float, side: int) -> None:
    policy = Policy(a_world(slope_spread=0.5), START, LIMITS)
    policy.learn(START, {"arcface": 0.6, STYLE: style}, ["not_stylized:oil"])
    proposed = policy.choose(3)
    assert proposed is not None
    assert side * (proposed[0].controlnet_conditioning_scale - START.controlnet_conditioning_scale) > 0


def test_a_value_at_which_nearly_nobody_is_stylized_is_never_tried() -> None:
    """One step of four only tints the photo: anybody is recognized, but it is not the style."""
    at = np.array([0.25, 0.5, 1.0])
    tinted = np.array([[0.9, 0.1], [0.6, 0.25], [0.5, 0.3]])
    world = a_world(effects={"strength": (at, tinted - tinted[2])}, slope_spread=0.5)
    for style, allowed in ((0.15, {2, 3, 4}), (0.1, {1, 2, 3, 4})):  # deviation 0.022: at one step 0.1 +- 0.045
        limits = replace(LIMITS, style_on_face=style)
        policy, knobs, tried = Policy(world, START, limits), START, set[int]()
        for left in range(5, 0, -1):
            policy.learn(knobs, {"arcface": 0.2, STYLE: 0.3}, ["identity_low:arcface"])
            proposed = policy.choose(left)
            assert proposed is not None
            knobs = proposed[0]
            tried.add(knobs.steps)
        assert tried <= allowed
        assert {k.steps for k in policy._candidates} == allowed


def test_no_retry_of_mini_goes_to_one_step() -> None:
    """One step of four starts so close to the photo that the picture falls apart."""
    recipe = load_recipe("mini")
    for style in recipe.styles:
        curves = curves_for(recipe, style, ["arcface", "dlib"], verify_manifest(mini_folder()))
        policy = Policy(
            curves,
            recipe.knobs_at(0.5),
            thresholds_for("mini", style, 0.01, judges=["arcface", "dlib"]),
            with_enough_steps=recipe.with_enough_steps,
        )
        assert min(k.steps for k in policy._candidates) >= 2


def test_few_steps_are_few_strengths() -> None:
    world = a_world(effects={"strength": (np.array([0.25, 1.0]), np.array([[0.3, -0.1], [0.0, 0.0]]))})
    strengths = [replace(START, strength=v) for v in (0.3, 0.49, 0.5, 0.74, 1.0)]
    assert world.changes(strengths)[:, KNOBS.index("strength"), 0] == pytest.approx([0.3, 0.3, 0.2, 0.2, 0.0])
    candidates = Policy(world, START, LIMITS)._candidates
    assert sorted({k.steps for k in candidates}) == [1, 2, 3, 4]
    assert len({k.strength for k in candidates}) == 4


def test_opposite_rejections_bracket_the_structure() -> None:
    policy = Policy(a_world(slope_spread=0.5), START, LIMITS)
    low, high = (replace(START, controlnet_conditioning_scale=v) for v in (0.6, 0.95))
    policy.learn(low, {"arcface": 0.3, STYLE: 0.3}, ["identity_low:arcface"])
    policy.learn(high, {"arcface": 0.6, STYLE: 0.1}, ["not_stylized"])
    proposed = policy.choose(2)
    assert proposed is not None
    assert 0.6 <= proposed[0].controlnet_conditioning_scale <= 0.95


def test_the_posterior_is_that_of_bayesian_linear_regression() -> None:
    """One output, one coefficient that matters: by hand, prior N(0, p), noise r, seen d: mean d p / (p + r)."""
    world = a_world(effects={}, people=np.diag([0.04, 1e-9]), residual=np.diag([0.01, 1e-9]))
    policy = Policy(world, START, LIMITS)
    policy.learn(START, {"arcface": 0.5 + 0.1, STYLE: 0.3}, [])
    assert policy._regression._mean[0] == pytest.approx(0.1 * 0.04 / 0.05)
    assert policy._regression._cov[0, 0] == pytest.approx(0.04 * 0.01 / 0.05)


def test_the_choice_does_not_depend_on_chance() -> None:
    assert follow(-0.2, "best") == follow(-0.2, "best")


def test_the_whole_trail_is_in_the_record_and_is_explained(limits: str) -> None:
    portrait, _ = run_loop(lambda photo, knobs, seed: restyled(photo, 150), limits, max_attempts=2, until="best")
    assert portrait.record.policy.model_dump() == {"until": "best", "prior": "guesses", "ended": "attempts"}
    assert 0 <= portrait.record.attempts[1].forecast.accepted <= 1
    text = explain(portrait.record)
    assert "predicted: a chance of " in text
    assert "chosen by guesses and what each attempt showed; it ended with the last attempt" in text


def test_until_best_spends_the_budget_and_keeps_the_most_stylized(limits: str) -> None:
    def paint(photo: RgbImage, knobs: Knobs, seed: int) -> RgbImage:
        return restyled(photo) if seed != 2 else np.clip(restyled(photo).astype(int) // 2 * 2, 0, 255).astype(np.uint8)

    first, _ = run_loop(paint, limits, max_attempts=3)
    assert len(first.record.attempts) == 1
    best, _ = run_loop(paint, limits, max_attempts=3, until="best", curves="")
    assert len(best.record.attempts) == 3
    styles = [a.style_on_face for a in best.record.attempts if a.accepted]
    assert best.record.chosen_attempt.style_on_face == max(styles)


# ---- the dial


def test_equal_steps_of_the_dial_are_equal_steps_of_the_measured_trade() -> None:
    at = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    mean = np.array([[0.8, 0.2], [0.79, 0.21], [0.78, 0.22], [0.6, 0.3], [0.4, 0.4]])  # little, then much
    world = a_world(dial=(at, mean))
    trade = [
        (np.interp(world.position(b), at, mean[:, 1]) - 0.2) / 0.2
        + (0.8 - np.interp(world.position(b), at, mean[:, 0])) / 0.4
        for b in np.linspace(0, 1, 6)
    ]
    np.testing.assert_allclose(np.diff(trade), 0.4, atol=0.02)
    assert world.position(0.0) == 0.0
    assert world.position(1.0) == 1.0
    assert world.position(0.5) > 0.7


def test_the_dial_starts_where_a_picture_is_safely_a_portrait() -> None:
    world = a_world()
    start = world.position(0.0, style_limit=0.2)
    style = np.interp(start, world.dial[0], world.dial[1][:, 1])
    assert style == pytest.approx(0.2 + np.hypot(0.02, 0.01), abs=0.005)
    assert world.position(0.3, 0.2) > start
    assert a_world(dial=(np.zeros(0), np.zeros((0, 2)))).position(0.3, 0.2) == 0.3


def test_noise_does_not_turn_the_dial_back() -> None:
    at = np.linspace(0, 1, 5)
    mean = np.array([[0.8, 0.2], [0.7, 0.26], [0.72, 0.25], [0.6, 0.3], [0.5, 0.35]])
    places = [a_world(dial=(at, mean)).position(b) for b in np.linspace(0, 1, 21)]
    assert places == sorted(places)


# ---- measuring and reading


@pytest.mark.slow
def test_the_dial_is_the_same_whichever_judges_there_are() -> None:
    """A third judge that was measured, but is not installed, does not affect any picture."""
    at = np.array([0.0, 0.5, 1.0])
    mean = np.array([[0.7, 0.9, 0.15], [0.65, 0.4, 0.3], [0.3, 0.3, 0.45]])
    both = a_world(
        outputs=("arcface", "sface", STYLE),
        level=mean[1],
        effects={},
        people=np.eye(3) / 1e4,
        residual=np.eye(3) / 1e4,
        dial=(at, mean),
        dial_outputs=("arcface", "sface", STYLE),
    )
    single = both.for_judges(["arcface"])
    assert single.outputs == ("arcface", STYLE)
    assert [single.position(b) for b in (0.0, 0.3, 0.8)] == [both.position(b) for b in (0.0, 0.3, 0.8)]


def test_measured_curves_read_back_what_the_pictures_showed(people: list[Path], tmp_path: Path) -> None:
    """A generator whose likeness only depends on guidance, with which it falls."""

    def paint(photo: RgbImage, knobs: Knobs, seed: int) -> RgbImage:
        return restyled(photo, int(20 * (knobs.guidance_scale - 1)) + seed % 3)

    loop = fake_loop(paint)
    table = measure_curves(loop, people[3:9], styles=["oil"])
    path = tmp_path / "mine.json"
    write_json(path, table.model_dump())
    assert read_curves(path) == table
    curves = curves_for(RECIPE, "oil", ["arcface", "dlib"], {}, path)
    assert curves.measured
    assert curves.outputs == ("arcface", "dlib", STYLE)
    at, change = curves.effects["guidance_scale"]
    assert (np.diff(change[:, 0]) < 0).all()
    assert at[0] == 1.0
    assert np.abs(curves.effects["ip_adapter_scale"][1]).max() < 1e-6
    assert (np.linalg.eigvalsh(curves.people) > 0).all()
    assert curves_for(RECIPE, "oil", ["dlib"], {}, path).outputs == ("dlib", STYLE)
    with pytest.raises(SettingsError, match="do not have this style"):
        curves_for(RECIPE, "watercolor", ["dlib"], {}, path)
    with pytest.raises(SettingsError, match="were measured with other weights"):
        curves_for(RECIPE, "oil", ["dlib"], {"unet": "0"}, path)
    with pytest.raises(TooFewPairsError, match="3 people are too few"):
        measure_curves(loop, people[:3], styles=["oil"])
    check_curves(table, loop)
    again = merge_curves(table, table.model_copy(update={"styles": {"watercolor": table.styles["oil"]}}))
    assert set(again.styles) == {"oil", "watercolor"}
    with pytest.raises(SettingsError, match="other weights"):
        check_curves(table.model_copy(update={"weights": {"unet": "0"}}), loop)


def test_damaged_curves_are_one_error(tmp_path: Path) -> None:
    whole = CurvesFile(
        recipe=RECIPE.name,
        base=START,
        styles={"oil": as_table(a_world())},
        seeds=(1,),
        failure_to_acquire=(),
        people={},
        weights={},
        versions={},
    )
    table = whole.model_dump()
    path = tmp_path / "c.json"
    path.write_text(json.dumps(table))
    assert curves_for(RECIPE, "oil", ["arcface"], {}, path).measured
    for broken in ("{", "[]", json.dumps(table | {"base": {}}), json.dumps(table | {"styles": {"oil": {}}})):
        path.write_text(broken)
        with pytest.raises(SettingsError, match="curves"):
            curves_for(RECIPE, "oil", ["arcface"], {}, path)
    table["styles"]["oil"]["level"] = [0.1]
    path.write_text(json.dumps(table))
    with pytest.raises(SettingsError, match="damaged"):
        curves_for(RECIPE, "oil", ["arcface"], {}, path)


def test_a_recipe_that_was_not_measured_starts_from_guesses() -> None:
    curves = curves_for(replace(RECIPE, name="elsewhere"), "oil", ["arcface", "dlib"], {"unet": "0"})
    assert not curves.measured
    more = replace(FIRST, ip_adapter_scale=FIRST.ip_adapter_scale + 0.2)
    change = curves.changes([more])[0].sum(0)
    assert change[0] == pytest.approx(0.03)
    assert change[1] == pytest.approx(0.003)
    assert change[2] == pytest.approx(-0.01)
    assert curves.position(0.3) == 0.3


def test_the_shipped_curves_are_written_again_byte_for_byte(tmp_path: Path) -> None:
    path = Path(__file__).parents[1] / "portrait" / "recipes" / "mini.curves.json"
    assert write_json(tmp_path / "again.json", read_curves(path).model_dump()).read_bytes() == path.read_bytes()


def test_shipped_curves_are_of_the_shipped_weights() -> None:
    path = Path(__file__).parents[1] / "portrait" / "recipes" / "mini.curves.json"
    table = json.loads(path.read_text())
    assert table["weights"] == verify_manifest(mini_folder())
    assert set(table["styles"]) <= set(load_recipe("mini").styles)
    held_out = (Path(__file__).parents[1] / "weights" / "training" / "held_out.txt").read_text().split("\n")
    assert set(table["people"]) <= set(held_out)
    steps = table["base"]["num_inference_steps"]
    for entry in table["styles"].values():  # strengths as they act, not as they were asked for
        assert all(float(v * steps).is_integer() for v in entry["knobs"]["strength"]["at"])
