"""The common part of families with a Qwen model as a text encoder: loading them, and few steps without guidance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from portrait.generate.families.loading import (
    check_resolution,
    load_loras,
    quiet_libraries,
    readable_errors,
    unlisted_digests,
)
from portrait.generate.families.text_encoder import TextEncoder
from portrait.generate.inputs import Cache, as_batch
from portrait.generate.prompts import prompt_warnings
from portrait.hub.files import verify_manifest
from portrait.images import pixels_sha256
from portrait.recipes.recipe import Recipe
from portrait.records import Knobs, RgbImage

Text = TypeVar("Text", bound=TextEncoder)
Encoded = TypeVar("Encoded")
"""What a family caches of its pictures."""


class QwenFamily(Generic[Text, Encoded]):
    """A `Family` without guidance, whose text encoder is a Qwen model; its conditions and how it draws are left to each.

    Args:
        recipe: Public models have their paths filled in; its base is a diffusers folder.
        weights: The dtype of the weights.
        load_pipeline: Loads the family's pipeline from recipe and dtype, without LoRAs.
        load_text: Loads the text encoder from the diffusers folder.
        prompt_width: The entry of the transformer's configuration that says how many values per token it takes.

    Raises:
        WeightsMissingError, WeightsCorruptError: a file is missing, differs from the manifest, or is not what the recipe
        says.
        SettingsError: the recipe's resolution does not fit its autoencoder, or it has LoRAs that its pipeline cannot take.
        MemoryLimitError: memory ran out.
    """

    def __init__(
        self,
        recipe: Recipe,
        weights: torch.dtype,
        *,
        load_pipeline: Callable[[Recipe, torch.dtype], Any],
        load_text: Callable[[Path, torch.dtype], Text],
        prompt_width: str,
    ) -> None:
        digests = dict(recipe.digests) or verify_manifest(recipe.base)
        with quiet_libraries(), readable_errors(recipe):
            self.pipe = load_pipeline(recipe, weights)
            self.pipe.set_progress_bar_config(disable=True)
            for network in self.pipe.components.values():
                if isinstance(network, torch.nn.Module):
                    network.eval().requires_grad_(False)
            self.text = load_text(recipe.base, weights)
            expected = self.pipe.transformer.config[prompt_width]
            if self.text.width != expected:
                raise ValueError(
                    f"its text encoder gives {self.text.width} values per token, but its transformer takes {expected}"
                )
        loras, notes = load_loras(self.pipe, recipe.loras, {})
        check_resolution(recipe, self.pipe.vae_scale_factor * 2)
        self.loras: Mapping[str, float] = loras
        self.digests: Mapping[str, str] = digests | unlisted_digests(recipe)
        self.notes = tuple(notes)
        self._weights = weights
        self._encoded = Cache[Encoded](1)

    def place(self, tier: str, device: torch.device) -> None:
        """Put the networks on the device as described in `families.text_encoder`."""
        self.text.place(self.pipe, tier, device)

    def text_warnings(self, prompt: str, negative_prompt: str) -> list[str]:
        """A sentence if the prompt is too long."""
        return prompt_warnings([self.text.tokenizer], prompt, "")

    def passes(self, knobs: Knobs) -> int:
        """One pass per step: there is no guidance."""
        return knobs.steps

    def clear_cache(self) -> None:
        self._encoded.clear()

    def _cached(self, images: tuple[RgbImage, ...], encode: Callable[[], Encoded]) -> Encoded:
        """The result of `encode` for these pictures; the last one is cached, because a photo's styles share it."""
        key = tuple(pixels_sha256(image) for image in images)
        return self._encoded.get(key, encode)

    def _encode_batch(self, image: RgbImage) -> Any:
        """The distribution of a picture's latents, (1, C, h, w), as diffusers' autoencoder gives it."""
        # Not channels last, for which torch sums a group in one part per thread, and rounds differently.
        batch = as_batch(image, self.pipe._execution_device).to(self._weights).contiguous()
        return self.pipe.vae.encode(batch).latent_dist

    def _decode_latents(self, unscaled: Tensor) -> Tensor:
        """Decode latents as the autoencoder takes them to (B, 3, S, S), about [-1, 1]."""
        decoded: Tensor = self.pipe.vae.decode(unscaled, return_dict=False)[0]
        return decoded.float()
