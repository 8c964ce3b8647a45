"""In which numbers a model computes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import torch

from portrait.recipes.recipe import Recipe

_TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Precision:
    """In which numbers a model computes: `dtype` is float32, bfloat16 or float16, `weights` what its weights are kept in."""

    dtype: str
    weights: torch.dtype

    @classmethod
    def choose(cls, recipe: Recipe, device: torch.device) -> Precision:
        """Its family's type for public models on a GPU; on the CPU float32, or bfloat16 where recipe and CPU allow it."""
        if device.type != "cpu":
            name = recipe.family_facts.gpu_dtype
            return cls(name, _TYPES[name]) if recipe.memory else cls("float32", torch.float32)
        # Without AVX-512 torch computes bfloat16 convolutions far slower than float32.
        fast = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        if recipe.autocast != "bfloat16" or not fast:
            return cls("float32", torch.float32)
        # Weights that are published in bfloat16 are kept so; others are rounded as they are computed with.
        return cls("bfloat16", torch.bfloat16 if recipe.family_facts.gpu_dtype == "bfloat16" else torch.float32)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Within the block torch computes in `dtype`, where the weights are kept in float32."""
        is_mixed = self.dtype == "bfloat16" and self.weights == torch.float32
        return torch.autocast("cpu", torch.bfloat16) if is_mixed else contextlib.nullcontext()
