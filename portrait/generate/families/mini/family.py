"""`mini` in torch: Stable Diffusion's procedure, with networks that see the photo themselves, its background blurred."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from portrait.generate.families.mini.marks.autoencoder import MarkAutoencoder
from portrait.generate.families.mini.seen import LastSeen
from portrait.generate.families.mini.structure import MarkUNet, condition_on_source
from portrait.generate.families.stable_diffusion.family import Conditions, StableDiffusion
from portrait.generate.families.stable_diffusion.load import load_pipeline
from portrait.generate.precision import Precision
from portrait.recipes.recipe import Recipe
from portrait.records import Face, Knobs, RgbImage

NETWORKS = {network.__name__: network for network in (MarkUNet, MarkAutoencoder)}


class Mini(StableDiffusion):
    """The shipped model: its UNet sees the photo's latents, its decoder the photo, and the seed places the marks."""

    def __init__(self, recipe: Recipe, precision: Precision) -> None:
        super().__init__(recipe, precision)
        self._takes_guides = bool(getattr(self.pipe.vae.config, "guided", False))
        self._last_seen = LastSeen(self._takes_guides)

    def _seen(self, image: RgbImage, face: Face | None) -> tuple[RgbImage, torch.Tensor | None]:
        """The photo without the outlines of its background; a guided decoder gets guides and a kind light."""
        seen = self._last_seen.of(image, face)
        guides = torch.from_numpy(seen.guides)[None].to(self.pipe._execution_device) if self._takes_guides else None
        return seen.picture, guides

    def clear_cache(self) -> None:
        """Drop what was made of the last photo."""
        super().clear_cache()
        self._last_seen.clear()

    def place(self, tier: str, device: torch.device) -> None:
        """Put all networks on the device, whatever the tier: they are small, and the VAE is called in parts."""
        super().place("full", device)

    def _load_pipeline(self, recipe: Recipe, weights: torch.dtype) -> Any:
        return load_pipeline(recipe, weights, NETWORKS)

    def _looking_at_photo(
        self, conditions: Conditions, knobs: Knobs, seeds: Sequence[int]
    ) -> AbstractContextManager[None]:
        count = len(seeds)
        latents = conditions.latents.repeat(count, 1, 1, 1)
        photos = conditions.picture.repeat(count, 1, 1, 1)
        guides = None if conditions.guides is None else conditions.guides.repeat(count, 1, 1, 1)
        level = knobs.controlnet_conditioning_scale
        return condition_on_source(self.pipe, latents, photos, level, seeds, conditions.size, guides)
