"""Whether a run differs from a baseline, person by person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import ceil

import numpy as np

from portrait.campaign.people import moved_photos
from portrait.intervals import Difference, simultaneous_differences
from portrait.records.report import (
    Comparison,
    ComparisonRow,
    Measure,
    Outcome,
    Power,
    PowerRow,
    ReportJob,
    Unpaired,
    Verdict,
)
from portrait.report.runs import Run
from portrait.report.words import row_sentence

TOLERANCE = 0.05
"""The smallest difference that matters: of likeness, this share of the gap between the person and strangers (genuine mean minus
impostor mean); of the accept rate, this much absolutely."""

STYLE_TOLERANCE = 0.1
"""The same for style on the face: this share of the baseline's mean."""

MIN_PEOPLE = 7
"""With fewer people in both runs there is no verdict: the intervals' coverage would be too low (eval/intervals.py)."""

_MAX_NAMED = 6
"""Maximum number of people named in a sentence."""

_UNKNOWN_GAP = 0.5
"""The assumed gap between the person and strangers if neither run knows it."""

Place = tuple[str, str, str, tuple[tuple[str, str], ...], int]
"""Subject, recipe, style, texts and variant of a job."""

Pair = tuple[ReportJob, ReportJob]
"""A job of the baseline, and its counterpart in the current run."""


def place_function(current: Sequence[ReportJob], baseline: Sequence[ReportJob]) -> Callable[[ReportJob], Place]:
    """A function of a job that is equal for corresponding jobs of two runs, provided the photo is the same.

    They have the same subject, style, texts and variant, and the same recipe if a run has more than one.
    """
    several = any(len({job.recipe for job in jobs}) > 1 for jobs in (current, baseline))

    def place(job: ReportJob) -> Place:
        return job.subject, job.recipe if several else "", job.style, tuple(sorted(job.axes.items())), job.variant

    return place


