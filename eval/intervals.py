"""Coverage and power of the intervals in a drift report, on simulated people.

    python eval/intervals.py                         # takes three minutes on one core; writes eval/intervals.json

Coverage: how often all intervals of a comparison contain the true difference of 0, over `--trials` simulated comparisons for
each distribution; nominally 95 %. Power: from a pilot of 20 people, the number of people who would show with a probability of
80 % that nothing changed is estimated; in a new sample of that many, it is counted how often all rows are stable.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from portrait.files import write_json
from portrait.intervals import SimultaneousDifferences, simultaneous_differences

Sample = Callable[[np.random.Generator, int], np.ndarray]
COLUMNS = 12


def independent(rng: np.random.Generator, people: int) -> np.ndarray:
    return rng.normal(size=(people, COLUMNS))


def correlated(rng: np.random.Generator, people: int) -> np.ndarray:
    return 2 * rng.normal(size=(people, 1)) + rng.normal(size=(people, COLUMNS))


def heavy_tailed(rng: np.random.Generator, people: int) -> np.ndarray:
    return 0.5 * rng.normal(size=(people, 1)) + rng.standard_t(4, size=(people, COLUMNS))


def eight_styles(rng: np.random.Generator, people: int) -> np.ndarray:
    """Three measures in eight styles, and over all of them."""
    person = rng.normal(size=(people, 3))
    styles = [person + 1.5 * rng.normal(size=(people, 3)) for _ in range(8)]
    return np.hstack([np.mean(styles, 0), *styles])


SAMPLES: dict[str, Sample] = {
    "independent": independent,
    "correlated": correlated,
    "heavy-tailed": heavy_tailed,
    "eight styles": eight_styles,
}


def compared(differences: np.ndarray, seed: int) -> SimultaneousDifferences:
    return simultaneous_differences(differences, np.zeros(differences.shape[1]), rounds=1000, seed=seed)


def coverage(sample: Sample, people: int, trials: int) -> float:
    """How often all intervals contain 0 simultaneously."""
    covered = 0
    for trial in range(trials):
        columns = compared(sample(np.random.default_rng([people, trial]), people), trial).columns
        covered += all(column.low <= 0 <= column.high for column in columns)
    return covered / trials


def power(sample: Sample, tolerance: float, trials: int) -> tuple[float, float]:
    """Median number of people that pilots of 20 call for, and how often that many show that nothing changed."""
    numbers: list[int] = []
    stable = 0
    for trial in range(trials):
        rng = np.random.default_rng([1, trial])
        pilot = compared(sample(rng, 20), trial)
        tolerances = [tolerance] * len(pilot.columns)
        numbers.append(pilot.people_for_stability(tolerances, range(len(tolerances))))
        columns = compared(sample(rng, numbers[-1]), trial).columns
        stable += all(-tolerance < column.low and column.high < tolerance for column in columns)
    return float(np.median(numbers)), stable / trials


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--people", type=int, nargs="+", default=[6, 7, 8, 12, 24])
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    result: dict[str, object] = {"trials": args.trials, "level": 0.95, "power": 0.8}
    covered = {}
    for name, sample in SAMPLES.items():
        covered[name] = {str(people): coverage(sample, people, args.trials) for people in args.people}
        print(f"coverage, {name}:", covered[name], flush=True)
    powers = {}
    for name, sample in SAMPLES.items():
        people, share = power(sample, 1.0, args.trials)
        powers[name] = {"people": people, "stable": share}
        print(f"power, {name}:", powers[name], flush=True)
    write_json(args.output, result | {"coverage": covered, "stable_at_the_number_told": powers})
    return 0


if __name__ == "__main__":
    sys.exit(main())
