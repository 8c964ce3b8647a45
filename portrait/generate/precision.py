"""Choose the number type that a model computes in, by how fast this processor is in each."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from portrait.errors import InputError
from portrait.files import write_json
from portrait.paths import cache_dir
from portrait.recipes.recipe import Recipe

ROUNDS = 5
"""How often each type is measured."""
ADVANTAGE = 0.9
"""bfloat16, which rounds to three digits, is chosen only if it takes less than this share of float32's time."""
_TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
"""CPU features that decide how fast each type is, as Linux names them."""


@dataclass(frozen=True, slots=True)
class Precision:
    """A model computes in `dtype`, float32, bfloat16 or float16, and keeps its weights in `weights`."""

    dtype: str
    weights: torch.dtype

    @classmethod
    def choose(cls, recipe: Recipe, device: torch.device, asked: str = "auto", threads: int = 1) -> Precision:
        """Choose the type for a recipe on a device.

        On a GPU: the family's type for public models, and float32 for `mini`. On a CPU: float32, or bfloat16 if the recipe
        supports it and `measured_speed` finds it faster.

        Args:
            recipe: Its `autocast` says whether it supports bfloat16.
            device: The device that it runs on.
            asked: float32 or bfloat16, or auto.
            threads: CPU threads that it computes with.
        """
        family = recipe.family_facts.gpu_dtype
        if device.type != "cpu":
            name = asked if asked != "auto" else family if recipe.memory else "float32"
            return cls(name, _TYPES[name])
        name = asked
        if asked == "auto":
            name = measured_speed(threads).faster if recipe.autocast == "bfloat16" else "float32"
        # Weights published in bfloat16 stay as they are; others are only rounded for each computation.
        return cls(name, _TYPES[name] if name == family == "bfloat16" else torch.float32)

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Within the block, torch computes in `dtype` even though the weights are float32."""
        is_mixed = self.dtype == "bfloat16" and self.weights == torch.float32
        return torch.autocast("cpu", torch.bfloat16) if is_mixed else contextlib.nullcontext()


@dataclass(frozen=True, slots=True)
class Speed:
    """Milliseconds of CPU time for the same layers in each type; None if torch does not support bfloat16 here.

    CPU time, unlike the clock, does not depend on what else the machine does.
    """

    float32: float
    bfloat16: float | None

    @property
    def faster(self) -> str:
        """The faster type."""
        return "bfloat16" if self.bfloat16 is not None and self.bfloat16 < ADVANTAGE * self.float32 else "float32"


def measured_speed(threads: int) -> Speed:
    """Measure how fast this processor is in each type: once, in well under a second, then cached in a file.

    Args:
        threads: Number of torch threads; each number is measured separately.
    """
    key = f"{processor()}, {threads} threads, torch {torch.__version__}"
    speeds = _read()
    if key not in speeds:
        speeds[key] = _measure()
        with contextlib.suppress(InputError):  # without a writable cache, it is measured each time
            write_json(cache_file(), {name: [speed.float32, speed.bfloat16] for name, speed in speeds.items()})
    return speeds[key]


def cache_file() -> Path:
    """The file that holds the measurements, by processor."""
    return cache_dir() / "processors.json"


def processor() -> str:
    """The processor's name, its instructions that matter here, and those that it was told not to use."""
    name, flags = platform.processor() or platform.machine(), ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        about = {key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in lines) if colon}
        name = about.get("model name", name)
        flags = " ".join(flag for flag in _FLAGS if flag in about.get("flags", "").split())
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    return " ".join(part for part in (name, f"({flags})" if flags else "", f"at most {limit}" if limit else "") if part)


def _read() -> dict[str, Speed]:
    """Read earlier measurements; none if the file is missing or damaged."""
    try:
        rows = json.loads(cache_file().read_text("utf-8"))
        return {str(key): Speed(float(a), None if b is None else float(b)) for key, (a, b) in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


@torch.inference_mode()
def _measure() -> Speed:
    """Measure the layers in each type in turn."""
    has_bfloat16 = torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    types = [torch.float32, torch.bfloat16] if has_bfloat16 else [torch.float32]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 160, 32, 32, generator=generator).contiguous(memory_format=torch.channels_last)
    kernel = (torch.randn(160, 160, 3, 3, generator=generator) * 0.02).contiguous(memory_format=torch.channels_last)
    matrix = torch.randn(640, 160, generator=generator) * 0.05
    spent = dict.fromkeys(types, 0.0)
    for round_ in range(1 + ROUNDS):
        for dtype in types:
            start = time.process_time()
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
                _layers(x, kernel, matrix)
            if round_:  # the first run pays for one-time preparation
                spent[dtype] += time.process_time() - start
    milliseconds = {dtype: round(seconds * 1000 / ROUNDS, 2) for dtype, seconds in spent.items()}
    return Speed(milliseconds[torch.float32], milliseconds.get(torch.bfloat16))


def _layers(x: Tensor, kernel: Tensor, matrix: Tensor) -> Tensor:
    """Layers of the kinds and sizes in `mini`: convolutions at 32 x 32, and the linear layers after attention."""
    for _ in range(4):
        x = F.conv2d(F.silu(F.group_norm(x, 8)), kernel, padding=1)
        tokens = x.flatten(2).transpose(1, 2)
        inner = F.gelu(F.linear(tokens, matrix))
        x = (tokens + F.linear(inner, matrix.T)).transpose(1, 2).unflatten(2, (32, 32))
    return x
