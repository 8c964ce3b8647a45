"""FLUX.2 klein: preparing its inputs, and drawing a batch of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from portrait.errors import SettingsError
from portrait.generate.families.family import OnStep, Request
from portrait.generate.families.flow_matching import attention_bias, noise_levels
from portrait.generate.families.flux2.load import load_pipeline
from portrait.generate.families.flux2.pipeline import showing
from portrait.generate.families.flux2.single_file import has_scaled_layers
from portrait.generate.families.qwen import QwenTextEncoder
from portrait.generate.families.qwen_family import QwenFamily
from portrait.generate.precision import Precision
from portrait.generate.preview import clean_estimates, step_callback
from portrait.recipes.recipe import Recipe
from portrait.records import Knobs, RgbImage

TEXT_STATES = (9, 18, 27)
"""The hidden states of Qwen3 that make up the prompt, as in diffusers; later layers are not loaded."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conditions:
    """Everything that does not change between the attempts at one portrait, computed once.

    `latents` are the photo's, (1, C, h, w), patchified and not normalized, as the pipeline takes them; `pictures` those of
    the person's pictures, normalized, (1, C, h, w) each; `prompt` is (1, T, D).
    """

    latents: Tensor
    pictures: tuple[Tensor, ...]
    prompt: Tensor


class Flux2Klein(QwenFamily[QwenTextEncoder, tuple[Tensor, ...]]):
    """FLUX.2 klein: img2img that sees the photo and pictures of the person beside it, in few steps and without guidance."""

    def __init__(self, recipe: Recipe, precision: Precision) -> None:
        super().__init__(
            recipe,
            precision.weights,
            load_pipeline=load_pipeline,
            load_text=partial(QwenTextEncoder, states=TEXT_STATES, thinking=False, padded=True),
            prompt_width="joint_attention_dim",
        )

    def place(self, tier: str, device: torch.device) -> None:
        """Put the networks on the device as described in `families.text_encoder`.

        Raises:
            SettingsError: the device cannot hold them.
        """
        if device.type == "mps" and has_scaled_layers(self.pipe.transformer):
            raise SettingsError("Apple's GPUs do not support 8-bit weights; use the recipe klein4b, or --device cpu")
        super().place(tier, device)

    def prepare(self, request: Request) -> Conditions:
        """Encode the prompt, the photo and the pictures of the person; it has no negative prompt."""
        prompt = self.text.read(request.prompt)
        images = (request.image, *request.pictures)
        photo, *pictures = self._cached(images, lambda: tuple(map(self._encode, images)))
        mean, deviation = _statistics(self.pipe, photo)
        return Conditions(
            latents=photo,
            pictures=tuple((picture - mean) / deviation for picture in pictures),
            prompt=prompt.to(photo),
        )

    def _encode(self, image: RgbImage) -> Tensor:
        """Patchified latents of a picture, not normalized."""
        latents: Tensor = self.pipe._patchify_latents(self._encode_batch(image).mode())
        return latents

    def draw(self, conditions: Conditions, knobs: Knobs, seeds: Sequence[int], on_step: OnStep) -> Tensor:
        """See `Family.draw`.

        `controlnet_conditioning_scale` is how much attention the photo gets, `ip_adapter_scale` how much the pictures of the
        person get; at 0 they are not shown.
        """
        count = len(seeds)
        side = conditions.latents.shape[-1]
        photo_scale, person_scale = knobs.controlnet_conditioning_scale, knobs.ip_adapter_scale
        pictures = conditions.pictures if person_scale > 0 else ()
        lengths = [conditions.prompt.shape[1] + side * side, side * side * (photo_scale > 0)]
        lengths.append(sum(picture[0, 0].numel() for picture in pictures))
        scales = [1.0, photo_scale or 1.0, person_scale or 1.0]
        bias = attention_bias(lengths, scales, conditions.prompt)
        pixels = 8 * 2 * side
        with (
            showing(self.pipe, photo=photo_scale > 0, pictures=pictures),
            clean_estimates(self.pipe) as estimates,
        ):
            drawn: Tensor = self.pipe(
                image=conditions.latents.repeat(count, 1, 1, 1),
                mask_image=torch.ones(1, 1, pixels, pixels),
                prompt_embeds=conditions.prompt.repeat(count, 1, 1),
                strength=1.0,  # the strength is in the noise levels
                sigmas=noise_levels(knobs),
                num_inference_steps=knobs.num_inference_steps,
                guidance_scale=1.0,
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
                attention_kwargs=None if bias is None else {"attention_mask": bias},
                output_type="pt",
                callback_on_step_end=step_callback(
                    on_step, estimates, lambda packed: self._decode_packed(packed, side)
                ),
            ).images
        return drawn

    def reconstruct(self, image: RgbImage) -> Tensor:
        return self._decode(self._encode(image))

    def _decode_packed(self, packed: Tensor, side: int) -> Tensor:
        """Decode the transformer's normalized latents, (B, h * w, C), to (B, 3, S, S), about [-1, 1]."""
        latents = packed.transpose(1, 2).unflatten(2, (side, side))
        mean, deviation = _statistics(self.pipe, latents)
        return self._decode(latents * deviation + mean)

    def _decode(self, latents: Tensor) -> Tensor:
        return self._decode_latents(self.pipe._unpatchify_latents(latents.to(self._weights)))


def _statistics(pipe: Any, latents: Tensor) -> tuple[Tensor, Tensor]:
    """The autoencoder's mean and deviation of patchified latents, (1, C, 1, 1) each."""
    norm = pipe.vae.bn
    mean: Tensor = norm.running_mean.view(1, -1, 1, 1).to(latents)
    variance: Tensor = norm.running_var.view(1, -1, 1, 1) + pipe.vae.config.batch_norm_eps
    return mean, variance.sqrt().to(latents)
