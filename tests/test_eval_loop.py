"""The loop's benchmark: what is shared between arms, what counts, and that the tables follow from the rows."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from portrait.curves import default_curves
from portrait.judge.thresholds import Thresholds
from portrait.judge.verdict import Measurement
from portrait.recipes.recipe import load_recipe
from portrait.records import Knobs

EVAL = Path(__file__).parents[1] / "eval"


def script(name: str) -> ModuleType:
    """A script of eval/ as a module."""
    sys.path.insert(0, str(EVAL))
    try:
        spec = importlib.util.spec_from_file_location(f"portrait_eval_{name}", EVAL / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(EVAL))
    return module


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    module = script("loop")

    def limits(recipe: str, style: str, far: float, **_: object) -> Thresholds:
        return Thresholds(identity={"arcface": 0.46, "dlib": 0.95}, far=far, style_on_face=0.13, burned=0.1)

    module.thresholds_for = limits  # type: ignore[attr-defined]
    return module


class Remembered:
    """A studio in which likeness rises with structure and style falls; it counts what was really made."""

    def __init__(self, bench: ModuleType) -> None:
        recipe = load_recipe("mini")
        self.bench, self.made = bench, set[Any]()

        class Fake:
            def dialled(self, style: str, balance: float) -> Knobs:
                return recipe.knobs_at(balance)

            def curves(self, style: str) -> Any:
                return default_curves(recipe.knobs_at(0.5), ["arcface", "dlib"])

        self.stylizer = Fake()
        self.stylizer.recipe = recipe  # type: ignore[attr-defined]

    def attempt(self, photo: Path, style: str, knobs: Knobs, seed: int) -> Any:
        self.made.add((photo, style, knobs, seed))
        hold = knobs.controlnet_conditioning_scale
        measured = Measurement(
            similarity={"arcface": 0.4 * hold + 0.15, "dlib": 0.92 + 0.06 * hold},
            face_found=True,
            style_on_face=0.7 - 0.4 * hold,
            burned=0.0,
        )
        steps = int(knobs.num_inference_steps * knobs.strength)
        return self.bench.Made(measured=measured, features=[0.0] * 12, steps=steps, seconds=float(steps))


def test_arms_have_equal_budgets_and_share_their_attempts(bench: ModuleType) -> None:
    studio, rows = Remembered(bench), []
    setting = "balance 0.8, FAR 0.001"
    for person in ("a", "b"):
        for seed in bench.SEEDS:
            cell = bench.Cell(photo=Path(person), style="popart", seed=seed, setting=setting, budget=4)
            for arm in (*bench.BASELINES, *bench.LOOPS):
                key = {"person": person, "style": "popart", "seed": seed, "setting": setting, "arm": arm}
                rows.append(key | bench.run(studio, cell, arm))
    by_arm = {arm: [r for r in rows if r["arm"] == arm] for arm in (*bench.BASELINES, *bench.LOOPS)}
    assert {r["steps"] for r in by_arm["one shot"]} == {4}
    assert {r["steps"] for r in by_arm["one long shot"]} == {16}
    assert {r["steps"] for r in by_arm["best of N"]} == {16}
    assert all(r["steps"] <= 16 for r in rows)
    fixed = load_recipe("mini").knobs_at(0.8)
    assert len([k for k in studio.made if k[2] == fixed]) == 2 * 6  # seeds 1 to 6: cells and arms share them
    found = bench.tables(rows)[setting]
    assert found["people"] == 2
    assert found["portraits"] == 6
    shot, loop = found["arms"]["one shot"], found["arms"]["loop, until accepted"]
    assert shot["accepted"][0] == 0.0  # likeness 0.382 at balance 0.8; 0.46 is needed
    assert shot["seconds_per_accepted"] is None
    assert loop["accepted"][0] == 1.0
    assert found["loop_minus"]["loop, until accepted"]["naive retry"]["accepted"] == [1.0, 1.0, 1.0]
    assert "| loop, until accepted | 100% (100% to 100%)" in bench.markdown({setting: found})


def test_the_judge_that_did_not_decide_is_asked_afterwards(bench: ModuleType) -> None:
    setting = "balance 0.8, FAR 0.001, ArcFace decides"
    cell = bench.Cell(photo=Path("a"), style="popart", seed=1, setting=setting, budget=4)
    result = bench.run(Remembered(bench), cell, "loop, until accepted")
    assert result["accepted"]
    assert result["others_accept"] in (0.0, 1.0)
    assert result["dlib"] is not None


def test_a_broken_off_line_is_made_again_and_the_rest_is_kept(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Quiet:
        class generator:
            digests = {"unet": "1"}  # noqa: RUF012

    monkeypatch.setattr(bench.Stylizer, "from_recipe", lambda *_, **__: Quiet())
    values = {"similarity": {"arcface": 0.5}, "face_found": True, "style_on_face": 0.3, "burned": 0.0}
    row = {"measured": values, "features": [0.0], "seconds": 1.0}
    monkeypatch.setattr(bench.Studio, "_make", lambda *_: row)
    knobs = load_recipe("mini").knobs_at(0.5)
    first = bench.Studio(tmp_path, 1)
    first.attempt(Path("x/a.jpg"), "oil", knobs, 1)
    first.attempt(Path("x/a.jpg"), "oil", knobs, 1)
    assert first.new == 1
    with first.file.open("a") as file:
        file.write('{"key": "half')
    again = bench.Studio(tmp_path, 1)
    again.attempt(Path("x/a.jpg"), "oil", knobs, 1)
    assert again.new == 0
    again.attempt(Path("x/a.jpg"), "oil", knobs, 2)
    assert len([line for line in first.file.read_text().splitlines() if line.endswith("}")]) == 2
    assert len(bench.Studio(tmp_path, 1).known) == 2
    assert json.loads(first.file.read_text().splitlines()[0])["weights"] != "1"


@pytest.mark.parametrize(
    ("bad", "look", "noise", "says"),
    [
        (0.02, 0.5, 0.02, "looking costs more than it saves: off"),
        (0.5, 0.05, 0.02, "a cut pays"),
        (0.5, 0.05, 50.0, "looking costs more than it saves: off"),  # a preview that tells nothing
    ],
)
def test_the_cut_is_chosen_by_cost(bad: float, look: float, noise: float, says: str) -> None:
    decide, rows, rng = preview_decide(), [], np.random.default_rng(0)
    for person in range(60):
        for usual in (True, True, False, False):
            own = 0.6 if rng.random() > (bad if usual else 0.5) else 0.2
            final = {"arcface": own + rng.normal(0, 0.03), "dlib": 0.97 + rng.normal(0, 1e-3), "style_on_face": 0.3}
            final["style_on_face"] += rng.normal(0, 0.01)
            seen = {k: v + rng.normal(0, noise if k == "arcface" else 1e-3) for k, v in final.items()}
            row = {"person": person, "style": "oil", "total": 4, "seen": dict.fromkeys((1, 2, 3), seen), "final": final}
            rows.append(row | {"good": final["arcface"] > 0.5, "usual": usual})
    costs = {"step": 0.2, "look": look}
    assert decide(rows, costs, 0.001)["why"] == says
    few = [r for r in rows if r["person"] < 4]
    assert "too few to conclude anything" in decide(few, costs, 0.001)["why"]
    assert decide(few, costs, 0.001)["chosen"] is None


def preview_decide() -> Any:
    return script("preview").decide
