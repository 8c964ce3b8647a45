"""How the knobs move: by the reasons of rejections, and by a model of likeness and style fitted as the run goes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
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
_GRID = {"controlnet_conditioning_scale": 10}  # values of a knob that are considered; 5 of the others


def next_knobs(knobs: Knobs, reasons: Sequence[str], fixed: Collection[str] = ()) -> Knobs:
    """The knobs one careful step further, after a picture was rejected for `reasons`.

    identity_low, no_face, swapped: more adapter, more structure, less strength, less guidance. not_stylized:
    less structure, more strength, more guidance. broken_keep: more structure, less strength, less guidance.
    burned: less guidance. Opposite directions cancel out. Knobs in `fixed` never move.
    """
    directions = _directions(reasons)
    moved = {}
    for name, direction in directions.items():
        if name in fixed:
            continue
        low, high = RANGE[name]
        value = getattr(knobs, name)
        low, high = min(low, value), max(high, value)  # a user's own value is never pulled back into the range
        moved[name] = round(min(max(value + direction * STEP[name], low), high), 4)
    if "strength" in moved:
        moved["strength"] = max(moved["strength"], ceil(100 / knobs.num_inference_steps) / 100)
    return replace(knobs, **moved)


def _directions(reasons: Sequence[str]) -> dict[str, float]:
    """Knob -> where it should go after these reasons: above 0 up, below 0 down."""
    directions = dict.fromkeys(STEP, 0.0)
    codes = {reason.partition(":")[0] for reason in reasons}
    if codes & {"identity_low", "no_face", "swapped"}:
        directions["ip_adapter_scale"] += 1
        directions["controlnet_conditioning_scale"] += 1
        directions["strength"] -= 1
        directions["guidance_scale"] -= 1
    if "not_stylized" in codes:
        directions["controlnet_conditioning_scale"] -= 1
        directions["strength"] += 1
        directions["guidance_scale"] += 1
    if "broken_keep" in codes:
        directions["controlnet_conditioning_scale"] += 1
        directions["strength"] -= 1
        directions["guidance_scale"] -= 1
    if "burned" in codes:
        directions["guidance_scale"] = -1
    return directions


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
        self._with_enough_steps = with_enough_steps
        self._limits = np.array([thresholds.identity.get(o, thresholds.required_style_on_face) for o in curves.outputs])
        self._style = curves.outputs.index(STYLE)
        self._fixed = set(fixed)
        self._movable = [name for name in KNOBS if name not in fixed]
        self._bounds = {name: [-np.inf, np.inf] for name in KNOBS}
        self._best: float | None = None  # style of the best accepted picture
        # The prior of the regression's coefficients: a level per output, then a slope per knob and output.
        outputs = len(curves.outputs)
        slopes = len(KNOBS) * outputs
        self._mean = np.concatenate([np.zeros(outputs), np.ones(slopes)])
        self._cov = np.zeros((outputs + slopes, outputs + slopes))
        self._cov[:outputs, :outputs] = curves.people
        self._cov[outputs:, outputs:] = curves.slope_spread**2 * np.eye(slopes)
        self._draws = np.random.default_rng(0).standard_normal((DRAWS, outputs))
        # Style in lengths of the dial: 0 where it starts, 1 where it ends.
        along_dial = curves.dial[1][:, self._style] if len(curves.dial[0]) else self._limits[[self._style]]
        lowest = float(along_dial.min())
        self._scale = lowest, max(float(along_dial.max()) - lowest, 0.1)
        self._target = float((curves.level + curves.changes([first])[0].sum(0))[self._style])
        self._candidates = self._grid()

    def _grid(self) -> list[Knobs]:
        """Every combination of values of the movable knobs that may be worth trying."""
        axes = [self._axis(name) for name in self._movable]
        combinations = [dict(zip(self._movable, values, strict=True)) for values in product(*axes)]
        return [self._with_enough_steps(replace(self.first, **values)) for values in combinations]  # type: ignore[arg-type]

    def _axis(self, name: str) -> list[float]:
        """The values of one knob, its first one always among them."""
        low, high = RANGE[name]
        first: float = getattr(self.first, name)
        if name in self.curves.effects:
            measured_at, changes = self.curves.effects[name]
            if np.ptp(changes, axis=0).max() == 0:  # it does nothing
                return [first]
            if name == "guidance_scale":  # no further than was measured
                high = min(high, float(measured_at[-1]))
        if name == "guidance_scale":
            high = max(first, high)
        values = [round(float(value), 3) for value in np.linspace(low, high, _GRID.get(name, 5))]
        # Few steps run at few different strengths: of those that act alike, one.
        acting: dict[float, tuple[float, Knobs]] = {}
        for value in values:
            knobs = self._with_enough_steps(replace(self.first, **{name: value}))  # type: ignore[arg-type]
            if knobs.steps >= 1:
                acting[effective(knobs, name)] = value, knobs
        return sorted({value for value, knobs in acting.values() if self._may_be_stylized(knobs, name)} | {first})

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

    def learn(self, knobs: Knobs, outputs: Mapping[str, float], reasons: Sequence[str]) -> None:
        """Take in one attempt.

        Args:
            knobs: Its knobs.
            outputs: Name -> what was measured.
            reasons: Of its rejection; empty when it was accepted.
        """
        features = self._features([knobs])[0]
        y = np.array([outputs[name] for name in self.curves.outputs]) - self.curves.level
        # The Kalman update of a linear regression: exact, one attempt at a time.
        innovation_cov = features @ self._cov @ features.T + self.curves.residual
        gain = np.linalg.solve(innovation_cov, features @ self._cov).T
        self._mean = self._mean + gain @ (y - features @ self._mean)
        self._cov = self._cov - gain @ features @ self._cov
        self._cov = (self._cov + self._cov.T) / 2
        self._last = knobs
        if not reasons:
            style = outputs[STYLE]
            self._best = style if self._best is None else max(style, self._best)
        # Off the style's statistics means too far, or not far enough.
        too_far = outputs[STYLE] >= self._target
        reasons = ["broken_keep" if r.startswith("not_stylized:") and too_far else r for r in reasons]
        self._bound(knobs, _directions(reasons))
        # The regression knows nothing of these reasons: at least one step further away.
        unmodeled = [r for r in reasons if r != "not_stylized" and r.partition(":")[0] != "identity_low"]
        if unmodeled:
            self._bound(next_knobs(knobs, unmodeled, self._fixed), _directions(unmodeled))

    def _bound(self, knobs: Knobs, directions: Mapping[str, float]) -> None:
        """From now on no knob is on the wrong side of `knobs`."""
        for name in self._movable:
            value = getattr(knobs, name)
            bounds = self._bounds[name]
            if directions[name] > 0:
                bounds[0] = max(bounds[0], value)
            elif directions[name] < 0:
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
        """Before anything is accepted: the best first of `left` attempts, bold at first and safe at last."""
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
        return int(np.argmax(worst - 1e-3 * moved))

    def forecast(self, knobs: Knobs) -> Forecast:
        """What is expected of an attempt with these knobs."""
        return self._outlook([knobs]).forecast(0)

    def _allowed(self) -> list[Knobs]:
        """The candidates within the bounds, or the one that is nearest to them."""
        near = self._candidates
        if not self.curves.measured:  # guesses are not followed far
            near = [k for k in near if all(self._steps_to(k, name) <= _CAREFUL for name in self._movable)] or near
        inside = [knobs for knobs in near if self._is_inside(knobs)]
        if not inside and near is not self._candidates:
            inside = [knobs for knobs in self._candidates if self._is_inside(knobs)]
        # Opposite reasons, or a bound between two candidates: nearest to the bounds instead.
        return inside or [min(near, key=self._outside)]

    def _is_inside(self, knobs: Knobs) -> bool:
        bounds = {name: self._bounds[name] for name in self._movable}
        return all(low - 1e-6 <= getattr(knobs, name) <= high + 1e-6 for name, (low, high) in bounds.items())

    def _outside(self, knobs: Knobs) -> float:
        total = 0.0
        for name in self._movable:
            low, high = self._bounds[name]
            value = getattr(knobs, name)
            total += max(0.0, low - value, value - high) / STEP[name]
        return total

    def _steps_to(self, knobs: Knobs, name: str) -> float:
        return abs(float(getattr(knobs, name)) - float(getattr(self._last, name))) / STEP[name]

    def _distance(self, knobs: Knobs) -> float:
        """Steps of all knobs from those of the last attempt."""
        return sum(self._steps_to(knobs, name) for name in self._movable)

    def _in_lengths(self, style: np.ndarray) -> np.ndarray:
        lowest, length = self._scale
        return (style - lowest) / length

    def _features(self, knobs: Sequence[Knobs]) -> np.ndarray:
        """(K, m, m + m d): what each coefficient (levels, then knob by knob) adds to each output."""
        changes = self.curves.changes(knobs)
        count, d, m = changes.shape
        features = np.zeros((count, m, m + m * d))
        diagonal = np.arange(m)
        features[:, diagonal, diagonal] = 1
        for j in range(d):
            features[:, diagonal, m + j * m + diagonal] = changes[:, j]
        return features

    def _outlook(self, knobs: Sequence[Knobs]) -> _Outlook:
        features = self._features(knobs)
        mean = self.curves.level + features @ self._mean
        cov = features @ self._cov @ features.transpose(0, 2, 1) + self.curves.residual
        jitter = 1e-9 * np.eye(cov.shape[1])
        draws = mean[:, None] + self._draws @ np.linalg.cholesky(cov + jitter).transpose(0, 2, 1)
        passed = (draws >= self._limits).all(-1)
        return _Outlook(chance=passed.mean(1), style=mean[:, self._style], draws=draws, passed=passed)
