"""Rates and means of the pictures of a run, of a style or of a group of people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from portrait.intervals import bootstrap_mean, bootstrap_ratio, wilson_people
from portrait.report.runs import Run, _unseen

SMALLEST_GROUP = 5
"""Groups of fewer people are put together: too few for a rate, and nobody shall be found out by their row."""

MOST_GROUPS = 12


def _rate(passed: np.ndarray, people: np.ndarray) -> dict[str, Any]:
    low, high = wilson_people(passed, people)
    share = float(np.mean(passed)) if len(passed) else None
    return {
        "rate": None if share is None else round(share, 4),
        "interval": [round(low, 4), round(high, 4)],
        "count": int(np.sum(passed)),
        "of": len(passed),
    }


def _mean(values: Sequence[float], people: Sequence[str]) -> dict[str, Any]:
    low, high = bootstrap_mean(np.array(values), np.array(people))
    return {"mean": round(float(np.mean(values)), 4), "interval": [round(low, 4), round(high, 4)], "of": len(values)}


def _summary(run: Run, jobs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rates and means of some jobs. Failed inputs are counted in `not_acquired`, other failures in `failed`, and neither
    in any rate; portraits without a face are rejections and in every rate."""
    judged = [job for job in jobs if job["delivered"]]
    unseen = _unseen(run)
    nothing = [job["subject"] in unseen for job in jobs if not job["delivered"]]
    people = np.array([job["subject"] for job in judged])
    found: dict[str, Any] = {
        "people": len(set(people)),
        "pictures": len(judged),
        "not_acquired": sum(nothing),
        "failed": len(nothing) - sum(nothing),
    }
    if not judged:
        return found
    accepted = np.array([job["state"] == "accepted" for job in judged])
    attempts = np.array([job["attempts"] for job in judged])
    seconds = np.array([job["seconds"] for job in judged])
    first = np.array([bool(job["first"]["accepted"]) for job in judged])
    faceless = np.array([not job["delivered"]["face_found"] for job in judged])
    judges = list(judged[0]["thresholds"])
    reasons: dict[str, int] = {}
    for job in judged:
        for reason in job["reasons"] if job["state"] == "rejected" else ():
            reasons[reason] = reasons.get(reason, 0) + 1
    names = people.tolist()
    return found | {
        "accepted": _rate(accepted, people),
        "first_attempt_accepted": _rate(first, people),
        "no_face_in_portrait": _rate(faceless, people),
        "attempts": int(attempts.sum()),
        "attempts_per_accepted": _ratio(attempts, accepted, people),
        "seconds_per_accepted": _ratio(seconds, accepted, people),
        "likeness": {
            judge: {
                "quoted": _mean([job["quoted"][judge] for job in judged], names),
                "first": _mean([job["first"]["similarity"][judge] for job in judged], names),
                "delivered": _mean([job["delivered"]["similarity"][judge] for job in judged], names),
                "threshold": judged[0]["thresholds"][judge]
                if len({j["thresholds"][judge] for j in judged}) == 1
                else None,
            }
            for judge in judges
        },
        "style_on_face": _mean([job["delivered"]["style_on_face"] for job in judged], names),
        "reasons": dict(sorted(reasons.items(), key=lambda item: -item[1])),
    }


def _ratio(above: np.ndarray, below: np.ndarray, people: np.ndarray) -> dict[str, Any]:
    if not below.sum():
        return {"value": None, "interval": [None, None]}
    ends = bootstrap_ratio(above, below, people)
    return {
        "value": round(float(above.sum() / below.sum()), 3),
        "interval": [round(e, 3) if np.isfinite(e) else None for e in ends],
    }


def _groups(run: Run) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Per column of the subjects' table and group in it: rates and likeness; and the columns without two groups that can
    be shown, names say."""
    own = {p["subject"]: p["columns"] for p in run.people}
    found: dict[str, list[dict[str, Any]]] = {}
    not_shown = []
    for column in dict.fromkeys(c for columns in own.values() for c in columns):
        values = {subject: columns.get(column) or "(empty)" for subject, columns in own.items()}
        named = protected_groups(values)
        if len(set(named.values())) < 2:
            not_shown.append(column)
            continue
        rows = []
        for group in sorted(set(named.values()), key=lambda g: (g.startswith("("), g)):
            inside = [job for job in run.jobs if named[job["subject"]] == group]
            size = sum(v == group for v in named.values())
            rows.append({"group": group, "acquired_of": size} | _summary(run, inside))
        found[column] = rows
    return found, not_shown


def protected_groups(values: Mapping[str, str]) -> dict[str, str]:
    """Person -> group, with groups of fewer than `SMALLEST_GROUP` people put together; if together they are still too
    few, the smallest of the others joins them, or they could be found by subtraction. So do the smallest of more than
    `MOST_GROUPS`."""
    sizes: dict[str, int] = {}
    for value in values.values():
        sizes[value] = sizes.get(value, 0) + 1
    by_size = sorted(sizes, key=lambda group: (sizes[group], group))
    small = [group for group in by_size if sizes[group] < SMALLEST_GROUP]
    if len(sizes) - len(small) + bool(small) > MOST_GROUPS:
        small = by_size[: len(sizes) - MOST_GROUPS + 1]
    for group in by_size[len(small) :]:
        if not small or sum(sizes[g] for g in small) >= SMALLEST_GROUP:
            break
        small.append(group)
    name = f"(others: {len(small)} groups)" if len(small) > 1 else f"({small[0]})" if small else ""
    return {person: name if value in small else value for person, value in values.items()}
