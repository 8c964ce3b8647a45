"""How the knobs move: by the reasons for rejections, and by a model of likeness and style that is fitted during the run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from portrait.judge.thresholds import Thresholds
from portrait.loop.candidates import Bounds, KnobGrid
from portrait.loop.directions import directions, next_knobs
from portrait.loop.regression import Regression
from portrait.loop.response import KNOBS, STEP, STYLE, Curves
from portrait.records import Knobs
from portrait.records.portrait import Forecast

ACCEPTANCE = 1.0
"""The worth of an accepted picture apart from its style; 1 is the style gained along the whole dial."""
WORTH_TRYING = 0.02
"""An attempt after an accepted one must promise this gain of style, in the same unit."""
DRAWS = 256
_HOPELESS = 0.02
_PATIENCE = {"accepted": 0.15, "best": 0.02}
"""The cost of one more attempt, in the same unit: users who want the first accepted picture are waiting for it."""
_CAREFUL = 2.5  # steps that a knob may move at a time while the curves are guesses


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Outlook:
    """The expected outcomes of K choices of knobs.

    `chance` to pass (K,), mean `style` (K,), `draws` of the outputs (K, DRAWS, m), and which of these `passed` (K, DRAWS).
    """

    chance: np.ndarray
    style: np.ndarray
    draws: np.ndarray
    passed: np.ndarray

    def forecast(self, index: int) -> Forecast:
        return Forecast(accepted=round(float(self.chance[index]), 3), style_on_face=round(float(self.style[index]), 4))


class Policy:
    """Chooses the knobs of each attempt at one portrait, and learns from each.

    **The model** is `regression.Regression`: it predicts likeness and style at any knobs from this person's attempts.

    **The reasons.** After a rejection no knob may go the wrong way, that is away from the person after identity_low, or
    towards the photo after not_stylized; so opposite rejections bracket what passes. The model decides how far to go, except
    for reasons that it does not cover (burned, broken_keep, swapped, no_face, a face that does not look like the style):
    after these, knobs must move at least one step (`next_knobs`).

    **The choice.** An accepted picture is worth `ACCEPTANCE` plus its style, where the whole dial's gain of style is 1. With
    n attempts left, the knobs maximize p * (worth) + (1 - p) * V, where V is the value of n - 1 attempts minus the cost of
    waiting for one: bold first, safe last.
    With `until="accepted"`, style beyond that of the chosen balance counts for nothing, as the user did not ask for it; with
    `until="best"` it counts, and after an accepted picture the expected improvement decides.

    **When it ends.** `until="accepted"`: with the first accepted picture, the quick way for users who adjust the balance
    themselves. `until="best"`: when no knobs promise `WORTH_TRYING` more style, or the budget is spent.

    Args:
        curves: The prior; its judges are those of `thresholds`.
        first: Knobs of the first attempt: those of the balance, and the user's own.
        thresholds: The limits to meet.
        fixed: Knobs that never move: the user's own, and those that a distilled model requires.
        until: accepted or best.
        with_enough_steps: Adjusts knobs to what the recipe can run, such as `Recipe.with_enough_steps`.
    """

    def __init__(
        self,
        curves: Curves,
        first: Knobs,
        thresholds: Thresholds,
        *,
        fixed: Collection[str] = (),
        until: str = "accepted",
        with_enough_steps: Callable[[Knobs], Knobs] = lambda knobs: knobs,
    ) -> None:
        self.curves = curves
        self.until = until
        self.first = first
        self.over = ""
        """Why `choose` wants no further attempt; empty as long as it does."""
        self._last = first
        self._limits = np.array([thresholds.identity.get(o, thresholds.required_style_on_face) for o in curves.outputs])
        self._gate = thresholds.gate if thresholds.gate is not None and thresholds.gate.weights else None
        self._style = curves.outputs.index(STYLE)
        self._fixed = set(fixed)
        self._movable = [name for name in KNOBS if name not in fixed]
        self._bounds = Bounds(self._movable)
        self._regression = Regression(curves)
        self._best: float | None = None  # style of the best accepted picture
        self._draws = np.random.default_rng(0).standard_normal((DRAWS, len(curves.outputs)))
        # Style relative to the dial: 0 at its start, 1 at its end.
        along_dial = curves.style_along_dial if len(curves.dial[0]) else self._limits[[self._style]]
        lowest = float(along_dial.min())
        self._scale = lowest, max(float(along_dial.max()) - lowest, 0.1)
        self._target = float((curves.level + curves.changes([first])[0].sum(0))[self._style])
        self._grid = KnobGrid(
            curves=curves,
            first=first,
            movable=self._movable,
            required_style=float(self._limits[self._style]),
            with_enough_steps=with_enough_steps,
        )

    @cached_property
    def _candidates(self) -> list[Knobs]:
        """All candidate knobs, computed on demand: most portraits are accepted at once and need none."""
        return self._grid.combinations()

    def learn(self, knobs: Knobs, outputs: Mapping[str, float], reasons: Sequence[str]) -> None:
        """Learn from one attempt: output name -> measured value, and why it was rejected, empty if it was accepted."""
        self._regression.learn(knobs, outputs)
        self._last = knobs
        if not reasons:
            style = outputs[STYLE]
            self._best = style if self._best is None else max(style, self._best)
        # A style check that fails although enough was redrawn means too much style, not too little.
        overdrawn = outputs[STYLE] >= self._target
        self._bounds.narrow(knobs, directions(reasons, overdrawn=overdrawn))
        # The regression does not cover these reasons: move at least one step.
        unmodeled = [r for r in reasons if r != "not_stylized" and r.partition(":")[0] != "identity_low"]
        if unmodeled:
            further = next_knobs(knobs, unmodeled, self._fixed, overdrawn=overdrawn)
            self._bounds.narrow(further, directions(unmodeled, overdrawn=overdrawn))

    def choose(self, left: int) -> tuple[Knobs, Forecast] | None:
        """The knobs of the next attempt and its expected outcome, or None if no attempt is worth making.

        The budget allows `left` attempts, including this one; 0 if it is spent.
        """
        if self._best is not None and self.until == "accepted":
            self.over = "accepted"
            return None
        if self._best is None and left < 1:  # nothing to choose for; with an accepted picture, `over` may still be set
            return None
        allowed = self._allowed()
        outlook = self._outlook(allowed)
        # from the knobs of the last attempt, in steps of all knobs together
        moved = np.array([sum(self._steps_to(knobs, name) for name in self._movable) for knobs in allowed])
        best = self._safest(outlook, moved, left) if self._best is None else self._improvement(outlook, moved)
        if best is None:
            self.over = "no more style to be expected"
            return None
        return allowed[best], outlook.forecast(best)

    def _improvement(self, outlook: _Outlook, moved: np.ndarray) -> int | None:
        """After an accepted picture: the knobs with the largest expected gain of style, or None if it is too small."""
        best_yet = self._in_lengths(np.array(self._best))
        more = np.maximum(self._in_lengths(outlook.draws[..., self._style]) - best_yet, 0)
        gain = (more * outlook.passed).mean(1)
        best = int(np.argmax(gain - 1e-4 * moved))  # of equal gains the smaller move
        return best if gain[best] >= WORTH_TRYING else None

    def _safest(self, outlook: _Outlook, moved: np.ndarray, left: int) -> int:
        """Before anything is accepted: the best knobs for the first of `left` attempts, bold at first and safe at last.

        V_1 = max_k E[passed_k worth_k], and with n attempts left
        V_n = max_k (E[passed_k worth_k] + (1 - p_k) max(0, V_(n-1) - price)); the knobs k of V_left are the next ones.
        """
        style = outlook.draws[..., self._style]
        if self.until != "best":
            style = np.minimum(style, self._target)  # the user did not ask for more
        worth = (outlook.passed * (ACCEPTANCE + np.clip(self._in_lengths(style), 0, None))).mean(1)
        value = 0.0
        for later in range(max(1, left)):  # backwards, from the last attempt
            price = _PATIENCE[self.until] if later else 0.0
            total = worth + (1 - outlook.chance) * max(0.0, value - price)
            value = float(total.max())
        if value >= _HOPELESS:
            return int(np.argmax(total - 1e-3 * moved))  # of equal values the smaller move
        # Nothing is likely to pass: go where the limit that is missed most is missed least.
        draws = outlook.draws
        worst = ((draws.mean(1) - self._limits) / draws.std(1)).min(1)
        if self._gate is not None:
            evidence = self._evidence(draws)
            worst = np.minimum(worst, (evidence.mean(1) - self._gate.least) / (evidence.std(1) + 1e-9))
        return int(np.argmax(worst - 1e-3 * moved))

    def forecast(self, knobs: Knobs) -> Forecast:
        """The expected outcome of an attempt with these knobs."""
        return self._outlook([knobs]).forecast(0)

    def _allowed(self) -> list[Knobs]:
        """The candidates within the bounds, or else those nearest to them."""
        near = self._candidates
        if not self.curves.measured:  # do not follow guesses far
            near = [k for k in near if all(self._steps_to(k, name) <= _CAREFUL for name in self._movable)] or near
        inside = [knobs for knobs in near if self._bounds.allow(knobs)]
        if not inside and near is not self._candidates:
            inside = [knobs for knobs in self._candidates if self._bounds.allow(knobs)]
        # Opposite reasons, or a bound between two candidates: use the nearest to the bounds instead.
        return inside or [min(near, key=self._bounds.steps_outside)]

    def _steps_to(self, knobs: Knobs, name: str) -> float:
        return abs(float(getattr(knobs, name)) - float(getattr(self._last, name))) / STEP[name]

    def _in_lengths(self, style: np.ndarray) -> np.ndarray:
        lowest, length = self._scale
        return (style - lowest) / length

    def _outlook(self, knobs: Sequence[Knobs]) -> _Outlook:
        mean, cov = self._regression.predict(knobs)
        jitter = 1e-9 * np.eye(cov.shape[1])
        draws = mean[:, None] + self._draws @ np.linalg.cholesky(cov + jitter).transpose(0, 2, 1)
        passed = np.asarray((draws >= self._limits).all(-1))
        if self._gate is not None:
            passed &= self._evidence(draws) >= self._gate.least
        return _Outlook(chance=passed.mean(1), style=mean[:, self._style], draws=draws, passed=passed)

    def _evidence(self, draws: np.ndarray) -> np.ndarray:
        """The evidence of all judges together for draws (..., m) of the outputs."""
        if self._gate is None:
            return np.zeros(draws.shape[:-1])
        weights = np.array([self._gate.weights.get(output, 0.0) for output in self.curves.outputs])
        return np.asarray(draws @ weights + self._gate.offset)
