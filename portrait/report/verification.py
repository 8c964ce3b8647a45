"""Portraits against the photos of everybody in a run, and against each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from portrait.calibrate.thresholds import equal_error_rate
from portrait.errors import TooFewPairsError
from portrait.intervals import bootstrap_share_of_pairs, wilson
from portrait.judge.gallery import Gallery
from portrait.judge.thresholds import threshold_at_far
from portrait.report.runs import Run, _with_pictures
from portrait.report.summary import _rate


def _matrices(run: Run, judge: str, chosen: Sequence[int]) -> tuple[list[str], np.ndarray] | None:
    """Everyone's name, and (people, pictures) similarities of their photos to the pictures; None without embeddings."""
    people = [name for name, known in run.identities.items() if judge in known]
    if len(people) < 2 or not all(judge in run.embeddings[i] for i in chosen) or not chosen:
        return None
    references = np.stack([run.identities[name][judge] for name in people])
    return people, references @ np.stack([run.embeddings[i][judge] for i in chosen]).T


def _comparable(run: Run) -> list[int]:
    """The pictures of people whose photo is known too."""
    return [i for i in _with_pictures(run) if run.identities.get(run.jobs[i]["subject"])]


def _verification(run: Run) -> list[dict[str, Any]]:
    """Per recipe, style and judge: portraits against the photos of their own people and of all others."""
    found = []
    ready = _comparable(run)
    for recipe, style in dict.fromkeys((run.jobs[i]["recipe"], run.jobs[i]["style"]) for i in ready):
        chosen = [i for i in ready if (run.jobs[i]["recipe"], run.jobs[i]["style"]) == (recipe, style)]
        for judge in run.jobs[chosen[0]]["thresholds"]:
            if (made := _matrices(run, judge, chosen)) is None:
                continue
            people, scores = made
            own = np.array([[name == run.jobs[i]["subject"] for i in chosen] for name in people])
            genuine, impostor = scores[own], scores[~own]
            limit = run.jobs[chosen[0]]["thresholds"][judge]
            ends = float(scores.min()) - 1e-3, float(scores.max()) + 1e-3
            found.append(
                {
                    "recipe": recipe,
                    "style": style,
                    "judge": judge,
                    "threshold": limit,
                    "genuine_pairs": int(genuine.size),
                    "impostor_pairs": int(impostor.size),
                    "genuine_mean": round(float(genuine.mean()), 4),
                    "impostor_mean": round(float(impostor.mean()), 4),
                    "eer": round(equal_error_rate(genuine, impostor), 4),
                    "far_at_threshold": round(float((impostor >= limit).mean()), 5),
                    "far_interval": _far_interval(people, [run.jobs[i]["subject"] for i in chosen], scores >= limit),
                    "det": error_curve(genuine, impostor),
                    "genuine": _histogram(genuine, *ends),
                    "impostor": _histogram(impostor, *ends),
                }
            )
    return found


def error_curve(genuine: np.ndarray, impostor: np.ndarray) -> list[list[float]]:
    """Threshold, false accept and false reject rate, from one end of the scores to the other.

    The thresholds are where one of the rates changes: quantiles of the genuine scores alone, since these are few among
    all pairs, and just above those of the impostors, where their last ones are taken as finely as the first: a false
    accept rate of 1 in `impostor.size` is always among them.
    """
    own, others = np.sort(genuine.astype(np.float64)), np.sort(impostor.astype(np.float64))
    shares, tail = np.linspace(0, 1, 80), 1 - np.geomspace(1 / others.size, 1, 40)
    passed = np.nextafter(np.quantile(others, np.concatenate([shares, tail]), method="lower"), np.inf)
    kept = np.quantile(own, shares, method="lower")
    ends = min(own[0], others[0]), np.nextafter(max(own[-1], others[-1]), np.inf)
    points = np.unique(np.concatenate([kept, passed, ends]))
    far = 1 - np.searchsorted(others, points) / others.size
    frr = np.searchsorted(own, points) / own.size
    return np.stack([points.round(4), far.round(5), frr.round(5)], 1).tolist()


def _histogram(values: np.ndarray, low: float, high: float) -> dict[str, Any]:
    """Counts in 60 equal bins from `low` to `high`."""
    counts = np.histogram(values, bins=60, range=(low, high))[0].tolist()
    return {"from": round(low, 4), "to": round(high, 4), "counts": counts}


