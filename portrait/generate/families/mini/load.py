"""Load `mini` from its folder, without diffusers' pipelines."""

from __future__ import annotations

import torch

from portrait.generate.families.mini.marks.autoencoder import MarkAutoencoder
from portrait.generate.families.mini.pipeline import MiniPipeline, load_network
from portrait.generate.families.mini.structure import MarkUNet
from portrait.generate.families.stable_diffusion.load import check_libraries, network_class
from portrait.recipes.recipe import Recipe


def load_pipeline(recipe: Recipe, weights: torch.dtype) -> MiniPipeline:
    """Load a recipe's pipeline, without its adapter.

    Raises:
        ValueError: the folder holds other networks, or requires other libraries.
    """
    check_libraries(recipe.base)
    unet, vae = (
        load_network(recipe.base / part, network_class(recipe.base / part, {network.__name__: network}), weights)
        for part, network in (("unet", MarkUNet), ("vae", MarkAutoencoder))
    )
    return MiniPipeline.from_folder(recipe.base, unet, vae, weights)
