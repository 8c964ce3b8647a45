"""95 % confidence intervals of means and rates that treat people, not pictures, as the independent units."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtr, stdtrit

from portrait.errors import TooFewPairsError

_LEVEL = 0.95
"""The coverage of every interval here, and the joint coverage of simultaneous ones."""
_Z = 1.96
"""The normal quantile of that coverage."""
_ENDS = ((1 - _LEVEL) / 2, (1 + _LEVEL) / 2)
"""The quantiles at which a percentile interval ends."""
_POWER = 0.8
_POWER_DRAWS = 4000
_NO_SPREAD = 1e-12
_MIN_NUMBER, _MAX_NUMBER = 3, 10_000_000
"""Of people, where the number that a comparison needs is sought."""


def wilson(count: int, of: int) -> tuple[float, float]:
    """Wilson's interval of a rate of independent trials, here one picture per person; valid even at 0 and 1.

    Reference:
        Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    return _wilson(count / of, of) if of else (0.0, 1.0)


def _wilson(share: float, of: float) -> tuple[float, float]:
    middle = (share + _Z * _Z / (2 * of)) / (1 + _Z * _Z / of)
    half = _Z / (1 + _Z * _Z / of) * float(np.sqrt(share * (1 - share) / of + _Z * _Z / (4 * of * of)))
    return max(0.0, middle - half), min(1.0, middle + half)


def _student(tail: float, freedom: ArrayLike) -> NDArray[np.float64]:
    """The value that Student's t exceeds with a probability of `tail`, for each number of degrees of freedom."""
    return np.asarray(-stdtrit(freedom, tail))


def wilson_people(passed: np.ndarray, people: np.ndarray) -> tuple[float, float]:
    """Wilson's interval for several pictures per person, which count for less than that many independent trials.

    The number of pictures is divided by the design effect: the variance of the rate over people, relative to that of
    independent pictures. The result is reduced as much as Student's quantile for so many people exceeds the normal one, and
    is never below the number of people nor above that of pictures. If all pictures passed or none did, no variance can be
    estimated, and the number of people is used.

    Args:
        passed: (N,) bool or 0/1, one per picture.
        people: (N,) the person of each picture.

    Reference:
        Dean & Pagano 2015, "Evaluating confidence interval methods for binomial proportions in clustered surveys"; Korn &
        Graubard 1998 (few people).
    """
    n = len(passed)
    if n == 0:
        return 0.0, 1.0
    values = np.asarray(passed, np.float64)
    _, whose = np.unique(people, return_inverse=True)
    counts, sums = np.bincount(whose), np.bincount(whose, weights=values)
    k, share = len(counts), values.mean()
    effective = float(k)
    if 0 < share < 1 and 1 < k < n:
        clustered = k / (k - 1) * float(((sums - share * counts) ** 2).sum()) / n**2
        few = (_Z / _student(_ENDS[0], k - 1)) ** 2
        effective = min(float(n), max(float(k), few * share * (1 - share) / clustered if clustered > 0 else float(n)))
    return _wilson(share, effective)


