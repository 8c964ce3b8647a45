"""Early stop: give a hopeless attempt up part-way, from the decoded estimate of the finished picture.

`eval/preview.py` measures how well the preview's likeness predicts the final one, chooses the cut by cost, and
writes `NAME.preview.json` beside the recipe. Where the measurement says that looking does not pay, or where there
is none, nothing is looked at.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from math import erf, sqrt
from typing import Any

from portrait.errors import SettingsError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresight:
    """When to look, and how the final likeness follows from what is seen.

    Args:
        share: Of the denoising steps after which the preview is taken, in (0, 1).
        lines: Judge (or `style_on_face`) -> (intercept, slope, deviation) of the final value over the preview's.
        least_chance: An attempt is given up when a judge's chance to pass falls below this.
    """

    share: float
    lines: dict[str, tuple[float, float, float]]
    least_chance: float

    def step_of(self, total: int) -> int | None:
        """The step (from 1) after which to look, of `total`; None where there is no step between."""
        step = round(self.share * total)
        return step if 1 <= step < total else None

    def predicted(self, seen: Mapping[str, float]) -> dict[str, float]:
        """The expected final values of what was seen in the preview."""
        return {n: self.lines[n][0] + self.lines[n][1] * v if n in self.lines else v for n, v in seen.items()}

    def chance(self, judge: str, seen: float, least: float) -> float:
        """The chance that the finished picture reaches `least`, by a normal error of the line."""
        intercept, slope, deviation = self.lines[judge]
        return 0.5 * (1 + erf((intercept + slope * seen - least) / (max(deviation, 1e-6) * sqrt(2))))

    def doubted(self, seen: Mapping[str, float], thresholds: Mapping[str, float]) -> list[str]:
        """The judges that would very likely reject the finished picture."""
        return [n for n, least in thresholds.items() if self.chance(n, seen[n], least) < self.least_chance]


def foresight_for(recipe: str, weights: Mapping[str, str]) -> Foresight | None:
    """The measured cut of a recipe; None where there is none, it does not pay, or it is of other weights.

    Raises:
        SettingsError: the file is damaged.
    """
    path = resources.files("portrait.recipes") / f"{recipe}.preview.json"
    if not path.is_file():
        return None
    table: dict[str, Any] = json.loads(path.read_text("utf-8"))
    try:
        chosen = table["chosen"]
        if chosen is None or dict(table["weights"]) != dict(weights):
            return None
        lines = {name: (float(a), float(b), float(c)) for name, (a, b, c) in chosen["lines"].items()}
        return Foresight(share=float(chosen["share"]), lines=lines, least_chance=float(chosen["least_chance"]))
    except (KeyError, TypeError, ValueError) as error:
        raise SettingsError(f"{path} is damaged: {error!r}") from None
