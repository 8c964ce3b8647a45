"""Load the generator of a recipe: in onnxruntime where there are graphs for it, else in torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portrait.generate.families.mini.marks.layout import FULL_SIZE
from portrait.hub.files import GRAPHS
from portrait.recipes.recipe import Recipe

if TYPE_CHECKING:
    from portrait.generate.diffusion import DiffusionGenerator
    from portrait.generate.families.mini.generator import MiniGenerator


def load_generator(
    recipe: Recipe, *, threads: int | None = None, device: str = "auto", tier: str = "auto", dtype: str = "auto"
) -> DiffusionGenerator | MiniGenerator:
    """Load a recipe's networks.

    `mini` runs in onnxruntime on a CPU in float32; on another device, in bfloat16, or without graphs it runs in torch. So does
    a recipe that changes what the graphs were traced with, such as the scheduler.
    Arguments and errors are those of `DiffusionGenerator`.
    """
    on_cpu = device == "cpu" or (device == "auto" and not recipe.memory)
    plain = on_cpu and dtype in ("auto", "float32") and tier in ("auto", "full")
    if plain and has_graphs(recipe):
        from portrait.generate.families.mini.generator import MiniGenerator

        return MiniGenerator(recipe, threads=threads)
    from portrait.generate.diffusion import DiffusionGenerator

    return DiffusionGenerator(recipe, threads=threads, device=device, tier=tier, dtype=dtype)


def has_graphs(recipe: Recipe) -> bool:
    """Whether there are graphs of just these networks."""
    changed = recipe.scheduler or recipe.timestep_spacing or recipe.loras or recipe.vae or recipe.single_file
    traced = recipe.resolution == FULL_SIZE and recipe.adapter.suffix == ".safetensors" and not changed
    return recipe.family == "mini" and traced and (recipe.base / GRAPHS).is_dir()
