"""Acceptance thresholds from false accept rates, per recognizer x style x recipe.

Calibration takes the same style of *other* people as impostors: photo thresholds do not transfer to
stylized faces. Each threshold stands beside the counts that it comes from.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import ValidationError

from portrait.errors import SettingsError, TooFewPairsError, one_line
from portrait.file_model import errors_from
from portrait.judge.checks import StyleStatistics
from portrait.judge.style_judge import StyleLimits
from portrait.records.calibration import (
    CalibrationTable,
    GateTable,
    PhotoThresholds,
    PhotoThresholdsFile,
    RecognizerTable,
    StyleStatisticsTable,
    StyleThresholds,
)

AtRate = TypeVar("AtRate")
"""What a file has for each false accept rate."""

DEFAULT_DETECTOR = "det_500m"
"""What placed the faces of a calibration that does not say."""
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
class Gate:
    """What all judges together ask of a picture at one false accept rate, which is that of the whole gate.

    A picture passes where each judge's similarity reaches its floor and the judges' evidence, the sum of
    `weights[judge] * similarity[judge]` and `offset`, reaches `least`. That sum is a log-likelihood ratio: 0 where a
    picture is as likely one of the person as one of a stranger. Without weights the floors alone decide.
    """

    floors: dict[str, float]
    far: float
    weights: dict[str, float] = field(default_factory=dict)
    offset: float = 0.0
    least: float = 0.0

    def evidence(self, similarity: Mapping[str, float]) -> float:
        """The log-likelihood ratio, in nats; 0 without weights."""
        return sum(weight * similarity[judge] for judge, weight in self.weights.items()) + self.offset


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What a picture of one recipe and style must reach. `identity` maps recognizer -> least similarity.

    `drawing` is what the style judge of the weights asks for. Where they have none, `statistics` is how faces of the
    style are drawn, with the limit of the distance from it; None where the recipe was not calibrated, and then it is
    not checked. Where `gate` is there, the judges were calibrated together: `far` is then the rate of the whole gate,
    and `identity` has its floors. `strangers` is recognizer -> (similarity, share of strangers who reach it),
    similarities rising; empty where it was not measured. `features_shown` is how much of the photo's eyes and mouth must
    be seen; None where that was not measured.
    """

    identity: dict[str, float]
    far: float
    style_on_face: float
    burned: float
    style: str = ""
    statistics: StyleStatistics | None = None
    drawing: StyleLimits | None = None
    gate: Gate | None = None
    strangers: dict[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    features_shown: float | None = None

    @property
    def required_style_on_face(self) -> float:
        """What `style_on_face` must reach: more than a copy, and what the style's own pictures reach."""
        return max(self.style_on_face, 0.0 if self.statistics is None else self.statistics.least)

    def strangers_like(self, similarity: Mapping[str, float]) -> dict[str, float]:
        """Judge -> the share of strangers who reach this similarity; the judges of whom that is known.

        Beyond the stranger who is most alike it is the share of that one alone: the least that could be seen.
        """
        return {
            judge: _share_above(self.strangers[judge], s) for judge, s in similarity.items() if judge in self.strangers
        }

    def evidence(self, similarity: Mapping[str, float]) -> float | None:
        """What all judges together say, in nats; None where they were not calibrated together."""
        return None if self.gate is None or not self.gate.weights else self.gate.evidence(similarity)


def _share_above(points: Sequence[tuple[float, float]], score: float) -> float:
    """The share at a score, between the points in the logarithm of the share."""
    at, shares = np.array(points, float).T
    if score < at[0]:
        return 1.0
    return float(np.exp(np.interp(score, at, np.log(np.maximum(shares, shares[shares > 0].min())))))


@cache
def _shipped(recipe: str) -> CalibrationTable | None:
    path = resources.files("portrait.recipes") / f"{recipe}.thresholds.json"
    return CalibrationTable.model_validate_json(path.read_bytes()) if path.is_file() else None


def read_thresholds(file: Path) -> dict[str, object]:
    """The JSON object of a file that `portrait calibrate` wrote.

    Raises:
        SettingsError: the file cannot be read, or holds no object.
    """
    try:
        table = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"cannot read thresholds {file}: {one_line(error)}") from None
    if not isinstance(table, dict):
        raise SettingsError(f"{file} is not a table of thresholds")
    return table


def calibration_table(recipe: str, file: Path | None = None) -> CalibrationTable | None:
    """What `portrait calibrate` wrote: the file's table, or the recipe's shipped one, None where there is none.

    Raises:
        SettingsError: the file cannot be read, or is damaged.
    """
    if file is None:
        return _shipped(recipe)
    try:
        return CalibrationTable.model_validate(read_thresholds(file))
    except ValidationError as error:
        raise errors_from(error, f"thresholds {file} are damaged", CalibrationTable) from None


def calibrated_together(recipe: str, judges: Collection[str], file: Path | None = None) -> bool:
    """Whether every style of a calibration has a gate of exactly these judges.

    Args:
        recipe: Whose shipped calibration is meant.
        judges: Their names.
        file: A calibration file instead of the shipped one.

    Raises:
        SettingsError: the file cannot be read, or is damaged.
    """
    table = calibration_table(recipe, file)
    if table is None or not table.styles:
        return False
    return all(any(set(gate.judges) == set(judges) for gate in style.gates) for style in table.styles.values())


