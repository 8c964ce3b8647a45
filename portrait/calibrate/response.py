"""Measure the effects of the knobs: a recipe's response curves, per style, on people that it was not trained on.

Per person and style: the recipe's path of `[[balance]]` points at five positions; from the middle one, each knob
moved alone over the policy's range; and the middle again with two more seeds. These give the means, the variation between
people and between seeds, and how the effects of the knobs vary by person.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from portrait.calibrate.sample import Person, read_people
from portrait.errors import SettingsError, TooFewPairsError
from portrait.judge.verification import similarities
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.record import library_versions
from portrait.loop.response import STYLE, Curves, as_table, effective, knob_range
from portrait.loop.scoring import face_style
from portrait.recipes.recipe import Recipe
from portrait.records import Knobs
from portrait.records.curves import CurvesFile

MIN_PEOPLE = 4
"""With fewer people, their variation cannot be estimated."""
POSITIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
SEEDS = (1, 2, 3)
_SHRINK = 0.3
"""By this share correlations are shrunk: a handful of people estimate them poorly."""
_SWEEPS = {
    "controlnet_conditioning_scale": (0.5, 0.6, 0.7, 0.85, 1.0),
    "strength": (0.3, 0.6, 0.8, 1.0),
    "guidance_scale": (1.0, 2.5, 4.0),
    "ip_adapter_scale": (0.0, 1.4),
}

Sweep = list[tuple[float, Knobs]]
"""A knob's effective values, and the knobs that have them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Design:
    """The knobs at which people are drawn: the middle `base`, `along` the dial, and with each knob moved alone."""

    base: Knobs
    along: tuple[Knobs, ...]
    sweeps: dict[str, Sweep]

    @classmethod
    def of(cls, recipe: Recipe) -> _Design:
        base = recipe.with_enough_steps(recipe.knobs_at(0.5))
        return cls(
            base=base,
            along=tuple(recipe.with_enough_steps(recipe.knobs_at(at)) for at in POSITIONS),
            sweeps={
                knob: _sweep(recipe, base, knob, values) for knob, values in _SWEEPS.items() if knob not in recipe.lacks
            },
        )

    def pictures(self) -> list[tuple[Knobs, int]]:
        """Knobs and seed of every picture of one person, each once."""
        pictures = [(knobs, SEEDS[0]) for knobs in self.along]
        pictures += [(self.base, seed) for seed in SEEDS]
        pictures += [(knobs, SEEDS[0]) for sweep in self.sweeps.values() for _, knobs in sweep]
        return list(dict.fromkeys(pictures))


def measure_curves(
    loop: AttemptLoop,
    photos: Sequence[Path],
    *,
    styles: Sequence[str],
    on_picture: Callable[[str, int, int], None] | None = None,
) -> CurvesFile:
    """Make the pictures and derive the curves, as `loop.response.curves_for` reads them.

    Args:
        loop: The recipe with its judges.
        photos: One photo for each of at least `MIN_PEOPLE` people that the recipe was not trained on.
        styles: Styles of the recipe.
        on_picture: Called with (style, number from 1, total number of pictures).

    Raises:
        TooFewPairsError: there are fewer people or faces than that.
    """
    if len(photos) < MIN_PEOPLE:
        raise TooFewPairsError(f"{len(photos)} people are too few for curves; give {MIN_PEOPLE} or more")
    people, unused = read_people(loop, photos)
    if len(people) < MIN_PEOPLE:
        raise TooFewPairsError(f"{len(people)} of {len(photos)} photos can be used; {MIN_PEOPLE} or more are needed")
    design = _Design.of(loop.recipe)
    total = len(design.pictures()) * len(people) * len(styles)
    number = 0
    table = {}
    for style in styles:
        rows: dict[tuple[Knobs, int], list[dict[str, float]]] = {}
        for person in people:
            for knobs, seed in design.pictures():
                rows.setdefault((knobs, seed), []).append(_outputs(loop, person, style, knobs, seed))
                number += 1
                if on_picture is not None:
                    on_picture(style, number, total)
        table[style] = as_table(_curves(design, rows))
    return CurvesFile(
        recipe=loop.recipe.name,
        base=design.base,
        styles=table,
        seeds=SEEDS,
        failure_to_acquire=tuple(path.name for path in unused),
        people={person.name: person.sha256 for person in people},
        weights=dict(loop.generator.digests),
        form=loop.judges.form,
        versions=library_versions(),
    )


