"""Choose the number type that a model computes in with torch."""

from __future__ import annotations

import contextlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

from portrait.recipes.recipe import Recipe

_TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")
_FLAGS = ("avx2", "avx512f", *_BFLOAT16)
"""CPU features that decide how fast each type is, as Linux names them; without one of the last three, of which `bf16` is that of
ARM, bfloat16 is emulated, slowly."""


@dataclass(frozen=True, slots=True)
class Precision:
    """A model computes in `dtype`, float32, bfloat16 or float16, and keeps its weights in `weights`."""

    dtype: str
    weights: torch.dtype

    @classmethod
    def choose(cls, recipe: Recipe, device: torch.device, asked: str = "auto") -> Precision:
        """Choose the type for a recipe on a device.

        By default float32 for `mini`. For public models on a GPU: the family's type. On a CPU: bfloat16 if the recipe
        supports it and the processor has instructions for it, else float32.

        Args:
            recipe: Its `autocast` says whether it supports bfloat16.
            device: The device that it runs on.
            asked: float32 or bfloat16, or auto.
        """
        family = recipe.family_facts.gpu_dtype
        if device.type != "cpu":
            name = asked if asked != "auto" else family if recipe.memory else "float32"
            return cls(name, _TYPES[name])
        name = asked
        if asked == "auto":
            is_fast = recipe.autocast == "bfloat16" and has_bfloat16()
            name = "bfloat16" if recipe.memory and is_fast else "float32"
        # Weights published in bfloat16 stay as they are; others are only rounded for each computation.
        return cls(name, _TYPES[name] if name == family == "bfloat16" else torch.float32)

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Within the block, torch computes in `dtype` even though the weights are float32."""
        is_mixed = self.dtype == "bfloat16" and self.weights == torch.float32
        return torch.autocast("cpu", torch.bfloat16) if is_mixed else contextlib.nullcontext()


def has_bfloat16() -> bool:
    """Whether this processor is known to have instructions for bfloat16, and was not told to do without."""
    return any(flag in processor() for flag in _BFLOAT16) and "ONEDNN_MAX_CPU_ISA" not in os.environ


def processor() -> str:
    """The processor's name, its instructions that matter here, and those that it was told not to use."""
    name, flags = platform.processor() or platform.machine(), ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        about = {key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in lines) if colon}
        name = about.get("model name", name)
        features = (about.get("flags") or about.get("Features") or "").split()  # x86 or ARM
        flags = " ".join(flag for flag in _FLAGS if flag in features)
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    return " ".join(part for part in (name, f"({flags})" if flags else "", f"at most {limit}" if limit else "") if part)
