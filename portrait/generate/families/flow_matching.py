"""What the families of flow matching share: where denoising starts, and its noise levels."""

from __future__ import annotations

from portrait.records import Knobs


def noise_levels(knobs: Knobs) -> list[float]:
    """The sigmas of the steps that run, falling from `strength`, before the scheduler shifts them.

    Where strength is a whole number of steps they are those that diffusers runs at this strength; elsewhere diffusers
    starts at the next step below, so that four steps know four strengths only.
    """
    steps = knobs.steps
    return [knobs.strength * (steps - step) / steps for step in range(steps)]