def mean_interval(
    values: np.ndarray, people: np.ndarray, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[float, float]:
    """Student's interval of a mean over pictures, with as many degrees of freedom as there are people besides the first.

    The mean is a ratio of two sums over people, values and pictures; its error is that of the linearized ratio.

    Args:
        values: (N,) one per picture.
        people: (N,) the person of each picture.
        bounds: The range of the measure, which the interval does not leave.

    Returns:
        (low, high); the bounds with only one person.

    Reference:
        Cochran 1977, "Sampling techniques", section 9A (clusters of unequal sizes).
    """
    _, whose = np.unique(people, return_inverse=True)
    sums, counts = np.bincount(whose, weights=values), np.bincount(whose)
    k, mean = len(counts), float(np.mean(values))
    if k < 2:
        return bounds
    error = float(np.sqrt(k / (k - 1) * ((sums - mean * counts) ** 2).sum())) / len(values)
    half = float(_student(_ENDS[0], k - 1)) * error
    return max(bounds[0], mean - half), min(bounds[1], mean + half)


def cost_interval(costs: np.ndarray, accepted: np.ndarray, people: np.ndarray) -> tuple[float, float]:
    """Interval of the cost of an accepted picture, sum(costs) / sum(accepted), such as attempts per accepted picture.

    Fieller's interval of a ratio of two means over people, and at least as wide as the interval of the accept rate makes it
    at the same cost per picture: few people who were all accepted show no variance, but prove no certainty.

    Args:
        costs: (N,) one per picture, not negative.
        accepted: (N,) bool.
        people: (N,) the person of each picture.

    Returns:
        (low, high); high is infinite if the accept rate may be 0.

    Reference:
        Fieller 1954, "Some problems in interval estimation".
    """
    low, high = _fieller(costs, accepted, people)
    least, most = wilson_people(accepted, people)
    mean = float(np.mean(costs))
    return min(low, mean / most), max(high, mean / least if least else np.inf)


def _fieller(above: np.ndarray, below: np.ndarray, people: np.ndarray) -> tuple[float, float]:
    """The ratios of two sums that Student's test over people does not reject at 5 %, as one interval from 0."""
    _, whose = np.unique(people, return_inverse=True)
    a, b = np.bincount(whose, weights=above), np.bincount(whose, weights=below)
    k = len(a)
    if k < 2:
        return 0.0, np.inf
    square = float(_student(_ENDS[0], k - 1)) ** 2 / k
    (aa, ab), (_, bb) = np.cov(a, b)
    # The ends are the roots of scale * x^2 - 2 * middle * x + rest.
    scale, middle, rest = b.mean() ** 2 - square * bb, a.mean() * b.mean() - square * ab, a.mean() ** 2 - square * aa
    root = np.sqrt(max(middle**2 - scale * rest, 0.0))
    if scale > _NO_SPREAD:
        return max(0.0, float((middle - root) / scale)), float((middle + root) / scale)
    # The mean below may be 0, so there is no upper end; the lower one is the positive root, if only one root is positive.
    return (float((middle - root) / scale) if rest > 0 and scale < -_NO_SPREAD else 0.0), np.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A mean difference with its simultaneous interval.

    `error` is the standard error, `detectable` the smallest true difference that a sample like this one would have detected
    with a probability of 80 %.
    """

    mean: float
    low: float
    high: float
    people: int
    error: float
    detectable: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimultaneousDifferences:
    """Mean differences whose intervals hold simultaneously.

    `tail` is the probability that a single interval misses its mean, `correlation` the (columns, columns) shrunken
    correlation of the people's differences.
    """

    columns: list[Difference]
    tail: float
    correlation: NDArray[np.float64]

    def people_for_stability(self, tolerances: Sequence[float], asked: Sequence[int]) -> int:
        """How many people it takes to show, with a probability of 80 %, that nothing changed if in truth nothing did.

        That is: the intervals of all required columns lie within their tolerances. Spreads and correlations are taken from
        this sample; the calculation includes that the next sample will estimate them anew.

        Args:
            tolerances: The tolerance of each column, above 0.
            asked: Which columns must be shown to be stable together.
        """
        chosen = [c for c in asked if self.columns[c].error > _NO_SPREAD]
        if not chosen:  # columns without any spread are shown to be stable by the people that there are
            return max((self.columns[c].people for c in asked), default=0)
        spread = np.array([self.columns[c].error * np.sqrt(self.columns[c].people) for c in chosen])
        tolerance = np.array([tolerances[c] for c in chosen])
        # A column may lack some people; larger samples will lack the same share of them.
        share = np.array([self.columns[c].people for c in chosen]) / max(self.columns[c].people for c in asked)
        rng = np.random.default_rng(0)
        normal = rng.normal(size=(_POWER_DRAWS, len(chosen))) @ _root(self.correlation[np.ix_(chosen, chosen)]).T
        uniform = rng.uniform(size=normal.shape)

        def shown(people: int) -> float:
            n = np.maximum(people * share, 2.0)
            error = spread / np.sqrt(n)
            critical = _student(self.tail / 2, n - 1)
            # Each draw is a future study, which estimates its own spread: hence the factor of the interval's half width.
            half = critical * error * _chi(uniform, n - 1)
            return float((np.abs(normal) * error + half < tolerance).all(1).mean())

        return _MIN_NUMBER + bisect_left(range(_MIN_NUMBER, _MAX_NUMBER), _POWER, key=shown)


def _chi(uniform: NDArray[np.float64], freedom: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draws of the ratio of estimated to true standard deviation, by Wilson and Hilferty's approximation."""
    spread = 2 / (9 * freedom)
    cube = np.maximum(1 - spread + ndtri(uniform) * np.sqrt(spread), 0.0)
    return np.asarray(cube**1.5)


def simultaneous_differences(
    differences: NDArray[np.float64],
    steps: NDArray[np.float64],
    rounds: int = 4000,
    seed: int = 0,
) -> SimultaneousDifferences:
    """Intervals of many mean differences over the same people that hold simultaneously with a probability of 95 %.

    Each is a Student interval, at a level for which all of them hold together. To find that level, samples of as many people
    are drawn from a normal distribution with this sample's correlations, and in each draw every mean is divided by the
    spread estimated from that draw (studentized max-t). So testing many styles and measures does not make false alarms more
    frequent, and correlated measures are not penalized twice. As correlations of few people are unreliable, they are shrunk
    toward 0 by the size they would have by chance.

    Differences between two runs of the same kind are symmetric around 0 even if the measure itself is skewed. If the
    differences are skewed, the coverage is lower.

    Args:
        differences: (people, columns), current minus baseline; NaN where a person has no pair.
        steps: (columns,) for measures of yes and no, the smallest possible change of a person's value: 1, or 1 over the
            number of their pictures for a mean; 0 for other measures. A pair of opposite differences of this size is added,
            so that no change among few people is not taken for certainty, and the interval stays within -1 and 1.
        rounds: Number of draws.
        seed: Seed of the draws.

    Raises:
        TooFewPairsError: a column has fewer than two people.

    Reference:
        Westfall & Young 1993; Hothorn, Bretz & Westfall 2008 (max-t); Schaefer & Strimmer 2005 (shrinkage). Pairs added:
        Bonett & Price 2012, "Adjusted Wald confidence interval for a difference of binomial proportions based on paired
        data".
    """
    is_present = ~np.isnan(differences)
    people = is_present.sum(0)
    if not people.size or people.min() < 2:
        raise TooFewPairsError("a difference needs at least two people who are in both runs")
    mean = np.where(is_present, differences, 0.0).sum(0) / people
    residuals = np.where(is_present, differences - mean, 0.0)
    correlation = _shrunken_correlation(residuals)
    # Columns without spread cannot raise false alarms, and have no correlation.
    varies = np.flatnonzero((residuals**2).sum(0) > _NO_SPREAD)
    tail = 1 - _LEVEL
    if varies.size:
        smallest = _smallest_tails(
            correlation[np.ix_(varies, varies)], is_present[:, varies], rounds, np.random.default_rng(seed)
        )
        tail = min(float(np.quantile(smallest, 1 - _LEVEL)), 1 - _LEVEL)  # never narrower than a single interval
    columns = []
    for c, n in enumerate(people):
        values = differences[is_present[:, c], c]
        if steps[c]:
            values = np.concatenate([values, [steps[c], -steps[c]]])
        middle, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
        critical = float(_student(tail / 2, n - 1))
        bound = 1.0 if steps[c] else np.inf
        columns.append(
            Difference(
                mean=float(mean[c]),
                low=max(middle - critical * error, -bound),
                high=min(middle + critical * error, bound),
                people=int(n),
                error=error,
                detectable=(critical - float(_student(_POWER, n - 1))) * error,
            )
        )
    return SimultaneousDifferences(columns=columns, tail=tail, correlation=correlation)


def _shrunken_correlation(residuals: NDArray[np.float64]) -> NDArray[np.float64]:
    """The (columns, columns) correlation, shrunk toward 0 by the variance of the estimates relative to their size."""
    unit = residuals / np.maximum(np.linalg.norm(residuals, axis=0), _NO_SPREAD)
    raw = unit.T @ unit
    off_diagonal = raw[~np.eye(len(raw), dtype=bool)]
    size = float((off_diagonal**2).sum())
    variance = float(((1 - off_diagonal**2) ** 2).sum()) / (len(residuals) - 1)
    shrinkage = min(1.0, variance / size) if size else 1.0
    shrunken = (1 - shrinkage) * raw
    np.fill_diagonal(shrunken, 1.0)
    return np.asarray(shrunken)


def _root(correlation: NDArray[np.float64]) -> NDArray[np.float64]:
    """The symmetric root: signs and order of the eigenvectors differ between processors, and draws with them would too."""
    values, vectors = np.linalg.eigh(correlation)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)


