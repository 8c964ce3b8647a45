"""Z-Image: preparing its inputs, and drawing a batch of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from portrait.generate.control import control_image
from portrait.generate.families.family import OnStep, Request
from portrait.generate.families.flow_matching import noise_levels
from portrait.generate.families.qwen import QwenTextEncoder
from portrait.generate.families.qwen_family import QwenFamily
from portrait.generate.families.z_image.load import load_pipeline
from portrait.generate.families.z_image.pipeline import controlled
from portrait.generate.precision import Precision
from portrait.generate.preview import clean_estimates, step_callback
from portrait.recipes.recipe import Recipe
from portrait.records import Knobs, RgbImage


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conditions:
    """Everything that does not change between the attempts at one portrait, computed once.

    `photo` is the distribution of the photo's unscaled latents, (1, C, h, w), as diffusers' autoencoder gives it;
    `control` is the ControlNet's input, as scaled latents, (1, C, h, w); `prompt` is (T, D).
    """

    photo: Any
    control: Tensor | None
    prompt: Tensor


class ZImage(QwenFamily[QwenTextEncoder, tuple[Any, Tensor | None]]):
    """Z-Image-Turbo: img2img in few steps without guidance, and a ControlNet if the recipe names one."""

    def __init__(self, recipe: Recipe, precision: Precision) -> None:
        super().__init__(
            recipe,
            precision.weights,
            load_pipeline=load_pipeline,
            load_text=partial(QwenTextEncoder, states=(-2,), thinking=True, padded=False),
            prompt_width="cap_feat_dim",
        )
        self._control = recipe.control

    def prepare(self, request: Request) -> Conditions:
        """Encode the prompt and the photo; it has no negative prompt."""
        prompt = self.text.read(request.prompt)[0]
        photo, control = self._encode_photo(request)
        return Conditions(photo=photo, control=control, prompt=prompt.to(photo.mean))

    def _encode_photo(self, request: Request) -> tuple[Any, Tensor | None]:
        """The photo's latents and the ControlNet's input, from the cache if they are there."""

        def encode() -> tuple[Any, Tensor | None]:
            control = None
            if self.pipe.controlnet is not None:
                drawn = control_image(self._control, request.image, request.face)
                control = self._scaled(self._encode_batch(drawn).mode())
            return self._encode_batch(request.image), control

        return self._cached((request.image,), encode)

    def draw(self, conditions: Conditions, knobs: Knobs, seeds: Sequence[int], on_step: OnStep) -> Tensor:
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        photo = torch.cat([self._scaled(conditions.photo.sample(generator)) for generator in generators])
        pixels = photo.shape[-1] * self.pipe.vae_scale_factor
        with (
            controlled(self.pipe, conditions.control, knobs.controlnet_conditioning_scale),
            clean_estimates(self.pipe) as estimates,
        ):
            pictures: Tensor = self.pipe(
                image=photo,
                height=pixels,
                width=pixels,
                prompt_embeds=[conditions.prompt] * len(seeds),
                strength=1.0,  # the strength is in the noise levels
                sigmas=noise_levels(knobs),
                num_inference_steps=knobs.num_inference_steps,
                guidance_scale=0.0,
                generator=generators,
                output_type="pt",
                callback_on_step_end=step_callback(on_step, estimates, self._decode),
            ).images
        return pictures

    def reconstruct(self, image: RgbImage) -> Tensor:
        return self._decode(self._scaled(self._encode_batch(image).mode()))

    def _scaled(self, latents: Tensor) -> Tensor:
        """Scale the autoencoder's latents for the transformer."""
        about = self.pipe.vae.config
        return (latents - about.shift_factor) * about.scaling_factor

    def _decode(self, latents: Tensor) -> Tensor:
        """Decode scaled latents to (B, 3, S, S), about [-1, 1], as the pipeline decodes its final ones."""
        about = self.pipe.vae.config
        return self._decode_latents(latents.to(self._weights) / about.scaling_factor + about.shift_factor)
