"""Recipes by name or from a TOML file: what one extends, what it may say, and what a caller puts in its place."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from dataclasses import fields, replace
from importlib import resources
from math import inf
from pathlib import Path
from typing import Any

from portrait.errors import SettingsError, WeightsMissingError
from portrait.hub.files import mini_folder
from portrait.hub.manifest import COMMERCIAL, find_part, licenses_of, manifest
from portrait.paths import config_dir
from portrait.recipes.recipe import Lora, Recipe
from portrait.recipes.style import styles
from portrait.records import Knobs

STRUCTURES = ("none", "source_latents", "controlnet")
FAMILIES = ("sd15", "sdxl")
ADAPTERS = ("faceid", "faceid-plusv2", "plus-face", "instantid")
CONTROLS = ("canny", "lineart", "tile", "keypoints")
EMBEDDINGS = ("unit", "raw")
SCHEDULERS = ("", "DDIM", "Euler", "DPM++", "LCM")
ROLES = ("base", "single_file", "vae", "adapter", "image_encoder", "controlnet", "recogniser")
RECOGNISERS = {"w600k_mbf": "buffalo_sc", "w600k_r50": "buffalo_l", "glintr100": "antelopev2"}
"""Recogniser -> the InsightFace pack that it comes from."""
TRAINED_WITH = {
    "faceid_sd15": ("w600k_r50", "unit"),
    "faceid-plusv2_sd15": ("w600k_r50", "unit"),
    "faceid_sdxl": ("w600k_r50", "unit"),
    "faceid-plusv2_sdxl": ("w600k_r50", "unit"),
    "instantid": ("glintr100", "raw"),
}
"""Adapter of the weights manifest -> the recogniser and the form of its embedding that it was trained with."""
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
_OPTIONAL: dict[str, Any] = {  # key -> default; the type of the default is the type of the value
    "family": "sd15",
    "adapter_kind": "faceid",
    "adapter_lora": 1.0,
    "embedding": "unit",
    "control": "",
    "scheduler": "",
    "timestep_spacing": "",
    "min_steps": 1,
    "thresholds": "",
    "prompts": "short",
    "memory": [],
    "parts": {},
    "loras": [],
}


def recipe_names() -> list[str]:
    """Names of the shipped recipes, and of the user's own in `recipes/` of the configuration folder."""
    found = [p.name for p in resources.files("portrait.recipes").iterdir()]
    found += [p.name for p in _own_recipes().values()]
    return sorted({name[:-5] for name in found if name.endswith(".toml") and name != "styles.toml"})


def _own_recipes() -> dict[str, Path]:
    return {path.stem: path for path in sorted((config_dir() / "recipes").glob("*.toml"))}


def load_recipe(name: str) -> Recipe:
    """Load a recipe by name (the user's own before ours), or a TOML file by path.

    Public models need not be on this machine; `located` looks for them.

    Raises:
        SettingsError: no such recipe, an unknown key, a missing or impossible value.
        WeightsMissingError: the recipe's own model folder is not on this machine.
    """
    table, folder = _table(name, ())
    try:
        return _build(table, name, folder)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise SettingsError(f"recipe {name}: a value is of the wrong kind: {error}") from None


def _table(name: str, seen: tuple[str, ...]) -> tuple[dict[str, Any], Path]:
    """A recipe's table with what it extends filled in, and the folder that its paths start from."""
    path = _own_recipes().get(name, Path(name))
    if path.suffix == ".toml" or path.is_file():
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
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(f"recipe {name} is not TOML: {error}") from None
    for lora in table["loras"] if isinstance(table.get("loras"), list) else []:
        if isinstance(lora, dict) and isinstance(lora.get("file"), str):
            lora["file"] = str((folder / lora["file"]).absolute())  # whoever extends this may lie elsewhere
    parent = table.pop("extends", None)
    if parent is None:
        return table, folder
    if isinstance(parent, str) and parent.endswith(".toml"):
        parent = str(folder / parent)
    if not isinstance(parent, str) or parent in (*seen, name):
        raise SettingsError(f"recipe {name}: extends must name another recipe, got {parent!r}")
    below, base = _table(parent, (*seen, name))
    theirs, own = (x.get("parts", {}) for x in (below, table))
    if not isinstance(theirs, dict) or not isinstance(own, dict):
        raise SettingsError(f"recipe {name}: parts must be a table of roles")
    if "base" in table:  # a folder of one's own takes the place of the part
        theirs = {role: part for role, part in theirs.items() if role != "base"}
    merged = below | table | {"parts": theirs | own}
    merged |= {key: _added(name, key, below, table) for key in ("loras", "licenses")}
    return merged, folder if "base" in table or "base" not in below else base


def _added(name: str, key: str, below: dict[str, Any], table: dict[str, Any]) -> list[Any]:
    """The entries of what is extended, then a recipe's own; one that names the same part or file takes its place."""
    theirs, own = (x.get(key, []) for x in (below, table))
    if not isinstance(theirs, list) or not isinstance(own, list):
        raise SettingsError(f"recipe {name}: {key} must be a list of tables, [[{key}]]")

    def what(entry: Any) -> Any:
        return (entry.get("part"), entry.get("file")) if isinstance(entry, dict) else entry

    named = [what(entry) for entry in own]
    return [*(entry for entry in theirs if what(entry) not in named), *own]