@dataclass(frozen=True, slots=True, kw_only=True)
class _Matched:
    """The matched jobs of two runs, and the people and counts of those without a match."""

    pairs: list[Pair] = field(default_factory=list)
    other_photo: set[str] = field(default_factory=set)
    no_longer_acquired: set[str] = field(default_factory=set)
    newly_acquired: set[str] = field(default_factory=set)
    failed_current: list[ReportJob] = field(default_factory=list)
    failed_baseline: list[ReportJob] = field(default_factory=list)

    @property
    def people(self) -> list[str]:
        return sorted({new.subject for _, new in self.pairs})

    @property
    def sameness(self) -> str:
        """That all pictures, or at least their scores, are the same in both runs, in words; empty if they are not."""
        if not self.pairs:
            return ""
        if all(old.pixels_sha256 and old.pixels_sha256 == new.pixels_sha256 for old, new in self.pairs):
            return f"all {len(self.pairs)} pictures are identical"
        have_same_scores = all(
            (old.delivered, old.selection_free, old.state) == (new.delivered, new.selection_free, new.state)
            for old, new in self.pairs
        )
        return f"all {len(self.pairs)} pictures have the very same scores" if have_same_scores else ""

    @property
    def judges(self) -> list[str]:
        """The judges that both runs have for every pair."""
        if not self.pairs:
            return []
        jobs = [job for pair in self.pairs for job in pair]
        return [judge for judge in self.pairs[0][1].selection_free if all(judge in job.selection_free for job in jobs)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """A measure to compare, over all styles (`style` None) or in one."""

    measure: Measure
    judge: str | None
    style: str | None
    tolerance: float
    baseline: float
    current: float

    def includes(self, job: ReportJob) -> bool:
        return self.style in (None, job.style)


def compare(current: Run, baseline: Run) -> tuple[Comparison, Verdict]:
    """Compare two runs, person by person.

    A pair has the same person (by name and photo), style, texts and variant, and the same recipe if there is more than one.
    Differences are averaged within each person, so that people count, not pictures; the intervals hold simultaneously. A row
    is drifted if its interval excludes 0 and the difference is at least the tolerance; stable if the interval lies within
    the tolerance; and inconclusive otherwise. The verdict is drifted if any row is; stable if every row of likeness and
    style is, and nothing in the baseline is missing for these people (a style, a variant, a picture that failed or is not
    made yet). The accept rate need not be stable: showing that would take hundreds of people, and it follows from the
    likeness.
    """
    matched = _match(current, baseline)
    people = matched.people
    unpaired = _unpaired(current, baseline, matched)
    if len(people) < MIN_PEOPLE:
        too_few = f"{len(people)} people are in both runs with the same photo; fewer than {MIN_PEOPLE} say nothing"
        why = "; ".join(filter(None, [matched.sameness, *_unsettled(current, baseline), too_few]))
        return _comparison(current, baseline, matched, unpaired, []), Verdict(
            verdict="inconclusive", why=why, power=None
        )
    gaps = {judge: _genuine_impostor_gap(judge, (baseline, current)) for judge in matched.judges}
    all_columns = _columns(matched.pairs, gaps)
    differences = _differences(matched.pairs, people, all_columns)
    has_enough_people = (~np.isnan(differences)).sum(0) >= 2
    columns = [all_columns[c] for c in np.flatnonzero(has_enough_people)]
    lone_styles = {str(all_columns[c].style) for c in np.flatnonzero(~has_enough_people)}
    steps = np.array([_step(matched.pairs, column) for column in columns])
    results = simultaneous_differences(differences[:, has_enough_people], steps)
    rows = [_row(column, result) for column, result in zip(columns, results.columns, strict=True)]
    decisive = [c for c, column in enumerate(columns) if column.measure != "accepted"]
    people_needed = results.people_for_stability([column.tolerance for column in columns], decisive)
    fewest = min(rows[c].people for c in decisive)  # a row needs so many people too, and more would be spread alike
    people_needed = max(people_needed, ceil(MIN_PEOPLE * len(people) / fewest))
    missing_evidence = [
        *_unsettled(current, baseline),
        *_not_compared(unpaired),
        *(
            f"only one person is in both runs in {style}; it needs {MIN_PEOPLE} or more"
            for style in sorted(lone_styles)
        ),
        *_without_tolerance(gaps),
    ]
    verdict = _verdict(rows, len(people), max(people_needed, len(people) + 1), missing_evidence)
    if matched.sameness:
        why = matched.sameness if verdict.verdict == "stable" else f"{matched.sameness}; {verdict.why}"
        verdict = verdict.model_copy(update={"why": why})
    return _comparison(current, baseline, matched, unpaired, rows), verdict


def _genuine_impostor_gap(judge: str, runs: Sequence[Run]) -> float | None:
    """The gap between the person and strangers by a judge, from the first run that knows it."""
    gaps = (run.genuine_impostor_gap.get(judge, 0.0) for run in runs)
    return next((gap for gap in gaps if gap > 0), None)


def _without_tolerance(gaps: Mapping[str, float | None]) -> list[str]:
    """The judges without a known tolerance, in words."""
    return [
        f"how far a stranger is from the person by {judge} is not known for either run, since its embeddings were pruned, "
        "so there is no tolerance for it"
        for judge, gap in gaps.items()
        if gap is None
    ]


def _match(current: Run, baseline: Run) -> _Matched:
    place = place_function(current.jobs, baseline.jobs)
    baseline_jobs = {place(job): job for job in baseline.jobs}
    matched = _Matched()
    for new in current.jobs:
        old = baseline_jobs.get(place(new))
        if old is None:
            continue
        if old.photo != new.photo:
            matched.other_photo.add(new.subject)
        elif old.delivered and new.delivered:
            matched.pairs.append((old, new))
        elif old.delivered and new.subject in current.not_acquired:
            matched.no_longer_acquired.add(new.subject)
        elif old.delivered:
            matched.failed_current.append(new)
        elif new.delivered and old.subject in baseline.not_acquired:
            matched.newly_acquired.add(old.subject)
        elif new.delivered:
            matched.failed_baseline.append(old)
    return matched


def _unpaired(current: Run, baseline: Run, matched: _Matched) -> Unpaired:
    place = place_function(current.jobs, baseline.jobs)
    current_places = {place(job) for job in current.jobs}
    people = set(matched.people)
    missing = [
        job for job in baseline.jobs if job.delivered and job.subject in people and place(job) not in current_places
    ]
    current_photos = {job.subject: job.photo for job in current.jobs}
    baseline_photos = {job.subject: job.photo for job in baseline.jobs}
    return Unpaired(
        **_moved_photos(current_photos, baseline_photos),
        only_current=len(current_photos.keys() - baseline_photos.keys()),
        only_baseline=len(baseline_photos.keys() - current_photos.keys()),
        other_photo=tuple(sorted(matched.other_photo)),
        no_longer_acquired=tuple(sorted(matched.no_longer_acquired)),
        newly_acquired=tuple(sorted(matched.newly_acquired)),
        pictures_only_baseline=len(missing),
        styles_only_baseline=tuple(sorted({job.style for job in missing} - {new.style for _, new in matched.pairs})),
        failed_current=len(matched.failed_current),
        failed_baseline=len(matched.failed_baseline),
        pending_current=current.pending,
        pending_baseline=baseline.pending,
    )


def _moved_photos(current: Mapping[str, str], baseline: Mapping[str, str]) -> dict[str, tuple[tuple[str, str], ...]]:
    """The fields `exchanged` and `renamed`, if photos moved between people (name -> photo)."""
    moved = moved_photos(baseline, current)
    exchanged = tuple(pair for pair in moved if pair[0] in baseline or pair[1] in current)
    renamed = tuple(pair for pair in moved if pair not in exchanged)
    return {name: pairs for name, pairs in (("exchanged", exchanged), ("renamed", renamed)) if pairs}


def _comparison(
    current: Run, baseline: Run, matched: _Matched, unpaired: Unpaired, rows: Sequence[ComparisonRow]
) -> Comparison:
    return Comparison(
        baseline=baseline.name,
        people=len(matched.people),
        pairs=len(matched.pairs),
        not_paired=unpaired,
        tolerance=TOLERANCE,
        rows=tuple(rows),
        differing_conditions=tuple(_differing_conditions(current, baseline)),
    )


def _differing_conditions(current: Run, baseline: Run) -> list[str]:
    """The conditions that both runs state and that differ; and, of the same recipes, weights that only one of them has."""
    now, before = current.conditions, baseline.conditions
    names = [name for name in now if name in before]
    if now and before and _recipes(current) == _recipes(baseline):
        names += [name for name in sorted(now.keys() ^ before.keys()) if name.startswith("weights ")]
    pairs = ((name, now.get(name, "none"), before.get(name, "none")) for name in names)
    return [f"{name}: {value}, before {old}" for name, value, old in pairs if value != old]


def _recipes(run: Run) -> set[str]:
    return {job.recipe for job in run.jobs}


def _unsettled(current: Run, baseline: Run) -> list[str]:
    """The runs whose pictures were not judged against everybody yet, in words."""
    sides = (("this run", current), ("the baseline", baseline))
    return [f"pictures of {name} were not judged against everybody of it yet" for name, run in sides if not run.settled]


def _not_compared(unpaired: Unpaired) -> list[str]:
    """The reasons why two runs cannot be called stable, whatever their pairs show.

    People in only one run are no such reason: people are a sample, styles are not.
    """
    counts = (
        (unpaired.pending_current, "pictures of this run are not made yet"),
        (unpaired.failed_current, "pictures of this run failed"),
        (unpaired.pending_baseline, "pictures of the baseline are not made yet"),
        (unpaired.failed_baseline, "pictures of the baseline failed"),
        (len(unpaired.no_longer_acquired), "people of the baseline could not be acquired any more"),
    )
    sentences = [f"{count} {what}" for count, what in counts if count]
    if unpaired.exchanged:
        people = ", ".join(f"{name} has the photo of {old}" for name, old in unpaired.exchanged[:_MAX_NAMED])
        sentences.append(f"photos were exchanged between people: {people}")
    if unpaired.pictures_only_baseline and not unpaired.pending_current:
        styles = ", ".join(unpaired.styles_only_baseline)
        where = f", all of {styles} among them" if styles else ""
        sentences.append(f"{unpaired.pictures_only_baseline} pictures of the baseline are not in this run{where}")
    return sentences


def _columns(pairs: Sequence[Pair], gaps: Mapping[str, float | None]) -> list[_Column]:
    """Likeness by each judge, style on the face and acceptance; over all styles, and per style if there are several.

    `gaps` are those between the person and strangers by judge; None if unknown.
    """
    styles = list(dict.fromkeys(new.style for _, new in pairs))
    measures: list[tuple[Measure, str | None]] = [("likeness", judge) for judge in gaps]
    measures += [("style_on_face", None), ("accepted", None)]
    columns = []
    for style in (None, *(styles if len(styles) > 1 else ())):
        chosen = [pair for pair in pairs if style in (None, pair[1].style)]
        for measure, judge in measures:
            before = float(np.mean([_value(old, measure, judge) for old, _ in chosen]))
            after = float(np.mean([_value(new, measure, judge) for _, new in chosen]))
            gap = gaps[judge] if judge else None
            columns.append(
                _Column(
                    measure=measure,
                    judge=judge,
                    style=style,
                    tolerance=round(max(_tolerance(measure, gap, before), 1e-5), 5),
                    baseline=round(before, 4),
                    current=round(after, 4),
                )
            )
    return columns


def _tolerance(measure: Measure, gap: float | None, before: float) -> float:
    """The smallest difference that matters, given the gap between the person and strangers and the baseline's mean."""
    if measure == "likeness":
        return TOLERANCE * (gap or _UNKNOWN_GAP)
    return STYLE_TOLERANCE * before if measure == "style_on_face" else TOLERANCE


def _value(job: ReportJob, measure: Measure, judge: str | None) -> float:
    if measure == "accepted":
        return float(job.state == "accepted")
    if judge:
        return job.selection_free[judge]
    return job.delivered.style_on_face if job.delivered else np.nan


def _differences(pairs: Iterable[Pair], people: Sequence[str], columns: Sequence[_Column]) -> np.ndarray:
    """(people, columns): each person's mean difference, current minus baseline; NaN where they have no pair."""
    row_of = {name: row for row, name in enumerate(people)}
    sums = np.zeros((len(people), len(columns)))
    counts = np.zeros((len(people), len(columns)))
    for old, new in pairs:
        row = row_of[new.subject]
        for c, column in enumerate(columns):
            if column.includes(new):
                sums[row, c] += _value(new, column.measure, column.judge) - _value(old, column.measure, column.judge)
                counts[row, c] += 1
    with np.errstate(invalid="ignore"):
        return np.where(counts > 0, sums / counts, np.nan)


def _step(pairs: Sequence[Pair], column: _Column) -> float:
    """The smallest possible change of a person's share of accepted pictures; 0 for other measures."""
    if column.measure != "accepted":
        return 0.0
    return 1 / float(np.median(list(Counter(new.subject for _, new in pairs if column.includes(new)).values())))


def _row(column: _Column, result: Difference) -> ComparisonRow:
    difference = round(result.mean, 5)
    interval = (round(result.low, 5), round(result.high, 5))
    return ComparisonRow(
        **asdict(column),
        difference=difference,
        interval=interval,
        people=result.people,
        detectable=round(detectable_drift(result, column.tolerance), 5),
        verdict=row_verdict(difference, interval, column.tolerance, result.people),
    )


def detectable_drift(result: Difference, tolerance: float) -> float:
    """The true difference that is called drifted with a probability of 80 %, given its interval and the tolerance."""
    half = (result.high - result.low) / 2
    return max(half, tolerance) + result.detectable - half


def row_verdict(difference: float, interval: tuple[float, float], tolerance: float, people: int) -> Outcome:
    """The verdict on a difference, by its interval and the tolerance."""
    low, high = interval
    if people < MIN_PEOPLE:
        return "inconclusive"
    if (low > 0 or high < 0) and abs(difference) >= tolerance:
        return "drifted"
    return "stable" if -tolerance < low and high < tolerance else "inconclusive"


def _verdict(
    rows: Sequence[ComparisonRow], people: int, people_needed: int, missing_evidence: Sequence[str]
) -> Verdict:
    decisive = [row for row in rows if row.measure != "accepted"]
    drifted = [row for row in rows if row.verdict == "drifted"]
    unclear = [row for row in decisive if row.verdict == "inconclusive"]
    outcome: Outcome = "inconclusive"
    if drifted:
        outcome = "drifted"
        worst = max(drifted, key=lambda row: abs(row.difference) / row.tolerance)
        why = f"{len(drifted)} of {len(rows)} measures moved; most of all {row_sentence(worst)}"
    elif missing_evidence:
        why = "; ".join(missing_evidence)
    elif unclear:
        worst = max(unclear, key=lambda row: row.detectable / row.tolerance)
        why = (
            f"nothing was shown to move, but {len(unclear)} of {len(decisive)} measures are not known well enough to call "
            f"them stable; least of all {row_sentence(worst)}. If truly nothing moved, about {people_needed} people would show it with a "
            f"probability of 80 %{_of_whom(decisive, people, people_needed)}"
        )
    else:
        outcome = "stable"
        why = _why_stable(next(row for row in decisive if row.style is None))
    power = Power(people=people, rows=tuple(PowerRow.model_validate(row, from_attributes=True) for row in rows))
    return Verdict(verdict=outcome, why=why, power=power)


def _of_whom(rows: Sequence[ComparisonRow], people: int, people_needed: int) -> str:
    """How many of the people needed have to be in each style that only some of the people are in now."""
    some = {row.style: row.people for row in rows if row.style and row.people < people}
    shares = [f"{ceil(people_needed * count / people)} in {style} (now {count})" for style, count in some.items()]
    return f", of whom {', '.join(shares)}" if shares else ""


def _why_stable(pooled: ComparisonRow) -> str:
    why = "no measure moved by as much as its tolerance"
    if not pooled.judge:
        return why
    return (
        f"{why}; a move of {pooled.detectable:.3f} in likeness by {pooled.judge} would have been seen with a "
        "probability of 80 %"
    )
