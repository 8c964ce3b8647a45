"""A recipe: which models make the picture, the knobs along the balance dial, the licence of every part."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from portrait.errors import SettingsError, WeightsMissingError
from portrait.recipes.style import Style, styles
from portrait.records import Knobs
from portrait.weights import mini_folder

STRUCTURES = ("none", "source_latents")
_KEYS = {
    "name",
    "title",
    "base",
    "adapter",
    "structure",
    "recogniser",
    "resolution",
    "autocast",
    "negative_prompt",
    "styles",
    "balance",
    "licenses",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One way to make pictures. `base` is a diffusers folder, `adapter` an IP-Adapter-FaceID file.

    `structure` says how the photo's structure is held: `none` is plain img2img (strength alone),
    `source_latents` concatenates the photo's latents to the noisy ones. `balance` are points of the
    dial, (position in [0, 1], knobs), rising. `autocast` is `bfloat16` where pictures may be computed in it (only processors that are fast at it do), or empty.
    """

    name: str
    title: str
    base: Path
    adapter: Path
    structure: str
    recogniser: str
    resolution: int
    autocast: str
    negative_prompt: str
    styles: tuple[str, ...]
    balance: tuple[tuple[float, Knobs], ...]
    licenses: tuple[dict[str, str], ...]

    def knobs_at(self, balance: float) -> Knobs:
        """The knobs at a position of the dial, linear between the recipe's points.

        Raises:
            SettingsError: balance is outside [0, 1].
        """
        if not 0 <= balance <= 1:
            raise SettingsError(f"balance {balance} is outside 0 (like the person) to 1 (most stylized)")
        places = [place for place, _ in self.balance]
        values = {
            field.name: float(np.interp(balance, places, [getattr(knobs, field.name) for _, knobs in self.balance]))
            for field in fields(Knobs)
        }
        values = {name: round(value, 4) for name, value in values.items()}
        return Knobs(**{**values, "num_inference_steps": round(values["num_inference_steps"])})  # type: ignore[arg-type]

    def style(self, name: str) -> Style:
        """Raises SettingsError for a style that this recipe does not know, and names the likely one."""
        if name not in self.styles:
            close = difflib.get_close_matches(name, self.styles, 1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise SettingsError(
                f"recipe {self.name} has no style {name!r}; {hint}styles: {', '.join(self.styles)}, all"
            )
        return styles()[name]


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    found = resources.files("portrait.recipes").iterdir()
    return sorted(p.name[:-5] for p in found if p.name.endswith(".toml") and p.name != "styles.toml")


def load_recipe(name: str) -> Recipe:
    """Load a shipped recipe by name, or a TOML file by path.

    Raises:
        SettingsError: no such recipe, an unknown key, a missing or impossible value.
        WeightsMissingError: the recipe's model is not on this machine.
    """
    path = Path(name)
    if name.endswith(".toml") or path.is_file():
        try:
            text = path.read_text("utf-8")
        except OSError as error:
            raise SettingsError(f"cannot read recipe {name}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SettingsError(f"recipe {name} is not UTF-8 text") from None
        folder = path.parent
    elif name in recipe_names():
        text = (resources.files("portrait.recipes") / f"{name}.toml").read_text("utf-8")
        folder = mini_folder().parent
    else:
        close = difflib.get_close_matches(name, recipe_names(), 1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise SettingsError(
            f"no recipe {name!r}; {hint}recipes: {', '.join(recipe_names())}, or a path to a .toml file"
        )
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"recipe {name} is not TOML: {error}") from None
    try:
        return _build(table, name, folder)
    except (TypeError, ValueError, AttributeError) as error:
        raise SettingsError(f"recipe {name}: a value is of the wrong kind: {error}") from None


def _build(table: dict[str, Any], name: str, folder: Path) -> Recipe:
    for key in table:
        if key not in _KEYS:
            close = difflib.get_close_matches(key, _KEYS, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise SettingsError(f"recipe {name}: unknown key {key!r}{hint}")
    if missing := _KEYS - {"licenses"} - table.keys():
        raise SettingsError(f"recipe {name} lacks: {', '.join(sorted(missing))}")
    texts = ("name", "title", "base", "adapter", "structure", "recogniser", "autocast", "negative_prompt")
    if wrong := [key for key in texts if not isinstance(table[key], str)]:
        raise SettingsError(f"recipe {name}: {wrong[0]} must be text, got {table[wrong[0]]!r}")
    if table["recogniser"] != "w600k_mbf":
        raise SettingsError(f"recipe {name}: recogniser {table['recogniser']!r} is not here; known: w600k_mbf")
    if table["structure"] not in STRUCTURES:
        raise SettingsError(f"recipe {name}: structure {table['structure']!r} is not one of: {', '.join(STRUCTURES)}")
    if unknown := set(table["styles"]) - styles().keys():
        raise SettingsError(f"recipe {name}: no such style: {', '.join(sorted(unknown))}")
    try:
        points = tuple((float(p["at"]), Knobs(**{k: v for k, v in p.items() if k != "at"})) for p in table["balance"])
        if not all(isinstance(getattr(k, f.name), int | float) for _, k in points for f in fields(Knobs)):
            raise TypeError("a knob is not a number")
    except (TypeError, KeyError) as error:
        raise SettingsError(f"recipe {name}: a [[balance]] point does not fit: {error}") from None
    if [p[0] for p in points] != sorted({p[0] for p in points}) or not points:
        raise SettingsError(f"recipe {name}: the [[balance]] points must rise in `at`")
    base = folder / table["base"]
    if not base.is_dir():
        raise WeightsMissingError(f"the model of recipe {name} is not at {base}")
    return Recipe(
        **{k: table[k] for k in ("name", "title", "structure", "recogniser", "autocast", "negative_prompt")},
        resolution=int(table["resolution"]),
        base=base,
        adapter=base / table["adapter"],
        styles=tuple(table["styles"]),
        balance=points,
        licenses=tuple(table.get("licenses", ())),
    )
