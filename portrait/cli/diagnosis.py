"""Look at this machine: what is installed, how much memory and disk there is, and which recipes can run."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from portrait.errors import PortraitError, SettingsError
from portrait.hub import download, pins, store
from portrait.hub import files as weights
from portrait.hub.manifest import find_part
from portrait.paths import cache_dir, cpu_threads
from portrait.recipes.licensing import FACE_FILES, face_tools, noncommercial_links
from portrait.recipes.load import load_recipe, recipe_names
from portrait.recipes.recipe import Recipe

_PACKAGES = (
    "torch", "diffusers", "transformers", "accelerate", "peft", "huggingface_hub", "insightface", "onnxruntime",
    "dlib-bin",
)  # fmt: skip
_INSIGHTFACE = ("insightface", "onnxruntime")  # not needed where dlib alone finds and judges faces
_PYTHON = (3, 11)


def diagnose(device: str = "auto") -> dict[str, Any]:
    """Everything that `portrait doctor` prints, as plain values.

    Returns:
        python, packages, device, memory, disk, faces: what is here (device and memory are "unknown" and None without
        torch); recipes: name -> runs (whether it can run now, with --commercial where that is allowed), tier,
        memory_gib (per tier), missing_bytes (to fetch; some sizes are not known), commercial, and do, what to do if it
        does not run; problems: sentences.

    Raises:
        SettingsError: `device` is not here.
    """
    problems = []
    if sys.version_info[:2] < _PYTHON:
        problems.append(f"Python {platform.python_version()} is too old; 3.11 or newer is needed")
    packages = {name: _version(name) for name in _PACKAGES}
    problems += [f"{name} is not installed; run: pip install {name}" for name, found in packages.items() if not found]
    memory = _memory()
    chosen = memory.choose_device(device) if memory else None
    if chosen and chosen.type == "cpu" and shutil.which("nvidia-smi"):
        problems.append(
            "there seems to be an NVIDIA GPU, but torch does not see one; if pip show torch says +cpu, run: "
            "pip install --force-reinstall torch, and otherwise look at the driver (nvidia-smi)"
        )
    free = memory.free_memory(chosen) if memory else None
    faces = _faces()
    problems += dict.fromkeys(state for state in faces.values() if state != "here")
    disk = store.free_bytes()
    recipes = {}
    for name in recipe_names():
        try:
            recipe = load_recipe(name)
            lacks = _lacks(recipe, packages, faces)
            recipes[name] = _recipe(recipe, chosen.type if chosen else "unknown", free, disk, lacks)
        except PortraitError as error:
            recipes[name] = {"runs": False, "do": str(error)}
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {cpu_threads()} processor threads",
        "packages": packages,
        "device": _device_name(chosen) if chosen else "unknown",
        "memory_free_gib": None if free is None else round(free, 1),
        "disk": {"folder": str(cache_dir()), "free_gib": round(disk / 2**30, 1)},
        "cache": str(cache_dir()),
        "lock_file": str(pins.lock_file()),
        "endpoint": download.endpoint(),
        "offline": download.offline(),
        "faces": faces,
        "recipes": recipes,
        "problems": problems,
    }


def _memory() -> Any:
    """The module `generate.memory`, or None where torch cannot be imported."""
    try:
        from portrait.generate import memory
    except (ImportError, OSError):  # OSError: a library that torch needs
        return None
    return memory


def _faces() -> dict[str, str]:
    """Face model -> here, or what is wrong with it."""
    from portrait.faces.insightface_analyzer import find_pack

    def state(find: Callable[..., Path], *args: weights.WeightFile) -> str:
        try:
            find(*args)
        except PortraitError as error:
            return str(error)
        return "here"

    found = dict.fromkeys((weights.SCRFD_500M.name, weights.W600K_MBF.name), state(find_pack))
    return found | {file.name: state(weights.locate, file) for file in (weights.DLIB_RESNET, weights.DLIB_LANDMARKS)}


def _lacks(recipe: Recipe, packages: dict[str, str], faces: dict[str, str]) -> str:
    """Which package or face model a recipe lacks, and what to do; empty if none. For a business dlib's are enough."""
    tools = face_tools(recipe, commercial=True)
    missing = [name for name, found in packages.items() if not found and (tools != "dlib" or name not in _INSIGHTFACE)]
    if missing:
        return f"{', '.join(missing)} not installed; run: pip install {' '.join(missing)}"
    return next((faces[file.name] for file in FACE_FILES[tools] if faces[file.name] != "here"), "")


