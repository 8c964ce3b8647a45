"""The people of a campaign: which portraits look more like somebody else, and which people look alike in their photos."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from portrait.judge.thresholds import photo_thresholds
from portrait.records import Embedding
from portrait.records.report import DuplicateIdentity, NearestOther

_ROWS = 1000  # people compared with all others at a time: thousands squared take much memory in float64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Panel:
    """The people for whom the same judges have embeddings.

    `embeddings` is (N, D) float64 per judge, in the order of `names`; `alike` is (N, N), True where every judge takes two
    people's photos for the same person.
    """

    names: list[str]
    embeddings: dict[str, NDArray[np.float64]]
    alike: NDArray[np.bool_]


class Gallery:
    """People by name, each with one embedding of their photos per judge.

    Results do not depend on the order of people or portraits: names are sorted, sums are in float64 and margins are rounded
    to four places.
    """

    def __init__(self, people: Mapping[str, Mapping[str, Embedding]]) -> None:
        self._people = {name: people[name] for name in sorted(people) if people[name]}
        self._panels: dict[tuple[str, ...], _Panel] = {}

    def _panel(self, judges: tuple[str, ...]) -> _Panel:
        if judges not in self._panels:
            names = [name for name, embeddings in self._people.items() if embeddings.keys() >= set(judges)]
            embeddings = {
                judge: np.array([self._people[name][judge] for name in names], np.float64) for judge in judges
            }
            self._panels[judges] = _Panel(names=names, embeddings=embeddings, alike=_alike(embeddings, len(names)))
        return self._panels[judges]

    def duplicate_identities(self) -> list[DuplicateIdentity]:
        """Pairs of people whom every judge takes for the same person: one person under two names, or twins."""
        duplicates = []
        for judges in sorted({tuple(sorted(embeddings)) for embeddings in self._people.values()}):
            panel = self._panel(judges)
            for a, b in zip(*np.nonzero(np.triu(panel.alike, 1)), strict=True):
                first = panel.names[a]
                second = panel.names[b]
                shared = self._people[first].keys() & self._people[second].keys()
                if shared != set(judges):  # they have different judges: those that both have decide
                    continue
                scores = {
                    judge: round(float(panel.embeddings[judge][a] @ panel.embeddings[judge][b]), 4) for judge in judges
                }
                duplicates.append(DuplicateIdentity(subjects=(first, second), similarity=scores))
        return duplicates

    def nearest(self, portraits: Sequence[tuple[str, Mapping[str, Embedding]]]) -> list[NearestOther | None]:
        """For each (own person, embeddings of the portrait), the nearest other person; None if nobody can be compared.

        People whose photos look alike are not compared with each other: no judge could tell whose portrait it is.
        """
        results: list[NearestOther | None] = [None] * len(portraits)
        by_judges: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        for index, (_, embeddings) in enumerate(portraits):
            by_judges[tuple(sorted(embeddings))].append(index)
        for judges, indices in by_judges.items():
            panel = self._panel(judges)
            people = set(panel.names)
            members = [index for index in indices if portraits[index][0] in people]
            if not judges or not members or len(panel.names) < 2:
                continue
            for index, nearest in zip(members, _nearest_in(panel, [portraits[i] for i in members]), strict=True):
                results[index] = nearest
        return results


def _alike(embeddings: Mapping[str, NDArray[np.float64]], count: int) -> NDArray[np.bool_]:
    """(N, N): pairs that are the same person to every judge with a photo-to-photo threshold; none if no judge has one."""
    limits = photo_thresholds().limits
    judges = [judge for judge in embeddings if judge in limits] if count else []
    alike = np.full((count, count), bool(judges))
    for judge in judges:
        vectors = embeddings[judge]
        for row in range(0, count, _ROWS):
            rows = slice(row, row + _ROWS)
            alike[rows] &= vectors[rows] @ vectors.T >= limits[judge]
    return alike


def _nearest_in(panel: _Panel, portraits: Sequence[tuple[str, Mapping[str, Embedding]]]) -> list[NearestOther | None]:
    """The nearest other person of each portrait; all portraits are of people of the panel."""
    rows = {name: row for row, name in enumerate(panel.names)}
    person = np.array([rows[name] for name, _ in portraits])
    columns = np.arange(len(portraits))
    margins = np.full((len(panel.names), len(portraits)), np.inf)  # how far each person is above the portrait's own
    for judge, vectors in panel.embeddings.items():
        scores = vectors @ np.array([embeddings[judge] for _, embeddings in portraits], np.float64).T
        margins = np.minimum(margins, scores - scores[person, columns])
    margins[panel.alike[:, person]] = -np.inf
    margins[person, columns] = -np.inf
    margins = margins.round(4)
    best = margins.argmax(0)
    return [
        NearestOther(subject=panel.names[row], margin=float(margin)) if np.isfinite(margin) else None
        for row, margin in zip(best, margins.max(0), strict=True)
    ]


def genuine_impostor_gap(
    people: Mapping[str, Mapping[str, Embedding]], portraits: Iterable[tuple[str, Mapping[str, Embedding]]]
) -> dict[str, float]:
    """Judge -> genuine mean minus impostor mean: the gap between the person and strangers, in cosine units.

    Args:
        people: By name, the embedding of their photos per judge.
        portraits: (own person, embeddings of the portrait) each; portraits without embeddings, or of people without
            any, are left out.

    Returns:
        Only judges with embeddings of all other portraits and their people; empty with fewer than two people.
    """
    sums, sizes = _sums_of_people(people)
    judges = set(sums)
    genuine: defaultdict[str, float] = defaultdict(float)
    everybody: defaultdict[str, float] = defaultdict(float)  # including the genuine person
    count = 0
    for name, embeddings in portraits:
        if not embeddings or not people.get(name):
            continue
        count += 1
        judges &= embeddings.keys() & people[name].keys()
        for judge in judges:
            genuine[judge] += float(people[name][judge] @ embeddings[judge].astype(np.float64))
            everybody[judge] += float(sums[judge] @ embeddings[judge])
    gaps = {}
    for judge in sorted(judges):
        if count and sizes[judge] > 1:
            impostors = (everybody[judge] - genuine[judge]) / (count * (sizes[judge] - 1))
            gaps[judge] = round(genuine[judge] / count - impostors, 5)
    return gaps


def _sums_of_people(
    people: Mapping[str, Mapping[str, Embedding]],
) -> tuple[dict[str, NDArray[np.float64]], dict[str, int]]:
    """Per judge the number of people and the sum of their embeddings, which scores a portrait against all of them at once."""
    vectors: defaultdict[str, list[Embedding]] = defaultdict(list)
    for embeddings in people.values():
        for judge, embedding in embeddings.items():
            vectors[judge].append(embedding)
    sums = {judge: np.sum(np.array(rows, np.float64), 0) for judge, rows in vectors.items()}
    return sums, {judge: len(rows) for judge, rows in vectors.items()}
