"""Load FLUX.2 klein: transformer and autoencoder as a pipeline, and the text encoder beside it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2Transformer2DModel

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
from portrait.generate.families.qwen import QwenTextEncoder
from portrait.hub.files import verify_manifest
from portrait.recipes.recipe import Recipe

TEXT_STATES = (9, 18, 27)
"""The hidden states of Qwen3 that make up the prompt, as in diffusers; later layers are not loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedKlein:
    """The networks, still on the CPU.

    `digests` maps every file of the model to its SHA-256; `notes` say which parts of the files are not used.
    """

    pipe: KleinPipeline
    text: QwenTextEncoder
    loras: dict[str, float]
    digests: dict[str, str]
    notes: tuple[str, ...]


def load_klein(recipe: Recipe, weights: torch.dtype) -> LoadedKlein:
    """Load a recipe's networks.

    Args:
        recipe: Its base is a diffusers folder of `Flux2KleinPipeline`; a `single_file` holds another transformer for it.
        weights: The dtype of the weights.

    Raises:
        WeightsMissingError, WeightsCorruptError: a file is missing, differs from the manifest, or is not what the recipe
        says.
        SettingsError: the recipe's resolution does not fit its autoencoder, or it has LoRAs for 8-bit weights.
        MemoryLimitError: memory ran out.
    """
    digests = dict(recipe.digests) or verify_manifest(recipe.base)
    with quiet_libraries(), readable_errors(recipe):
        pipe = _load_pipeline(recipe, weights)
        text = QwenTextEncoder(recipe.base, weights, states=TEXT_STATES, thinking=False, padded=True)
        _check_width(text, pipe)
    if recipe.loras and has_scaled_layers(pipe.transformer):
        raise SettingsError(f"recipe {recipe.name}: LoRAs do not work with 8-bit weights; use the recipe klein4b")
    loras, notes = load_loras(pipe, [(lora.path, lora.weight) for lora in recipe.loras], {})
    check_resolution(recipe, pipe.vae_scale_factor * 2)
    return LoadedKlein(
        pipe=pipe,
        text=text,
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


def _check_width(text: QwenTextEncoder, pipe: KleinPipeline) -> None:
    expected = pipe.transformer.config.joint_attention_dim
    if text.width != expected:
        raise ValueError(f"its text encoder gives {text.width} values per token, but its transformer takes {expected}")
