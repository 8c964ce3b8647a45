"""Find the files of a recipe's models on this machine, and verify each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from posixpath import commonpath
from typing import Any

from portrait.errors import WeightsMissingError
from portrait.hub.files import sha256_of, verify_manifest
from portrait.hub.manifest import find_part
from portrait.hub.store import part_folder
from portrait.recipes.load import load_recipe, recipe_names
from portrait.recipes.recipe import Recipe


def resolve_files(recipe: Recipe) -> Recipe:
    """Fill in the path of every part of the recipe, each a folder or file whose bytes are verified.

    Raises:
        WeightsMissingError: parts are not on this machine; the message names the command that fetches them.
        WeightsCorruptError: a file differs from its pin.
    """
    folders: dict[str, Path] = {}
    digests: dict[str, str] = {}
    for name in recipe.part_names:
        with suppress(WeightsMissingError):
            folder = part_folder(find_part(name))
            digests |= {f"{name}/{path}": digest for path, digest in verify_manifest(folder).items()}
            folders[name] = folder
    if missing := [name for name in recipe.part_names if name not in folders]:
        raise WeightsMissingError(
            f"recipe {recipe.name} needs {', '.join(missing)}, missing or incomplete on this machine; "
            f"run: portrait weights fetch {_names_to_fetch(recipe, missing)}"
        )
    paths: dict[str, Any] = {
        role: _entry_point(folders[part], part) for role, part in recipe.parts if part and role != "recognizer"
    }
    loras = [replace(x, path=_entry_point(folders[x.part], x.part)) if x.part else x for x in recipe.loras]
    if pack := recipe.parts.recognizer:
        paths["recognizer_file"] = folders[pack] / f"{recipe.recognizer}.onnx"
    return replace(recipe, **paths, loras=tuple(loras), digests=digests)


def _names_to_fetch(recipe: Recipe, missing: Sequence[str]) -> str:
    """The argument of `portrait weights fetch`: the recipe if that fetches everything missing, or else the parts."""
    if recipe.name in recipe_names() and set(missing) <= set(load_recipe(recipe.name).part_names):
        return recipe.name
    return " ".join(missing)


def _entry_point(folder: Path, part: str) -> Path:
    """The path of a part that libraries open: its only file, or else the innermost folder that holds all its files."""
    files = [file.path for file in find_part(part).files]
    if len(files) == 1:
        return folder / files[0]
    return folder / commonpath([str(PurePosixPath(path).parent) for path in files])


def adapter_digest(recipe: Recipe, listed: Mapping[str, str]) -> dict[str, str]:
    """The SHA-256 of an adapter that is not in the manifest, by its path in the base folder, or its name if it is elsewhere."""
    is_inside = recipe.adapter.is_relative_to(recipe.base)
    name = recipe.adapter.relative_to(recipe.base).as_posix() if is_inside else recipe.adapter.name
    return {} if recipe.parts.adapter or name in listed else {name: sha256_of(recipe.adapter)}
