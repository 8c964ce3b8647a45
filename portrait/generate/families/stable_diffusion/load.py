"""Load the networks of Stable Diffusion: the pipeline, the image encoder, and the sampler."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, ControlNetModel, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor

from portrait.generate.families.stable_diffusion.identity_net import IdentityNet
from portrait.generate.families.stable_diffusion.pipelines import pipeline_class, recipe_scheduler
from portrait.recipes.recipe import Recipe

NETWORKS = {network.__name__: network for network in (UNet2DConditionModel, AutoencoderKL, AutoencoderTiny)}


def load_pipeline(recipe: Recipe, weights: torch.dtype, networks: Mapping[str, type[Any]] = NETWORKS) -> Any:
    """Load a recipe's diffusers pipeline, without adapter and LoRAs; its UNet and VAE are some of `networks`."""
    _check_libraries(recipe.base)
    options: dict[str, object] = {
        "dtype": weights,
        "local_files_only": True,
        "feature_extractor": None,
        "image_encoder": None,
    }
    if recipe.family == "sdxl":
        options |= {"add_watermarker": False}
    else:
        options |= {"safety_checker": None, "requires_safety_checker": False}
    if recipe.controlnet is not None:
        net = IdentityNet if recipe.adapter_kind == "instantid" else ControlNetModel
        options["controlnet"] = _load_part(recipe.controlnet, {"ControlNetModel": net}, weights)
    if recipe.vae is not None:
        options["vae"] = _load_part(recipe.vae, networks, weights)
    pipe = _read_pipeline(recipe, options, weights, networks)
    pipe.set_progress_bar_config(disable=True)
    pipe.image_processor = VaeImageProcessor(
        vae_scale_factor=pipe.vae_scale_factor, vae_latent_channels=int(pipe.unet.config.out_channels)
    )
    return pipe


def _read_pipeline(
    recipe: Recipe, options: dict[str, object], weights: torch.dtype, networks: Mapping[str, type[Any]]
) -> Any:
    """Read the pipeline from a single-file checkpoint, or from a diffusers folder."""
    pipeline = pipeline_class(recipe)
    if recipe.single_file is not None:
        return pipeline.from_single_file(str(recipe.single_file), config=str(recipe.base), **options)
    if recipe.vae is None:
        options["vae"] = _load_part(recipe.base / "vae", networks, weights)
    options["unet"] = _load_part(recipe.base / "unet", networks, weights)
    variant = "fp16" if any((recipe.base / "unet").glob("*.fp16.safetensors")) else None
    return pipeline.from_pretrained(str(recipe.base), variant=variant, use_safetensors=True, **options)


def _check_libraries(folder: Path) -> None:
    """Raises ValueError if a diffusers folder would import a library that models do not usually need."""
    usual = (None, "diffusers", "transformers", "stable_diffusion")
    for name, value in json.loads((folder / "model_index.json").read_text("utf-8")).items():
        if isinstance(value, list) and value and value[0] not in usual:
            raise ValueError(f"its model_index.json requires {name} from the library {str(value[0])[:60]!r}")


def _load_part(folder: Path, classes: Mapping[str, type[Any]], weights: torch.dtype) -> Any:
    variant = "fp16" if any(folder.glob("*.fp16.safetensors")) else None
    safe = any(folder.glob("*.safetensors"))  # otherwise a pickle, which diffusers reads with `weights_only`
    name = json.loads((folder / "config.json").read_text("utf-8"))["_class_name"]
    if name not in classes:
        raise ValueError(f"{folder} holds a {name}; supported are {', '.join(classes)}")
    return classes[name].from_pretrained(
        str(folder), local_files_only=True, dtype=weights, variant=variant, use_safetensors=safe
    )


def load_image_encoder(recipe: Recipe, weights: torch.dtype) -> Any:
    """Load a recipe's CLIP; None for adapters that do not use it."""
    if recipe.image_encoder is None:
        return None
    from transformers import CLIPVisionModelWithProjection

    encoder = CLIPVisionModelWithProjection.from_pretrained(
        str(recipe.image_encoder), local_files_only=True, dtype=weights, use_safetensors=True
    )
    return encoder.eval().requires_grad_(False)


def set_up(pipe: Any, recipe: Recipe) -> None:
    """Prepare for inference: the recipe's sampler, no gradients, channels last; IdentityNet gets the adapter's projection."""
    if recipe.scheduler:
        pipe.scheduler = recipe_scheduler(recipe, pipe.scheduler)
    for network in (pipe.unet, pipe.vae):
        network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        for module in network.modules():
            if isinstance(module, torch.nn.GroupNorm):
                module.register_forward_pre_hook(_sum_by_group)
    if isinstance(net := getattr(pipe, "controlnet", None), IdentityNet):
        net.read_identity(pipe.unet.encoder_hid_proj.image_projection_layers[0])


def _sum_by_group(norm: torch.nn.GroupNorm, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Avoid channels last in group norms: on the CPU torch would sum a group in one part per thread, and round differently."""
    return tuple(x.contiguous() if x.device.type == "cpu" else x for x in inputs)
