"""Previews of a picture as it forms: the estimates approach it, and previews do not change it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portrait.generate.diffusion import DiffusionGenerator
from portrait.generate.framing import frame_portrait
from portrait.images import Photo
from portrait.loop.attempt_loop import AttemptLoop
from portrait.recipes.load import load_recipe
from portrait.records import Embedding, Knobs, Preview, RgbImage


def mini_conditions(mini: AttemptLoop, astronaut: Photo, style: str = "watercolor") -> Any:
    (subject,) = mini.subjects(astronaut)
    framed = frame_portrait(astronaut.pixels, subject.face, "bust", mini.recipe.resolution)
    prompt = mini.recipe.style(style).prompt
    return mini.generator.prepare(framed.image, subject.identity.embeddings["arcface"], prompt)


def test_looking_does_not_change_the_picture_and_comes_close_to_it(mini: AttemptLoop, astronaut: Photo) -> None:
    conditions = mini_conditions(mini, astronaut)
    knobs = mini.recipe.knobs_at(0.5)
    estimates = dict[int, RgbImage]()

    def show(step: int, pictures: list[RgbImage]) -> None:
        estimates[step] = pictures[0]

    (plain,) = mini.generator.generate(conditions, knobs, [3])
    (watched,) = mini.generator.generate(conditions, knobs, [3], preview=Preview(steps=(1, 3), show=show))
    np.testing.assert_array_equal(plain, watched)
    assert set(estimates) == {1, 3}
    gaps = [float(np.abs(estimates[step].astype(int) - plain.astype(int)).mean()) for step in (1, 3)]
    print(gaps)
    assert gaps[1] < gaps[0] < 40


def test_an_error_between_the_steps_ends_the_denoising_and_leaves_the_pipeline_as_it_was(
    mini: AttemptLoop, astronaut: Photo
) -> None:
    class CancelledError(Exception):
        pass

    def show(step: int, pictures: list[RgbImage]) -> None:
        raise CancelledError

    conditions = mini_conditions(mini, astronaut)
    knobs = mini.recipe.knobs_at(0.5)
    steps = list[int]()
    (before,) = mini.generator.generate(conditions, knobs, [3])
    with pytest.raises(CancelledError):
        mini.generator.generate(
            conditions, knobs, [3], lambda step, total: steps.append(step), Preview(steps=(2,), show=show)
        )
    assert steps == [1, 2]
    np.testing.assert_array_equal(mini.generator.generate(conditions, knobs, [3])[0], before)


@pytest.mark.parametrize("scheduler", ["DDIM", "Euler", "DPM++", "LCM"])
def test_every_scheduler_gives_an_estimate(tiny_recipe: Path, scheduler: str) -> None:
    generator = DiffusionGenerator(replace(load_recipe(str(tiny_recipe)), scheduler=scheduler))
    picture = RgbImage(np.full((generator.recipe.resolution,) * 2 + (3,), 90, np.uint8))
    face = Embedding(np.full(512, 512**-0.5, np.float32))
    conditions = generator.prepare(picture, face, "oil")
    estimates: list[RgbImage] = []
    knobs = Knobs(
        strength=0.8,
        guidance_scale=2.0,
        ip_adapter_scale=0.5,
        controlnet_conditioning_scale=1.0,
        num_inference_steps=5,
    )
    plain = generator.generate(conditions, knobs, [1, 2])
    preview = Preview(steps=(2,), show=lambda step, pictures: estimates.extend(pictures))
    watched = generator.generate(conditions, knobs, [1, 2], preview=preview)
    assert len(estimates) == 1  # a batch on the CPU is drawn one by one, and the first is shown
    assert "step" not in vars(generator.pipe.scheduler)
    for a, b in zip(plain, watched, strict=True):
        np.testing.assert_array_equal(a, b)
