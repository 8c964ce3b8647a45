"""Load FLUX.2 klein: transformer and autoencoder as a pipeline, and the text encoder beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2Transformer2DModel
from transformers import Qwen2TokenizerFast, Qwen3Config, Qwen3Model

from portrait.errors import SettingsError
from portrait.generate.families.flux2.pipeline import KleinPipeline
from portrait.generate.families.flux2.single_file import has_scaled_layers, load_transformer
from portrait.generate.families.loading import (
    check_resolution,
    load_loras,
    quiet_libraries,
    readable_errors,
    unlisted_digests,
)
from portrait.hub.files import verify_manifest
from portrait.recipes.recipe import Recipe

TEXT_LAYERS = (9, 18, 27)
"""The layers of Qwen3 whose outputs are the prompt, as in diffusers; later ones are not loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedKlein:
    """The networks, still on the CPU.

    `digests` maps every file of the model to its SHA-256; `notes` say what of the files is not used.
    """

    pipe: KleinPipeline
    text_encoder: Any
    tokenizer: Any
    loras: dict[str, float]
    digests: dict[str, str]
    notes: tuple[str, ...]


def load_klein(recipe: Recipe, weights: torch.dtype) -> LoadedKlein:
    """Load a recipe's networks.

    Args:
        recipe: Its base is a diffusers folder of `Flux2KleinPipeline`; a `single_file` holds another transformer for it.
        weights: The type in which weights are kept.

    Raises:
        WeightsMissingError, WeightsCorruptError: a file is gone, differs from the manifest, or is not what the recipe says.
        SettingsError: the recipe's resolution does not fit its autoencoder, or it has LoRAs for 8-bit weights.
        MemoryLimitError: memory ran out.
    """
    digests = dict(recipe.digests) or verify_manifest(recipe.base)
    with quiet_libraries(), readable_errors(recipe):
        pipe = _load_pipeline(recipe, weights)
        text_encoder = _load_text_encoder(recipe.base / "text_encoder", weights)
        tokenizer = Qwen2TokenizerFast.from_pretrained(str(recipe.base / "tokenizer"), local_files_only=True)
        _check_width(text_encoder, pipe)
    if recipe.loras and has_scaled_layers(pipe.transformer):
        raise SettingsError(f"recipe {recipe.name}: no LoRA fits on 8-bit weights; use it with the recipe klein4b")
    loras, notes = load_loras(pipe, [(lora.path, lora.weight) for lora in recipe.loras], {})
    check_resolution(recipe, pipe.vae_scale_factor * 2)
    return LoadedKlein(
        pipe=pipe,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        loras=loras,
        digests=digests | unlisted_digests(recipe),
        notes=tuple(notes),
    )


def _load_pipeline(recipe: Recipe, weights: torch.dtype) -> KleinPipeline:
    base = recipe.base
    options: dict[str, object] = {"local_files_only": True, "dtype": weights, "use_safetensors": True}
    if recipe.single_file is not None:
        transformer = load_transformer(recipe.single_file, base / "transformer", weights)
    else:
        transformer = Flux2Transformer2DModel.from_pretrained(str(base / "transformer"), **options)
    vae = AutoencoderKLFlux2.from_pretrained(str(base / "vae"), **options)
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(str(base / "scheduler"), local_files_only=True)
    pipe = KleinPipeline(
        scheduler=scheduler, vae=vae, text_encoder=None, tokenizer=None, transformer=transformer, is_distilled=True
    )
    pipe.set_progress_bar_config(disable=True)
    for network in (transformer, vae):
        network.eval().requires_grad_(False)
    return pipe


def _load_text_encoder(folder: Path, weights: torch.dtype) -> Any:
    """Qwen3 up to the last layer that is read: a quarter less to load, keep and run."""
    config = Qwen3Config.from_pretrained(str(folder), local_files_only=True)
    needed = TEXT_LAYERS[-1] + 1  # one more, for the last one's output is normalized
    if config.num_hidden_layers < needed:
        raise ValueError(f"its text encoder has {config.num_hidden_layers} layers; {needed} are read")
    config.num_hidden_layers = needed
    if config.layer_types is not None:
        config.layer_types = config.layer_types[:needed]
    encoder = Qwen3Model.from_pretrained(
        str(folder), config=config, local_files_only=True, dtype=weights, use_safetensors=True
    )
    return encoder.eval().requires_grad_(False)


def _check_width(text_encoder: Any, pipe: KleinPipeline) -> None:
    given, expected = len(TEXT_LAYERS) * text_encoder.config.hidden_size, pipe.transformer.config.joint_attention_dim
    if given != expected:
        raise ValueError(f"its text encoder gives {given} numbers a token, its transformer takes {expected}")
