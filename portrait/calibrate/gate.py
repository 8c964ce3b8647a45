"""Limits for all judges together: the requested rate is the rate of strangers who pass the whole gate.

Two judges that each accept one stranger in a hundred accept far fewer together, and if one of them is weak on a style, equal
rates reject most right pictures. So the judges' evidence is added, with a floor for each judge, and the limit applies to the
sum. `eval/joint.py` compares this with separate limits, on people who had no part in setting them.

Scores are (references, candidates) arrays of one shape, the candidates' own photos first, so that genuine pairs lie on
the diagonal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from portrait.calibrate.statistics import Share, share_entry
from portrait.intervals import bootstrap_pairs
from portrait.judge.thresholds import Gate, order_statistic, round_up, threshold_at_far

FLOOR_FAR = 0.8
"""However certain the other judges are, no judge may find a picture less similar than four in five strangers."""
_SHRINK = 0.1  # of the correlations; 36 genuine pairs estimate them poorly
_NO_VARIANCE = 1e-8
_POINTS = 40  # points of the distribution of strangers

Scores = Mapping[str, NDArray[np.floating]]
"""Judge -> (references, candidates) similarities."""


def split_pairs(scores: Scores) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The genuine pairs, (candidates, judges), and the impostor pairs, (pairs, judges)."""
    stacked = np.stack([np.asarray(values, np.float64) for values in scores.values()], -1)
    rows, columns = stacked.shape[:2]
    is_genuine = np.arange(rows)[:, None] == np.arange(columns)
    return stacked[is_genuine], stacked[~is_genuine]


