"""The loop's benchmark: which attempts the arms share, what counts, and that the tables follow from the rows."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from portrait.calibrate.sample import SampleOptions, measure_sample
from portrait.calibrate.thresholds import thresholds_from
from portrait.judge.thresholds import Thresholds
from portrait.judge.verdict import Measurement
from portrait.loop.response import default_curves
from portrait.recipes.load import load_recipe
from portrait.records import Knobs, RgbImage
from tests.fakes import fake_loop, restyled
from tests.scripts import script


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    module = script("loop")
    module.thresholds_for = lambda recipe, style, far, judges: of_judges(limits(0.1, far), judges)  # type: ignore[attr-defined]
    return module


def of_judges(limits: Thresholds, judges: tuple[str, ...]) -> Thresholds:
    return replace(limits, identity={judge: limits.identity[judge] for judge in judges})


def limits(arcface: float, far: float) -> Thresholds:
    return Thresholds(identity={"arcface": arcface, "dlib": 0.95}, far=far, style_on_face=0.13, burned=0.1)


class Remembered:
    """A cache in which likeness rises with structure and style falls; it counts the attempts that are made."""

    def __init__(self, bench: ModuleType) -> None:
        recipe = load_recipe("mini")
        self.bench, self.made = bench, set[Any]()

        class Fake:
            class generator:
                @staticmethod
                def passes(knobs: Knobs) -> int:
                    return knobs.steps * (2 if knobs.guidance_scale > 1 else 1)

            def knobs_for_balance(self, style: str, balance: float) -> Knobs:
                return recipe.knobs_at(balance)

            def curves(self, style: str) -> Any:
                return default_curves(recipe.knobs_at(0.5), ["arcface", "dlib"], recipe.family_facts)

        self.loop = Fake()
        self.loop.recipe = recipe  # type: ignore[attr-defined]

    def attempt(self, photo: Path, style: str, knobs: Knobs, seed: int) -> Any:
        self.made.add((photo, style, knobs, seed))
        hold = knobs.controlnet_conditioning_scale
        measured = Measurement(
            similarity={"arcface": 0.4 * hold + 0.15, "dlib": 0.92 + 0.06 * hold},
            face_found=True,
            style_on_face=0.7 - 0.4 * hold,
            burned=0.0,
        )
        passes = self.loop.generator.passes(knobs)
        return self.bench.MeasuredAttempt(measured=measured, features=[0.0] * 12, passes=passes, seconds=passes / 8)

    def limits(self, photo: Path, style: str, far: float, judges: tuple[str, ...]) -> Thresholds:
        return of_judges(limits(0.46, far), judges)

    def limits_alone(self, photo: Path, style: str, far: float) -> dict[str, float]:
        return limits(0.46, far).identity


def test_arms_have_equal_budgets_and_share_their_attempts(bench: ModuleType) -> None:
    studio, rows = Remembered(bench), []
    setting = "balance 0.8, FAR 0.001"
    for person in ("a", "b"):
        for seed in (1, 2, 3):
            cell = bench.Cell(photo=Path(person), style="popart", seed=seed, setting=setting, budget=4)
            for arm in (*bench.BASELINES, *bench.LOOPS):
                key = {"person": person, "style": "popart", "seed": seed, "setting": setting, "arm": arm}
                rows.append(key | bench.run(studio, cell, arm))
    by_arm = {arm: [r for r in rows if r["arm"] == arm] for arm in (*bench.BASELINES, *bench.LOOPS)}
    assert {r["passes"] for r in by_arm["one shot"]} == {8}  # four steps, each with and without the prompt
    assert {r["passes"] for r in by_arm["one long shot"]} == {32}
    assert {r["passes"] for r in by_arm["best of N"]} == {32}
    assert all(r["passes"] <= 32 and r["attempts"] <= 4 for r in rows)
    fixed = load_recipe("mini").knobs_at(0.8)
    assert len([k for k in studio.made if k[2] == fixed]) == 2 * 6  # seeds 1 to 6: cells and arms share them
    tables = bench.tables(rows)[setting]
    assert tables["people"] == 2
    assert tables["portraits"] == 6
    shot, loop = tables["arms"]["one shot"], tables["arms"]["loop, until accepted"]
    assert shot["accepted"][0] == 0.0  # likeness 0.382 at balance 0.8; 0.46 is needed
    assert shot["seconds_per_accepted"] is None
    assert loop["accepted"][0] == 1.0
    gaps = tables["loop_minus"]["loop, until accepted"]["naive retry"]
    assert gaps["accepted"] == [1.0, 1.0, 1.0]
    assert gaps["seconds"][2] < 0
    assert "others_accept" not in gaps  # both judges decide
    assert tables["one_shot_by_shipped_limits"] == [1.0, 1.0, 1.0]  # limits that knew these people: 0.1
    assert "| loop, until accepted | 100% (100% to 100%)" in bench.markdown({setting: tables})


def test_the_judge_that_did_not_decide_is_asked_afterwards(bench: ModuleType) -> None:
    setting = "balance 0.8, FAR 0.001, ArcFace decides"
    cell = bench.Cell(photo=Path("a"), style="popart", seed=1, setting=setting, budget=4)
    result = bench.run(Remembered(bench), cell, "loop, until accepted")
    assert result["accepted"]
    assert result["others_accept"] in (0.0, 1.0)
    assert result["dlib"] is not None


def test_paired_differences_tell_what_the_other_judge_accepts(bench: ModuleType) -> None:
    setting, studio = "balance 0.8, FAR 0.001, ArcFace decides", Remembered(bench)
    rows = []
    for person in ("a", "b"):
        cell = bench.Cell(photo=Path(person), style="popart", seed=1, setting=setting, budget=4)
        for arm in (*bench.BASELINES, *bench.LOOPS):
            rows.append({"person": person, "setting": setting, "arm": arm} | bench.run(studio, cell, arm))
    tables = bench.tables(rows)
    arms, gaps = tables[setting]["arms"], tables[setting]["loop_minus"]["loop, until best"]["one shot"]
    means = [arms[arm]["accepted_also_by_the_other_judge"][0] for arm in ("loop, until best", "one shot")]
    assert gaps["others_accept"][0] == means[0] - means[1]
    assert "accepted by the judge that did not decide" in bench.markdown(tables)


def test_an_attempt_that_the_passes_left_do_not_pay_for_is_not_made(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = Remembered(bench)
    unguided = replace(load_recipe("mini").knobs_at(0.8), guidance_scale=1.0)
    monkeypatch.setattr(studio.loop, "knobs_for_balance", lambda style, balance: unguided)
    cell = bench.Cell(photo=Path("a"), style="popart", seed=1, setting="balance 0.8, FAR 0.001", budget=2)
    result = bench.run(studio, cell, "loop, until best")
    assert result["passes"] <= 8  # two unguided pictures; a guided one would be 8 more after the first


@pytest.mark.slow
def test_nobody_has_a_part_in_their_own_limits(people: list[Path]) -> None:
    """A portrait that resembles everybody as much as its own person sets the limit for everybody but that person."""

    def paint(photo: RgbImage, knobs: Knobs, seed: int) -> RgbImage:
        return restyled(photo)

    loop = fake_loop(paint)
    sample = measure_sample(loop, people, SampleOptions(styles=["oil"], rates=[0.1]))
    pictures, name = sample.styles["oil"], list(sample.people)[3]
    scores = {judge: values.copy() for judge, values in pictures.scores.items()}
    for values in scores.values():
        values[:, 3] = values[3, :] = 1.0
    odd = replace(
        sample, styles={"oil": replace(pictures, scores=scores)}, copies={k: v.copy() for k, v in sample.copies.items()}
    )
    for values in odd.copies.values():
        values[3] = 0.9
    limits = [thresholds_from(s.without(name), [0.1], intervals=False) for s in (sample, odd)]
    assert json.dumps(limits[0]) == json.dumps(limits[1])
    assert thresholds_from(odd, [0.1])["styles"]["oil"]["recognisers"]["dlib"]["thresholds"]["0.1"] > 0.9999
    assert limits[0]["styles"]["oil"]["recognisers"]["dlib"]["impostor_pairs"] == 11 * 10
    assert name not in sample.without(name).people
    read = script("held_out_people")._sample(json.loads(json.dumps(asdict(sample), default=np.ndarray.tolist)))
    assert json.dumps(thresholds_from(read.without(name), [0.1], intervals=False)) == json.dumps(limits[0])


def test_people_for_verdicts_are_held_out_and_not_of_the_curves(tmp_path: Path) -> None:
    who = script("held_out_people")
    names = [line for line in who.HELD_OUT.read_text().splitlines() if line.endswith(".jpg")]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    chosen = [who.name_of(path) for path in who.for_verdicts(tmp_path)]
    assert set(chosen) == set(names) - who.measured_on()
    assert {name.partition("/")[0] for name in chosen[:2]} == {"female", "male"}


def test_a_broken_off_line_is_made_again_and_the_rest_is_kept(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Quiet:
        class generator:
            digests = {"unet": "1"}  # noqa: RUF012

            @staticmethod
            def passes(knobs: Knobs) -> int:
                return 8

    monkeypatch.setattr(bench, "load_loop", lambda *_, **__: Quiet())
    monkeypatch.setattr(bench, "left_out", lambda *_: {})
    values = {"similarity": {"arcface": 0.5}, "face_found": True, "style_on_face": 0.3, "burned": 0.0}
    row = {"measured": values, "features": [0.0], "seconds": 1.0}
    monkeypatch.setattr(bench.AttemptCache, "_make", lambda *_: row)
    knobs = load_recipe("mini").knobs_at(0.5)
    first = bench.AttemptCache(tmp_path, tmp_path, 1)
    first.attempt(Path("x/a.jpg"), "oil", knobs, 1)
    first.attempt(Path("x/a.jpg"), "oil", knobs, 1)
    assert first.new == 1
    with first.file.open("a") as file:
        file.write('{"key": "half')
    again = bench.AttemptCache(tmp_path, tmp_path, 1)
    again.attempt(Path("x/a.jpg"), "oil", knobs, 1)
    assert again.new == 0
    again.attempt(Path("x/a.jpg"), "oil", knobs, 2)
    assert len([line for line in first.file.read_text().splitlines() if line.endswith("}")]) == 2
    assert len(bench.AttemptCache(tmp_path, tmp_path, 1).rows) == 2
    assert json.loads(first.file.read_text().splitlines()[0])["weights"] != "1"
