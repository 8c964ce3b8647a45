"""Acceptance thresholds from false accept rates, per recogniser x style x recipe.

Calibration takes the same style of *other* people as impostors: photo thresholds do not transfer to
stylized faces. Each threshold stands beside the counts that it comes from.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from portrait.errors import SettingsError, TooFewPairsError
from portrait.judge.checks import StyleStatistics

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


def equal_error_rate(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """The rate at which false accepts and false rejects are equal, as a share."""
    steps = np.sort(np.concatenate([genuine, impostor]))
    far = 1 - np.searchsorted(np.sort(impostor), steps) / len(impostor)
    frr = np.searchsorted(np.sort(genuine), steps) / len(genuine)
    nearest = int(np.argmin(np.abs(far - frr)))
    return float((far[nearest] + frr[nearest]) / 2)


def round_up(value: float) -> float:
    """To four places, never down: a threshold rounded down would accept more than its rate."""
    return float(np.ceil(value * 1e4) / 1e4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What a picture of one recipe and style must reach. `identity` maps recogniser -> least similarity.

    `statistics` is how faces of the style are drawn, with the limit of the distance from it; None where the recipe
    was not calibrated, and then nothing is checked.
    """

    identity: dict[str, float]
    far: float
    style_on_face: float
    burned: float
    style: str = ""
    statistics: StyleStatistics | None = None

    @property
    def required_style_on_face(self) -> float:
        """What `style_on_face` must reach: more than a copy, and what the style's own pictures reach."""
        return max(self.style_on_face, 0.0 if self.statistics is None else self.statistics.least)


@cache
def _table(recipe: str) -> dict[str, Any] | None:
    path = resources.files("portrait.recipes") / f"{recipe}.thresholds.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def calibration_table(recipe: str, file: Path | None = None) -> dict[str, Any] | None:
    """What `portrait calibrate` wrote: the file's table, or the recipe's shipped one, None where there is none.

    Raises:
        SettingsError: the file cannot be read.
    """
    if file is None:
        return _table(recipe)
    try:
        table: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"cannot read thresholds {file}: {error}") from None
    return table


def thresholds_for(
    recipe: str,
    style: str,
    far: float,
    file: Path | None = None,
    weights: Mapping[str, str] | None = None,
    judges: Collection[str] = (),
) -> Thresholds:
    """Look up the calibrated thresholds.

    Args:
        recipe: Recipe name.
        style: Style name.
        far: The false accept rate asked for; one of the calibrated ones.
        file: A calibration file instead of the shipped one.
        weights: File name -> SHA-256 of the model that is judged. A calibration of other weights is refused.
        judges: The recognisers that judge, if not all that are calibrated.

    Raises:
        SettingsError: nothing is calibrated for this recipe, style, rate, these weights or judges; says what is.
    """
    table = calibration_table(recipe, file)
    if table is None:
        raise SettingsError(f"recipe {recipe} has no calibrated thresholds; name a file with --thresholds FILE.json")
    try:
        return _select(table, recipe, style, far, weights, judges)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SettingsError(f"thresholds {file or recipe} are damaged: {error!r}") from None


def _select(
    table: Any, recipe: str, style: str, far: float, weights: Mapping[str, str] | None, judges: Collection[str]
) -> Thresholds:
    made_for = table.get("weights")
    if weights and made_for and any(weights.get(name) != digest for name, digest in made_for.items()):
        raise SettingsError(
            f"the thresholds of {recipe} were calibrated for other weights; run portrait calibrate, or name --thresholds"
        )
    if style not in table["styles"]:
        calibrated = ", ".join(table["styles"])
        raise SettingsError(f"no thresholds are calibrated for {recipe} / {style}; calibrated styles: {calibrated}")
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
    if missing := set(judges) - values.keys():
        raise SettingsError(
            f"the thresholds of {recipe} / {style} are those of {', '.join(values)}, not of {', '.join(sorted(missing))}"
        )
    if judges:
        values = {name: value for name, value in values.items() if name in judges}
    elif len(values) < 2:
        raise SettingsError(f"thresholds of {recipe} / {style} name {len(values)} judge(s); two are needed")
    drawn = entry.get("style_statistics")
    return Thresholds(
        identity=values,
        far=far,
        style_on_face=float(entry["style_on_face"]["limit"]),
        burned=float(table["burned"]["limit"]),
        style=style,
        statistics=None
        if drawn is None
        else StyleStatistics(
            mean=np.array(drawn["mean"], float),
            precision=np.array(drawn["precision"], float),
            limit=float(drawn["limit"]),
            least=float(drawn["least"]),
            other_styles_rejected={o: float(share) for o, share in drawn.get("other_styles_rejected", {}).items()},
        ),
    )


@cache
def photo_thresholds() -> dict[str, Any]:
    """Photo-to-photo thresholds, for two photos and for recipes without a calibration: recogniser -> value, FAR, counts."""
    text = (resources.files("portrait.recipes") / "photo.thresholds.json").read_text("utf-8")
    table: dict[str, Any] = json.loads(text)
    return table
