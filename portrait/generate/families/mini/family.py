"""`mini`: Stable Diffusion's procedure, with networks that see the photo themselves, its background blurred."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch

from portrait.generate.families.mini.load import load_pipeline
from portrait.generate.families.mini.pipeline import MiniPipeline
from portrait.generate.families.mini.structure import condition_on_source
from portrait.generate.families.mini.surroundings import without_outlines
from portrait.generate.families.stable_diffusion.family import Conditions, StableDiffusion
from portrait.generate.precision import Precision
from portrait.images import pixels_sha256
from portrait.recipes.recipe import Recipe
from portrait.records import Face, Knobs, RgbImage


class Mini(StableDiffusion):
    """The shipped model: its UNet sees the photo's latents, its decoder the photo, and the seed places the marks."""

    def __init__(self, recipe: Recipe, precision: Precision) -> None:
        super().__init__(recipe, precision)
        self._blurred: tuple[tuple[str, tuple[float, float] | None], RgbImage] | None = None

    def _seen(self, image: RgbImage, face: Face | None) -> RgbImage:
        """The photo without the outlines of its background; the last one is cached, because its styles share it."""
        key = (pixels_sha256(image), None if face is None else face.center)
        if self._blurred is None or self._blurred[0] != key:
            self._blurred = (key, without_outlines(image, face))
        return self._blurred[1]

    def clear_cache(self) -> None:
        """Drop what was made of the last photo."""
        super().clear_cache()
        self._blurred = None

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
