"""Statistics for calibration: thresholds and rates of one recognizer, and how the faces of a style are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypedDict

import numpy as np

from portrait.errors import SettingsError, TooFewPairsError
from portrait.intervals import bootstrap_pairs, wilson
from portrait.judge.checks import (
    FACE_STYLE_FEATURES,
    MIN_PICTURES_FOR_STATISTICS,
    StyleStatistics,
    confusable_styles,
    leave_one_person_out_distances,
    log_density,
    style_distance,
)
from portrait.judge.thresholds import (
    MIN_EXPECTED_ACCEPTS,
    equal_error_rate,
    order_statistic,
    round_up,
    threshold_at_far,
)
from portrait.records.calibration import CalibrationTable

COPY_QUANTILE = 0.95
"""`style_on_face` must reach this quantile of the kind of copy with the highest values."""
STYLE_REJECTED = 0.02
"""The share of a style's own right pictures that may exceed the limit of the distance."""
BURNED_QUANTILE = 0.95
BURNED_MIN = 0.02
BURNED_MAX = 0.25
"""The limit of `burned` is twice this quantile of the portraits' own shares, clipped to this range."""
_DET_POINTS = 40


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AcceptedPictures:
    """The accepted pictures of one style: `face_style_features` (N, F), `style_on_face`, `features_shown` and the person."""

    features: np.ndarray
    styled: np.ndarray
    shown: np.ndarray
    people: np.ndarray


def require_pairs(candidates: int, references: int, rates: Sequence[float]) -> None:
    """Refuse false accept rates that cannot be estimated from this many people.

    `candidates` are drawn; `references` are these and further people whose photos are only compared.

    Raises:
        SettingsError: a rate is not in (0, 1).
        TooFewPairsError: fewer than `MIN_EXPECTED_ACCEPTS` false accepts are expected.
    """
    pairs = candidates * (references - 1)
    for rate in rates:
        if not 0 < rate < 1:
            raise SettingsError(f"a false accept rate of {rate} is not between 0 and 1")
        if rate * pairs < MIN_EXPECTED_ACCEPTS:
            needed = int(np.ceil(MIN_EXPECTED_ACCEPTS / rate))
            raise TooFewPairsError(
                f"{candidates} people and {references - candidates} further faces make {pairs} impostor pairs; a FAR of "
                f"{rate:g} needs {needed}: give more people or --impostors"
            )


class Share(TypedDict):
    """A share, its 95 % interval and the sample's size."""

    rate: float
    interval: list[float]
    of: int


class StyleEntry(TypedDict):
    """How a style's faces are drawn, the limits of its check and how well it works: see `style_statistics`."""

    limit: float
    least: float
    lead: float | None
    right_pictures_rejected: float
    pictures: int
    percentiles_5_50_95: list[float]
    other_styles_rejected: dict[str, float]
    features: list[str]
    mean: list[float]
    precision: list[list[float]]


def recognizer_table(
    scores: np.ndarray, rates: Sequence[float], *, intervals: bool
) -> tuple[dict[str, object], dict[float, np.ndarray]]:
    """The thresholds and rates of one recognizer in one style.

    Args:
        scores: (references, candidates) similarities; the first references are the candidates' own people.
        rates: False accept rates.
        intervals: Whether to compute the thresholds' 95 % intervals, which resample people.

    Returns:
        The table's entry, and rate -> (candidates,) whether the genuine pair is accepted.
    """
    rows, columns = scores.shape
    is_genuine = np.arange(rows)[:, None] == np.arange(columns)
    genuine = scores[is_genuine]
    impostor = scores[~is_genuine]
    thresholds = {rate: round_up(threshold_at_far(impostor, rate)) for rate in rates}
    accepted = {rate: genuine >= threshold for rate, threshold in thresholds.items()}
    spread = {}
    if intervals:
        impostors_only = np.where(is_genuine, np.nan, scores)
        spread = {rate: bootstrap_pairs(impostors_only, partial(order_statistic, far=rate)) for rate in rates}
    entry = {
        "thresholds": {f"{rate:g}": threshold for rate, threshold in thresholds.items()},
        "threshold_intervals": {f"{rate:g}": [round(v, 4) for v in ends] for rate, ends in spread.items()},
        "tar": {f"{rate:g}": share_entry(values) for rate, values in accepted.items()},
        "impostor_pairs": impostor.size,
        "genuine_pairs": genuine.size,
        "genuine_mean": round(float(genuine.mean()), 4),
        "impostor_mean": round(float(impostor.mean()), 4),
        "eer": round(equal_error_rate(genuine, impostor), 4),
        "det": _det_points(genuine, impostor),
    }
    return entry, accepted


