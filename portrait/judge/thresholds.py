"""Acceptance thresholds from false accept rates, per recogniser x style x recipe.

Calibration takes the same style of *other* people as impostors: photo thresholds do not transfer to
stylized faces. Each threshold stands beside the counts that it comes from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from portrait.errors import SettingsError, TooFewPairsError

MIN_EXPECTED_ACCEPTS = 5.0
"""A rate r needs at least this many expected false accepts, r * pairs, or it is noise."""


def threshold_at_far(impostors: Sequence[float] | np.ndarray, far: float) -> float:
    """The smallest threshold at which at most `far` of the impostor similarities are accepted.

    A pair is accepted when similarity >= threshold.

    Raises:
        TooFewPairsError: fewer than 5 false accepts are expected in the sample.
        SettingsError: far is not in (0, 1).
    """
    if not 0 < far < 1:
        raise SettingsError(f"far {far} is not between 0 and 1")
    if far * len(impostors) < MIN_EXPECTED_ACCEPTS:
        raise TooFewPairsError(
            f"{len(impostors)} impostor pairs cannot show a FAR of {far:g}; "
            f"{int(np.ceil(MIN_EXPECTED_ACCEPTS / far))} or more are needed"
        )
    return order_statistic(impostors, far)


def order_statistic(impostors: Sequence[float] | np.ndarray, far: float) -> float:
    """The same threshold without a look at the sample's size: what a bootstrap repeats."""
    scores = np.asarray(impostors, np.float64)
    allowed = int(far * len(scores))
    return float(np.nextafter(np.partition(scores, len(scores) - 1 - allowed)[len(scores) - 1 - allowed], np.inf))


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What a picture of one recipe and style must reach. `identity` maps recogniser -> least similarity."""

    identity: dict[str, float]
    far: float
    style_on_face: float
    burned: float

    def as_record(self) -> dict[str, Any]:
        """The record's form: recogniser -> value and FAR."""
        return {name: {"value": round(value, 4), "far": self.far} for name, value in self.identity.items()}


@cache
def _table(recipe: str) -> dict[str, Any] | None:
    path = resources.files("portrait.recipes") / f"{recipe}.thresholds.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def thresholds_for(
    recipe: str, style: str, far: float, file: Path | None = None, weights: Mapping[str, str] | None = None
) -> Thresholds:
    """Look up the calibrated thresholds.

    Args:
        recipe: Recipe name.
        style: Style name.
        far: The false accept rate asked for; one of the calibrated ones.
        file: A calibration file instead of the shipped one.
        weights: File name -> SHA-256 of the model that is judged. A calibration of other weights is refused.

    Raises:
        SettingsError: nothing is calibrated for this recipe, style, rate or these weights; says what is.
    """
    if file is not None:
        try:
            table = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise SettingsError(f"cannot read thresholds {file}: {error}") from None
    else:
        table = _table(recipe)
    if table is None:
        raise SettingsError(f"recipe {recipe} has no calibrated thresholds; name a file with --thresholds FILE.json")
    try:
        return _select(table, recipe, style, far, weights)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SettingsError(f"thresholds {file or recipe} are damaged: {error!r}") from None


def _select(table: Any, recipe: str, style: str, far: float, weights: Mapping[str, str] | None) -> Thresholds:
    made_for = table.get("weights")
    if weights and made_for and any(weights.get(name) != digest for name, digest in made_for.items()):
        raise SettingsError(
            f"the thresholds of {recipe} were calibrated for other weights; run portrait calibrate, or name --thresholds"
        )
    if style not in table["styles"]:
        known = ", ".join(table["styles"])
        raise SettingsError(f"no thresholds are calibrated for {recipe} / {style}; calibrated styles: {known}")
    entry = table["styles"][style]
    values = {}
    for name, recogniser in entry["recognisers"].items():
        rates = {float(rate): float(value) for rate, value in recogniser["thresholds"].items()}
        if far not in rates:
            raise SettingsError(
                f"FAR {far:g} is not calibrated for {recipe} / {style}; calibrated: "
                + ", ".join(f"{rate:g}" for rate in sorted(rates))
            )
        values[name] = rates[far]
    if len(values) < 2:
        raise SettingsError(f"thresholds of {recipe} / {style} name {len(values)} judge(s); two are needed")
    return Thresholds(
        identity=values,
        far=far,
        style_on_face=float(entry["style_on_face"]["limit"]),
        burned=float(table["burned"]["limit"]),
    )


@cache
def photo_thresholds() -> dict[str, Any]:
    """Photo-to-photo thresholds, for `portrait compare` alone: recogniser -> value, FAR and counts."""
    return json.loads((resources.files("portrait.recipes") / "photo.thresholds.json").read_text("utf-8"))
