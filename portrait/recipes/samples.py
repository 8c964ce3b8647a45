"""Locate the sample picture of a recipe's style."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable

from portrait.paths import config_dir


def sample_file(recipe: str, style: str) -> Traversable | None:
    """The WebP sample of a style by this recipe; None if there is none.

    Samples ship with the package for `mini`; `eval/style_samples.py` makes them, also for the user's own recipes and styles,
    into `samples/` in the configuration folder.
    """
    for folder in (config_dir() / "samples", resources.files("portrait.studio") / "samples"):
        file: Traversable = folder / recipe / f"{style}.webp"
        if file.is_file():
            return file
    return None
