"""Giving a hopeless attempt up part-way: the rule, the loop, the record, and the engine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portrait.generate.diffusion import Conditions, DiffusionGenerator
from portrait.generate.framing import frame_portrait
from portrait.images import Photo
from portrait.loop import stylizer as loop
from portrait.loop.foresight import Foresight, foresight_for
from portrait.loop.stylizer import Stylizer
from portrait.recipes.load import load_recipe
from portrait.records import Knobs, Preview, RgbImage, StoppedEarly
from portrait.report.explain import explain
from portrait.settings import Settings
from tests.fakes import RECIPE, FakeAnalyzer, FakeGenerator, FakeReferee, a_photo, restyled

LINES = {name: (0.0, 1.0, 0.05) for name in ("arcface", "dlib", "style_on_face")}


def mini_conditions(mini: Stylizer, astronaut: Photo, style: str = "watercolor") -> tuple[Conditions, RgbImage]:
    (subject,) = mini.subjects(astronaut)
    framed = frame_portrait(astronaut.pixels, subject.face, "bust", mini.recipe.resolution)
    prompt = mini.recipe.style(style).prompt
    return mini.generator.prepare(framed.image, subject.identity.embeddings["arcface"], prompt), framed.image


def test_the_chance_by_hand() -> None:
    foresight = Foresight(share=0.5, lines={"arcface": (0.1, 0.8, 0.1)}, least_chance=0.05)
    assert foresight.predicted({"arcface": 0.5}) == {"arcface": pytest.approx(0.5)}
    assert foresight.chance("arcface", 0.5, 0.5) == pytest.approx(0.5)
    assert foresight.chance("arcface", 0.5, 0.6) == pytest.approx(0.1587, abs=1e-4)  # one deviation
    assert foresight.doubted({"arcface": 0.5}, {"arcface": 0.6}) == []
    assert foresight.doubted({"arcface": 0.5}, {"arcface": 0.7}) == ["arcface"]
    assert [foresight.step_of(n) for n in (1, 2, 4, 30)] == [None, 1, 2, 15]


class Previewing(FakeGenerator):
    """Shows the finished picture half-way."""

    def on_the_way(self, pictures: list[RgbImage], on_step: object, preview: Preview | None) -> None:
        for step in preview.steps if preview else ():
            if preview is not None and preview.hopeless(step, pictures):
                raise StoppedEarly(step, pictures)


def stylize(
    paint: Any, limits: str, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> tuple[dict[str, Any], FakeGenerator]:
    cut = Foresight(share=0.5, lines=LINES, least_chance=0.05)
    monkeypatch.setattr(loop, "foresight_for", lambda recipe, weights: cut)
    generator = Previewing(paint)
    stylizer = Stylizer(RECIPE, generator, FakeAnalyzer(), [FakeReferee()])
    (subject,) = stylizer.subjects(a_photo())
    return stylizer.stylize(subject, "oil", Settings(thresholds=limits, **settings)).record, generator


def test_a_hopeless_attempt_is_given_up_and_the_record_says_where(limits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record, _ = stylize(lambda p, k, seed: restyled(p, 150 if seed == 1 else 0), limits, monkeypatch)
    first, second = record["attempts"]
    assert first["stopped_at_step"] == 3
    assert first["reasons"] == ["stopped_early", "identity_low:arcface", "identity_low:dlib"]
    assert not first["accepted"]
    assert second["stopped_at_step"] is None
    assert record["status"] == "accepted"
    assert record["chosen"] == 1
    text = explain(record)
    assert "given up after step 3 of 6" in text
    assert "seen in the unfinished picture" in text


def test_one_attempt_is_always_finished(limits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record, _ = stylize(lambda p, k, seed: restyled(p, 150), limits, monkeypatch, max_attempts=3)
    assert [a["stopped_at_step"] is None for a in record["attempts"]] == [False, False, True]
    assert record["chosen"] == 2
    assert record["status"] == "rejected"
    late, _ = stylize(lambda p, k, seed: restyled(p, 150), limits, monkeypatch, max_attempts=9, max_seconds=0)
    assert late["attempts"][late["chosen"]]["stopped_at_step"] is None


def test_a_batch_with_one_promising_picture_goes_on(limits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def paint(photo: RgbImage, knobs: Knobs, seed: int) -> RgbImage:
        return restyled(photo, 0 if seed == 2 else 150)

    record, _ = stylize(paint, limits, monkeypatch, batch=2)
    assert [a["stopped_at_step"] for a in record["attempts"]] == [None, None]
    assert record["status"] == "accepted"


def test_what_was_measured_for_other_weights_or_does_not_pay_is_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {"share": 0.5, "lines": {"arcface": [0, 1, 0.1]}, "least_chance": 0.05}
    monkeypatch.setattr("portrait.loop.foresight.resources.files", lambda _: tmp_path)
    file = tmp_path / "r.preview.json"
    assert foresight_for("r", {}) is None
    file.write_text(json.dumps({"weights": {"unet": "1"}, "chosen": chosen}))
    assert foresight_for("r", {"unet": "1"}) == Foresight(
        share=0.5, lines={"arcface": (0.0, 1.0, 0.1)}, least_chance=0.05
    )
    assert foresight_for("r", {"unet": "2"}) is None
    file.write_text(json.dumps({"weights": {"unet": "1"}, "chosen": None}))
    assert foresight_for("r", {"unet": "1"}) is None


# ---- the engine


def test_looking_does_not_change_the_picture_and_comes_close_to_it(mini: Stylizer, astronaut: Photo) -> None:
    conditions, _ = mini_conditions(mini, astronaut)
    knobs, seen = mini.recipe.knobs_at(0.5), dict[int, RgbImage]()

    def look(step: int, pictures: list[RgbImage]) -> bool:
        seen[step] = pictures[0]
        return False

    (plain,) = mini.generator.generate(conditions, knobs, [3])
    (looked,) = mini.generator.generate(conditions, knobs, [3], preview=Preview(steps=(1, 3), hopeless=look))
    np.testing.assert_array_equal(plain, looked)
    assert set(seen) == {1, 3}
    gaps = [float(np.abs(seen[s].astype(int) - plain.astype(int)).mean()) for s in (1, 3)]
    print(gaps)
    assert gaps[1] < gaps[0] < 40
    assert "step" not in vars(mini.generator.pipe.scheduler)  # type: ignore[attr-defined]


def test_giving_up_ends_the_denoising_and_leaves_the_pipeline_as_it_was(mini: Stylizer, astronaut: Photo) -> None:
    conditions, _ = mini_conditions(mini, astronaut)
    knobs, steps = mini.recipe.knobs_at(0.5), list[int]()
    (before,) = mini.generator.generate(conditions, knobs, [3])
    with pytest.raises(StoppedEarly) as stop:
        mini.generator.generate(
            conditions,
            knobs,
            [3],
            lambda step, total: steps.append(step),
            Preview(steps=(2,), hopeless=lambda *_: True),
        )
    assert steps == [1, 2]
    assert stop.value.step == 2
    assert stop.value.pictures[0].shape == before.shape
    np.testing.assert_array_equal(mini.generator.generate(conditions, knobs, [3])[0], before)


@pytest.mark.parametrize("scheduler", ["DDIM", "Euler", "DPM++", "LCM"])
def test_every_scheduler_gives_an_estimate(tiny_recipe: Path, scheduler: str) -> None:
    generator = DiffusionGenerator(replace(load_recipe(str(tiny_recipe)), scheduler=scheduler))
    picture = np.full((generator.recipe.resolution,) * 2 + (3,), 90, np.uint8)
    face = np.full(512, 512**-0.5, np.float32)
    conditions = generator.prepare(picture, face, "oil")
    seen: list[RgbImage] = []

    def look(step: int, pictures: list[RgbImage]) -> bool:
        seen.extend(pictures)
        return False

    knobs = Knobs(
        strength=0.8,
        guidance_scale=2.0,
        ip_adapter_scale=0.5,
        controlnet_conditioning_scale=1.0,
        num_inference_steps=5,
    )
    plain = generator.generate(conditions, knobs, [1, 2])
    looked = generator.generate(conditions, knobs, [1, 2], preview=Preview(steps=(2,), hopeless=look))
    assert len(seen) == 2
    for a, b in zip(plain, looked, strict=True):
        np.testing.assert_array_equal(a, b)
