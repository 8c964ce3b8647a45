"""Curves of likeness and style against the knobs, measured per recipe and style: they define the dial and the policy's prior.

`portrait calibrate` (`calibrate/response.py`) writes `NAME.curves.json` beside the recipe; this file reads it. A recipe that
was never measured gets `default_curves`: guesses with large uncertainties, which a run's own attempts soon outweigh.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from portrait.errors import SettingsError
from portrait.file_model import errors_from
from portrait.files import read_json
from portrait.hub.judges import JUDGES
from portrait.recipes.families import FamilyFacts
from portrait.recipes.recipe import Recipe
from portrait.records import Knobs
from portrait.records.curves import CurvesFile, StyleCurves, SweepTable

log = logging.getLogger(__name__)

STYLE = "style_on_face"
KNOBS = ("controlnet_conditioning_scale", "strength", "guidance_scale", "ip_adapter_scale")
RANGE = {
    "ip_adapter_scale": (0.0, 1.4),
    "controlnet_conditioning_scale": (0.5, 1.0),  # `mini` was not trained below
    "strength": (0.3, 1.0),
    "guidance_scale": (1.0, 7.5),
}
"""The range in which the policy may move a knob, and in which curves are measured."""
STEP = {"ip_adapter_scale": 0.2, "controlnet_conditioning_scale": 0.1, "strength": 0.1, "guidance_scale": 0.5}
"""One careful move of a knob."""

_GUESS = {  # knob -> change of (likeness, style) by one STEP up, in the order of magnitude of `mini`
    "ip_adapter_scale": (0.03, -0.01),
    "controlnet_conditioning_scale": (0.05, -0.02),
    "strength": (-0.03, 0.02),
    "guidance_scale": (-0.02, 0.01),
}
_UNIT = {judge.name: judge.unit for judge in JUDGES.values()}
_GUESSED_LEVEL = {judge.name: judge.guessed_level for judge in JUDGES.values()} | {STYLE: (0.25, 0.1)}
_SURE = 1.0
"""The dial starts where the mean style is this many deviations above the limit of `not_stylized`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curves:
    """Mean likeness by each judge and mean `style_on_face` against the knobs, of one recipe and style.

    With m outputs (judges, then `style_on_face`):

    Args:
        outputs: Their names.
        base: The knobs' values while another one was moved.
        level: (m,) means at `base`.
        effects: Knob -> (rising `effective` values (n,), changes (n, m) from `level`); linear in between, flat beyond.
        people: (m, m) covariance of people's own levels.
        residual: (m, m) covariance of pictures of one person with the same knobs and different seeds.
        slope_spread: Deviation, over people, of a knob's effect relative to the mean; 0.3 means 0.7 to 1.3.
        dial: Positions (n,) on the recipe's path of `[[balance]]` points, and means (n, m) there; empty if not measured.
        dial_outputs: Names of the dial's outputs: all that were measured, so that the dial is the same whoever judges.
        measured: False for guesses.
        exact_strength: Whether the model starts exactly at the strength, not at a whole step.
        least_strength: Below this strength the model's pictures fall apart.
    """

    outputs: tuple[str, ...]
    base: Knobs
    level: np.ndarray
    effects: dict[str, tuple[np.ndarray, np.ndarray]]
    people: np.ndarray
    residual: np.ndarray
    slope_spread: float
    dial: tuple[np.ndarray, np.ndarray]
    dial_outputs: tuple[str, ...]
    measured: bool
    exact_strength: bool = False
    least_strength: float = 0.0

    @property
    def origin(self) -> str:
        """Where the curves come from, in the record's words."""
        return "measured curves" if self.measured else "guesses"

    def changes(self, knobs: Sequence[Knobs]) -> np.ndarray:
        """(K, knobs, m): how much each knob's value changes `level`."""
        changes = np.zeros((len(knobs), len(KNOBS), len(self.outputs)))
        for j, name in enumerate(KNOBS):
            if name not in self.effects:
                continue
            measured_at, effect = self.effects[name]
            values = [effective(candidate, name, exact_strength=self.exact_strength) for candidate in knobs]
            changes[:, j] = np.stack([np.interp(values, measured_at, column) for column in effect.T], 1)
        return changes

    def position(self, balance: float, style_limit: float = 0.0) -> float:
        """The position of a `balance` on the recipe's path of `[[balance]]` points, in [0, 1].

        The dial starts where pictures are safely stylized (mean style one deviation above the limit) and ends where the path
        ends. In between, equal steps of balance are equal steps of the measured trade-off: half the gain of style and half
        the loss of likeness (mean of the judges), each relative to its total. Without measurements, the path itself is the
        dial. `style_limit` is the smallest acceptable `style_on_face`.
        """
        positions, mean = self.dial
        if len(positions) < 2:
            return balance
        s = self.outputs.index(STYLE)
        along = self.style_along_dial
        deviation = float(np.sqrt(self.people[s, s] + self.residual[s, s]))
        fine = np.linspace(positions[0], positions[-1], 201)
        is_safe = np.interp(fine, positions, along) - _SURE * deviation >= style_limit
        fine = fine[int(np.argmax(is_safe)) :]  # from the first safe position, or the start if none is safe
        rise = _normalized_rise(np.interp(fine, positions, along))
        judges = [column for name, column in zip(self.dial_outputs, mean.T, strict=True) if name != STYLE]
        falls = [_normalized_rise(-np.interp(fine, positions, column)) for column in judges]
        trade = np.mean([rise, np.mean(falls, 0)], 0) if falls else rise
        return float(np.interp(balance, trade, fine)) if trade[-1] > 0 else balance

    @property
    def style_along_dial(self) -> np.ndarray:
        """(n,) mean `style_on_face` at the dial's positions."""
        return self.dial[1][:, self.dial_outputs.index(STYLE)]

    def for_judges(self, judges: Collection[str]) -> Curves:
        """The same curves, restricted to these judges.

        Raises:
            SettingsError: one of them was not measured.
        """
        if missing := set(judges) - set(self.outputs):
            raise SettingsError(
                f"the curves were measured without {', '.join(sorted(missing))}; run portrait calibrate"
            )
        keep = [i for i, name in enumerate(self.outputs) if name in judges or name == STYLE]
        return replace(
            self,
            outputs=tuple(self.outputs[i] for i in keep),
            level=self.level[keep],
            effects={name: (at, change[:, keep]) for name, (at, change) in self.effects.items()},
            people=self.people[np.ix_(keep, keep)],
            residual=self.residual[np.ix_(keep, keep)],
        )


