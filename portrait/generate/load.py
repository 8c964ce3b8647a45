"""Load the generator of a recipe: in onnxruntime where there are graphs for it, else in torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portrait.hub.files import GRAPHS
from portrait.recipes.recipe import Recipe

if TYPE_CHECKING:
    from portrait.generate.diffusion import DiffusionGenerator
    from portrait.generate.families.mini.generator import MiniGenerator


def load_generator(
    recipe: Recipe, *, threads: int | None = None, device: str = "auto", tier: str = "auto", dtype: str = "auto"
) -> DiffusionGenerator | MiniGenerator:
    """Load a recipe's networks.

    `mini` runs in onnxruntime on a CPU in float32; on another device, in bfloat16, or without graphs it runs in torch.
    Arguments and errors are those of `DiffusionGenerator`.
    """
    on_cpu = device == "cpu" or (device == "auto" and not recipe.memory)
    plain = on_cpu and dtype in ("auto", "float32") and tier in ("auto", "full")
    if plain and recipe.family == "mini" and (recipe.base / GRAPHS).is_dir():
        from portrait.generate.families.mini.generator import MiniGenerator

        return MiniGenerator(recipe, threads=threads)
    from portrait.generate.diffusion import DiffusionGenerator

    return DiffusionGenerator(recipe, threads=threads, device=device, tier=tier, dtype=dtype)
