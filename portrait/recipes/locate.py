"""Where the files of a recipe's models lie on this machine, each verified."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from portrait.errors import WeightsMissingError
from portrait.hub.files import verify_manifest
from portrait.hub.manifest import find_part
from portrait.hub.store import part_folder
from portrait.recipes.load import load_recipe, recipe_names
from portrait.recipes.recipe import Recipe


def located(recipe: Recipe) -> Recipe:
    """The recipe with the path of every part filled in, each a folder or file whose bytes are verified.

    Raises:
        WeightsMissingError: parts are not on this machine; names the command that fetches them.
        WeightsCorruptError: a file is another one.
    """
    missing: list[str] = []
    folders: dict[str, Path] = {}
    digests: dict[str, str] = {}
    for name in recipe.part_names:
        try:
            folders[name] = part_folder(find_part(name))
            digests |= {f"{name}/{path}": digest for path, digest in verify_manifest(folders[name]).items()}
        except WeightsMissingError:
            missing.append(name)
    if missing:
        raise WeightsMissingError(
            f"recipe {recipe.name} needs {', '.join(missing)}, not (whole) on this machine; "
            f"run: portrait weights fetch {_fetched_by(recipe, missing)}"
        )
    places: dict[str, Any] = {
        role: _place(folders[part], part) for role, part in recipe.parts.items() if role != "recogniser"
    }
    loras = tuple(replace(x, path=_place(folders[x.part], x.part)) if x.part else x for x in recipe.loras)
    recogniser = recipe.parts.get("recogniser")
    file = folders[recogniser] / f"{recipe.recogniser}.onnx" if recogniser else None
    return replace(recipe, **places, loras=loras, recogniser_file=file, digests=digests)


def _fetched_by(recipe: Recipe, missing: Sequence[str]) -> str:
    """What to name to `portrait weights fetch`: the recipe if its name brings all that is missing, or else the parts."""
    if recipe.name in recipe_names() and set(missing) <= set(load_recipe(recipe.name).part_names):
        return recipe.name
    return " ".join(missing)


def _place(folder: Path, part: str) -> Path:
    """What libraries open of a part: the folder with its (first) configuration file, or else its one file."""
    files = [file.path for file in find_part(part).files]
    for name in ("model_index.json", "config.json"):
        if found := [path for path in files if os.path.basename(path) == name]:
            return (folder / found[0]).parent
    return folder / files[0]
