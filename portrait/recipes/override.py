"""Change a recipe's base model, or add LoRAs, as requested by the user."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from portrait.errors import SettingsError
from portrait.hub.manifest import find_part, licenses_of, manifest
from portrait.recipes.recipe import Lora, Recipe, unknown_license


def with_overrides(recipe: Recipe, base: str = "", loras: Sequence[str] = ()) -> Recipe:
    """Change the recipe's base model to another of the same family, and add LoRAs.

    Args:
        recipe: Of a family that accepts other weights.
        base: A `.safetensors` checkpoint (its configuration is taken from the recipe's own base), a diffusers
            folder, or a part of the weights manifest that is one checkpoint.
        loras: `FILE.safetensors:WEIGHT` each; without a weight it is 1.

    Raises:
        SettingsError: the recipe's model cannot be replaced, or a file or weight is invalid.
    """
    if (base or loras) and not recipe.family_facts.loras:
        raise SettingsError(f"recipe {recipe.name} is one small model: it takes no --base and no --lora")
    if base:
        recipe = _replace_base(recipe, base)
    for text in loras:
        file, weight = parse_lora(text)
        path = Path(file)
        if not path.is_file() or not -4 <= weight <= 4:
            raise SettingsError(
                f"--lora {text!r} is not FILE.safetensors:WEIGHT with a file that exists, such as a.safetensors:0.6"
            )
        all_loras = (*recipe.loras, Lora(path=path.resolve(), weight=weight))
        recipe = replace(recipe, loras=all_loras, licenses=(*recipe.licenses, unknown_license(path.name)))
    return recipe


def parse_lora(text: str) -> tuple[str, float]:
    """File and weight of `FILE.safetensors:WEIGHT`; the default weight is 1."""
    file, colon, number = text.rpartition(":")
    if colon and "." in file:  # C:\\ink is a file without a weight
        with suppress(ValueError):
            return file, float(number)
    return text, 1.0


def _replace_base(recipe: Recipe, base: str) -> Recipe:
    path, is_part = Path(base), base in manifest()
    old = {recipe.parts.single_file}
    if path.is_dir() or recipe.family_facts.whole_checkpoints:
        old.add(recipe.parts.base or recipe.base.name)
    licenses = tuple(link for link in recipe.licenses if link.part not in old)
    parts = recipe.parts.model_copy(update={"single_file": base if is_part else ""})
    if is_part:
        _check_is_checkpoint(base)
        return replace(recipe, parts=parts, licenses=(*licenses_of([base]), *licenses))
    licenses = (unknown_license(path.resolve().name), *licenses)
    if path.is_dir() and (path / "model_index.json").is_file():
        parts = parts.model_copy(update={"base": ""})
        return replace(recipe, base=path.resolve(), parts=parts, licenses=licenses)
    if path.is_file() and path.suffix == ".safetensors":
        return replace(recipe, single_file=path.resolve(), parts=parts, licenses=licenses)
    raise SettingsError(
        f"--base {base!r} is neither a .safetensors file nor a diffusers folder (with model_index.json) nor a part of the "
        "weights manifest"
    )


def _check_is_checkpoint(part: str) -> None:
    files = find_part(part).files
    if len(files) != 1 or not files[0].path.endswith(".safetensors"):
        raise SettingsError(f"--base {part} is not one checkpoint; name a .safetensors file or a recipe that has it")
