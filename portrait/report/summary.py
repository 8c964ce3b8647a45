"""Rates and means of the pictures of a run, of a style or of a group of people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from portrait.intervals import cost_interval, mean_interval, wilson_people
from portrait.records.report import (
    AcquisitionFailures,
    GroupSummary,
    Likeness,
    Mean,
    NotAcquired,
    Rate,
    Ratio,
    ReportJob,
    StyleSummary,
    Summary,
)
from portrait.report.runs import Run

MIN_GROUP_SIZE = 5
"""Groups of fewer people are merged: they are too few for a rate, and a row must not identify anybody."""

MAX_GROUPS = 12

SHARES, COSINES = (0.0, 1.0), (-1.0, 1.0)
"""Ranges of measures."""


def rate_of(passed: np.ndarray, people: np.ndarray) -> Rate:
    """The share of True, with Wilson's interval over people.

    Args:
        passed: (N,) bool, one per picture.
        people: (N,) the person of each picture.
    """
    low, high = wilson_people(passed, people)
    return Rate(
        rate=round(float(np.mean(passed)), 4) if len(passed) else None,
        interval=(round(low, 4), round(high, 4)),
        count=int(np.sum(passed)),
        of=len(passed),
    )


def mean_of(values: Sequence[float], people: Sequence[str], bounds: tuple[float, float]) -> Mean:
    """The mean of one value per picture, with an interval over people that stays within the measure's bounds."""
    low, high = mean_interval(np.array(values), np.array(people), bounds)
    return Mean(mean=round(float(np.mean(values)), 4), interval=(round(low, 4), round(high, 4)), of=len(values))


def cost_of(costs: np.ndarray, accepted: np.ndarray, people: np.ndarray) -> Ratio:
    """The cost of an accepted picture, given the cost and verdict of each picture, with an interval over people."""
    if not accepted.sum():
        return Ratio(value=None, interval=(None, None))
    low, high = (round(end, 3) if np.isfinite(end) else None for end in cost_interval(costs, accepted, people))
    return Ratio(value=round(float(costs.sum() / accepted.sum()), 3), interval=(low, high))


def summarize(run: Run, jobs: Sequence[ReportJob]) -> Summary:
    """Rates and means of some jobs of a run.

    Failed inputs are counted in `not_acquired`, other failures in `failed`; neither is part of any rate. Portraits without a
    face are rejections and part of every rate.
    """
    judged = [job for job in jobs if job.delivered]
    not_acquired = [job.subject in run.not_acquired for job in jobs if not job.delivered]
    names = [job.subject for job in judged]
    counts = Summary(
        people=len(set(names)),
        pictures=len(judged),
        not_acquired=sum(not_acquired),
        failed=len(not_acquired) - sum(not_acquired),
    )
    if not judged:
        return counts
    people = np.array(names)
    accepted = np.array([job.state == "accepted" for job in judged])
    return counts.model_copy(
        update={
            "accepted": rate_of(accepted, people),
            **_portrait_rates(judged, people),
            **_costs(judged, accepted, people),
            "likeness": {judge: _likeness(judged, judge) for judge in judged[0].thresholds},
            "style_on_face": mean_of([job.delivered.style_on_face for job in judged if job.delivered], names, SHARES),
            "reasons": _count_reasons(judged),
        }
    )


def _costs(judged: Sequence[ReportJob], accepted: np.ndarray, people: np.ndarray) -> dict[str, int | Ratio]:
    """The attempts and seconds per accepted portrait, including those for rejected ones."""
    attempts = np.array([job.attempts for job in judged])
    seconds = np.array([job.seconds for job in judged])
    return {
        "attempts": int(attempts.sum()),
        "attempts_per_accepted": cost_of(attempts, accepted, people),
        "seconds_per_accepted": cost_of(seconds, accepted, people),
    }