def knob_range(name: str, least_strength: float) -> tuple[float, float]:
    """The `RANGE` of a knob for a model whose pictures fall apart below `least_strength`."""
    low, high = RANGE[name]
    return (max(low, least_strength) if name == "strength" else low), high


def effective(knobs: Knobs, name: str, *, exact_strength: bool) -> float:
    """A knob's effective value: few steps allow few different strengths, unless the model starts exactly at the strength."""
    if name == "strength" and not exact_strength:
        return knobs.steps / knobs.num_inference_steps
    return float(getattr(knobs, name))


def _normalized_rise(values: np.ndarray) -> np.ndarray:
    """A curve's rise from 0 to 1 that never falls, so that noise in the measurements cannot reverse the dial."""
    rising = np.maximum.accumulate(values) - values[0]
    return rising / rising[-1] if rising[-1] > 0 else np.linspace(0, 1, len(values))


def default_curves(base: Knobs, judges: Sequence[str], family: FamilyFacts) -> Curves:
    """Guesses for a recipe of this family that was not measured.

    Signs are those of diffusers' knobs (more adapter and more structure: more alike, less style; more strength and
    guidance: the reverse), sizes those of `mini` (`_GUESS`). The level is uncertain by a whole range of likeness
    and each slope by 70 %, so the first attempts decide.
    """
    outputs = (*judges, STYLE)
    levels = [_GUESSED_LEVEL.get(name, (0.5, 0.2)) for name in outputs]
    effects = {}
    for knob, (likeness, style) in _GUESS.items():
        at = np.array(RANGE[knob])
        slope = np.array([style if name == STYLE else likeness * _UNIT.get(name, 1.0) for name in outputs])
        effects[knob] = at, (at - getattr(base, knob))[:, None] / STEP[knob] * slope
    deviations = np.array([deviation for _, deviation in levels])
    return Curves(
        outputs=outputs,
        base=base,
        level=np.array([mean for mean, _ in levels]),
        effects=effects,
        people=np.diag(deviations**2),
        residual=np.diag((0.3 * deviations) ** 2),
        slope_spread=0.7,
        dial=(np.zeros(0), np.zeros((0, len(outputs)))),
        dial_outputs=outputs,
        measured=False,
        exact_strength=family.exact_strength,
        least_strength=family.least_strength,
    )


