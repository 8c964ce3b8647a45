"""Load FLUX.2 klein: transformer and autoencoder as a pipeline, and the text encoder beside it."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2Transformer2DModel

from portrait.errors import SettingsError
from portrait.generate.families.flux2.pipeline import KleinPipeline
from portrait.generate.families.flux2.single_file import has_scaled_layers, load_transformer
from portrait.recipes.recipe import Recipe


def load_pipeline(recipe: Recipe, weights: torch.dtype) -> KleinPipeline:
    """Load a recipe's pipeline, without LoRAs and text encoder.

    Its base is a diffusers folder of `Flux2KleinPipeline`; a `single_file` holds another transformer for it.

    Raises:
        SettingsError: the recipe has LoRAs, but 8-bit weights.
    """
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
    return KleinPipeline(
        scheduler=scheduler, vae=vae, text_encoder=None, tokenizer=None, transformer=transformer, is_distilled=True
    )
