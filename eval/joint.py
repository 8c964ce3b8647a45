"""Ways to choose limits for all judges together, compared on people who did not help to set them.

    python eval/joint.py [--rounds 20]       # writes eval/joint.json; needs no photos and no models

Scores are simulated: normal genuine and impostor scores for each judge, with the separations and correlations that were
measured on artists' pencil sketches of 311 people (`SKETCHES`) or, by `d'`, on oil portraits by `mini` (`OIL`). Part of the
impostors' variance is that of people, because some faces resemble many. Limits are derived from one sample of people and
evaluated on another. `equal` is the former rule: every judge at the same rate, here the one that gives the gate's rate.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np

from portrait.calibrate.gate import Scores, fused_gate, passes, split_pairs
from portrait.files import write_json
from portrait.judge.thresholds import Gate, order_statistic

JUDGES = ("arcface", "dlib", "sface")
SKETCHES = (3.75, 1.68, 3.55), {("arcface", "dlib"): 0.39, ("arcface", "sface"): 0.74, ("dlib", "sface"): 0.27}
OIL = (5.5, 4.0, 5.0), {("arcface", "dlib"): 0.61, ("arcface", "sface"): 0.78, ("dlib", "sface"): 0.54}
PERSON = 0.2
"""The share of the impostors' variance that belongs to each of the two people in a pair."""
CUTS = np.geomspace(0.99, 1e-3, 13)
"""Rates of a single judge that `cut_gate` tries."""
KERNEL = 0.5
"""Width, in standard deviations of the genuine scores, over which a genuine pair counts as partly passed."""


def simulate(rng: np.random.Generator, people: int, separation: tuple[float, ...], correlation: dict) -> Scores:
    """Judge -> (people, people) scores in standard deviations of the impostors; genuine pairs on the diagonal."""
    matrix = np.eye(len(JUDGES))
    for (first, second), value in correlation.items():
        i, j = JUDGES.index(first), JUDGES.index(second)
        matrix[i, j] = matrix[j, i] = value
    root = np.linalg.cholesky(matrix)
    personal = [rng.normal(size=(people, len(JUDGES))) @ root.T for _ in range(2)]
    noise = rng.normal(size=(people, people, len(JUDGES))) @ root.T
    scores = np.sqrt(PERSON) * (personal[0][:, None] + personal[1][None]) + np.sqrt(1 - 2 * PERSON) * noise
    scores[np.arange(people), np.arange(people)] += np.array(separation)
    return {judge: scores[..., j] for j, judge in enumerate(JUDGES)}


def equal_gate(scores: Scores, far: float) -> Gate:
    """Every judge at the same rate, the largest at which no more than `far` of the impostors pass all of them."""
    impostor = split_pairs(scores)[1]
    low, high = far, 1.0
    for _ in range(30):
        rate = float(np.sqrt(low * high))
        limits = np.array([order_statistic(column, rate) for column in impostor.T])
        low, high = (rate, high) if (impostor >= limits).all(1).mean() <= far else (low, rate)
    floors = [order_statistic(column, low) for column in impostor.T]
    return Gate(floors=dict(zip(scores, floors, strict=True)), far=far)


def cut_gate(scores: Scores, far: float) -> Gate:
    """The gate with one limit per judge that most genuine pairs pass, at a joint rate of `far`.

    A genuine pair near a limit counts as partly passed, so of several gates that all genuine pairs pass, the one with the
    most room wins.
    """
    genuine, impostor = split_pairs(scores)
    judges = impostor.shape[1]
    width = KERNEL * genuine.std(0) + 1e-6
    best, best_share = np.full(judges, 1e6), -1.0
    for cut in product([rate for rate in CUTS if rate > far] + [far], repeat=judges - 1):
        limits = np.array([order_statistic(impostor[:, j], rate) for j, rate in enumerate(cut)] + [-1e6])
        last = np.where((impostor >= limits).all(1), impostor[:, -1], -1e6)
        limits[-1] = order_statistic(last, far)
        share = float((1 / (1 + np.exp(np.clip(-1.7 * (genuine - limits) / width, -50, 50)))).prod(1).mean())
        if share > best_share:
            best, best_share = limits, share
    return Gate(floors=dict(zip(scores, best.tolist(), strict=True)), far=far)


METHODS: dict[str, Callable[[Scores, float], Gate]] = {
    "equal": equal_gate,
    "unequal cut": cut_gate,
    "fused, floor at 0.8": fused_gate,
    "fused, floor at 0.5": lambda scores, far: fused_gate(scores, far, 0.5),
    "fused, no floor": lambda scores, far: fused_gate(scores, far, 0.999),
}


def compare(people: int, rounds: int, far: float, pictures: tuple, judges: tuple[str, ...]) -> dict[str, list[float]]:
    """Method -> mean FAR and TAR of people who did not help to set the limits, and the TAR's standard deviation over rounds."""
    outcomes: dict[str, list[tuple[float, float]]] = {name: [] for name in METHODS}
    for number in range(rounds):
        rng = np.random.default_rng(number)
        tuning, new = ({j: s[j] for j in judges} for s in (simulate(rng, n, *pictures) for n in (people, 300)))
        for name, method in METHODS.items():
            passed = passes(method(tuning, far), new)
            is_own = np.eye(len(passed), dtype=bool)
            outcomes[name].append((float(passed[~is_own].mean()), float(passed[is_own].mean())))
    return {
        name: [*np.array(rows).mean(0).round(4).tolist(), round(float(np.std(np.array(rows)[:, 1])), 4)]
        for name, rows in outcomes.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "joint.json")
    args = parser.parse_args()
    table = {}
    for name, pictures in (("sketches", SKETCHES), ("oil", OIL)):
        for people, far in ((150, 0.01), (36, 0.01), (150, 0.001)):
            for judges in (("arcface", "dlib"), ("dlib", "sface"), JUDGES):
                row = compare(people, args.rounds, far, pictures, judges)
                key = f"{name}, {' + '.join(judges)}, limits from {people} people, FAR {far:g}"
                table[key] = row
                print(key, *(f"{method}: {values}" for method, values in row.items()), sep="\n  ", flush=True)
    print(
        write_json(args.output, {"columns": ["far", "tar", "deviation of tar"], "rounds": args.rounds, "rows": table})
    )


if __name__ == "__main__":
    main()