def thresholds_for(
    recipe: str,
    style: str,
    far: float,
    file: Path | None = None,
    weights: Mapping[str, str] | None = None,
    judges: Collection[str] = (),
    detector: str = "",
) -> Thresholds:
    """Look up the calibrated thresholds.

    Args:
        recipe: Recipe name.
        style: Style name.
        far: The false accept rate asked for; one of the calibrated ones.
        file: A calibration file instead of the shipped one.
        weights: File name -> SHA-256 of the model that is judged. A calibration of other weights is refused.
        judges: The recognizers that judge, if not all that are calibrated.
        detector: What places the faces; a calibration with another detector is refused.

    Raises:
        SettingsError: nothing is calibrated for this recipe, style, rate, detector, these weights or judges; says what is.
    """
    table = calibration_table(recipe, file)
    if table is None:
        raise SettingsError(f"recipe {recipe} has no calibrated thresholds; name a file with --thresholds FILE.json")
    _require_made_for(table, recipe, weights or {}, detector)
    if style not in table.styles:
        calibrated = ", ".join(table.styles)
        raise SettingsError(f"no thresholds are calibrated for {recipe} / {style}; calibrated styles: {calibrated}")
    entry = table.styles[style]
    where = f"{recipe} / {style}"
    gate = _gate_of(entry.gates, where, far, judges) if entry.gates else None
    identity = _limits_by_judge(entry.recognizers, where, far, judges) if gate is None else gate.floors
    return Thresholds(
        identity=identity,
        far=far,
        style_on_face=entry.style_on_face.limit,
        burned=table.burned.limit,
        style=style,
        statistics=_statistics(style, table.styles),
        gate=gate,
        strangers={
            judge: tuple(sorted((point[0], point[1]) for point in recognizer.det))
            for judge, recognizer in entry.recognizers.items()
            if judge in identity and recognizer.det
        },
        features_shown=None if entry.features_shown is None else entry.features_shown.limit,
    )


def _require_made_for(table: CalibrationTable, recipe: str, weights: Mapping[str, str], detector: str) -> None:
    """Refuse a calibration of other weights, or of faces that another detector placed."""
    if weights and any(weights.get(name) != digest for name, digest in table.weights.items()):
        raise SettingsError(
            f"the thresholds of {recipe} were calibrated for other weights; run portrait calibrate, or name --thresholds"
        )
    placed_by = table.detector or DEFAULT_DETECTOR
    if detector and detector != placed_by:
        raise SettingsError(
            f"the thresholds of {recipe} hold for faces placed by {placed_by}, not by {detector}; run portrait calibrate"
        )


def _statistics(style: str, styles: Mapping[str, StyleThresholds]) -> StyleStatistics | None:
    """How a style is drawn, beside the others where it has a limit of its lead over them."""
    drawn = {name: entry.style_statistics for name, entry in styles.items() if entry.style_statistics is not None}
    if style not in drawn:
        return None
    own = _statistics_of(drawn[style])
    lead = drawn[style].lead
    if lead is None:
        return own
    return replace(
        own, lead=lead, rivals=tuple(_statistics_of(table) for name, table in drawn.items() if name != style)
    )


def _statistics_of(table: StyleStatisticsTable) -> StyleStatistics:
    return StyleStatistics(
        mean=np.array(table.mean),
        precision=np.array(table.precision),
        limit=table.limit,
        least=table.least,
        other_styles_rejected=table.other_styles_rejected,
    )


def _limits_by_judge(
    recognizers: Mapping[str, RecognizerTable], where: str, far: float, judges: Collection[str]
) -> dict[str, float]:
    """The limit of each judge at a rate of its own: a calibration that did not take the judges together."""
    limits = {name: _at_rate(recognizer.thresholds, where, far) for name, recognizer in recognizers.items()}
    if missing := set(judges) - limits.keys():
        raise SettingsError(
            f"the thresholds of {where} are those of {', '.join(limits)}, not of {', '.join(sorted(missing))}"
        )
    if judges:
        return {name: limit for name, limit in limits.items() if name in judges}
    if len(limits) < 2:
        raise SettingsError(f"thresholds of {where} name {len(limits)} judge(s); two are needed")
    return limits


def _gate_of(gates: Sequence[GateTable], where: str, far: float, judges: Collection[str]) -> Gate:
    """The gate of these judges, or of most judges where none are named."""
    chosen = max(
        (gate for gate in gates if not judges or set(gate.judges) == set(judges)),
        key=lambda gate: len(gate.judges),
        default=None,
    )
    if chosen is None:
        choices = "; ".join(" + ".join(gate.judges) for gate in gates)
        raise SettingsError(f"the thresholds of {where} are those of {choices}, not of {' + '.join(sorted(judges))}")
    if not judges and len(chosen.judges) < 2:
        raise SettingsError(f"thresholds of {where} name {len(chosen.judges)} judge(s); two are needed")
    at_rate = _at_rate(chosen.rates, where, far)
    return Gate(
        floors=chosen.floors_at(at_rate),
        far=far,
        weights=chosen.weights,
        offset=chosen.offset,
        least=(at_rate.least or 0.0) if chosen.weights else 0.0,
    )


def _at_rate(values: Mapping[float, AtRate], where: str, far: float) -> AtRate:
    if far not in values:
        calibrated = ", ".join(f"{rate:g}" for rate in sorted(values))
        raise SettingsError(f"FAR {far:g} is not calibrated for {where}; calibrated: {calibrated}")
    return values[far]


@cache
def photo_thresholds(detector: str = DEFAULT_DETECTOR) -> PhotoThresholds:
    """Photo-to-photo thresholds, for two photos and for recipes without a calibration.

    Args:
        detector: What places the faces; those of `DEFAULT_DETECTOR` where nothing was measured with it.
    """
    text = (resources.files("portrait.recipes") / "photo.thresholds.json").read_bytes()
    file = PhotoThresholdsFile.model_validate_json(text)
    return file.detectors.get(detector, file)