def _portrait_rates(judged: Sequence[ReportJob], people: np.ndarray) -> dict[str, Rate]:
    first = [job.first.accepted for job in judged if job.first]
    faceless = [not job.delivered.face_found for job in judged if job.delivered]
    return {
        "first_attempt_accepted": rate_of(np.array(first), people),
        "no_face_in_portrait": rate_of(np.array(faceless), people),
    }


def _count_reasons(judged: Sequence[ReportJob]) -> dict[str, int]:
    """Reason -> rejected portraits, the most frequent first."""
    rejected = (job for job in judged if job.state == "rejected")
    return dict(Counter(reason for job in rejected for reason in job.reasons).most_common())


def _likeness(judged: Sequence[ReportJob], judge: str) -> Likeness:
    names = [job.subject for job in judged]
    thresholds = {job.thresholds[judge] for job in judged}
    return Likeness(
        selection_free=mean_of([job.selection_free[judge] for job in judged], names, COSINES),
        first=mean_of([job.first.similarity[judge] for job in judged if job.first], names, COSINES),
        delivered=mean_of([job.delivered.similarity[judge] for job in judged if job.delivered], names, COSINES),
        threshold=thresholds.pop() if len(thresholds) == 1 else None,
    )


def summarize_styles(run: Run) -> list[StyleSummary]:
    """A summary of each recipe and style, in order of appearance."""
    summaries = []
    for recipe, style in dict.fromkeys((job.recipe, job.style) for job in run.jobs):
        summary = summarize(run, [job for job in run.jobs if (job.recipe, job.style) == (recipe, style)])
        summaries.append(StyleSummary(recipe=recipe, style=style, **summary.given()))
    return summaries


def acquisition_failures(run: Run) -> AcquisitionFailures:
    """The people whose photo could not be used, and their share."""
    failed = np.array([bool(person.failure) for person in run.people])
    rate = rate_of(failed, np.array([person.subject for person in run.people]))
    people = tuple(NotAcquired(subject=p.subject, why=p.failure) for p in run.people if p.failure)
    return AcquisitionFailures(**rate.given(), people=people)


def summarize_groups(run: Run) -> tuple[dict[str, tuple[GroupSummary, ...]], list[str]]:
    """Column of the subjects' table -> its groups; and the columns without two groups that can be shown."""
    groups: dict[str, tuple[GroupSummary, ...]] = {}
    columns_not_shown = []
    for column in dict.fromkeys(column for person in run.people for column in person.columns):
        group_of = merge_small_groups({p.subject: p.columns.get(column) or "(empty)" for p in run.people})
        sizes = Counter(group_of.values())
        if len(sizes) < 2:
            columns_not_shown.append(column)
            continue
        groups[column] = tuple(
            GroupSummary(
                group=group,
                acquired_of=sizes[group],
                **summarize(run, [job for job in run.jobs if group_of[job.subject] == group]).given(),
            )
            for group in sorted(sizes, key=lambda name: (name.startswith("("), name))
        )
    return groups, columns_not_shown


def merge_small_groups(values: Mapping[str, str]) -> dict[str, str]:
    """Person -> group, with groups of fewer than `MIN_GROUP_SIZE` people merged.

    If they are still too few together, the smallest of the others joins them, as otherwise they could be derived by
    subtraction. The smallest of more than `MAX_GROUPS` groups are merged too.
    """
    merged = _groups_to_merge(Counter(values.values()))
    if not merged:
        return dict(values)
    name = f"(others: {len(merged)} groups)" if len(merged) > 1 else f"({merged[0]})"
    return {person: name if value in merged else value for person, value in values.items()}


def _groups_to_merge(sizes: Mapping[str, int]) -> list[str]:
    by_size = sorted(sizes, key=lambda group: (sizes[group], group))
    merged = [group for group in by_size if sizes[group] < MIN_GROUP_SIZE]
    if len(sizes) - len(merged) + bool(merged) > MAX_GROUPS:
        merged = by_size[: len(sizes) - MAX_GROUPS + 1]
    for group in by_size[len(merged) :]:
        if not merged or sum(sizes[name] for name in merged) >= MIN_GROUP_SIZE:
            break
        merged.append(group)
    return merged