def _smallest_tails(
    correlation: NDArray[np.float64], is_present: NDArray[np.bool_], rounds: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(rounds,) the smallest two-sided tail of any column's t in each draw of people whose true difference is 0.

    `correlation` is (columns, columns); `is_present` (people, columns) bool: absent values are left out of the draws too.
    """
    root = _root(correlation)
    people = is_present.sum(0)
    smallest = []
    chunk = max(1, 20_000_000 // is_present.size)  # at most 160 MB at a time
    for start in range(0, rounds, chunk):
        drawn = rng.normal(size=(min(chunk, rounds - start), *is_present.shape)) @ root.T
        drawn *= is_present
        means = drawn.sum(1) / people
        variances = ((drawn**2).sum(1) / people - means**2) * people / (people - 1)
        t = np.abs(means) * np.sqrt(people / np.maximum(variances, _NO_SPREAD))
        # Tails, not t itself: columns may have different numbers of people, and so different critical values.
        smallest.append(2 * stdtr(people - 1, -t).min(1))
    return np.concatenate(smallest)


def bootstrap_share_of_pairs(
    above: np.ndarray, pairs: np.ndarray, rounds: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of sum(above) / sum(pairs) over pairs of people, each drawn once for both roles.

    `pairs`, (N, N), are the comparisons of a reference person with a candidate person, and `above` those that count. The
    diagonal of both is 0.

    Reference:
        Snijders & Borgatti 1999, "Non-parametric standard errors and tests for network statistics" (the vertex bootstrap).
    """
    people = len(pairs)
    drawn = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), size=rounds).astype(np.float64)
    of = np.einsum("br,br->b", drawn @ pairs, drawn)
    return _percentile_interval(np.einsum("br,br->b", drawn @ above, drawn)[of > 0] / of[of > 0])


