"""Compute the whole report of a run, including how similar its pictures look."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

import portrait
from portrait.errors import EvaluationError
from portrait.records.report import SCHEMA, Appearance, DriftReport, Rate, RunInfo, StyleConsistency
from portrait.report.compare import compare
from portrait.report.runs import Run
from portrait.report.summary import acquisition_failures, rate_of, summarize, summarize_groups, summarize_styles
from portrait.report.verification import check_same_person, find_confusion, verify
from portrait.report.words import APPEARANCE_WORDS

ODD = 3.5
"""A picture is odd in its style if its distance from the style's center is this many robust deviations above the usual."""

_MIN_FOR_ODD = 5
"""In styles with fewer pictures none is odd."""


def compute_report(run: Run, baseline: Run | None = None) -> DriftReport:
    """Measure a run, and compare it with a baseline if there is one.

    Raises:
        EvaluationError: no portrait of the run could be judged.
    """
    judged = [job for job in run.jobs if job.delivered]
    if not judged:
        raise EvaluationError("not one portrait of this run could be judged; portrait campaign status says why")
    appearances, consistency = measure_consistency(run)
    nearest, duplicates = find_confusion(run)
    groups, columns_not_shown = summarize_groups(run)
    comparison, verdict = compare(run, baseline) if baseline else (None, None)
    jobs = list(run.jobs)
    for i, appearance in appearances.items():
        jobs[i] = jobs[i].model_copy(update={"appearance": appearance})
    for i, other in nearest.items():
        jobs[i] = jobs[i].model_copy(update={"nearest": other})
    return DriftReport(
        schema_version=SCHEMA,
        portrait=portrait.__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        run=RunInfo(
            name=run.name,
            people=len(run.people),
            pictures=len(run.jobs),
            pending=run.pending,
            settled=run.settled,
            judges=tuple(judged[0].thresholds),
            conditions=run.conditions,
        ),
        far=run.far,
        licenses=tuple(run.licenses),
        failure_to_acquire=acquisition_failures(run),
        overall=summarize(run, run.jobs),
        styles=tuple(summarize_styles(run)),
        groups=groups,
        columns_not_shown=tuple(columns_not_shown),
        verification=tuple(verify(run, duplicates)),
        genuine_impostor_gap=run.genuine_impostor_gap,
        duplicate_identities=tuple(duplicates),
        consistency=tuple(consistency),
        same_person=check_same_person(run, duplicates),
        comparison=comparison,
        verdict=verdict,
        people=tuple(run.people),
        jobs=tuple(jobs),
    )


def measure_consistency(run: Run) -> tuple[dict[int, Appearance], list[StyleConsistency]]:
    """How similar the pictures of each style are; and index of a job -> how its picture fits into its style.

    Features are measured in robust deviations within their style; the distance of a picture is the root mean square over
    the features. A picture is recognized if it is closer to the center of its own style, computed without it, than to that
    of any other; `spread` is the ratio of the mean distances within a style and between styles.
    """
    pictures = [i for i, job in enumerate(run.jobs) if job.delivered and run.looks and run.looks[i]]
    looks = [run.looks[i] for i in pictures]
    features = [name for name in looks[0] if all(name in look for look in looks)] if looks else []
    if not features:
        return {}, []
    values = np.array([[look[name] for name in features] for look in looks])
    labels = [(run.jobs[i].recipe, run.jobs[i].style) for i in pictures]
    styles = list(dict.fromkeys(labels))
    index = np.array([styles.index(label) for label in labels])
    middles = np.stack([np.median(values[index == k], 0) for k in range(len(styles))])
    # The scaled median absolute deviation; with a floor, as some features hardly vary within a style.
    scale = np.maximum(1.4826 * np.median(np.abs(values - middles[index]), 0), 1e-3 + 0.02 * values.std(0))
    distances = np.sqrt((((values[:, None] - middles[None]) / scale) ** 2).mean(-1))  # (pictures, styles)
    people = np.array([run.jobs[i].subject for i in pictures])
    appearances: dict[int, Appearance] = {}
    entries = []
    for k, (recipe, style) in enumerate(styles):
        members = np.flatnonzero(index == k)
        to_own = distances[members, k]
        limit = _odd_limit(to_own)
        is_odd = (to_own > limit) & (len(members) >= _MIN_FOR_ODD)
        for n, distance, odd in zip(members, to_own.tolist(), is_odd.tolist(), strict=True):
            why = {"why": _most_unusual(features, (values[n] - middles[k]) / scale)} if odd else {}
            appearances[pictures[n]] = Appearance(distance=round(distance, 3), odd=odd, **why)
        recognized, spread = _recognition(to_own, np.delete(distances[members], k, 1), people[members])
        entries.append(
            StyleConsistency(
                recipe=recipe,
                style=style,
                pictures=len(members),
                limit=round(limit, 3),
                odd=int(is_odd.sum()),
                recognized=recognized,
                spread=spread,
            )
        )
    return appearances, entries


def _recognition(to_own: np.ndarray, to_others: np.ndarray, people: np.ndarray) -> tuple[Rate | None, float | None]:
    """`recognized` and `spread` of a style; None if there is no other style, or no other picture of this one.

    Args:
        to_own: (pictures,) distances from the center of the pictures' own style.
        to_others: (pictures, other styles) distances from the centers of the others.
        people: (pictures,) the person of each.
    """
    if to_others.shape[1] == 0 or len(to_own) < 2:
        return None, None
    without_itself = to_own * len(to_own) / (len(to_own) - 1)  # correct for the picture's own part in the center
    return rate_of(without_itself < to_others.min(1), people), round(float(to_own.mean() / to_others.mean()), 3)


def _most_unusual(features: list[str], deviations: np.ndarray) -> str:
    """The feature in which a picture deviates most from its style, in words."""
    worst = int(np.abs(deviations).argmax())
    return APPEARANCE_WORDS[features[worst]][int(deviations[worst] > 0)]


def _odd_limit(distances: np.ndarray) -> float:
    """The distance from the center of a style above which a picture is odd."""
    usual = float(np.median(distances))
    deviation = 1.4826 * float(np.median(np.abs(distances - usual)))
    return usual + ODD * max(deviation, 0.1 * usual)