def llr_weights(genuine: NDArray[np.float64], impostor: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Weights (judges,) and offset of the log-likelihood ratio of two normal distributions with one covariance.

    Weights are never below 0: a higher similarity must not count against a picture. A judge with a negative weight would add
    nothing to the others and gets 0.

    Reference:
        Brummer & du Preez 2006, "Application-independent evaluation of speaker detection"; Fisher 1936 for the weights.
    """
    gap = genuine.mean(0) - impostor.mean(0)
    covariance = (np.atleast_2d(np.cov(genuine.T)) + np.atleast_2d(np.cov(impostor.T))) / 2
    # Few genuine pairs estimate correlations poorly, and a judge may see no variance at all: keep it invertible.
    covariance = (1 - _SHRINK) * covariance + _SHRINK * np.diag(np.diag(covariance))
    covariance += _NO_VARIANCE * np.eye(len(gap))
    # Drop the judges with negative weights and solve again, until none is left (active sets).
    used = gap > 0
    weights = np.zeros(len(gap))
    while used.any():
        weights[:] = 0
        weights[used] = np.linalg.solve(covariance[np.ix_(used, used)], gap[used])
        if (weights >= 0).all():
            break
        used &= weights > 0
    return weights, float(-weights @ (genuine.mean(0) + impostor.mean(0)) / 2)


def fused_gate(scores: Scores, far: float, floor_far: float = FLOOR_FAR) -> Gate:
    """The gate that adds the judges' log-likelihood ratios, for a rate of the whole gate.

    Args:
        scores: Scores of the judges that decide.
        far: The rate of impostor pairs that pass the whole gate, in (0, 1).
        floor_far: The rate of impostor pairs that pass each judge's floor.

    Raises:
        TooFewPairsError: there are too few people for the rate.
    """
    genuine, impostor = split_pairs(scores)
    floors = np.array([round_up(order_statistic(column, floor_far)) for column in impostor.T])
    weights, offset = llr_weights(genuine, impostor)
    evidence = np.where((impostor >= floors).all(1), impostor @ weights + offset, -1e6)  # below: the floors decide
    names = list(scores)
    return Gate(
        floors=dict(zip(names, floors.tolist(), strict=True)),
        weights=dict(zip(names, weights.tolist(), strict=True)),
        offset=offset,
        least=round_up(threshold_at_far(evidence, far)),
        far=far,
    )


def passes(gate: Gate, scores: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Which pairs pass, in the shape of the scores."""
    passed = np.logical_and.reduce([np.asarray(scores[judge]) >= floor for judge, floor in gate.floors.items()])
    if gate.weights:
        passed &= _evidence(gate, scores) >= gate.least
    return np.asarray(passed, bool)


def _evidence(gate: Gate, scores: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    weighted = [weight * np.asarray(scores[judge], np.float64) for judge, weight in gate.weights.items()]
    return np.asarray(np.sum(weighted, axis=0) + gate.offset, np.float64)


class FarEntry(TypedDict):
    """The share of stranger pairs that pass, their number, and the 95 % interval if requested."""

    far: float
    pairs: int
    far_interval: NotRequired[list[float]]


class RateEntry(FarEntry):
    """The gate at one false accept rate: its limits, what it accepts, and its rates within groups and along the dial."""

    least: float
    tar: Share
    within: NotRequired[dict[str, dict[str, FarEntry]]]
    along_dial: NotRequired[dict[str, dict[str, float]]]


class GateEntry(TypedDict):
    """A gate of some judges: the weights of its sum, and its limits at each rate."""

    judges: list[str]
    floors: dict[str, float]
    weights: dict[str, float]
    offset: float
    rates: dict[str, RateEntry]
    strangers: list[list[float]]


def gates_table(
    scores: Scores,
    rates: Sequence[float],
    groups: Mapping[str, Sequence[str]] | None = None,
    *,
    positions: ArrayLike = (),
    intervals: bool,
) -> list[GateEntry]:
    """The entry `gates` of a style: a gate for every combination of judges, as `judge.thresholds` reads it.

    Args:
        scores: Scores of all judges.
        rates: False accept rates of the gate.
        groups: Kind of group -> the group of each reference, in their order; empty text if unknown.
        positions: Dial position of each portrait; if they differ, rates along the dial are included.
        intervals: Whether to compute 95 % intervals of the rates, which resample people.

    Raises:
        TooFewPairsError: there are too few people for a rate.
    """
    return [
        _gate_entry(
            {judge: scores[judge] for judge in judges},
            rates,
            groups or {},
            np.asarray(positions, float),
            intervals=intervals,
        )
        for judges in subsets(list(scores))
    ]


def _gate_entry(
    scores: Scores,
    rates: Sequence[float],
    groups: Mapping[str, Sequence[str]],
    positions: NDArray[np.float64],
    *,
    intervals: bool,
) -> GateEntry:
    rows, columns = next(iter(scores.values())).shape
    is_impostor = np.arange(rows)[:, None] != np.arange(columns)
    entries = {}
    for rate in rates:
        gate = fused_gate(scores, rate)
        passed = passes(gate, scores)
        genuine = passed[~is_impostor]
        far = _far_entry(passed, is_impostor, intervals=intervals)
        entry = RateEntry(least=gate.least, far=far["far"], pairs=far["pairs"], tar=share_entry(genuine))
        if "far_interval" in far:
            entry["far_interval"] = far["far_interval"]
        if groups:
            entry["within"] = _within_groups(passed, is_impostor, groups, intervals=intervals)
        if len(set(positions)) > 1:
            entry["along_dial"] = _along_dial(passed, is_impostor, positions)
        entries[f"{rate:g}"] = entry
    return {
        "judges": list(scores),
        "floors": gate.floors,
        "weights": {judge: round(weight, 6) for judge, weight in gate.weights.items()},
        "offset": round(gate.offset, 6),
        "rates": entries,
        "strangers": stranger_points(_evidence(gate, scores)[is_impostor]),
    }


def _far_entry(passed: NDArray[np.bool_], counted: NDArray[np.bool_], *, intervals: bool) -> FarEntry:
    """The share of the counted pairs that pass, its interval over people, and the number of pairs."""
    entry: FarEntry = {
        "far": round(float(passed[counted].mean()), 5),
        "pairs": int(counted.sum()),
    }
    if intervals:
        low, high = bootstrap_pairs(np.where(counted, passed, np.nan), lambda pairs: float(pairs.mean()))
        entry["far_interval"] = [round(low, 5), round(high, 5)]
    return entry


def _along_dial(
    passed: NDArray[np.bool_], is_impostor: NDArray[np.bool_], positions: NDArray[np.float64]
) -> dict[str, dict[str, float]]:
    """Dial position -> rates of the portraits drawn there, and their numbers."""
    along = {}
    for position in sorted(set(positions.tolist())):
        at_position = positions == position
        impostor = passed[:, at_position][is_impostor[:, at_position]]
        genuine = passed[:, at_position][~is_impostor[:, at_position]]
        along[f"{position:g}"] = {
            "far": round(float(impostor.mean()), 5),
            "pairs": len(impostor),
            "tar": round(float(genuine.mean()), 4),
            "of": len(genuine),
        }
    return along


def _within_groups(
    passed: NDArray[np.bool_],
    is_impostor: NDArray[np.bool_],
    groups: Mapping[str, Sequence[str]],
    *,
    intervals: bool,
) -> dict[str, dict[str, FarEntry]]:
    """Kind -> group -> rate among strangers within that group; `same` is for pairs within any one group."""
    within: dict[str, dict[str, FarEntry]] = {}
    for kind, names in groups.items():
        group = np.array(list(names))
        same = (group[:, None] == group[: passed.shape[1]]) & (group[:, None] != "") & is_impostor
        counted = {"same": same} | {name: same & (group[:, None] == name) for name in sorted(set(group) - {""})}
        within[kind] = {
            name: _far_entry(passed, pairs, intervals=intervals) for name, pairs in counted.items() if pairs.any()
        }
    return within


def stranger_points(impostor: NDArray[np.floating[Any]]) -> list[list[float]]:
    """(score, share of strangers who reach it) along the distribution, by rising score; it reveals no individual pair."""
    shares = np.geomspace(0.99, 1 / impostor.size, _POINTS)
    limits = [round(order_statistic(impostor, float(share)), 4) for share in shares]
    return [[limit, round(float((impostor >= limit).mean()), 6)] for limit in limits]


def subsets(judges: Sequence[str]) -> list[tuple[str, ...]]:
    """All combinations of at least one judge, the largest first."""
    chosen = [
        tuple(judge for judge, used in zip(judges, mask, strict=True) if used)
        for mask in product((True, False), repeat=len(judges))
    ]
    return sorted((names for names in chosen if names), key=lambda names: -len(names))