def _build(table: dict[str, Any], name: str, folder: Path) -> Recipe:
    known = _KEYS | _OPTIONAL.keys()
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise SettingsError(f"recipe {name}: unknown key {key!r}{hint}")
    more = {key: table.get(key, default) for key, default in _OPTIONAL.items()}
    parts = more["parts"]
    table = {"base": "", "adapter": ""} | table if parts else table
    if missing := _KEYS - {"licenses"} - table.keys():
        raise SettingsError(f"recipe {name} lacks: {', '.join(sorted(missing))}")
    texts = ("name", "title", "base", "adapter", "structure", "recogniser", "autocast", "negative_prompt")
    if wrong := [key for key in texts if not isinstance(table[key], str)]:
        raise SettingsError(f"recipe {name}: {wrong[0]} must be text, got {table[wrong[0]]!r}")
    for key, default in _OPTIONAL.items():
        kind = (int, float) if isinstance(default, float) else type(default)
        if not isinstance(more[key], kind) or isinstance(more[key], bool):
            raise SettingsError(f"recipe {name}: {key} must be {type(default).__name__}, got {more[key]!r}")
    for key, value, choices in (
        ("structure", table["structure"], STRUCTURES),
        ("family", more["family"], FAMILIES),
        ("adapter_kind", more["adapter_kind"], ADAPTERS),
        ("embedding", more["embedding"], EMBEDDINGS),
        ("scheduler", more["scheduler"], SCHEDULERS),
        ("control", more["control"], CONTROLS if table["structure"] == "controlnet" else ("",)),
        ("thresholds", more["thresholds"], ("", "photo")),
        ("prompts", more["prompts"], ("short", "rich")),
    ):
        if value not in choices:
            raise SettingsError(f"recipe {name}: {key} {value!r} is not one of: {', '.join(choices)}")
    _check_parts(name, table, more)
    chosen = tuple(styles()) if table["styles"] == "any" else tuple(table["styles"])
    if unknown := set(chosen) - styles().keys():
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
    if table["base"] and "base" in parts:
        raise SettingsError(f"recipe {name} names its base twice, as the folder {table['base']} and in [parts]")
    if "base" not in parts and not base.is_dir():
        raise WeightsMissingError(f"the model of recipe {name} is not at {base}")
    loras = tuple(_lora(name, entry) for entry in more["loras"])
    memory = tuple(float(gib) for gib in more["memory"])
    if len(memory) not in (0, 3) or not all(0 < gib < inf for gib in memory):
        raise SettingsError(
            f"recipe {name}: memory is empty, or GiB for the tiers full, offload and sequential; got {more['memory']}"
        )
    recipe = Recipe(
        **{k: table[k] for k in ("name", "title", "structure", "recogniser", "autocast", "negative_prompt")},
        **{k: v for k, v in more.items() if k not in ("loras", "memory")},
        resolution=int(table["resolution"]),
        base=base,
        adapter=base / table["adapter"],
        styles=chosen,
        balance=points,
        licenses=_stated(name, table, parts, base, [lora.path for lora in loras if not lora.part]),
        loras=loras,
        memory=memory,
    )
    return replace(recipe, licenses=(*recipe.licenses, *licenses_of(recipe.part_names)))


def unknown_license(part: str) -> dict[str, str]:
    """The link of the chain for a file of the user's own, of which nobody has stated a licence."""
    return {"part": part, "license": "unknown", "commercial": "unknown"}


def _stated(
    name: str, table: dict[str, Any], parts: dict[str, str], base: Path, loras: Sequence[Path]
) -> tuple[dict[str, str], ...]:
    """The licences that a recipe states of its own files: model folder, adapter, LoRAs. Others are unknown."""
    stated = table.get("licenses", [])
    for link in stated:
        if not isinstance(link, dict) or link.keys() != {"part", "license", "commercial"}:
            raise SettingsError(f"recipe {name}: a [[licenses]] entry has part, license and commercial, got {link!r}")
        if not all(isinstance(value, str) for value in link.values()) or link["commercial"] not in COMMERCIAL:
            raise SettingsError(
                f"recipe {name}: commercial of a licence is one of {', '.join(COMMERCIAL)}, got {link!r}"
            )
    files = [] if "base" in parts else [base.resolve()]
    adapter = base / table["adapter"]
    if "adapter" not in parts and not adapter.resolve().is_relative_to(base.resolve()):
        files.append(adapter)
    files += loras
    known = {link["part"] for link in stated}
    return (*stated, *(unknown_license(file.name) for file in files if file.name not in known))


