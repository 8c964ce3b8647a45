"""Load recipes by name or from a TOML file: fill in what they extend, then check everything."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from portrait.errors import SettingsError, WeightsMissingError, one_line
from portrait.hub.files import mini_folder
from portrait.hub.manifest import licenses_of
from portrait.paths import config_dir
from portrait.recipes.recipe import Lora, Recipe, unknown_license
from portrait.recipes.schema import RecipeFile
from portrait.records.portrait import LicenseLink
from portrait.validation import did_you_mean, parse_toml, read_text

_NO_RECIPES = ("styles.toml", "instructions.toml")


def recipe_names() -> list[str]:
    """Names of the shipped recipes, and of the user's own in `recipes/` in the configuration folder."""
    files = [path.name for path in resources.files("portrait.recipes").iterdir()]
    shipped = {name[:-5] for name in files if name.endswith(".toml") and name not in _NO_RECIPES}
    return sorted(shipped | _user_recipes().keys())


def _user_recipes() -> dict[str, Path]:
    return {path.stem: path for path in sorted((config_dir() / "recipes").glob("*.toml"))}


def load_recipe(name: str) -> Recipe:
    """Load a recipe by name (the user's own take precedence), or a TOML file by path.

    Public models need not be on this machine; `resolve_files` looks for them later.

    Raises:
        SettingsError: there is no such recipe, or it has an unknown key, or a missing or invalid value.
        WeightsError: it names a part that is not in the weights manifest.
        WeightsMissingError: the recipe's own model folder is not on this machine.
    """
    try:
        table, folder = _read_table(name, ())
        return _recipe_from(RecipeFile.from_table(table, f"recipe {name}"), name, folder)
    except (OSError, ValueError) as error:  # not a valid file name, because of its length or a zero byte
        raise SettingsError(f"recipe {name[:200]!r}: {one_line(error)}") from None


def _recipe_from(file: RecipeFile, name: str, folder: Path) -> Recipe:
    base = folder / file.base
    if not file.parts.base and not os.path.isdir(base):
        raise WeightsMissingError(f"the model of recipe {name} is not at {base}")
    converted = {"base", "adapter", "balance", "parts", "loras", "licenses"}
    recipe = Recipe(
        **file.model_dump(exclude=converted),
        base=base,
        adapter=base / file.adapter,
        balance=tuple((point.at, point.knobs) for point in file.balance),
        parts=file.parts,
        loras=tuple(Lora(weight=entry.weight, part=entry.part, path=Path(entry.file)) for entry in file.loras),
        licenses=_declared_licenses(file, base),
    )
    return replace(recipe, licenses=(*recipe.licenses, *licenses_of(recipe.part_names)))


def _declared_licenses(file: RecipeFile, base: Path) -> tuple[LicenseLink, ...]:
    """The licenses that a recipe declares for its own files: model folder, adapter, LoRAs. Others are unknown."""
    stated = tuple(LicenseLink(**entry.model_dump()) for entry in file.licenses)
    files = [] if file.parts.base else [base.resolve()]
    adapter = base / file.adapter
    if not file.parts.adapter and not adapter.resolve().is_relative_to(base.resolve()):
        files.append(adapter)
    files += [Path(entry.file) for entry in file.loras if entry.file]
    names = {link.part for link in stated}
    return (*stated, *(unknown_license(path.name) for path in files if path.name not in names))


def _read_table(name: str, extended: tuple[str, ...]) -> tuple[dict[str, object], Path]:
    """A recipe's table with what it extends filled in, and the folder to which its paths are relative."""
    text, folder = _read_text(name)
    table = parse_toml(text, f"recipe {name}")
    _resolve_loras(table.get("loras"), folder)
    parent = table.pop("extends", None)
    if parent is None:
        return table, folder
    if isinstance(parent, str) and parent.endswith(".toml"):
        parent = str(folder / parent)
    if not isinstance(parent, str) or parent in (*extended, name):
        raise SettingsError(f"recipe {name}: extends must name another recipe, got {parent!r}")
    parent_table, parent_folder = _read_table(parent, (*extended, name))
    base_is_parents = "base" in parent_table and "base" not in table
    return _merge(name, parent_table, table), parent_folder if base_is_parents else folder


def _resolve_loras(loras: object, folder: Path) -> None:
    """Make the paths of a table's LoRAs absolute, as a recipe that extends it may be elsewhere."""
    for lora in loras if isinstance(loras, list) else ():
        if isinstance(lora, dict) and isinstance(file := lora.get("file"), str):
            lora["file"] = str((folder / file).absolute())


def _read_text(name: str) -> tuple[str, Path]:
    """The TOML text of a recipe, and the folder to which its paths are relative."""
    path = _user_recipes().get(name, Path(name))
    if path.suffix == ".toml" or os.path.isfile(path):
        return read_text(path, f"recipe {name}"), path.parent
    names = recipe_names()
    if name not in names:
        hint = did_you_mean(name, names, "did you mean {}? ")
        raise SettingsError(f"no recipe {name!r}; {hint}recipes: {', '.join(names)}, or a path to a .toml file")
    return (resources.files("portrait.recipes") / f"{name}.toml").read_text("utf-8"), mini_folder().parent


def _merge(name: str, parent: dict[str, object], table: dict[str, object]) -> dict[str, object]:
    """Merge a recipe's table over that of the recipe it extends; parts, LoRAs and licenses are combined."""
    parent_parts, parts = parent.get("parts", {}), table.get("parts", {})
    if not isinstance(parent_parts, dict) or not isinstance(parts, dict):
        raise SettingsError(f"recipe {name}: parts must be a table of roles")
    if "base" in table:  # the recipe's own folder replaces the part, and the inherited style judge does not know it
        parent_parts = {role: part for role, part in parent_parts.items() if role != "base"}
        parent = {key: value for key, value in parent.items() if key != "judge"}
    merged = parent | table | {"parts": parent_parts | parts}
    for key in ("loras", "licenses"):
        merged[key] = _merge_lists(name, key, parent.get(key, []), table.get(key, []))
    return merged


def _merge_lists(name: str, key: str, inherited: object, entries: object) -> list[Any]:
    """The inherited entries, then the recipe's own; an entry for the same part or file replaces the inherited one."""
    if not isinstance(inherited, list) or not isinstance(entries, list):
        raise SettingsError(f"recipe {name}: {key} must be a list of tables, [[{key}]]")

    def subject(entry: object) -> object:
        return (entry.get("part"), entry.get("file")) if isinstance(entry, dict) else entry

    replaced = [subject(entry) for entry in entries]
    return [*(entry for entry in inherited if subject(entry) not in replaced), *entries]
