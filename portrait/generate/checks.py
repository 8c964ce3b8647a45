"""What every generator checks before and while it draws, in torch or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from math import ceil
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from portrait.errors import BrokenModelError, SettingsError
from portrait.recipes.recipe import Recipe
from portrait.records import Embedding, Knobs, RgbImage
from portrait.settings import Settings

Report = Callable[[int, int], None]
"""Called after each denoising step with (steps done, total steps)."""


class Computing(Protocol):
    """A model that computes pictures, as an error message names it."""

    recipe: Recipe
    dtype: str

    @property
    def device(self) -> object: ...


def check_embedding(embedding: Embedding) -> None:
    """Raises SettingsError if an identity is not finite."""
    if not np.isfinite(embedding).all():
        raise SettingsError("the identity embedding is not finite; the photo's face cannot be used")


def check_knobs(recipe: Recipe, knobs: Knobs) -> None:
    """Raises SettingsError if a knob is outside the range of its setting, or the recipe cannot run as many steps."""
    recipe.check_steps(knobs)
    Settings(**asdict(knobs))
    if knobs.steps < 1:
        raise SettingsError(
            f"strength {knobs.strength} of {knobs.num_inference_steps} steps leaves no denoising step; "
            f"use strength {ceil(100 / knobs.num_inference_steps) / 100} or more"
        )


def require_picture(values: NDArray[np.float32], model: Computing) -> None:
    """Raises BrokenModelError if latents or a picture are not finite, or have the same value everywhere.

    Args:
        values: Of one or several, along the first axis.
        model: The model that computed them.
    """
    finite = np.isfinite(values)
    if not finite.all():
        raise _broken(model, f"is not finite in {1 - finite.mean():.0%} of its values")
    if any(value.min() == value.max() for value in values):
        raise _broken(model, "has the same value everywhere")


def as_picture(values: NDArray[np.float32], model: Computing) -> RgbImage:
    """(S, S, 3) in [0, 1] -> (S, S, 3) uint8.

    Raises:
        BrokenModelError: the picture has one color everywhere.
    """
    picture = as_pixels(values)
    if (picture == picture[0, 0]).all():
        raise _broken(model, "has one color everywhere")
    return picture


def as_pixels(values: NDArray[np.float32]) -> RgbImage:
    """(S, S, 3) in [0, 1] -> (S, S, 3) uint8."""
    return RgbImage(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8))


def _broken(model: Computing, what: str) -> BrokenModelError:
    advice = [
        *(["leave out the LoRAs one at a time"] if model.recipe.loras else []),
        *(["--dtype float32"] if model.dtype != "float32" else []),
        "check the files with portrait weights verify",
        "use another --base or --recipe",
    ]
    return BrokenModelError(
        f"broken_model: the output of recipe {model.recipe.name} on {model.device} in {model.dtype} {what}, so it is not a "
        f"picture. Try: {'; '.join(advice)}"
    )


def part_of(report: Report | None, number: int, count: int) -> Report:
    """A report of the steps of one picture, as steps of all pictures together."""
    return lambda step, total: None if report is None else report(number * total + step, count * total)