def _far_interval(people: list[str], whose: list[str], passed: np.ndarray) -> list[float] | None:
    """Of the share of impostors that pass, drawing people with all their pictures; where none passes, up to Wilson's end
    for as many trials as there are people with pictures, since a bootstrap would be certain of 0.

    Args:
        people: Whose photos are the rows.
        whose: Whose portraits are the columns.
        passed: (people, portraits) bool.
    """
    place = {name: row for row, name in enumerate(people)}
    portraits = np.zeros((len(whose), len(people)))
    portraits[np.arange(len(whose)), [place[name] for name in whose]] = 1
    if len(set(whose)) < 3:
        return None
    above, pairs = passed @ portraits, np.tile(portraits.sum(0), (len(people), 1))
    for table in (above, pairs):
        np.fill_diagonal(table, 0)
    low, high = bootstrap_share_of_pairs(above, pairs)
    if not above.any():
        high = wilson(0, len(set(whose)))[1]
    return [round(low, 5), round(high, 5)]


def _note_confusion(run: Run) -> list[dict[str, Any]]:
    """Put into each job who else of the run is nearest (`nearest`, as `judge.gallery.Nearest`); returns who are alike as
    photos and so are not put against each other."""
    gallery, chosen = Gallery(run.identities), _comparable(run)
    found = gallery.nearest([(run.jobs[i]["subject"], run.embeddings[i]) for i in chosen])
    for i, nearest in zip(chosen, found, strict=True):
        if nearest is not None:
            run.jobs[i]["nearest"] = {"subject": nearest.subject, "margin": nearest.margin}
    return [{"subjects": list(pair.subjects), "similarity": pair.similarity} for pair in gallery.duplicate_identities()]


def _same_person(run: Run) -> dict[str, Any] | None:
    """Is it the same person in all of their portraits, whatever the style: portraits compared with portraits.

    The limit per judge is where 1 in 100 pairs of *different* people's portraits would pass, in this run. `people` lists
    everyone, the least alike first, with the portrait that fits the others and the photo least.
    """
    ready = _with_pictures(run)
    by_person: dict[str, list[int]] = {}
    for i in ready:
        by_person.setdefault(run.jobs[i]["subject"], []).append(i)
    by_person = {name: own for name, own in by_person.items() if len(own) > 1}
    judges = list(next((run.jobs[i]["thresholds"] for i in ready), {}))
    if not by_person or not judges:
        return None
    limits: dict[str, float | None] = {}
    sample = ready if len(ready) <= 1500 else np.random.default_rng(0).choice(ready, 1500, replace=False).tolist()
    whose = np.array([run.jobs[i]["subject"] for i in sample])
    for judge in judges:
        vectors = np.stack([run.embeddings[i][judge] for i in sample])
        pairs = (vectors @ vectors.T)[np.triu(whose[:, None] != whose[None], 1)]
        try:
            limits[judge] = round(threshold_at_far(pairs, 0.01), 4)
        except TooFewPairsError:
            limits[judge] = None
    people = []
    for name, own in by_person.items():
        entry: dict[str, Any] = {"subject": name, "pictures": len(own), "likeness": {}}
        total = np.zeros((len(own), len(own)))
        same = True
        for judge in judges:
            vectors = np.stack([run.embeddings[i][judge] for i in own])
            scores = vectors @ vectors.T
            pairs = scores[np.triu_indices(len(own), 1)]
            entry["likeness"][judge] = {"mean": round(float(pairs.mean()), 4), "least": round(float(pairs.min()), 4)}
            limit = limits[judge]
            same &= limit is None or bool(pairs.min() >= limit)
            total += scores
            if judge in run.identities.get(name, {}):
                total += (vectors @ run.identities[name][judge])[:, None] / len(own)
        worst = int(total.sum(1).argmin())
        entry["same"] = same
        entry["odd_one_out"] = {key: run.jobs[own[worst]][key] for key in ("recipe", "style", "variant", "output")}
        people.append(entry)
    first = judges[0]
    people.sort(key=lambda p: (p["same"], p["likeness"][first]["least"]))
    flags = np.array([p["same"] for p in people])
    known = any(limit is not None for limit in limits.values())
    return {"limits": limits, "same": _rate(flags, np.arange(len(flags))) if known else None, "people": people}
