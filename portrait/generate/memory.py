"""Choose the device that makes the pictures, and how much of a model is on it at once.

| tier | on the device | for |
|---|---|---|
| full | everything | enough memory |
| offload | one model at a time (accelerate's model offload), VAE in slices | half to three quarters of it |
| sequential | one layer at a time, VAE in slices and tiles | little memory; slow |

What a recipe needs in each is estimated from file sizes, not measured.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch

from portrait.errors import MemoryLimitError, SettingsError, one_line

TIERS = ("full", "offload", "sequential")
_SIGNS = (
    "out of memory",
    "can't allocate memory",  # the CPU's, of POSIX
    "not enough memory: you tried to allocate",  # the CPU's, of Windows
    "cublas_status_alloc_failed",
)


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA, else Apple's MPS, else the CPU.

    Raises:
        SettingsError: this machine does not have the device.
    """
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    if name == "auto":
        return torch.device(available[0])
    if name not in available:
        raise SettingsError(f"device {name!r} is not available; this machine has: {', '.join(available)}")
    return torch.device(name)


def free_memory(device: torch.device) -> float:
    """Free memory of the device in GiB; for the CPU, the memory that the system reports as available."""
    if device.type == "cuda":
        free_bytes, _ = torch.cuda.mem_get_info(device)
        return float(free_bytes) / 2**30
    if device.type == "mps":
        return float(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()) / 2**30
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            kib = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
        return kib / 2**20
    except (OSError, StopIteration, ValueError):
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
        return pages / 2**30 if pages > 0 else float("inf")


def choose_tier(name: str, needs: Sequence[float], free: float, device: str) -> str:
    """The first tier for which memory suffices; a recipe's needs are in GiB, in the order of `TIERS`.

    The CPU (at twice the bytes, float32) and MPS know only `full`: offloading moves models off a CUDA device.

    Raises:
        SettingsError: not even the smallest tier fits, or the tier does not exist on this device.
    """
    usable = TIERS if device == "cuda" else TIERS[:1]
    if name != "auto":
        if name not in usable:
            raise SettingsError(f"memory {name!r} needs a CUDA device; on {device} there is: {', '.join(usable)}")
        return name
    factor = 2.0 if device == "cpu" else 1.0
    for tier, need in zip(usable, needs or [0.0], strict=False):
        if need * factor <= free:
            return tier
    smallest_need = needs[len(usable) - 1] * factor
    raise SettingsError(
        f"this recipe needs about {smallest_need:.1f} GiB on {device}, but only {free:.1f} GiB are free; close other programs, use a "
        f"smaller recipe (portrait doctor lists them), or try all the same with --memory {usable[-1]}"
    )


def max_batch_size(tier: str, needs: Sequence[float], free: float, resolution: int, device: str) -> int:
    """How many pictures of a batch are made together: as many as fit beside the model, at least one.

    Each further picture is estimated to need 1 GiB at 512 px and four times as much at twice the side. A recipe that states
    no memory needs is small, and has no limit.
    """
    if not needs:
        return 1000
    factor = 2.0 if device == "cpu" else 1.0
    spare = free - factor * needs[min(TIERS.index(tier), len(needs) - 1)]
    return 1 + max(0, int(spare / (factor * (resolution / 512) ** 2)))


def smaller_tier(tier: str, device: str) -> str:
    """The next smaller tier, or the same if there is none."""
    return TIERS[min(TIERS.index(tier) + 1, len(TIERS) - 1)] if device == "cuda" else tier


def place(pipe: Any, tier: str, device: torch.device) -> None:
    """Put a diffusers pipeline on the device as a tier says; may be called again with a smaller tier."""
    if device.type == "cpu":
        return
    if tier == "full":
        pipe.to(device)
        return
    pipe.remove_all_hooks()
    if tier == "offload":
        pipe.enable_model_cpu_offload(device=device)
    else:
        pipe.enable_sequential_cpu_offload(device=device)
    save_vae_memory(pipe.vae, tiles=tier == "sequential")


def save_vae_memory(vae: Any, *, tiles: bool) -> None:
    """Decode one picture at a time and, with `tiles`, part by part, if the VAE supports it."""
    if hasattr(vae, "enable_slicing"):
        vae.enable_slicing()
    if tiles and hasattr(vae, "enable_tiling"):
        vae.enable_tiling()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a torch error means that memory ran out, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS)


def raise_if_oom(error: BaseException, what: str) -> None:
    """Raises MemoryLimitError if an error while loading `what` means that memory ran out."""
    if is_out_of_memory(error):
        raise MemoryLimitError(
            f"out of memory while loading {what} ({one_line(error)}); close other programs, or use a smaller recipe "
            "(portrait doctor lists them)"
        ) from None


def release(device: torch.device) -> None:
    """Return cached memory to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
