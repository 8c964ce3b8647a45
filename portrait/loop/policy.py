"""How the knobs move: by the reasons of rejections, and by a model of likeness and style fitted as the run goes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import ceil

import numpy as np

from portrait.judge.thresholds import Thresholds
from portrait.loop.response import KNOBS, RANGE, STEP, STYLE, Curves, effective
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
_NEARLY_ALL = 2.0
"""Deviations: a knob's value at which not even 2 % of people reach the style's limit is not tried."""
_CAREFUL = 2.5  # steps that a knob may move at once while the curves are guesses


def next_knobs(knobs: Knobs, reasons: Sequence[str], fixed: Collection[str] = ()) -> Knobs:
    """The knobs one careful step further, after a picture was rejected for `reasons`.

    identity_low, no_face, swapped: more adapter, more structure, less strength, less guidance. not_stylized:
    less structure, more strength, more guidance. broken_keep: more structure, less strength, less guidance.
    burned: less guidance. Where wishes are opposite they cancel out. Knobs in `fixed` never move.
    """
    wish = _wishes(reasons)
    moved = {}
    for name, direction in wish.items():
        if name in fixed:
            continue
        low, high = RANGE[name]
        value = getattr(knobs, name)
        low, high = min(low, value), max(high, value)  # a user's own value is never pulled back into the range
        moved[name] = round(min(max(value + direction * STEP[name], low), high), 4)
    if "strength" in moved:
        moved["strength"] = max(moved["strength"], ceil(100 / knobs.num_inference_steps) / 100)
    return replace(knobs, **moved)


def _wishes(reasons: Sequence[str]) -> dict[str, float]:
    wish = dict.fromkeys(STEP, 0.0)
    codes = {reason.partition(":")[0] for reason in reasons}
    if codes & {"identity_low", "no_face", "swapped"}:
        wish["ip_adapter_scale"] += 1
        wish["controlnet_conditioning_scale"] += 1
        wish["strength"] -= 1
        wish["guidance_scale"] -= 1
    if "not_stylized" in codes:
        wish["controlnet_conditioning_scale"] -= 1
        wish["strength"] += 1
        wish["guidance_scale"] += 1
    if "broken_keep" in codes:
        wish["controlnet_conditioning_scale"] += 1
        wish["strength"] -= 1
        wish["guidance_scale"] -= 1
    if "burned" in codes:
        wish["guidance_scale"] = -1
    return wish


class Policy:
    """Chooses the knobs of each attempt at one portrait; learns from each.

    **The model.** Let y be likeness by each judge and style on the face. For knobs k,
    y = level + a + sum_j c_j * effect_j(k) + e. `effect_j` are the measured curves of the recipe and style
    (`response.Curves`), a is what this person adds, c_j how strongly knob j works here, e the seed's noise. A priori
    a ~ N(0, between-people covariance), c ~ N(1, slope spread), e ~ N(0, residual covariance). That is a Bayesian
    linear regression with the curves as features; its posterior is exact and updated attempt by attempt.

    **The reasons.** After a rejection no knob goes the wrong way: less like the person after identity_low, closer to
    the photo after not_stylized; so opposite rejections bracket what passes. How far to go is the model's affair, but
    for the reasons that are not in it (burned, broken_keep, swapped, no_face, a face that does not look like the style):
    these forbid knobs that are not at least one step further away (`next_knobs`).

    **The choice.** An accepted picture is worth `ACCEPTANCE` plus its style in lengths of the dial. With n attempts
    left the knobs maximise p * (worth) + (1 - p) * V, where V is the value of n - 1 attempts less the price of waiting
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
        fitted: Brings knobs to what the recipe can run.
    """

    def __init__(
        self,
        curves: Curves,
        first: Knobs,
        thresholds: Thresholds,
        *,
        fixed: Collection[str] = (),
        until: str = "accepted",
        fitted: Callable[[Knobs], Knobs] = lambda knobs: knobs,
    ) -> None:
        self.curves = curves
        self.until = until
        self._last = self.first = first
        self._fitted = fitted
        self._limits = np.array([thresholds.identity.get(o, thresholds.required_style_on_face) for o in curves.outputs])
        self._style = curves.outputs.index(STYLE)
        m, d = len(curves.outputs), len(KNOBS)
        self._mean = np.concatenate([np.zeros(m), np.ones(m * d)])
        spread = np.full(m * d, curves.slope_spread**2)
        self._cov = np.zeros((m + m * d, m + m * d))
        self._cov[:m, :m] = curves.people
        self._cov[m:, m:] = np.diag(spread)
        self._bounds = {name: [-np.inf, np.inf] for name in KNOBS}
        self._movable = [name for name in KNOBS if name not in fixed]
        self._fixed = set(fixed)
        self._candidates = self._grid()
        self._draws = np.random.default_rng(0).standard_normal((DRAWS, m))
        style = curves.dial[1][:, self._style] if len(curves.dial[0]) else np.array([self._limits[self._style]])
        low = float(style.min())
        self._scale = low, max(float(style.max()) - low, 0.1)
        self._target = float((curves.level + curves.changes([first])[0].sum(0))[self._style])
        self._best: float | None = None  # style of the best accepted picture
        self.over = ""
        """Why `choose` wants no further attempt; empty while it does."""

    def _grid(self) -> list[Knobs]:
        axes = []
        for name in self._movable:
            low, high = RANGE[name]
            own = getattr(self.first, name)
            count = {"controlnet_conditioning_scale": 10}.get(name, 5)
            if name in self.curves.effects and np.ptp(self.curves.effects[name][1], axis=0).max() == 0:
                axes.append([own])
                continue
            if name == "guidance_scale":
                high = max(own, min(high, float(self.curves.effects.get(name, (np.array([high]), 0))[0][-1])))
            values = [round(float(v), 3) for v in np.linspace(low, high, count)]
            alone = {v: self._fitted(replace(self.first, **{name: v})) for v in values}  # type: ignore[arg-type]
            acting = {effective(k, name): v for v, k in alone.items() if k.steps >= 1}  # each that acts otherwise, once
            axes.append(sorted({v for v in acting.values() if self._may_be_stylized(alone[v], name)} | {own}))
        found = [replace(self.first, **dict(zip(self._movable, values, strict=True))) for values in product(*axes)]
        return [self._fitted(knobs) for knobs in found]

    def _may_be_stylized(self, knobs: Knobs, name: str) -> bool:
        """Whether measurement leaves a chance that knob `name`, at its value there, gives a picture of the style at all.

        False where the measured style at that value, the other knobs being as they were then, is so far below the limit
        that nearly nobody reaches it. The regression alone would try it on a hard person, for it holds slopes uncertain.
        """
        if not self.curves.measured:
            return True
        s = self._style
        style = self.curves.level[s] + self.curves.changes([knobs])[0, KNOBS.index(name), s]
        deviation = float(np.sqrt(self.curves.people[s, s] + self.curves.residual[s, s]))
        return bool(style + _NEARLY_ALL * deviation >= self._limits[s])

    def learn(self, knobs: Knobs, seen: Mapping[str, float], reasons: Sequence[str]) -> None:
        """Take in one attempt.

        Args:
            knobs: Its knobs.
            seen: Output -> what was measured.
            reasons: Of its rejection; empty when it was accepted.
        """
        features = self._features([knobs])[0]
        y = np.array([seen[o] for o in self.curves.outputs]) - self.curves.level
        gain_of = features @ self._cov @ features.T + self.curves.residual
        gain = np.linalg.solve(gain_of, features @ self._cov).T
        self._mean = self._mean + gain @ (y - features @ self._mean)
        self._cov = self._cov - gain @ features @ self._cov
        self._cov = (self._cov + self._cov.T) / 2
        self._last = knobs
        if not reasons:
            self._best = max(seen[STYLE], self._best if self._best is not None else -np.inf)
        beyond = seen[STYLE] >= self._target  # off the style's statistics: too far, or not far enough
        reasons = ["broken_keep" if r.startswith("not_stylized:") and beyond else r for r in reasons]
        self._bound(knobs, knobs, _wishes(reasons))
        others = [r for r in reasons if r != "not_stylized" and r.partition(":")[0] != "identity_low"]
        if others:
            self._bound(knobs, next_knobs(knobs, others, self._fixed), _wishes(others))

    def _bound(self, knobs: Knobs, away: Knobs, wish: Mapping[str, float]) -> None:
        """From now on no knob is on the wrong side of `away`, its wish's side being right."""
        for name in self._movable:
            value, bounds = getattr(away, name), self._bounds[name]
            if wish[name] > 0:
                bounds[0] = max(bounds[0], value)
            elif wish[name] < 0:
                bounds[1] = min(bounds[1], value)

    def choose(self, left: int) -> tuple[Knobs, Forecast] | None:
        """The knobs of the next attempt with what is expected of it, or None when none is worth making.

        Args:
            left: Attempts that the budget still allows, this one among them; at least 1.
        """
        if self._best is not None and self.until == "accepted":
            self.over = "accepted"
            return None
        allowed = self._allowed()
        chance, style, y, passed = self._outlook(allowed)
        moved = np.array([self._way_to(knobs) for knobs in allowed])
        if self._best is not None:
            more = np.maximum(self._in_lengths(y[..., self._style]) - self._in_lengths(np.array(self._best)), 0)
            gain = (more * passed).mean(1)
            best = int(np.argmax(gain - 1e-4 * moved))
            if gain[best] < WORTH_TRYING:
                self.over = "no more style to be expected"
                return None
        else:
            s = y[..., self._style] if self.until == "best" else np.minimum(y[..., self._style], self._target)
            worth = (passed * (ACCEPTANCE + np.clip(self._in_lengths(s), 0, None))).mean(1)
            value = 0.0
            for n in range(max(1, left)):
                total = worth + (1 - chance) * max(0.0, value - (_PATIENCE[self.until] if n else 0.0))
                value = float(total.max())
            if value < _HOPELESS:  # nothing is likely to pass: go where the worst of the limits comes closest
                worst = ((y.mean(1) - self._limits) / y.std(1)).min(1)
                best = int(np.argmax(worst - 1e-3 * moved))
            else:
                best = int(np.argmax(total - 1e-3 * moved))
        return allowed[best], Forecast(
            accepted=round(float(chance[best]), 3), style_on_face=round(float(style[best]), 4)
        )

    def forecast(self, knobs: Knobs) -> Forecast:
        """What is expected of an attempt with these knobs."""
        chance, style, _, _ = self._outlook([knobs])
        return Forecast(accepted=round(float(chance[0]), 3), style_on_face=round(float(style[0]), 4))

    def _allowed(self) -> list[Knobs]:
        def inside(knobs: Knobs, names: Collection[str]) -> bool:
            return all(self._bounds[n][0] - 1e-6 <= getattr(knobs, n) <= self._bounds[n][1] + 1e-6 for n in names)

        near = self._candidates
        if not self.curves.measured:
            near = [k for k in near if all(self._steps_to(k, n) <= _CAREFUL for n in self._movable)] or near
        found = [k for k in near if inside(k, self._movable)]
        if not found and near is not self._candidates:
            found = [k for k in self._candidates if inside(k, self._movable)]
        # Opposite reasons, or a bound between two candidates: nearest to the bounds instead.
        return found or [min(near, key=self._outside)]

    def _outside(self, knobs: Knobs) -> float:
        total = 0.0
        for name in self._movable:
            low, high = self._bounds[name]
            value = getattr(knobs, name)
            total += max(0.0, low - value, value - high) / STEP[name]
        return total

    def _steps_to(self, knobs: Knobs, name: str) -> float:
        return abs(float(getattr(knobs, name)) - float(getattr(self._last, name))) / STEP[name]

    def _way_to(self, knobs: Knobs) -> float:
        return sum(self._steps_to(knobs, name) for name in self._movable)

    def _in_lengths(self, style: np.ndarray) -> np.ndarray:
        return (style - self._scale[0]) / self._scale[1]

    def _features(self, knobs: Sequence[Knobs]) -> np.ndarray:
        """(K, m, m + m d): what each coefficient (levels, then knob by knob) adds to each output."""
        changes = self.curves.changes(knobs)
        count, d, m = changes.shape
        found = np.zeros((count, m, m + m * d))
        found[:, np.arange(m), np.arange(m)] = 1
        for j in range(d):
            found[:, np.arange(m), m + j * m + np.arange(m)] = changes[:, j]
        return found

    def _outlook(self, knobs: Sequence[Knobs]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Per knobs: the chance to pass, the mean style, draws of y (K, DRAWS, m) and which of them pass."""
        features = self._features(knobs)
        mean = self.curves.level + features @ self._mean
        cov = features @ self._cov @ features.transpose(0, 2, 1) + self.curves.residual
        jitter = 1e-9 * np.eye(cov.shape[1])
        y = mean[:, None] + self._draws @ np.linalg.cholesky(cov + jitter).transpose(0, 2, 1)
        passed = (y >= self._limits).all(-1)
        return passed.mean(1), mean[:, self._style], y, passed
