"""Tests for every model family with a Qwen model as a text encoder, to be inherited by the tests of each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from portrait.generate.diffusion import DiffusionGenerator
from portrait.generate.families.qwen_family import QwenFamily
from portrait.recipes.override import with_overrides
from portrait.recipes.recipe import Recipe
from portrait.records import Embedding, Knobs, Preview, RgbImage

PROMPT = "an oil painting"
SIZE = 64
WHO = Embedding(np.full(512, 512**-0.5, np.float32))


def picture(seed: int, side: int = SIZE) -> RgbImage:
    rng = np.random.default_rng(seed)
    return RgbImage(np.asarray(Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).resize((side, side))))


PHOTO, ANNA, BO = picture(1), picture(2, 48), picture(3, 32)


def distance(a: RgbImage, b: RgbImage) -> float:
    return float(np.abs(a.astype(int) - b).mean())


def widest(a: RgbImage, b: RgbImage) -> int:
    return int(np.abs(a.astype(int) - b).max())


class QwenFamilyContract:
    """`recipe` and `generator` are fixtures of the module: the shipped recipe on a miniature, and its generator."""

    family: type[QwenFamily[Any, Any]]
    networks: frozenset[str]
    """What the pipeline moves to a device."""
    knobs: Knobs
    queries: str
    """How the transformer calls the layers that a LoRA of the test changes."""

    def prepared(self, generator: DiffusionGenerator) -> Any:
        """The conditions of a picture that uses all inputs of the family."""
        raise NotImplementedError

    def encode_text(self, family: QwenFamily[Any, Any]) -> None:
        """Encode a prompt that is not cached."""
        family.text.encode("a")

    def test_no_pixel_depends_on_threads(self, recipe: Recipe, generator: DiffusionGenerator) -> None:
        """Of a miniature: at full size, in float32, another number of threads may change a few (`DiffusionGenerator`)."""
        (single,) = generator.generate(self.prepared(generator), self.knobs, [3])
        two_threads = DiffusionGenerator(recipe, threads=2)
        try:
            (two,) = two_threads.generate(self.prepared(two_threads), self.knobs, [3])
            np.testing.assert_array_equal(single, two)
        finally:
            torch.set_num_threads(generator.threads)

    def test_previews_come_close_and_change_nothing(self, generator: DiffusionGenerator) -> None:
        conditions, previews = self.prepared(generator), dict[int, RgbImage]()
        (plain,) = generator.generate(conditions, self.knobs, [3])
        preview = Preview(steps=(1, 4), show=lambda step, pictures: previews.update({step: pictures[0]}))
        steps: list[tuple[int, int]] = []
        (watched,) = generator.generate(conditions, self.knobs, [3], lambda *at: steps.append(at), preview)
        np.testing.assert_array_equal(plain, watched)
        assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
        assert distance(previews[4], plain) <= 1  # the last estimate is the picture
        assert distance(previews[1], plain) > distance(previews[4], plain)

    def test_the_words_that_do_not_fit_are_named(self, generator: DiffusionGenerator) -> None:
        assert generator.warnings(PROMPT) == ()
        (note,) = generator.warnings("very " * 220 + "blue")  # the miniature's tokens are letters
        assert note.startswith("the prompt is longer than the ")
        assert note.endswith('blue"')

    def test_in_the_tier_offload_the_text_encoder_takes_the_place_of_the_others(
        self, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        family = DiffusionGenerator(recipe, threads=1).family
        assert isinstance(family, self.family)
        assert self.networks <= family.pipe.components.keys()
        moves: list[tuple[str, str]] = []
        monkeypatch.setattr(family.pipe, "to", lambda device: moves.append(("pipe", str(device))))
        monkeypatch.setattr(family.text.network, "to", lambda device: moves.append(("text", str(device))))
        family.place("offload", torch.device("cpu", 0))  # stands for a GPU: it has another name than the CPU
        self.encode_text(family)
        gpu = "cpu:0"
        assert moves == [
            ("text", "cpu"), ("pipe", gpu),  # placed
            ("pipe", "cpu"), ("text", gpu), ("text", "cpu"), ("pipe", gpu),
        ]  # fmt: skip

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    @pytest.mark.parametrize("tier", ["full", "offload", "sequential"])
    def test_each_tier_draws_the_same_picture_on_a_gpu(self, recipe: Recipe, tier: str) -> None:
        tiered = replace(recipe, memory=(1.0, 0.5, 0.25))
        pictures = {}
        for name in ("full", tier):
            tier_generator = DiffusionGenerator(tiered, threads=1, device="cuda", tier=name)
            pictures[name] = tier_generator.generate(self.prepared(tier_generator), self.knobs, [1])[0]
        assert widest(pictures["full"], pictures[tier]) <= 2

    def test_a_custom_lora_changes_the_picture(
        self, recipe: Recipe, generator: DiffusionGenerator, tmp_path: Path
    ) -> None:
        noise = torch.Generator().manual_seed(1)
        state = {}
        for name, module in generator.pipe.transformer.named_modules():
            if name.endswith(self.queries):
                state[f"transformer.{name}.lora_A.weight"] = torch.randn(4, module.in_features, generator=noise)
                state[f"transformer.{name}.lora_B.weight"] = torch.randn(module.out_features, 4, generator=noise)
        file = tmp_path / "ink.safetensors"
        save_file(state, file)
        custom = DiffusionGenerator(with_overrides(recipe, loras=[f"{file}:0.7"]), threads=1)
        name = list(custom.loras)[-1]
        assert custom.loras == generator.loras | {name: 0.7}
        assert "ink.safetensors" in custom.digests
        assert custom.warnings(PROMPT) == ()
        plain, inked = (one.generate(self.prepared(one), self.knobs, [1])[0] for one in (generator, custom))
        assert distance(plain, inked) > 0
