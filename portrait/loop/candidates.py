"""The knobs that an attempt may have: a grid of values, and the bounds set by rejections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from portrait.loop.response import KNOBS, STEP, STYLE, Curves, effective, knob_range
from portrait.records import Knobs

_NEARLY_ALL = 2.0
"""Deviations: values of a knob at which not even 2 % of people reach the style's limit are not tried."""
_GRID = {"controlnet_conditioning_scale": 10}  # number of values considered for a knob; 5 for the others


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KnobGrid:
    """The knob values that may be worth trying, by the curves of the knobs' effects.

    `first` are the knobs of the first attempt, whose values those that are not `movable` keep; `required_style` is the smallest
    acceptable `style_on_face`; `with_enough_steps` adjusts knobs to what the recipe can run.
    """

    curves: Curves
    first: Knobs
    movable: Sequence[str]
    required_style: float
    with_enough_steps: Callable[[Knobs], Knobs]

    def combinations(self) -> list[Knobs]:
        """All combinations of values of the movable knobs; the others keep their first values."""
        axes = [self._axis(name) for name in self.movable]
        combinations = [dict(zip(self.movable, values, strict=True)) for values in product(*axes)]
        return [self.with_enough_steps(replace(self.first, **values)) for values in combinations]  # type: ignore[arg-type]

    def _axis(self, name: str) -> list[float]:
        """The values of one knob, always including its first one."""
        low, high = knob_range(name, self.curves.least_strength)
        first: float = getattr(self.first, name)
        if name in self.curves.effects:
            measured_at, changes = self.curves.effects[name]
            if np.ptp(changes, axis=0).max() == 0:  # it has no effect
                return [first]
            if name == "guidance_scale":  # not beyond what was measured
                high = min(high, float(measured_at[-1]))
        if name == "guidance_scale":
            high = max(first, high)
        values = [round(float(value), 3) for value in np.linspace(low, high, _GRID.get(name, 5))]
        # Few steps allow few different strengths: use one of those with the same effect.
        acting: dict[float, tuple[float, Knobs]] = {}
        for value in values:
            knobs = self.with_enough_steps(replace(self.first, **{name: value}))  # type: ignore[arg-type]
            if knobs.steps >= 1:
                acts_as = effective(knobs, name, exact_strength=self.curves.exact_strength)
                acting[acts_as] = value, knobs
        return sorted({value for value, knobs in acting.values() if self._may_be_stylized(knobs, name)} | {first})

    def _may_be_stylized(self, knobs: Knobs, name: str) -> bool:
        """Whether, by the measurements, knob `name` at its value in `knobs` may give a picture of the style at all.

        False if the measured style at that value, with the other knobs at their base, is so far below the limit that hardly
        anybody reaches it. The regression alone would try it on a difficult person, because it treats slopes as uncertain.
        """
        if not self.curves.measured:
            return True
        s = self.curves.outputs.index(STYLE)
        style = self.curves.level[s] + self.curves.changes([knobs])[0, KNOBS.index(name), s]
        deviation = float(np.sqrt(self.curves.people[s, s] + self.curves.residual[s, s]))
        return bool(style + _NEARLY_ALL * deviation >= self.required_style)


class Bounds:
    """The range of each movable knob, which every rejection narrows."""

    def __init__(self, movable: Sequence[str]) -> None:
        self._bounds = {name: [-np.inf, np.inf] for name in movable}

    def narrow(self, knobs: Knobs, directions: Mapping[str, int]) -> None:
        """From now on, no knob may be on the wrong side of `knobs`, given the directions in which they should go."""
        for name, bounds in self._bounds.items():
            value = getattr(knobs, name)
            if directions[name] > 0:
                bounds[0] = max(bounds[0], value)
            elif directions[name] < 0:
                bounds[1] = min(bounds[1], value)

    def allow(self, knobs: Knobs) -> bool:
        """Whether every knob is within its bounds."""
        return all(low - 1e-6 <= getattr(knobs, name) <= high + 1e-6 for name, (low, high) in self._bounds.items())

    def steps_outside(self, knobs: Knobs) -> float:
        """The number of `STEP`s by which the knobs lie outside, summed over the knobs."""
        total = 0.0
        for name, (low, high) in self._bounds.items():
            value = getattr(knobs, name)
            total += max(0.0, low - value, value - high) / STEP[name]
        return total
