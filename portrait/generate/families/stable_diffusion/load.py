"""Load a recipe's networks: the pipeline with its adapter, LoRAs and sampler, checked before use."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from portrait.generate.families.loading import (
    check_resolution,
    load_loras,
    quiet_libraries,
    readable_errors,
    unlisted_digests,
)
from portrait.generate.families.stable_diffusion.adapters import load_adapter
from portrait.generate.families.stable_diffusion.identity_net import IdentityNet
from portrait.generate.networks import (
    AutoencoderKL,
    AutoencoderTiny,
    ControlNetModel,
    UNet2DConditionModel,
    VaeImageProcessor,
)
from portrait.hub.files import sha256_of, verify_manifest
from portrait.recipes.recipe import Recipe

_UNETS = {"UNet2DConditionModel": UNet2DConditionModel}
_VAES = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A recipe's networks, still on the CPU.

    `image_encoder` is None for adapters that do not use CLIP. `loras` are the active LoRAs by name with their
    weights; `digests` maps every file of the model to its SHA-256; `notes` say which parts of the files are not used.
    """

    pipe: Any
    image_encoder: Any
    loras: Mapping[str, float]
    digests: Mapping[str, str]
    notes: tuple[str, ...]


def load_model(
    recipe: Recipe, weights: torch.dtype, load_pipeline: Callable[[Recipe, torch.dtype], Any]
) -> LoadedModel:
    """Load a recipe's networks.

    Args:
        recipe: Public models have their paths filled in (`recipes.locate.resolve_files`).
        weights: The dtype of the weights.
        load_pipeline: Loads the family's pipeline from recipe and dtype, without adapter and LoRAs.

    Raises:
        WeightsMissingError, WeightsCorruptError: a file is missing, differs from the manifest, or is not what the recipe
        says.
        SettingsError: the recipe's resolution does not fit its autoencoder.
        MemoryLimitError: memory ran out.
    """
    digests = dict(recipe.digests) or verify_manifest(recipe.base)
    with quiet_libraries(), readable_errors(recipe):
        pipe = load_pipeline(recipe, weights)
        image_encoder = _load_image_encoder(recipe, weights)
    clip_width = 0 if image_encoder is None else int(image_encoder.config.hidden_size)
    adapter_loras = load_adapter(pipe, recipe.adapter, recipe.adapter_kind, recipe.adapter_lora, clip_width)
    loras, notes = load_loras(pipe, [(lora.path, lora.weight) for lora in recipe.loras], adapter_loras)
    if recipe.scheduler:
        from portrait.generate.families.stable_diffusion.pipelines import recipe_scheduler

        pipe.scheduler = recipe_scheduler(recipe, pipe.scheduler)
    check_resolution(recipe, pipe.vae_scale_factor)
    _set_up(pipe)
    return LoadedModel(
        pipe=pipe,
        image_encoder=image_encoder,
        loras=loras,
        digests=digests | _adapter_digest(recipe, digests) | unlisted_digests(recipe),
        notes=tuple(notes),
    )


def load_pipeline(recipe: Recipe, weights: torch.dtype) -> Any:
    """Load a recipe's diffusers pipeline, without adapter and LoRAs."""
    check_libraries(recipe.base)
    from portrait.generate.families.stable_diffusion.pipelines import pipeline_class

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
        options["vae"] = _load_part(recipe.vae, _VAES, weights)
    pipe = _read_pipeline(recipe, pipeline_class(recipe), options, weights)
    pipe.set_progress_bar_config(disable=True)
    pipe.image_processor = VaeImageProcessor(
        vae_scale_factor=pipe.vae_scale_factor, vae_latent_channels=int(pipe.unet.config.out_channels)
    )
    return pipe


def _read_pipeline(recipe: Recipe, pipeline: Any, options: dict[str, object], weights: torch.dtype) -> Any:
    """Read the pipeline from a single-file checkpoint, or from a diffusers folder."""
    if recipe.single_file is not None:
        return pipeline.from_single_file(str(recipe.single_file), config=str(recipe.base), **options)
    if recipe.vae is None:
        options["vae"] = _load_part(recipe.base / "vae", _VAES, weights)
    options["unet"] = _load_part(recipe.base / "unet", _UNETS, weights)
    variant = "fp16" if any((recipe.base / "unet").glob("*.fp16.safetensors")) else None
    return pipeline.from_pretrained(str(recipe.base), variant=variant, use_safetensors=True, **options)


def check_libraries(folder: Path) -> None:
    """Raises ValueError if a diffusers folder would import a library that models do not usually need."""
    usual = (None, "diffusers", "transformers", "stable_diffusion")
    for name, value in json.loads((folder / "model_index.json").read_text("utf-8")).items():
        if isinstance(value, list) and value and value[0] not in usual:
            raise ValueError(f"its model_index.json requires {name} from the library {str(value[0])[:60]!r}")


def _load_part(folder: Path, classes: Mapping[str, type[Any]], weights: torch.dtype) -> Any:
    variant = "fp16" if any(folder.glob("*.fp16.safetensors")) else None
    safe = any(folder.glob("*.safetensors"))  # otherwise a pickle, which diffusers reads with `weights_only`
    return network_class(folder, classes).from_pretrained(
        str(folder), local_files_only=True, dtype=weights, variant=variant, use_safetensors=safe
    )


def network_class(folder: Path, classes: Mapping[str, type[Any]]) -> Any:
    """The class that a folder's config.json names; raises ValueError if it is not one of `classes`."""
    name = json.loads((folder / "config.json").read_text("utf-8"))["_class_name"]
    if name not in classes:
        raise ValueError(f"{folder} holds a {name}; supported are {', '.join(classes)}")
    return classes[name]


def _load_image_encoder(recipe: Recipe, weights: torch.dtype) -> Any:
    if recipe.image_encoder is None:
        return None
    from transformers import CLIPVisionModelWithProjection

    encoder = CLIPVisionModelWithProjection.from_pretrained(
        str(recipe.image_encoder), local_files_only=True, dtype=weights, use_safetensors=True
    )
    return encoder.eval().requires_grad_(False)


def _set_up(pipe: Any) -> None:
    """Prepare for inference: no gradients, channels last, and IdentityNet gets the adapter's projection."""
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


def _adapter_name(recipe: Recipe) -> str:
    """The adapter's path within the recipe's base folder; just its name if it is elsewhere."""
    if recipe.adapter.is_relative_to(recipe.base):
        return recipe.adapter.relative_to(recipe.base).as_posix()
    return recipe.adapter.name


def _adapter_digest(recipe: Recipe, listed: Mapping[str, str]) -> dict[str, str]:
    """The SHA-256 of an adapter that is not in the manifest."""
    name = _adapter_name(recipe)
    return {} if "adapter" in recipe.parts or name in listed else {name: sha256_of(recipe.adapter)}
