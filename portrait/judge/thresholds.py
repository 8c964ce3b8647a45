"""Acceptance thresholds from false accept rates, per recognizer x style x recipe.

Calibration uses *other* people in the same style as impostors: photo thresholds do not transfer to stylized faces. Each
threshold is stored with the counts that it comes from.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import ValidationError

from portrait.errors import SettingsError, TooFewPairsError
from portrait.faces.form import PLAIN
from portrait.file_model import errors_from
from portrait.files import read_json
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
"""What a calibration file holds for each false accept rate."""

DEFAULT_DETECTOR = "det_500m"
"""The detector of calibrations that do not name one."""
MIN_EXPECTED_ACCEPTS = 5.0
"""A rate r needs at least this many expected false accepts, r * pairs; with fewer it is noise."""


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
    """The same threshold without checking the sample's size, for bootstrap rounds."""
    scores = np.asarray(impostors, np.float64)
    allowed = int(far * len(scores))
    return float(np.nextafter(np.partition(scores, len(scores) - 1 - allowed)[len(scores) - 1 - allowed], np.inf))


def equal_error_rate(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """The rate, as a share, at which false accepts and false rejects are equal."""
    steps = np.sort(np.concatenate([genuine, impostor]))
    far = 1 - np.searchsorted(np.sort(impostor), steps) / len(impostor)
    frr = np.searchsorted(np.sort(genuine), steps) / len(genuine)
    nearest = int(np.argmin(np.abs(far - frr)))
    return float((far[nearest] + frr[nearest]) / 2)


def round_up(value: float) -> float:
    """Round up to four places: a threshold that is rounded down would accept more than its rate."""
    return float(np.ceil(value * 1e4) / 1e4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What all judges together require of a picture at one false accept rate, that of the whole gate.

    A picture passes if each judge's similarity reaches its floor and the judges' evidence, `offset` plus the sum of
    `weights[judge] * similarity[judge]`, reaches `least`. The evidence is a log-likelihood ratio: 0 if the picture is as
    likely of the person as of a stranger. Without weights the floors alone decide.
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
    """What a picture of one recipe and style must reach. `identity` maps recognizer -> smallest similarity.

    `drawing` is what the style judge of the weights requires. Weights without a style judge use `statistics`: how faces of
    the style are drawn, and limits; None if the recipe was not calibrated, and then nothing is checked. If there is a
    `gate`, the judges were calibrated together: `far` is then the rate of the whole gate, and `identity` holds its floors.
    `strangers` is recognizer -> (similarity, share of strangers who reach it), by rising similarity; empty if not measured.
    `features_shown` is how well the photo's eyes and mouth must be visible; None if not measured.
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
        """What `style_on_face` must reach: more than copies do, and as much as the style's own pictures."""
        return max(self.style_on_face, 0.0 if self.statistics is None else self.statistics.least)

    def strangers_like(self, similarity: Mapping[str, float]) -> dict[str, float]:
        """Judge -> share of strangers who reach this similarity, for the judges for which it was measured.

        Above the most similar stranger, it is the share of that one stranger: the smallest that was measurable.
        """
        return {
            judge: _share_above(self.strangers[judge], s) for judge, s in similarity.items() if judge in self.strangers
        }

    def evidence(self, similarity: Mapping[str, float]) -> float | None:
        """The evidence of all judges together, in nats; None if they were not calibrated together."""
        return None if self.gate is None or not self.gate.weights else self.gate.evidence(similarity)


def _share_above(points: Sequence[tuple[float, float]], score: float) -> float:
    """The share at a score, interpolated between the points in the logarithm of the share."""
    at, shares = np.array(points, float).T
    if score < at[0]:
        return 1.0
    return float(np.exp(np.interp(score, at, np.log(np.maximum(shares, shares[shares > 0].min())))))


@cache
def _shipped(recipe: str) -> CalibrationTable | None:
    path = resources.files("portrait.recipes") / f"{recipe}.thresholds.json"
    return CalibrationTable.model_validate_json(path.read_bytes()) if path.is_file() else None


def read_thresholds(file: Path) -> dict[str, object]:
    """Read a file that `portrait calibrate` wrote, as a JSON object.

    Raises:
        SettingsError: the file cannot be read, or does not hold an object.
    """
    table = read_json(file, f"thresholds {file}")
    if not isinstance(table, dict):
        raise SettingsError(f"{file} is not a table of thresholds")
    return table


def calibration_table(recipe: str, file: Path | str | None = None) -> CalibrationTable | None:
    """The calibration table in the file, or without a file the one shipped for the recipe; None if there is none.

    Raises:
        SettingsError: the file cannot be read, or is damaged.
    """
    if not file:
        return _shipped(recipe)
    try:
        return CalibrationTable.model_validate(read_thresholds(Path(file)))
    except ValidationError as error:
        raise errors_from(error, f"thresholds {file} are damaged", CalibrationTable) from None


def calibrated_together(recipe: str, judges: Collection[str], file: Path | str | None = None) -> bool:
    """Whether every style of a `calibration_table` has a gate of exactly these judges."""
    table = calibration_table(recipe, file)
    if table is None or not table.styles:
        return False
    return all(any(set(gate.judges) == set(judges) for gate in style.gates) for style in table.styles.values())


def calibrated_form(recipe: str, file: Path | str | None = None) -> str:
    """How the judges' faces of a `calibration_table` were prepared, as `faces.form` names it; without one, not at all."""
    table = calibration_table(recipe, file)
    return PLAIN.name if table is None else table.form


def thresholds_for(
    recipe: str,
    style: str,
    far: float,
    file: Path | str | None = None,
    weights: Mapping[str, str] | None = None,
    judges: Collection[str] = (),
    detector: str = "",
    form: str = "",
) -> Thresholds:
    """Look up the calibrated thresholds.

    Args:
        recipe: Recipe name.
        style: Style name.
        far: The false accept rate; one of the calibrated ones.
        file: A calibration file instead of the shipped one.
        weights: File name -> SHA-256 of the model that is judged. A calibration of other weights is refused.
        judges: The recognizers that judge, if not all calibrated ones.
        detector: The detector that locates the faces; a calibration with another one is refused.
        form: How the judges' faces are prepared; a calibration of another form is refused.

    Raises:
        SettingsError: there is no calibration for this recipe, style, rate, detector, form, these weights or judges; the
            message says what there is.
    """
    table = calibration_table(recipe, file)
    if table is None:
        raise SettingsError(f"recipe {recipe} has no calibrated thresholds; name a file with --thresholds FILE.json")
    _require_made_for(table, recipe, weights or {}, detector, form)
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


def _require_made_for(
    table: CalibrationTable, recipe: str, weights: Mapping[str, str], detector: str, form: str
) -> None:
    """Refuse a calibration of other weights, or of faces located by another detector or prepared otherwise."""
    if weights and any(weights.get(name) != digest for name, digest in table.weights.items()):
        raise SettingsError(
            f"the thresholds of {recipe} were calibrated for other weights; run portrait calibrate, or name --thresholds"
        )
    placed_by = table.detector or DEFAULT_DETECTOR
    if detector and detector != placed_by:
        raise SettingsError(
            f"the thresholds of {recipe} hold for faces located by {placed_by}, not by {detector}; run portrait calibrate"
        )
    if form and form != table.form:
        raise SettingsError(
            f"the thresholds of {recipe} hold for {table.form} faces, and the judges that are loaded see {form} ones; "
            "name the file where the models are loaded, or run portrait calibrate"
        )


def _statistics(style: str, styles: Mapping[str, StyleThresholds]) -> StyleStatistics | None:
    """The statistics of how a style is drawn, and those of its rivals if it has a limit for its lead over them."""
    drawn = {name: entry.style_statistics for name, entry in styles.items() if entry.style_statistics is not None}
    if style not in drawn:
        return None
    statistics = _statistics_of(drawn[style])
    lead = drawn[style].lead
    if lead is None:
        return statistics
    return replace(
        statistics, lead=lead, rivals=tuple(_statistics_of(table) for name, table in drawn.items() if name != style)
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
    """Each judge's limit at a rate of its own, from a calibration that did not combine the judges."""
    limits = {name: _at_rate(recognizer.thresholds, where, far) for name, recognizer in recognizers.items()}
    if missing := set(judges) - limits.keys():
        raise SettingsError(
            f"the thresholds of {where} are for {', '.join(limits)}, not for {', '.join(sorted(missing))}"
        )
    if judges:
        return {name: limit for name, limit in limits.items() if name in judges}
    if len(limits) < 2:
        raise SettingsError(f"thresholds of {where} name {len(limits)} judge(s); two are needed")
    return limits


def _gate_of(gates: Sequence[GateTable], where: str, far: float, judges: Collection[str]) -> Gate:
    """The gate of these judges or, if none are named, the gate with the most judges."""
    chosen = max(
        (gate for gate in gates if not judges or set(gate.judges) == set(judges)),
        key=lambda gate: len(gate.judges),
        default=None,
    )
    if chosen is None:
        choices = "; ".join(" + ".join(gate.judges) for gate in gates)
        raise SettingsError(f"the thresholds of {where} are for {choices}, not for {' + '.join(sorted(judges))}")
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
    """Thresholds for two photos, also used for recipes without a calibration.

    For a detector of the faces that was not measured, they are those of `DEFAULT_DETECTOR`.
    """
    text = (resources.files("portrait.recipes") / "photo.thresholds.json").read_bytes()
    file = PhotoThresholdsFile.model_validate_json(text)
    return file.detectors.get(detector, file)
