"""How the knobs move: by the reasons of rejections, and by a model of likeness and style fitted as the run goes."""

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
"""What an accepted picture is worth beside its style, in lengths of the dial."""
WORTH_TRYING = 0.02
"""An attempt after an accepted one must promise this gain of style, in lengths of the dial."""
DRAWS = 256
_HOPELESS = 0.02
_PATIENCE = {"accepted": 0.15, "best": 0.02}
"""What one more attempt costs, in lengths of the dial: whoever wants the first accepted picture is waiting for it."""
_CAREFUL = 2.5  # steps that a knob may move at once while the curves are guesses


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Outlook:
    """What is expected of K knobs.

    `chance` to pass (K,), mean `style` (K,), `draws` of the outputs (K, DRAWS, m), and which of them `passed` (K, DRAWS).
    """

    chance: np.ndarray
    style: np.ndarray
    draws: np.ndarray
    passed: np.ndarray

    def forecast(self, index: int) -> Forecast:
        return Forecast(accepted=round(float(self.chance[index]), 3), style_on_face=round(float(self.style[index]), 4))


class Policy:
    """Chooses the knobs of each attempt at one portrait; learns from each.

    **The model** is `regression.Regression`: likeness and style at any knobs, as this person's attempts show them.

    **The reasons.** After a rejection no knob goes the wrong way: less like the person after identity_low, closer to
    the photo after not_stylized; so opposite rejections bracket what passes. How far to go is the model's affair, but
    for the reasons that are not in it (burned, broken_keep, swapped, no_face, a face that does not look like the style):
    these forbid knobs that are not at least one step further away (`next_knobs`).

    **The choice.** An accepted picture is worth `ACCEPTANCE` plus its style in lengths of the dial. With n attempts
    left the knobs maximize p * (worth) + (1 - p) * V, where V is the value of n - 1 attempts less the price of waiting
    for one: bold first, safe last.
    With `until="accepted"` style beyond what the dial asked for counts nothing, for the user asked for no more; with
    `until="best"` it counts, and after an accepted picture the expected improvement decides.

    **When it ends.** `until="accepted"`: with the first accepted picture, the quick way of a user who turns the dial
    himself. `until="best"`: when no knobs promise `WORTH_TRYING` more style, or the budget ends.

    Args:
        curves: The prior; its judges are those of `thresholds`.
        first: Knobs of the first attempt: the dial's, and the user's own.
        thresholds: What must be passed.
        fixed: Knobs that never move: the user's own, and those that a distilled model was made for.
        until: accepted or best.
        with_enough_steps: Brings knobs to what the recipe can run, as `Recipe.with_enough_steps`.
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
        """Why `choose` wants no further attempt; empty while it does."""
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
        # Style in lengths of the dial: 0 where it starts, 1 where it ends.
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
        """All knobs that are considered; most portraits are accepted at once and need none."""
        return self._grid.combinations()

    def learn(self, knobs: Knobs, outputs: Mapping[str, float], reasons: Sequence[str]) -> None:
        """Take in one attempt.

        Args:
            knobs: Its knobs.
            outputs: Name -> what was measured.
            reasons: Of its rejection; empty when it was accepted.
        """
        self._regression.learn(knobs, outputs)
        self._last = knobs
        if not reasons:
            style = outputs[STYLE]
            self._best = style if self._best is None else max(style, self._best)
        overdrawn = outputs[STYLE] >= self._target
        self._bounds.narrow(knobs, directions(reasons, overdrawn=overdrawn))
        # The regression knows nothing of these reasons: at least one step further away.
        unmodeled = [r for r in reasons if r != "not_stylized" and r.partition(":")[0] != "identity_low"]
        if unmodeled:
            further = next_knobs(knobs, unmodeled, self._fixed, overdrawn=overdrawn)
            self._bounds.narrow(further, directions(unmodeled, overdrawn=overdrawn))

    def choose(self, left: int) -> tuple[Knobs, Forecast] | None:
        """The knobs of the next attempt with what is expected of it, or None when none is worth making.

        Args:
            left: Attempts that the budget still allows, this one among them; at least 1.
        """
        if self._best is not None and self.until == "accepted":
            self.over = "accepted"
            return None
        allowed = self._allowed()
        outlook = self._outlook(allowed)
        moved = np.array([self._distance(knobs) for knobs in allowed])
        best = self._safest(outlook, moved, left) if self._best is None else self._improvement(outlook, moved)
        if best is None:
            self.over = "no more style to be expected"
            return None
        return allowed[best], outlook.forecast(best)

    def _improvement(self, outlook: _Outlook, moved: np.ndarray) -> int | None:
        """After an accepted picture: where most more style is expected, or None where it is not worth an attempt."""
        best_yet = self._in_lengths(np.array(self._best))
        more = np.maximum(self._in_lengths(outlook.draws[..., self._style]) - best_yet, 0)
        gain = (more * outlook.passed).mean(1)
        best = int(np.argmax(gain - 1e-4 * moved))
        return best if gain[best] >= WORTH_TRYING else None

    def _safest(self, outlook: _Outlook, moved: np.ndarray, left: int) -> int:
        """Before anything is accepted: the best first of `left` attempts, bold at first and safe at last.

        V_1 = max_k E[passed_k worth_k], and with n attempts left
        V_n = max_k (E[passed_k worth_k] + (1 - p_k) max(0, V_(n-1) - price)); the knobs k of V_left are the next ones.
        """
        style = outlook.draws[..., self._style]
        if self.until != "best":
            style = np.minimum(style, self._target)  # the user asked for no more
        worth = (outlook.passed * (ACCEPTANCE + np.clip(self._in_lengths(style), 0, None))).mean(1)
        value = 0.0
        for later in range(max(1, left)):  # backwards, from the last attempt
            price = _PATIENCE[self.until] if later else 0.0
            total = worth + (1 - outlook.chance) * max(0.0, value - price)
            value = float(total.max())
        if value >= _HOPELESS:
            return int(np.argmax(total - 1e-3 * moved))
        # Nothing is likely to pass: go where the worst of the limits comes closest.
        draws = outlook.draws
        worst = ((draws.mean(1) - self._limits) / draws.std(1)).min(1)
        if self._gate is not None:
            evidence = self._evidence(draws)
            worst = np.minimum(worst, (evidence.mean(1) - self._gate.least) / (evidence.std(1) + 1e-9))
        return int(np.argmax(worst - 1e-3 * moved))

    def forecast(self, knobs: Knobs) -> Forecast:
        """What is expected of an attempt with these knobs."""
        return self._outlook([knobs]).forecast(0)

    def _allowed(self) -> list[Knobs]:
        """The candidates within the bounds, or the one that is nearest to them."""
        near = self._candidates
        if not self.curves.measured:  # guesses are not followed far
            near = [k for k in near if all(self._steps_to(k, name) <= _CAREFUL for name in self._movable)] or near
        inside = [knobs for knobs in near if self._bounds.allow(knobs)]
        if not inside and near is not self._candidates:
            inside = [knobs for knobs in self._candidates if self._bounds.allow(knobs)]
        # Opposite reasons, or a bound between two candidates: nearest to the bounds instead.
        return inside or [min(near, key=self._bounds.steps_outside)]

    def _steps_to(self, knobs: Knobs, name: str) -> float:
        return abs(float(getattr(knobs, name)) - float(getattr(self._last, name))) / STEP[name]

    def _distance(self, knobs: Knobs) -> float:
        """Steps of all knobs from those of the last attempt."""
        return sum(self._steps_to(knobs, name) for name in self._movable)

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
        """What all judges together say of draws (..., m) of the outputs."""
        if self._gate is None:
            return np.zeros(draws.shape[:-1])
        weights = np.array([self._gate.weights.get(output, 0.0) for output in self.curves.outputs])
        return np.asarray(draws @ weights + self._gate.offset)
