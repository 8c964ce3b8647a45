"""A recipe: which models make the picture, the knobs along the balance dial, the licence of every part."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from math import ceil, inf
from pathlib import Path
from typing import Any

import numpy as np

from portrait.errors import SettingsError, WeightsMissingError
from portrait.hub import part_folder
from portrait.manifest import COMMERCIAL, find_part, licenses_of, manifest
from portrait.recipes.style import Style, styles
from portrait.records import Knobs
from portrait.runtime import config_dir
from portrait.weights import mini_folder, verify_manifest

STRUCTURES = ("none", "source_latents", "controlnet")
FAMILIES = ("sd15", "sdxl")
ADAPTERS = ("faceid", "faceid-plusv2", "plus-face", "instantid")
CONTROLS = ("canny", "lineart", "tile", "keypoints")
EMBEDDINGS = ("unit", "raw")
SCHEDULERS = ("", "DDIM", "Euler", "DPM++", "LCM")
LCM_STEPS = 50
"""Steps that LCM was distilled from (`original_inference_steps` of diffusers' LCMScheduler); it can run no more."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """A LoRA file and its weight; `part` is its name in the weights manifest, empty for a file of the user."""

    weight: float
    part: str = ""
    path: Path = Path()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One way to make pictures. `base` is a diffusers folder, `adapter` an IP-Adapter file.

    `structure` says how the photo's structure is held: `none` is plain img2img (strength alone),
    `source_latents` concatenates the photo's latents to the noisy ones, `controlnet` draws what `control` says
    from the photo. `balance` are points of the dial, (position in [0, 1], knobs), rising. `autocast` is
    `bfloat16` where pictures may be computed in it (only processors that are fast at it do), or empty.

    Public models: `parts` maps a role of `ROLES` to a part of the weights manifest; the paths are filled in by
    `located`. `recogniser` is the one whose embedding the adapter was trained with, empty where none is;
    `embedding` says whether it was fed at unit length or raw. `adapter_lora` is the weight of the LoRA inside the
    adapter's file. `min_steps` is the least number of denoising steps that a distilled model was made for.
    `thresholds` is `photo` for a recipe that was never calibrated. `prompts` says which of a style's two prompts
    the model understands, `short` or `rich`. `memory` are GiB that the tiers full, offload and sequential need.
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
    family: str = "sd15"
    adapter_kind: str = "faceid"
    adapter_lora: float = 1.0
    embedding: str = "unit"
    control: str = ""
    scheduler: str = ""
    timestep_spacing: str = ""
    min_steps: int = 1
    thresholds: str = ""
    prompts: str = "short"
    memory: tuple[float, ...] = ()
    parts: dict[str, str] = field(default_factory=dict)
    loras: tuple[Lora, ...] = ()
    vae: Path | None = None
    image_encoder: Path | None = None
    controlnet: Path | None = None
    recogniser_file: Path | None = None
    single_file: Path | None = None
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def part_names(self) -> list[str]:
        """Every part of the weights manifest that this recipe needs, each once."""
        return list(dict.fromkeys([*self.parts.values(), *(lora.part for lora in self.loras if lora.part)]))

    @property
    def most_steps(self) -> int:
        """The most `num_inference_steps` that the sampler can be asked for."""
        return LCM_STEPS if self.scheduler == "LCM" else 1000

    def fitted(self, knobs: Knobs) -> Knobs:
        """`knobs` with as many steps as leave `min_steps` of them to run at this strength, at most `most_steps`."""
        if self.min_steps <= 1 or knobs.steps >= self.min_steps:
            return knobs
        steps = ceil(round(self.min_steps / max(knobs.strength, 1e-3), 6))
        steps += int(steps * knobs.strength) < self.min_steps  # 0.7 * 10 is 6.999...
        return replace(knobs, num_inference_steps=min(steps, self.most_steps))

    def check_steps(self, knobs: Knobs) -> None:
        """Raises SettingsError when the model was not made for so many or so few steps; names what works."""
        least, most = self.min_steps, self.most_steps
        if knobs.num_inference_steps > most:
            raise SettingsError(
                f"recipe {self.name} takes at most {most} num_inference_steps, got {knobs.num_inference_steps}; "
                f"the {least} that it needs then run from strength {least / most:g} on"
            )
        if knobs.steps < least and least > 1:
            better = self.fitted(knobs)
            enough = better.steps >= least
            use = f"{better.num_inference_steps} steps" if enough else f"strength {least / most:g}"
            raise SettingsError(
                f"strength {knobs.strength} of {knobs.num_inference_steps} steps runs {knobs.steps}, "
                f"recipe {self.name} needs {least}; use {use} or more"
            )

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

    def prompt_of(self, style: Style) -> str:
        """The style's prompt in the form that this model understands."""
        return style.rich_prompt or style.prompt if self.prompts == "rich" else style.prompt


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
