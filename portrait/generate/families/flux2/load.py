"""Load FLUX.2 klein: transformer and autoencoder as a pipeline, and the text encoder beside it."""

from __future__ import annotations

from functools import partial

import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2Transformer2DModel

from portrait.errors import SettingsError
from portrait.generate.families.flux2.pipeline import KleinPipeline
from portrait.generate.families.flux2.single_file import has_scaled_layers, load_transformer
from portrait.generate.families.qwen import QwenTextEncoder
from portrait.generate.families.qwen_family import LoadedModel, load_model
from portrait.recipes.recipe import Recipe

TEXT_STATES = (9, 18, 27)
"""The hidden states of Qwen3 that make up the prompt, as in diffusers; later layers are not loaded."""


def load_klein(recipe: Recipe, weights: torch.dtype) -> LoadedModel[QwenTextEncoder]:
    """Load a recipe's networks.

    Its base is a diffusers folder of `Flux2KleinPipeline`; a `single_file` holds another transformer for it. See
    `load_model` for arguments and errors; LoRAs for 8-bit weights are a SettingsError too.
    """
    return load_model(
        recipe,
        weights,
        load_pipeline=_load_pipeline,
        load_text=partial(QwenTextEncoder, states=TEXT_STATES, thinking=False, padded=True),
        prompt_width="joint_attention_dim",
    )


def _load_pipeline(recipe: Recipe, weights: torch.dtype) -> KleinPipeline:
    base = recipe.base
    options: dict[str, object] = {"local_files_only": True, "dtype": weights, "use_safetensors": True}
    if recipe.single_file is not None:
        transformer = load_transformer(recipe.single_file, base / "transformer", weights)
    else:
        transformer = Flux2Transformer2DModel.from_pretrained(str(base / "transformer"), **options)
    if recipe.loras and has_scaled_layers(transformer):
        raise SettingsError(f"recipe {recipe.name}: LoRAs do not work with 8-bit weights; use the recipe klein4b")
    vae = AutoencoderKLFlux2.from_pretrained(str(base / "vae"), **options)
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(str(base / "scheduler"), local_files_only=True)
    pipe = KleinPipeline(
        scheduler=scheduler, vae=vae, text_encoder=None, tokenizer=None, transformer=transformer, is_distilled=True
    )
    pipe.set_progress_bar_config(disable=True)
    for network in (transformer, vae):
        network.eval().requires_grad_(False)
    return pipe
