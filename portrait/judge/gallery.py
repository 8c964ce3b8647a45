"""Everybody of a campaign: whether a portrait is more like another of them, and who are alike already as photos."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from portrait.judge.thresholds import photo_thresholds
from portrait.records import Embedding


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The other person that a portrait is most like. `margin` is by how much more than its own person, the least over
    the judges, in cosine units; above 0 every judge takes the portrait for the other one."""

    subject: str
    margin: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateIdentity:
    """Two names whose photos every judge takes for one person; `similarity` per judge."""

    subjects: tuple[str, str]
    similarity: dict[str, float]


class Gallery:
    """People by name, each with the embedding of their photos per judge.

    Nothing depends on the order in which people or portraits come: names are sorted, sums are in float64 and margins
    rounded to four places.
    """

    def __init__(self, people: Mapping[str, Mapping[str, Embedding]]) -> None:
        self._people = {name: people[name] for name in sorted(people) if people[name]}
        self._sides: dict[tuple[str, ...], tuple[list[str], dict[str, np.ndarray], np.ndarray]] = {}

    def _side(self, judges: tuple[str, ...]) -> tuple[list[str], dict[str, np.ndarray], np.ndarray]:
        """Names of those whom all these judges know, their embeddings per judge, and (N, N) who are alike."""
        if judges not in self._sides:
            names = [name for name, known in self._people.items() if known.keys() >= set(judges)]
            table = {judge: np.array([self._people[name][judge] for name in names], np.float64) for judge in judges}
            limits = {judge: entry["threshold"] for judge, entry in photo_thresholds()["recognisers"].items()}
            asked = [judge for judge in judges if judge in limits] if names else []
            alike = np.full((len(names), len(names)), bool(asked))
            for judge in asked:
                for row in range(0, len(names), 1000):  # thousands of people squared are no longer small in float64
                    alike[row : row + 1000] &= table[judge][row : row + 1000] @ table[judge].T >= limits[judge]
            self._sides[judges] = names, table, alike
        return self._sides[judges]

    def duplicate_identities(self) -> list[DuplicateIdentity]:
        """Pairs of people whom every judge takes for one, by `photo_thresholds`: one person under two names, or twins."""
        found = []
        for judges in sorted({tuple(sorted(known)) for known in self._people.values()}):
            names, table, alike = self._side(judges)
            for a, b in zip(*np.nonzero(np.triu(alike, 1)), strict=True):
                if self._people[names[a]].keys() & self._people[names[b]].keys() == set(judges):  # all that both have
                    scores = {judge: round(float(table[judge][a] @ table[judge][b]), 4) for judge in judges}
                    found.append(DuplicateIdentity(subjects=(names[a], names[b]), similarity=scores))
        return found

    def nearest(self, portraits: Sequence[tuple[str, Mapping[str, Embedding]]]) -> list[Nearest | None]:
        """For each (own person, embeddings of the portrait) who else is nearest; None where nobody can be asked.

        People who are alike as photos are not asked about each other: no judge could tell whose portrait it is.
        """
        found: list[Nearest | None] = [None] * len(portraits)
        groups: dict[tuple[str, ...], list[int]] = {}
        for n, (_, embeddings) in enumerate(portraits):
            groups.setdefault(tuple(sorted(embeddings)), []).append(n)
        for judges, all_members in groups.items():
            names, table, alike = self._side(judges)
            place = {name: row for row, name in enumerate(names)}
            members = [n for n in all_members if portraits[n][0] in place]
            if not judges or not members or len(names) < 2:
                continue
            own, columns = np.array([place[portraits[n][0]] for n in members]), np.arange(len(members))
            margins = np.full((len(names), len(members)), np.inf)
            for judge in judges:
                scores = table[judge] @ np.array([portraits[n][1][judge] for n in members], np.float64).T
                margins = np.minimum(margins, scores - scores[own, columns])
            margins[alike[:, own]] = -np.inf
            margins[own, columns] = -np.inf
            margins = margins.round(4)
            for n, row, margin in zip(members, margins.argmax(0), margins.max(0), strict=True):
                if np.isfinite(margin):
                    found[n] = Nearest(subject=names[row], margin=float(margin))
        return found


def genuine_impostor_gap(
    people: Mapping[str, Mapping[str, Embedding]], portraits: Iterable[tuple[str, Mapping[str, Embedding]]]
) -> dict[str, float]:
    """Judge -> genuine mean minus impostor mean: the way from the person to a stranger, in cosine units.

    Args:
        people: By name, the embedding of their photos per judge.
        portraits: (own person, embeddings of the portrait) each; those without embeddings, or of a person without, are
            left out.

    Returns:
        The judges that know every other portrait and its person; empty with fewer than two people.
    """
    own: dict[str, float] = {}
    total: dict[str, float] = {}
    sums = {
        judge: np.sum([known[judge] for known in people.values() if judge in known], 0, np.float64)
        for judge in {judge for known in people.values() for judge in known}
    }
    count, judges = 0, set(sums)
    for name, seen in portraits:
        if not seen or not people.get(name):
            continue
        count += 1
        judges &= seen.keys() & people[name].keys()
        for judge in judges:
            own[judge] = own.get(judge, 0.0) + float(people[name][judge] @ seen[judge].astype(np.float64))
            total[judge] = total.get(judge, 0.0) + float(sums[judge] @ seen[judge])
    sizes = {judge: sum(judge in known for known in people.values()) for judge in judges}
    return {
        judge: round(own[judge] / count - (total[judge] - own[judge]) / (count * (sizes[judge] - 1)), 5)
        for judge in sorted(judges)
        if count and sizes[judge] > 1
    }
