"""Estimate the finished picture in the middle of denoising."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from portrait.generate.families.family import OnStep


class Estimates:
    """`latest` is the scheduler's last estimate of the clean latents, (B, C, h, w), or None before the first step."""

    latest: Tensor | None = None


@contextmanager
def clean_estimates(pipe: Any) -> Iterator[Estimates]:
    """Record the scheduler's estimates of the clean latents within the block; the scheduler is restored afterwards.

    DDIM, Euler and LCM return the estimate beside the next sample; DPM++ keeps it as its newest model output; for flow
    matching it is the sample minus its noise, computed from the model's output and the noise level.
    """
    estimates = Estimates()
    scheduler = pipe.scheduler
    step = scheduler.step

    @functools.wraps(step)  # pipelines read the signature to know whether `step` takes eta and generator
    def watched_step(*args: Any, **kwargs: Any) -> Any:
        result = step(*args, **kwargs)
        values = result if isinstance(result, tuple) else tuple(result.values())
        model_outputs = getattr(scheduler, "model_outputs", None)
        if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
            velocity, _, sample = args
            estimates.latest = sample - scheduler.sigmas[scheduler.step_index - 1] * velocity
        elif len(values) > 1:
            estimates.latest = values[1]
        else:
            estimates.latest = model_outputs[-1] if model_outputs else None
        return result

    scheduler.step = watched_step
    try:
        yield estimates
    finally:
        del scheduler.step  # delete the instance's attribute, so that the class's method counts again


def step_callback(
    on_step: OnStep, estimates: Estimates, decode: Callable[[Tensor], Tensor]
) -> Callable[[object, int, object, dict[str, Tensor]], dict[str, Tensor]]:
    """Wrap `on_step` as diffusers' callback after each denoising step; it may have the estimate decoded."""

    def report(pipe: object, step: int, timestep: object, kwargs: dict[str, Tensor]) -> dict[str, Tensor]:
        latest = estimates.latest
        on_step(step + 1, kwargs["latents"], lambda: None if latest is None else decode(latest))
        return kwargs

    return report
