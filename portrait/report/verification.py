"""Compare portraits with the photos of everybody in a run, and with each other."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from portrait.errors import TooFewPairsError
from portrait.intervals import bootstrap_share_of_pairs, wilson
from portrait.judge.gallery import Gallery
from portrait.judge.thresholds import equal_error_rate, threshold_at_far
from portrait.records.report import (
    DuplicateIdentity,
    Histogram,
    NearestOther,
    PairSimilarity,
    PersonConsistency,
    PictureReference,
    SamePerson,
    VerificationEntry,
)
from portrait.report.runs import Run
from portrait.report.summary import rate_of

SAME_PERSON_FAR = 0.01
"""Two portraits count as the same person if they are more similar than all but this share of pairs of different people."""

_MAX_SAMPLE = 1500
"""The number of portraits whose pairs suffice for that limit."""


def verify(run: Run, duplicates: Sequence[DuplicateIdentity]) -> list[VerificationEntry]:
    """Per recipe, style and judge: compare portraits with the photos of their own people and of all others.

    Empty without embeddings. `duplicates`, people who look like one even in their photos, are not compared with each other.
    """
    alike = _subject_pairs(duplicates)
    comparable = _comparable(run)
    entries = []
    for recipe, style in dict.fromkeys((run.jobs[i].recipe, run.jobs[i].style) for i in comparable):
        portraits = [i for i in comparable if (run.jobs[i].recipe, run.jobs[i].style) == (recipe, style)]
        for judge in run.jobs[portraits[0]].thresholds:
            entry = _verify_style(run, judge, portraits, alike)
            if entry is not None:
                entries.append(entry)
    return entries


def _comparable(run: Run) -> list[int]:
    """The pictures of people whose photo has embeddings too."""
    return [i for i in run.with_embeddings() if run.identities.get(run.jobs[i].subject)]


def _verify_style(
    run: Run, judge: str, portraits: Sequence[int], alike: Collection[frozenset[str]]
) -> VerificationEntry | None:
    """The entry of one style; None if a judge has fewer than two people, or lacks one of the portraits."""
    people = [name for name, embeddings in run.identities.items() if judge in embeddings]
    if len(people) < 2 or not all(judge in run.embeddings[i] for i in portraits):
        return None
    references = np.stack([run.identities[name][judge] for name in people])
    scores = references @ np.stack([run.embeddings[i][judge] for i in portraits]).T
    subjects = [run.jobs[i].subject for i in portraits]
    is_genuine = np.array(people)[:, None] == np.array(subjects)
    is_impostor = ~is_genuine & ~_pairs_in(alike, people, subjects)
    genuine, impostor = scores[is_genuine], scores[is_impostor]
    if not impostor.size:
        return None
    job = run.jobs[portraits[0]]
    threshold = job.thresholds[judge]
    low, high = float(scores.min()) - 1e-3, float(scores.max()) + 1e-3
    return VerificationEntry(
        recipe=job.recipe,
        style=job.style,
        judge=judge,
        threshold=threshold,
        genuine_pairs=int(genuine.size),
        impostor_pairs=int(impostor.size),
        genuine_mean=round(float(genuine.mean()), 4),
        impostor_mean=round(float(impostor.mean()), 4),
        eer=round(equal_error_rate(genuine, impostor), 4),
        far_at_threshold=round(float((impostor >= threshold).mean()), 5),
        far_interval=far_interval(people, subjects, scores >= threshold, is_impostor),
        det=tuple(error_curve(genuine, impostor)),
        genuine=_histogram(genuine, low, high),
        impostor=_histogram(impostor, low, high),
    )


def _subject_pairs(duplicates: Sequence[DuplicateIdentity]) -> set[frozenset[str]]:
    return {frozenset(pair.subjects) for pair in duplicates}


def _pairs_in(alike: Collection[frozenset[str]], people: Sequence[str], subjects: Sequence[str]) -> np.ndarray:
    """(people, subjects): whether the two are one of these pairs."""
    return np.array([[frozenset((name, subject)) in alike for subject in subjects] for name in people])


def error_curve(genuine: np.ndarray, impostor: np.ndarray) -> list[tuple[float, float, float]]:
    """Threshold, false accept and false reject rate, from one end of the scores to the other.

    The thresholds are where one of the rates changes: at quantiles of the genuine scores, separately since these are few
    among all pairs, and just above quantiles of the impostors' scores, sampled finely at both ends: a false accept rate of 1
    in `impostor.size` is always included.
    """
    genuine, impostor = np.sort(genuine.astype(np.float64)), np.sort(impostor.astype(np.float64))
    shares, tail = np.linspace(0, 1, 80), 1 - np.geomspace(1 / impostor.size, 1, 40)
    above_impostors = np.nextafter(np.quantile(impostor, np.concatenate([shares, tail]), method="lower"), np.inf)
    at_genuine = np.quantile(genuine, shares, method="lower")
    ends = min(genuine[0], impostor[0]), np.nextafter(max(genuine[-1], impostor[-1]), np.inf)
    points = np.unique(np.concatenate([at_genuine, above_impostors, ends]))
    far = 1 - np.searchsorted(impostor, points) / impostor.size
    frr = np.searchsorted(genuine, points) / genuine.size
    return list(zip(points.round(4).tolist(), far.round(5).tolist(), frr.round(5).tolist(), strict=True))


def _histogram(values: np.ndarray, low: float, high: float) -> Histogram:
    counts = np.histogram(values, bins=60, range=(low, high))[0].tolist()
    return Histogram(start=round(low, 4), end=round(high, 4), counts=tuple(counts))


def far_interval(
    people: Sequence[str], subjects: Sequence[str], passed: NDArray[np.bool_], is_impostor: NDArray[np.bool_]
) -> tuple[float, float] | None:
    """95 % interval of the share of impostors that pass, resampling people with all their pictures.

    If none passes, it extends to Wilson's upper end for as many trials as there are people with pictures, since a bootstrap
    would be certain of 0.

    Args:
        people: The people whose photos are the rows.
        subjects: The people whose portraits are the columns.
        passed: (people, portraits) bool.
        is_impostor: (people, portraits) bool; other pairs are not counted.

    Returns:
        None with portraits of fewer than three people.
    """
    row_of = {name: row for row, name in enumerate(people)}
    if len(set(subjects)) < 3:
        return None
    portraits = np.zeros((len(subjects), len(people)))
    portraits[np.arange(len(subjects)), [row_of[name] for name in subjects]] = 1
    above = (passed & is_impostor) @ portraits
    pairs = is_impostor @ portraits
    low, high = bootstrap_share_of_pairs(above, pairs)
    if not above.any():
        high = wilson(0, len(set(subjects)))[1]
    return round(low, 5), round(high, 5)


def find_confusion(run: Run) -> tuple[dict[int, NearestOther], list[DuplicateIdentity]]:
    """Index of a job -> the other person in the run whom its portrait resembles most.

    And people who look alike even in photos.
    """
    gallery, comparable = Gallery(run.identities), _comparable(run)
    nearest = gallery.nearest([(run.jobs[i].subject, run.embeddings[i]) for i in comparable])
    others = {i: other for i, other in zip(comparable, nearest, strict=True) if other is not None}
    return others, gallery.duplicate_identities()


def check_same_person(run: Run, duplicates: Sequence[DuplicateIdentity]) -> SamePerson | None:
    """Check that each person looks like the same person in all of their portraits, across styles.

    Everybody is listed, the least similar first, with the portrait that matches the others and the photo least; None if nobody
    has two portraits with embeddings. The portraits of `duplicates` do not count as those of different people.
    """
    portraits = run.with_embeddings()
    several = _portraits_of_each(run, portraits)
    judges = list(run.jobs[portraits[0]].thresholds) if portraits else []
    if not several or not judges:
        return None
    alike = _subject_pairs(duplicates)
    limits = {judge: _different_people_limit(run, judge, portraits, alike) for judge in judges}
    people = [_person_consistency(run, name, indices, limits) for name, indices in several.items()]
    people.sort(key=lambda person: (person.same, person.likeness[judges[0]].least))
    same = np.array([person.same for person in people])
    any_limit = any(limit is not None for limit in limits.values())
    return SamePerson(
        limits=limits, same=rate_of(same, np.arange(len(same))) if any_limit else None, people=tuple(people)
    )


def _portraits_of_each(run: Run, portraits: Sequence[int]) -> dict[str, list[int]]:
    """Person -> their portraits, for everybody who has two or more."""
    by_person: dict[str, list[int]] = {}
    for i in portraits:
        by_person.setdefault(run.jobs[i].subject, []).append(i)
    return {name: indices for name, indices in by_person.items() if len(indices) > 1}


def _different_people_limit(
    run: Run, judge: str, portraits: Sequence[int], alike: Collection[frozenset[str]]
) -> float | None:
    """The similarity that `SAME_PERSON_FAR` of the pairs of different people's portraits reach; None with too few."""
    sample = list(portraits)
    if len(sample) > _MAX_SAMPLE:
        sample = np.random.default_rng(0).choice(sample, _MAX_SAMPLE, replace=False).tolist()
    subjects = [run.jobs[i].subject for i in sample]
    names = sorted(set(subjects))
    whose = np.searchsorted(names, subjects)
    vectors = np.stack([run.embeddings[i][judge] for i in sample])
    are_different = ~np.eye(len(names), dtype=bool) & ~_pairs_in(alike, names, names)
    different = np.triu(are_different[np.ix_(whose, whose)], 1)
    try:
        return round(threshold_at_far((vectors @ vectors.T)[different], SAME_PERSON_FAR), 4)
    except TooFewPairsError:
        return None


def _person_consistency(
    run: Run, name: str, indices: Sequence[int], limits: dict[str, float | None]
) -> PersonConsistency:
    """How similar one person's portraits, two or more, are."""
    likeness: dict[str, PairSimilarity] = {}
    fit = np.zeros(len(indices))  # of each portrait to all portraits, including itself, and to the photo
    same = True
    for judge, limit in limits.items():
        vectors = np.stack([run.embeddings[i][judge] for i in indices])
        scores = vectors @ vectors.T
        pairs = scores[np.triu_indices(len(indices), 1)]
        likeness[judge] = PairSimilarity(mean=round(float(pairs.mean()), 4), least=round(float(pairs.min()), 4))
        same &= limit is None or bool(pairs.min() >= limit)
        fit += scores.sum(1)
        if judge in run.identities.get(name, {}):
            fit += vectors @ run.identities[name][judge]
    worst = run.jobs[indices[int(fit.argmin())]]
    return PersonConsistency(
        subject=name,
        pictures=len(indices),
        likeness=likeness,
        same=same,
        odd_one_out=PictureReference(
            recipe=worst.recipe, style=worst.style, variant=worst.variant, output=worst.output
        ),
    )
