"""The estimate of the finished picture in the middle of denoising."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor


class Estimates:
    """`latest` is the scheduler's last estimate of the clean latents, (B, C, h, w), or None before the first step."""

    latest: Tensor | None = None


@contextmanager
def clean_estimates(pipe: Any) -> Iterator[Estimates]:
    """Remember what the pipeline's scheduler thinks the clean latents are; afterwards it is as it was.

    DDIM, Euler and LCM return the estimate beside the next sample; DPM++ keeps it as its newest model output.
    """
    estimates = Estimates()
    scheduler = pipe.scheduler
    step = scheduler.step

    @functools.wraps(step)  # pipelines read the signature to know whether `step` takes eta and generator
    def watched_step(*args: Any, **kwargs: Any) -> Any:
        result = step(*args, **kwargs)
        values = result if isinstance(result, tuple) else tuple(result.values())
        model_outputs = getattr(scheduler, "model_outputs", None)
        if len(values) > 1:
            estimates.latest = values[1]
        else:
            estimates.latest = model_outputs[-1] if model_outputs else None
        return result

    scheduler.step = watched_step
    try:
        yield estimates
    finally:
        del scheduler.step  # the instance's own; the class's comes back
