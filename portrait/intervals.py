"""Intervals of means and rates that resample people, not pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from portrait.errors import TooFewPairsError


def wilson(count: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Interval of a rate of independent trials, here one picture per person; honest at 0 and at 1.

    Reference:
        Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if of == 0:
        return 0.0, 1.0
    share = count / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * float(np.sqrt(share * (1 - share) / of + z * z / (4 * of * of)))
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap_mean(
    values: np.ndarray, people: np.ndarray, rounds: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean, drawing people with replacement with all their pictures.

    Args:
        values: (N,) one per picture.
        people: (N,) which person each belongs to.
        rounds: Bootstrap rounds.
        seed: Of the bootstrap.
        level: Coverage, in (0, 1).

    Returns:
        (low, high); both the mean itself when there is only one person.

    Reference:
        Efron 1979; the cluster bootstrap as in Davison & Hinkley 1997, section 3.8.
    """
    _, whose = np.unique(people, return_inverse=True)
    sums, counts = np.bincount(whose, weights=values), np.bincount(whose)
    picks = np.random.default_rng(seed).integers(len(sums), size=(rounds, len(sums)))
    means = sums[picks].sum(1) / counts[picks].sum(1)
    return float(np.quantile(means, (1 - level) / 2)), float(np.quantile(means, (1 + level) / 2))


def bootstrap_pairs(
    scores: np.ndarray,
    statistic: Callable[[np.ndarray], float],
    rounds: int = 400,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Interval of a statistic of comparisons between people, where each person is in many pairs.

    Args:
        scores: (R, C) reference person x candidate person; NaN where a pair does not count. The first C
            references are the candidates' own people, in the same order; further ones are other people.
        statistic: Of a (K,) array of scores.
        rounds: Bootstrap rounds; in each, people are drawn once, for both of their roles.
        seed: Of the bootstrap.
        level: Coverage, in (0, 1).
    """
    rng = np.random.default_rng(seed)
    rows, columns = len(scores), len(scores[0])
    found = []
    for _ in range(rounds):
        drawn = rng.integers(columns, size=columns)
        others = columns + rng.integers(rows - columns, size=rows - columns) if rows > columns else drawn[:0]
        sample = scores[np.ix_(np.concatenate([drawn, others]), drawn)].ravel()
        sample = sample[~np.isnan(sample)]
        if sample.size:  # else one person was drawn every time
            found.append(statistic(sample))
    if not found:
        raise TooFewPairsError(f"{columns} people are too few for an interval")
    return float(np.quantile(found, (1 - level) / 2)), float(np.quantile(found, (1 + level) / 2))
