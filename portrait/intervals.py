"""Intervals of means and rates that resample people, not pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from portrait.errors import TooFewPairsError


def wilson(count: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Interval of a rate of independent trials, here one picture per person; honest at 0 and at 1.

    Reference:
        Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    return _wilson(count / of, of, z) if of else (0.0, 1.0)


def _wilson(share: float, of: float, z: float) -> tuple[float, float]:
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * float(np.sqrt(share * (1 - share) / of + z * z / (4 * of * of)))
    return max(0.0, middle - half), min(1.0, middle + half)


def wilson_people(passed: np.ndarray, people: np.ndarray, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval where a person has several pictures: these are less than as many independent trials.

    The number of pictures is divided by the design effect, the variance of the rate over people in terms of what
    independent pictures would have; it is at least 1, and the pictures count as no fewer than the people. Where all
    passed or none, no variance can be seen, and the people are what is counted.

    Args:
        passed: (N,) bool or 0/1, one per picture.
        people: (N,) which person each belongs to.
        z: Normal quantile of the coverage, 1.96 for 95 %.

    Reference:
        Dean & Pagano 2015, "Evaluating confidence interval methods for binomial proportions in clustered surveys".
    """
    n = len(passed)
    if n == 0:
        return 0.0, 1.0
    values = np.asarray(passed, np.float64)
    _, whose = np.unique(people, return_inverse=True)
    counts, sums = np.bincount(whose), np.bincount(whose, weights=values)
    k, share = len(counts), values.mean()
    effective = float(k)
    if 0 < share < 1 and k > 1:
        clustered = k / (k - 1) * float(((sums - share * counts) ** 2).sum()) / n**2
        effective = min(float(n), max(float(k), share * (1 - share) / clustered if clustered > 0 else float(n)))
    if k == n:
        effective = float(n)
    return _wilson(share, effective, z)


def bootstrap_ratio(
    above: np.ndarray, below: np.ndarray, people: np.ndarray, rounds: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Interval of sum(above) / sum(below), such as attempts per accepted picture, drawing people with replacement.

    Rounds in which nobody has anything below count as infinite.
    """
    _, whose = np.unique(people, return_inverse=True)
    a, b = np.bincount(whose, weights=above), np.bincount(whose, weights=below)
    picks = np.random.default_rng(seed).integers(len(a), size=(rounds, len(a)))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = a[picks].sum(1) / b[picks].sum(1)
    low, high = np.quantile(
        np.where(np.isnan(ratios), np.inf, ratios), [(1 - level) / 2, (1 + level) / 2], method="nearest"
    )
    return float(low), float(high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A mean difference with its simultaneous interval.

    `detectable` is the smallest true difference that a sample like this one would have told from none with a
    probability of 80 %.
    """

    mean: float
    low: float
    high: float
    people: int
    detectable: float


def simultaneous_differences(
    differences: np.ndarray, binary: np.ndarray, rounds: int = 4000, seed: int = 0, level: float = 0.95
) -> list[Difference]:
    """Intervals of many mean differences over the same people, all of which hold at once with probability `level`.

    People are drawn with replacement, with all their differences. The largest standardised deviation over the columns
    says how far a mean may stray anywhere (max-t); so looking at many styles and measures does not make false alarms
    more frequent, and what they share is not paid for twice. That quantile is carried from the normal to Student's
    distribution, since the spread is itself known from few people only. Differences of two runs of one kind are
    symmetric around 0, also where the measure itself is skewed; for strongly skewed columns the coverage is lower.

    Args:
        differences: (people, columns), current minus baseline; NaN where a person has no pair.
        binary: (columns,) True where the differences are of yes and no. A pair of opposite differences is added there,
            so that no change among few people is not taken for certainty.
        rounds: Bootstrap rounds.
        seed: Of the bootstrap.
        level: Joint coverage.

    Raises:
        TooFewPairsError: a column has fewer than two people.

    Reference:
        Westfall & Young 1993; Hothorn, Bretz & Westfall 2008 (max-t). Pairs added: Bonett & Price 2012, "Adjusted Wald
        confidence interval for a difference of binomial proportions based on paired data".
    """
    from scipy.stats import norm
    from scipy.stats import t as student

    here = ~np.isnan(differences)
    people = here.sum(0)
    if not people.size or people.min() < 2:
        raise TooFewPairsError("a difference needs at least two people that are in both runs")
    filled = np.where(here, differences, 0.0)
    mean = filled.sum(0) / people
    spread = np.sqrt(np.maximum((filled * filled).sum(0) / people - mean * mean, 0.0))
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(filled), np.full(len(filled), 1 / len(filled)), size=rounds).astype(np.float64)
    means = weights @ filled / np.maximum(weights @ here, 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        strayed = np.where(spread > 1e-12, np.abs(means - mean) * np.sqrt(people) / spread, 0.0)
    joint = max(float(np.quantile(strayed.max(1), level)), float(norm.ppf((1 + level) / 2)))
    found = []
    for c, n in enumerate(people):
        middle, error = float(mean[c]), float(spread[c] / np.sqrt(n - 1))
        if binary[c]:
            own = np.concatenate([filled[here[:, c], c], [1.0, -1.0]])
            middle, error = float(own.mean()), float(own.std(ddof=1) / np.sqrt(len(own)))
        critical = float(student.isf(norm.sf(joint), n - 1))
        found.append(
            Difference(
                mean=float(mean[c]),
                low=middle - critical * error,
                high=middle + critical * error,
                people=int(n),
                detectable=(critical + float(student.ppf(0.8, n - 1))) * error,
            )
        )
    return found


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


def bootstrap_share_of_pairs(
    above: np.ndarray, pairs: np.ndarray, rounds: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of sum(above) / sum(pairs) over pairs of people, drawing people once for both of their roles.

    Args:
        above: (N, N) per reference person and candidate person: how many of their comparisons count.
        pairs: (N, N) how many comparisons there are; the diagonal of both is 0.
        rounds: Bootstrap rounds.
        seed: Of the bootstrap.
        level: Coverage, in (0, 1).

    Reference:
        Snijders & Borgatti 1999, "Non-parametric standard errors and tests for network statistics" (the vertex bootstrap).
    """
    people = len(pairs)
    drawn = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), size=rounds).astype(np.float64)
    of = np.einsum("br,br->b", drawn @ pairs, drawn)
    shares = np.einsum("br,br->b", drawn @ above, drawn)[of > 0] / of[of > 0]
    return float(np.quantile(shares, (1 - level) / 2)), float(np.quantile(shares, (1 + level) / 2))


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
