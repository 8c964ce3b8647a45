"""diffusers' img2img pipelines, adapted to take the results of `prepare` unchanged, and their samplers."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLImg2ImgPipeline,
)
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from portrait.recipes.recipe import Recipe

SCHEDULERS = {
    "DDIM": DDIMScheduler,
    "Euler": EulerDiscreteScheduler,
    "DPM++": DPMSolverMultistepScheduler,
    "LCM": LCMScheduler,
}


class _GivenConditions:
    """Replaces two steps of diffusers' img2img.

    `image` is always latents (the original recognizes latents by their 4 channels, and would encode ours again), and
    identity embeddings are taken as given, one per picture (the original repeats all of them for every picture, which mixes
    people in a batch).
    """

    scheduler: Any

    def prepare_latents(
        self,
        image: Tensor,
        timestep: Tensor,
        batch_size: int,
        num_images_per_prompt: int,
        dtype: torch.dtype,
        device: torch.device,
        generator: Any = None,
        add_noise: bool = True,
    ) -> Any:
        image = image.to(device=device, dtype=dtype)
        noise = randn_tensor(image.shape, generator=generator, device=device, dtype=dtype)
        return self.scheduler.add_noise(image, noise, timestep)

    def prepare_ip_adapter_image_embeds(
        self,
        ip_adapter_image: object,
        ip_adapter_image_embeds: list[Tensor],
        device: torch.device,
        num_images_per_prompt: int,
        do_classifier_free_guidance: bool,
    ) -> list[Tensor]:
        return [embeds.to(device) for embeds in ip_adapter_image_embeds]


class PortraitPipeline(_GivenConditions, StableDiffusionImg2ImgPipeline):
    """SD 1.5."""


class PortraitControlPipeline(_GivenConditions, StableDiffusionControlNetImg2ImgPipeline):
    """SD 1.5 with a ControlNet."""


class PortraitXLPipeline(_GivenConditions, StableDiffusionXLImg2ImgPipeline):
    """SDXL."""


class PortraitXLControlPipeline(_GivenConditions, StableDiffusionXLControlNetImg2ImgPipeline):
    """SDXL with a ControlNet."""


def pipeline_class(recipe: Recipe) -> Any:
    """The pipeline class of a recipe's family, with a ControlNet if the recipe uses one."""
    plain, controlled = PortraitPipeline, PortraitControlPipeline
    if recipe.family == "sdxl":
        plain, controlled = PortraitXLPipeline, PortraitXLControlPipeline
    return controlled if recipe.structure == "controlnet" else plain


def recipe_scheduler(recipe: Recipe, current: Any) -> Any:
    """The sampler that the recipe names, with the noise schedule of the pipeline's `current` one."""
    options: dict[str, str | bool] = {}
    if recipe.timestep_spacing:
        options["timestep_spacing"] = recipe.timestep_spacing
    if recipe.scheduler in ("DDIM", "LCM"):
        options["clip_sample"] = False  # latents are not pixels, but DDIM clips them by default
    return SCHEDULERS[recipe.scheduler].from_config(current.config, **options)