def _det_points(genuine: np.ndarray, impostor: np.ndarray) -> list[list[float]]:
    """Threshold, false accept rate and false reject rate along the detection error trade-off (DET) curve."""
    points = []
    for rate in np.geomspace(1 / impostor.size, 0.9, _DET_POINTS):
        threshold = order_statistic(impostor, rate)
        far = float((impostor >= threshold).mean())
        frr = float((genuine < threshold).mean())
        points.append([round(threshold, 4), round(far, 5), round(frr, 5)])
    return points


def share_entry(passed: np.ndarray) -> Share:
    """The share of (N,) bool that is True, with its 95 % interval and its count."""
    low, high = wilson(int(passed.sum()), len(passed))
    return Share(rate=round(float(passed.mean()), 4), interval=[round(low, 4), round(high, 4)], of=len(passed))


def percentiles(values: np.ndarray) -> list[float]:
    """The 5th, 50th and 95th percentile, to four places."""
    return [round(float(value), 4) for value in np.quantile(values, [0.05, 0.5, 0.95])]


def copy_quantiles(copied: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Kind of copy -> the `style_on_face` below which nearly all of them are."""
    return {kind: float(np.quantile(values, COPY_QUANTILE, method="higher")) for kind, values in copied.items()}


def copy_limit(copied: Mapping[str, np.ndarray]) -> float:
    """The limit of `style_on_face`: above nearly all copies of the kind with the highest values."""
    return round_up(max(copy_quantiles(copied).values()))


def burned_entry(burned: np.ndarray) -> dict[str, float]:
    """The limit of `burned`, from the (N,) shares of all portraits."""
    usual = float(np.quantile(burned, BURNED_QUANTILE))
    return {
        "limit": round(min(BURNED_MAX, max(BURNED_MIN, 2 * usual)), 4),
        "percentile_95": round(usual, 4),
        "largest_seen": round(float(burned.max()), 4),
    }


def style_statistics(pictures: Mapping[str, AcceptedPictures]) -> dict[str, StyleEntry | None]:
    """Per style: how its faces are drawn, and the limit of the distance from that; None if there are too few pictures.

    The limit is an order statistic of each picture's distance from the other people's pictures, at which all but
    `STYLE_REJECTED` of new right pictures pass (the jackknife of conformal prediction), or the largest distance if there are
    too few pictures for that rate; `right_pictures_rejected` is the actual rate. `least` is the same for `style_on_face`,
    from below, and `lead` for `style_lead` over the other styles, at most 0; None if there are no others. As these limits
    may reject different pictures, up to three times the rate is rejected in all.
    `other_styles_rejected` is the share of each other style's right pictures that this style's limits reject: how well the
    check detects a model that draws the wrong style. Likeness plays no part in it. Pictures are never compared with
    statistics that include the same person.

    Reference:
        Vovk et al. 2005, "Algorithmic Learning in a Random World".
    """
    measurable = {style: p for style, p in pictures.items() if len(p.features) >= MIN_PICTURES_FOR_STATISTICS}
    leads = _leads(pictures, measurable)
    return {
        style: _statistics_entry(style, pictures, leads[style]) if style in measurable else None for style in pictures
    }


def _leads(
    pictures: Mapping[str, AcceptedPictures], measurable: Mapping[str, AcceptedPictures]
) -> dict[str, dict[str, np.ndarray]]:
    """Style -> style of the pictures -> (N,) `style_lead` of each over the other styles, by statistics without its person."""
    densities = {style: np.zeros((len(p.features), len(measurable))) for style, p in pictures.items()}
    for person in np.unique(np.concatenate([p.people for p in pictures.values()])):
        for column, drawn in enumerate(measurable.values()):
            statistics = StyleStatistics.of(drawn.features[drawn.people != person])
            for style, p in pictures.items():
                mine = p.people == person
                densities[style][mine, column] = log_density(p.features[mine], statistics)
    return {
        style: {
            other: density[:, column] - np.delete(density, column, 1).max(1, initial=-np.inf)
            for other, density in densities.items()
        }
        for column, style in enumerate(measurable)
    }


def _statistics_entry(
    style: str, pictures: Mapping[str, AcceptedPictures], leads: Mapping[str, np.ndarray]
) -> StyleEntry:
    accepted = pictures[style]
    count = len(accepted.features)
    distances = np.sort(leave_one_person_out_distances(accepted.features, accepted.people.tolist()))
    rank = min(count, int(np.ceil((count + 1) * (1 - STYLE_REJECTED))))
    limit = round_up(float(distances[rank - 1]))
    lead = min(0.0, least_of_right(leads[style]))
    statistics = StyleStatistics.of(accepted.features, limit, least_of_right(accepted.styled))
    others = {other: p for other, p in pictures.items() if other != style and len(p.features)}
    return StyleEntry(
        limit=statistics.limit,
        least=statistics.least,
        lead=lead if np.isfinite(leads[style]).all() else None,
        right_pictures_rejected=round(max(1 - rank / (count + 1), 0.0), 4),
        pictures=count,
        percentiles_5_50_95=percentiles(distances),
        other_styles_rejected={
            other: _share_rejected(p, statistics, leads[other] < lead) for other, p in others.items()
        },
        features=list(FACE_STYLE_FEATURES),
        mean=[round(float(value), 5) for value in statistics.mean],
        precision=[[round(float(value), 5) for value in row] for row in statistics.precision],
    )


def least_of_right(values: np.ndarray) -> float:
    """The value that all but `STYLE_REJECTED` of new right pictures reach, an order statistic of (N,) values, rounded down."""
    rank = max(1, int((len(values) + 1) * STYLE_REJECTED))
    return float(np.floor(np.sort(values)[rank - 1] * 1e4) / 1e4)


def shown_entry(shown: np.ndarray) -> dict[str, object] | None:
    """The limit of `features_shown`, from (N,) right pictures; None if there are too few."""
    if len(shown) < MIN_PICTURES_FOR_STATISTICS:
        return None
    return {"limit": least_of_right(shown), "pictures": len(shown), "percentiles_5_50_95": percentiles(shown)}


def _share_rejected(pictures: AcceptedPictures, statistics: StyleStatistics, behind: np.ndarray) -> float:
    """The share of another style's pictures that fail the check; `behind` tells for each whether a rival leads by too much."""
    distances = np.array([style_distance(features, statistics) for features in pictures.features])
    rejected = (distances > statistics.limit) | (pictures.styled < statistics.least) | behind
    return round(float(rejected.mean()), 4)


def weak_checks(table: CalibrationTable) -> dict[str, dict[str, float]]:
    """The styles of a calibration whose check lets more than 5 % of another style's pictures pass.

    Returns:
        Style -> other style -> the share of its pictures that the check rejects.
    """
    weak = {
        style: confusable_styles(entry.style_statistics.other_styles_rejected)
        for style, entry in table.styles.items()
        if entry.style_statistics
    }
    return {style: others for style, others in weak.items() if others}