def bootstrap_pairs(scores: np.ndarray, statistic: Callable[[np.ndarray], float]) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic of comparisons between people, each of whom is in many pairs.

    In each of 400 rounds, people are drawn once for both roles.

    Args:
        scores: (R, C) reference person x candidate person; NaN where a pair does not count. The first C
            references are the people of the candidates, in the same order; any others are further people.
        statistic: Function of a (K,) array of scores.

    Raises:
        TooFewPairsError: no sample has a pair.
    """
    rng = np.random.default_rng(0)
    rows, columns = len(scores), len(scores[0])
    values = []
    for _ in range(400):
        drawn = rng.integers(columns, size=columns)
        others = columns + rng.integers(rows - columns, size=rows - columns) if rows > columns else drawn[:0]
        sample = scores[np.ix_(np.concatenate([drawn, others]), drawn)].ravel()
        sample = sample[~np.isnan(sample)]
        if sample.size:  # otherwise one person was drawn every time
            values.append(statistic(sample))
    if not values:
        raise TooFewPairsError(f"{columns} people are too few for an interval")
    return _percentile_interval(values)


def _percentile_interval(values: NDArray[np.float64] | Sequence[float]) -> tuple[float, float]:
    low, high = np.quantile(values, _ENDS)
    return float(low), float(high)
