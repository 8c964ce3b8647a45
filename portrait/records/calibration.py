"""The file of thresholds that `portrait calibrate` writes and the judge reads.

Keys that are only for people (counts, intervals, percentiles) are in the file but not in these types.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, model_validator

Interval = tuple[float, float]
"""The ends of a share's 95 % interval."""
ScorePoint = Annotated[tuple[float, ...], Field(min_length=2)]
"""Similarity, share of strangers who reach it, and the further values of a point of the DET curve."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False, validate_by_name=True, validate_by_alias=True)


class Limit(_Table):
    """A limit, without the measurements behind it."""

    limit: float


class AcceptedShare(_Table):
    """The share of genuine portraits that are accepted, and their number."""

    rate: float
    interval: Interval
    of: int


class GateRate(_Table):
    """A gate's limits at one false accept rate; `floors`, if given, replace the gate's own."""

    floors: dict[str, float] | None = None
    least: float | None = None
    far: float | None = None
    far_interval: Interval | None = None
    tar: AcceptedShare | None = None


class GateTable(_Table):
    """The gate of a set of judges; the file has one for every combination. `judge.thresholds.Gate` says how it decides."""

    judges: tuple[str, ...]
    floors: dict[str, float] = {}
    weights: dict[str, NonNegativeFloat] = {}
    offset: float = 0.0
    rates: dict[float, GateRate]

    def floors_at(self, rate: GateRate) -> dict[str, float]:
        """Judge -> smallest similarity at a rate."""
        return self.floors if rate.floors is None else rate.floors

    @model_validator(mode="after")
    def _check_judges(self) -> Self:
        judges = set(self.judges)
        if self.weights and self.weights.keys() != judges:
            raise ValueError(f"a gate of {', '.join(self.judges)} has the weights of {', '.join(self.weights)}")
        for rate in self.rates.values():
            floors = self.floors_at(rate)
            if floors.keys() != judges:
                raise ValueError(f"a gate of {', '.join(self.judges)} has the floors of {', '.join(floors)}")
            if self.weights and rate.least is None:
                raise ValueError("a gate with weights lacks: least")
        return self


class RecognizerTable(_Table):
    """A single judge: false accept rate -> threshold, and `det`, the points of its DET curve."""

    thresholds: dict[float, float]
    det: tuple[ScorePoint, ...] = ()


class StyleStatisticsTable(_Table):
    """How faces of a style are drawn; `judge.checks.StyleStatistics` says what each value is."""

    mean: tuple[float, ...]
    precision: tuple[tuple[float, ...], ...]
    limit: float
    least: float
    lead: float | None = None
    other_styles_rejected: dict[str, float] = {}


class StyleThresholds(_Table):
    """The limits of one style."""

    gates: tuple[GateTable, ...] = ()
    recognizers: dict[str, RecognizerTable] = Field({}, alias="recognisers")
    style_on_face: Limit
    style_statistics: StyleStatisticsTable | None = None
    features_shown: Limit | None = None
    first_attempt_accepted: dict[float, AcceptedShare] = {}


class CalibrationTable(_Table):
    """The limits of a recipe's styles; `weights` is file -> SHA-256 of the model, `detector` the one that located the faces.

    `form` is how the judges' faces were prepared, see `faces.form`.
    """

    weights: dict[str, str] = {}
    detector: str | None = None
    form: str = "plain"
    styles: dict[str, StyleThresholds]
    burned: Limit


class PhotoThreshold(_Table):
    """The smallest similarity of two photos of one person, for one judge."""

    threshold: float


class PhotoThresholds(_Table):
    """Photo-to-photo thresholds of each judge at one false accept rate."""

    far: float
    recognizers: dict[str, PhotoThreshold] = Field(alias="recognisers")

    @property
    def limits(self) -> dict[str, float]:
        """Judge -> smallest similarity."""
        return {judge: entry.threshold for judge, entry in self.recognizers.items()}


class PhotoThresholdsFile(PhotoThresholds):
    """The thresholds for faces located by the usual detector, and those for other detectors."""

    detectors: dict[str, PhotoThresholds] = {}