def _outputs(loop: AttemptLoop, person: Person, style: str, knobs: Knobs, seed: int) -> dict[str, float]:
    """Likeness by each judge, then `style_on_face`, of one picture."""
    picture = loop.draw(person.framed, person.identity, style, knobs, seed)
    _, embeddings = loop.judges.detect_and_embed(picture, person.framed.face)
    return similarities(person.identity, embeddings) | {STYLE: face_style(person.framed, picture)}


def _sweep(recipe: Recipe, base: Knobs, knob: str, values: Sequence[float]) -> Sweep:
    """The points of one knob's curve at which the recipe has a step to run; the base is always included."""
    low, high = knob_range(knob, recipe.family_facts.least_strength)
    points = sorted({value for value in values if low <= value <= high} | {float(getattr(base, knob))})
    sweep: dict[float, Knobs] = {}
    for value in points:
        knobs = recipe.with_enough_steps(replace(base, **{knob: value}))  # type: ignore[arg-type]
        if knobs.steps >= 1:
            sweep[effective(knobs, knob, exact_strength=recipe.family_facts.exact_strength)] = knobs
    return list(sweep.items())


def _curves(design: _Design, rows: Mapping[tuple[Knobs, int], Sequence[Mapping[str, float]]]) -> Curves:
    """Derive the curves from the measurements; `rows` maps knobs and seed to each person's outputs."""
    outputs = tuple(next(iter(rows.values()))[0])
    measured = {key: np.array([list(row.values()) for row in people]) for key, people in rows.items()}
    seed = SEEDS[0]
    at_base = measured[design.base, seed]
    repeats = np.stack([measured[design.base, other] for other in SEEDS])  # (seeds, people, outputs)
    means = repeats.mean(0)  # of each person
    deviations = (repeats - means).reshape(-1, len(outputs))
    residual = deviations.T @ deviations / (len(SEEDS) - 1) / len(means)
    between_people = np.cov(means.T) - residual / len(SEEDS)
    effects: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    spreads: list[float] = []
    for knob, sweep in design.sweeps.items():
        changes = np.stack([measured[knobs, seed] - at_base for _, knobs in sweep])  # (n, people, outputs): paired
        effects[knob] = np.array([value for value, _ in sweep]), changes.mean(1)
        spreads += _slope_spreads(changes, 2 * np.diag(residual))
    return Curves(
        outputs=outputs,
        base=design.base,
        level=means.mean(0),
        effects=effects,
        people=_regularize_covariance(between_people, residual),
        residual=_regularize_covariance(residual, residual),
        slope_spread=float(np.clip(np.median(spreads) if spreads else 0.5, 0.1, 1.0)),
        dial=(np.array(POSITIONS), np.stack([measured[knobs, seed].mean(0) for knobs in design.along])),
        dial_outputs=outputs,
        measured=True,
    )


def _slope_spreads(changes: np.ndarray, noise: np.ndarray) -> list[float]:
    """How much the knobs' effects vary by person, relative to the mean effect, for knobs that have an effect.

    Args:
        changes: (n, people, outputs) from the base.
        noise: (outputs,) variance of a difference of two pictures of one person.
    """
    mean = changes.mean(1)
    has_effect = np.abs(mean) > 2 * np.sqrt(noise)
    deviation = np.sqrt(np.maximum(changes.var(1, ddof=1) - noise, 0))
    return list(deviation[has_effect] / np.abs(mean)[has_effect])


def _regularize_covariance(covariance: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Shrink correlations, and limit variances to at least a tenth of the seeds', so that it is a valid covariance."""
    variances = np.maximum(np.diag(covariance), 0.1 * np.diag(residual) + 1e-8)
    scale = np.outer(np.sqrt(variances), np.sqrt(variances))
    correlation = np.clip(covariance / scale, -1, 1) * (1 - _SHRINK)
    np.fill_diagonal(correlation, 1.0)
    values, vectors = np.linalg.eigh(correlation)
    positive: np.ndarray = vectors @ np.diag(np.maximum(values, 0.01)) @ vectors.T
    return np.asarray(positive * scale)


def check_curves(table: CurvesFile, loop: AttemptLoop) -> None:
    """Check that further styles may be added to a file of curves.

    Raises:
        SettingsError: the file is for another recipe, other weights or other knobs.
    """
    recipe = loop.recipe
    base = recipe.with_enough_steps(recipe.knobs_at(0.5))
    if (table.recipe, table.weights, table.base) != (recipe.name, loop.generator.digests, base):
        raise SettingsError(
            "the file holds curves of another recipe, other weights or other knobs; delete it or name another file"
        )


def merge_curves(old: CurvesFile | None, new: CurvesFile) -> CurvesFile:
    """Combine `new` with the styles of `old` that were not measured again."""
    return new if old is None else new.model_copy(update={"styles": old.styles | new.styles})
