"""Shared by the flow-matching families: where denoising starts, and its noise levels."""

from __future__ import annotations

from portrait.records import Knobs


def noise_levels(knobs: Knobs) -> list[float]:
    """The sigmas of the steps that run, falling from `strength`, before the scheduler shifts them.

    If the strength is a whole number of steps, they are those that diffusers runs; otherwise diffusers rounds down to whole
    steps, so that four steps allow only four strengths.
    """
    steps = knobs.steps
    return [knobs.strength * (steps - step) / steps for step in range(steps)]
