"""`mini`: Stable Diffusion's procedure, with networks that see the photo themselves."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch

from portrait.generate.families.mini.load import load_pipeline
from portrait.generate.families.mini.pipeline import MiniPipeline
from portrait.generate.families.mini.structure import condition_on_source
from portrait.generate.families.stable_diffusion.family import Conditions, StableDiffusion
from portrait.recipes.recipe import Recipe
from portrait.records import Knobs


class Mini(StableDiffusion):
    """The shipped model: its UNet sees the photo's latents, its decoder the photo, and the seed places the marks."""

    def _load_pipeline(self, recipe: Recipe, weights: torch.dtype) -> MiniPipeline:
        return load_pipeline(recipe, weights)

    def _looking_at_photo(
        self, conditions: Conditions, knobs: Knobs, seeds: Sequence[int]
    ) -> AbstractContextManager[None]:
        count = len(seeds)
        latents = conditions.latents.repeat(count, 1, 1, 1)
        photos = conditions.picture.repeat(count, 1, 1, 1)
        level = knobs.controlnet_conditioning_scale
        return condition_on_source(self.pipe, latents, photos, level, seeds, conditions.size)
