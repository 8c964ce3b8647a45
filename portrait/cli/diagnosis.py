"""Look at this machine: what is installed, how much memory and disk there is, and which recipes can run."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from portrait.errors import PortraitError, SettingsError
from portrait.faces.insightface_analyzer import find_pack
from portrait.hub import download, pins, store
from portrait.hub import files as weights
from portrait.hub.judges import SECOND_DETECTOR, face_files, face_parts, second_detector_part
from portrait.hub.manifest import find_part
from portrait.paths import cache_dir, cpu_threads, free_bytes
from portrait.recipes.licensing import face_tools, noncommercial_links
from portrait.recipes.load import load_recipe, recipe_names
from portrait.recipes.recipe import Recipe

if TYPE_CHECKING:
    import torch

_PACKAGES = (
    "torch", "diffusers", "transformers", "accelerate", "peft", "huggingface_hub", "insightface", "onnxruntime",
    "dlib-bin",
)  # fmt: skip
_INSIGHTFACE = ("insightface",)  # not needed for commercial use: YuNet, SFace and dlib do
_PYTHON = (3, 11)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeState:
    """Whether a recipe can run on this machine now, with --commercial if that is allowed.

    `missing_bytes` must be fetched (some sizes are unknown), `memory_gib` is what each memory tier needs, and `do` says what
    to do if the recipe does not run.
    """

    title: str = ""
    runs: bool = False
    here: bool = False
    missing_bytes: int = 0
    device: str = ""
    tier: str = ""
    memory_gib: dict[str, float] = field(default_factory=dict)
    commercial: bool = False
    do: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Where weights are stored, and how much space there is."""

    folder: str
    free_gib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Everything that `portrait doctor` prints; `problems` are sentences.

    `second_detector` is the detector for pictures in which the first finds no face; empty if not fetched. Without torch,
    `device` is "unknown" and `memory_free_gib` None; it is also None if a device does not report it.
    """

    python: str
    system: str
    packages: dict[str, str]
    device: str
    memory_free_gib: float | None
    disk: Disk
    cache: str
    lock_file: str
    endpoint: str
    offline: bool
    faces: dict[str, str]
    second_detector: str
    recipes: dict[str, RecipeState]
    problems: list[str]


def diagnose(device: str) -> Diagnosis:
    """Examine this machine.

    Raises:
        SettingsError: this machine does not have `device`.
    """
    packages = {name: _version(name) for name in _PACKAGES}
    memory = _memory()
    chosen = memory.choose_device(device) if memory else None
    free = memory.free_memory(chosen) if memory else None
    faces = _faces()
    disk = free_bytes(cache_dir())
    recipes = {}
    for name in recipe_names():
        try:
            recipe = load_recipe(name)
            lacks = _lacks(recipe, packages, faces)
            recipes[name] = _recipe_state(recipe, chosen.type if chosen else "unknown", free, disk, lacks)
        except PortraitError as error:
            recipes[name] = RecipeState(do=str(error))
    return Diagnosis(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}, {cpu_threads()} CPU threads",
        packages=packages,
        device=_device_name(chosen) if chosen else "unknown",
        memory_free_gib=None if free is None else round(free, 1),
        disk=Disk(folder=str(cache_dir()), free_gib=round(disk / 2**30, 1)),
        cache=str(cache_dir()),
        lock_file=str(pins.lock_file()),
        endpoint=download.endpoint(),
        offline=download.offline(),
        faces=faces,
        second_detector="" if second_detector_part() is None else SECOND_DETECTOR,
        recipes=recipes,
        problems=_problems(packages, faces, chosen),
    )


def _problems(packages: Mapping[str, str], faces: Mapping[str, str], device: torch.device | None) -> list[str]:
    problems = []
    if sys.version_info[:2] < _PYTHON:
        problems.append(f"Python {platform.python_version()} is too old; 3.11 or newer is needed")
    problems += [f"{name} is not installed; run: pip install {name}" for name, number in packages.items() if not number]
    if device and device.type == "cpu" and shutil.which("nvidia-smi"):
        problems.append(
            "there seems to be an NVIDIA GPU, but torch does not see one; if pip show torch says +cpu, run: "
            "pip install --force-reinstall torch, otherwise check the driver (nvidia-smi)"
        )
    return [*problems, *dict.fromkeys(state for state in faces.values() if state != "here")]


def _memory() -> ModuleType | None:
    """The module `generate.memory`, or None if torch cannot be imported."""
    try:
        from portrait.generate import memory
    except (ImportError, OSError):  # OSError: torch lacks a shared library
        return None
    return memory


def _faces() -> dict[str, str]:
    """Face model -> "here", or what is wrong with it."""

    def state(find: Callable[..., Path], *args: weights.WeightFile) -> str:
        try:
            find(*args)
        except PortraitError as error:
            return str(error)
        return "here"

    states = dict.fromkeys((weights.SCRFD_500M.name, weights.W600K_MBF.name), state(find_pack))
    return states | {file.name: state(weights.locate, file) for file in (weights.DLIB_RESNET, weights.DLIB_LANDMARKS)}


def _lacks(recipe: Recipe, packages: dict[str, str], faces: dict[str, str]) -> str:
    """The packages or face models that a recipe lacks, and what to do; empty if none.

    A recipe for commercial use does not need InsightFace if YuNet and SFace are here.
    """
    lacking = _tools_lacking("insightface", packages, faces)
    if not lacking or face_tools(recipe, commercial=True) == "insightface":
        return lacking
    return _tools_lacking("opencv", packages, faces)


def _tools_lacking(tools: str, packages: dict[str, str], faces: dict[str, str]) -> str:
    missing = [
        name for name, number in packages.items() if not number and (tools != "opencv" or name not in _INSIGHTFACE)
    ]
    if missing:
        return f"{', '.join(missing)} not installed; run: pip install {' '.join(missing)}"
    lacking = next((faces[file.name] for file in face_files(tools) if faces[file.name] != "here"), "")
    absent = [part.name for part in face_parts(tools) if not store.status(part).complete]
    return lacking or (f"{', '.join(absent)} not fetched; run: portrait weights fetch judges" if absent else "")


def _recipe_state(recipe: Recipe, device: str, free: float | None, disk: int, lacks: str) -> RecipeState:
    memory = _memory()
    states = [store.status(find_part(name)) for name in recipe.part_names]
    missing = sum(max(0, s.part.size - s.bytes) for s in states if not s.complete)
    where = device if recipe.memory else "cpu"
    tier, too_small = _tier(recipe, where, free)
    do = lacks or too_small or _lacks_disk(missing, disk)
    is_complete = all(s.complete for s in states)
    return RecipeState(
        title=recipe.title,
        runs=is_complete and not do,
        here=is_complete,
        missing_bytes=missing,
        device=where,
        tier=tier,
        memory_gib=dict(zip(memory.TIERS, recipe.memory, strict=False)) if memory else {},
        commercial=not noncommercial_links(recipe),
        do=do or ("" if is_complete else f"portrait weights fetch {recipe.name}"),
    )


def _tier(recipe: Recipe, device: str, free: float | None) -> tuple[str, str]:
    """The memory tier that fits, and what to do if none does, so that users know before a large download."""
    memory = _memory()
    if memory is None:
        return "", ""
    try:
        return memory.choose_tier("auto", recipe.memory, free if recipe.memory else float("inf"), device), ""
    except SettingsError as error:
        return "", str(error)


def _lacks_disk(missing: int, free: int) -> str:
    if not missing or missing + store.RESERVE <= free:
        return ""
    return (
        f"{missing / 2**30:.1f} GiB must be fetched, but only {free / 2**30:.1f} GiB are free in {cache_dir()}; "
        "free some space, or set PORTRAIT_CACHE to a folder on another disk"
    )


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        import torch

        return f"cuda: {torch.cuda.get_device_name(device)}"
    return {"mps": "mps: Apple GPU"}.get(device.type, f"cpu: {platform.processor() or platform.machine()}")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def in_lines(machine: Diagnosis) -> list[str]:
    """The diagnosis for a terminal."""
    offline = " (HF_HUB_OFFLINE is set)" if machine.offline else ""
    pinned = "" if Path(machine.lock_file).exists() else " (none yet)"
    faces = (f"{name} {'here' if state == 'here' else 'MISSING'}" for name, state in machine.faces.items())
    free = "" if machine.memory_free_gib is None else f", {machine.memory_free_gib} GiB free"
    second = machine.second_detector or f"none; {SECOND_DETECTOR} comes with: portrait weights fetch judges"
    lines = [
        f"Python {machine.python}, {machine.system}",
        ", ".join(f"{name} {number or 'MISSING'}" for name, number in machine.packages.items()),
        f"device: {machine.device}{free}",
        f"mini runs on the CPU in onnxruntime {machine.packages['onnxruntime'] or 'MISSING'}, public models in torch",
        f"disk: {machine.disk.free_gib} GiB free in {machine.disk.folder}",
        f"hub: {machine.endpoint}{offline}",
        f"pins of first use: {machine.lock_file}{pinned}",
        f"face models: {', '.join(faces)}",
        f"second detector, if no face is found: {second}",
        "",
    ]
    width = max(len(name) for name in machine.recipes)
    lines += [f"{name:{width}}  {_in_line(recipe)}" for name, recipe in machine.recipes.items()]
    lines += ["", "GiB: estimates for the memory tiers full/offload/sequential on a GPU; on a CPU twice the first."]
    if machine.device.startswith("cpu"):
        lines.append("No GPU is used: public models take minutes per picture on a CPU; mini is made for CPUs.")
    return lines + [f"problem: {text}" for text in machine.problems]


def _in_line(recipe: RecipeState) -> str:
    """The memory that a recipe needs, and whether it runs or what to do."""
    state = f"runs on {recipe.device}, memory tier {recipe.tier}"
    if not recipe.runs:
        state = recipe.do.partition(";")[0]
        if state.startswith("portrait weights fetch"):
            state += f"   (at least {recipe.missing_bytes / 2**30:.1f} GiB)"
    needs = "/".join(f"{gib:g}" for gib in recipe.memory_gib.values())
    return f"{f'{needs} GiB' if needs else '':>16}  {state}"