def _recipe(recipe: Recipe, device: str, free: float | None, disk: int, lacks: str) -> dict[str, Any]:
    memory = _memory()
    states = [store.status(find_part(name)) for name in recipe.part_names]
    missing = sum(max(0, s.part.size - s.bytes) for s in states if not s.complete)
    where = device if recipe.memory else "cpu"
    tier, do = "", lacks
    if memory is not None:
        try:
            tier = memory.choose_tier("auto", recipe.memory, free if recipe.memory else float("inf"), where)
        except SettingsError as error:  # said before anything large is downloaded
            do = do or str(error)
    if missing and missing + store.RESERVE > disk:
        do = do or (
            f"{missing / 2**30:.1f} GiB are missing and {disk / 2**30:.1f} GiB of disk are free in {cache_dir()}; "
            "free some space, or set PORTRAIT_CACHE to a folder on another disk"
        )
    here = all(s.complete for s in states)
    return {
        "title": recipe.title,
        "runs": here and not do,
        "here": here,
        "missing_bytes": missing,
        "device": where,
        "tier": tier,
        "memory_gib": dict(zip(memory.TIERS, recipe.memory, strict=False)) if memory else {},
        "commercial": not noncommercial_links(recipe),
        "do": do or ("" if here else f"portrait weights fetch {recipe.name}"),
    }


def _device_name(device: Any) -> str:
    if device.type == "cuda":
        import torch

        return f"cuda: {torch.cuda.get_device_name(device)}"
    return {"mps": "mps: Apple GPU"}.get(device.type, f"cpu: {platform.processor() or platform.machine()}")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def in_lines(found: dict[str, Any]) -> list[str]:
    """The diagnosis for a terminal."""
    lines = [
        f"Python {found['python']}, {found['system']}",
        ", ".join(f"{name} {number or 'MISSING'}" for name, number in found["packages"].items()),
        f"device: {found['device']}"
        + ("" if found["memory_free_gib"] is None else f", {found['memory_free_gib']} GiB free"),
        f"disk: {found['disk']['free_gib']} GiB free in {found['disk']['folder']}",
        f"hub: {found['endpoint']}" + (" (HF_HUB_OFFLINE is set)" if found["offline"] else ""),
        f"pins of first use: {found['lock_file']}" + ("" if Path(found["lock_file"]).exists() else " (none yet)"),
        "face models: " + ", ".join(f"{k} {'here' if v == 'here' else 'MISSING'}" for k, v in found["faces"].items()),
        "",
    ]
    width = max(len(name) for name in found["recipes"])
    for name, recipe in found["recipes"].items():
        if recipe["runs"]:
            state = f"runs on {recipe['device']}, memory tier {recipe['tier']}"
        else:
            state = recipe["do"].partition(";")[0]
            if state.startswith("portrait weights fetch"):
                state += f"   (at least {recipe['missing_bytes'] / 2**30:.1f} GiB)"
        needs = "/".join(f"{gib:g}" for gib in recipe.get("memory_gib", {}).values())
        lines.append(f"{name:{width}}  {f'{needs} GiB' if needs else '':>16}  {state}")
    lines += ["", "GiB: estimates for the memory tiers full/offload/sequential on a GPU; on a CPU twice the first."]
    if found["device"].startswith("cpu"):
        lines.append("No GPU is used: public models take minutes a picture on a processor; mini is made for it.")
    return lines + [f"problem: {text}" for text in found["problems"]]