def curves_for(
    recipe: Recipe, style: str, judges: Sequence[str], weights: Mapping[str, str], file: Path | str | None = None
) -> Curves:
    """The measured curves of a recipe and style for these judges, or guesses where there are none.

    They are the user's in `file`, or else the shipped ones if they were measured with these very weights (file -> SHA-256).

    Raises:
        SettingsError: `file` cannot be read, is for other weights, or lacks the style.
    """
    guesses = default_curves(recipe.knobs_at(0.5), judges, recipe.family_facts)
    table = read_curves(Path(file)) if file else _shipped(recipe.name)
    if table is None:
        return guesses
    has_weights = table.weights == dict(weights)
    if has_weights and style in table.styles:
        return _from_table(table.styles[style], table.base, recipe.family_facts).for_judges(judges)
    why = "do not have this style" if has_weights else "were measured with other weights"
    if file:
        raise SettingsError(f"the curves {file} {why}; run portrait calibrate")
    log.info("the curves of %s %s; the policy starts from guesses", recipe.name, why)
    return guesses


def measured_judges(recipe: str, file: Path | str | None = None) -> set[str]:
    """The judges for whom the shipped curves, or those in the file, have every style; none if nothing was measured."""
    table = read_curves(Path(file)) if file else _shipped(recipe)
    if table is None or not table.styles:
        return set()
    return set.intersection(*(set(curves.outputs) for curves in table.styles.values())) - {STYLE}


def read_curves(file: Path) -> CurvesFile:
    """Read a file of curves.

    Raises:
        SettingsError: the file cannot be read, or is damaged.
    """
    table = read_json(file, f"curves {file}")
    try:
        return CurvesFile.model_validate(table)
    except ValidationError as error:
        raise errors_from(error, f"the curves {file} are damaged", CurvesFile) from None


def _shipped(recipe: str) -> CurvesFile | None:
    path = resources.files("portrait.recipes") / f"{recipe}.curves.json"
    return CurvesFile.model_validate_json(path.read_bytes()) if path.is_file() else None


def _from_table(table: StyleCurves, base: Knobs, family: FamilyFacts) -> Curves:
    level = np.array(table.level)
    effects = {knob: (np.array(sweep.at), np.array(sweep.mean) - level) for knob, sweep in table.knobs.items()}
    positions = np.array(table.dial.at)
    return Curves(
        outputs=table.outputs,
        base=base,
        level=level,
        effects=effects,
        people=np.array(table.people),
        residual=np.array(table.residual),
        slope_spread=table.slope_spread,
        dial=(positions, np.reshape(table.dial.mean, (len(positions), len(level)))),
        dial_outputs=table.outputs,
        measured=True,
        exact_strength=family.exact_strength,
        least_strength=family.least_strength,
    )


def as_table(curves: Curves) -> StyleCurves:
    """The curves of one style, rounded, as stored in a file."""

    def sweep(at: np.ndarray, mean: np.ndarray) -> SweepTable:
        return SweepTable(at=at.round(5).tolist(), mean=mean.round(5).tolist())

    return StyleCurves(
        outputs=curves.outputs,
        level=curves.level.round(5).tolist(),
        dial=sweep(curves.dial[0], curves.dial[1][:, [curves.dial_outputs.index(name) for name in curves.outputs]]),
        knobs={name: sweep(at, change + curves.level) for name, (at, change) in curves.effects.items()},
        people=curves.people.round(8).tolist(),
        residual=curves.residual.round(8).tolist(),
        slope_spread=round(curves.slope_spread, 4),
    )
