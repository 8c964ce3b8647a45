"""Shared by the flow-matching families: where denoising starts, its noise levels, and how much each picture is seen."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from portrait.records import Knobs


def noise_levels(knobs: Knobs) -> list[float]:
    """The sigmas of the steps that run, falling from `strength`, before the scheduler shifts them.

    If the strength is a whole number of steps, they are those that diffusers runs; otherwise diffusers rounds down to whole
    steps, so that four steps allow only four strengths.
    """
    steps = knobs.steps
    return [knobs.strength * (steps - step) / steps for step in range(steps)]


def attention_bias(lengths: Sequence[int], scales: Sequence[float], like: Tensor) -> Tensor | None:
    """The bias of the attention to each token that weighs groups of tokens by their scales; None if all are 1.

    Args:
        lengths: Tokens of each group, in the order of the sequence.
        scales: Scale of each group, above 0; at s, a group weighs as if each of its tokens occurred s times.
        like: A tensor with the dtype and device to use.

    Returns:
        (1, 1, 1, L).

    Reference:
        Tan et al. 2024, OminiControl: the logarithm of the condition's strength as a bias of the attention to it.
    """
    if all(scale == 1 for scale in scales):
        return None
    groups = [torch.full((length,), math.log(scale)) for length, scale in zip(lengths, scales, strict=True)]
    return torch.cat(groups).to(like)[None, None, None]
