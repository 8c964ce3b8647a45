"""Measure what the knobs do: the curves of a recipe, per style, on people that it was not trained on.

Per person and style: the recipe's path of `[[balance]]` points at five positions; from the middle one, each knob
moved alone over the policy's range; and the middle again with two more seeds. From these come the means, how
people differ, how seeds differ, and how differently the knobs work on different people.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from portrait.errors import FaceError, SettingsError, TooFewPairsError
from portrait.generate.framing import Framed, frame_portrait
from portrait.images import read_photo
from portrait.judge.verification import similarities
from portrait.loop.record import library_versions
from portrait.loop.response import RANGE, STYLE, Curves, as_table, base_table, effective
from portrait.loop.scoring import face_style
from portrait.loop.stylizer import AttemptLoop
from portrait.records import Identity, Knobs

LEAST_PEOPLE = 4
"""Fewer people say nothing of how people differ."""
POSITIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
SEEDS = (1, 2, 3)
_SHRINK = 0.3  # of the correlations: a handful of people shows them badly
_SWEEPS = {
    "controlnet_conditioning_scale": (0.55, 0.6, 0.7, 0.85, 1.0),
    "strength": (0.3, 0.6, 0.8, 1.0),
    "guidance_scale": (1.0, 2.5, 4.0),
    "ip_adapter_scale": (0.0, 1.4),
}


def measure_curves(
    stylizer: AttemptLoop,
    photos: Sequence[Path],
    *,
    styles: Sequence[str],
    on_picture: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Make the pictures and read the curves off them.

    Args:
        stylizer: The recipe with its judges.
        photos: One photo for each of at least `LEAST_PEOPLE` people that the recipe was not trained on.
        styles: Styles of the recipe.
        on_picture: Called with (style, number from 1, number of all pictures).

    Returns:
        The table that `curves.curves_for` reads, with the people and what is needed to repeat it.

    Raises:
        TooFewPairsError: fewer people, or faces, than that.
        ImageReadError: a photo cannot be read.
    """
    if len(photos) < LEAST_PEOPLE:
        raise TooFewPairsError(f"{len(photos)} people are too few for curves; give {LEAST_PEOPLE} or more")
    recipe = stylizer.recipe
    people: list[tuple[Identity, Framed]] = []
    used, unseen = {}, []
    for path in photos:
        photo = read_photo(path)
        try:
            (subject,) = stylizer.subjects(photo, "largest")
        except FaceError:
            unseen.append(path.name)
            continue
        people.append((subject.identity, frame_portrait(photo.pixels, subject.face, "bust", recipe.resolution)))
        used[f"{path.parent.name}/{path.name}"] = photo.sha256
    if len(people) < LEAST_PEOPLE:
        raise TooFewPairsError(f"{len(people)} of {len(photos)} photos show a face; {LEAST_PEOPLE} or more are needed")
    base = recipe.with_enough_steps(recipe.knobs_at(0.5))
    along = [recipe.with_enough_steps(recipe.knobs_at(at)) for at in POSITIONS]
    sweeps = {knob: _sweep(stylizer, base, knob, values) for knob, values in _SWEEPS.items()}
    wanted = dict.fromkeys([*((k, SEEDS[0]) for k in along), *((base, s) for s in SEEDS)])
    wanted |= dict.fromkeys((k, SEEDS[0]) for points in sweeps.values() for _, k in points)
    total, made, table = len(wanted) * len(people) * len(styles), 0, {}
    for style in styles:
        outputs: tuple[str, ...] = ()
        seen: dict[tuple[Knobs, int], list[list[float]]] = {key: [] for key in wanted}
        for identity, framed in people:
            for knobs, seed in wanted:
                picture = stylizer.draw(framed, identity, style, knobs, seed)
                values = similarities(identity, stylizer.judges.detect_and_embed(picture, framed.face)[1])
                values[STYLE] = face_style(framed, picture)
                outputs = tuple(values)
                seen[knobs, seed].append(list(values.values()))
                made += 1
                if on_picture is not None:
                    on_picture(style, made, total)
        measured = {key: np.array(rows) for key, rows in seen.items()}
        table[style] = as_table(_curves(outputs, base, along, sweeps, measured))
    return {
        "recipe": recipe.name,
        "base": base_table(base),
        "styles": table,
        "seeds": list(SEEDS),
        "failure_to_acquire": unseen,
        "people": used,
        "weights": stylizer.generator.digests,
        "versions": library_versions(),
    }


def _sweep(stylizer: AttemptLoop, base: Knobs, knob: str, values: Sequence[float]) -> list[tuple[float, Knobs]]:
    """The points of one knob's curve, those that leave the recipe a step to run; the base is always one."""
    low, high = RANGE[knob]
    points = sorted({v for v in values if low <= v <= high} | {float(getattr(base, knob))})
    found = [stylizer.recipe.with_enough_steps(replace(base, **{knob: v})) for v in points]  # type: ignore[arg-type]
    return list({effective(k, knob): k for k in found if k.steps >= 1}.items())


def _curves(
    outputs: tuple[str, ...],
    base: Knobs,
    along: Sequence[Knobs],
    sweeps: dict[str, list[tuple[float, Knobs]]],
    measured: dict[tuple[Knobs, int], np.ndarray],
) -> Curves:
    first = SEEDS[0]
    repeats = np.stack([measured[base, seed] for seed in SEEDS])  # (seeds, people, m)
    own = repeats.mean(0)
    rest = (repeats - own).reshape(-1, len(outputs))
    residual = rest.T @ rest / (len(SEEDS) - 1) / len(own)
    people = np.cov(own.T) - residual / len(SEEDS)
    level = own.mean(0)
    effects, spreads = {}, []
    for knob, points in sweeps.items():
        gone = np.stack([measured[k, first] - measured[base, first] for _, k in points])  # (n, people, m): paired
        mean = gone.mean(1)
        effects[knob] = np.array([v for v, _ in points]), mean
        noise = 2 * np.diag(residual)
        big = np.abs(mean) > 2 * np.sqrt(noise)  # where a knob does something, how much does it differ by person
        spreads += list(np.sqrt(np.maximum(gone.var(1, ddof=1) - noise, 0))[big] / np.abs(mean)[big])
    return Curves(
        outputs=outputs,
        base=base,
        level=level,
        effects=effects,
        people=_steady(people, residual),
        residual=_steady(residual, residual),
        slope_spread=float(np.clip(np.median(spreads) if spreads else 0.5, 0.1, 1.0)),
        dial=(np.array(POSITIONS), np.stack([measured[k, first].mean(0) for k in along])),
        measured=True,
    )


def _steady(covariance: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Correlations shrunk, no variance below a tenth of the seeds': always a covariance."""
    variances = np.maximum(np.diag(covariance), 0.1 * np.diag(residual) + 1e-8)
    scale = np.sqrt(variances)
    correlation = np.clip(covariance / np.outer(scale, scale), -1, 1) * (1 - _SHRINK)
    np.fill_diagonal(correlation, 1.0)
    values, vectors = np.linalg.eigh(correlation)
    steady = vectors @ np.diag(np.maximum(values, 0.01)) @ vectors.T
    return steady * np.outer(scale, scale)


def merged(old: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """`new`, with the styles of `old` that were not measured again.

    Raises:
        SettingsError: `old` is of another recipe, other weights or other knobs; name another file.
    """
    if old is None:
        return new
    if any(old.get(key) != new[key] for key in ("recipe", "weights", "base")):
        raise SettingsError("the file holds curves of another recipe, other weights or other knobs; name another file")
    return new | {"styles": old["styles"] | new["styles"]}
