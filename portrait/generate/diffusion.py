"""The one engine: img2img over a diffusers pipeline with a FaceID adapter, driven by a recipe."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, StableDiffusionImg2ImgPipeline, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils import logging as diffusers_logging
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from transformers.utils import logging as transformers_logging

from portrait.errors import SettingsError, WeightsCorruptError
from portrait.generate.adapters import identity_adapter, identity_embeds, load_faceid
from portrait.generate.autoencoder import PatchAutoencoder
from portrait.generate.structure import SourceUNet, hold_source
from portrait.recipes.recipe import Recipe
from portrait.records import Embedding, Knobs, RgbImage
from portrait.runtime import cpu_threads
from portrait.weights import sha256_of, verify_manifest

_UNETS: dict[str, Any] = {"UNet2DConditionModel": UNet2DConditionModel, "SourceUNet": SourceUNet}
_VAES: dict[str, Any] = {
    "AutoencoderKL": AutoencoderKL,
    "AutoencoderTiny": AutoencoderTiny,
    "PatchAutoencoder": PatchAutoencoder,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conditions:
    """All that does not change between the attempts at one portrait, computed once.

    `picture` is the photo, (1, 3, S, S) in [-1, 1]; `latents` are (1, C, h, w), scaled; `prompt` and
    `negative` (1, T, D) text embeddings.
    """

    picture: Tensor
    latents: Tensor
    prompt: Tensor
    negative: Tensor
    embedding: Embedding


class PortraitPipeline(StableDiffusionImg2ImgPipeline):
    """diffusers' img2img, with two of its steps replaced.

    `image` is always latents (the original knows latents by having 4 channels, and would encode ours
    again); and identity embeddings are taken per picture, as given (the original repeats all of them
    for every picture, which mixes people in a batch).
    """

    def prepare_latents(
        self,
        image: Tensor,
        timestep: Tensor,
        batch_size: int,
        num_images_per_prompt: int,
        dtype: torch.dtype,
        device: torch.device,
        generator: Any = None,
    ) -> Tensor:
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
        return [e.to(device) for e in ip_adapter_image_embeds]


class DiffusionGenerator:
    """Makes pictures by a recipe.

    Args:
        recipe: Which models, which knobs.
        threads: torch threads; the bits of a picture depend on it, so the record names it.

    Raises:
        WeightsMissingError, WeightsCorruptError: a file is gone, differs from the manifest, or is not
            what the recipe says.
    """

    def __init__(self, recipe: Recipe, *, threads: int | None = None) -> None:
        self.recipe = recipe
        self.threads = threads or cpu_threads()
        torch.set_num_threads(self.threads)
        # Without AVX-512 torch computes bfloat16 convolutions far slower than float32.
        has_bf16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        self.dtype = "bfloat16" if recipe.autocast == "bfloat16" and has_bf16 else "float32"
        self.digests = verify_manifest(recipe.base)
        diffusers_logging.set_verbosity_error()
        transformers_logging.set_verbosity_error()
        diffusers_logging.disable_progress_bar()
        transformers_logging.disable_progress_bar()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.pipe = PortraitPipeline.from_pretrained(
                    str(recipe.base),
                    unet=_load_part(recipe.base / "unet", _UNETS),
                    vae=_load_part(recipe.base / "vae", _VAES),
                    dtype=torch.float32,
                    local_files_only=True,
                    safety_checker=None,
                    requires_safety_checker=False,
                )
        except Exception as error:  # json, safetensors, transformers and diffusers each raise their own
            why = " ".join(str(error).split())[:300]
            raise WeightsCorruptError(f"{recipe.base} is not a diffusers folder that loads: {why}") from error
        load_faceid(self.pipe, recipe.adapter)
        inside = recipe.adapter.is_relative_to(recipe.base)
        name = recipe.adapter.relative_to(recipe.base).as_posix() if inside else recipe.adapter.name
        self.digests.setdefault(name, sha256_of(recipe.adapter))
        self.sampler = type(self.pipe.scheduler).__name__.removesuffix("Scheduler")
        factor = self.pipe.vae_scale_factor
        if recipe.resolution < 64 or recipe.resolution % factor:
            raise SettingsError(f"recipe {recipe.name}: resolution {recipe.resolution} is not a multiple of {factor}")
        if recipe.structure == "source_latents" and not isinstance(self.pipe.unet, SourceUNet):
            raise WeightsCorruptError(f"recipe {recipe.name} holds source latents, but its unet takes none")
        self.pipe.set_progress_bar_config(disable=True)
        for part in (self.pipe.unet, self.pipe.vae):
            part.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.pipe.image_processor = VaeImageProcessor(
            vae_scale_factor=self.pipe.vae_scale_factor, vae_latent_channels=self._latent_channels
        )

    @property
    def _latent_channels(self) -> int:
        return int(self.pipe.unet.config.out_channels)

    @torch.inference_mode()
    def prepare(self, image: RgbImage, embedding: Embedding, prompt: str, negative_prompt: str = "") -> Conditions:
        """Encode photo, prompt and identity once.

        Args:
            image: (S, S, 3) uint8 RGB at the recipe's resolution.
            embedding: Unit embedding by the recipe's recogniser.
            prompt: What the style says.
            negative_prompt: What guidance moves away from.

        Raises:
            SettingsError: the embedding is not finite.
        """
        if not np.isfinite(embedding).all():
            raise SettingsError("the identity embedding is not finite; the photo's face cannot be used")
        picture = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        picture = picture.contiguous(memory_format=torch.channels_last)
        with self._autocast():
            encoded = self.pipe.vae.encode(picture)
            latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
            positive, negative = self.pipe.encode_prompt(
                prompt, torch.device("cpu"), 1, True, negative_prompt or self.recipe.negative_prompt
            )
        return Conditions(
            picture=picture,
            latents=latents.float() * self.pipe.vae.config.scaling_factor,
            prompt=positive.float(),
            negative=negative.float(),
            embedding=embedding,
        )

    @torch.inference_mode()
    def generate(
        self,
        conditions: Conditions,
        knobs: Knobs,
        seeds: Sequence[int],
        on_step: Callable[[int, int], None] | None = None,
    ) -> list[RgbImage]:
        """Make one picture per seed, as a batch; each seed has its own CPU generator.

        Args:
            conditions: From `prepare`.
            knobs: The knobs of this batch.
            seeds: One per picture.
            on_step: Called with (steps done, steps in all).

        Returns:
            (S, S, 3) uint8 RGB pictures, in the order of the seeds.

        Raises:
            SettingsError: the knobs leave no denoising step, or are out of range.
        """
        check_knobs(knobs)
        count = len(seeds)
        guided = (
            knobs.guidance_scale > 1 and self.pipe.unet.config.time_cond_proj_dim is None
        )  # as the pipeline decides
        latents = conditions.latents.repeat(count, 1, 1, 1)
        total = int(knobs.num_inference_steps * knobs.strength)

        def report(pipe: object, step: int, timestep: object, kwargs: dict[str, Any]) -> dict[str, Any]:
            if on_step is not None:
                on_step(step + 1, total)
            return kwargs

        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        covers = [torch.Generator("cpu").manual_seed(seed ^ 0x5EED) for seed in seeds]
        photos, level = conditions.picture.repeat(count, 1, 1, 1), knobs.controlnet_conditioning_scale
        with (
            self._autocast(),
            identity_adapter(self.pipe, knobs.ip_adapter_scale) as pipe,
            hold_source(pipe, latents, photos, level, covers),
        ):
            output = pipe(
                image=latents,
                prompt_embeds=conditions.prompt.repeat(count, 1, 1),
                negative_prompt_embeds=conditions.negative.repeat(count, 1, 1) if guided else None,
                ip_adapter_image_embeds=identity_embeds(conditions.embedding, count, guided),
                strength=knobs.strength,
                guidance_scale=knobs.guidance_scale,
                num_inference_steps=knobs.num_inference_steps,
                generator=generators,
                output_type="pt",
                callback_on_step_end=report,
            ).images
        pixels = (output.float().clamp(0, 1) * 255).round().to(torch.uint8)
        return list(pixels.permute(0, 2, 3, 1).cpu().numpy())

    @torch.inference_mode()
    def reconstruct(self, image: RgbImage) -> RgbImage:
        """The photo through the autoencoder alone, (S, S, 3) uint8: a copy, never a style."""
        picture = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        with self._autocast():
            out = self.pipe.vae(picture.contiguous(memory_format=torch.channels_last))[0]
        return ((out.float().clamp(-1, 1) + 1) * 127.5).round().byte()[0].permute(1, 2, 0).cpu().numpy()

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.dtype == "float32":
            return contextlib.nullcontext()
        return torch.autocast("cpu", torch.bfloat16)


def check_knobs(knobs: Knobs) -> None:
    """Raises SettingsError when a knob is out of range, or strength leaves no step to run."""
    for name, low, high in (
        ("strength", 0.0, 1.0),
        ("guidance_scale", 0.0, 30.0),
        ("ip_adapter_scale", 0.0, 3.0),
        ("controlnet_conditioning_scale", 0.0, 1.0),
        ("num_inference_steps", 1, 1000),
    ):
        value = getattr(knobs, name)
        if not low <= value <= high:
            raise SettingsError(f"{name} {value} is outside {low} to {high}")
    if int(knobs.num_inference_steps * knobs.strength) < 1:
        raise SettingsError(
            f"strength {knobs.strength} of {knobs.num_inference_steps} steps leaves no denoising step; "
            f"use strength {ceil(100 / knobs.num_inference_steps) / 100} or more"
        )


def _load_part(folder: Path, classes: dict[str, Any]) -> Any:
    name = json.loads((folder / "config.json").read_text("utf-8"))["_class_name"]
    if name not in classes:
        raise ValueError(f"{folder} holds a {name}; known are {', '.join(classes)}")
    return classes[name].from_pretrained(str(folder), local_files_only=True, dtype=torch.float32)
