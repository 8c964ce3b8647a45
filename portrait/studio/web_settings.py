"""What a visitor may set: the settings, their limits, and the recipes."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from portrait.errors import PortraitError, SettingsError
from portrait.faces.identity import FaceChoice
from portrait.hub.manifest import find_part
from portrait.hub.store import status
from portrait.recipes.load import load_recipe, recipe_names
from portrait.recipes.locate import resolve_files
from portrait.recipes.recipe import Recipe
from portrait.records import Background
from portrait.settings import Settings
from portrait.studio import strings
from portrait.validation import check_names

ADVANCED = [name for names in strings.GROUPS.values() for name in names]
"""The settings with a control under Advanced, in this order."""
WEB_SETTINGS = [
    "recipe", "style", "balance", "variants", "face", "keep", "shift", "background", "palette", "size", "frame",
    "max_seconds", *ADVANCED,
]  # fmt: skip
"""The settings that a visitor may set. All others name files or devices, and are up to the person who started the studio."""

MAX_VALUES = {"max_attempts": 32, "max_seconds": 3600.0, "num_inference_steps": 100, "size": 1024}
"""The limits of one request on a shared computer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What a recipe supports in a style: sides of portraits in pixels, palettes, and settings of `ADVANCED`."""

    sizes: tuple[int, ...]
    palettes: tuple[str, ...]
    advanced: tuple[str, ...]


def choices_for(recipe: Recipe, style: str) -> Choices:
    """The choices of a recipe in a style.

    Raises:
        SettingsError: the recipe has no such style.
    """
    chosen = recipe.style(style)
    unknown = set(recipe.lacks) | (set() if recipe.reads_prompts(chosen) else {"prompt", "negative_prompt"})
    return Choices(
        sizes=tuple(sorted({recipe.resolution, *recipe.sizes})),
        palettes=recipe.palettes_of(chosen),
        advanced=tuple(name for name in ADVANCED if name not in unknown),
    )


def web_settings(base: Settings, requested: Mapping[str, Any], backdrop: Path | None = None) -> Settings:
    """Apply a visitor's requests to `base`, the settings that the studio was started with; a value of None is ignored.

    `background` may be "picture", whose file is `backdrop`; None while the visitor has not uploaded one.

    Raises:
        SettingsError: an unknown name, a value that the recipe does not support, an unknown recipe, or a file on this computer
            (mask:FILE, like:FILE, a background), which visitors may not name.
        WeightsMissingError: the recipe is not installed; the message says how to install it.
    """
    check_names(requested, "studio", WEB_SETTINGS)
    values = {name: _value(name, value, backdrop) for name, value in requested.items() if value is not None}
    settings = replace(base, **values)
    _check_no_files(settings)
    _check_budget(settings)
    if len(settings.style) != 1:
        raise SettingsError(f"a studio makes one style at a time, got {', '.join(settings.style) or 'none'}")
    if settings.recipe != base.recipe:
        if settings.recipe not in recipe_names():
            raise SettingsError(f"no recipe {settings.recipe!r} here; installed: {', '.join(installed_recipes())}")
        require_installed(settings.recipe)
    _check_recipe_has(settings)
    return settings


def _value(name: str, value: Any, backdrop: Path | None) -> Any:
    """A requested value as `Settings` takes it."""
    if name in ("style", "keep"):
        return (value,) if isinstance(value, str) else tuple(value)
    return _background(value, backdrop) if name == "background" and value else value


def _background(value: object, backdrop: Path | None) -> object:
    """The background that a visitor requested; a file only if it is their own."""
    if value == "picture":
        if backdrop is None:
            raise SettingsError(strings.NEED_BACKDROP)
        return str(backdrop)
    if isinstance(value, str) and Background.parse(value).file is not None:
        raise SettingsError(f"background {value!r} is a file, which the studio does not read; upload it instead")
    return value


def _check_recipe_has(settings: Settings) -> None:
    """Refuse at once what the models would refuse later: an unsupported style, size, knob, palette or text."""
    recipe = load_recipe(settings.recipe)
    style = recipe.style(settings.style[0])
    recipe.size_for(settings.size)
    recipe.check_settings(settings.chosen())
    recipe.palette_for(style, settings.palette, settings.seed)
    if settings.prompt:
        recipe.check_prompt(settings.prompt, style)


def _check_no_files(settings: Settings) -> None:
    names_mask = any(keep.kind == "mask" for keep in settings.keeps())
    if names_mask or FaceChoice.parse(settings.face).kind in ("like", "each"):
        raise SettingsError("mask:FILE, like:FILE and each are not available in the studio")


def _check_budget(settings: Settings) -> None:
    for name, limit in MAX_VALUES.items():
        value = getattr(settings, name)
        if value is not None and value > limit:
            raise SettingsError(f"{name} {value:g} exceeds the studio's limit for one visitor: {limit:g}")


def installed_recipes() -> list[str]:
    """Recipes with all their files on this machine."""
    installed = []
    for name in recipe_names():
        with contextlib.suppress(PortraitError):
            if _is_installed(load_recipe(name)):
                installed.append(name)
    return installed


def require_installed(name: str) -> None:
    """Check that every file of a recipe is on this machine.

    Raises:
        SettingsError: no such recipe.
        WeightsMissingError: a file is missing; the message names the command that fetches it.
    """
    recipe = load_recipe(name)
    if not _is_installed(recipe):
        resolve_files(recipe)


def _is_installed(recipe: Recipe) -> bool:
    return all(status(find_part(part)).complete for part in recipe.part_names)