def _check_parts(name: str, table: dict[str, Any], more: dict[str, Any]) -> None:
    """Each role that the recipe's kind needs has a part, no other has one, and the recogniser is the adapter's own."""
    parts, kind = more["parts"], more["adapter_kind"]
    if unknown := parts.keys() - set(ROLES):
        raise SettingsError(f"recipe {name}: unknown role {sorted(unknown)[0]!r} in [parts]; roles: {', '.join(ROLES)}")
    for part in parts.values():
        find_part(part)
    recogniser = table["recogniser"]
    if recogniser not in RECOGNISERS and not (recogniser == "" and kind == "plus-face"):
        raise SettingsError(f"recipe {name}: recogniser {recogniser!r} is not here; known: {', '.join(RECOGNISERS)}")
    needed = {
        "image_encoder": kind in ("faceid-plusv2", "plus-face"),
        "controlnet": table["structure"] == "controlnet",
        "recogniser": recogniser not in ("", "w600k_mbf"),
    }
    for role, wanted in needed.items():
        if wanted != (role in parts):
            raise SettingsError(f"recipe {name}: [parts] {'lacks' if wanted else 'must not name'} {role}")
    if needed["recogniser"] and parts["recogniser"] != RECOGNISERS[recogniser]:
        raise SettingsError(
            f"recipe {name}: {recogniser} comes from the pack {RECOGNISERS[recogniser]}, not {parts['recogniser']}"
        )
    adapter = parts.get("adapter", "")
    chosen, wanted = (recogniser, more["embedding"]), TRAINED_WITH.get(adapter)
    if wanted is not None and chosen != wanted:
        raise SettingsError(
            f"recipe {name}: {adapter} was trained with recogniser {wanted[0]} and embedding {wanted[1]}, "
            f"not {chosen[0] or 'none'} and {chosen[1]}"
        )
    if kind == "instantid" and more["control"] != "keypoints":
        raise SettingsError(f"recipe {name}: instantid needs structure controlnet with control keypoints")


def _lora(name: str, entry: Any) -> Lora:
    if not isinstance(entry, dict) or not {"weight"} < entry.keys() <= {"weight", "part", "file"} or len(entry) != 2:
        raise SettingsError(f"recipe {name}: a [[loras]] entry has a weight and either part or file, got {entry!r}")
    if not -4 <= (weight := float(entry["weight"])) <= 4:
        raise SettingsError(f"recipe {name}: weight {weight} of a LoRA is outside -4 to 4")
    if "part" in entry:
        find_part(entry["part"])
        return Lora(part=str(entry["part"]), weight=weight)
    return Lora(path=Path(str(entry["file"])), weight=weight)


def customised(recipe: Recipe, base: str = "", loras: Sequence[str] = ()) -> Recipe:
    """The recipe with another base model of the same family, and with more LoRAs.

    Args:
        recipe: Of SD 1.5 or SDXL.
        base: A `.safetensors` checkpoint (its configuration is taken from the recipe's own base), a diffusers
            folder, or a part of the weights manifest that is one checkpoint.
        loras: `FILE.safetensors:WEIGHT` each; without a weight it is 1.

    Raises:
        SettingsError: the recipe's model cannot be exchanged, or a file or weight does not fit.
    """
    if (base or loras) and recipe.structure == "source_latents":
        raise SettingsError(f"recipe {recipe.name} is one small model of its own: it takes no --base and no --lora")
    if base:
        recipe = _rebased(recipe, base)
    for text in loras:
        name, colon, number = text.rpartition(":")
        try:
            path, weight = (Path(name), float(number)) if colon and "." in name else (Path(text), 1.0)
        except ValueError:
            path, weight = Path(text), 1.0
        if not path.is_file() or not -4 <= weight <= 4:
            raise SettingsError(
                f"--lora {text!r} is not FILE.safetensors:WEIGHT with a file that exists, such as a.safetensors:0.6"
            )
        more = (*recipe.loras, Lora(path=path.resolve(), weight=weight))
        recipe = replace(recipe, loras=more, licenses=(*recipe.licenses, unknown_license(path.name)))
    return recipe


def _rebased(recipe: Recipe, base: str) -> Recipe:
    path, old = Path(base), recipe.parts.get("base", recipe.base.name)
    kept = tuple(link for link in recipe.licenses if link["part"] != old)
    if base in manifest():
        files = find_part(base).files
        if len(files) != 1 or not files[0].path.endswith(".safetensors"):
            raise SettingsError(
                f"--base {base} is not one checkpoint; name a .safetensors file or a recipe that has it"
            )
        return replace(recipe, parts=recipe.parts | {"single_file": base}, licenses=(*licenses_of([base]), *kept))
    own = unknown_license(path.resolve().name)
    if path.is_dir() and (path / "model_index.json").is_file():
        parts = {role: part for role, part in recipe.parts.items() if role != "base"}
        return replace(recipe, base=path.resolve(), parts=parts, licenses=(own, *kept))
    if path.is_file() and path.suffix == ".safetensors":
        return replace(recipe, single_file=path.resolve(), licenses=(own, *kept))
    raise SettingsError(
        f"--base {base!r} is no .safetensors file, no diffusers folder (with model_index.json) and no part of the weights "
        "manifest"
    )
