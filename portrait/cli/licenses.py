"""Print licenses."""

from __future__ import annotations

from collections.abc import Sequence

from portrait.cli.terminal import say
from portrait.recipes.licensing import TRAINING_NOTES
from portrait.records.portrait import LicenseLink


def print_licenses(chain: Sequence[LicenseLink]) -> None:
    """Print a recipe's chain of licenses, one per line, with what is known about the training photos of face models."""
    for link in chain:
        note = f" (note: {TRAINING_NOTES[link.part]})" if link.part in TRAINING_NOTES else ""
        say(f"  {link.part}: {link.license}; commercial use: {link.commercial}{note}")
