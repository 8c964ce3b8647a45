"""What a plan will come to: attempts, time and disk, predicted from rates that were measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from portrait.campaign.ledger import Ledger
from portrait.campaign.plan import Plan
from portrait.errors import InputError, SettingsError
from portrait.images import write_json
from portrait.intervals import wilson
from portrait.judge.thresholds import calibration_table
from portrait.paths import cache_dir
from portrait.recipes.recipe import Recipe
from portrait.settings import KNOB_SETTINGS, Settings

_LEAST = 20
"""So many jobs of a style make its measured rate count before the calibration's."""
_MOST = 2000
"""So many jobs of a recipe are looked at."""
_ALSO = ("frame", "prompt", "negative_prompt", *KNOB_SETTINGS)
"""Settings besides the dial and `far` that move the first attempt at a picture."""
_UNSEEN = (0.7, 0.05, 0.98)
"""A style that nobody measured: a rate, and how little is known of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """One recipe and style. `accept` is the share of first attempts that pass, (value, low, high); `source` says where it
    comes from. `attempts` are per picture, in the same form."""

    recipe: str
    style: str
    jobs: int
    accept: tuple[float, float, float]
    attempts: tuple[float, float, float]
    source: str


def forecast(plan: Plan, recipes: Mapping[str, Recipe], measured: Mapping[str, Any]) -> list[Forecast]:
    """Expected attempts per style: those of a geometric trial that ends at `max_attempts`.

    The rate of first attempts is that of the runs measured on this machine, or the calibration's at the plan's FAR.
    Retries move the knobs towards what was missing, so the true number is a little lower.
    """
    most, found = plan.settings.max_attempts, []
    per_style: dict[tuple[str, str], int] = {}
    for picture in plan.pictures(recipes):
        per_style[picture.recipe, picture.style] = per_style.get((picture.recipe, picture.style), 0) + 1
    for (recipe, style), jobs in per_style.items():
        accept, source = _rate(recipe, style, plan, measured)
        value, low, high = (_expected(p, most) for p in accept)
        found.append(
            Forecast(recipe=recipe, style=style, jobs=jobs, accept=accept, attempts=(value, high, low), source=source)
        )
    return found


def _expected(p: float, most: int) -> float:
    return most if p <= 0 else (1 - (1 - p) ** most) / p


def _rate(recipe: str, style: str, plan: Plan, measured: Mapping[str, Any]) -> tuple[tuple[float, float, float], str]:
    counts = measured.get(recipe, {}).get("first_attempts", {}).get(_key(style, asdict(plan.settings)))
    if counts and counts[1] >= _LEAST:
        return (counts[0] / counts[1], *wilson(*counts)), "measured here"
    custom = Path(plan.settings.thresholds) if plan.settings.thresholds else None
    with suppress(KeyError, TypeError, SettingsError):
        table = calibration_table(recipe, custom) or {}
        rate = table["styles"][style]["first_attempt_accepted"][f"{plan.settings.far:g}"]
        return (rate["rate"], *rate["interval"]), "calibration"
    return _UNSEEN, "a guess: nothing was measured"


def _key(style: str, settings: Mapping[str, Any]) -> str:
    """What a rate of first attempts is one of: the style, the false accept rate, the dial, and whatever else was set
    that moves a first attempt, as a digest."""
    usual = Settings()
    own = {name: settings[name] for name in _ALSO if settings[name] != getattr(usual, name)}
    more = f", {hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:8]}" if own else ""
    return f"{style} at {settings['far']:g}, balance {settings['balance']:g}{more}"


def picture_bytes(recipe: Recipe, kind: str, measured: Mapping[str, Any]) -> float:
    """Bytes of one picture with its record: as measured here, else of a busy picture of that size and kind."""
    known = measured.get(recipe.name, {}).get("bytes", {}).get(kind)
    per_pixel = {"png": 1.9, "jpg": 0.6, "webp": 0.35}[kind]
    return float(known or recipe.resolution**2 * per_pixel + 12_000)


def _file() -> Path:
    return cache_dir() / "rates.json"


def measured_rates() -> dict[str, Any]:
    """Recipe -> seconds per attempt and worker, first attempts that passed per style, bytes per picture."""
    try:
        table = json.loads(_file().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}


def remember(ledger: Ledger, seconds_per_attempt: Mapping[str, float]) -> None:
    """Keep what a run measured of some recipes, for the plans after it. A cache that cannot be written is no error."""
    settings = (ledger.get("snapshot") or {}).get("settings")
    first: dict[tuple[str, str], list[int]] = {}
    sizes: dict[str, list[int]] = {}
    seen: dict[str, int] = {}
    kind = "png"
    for job in ledger.jobs("accepted", "rejected") if seconds_per_attempt else ():
        seen[job.picture.recipe] = seen.get(job.picture.recipe, 0) + 1
        if job.picture.recipe not in seconds_per_attempt or seen[job.picture.recipe] > _MOST:
            continue
        attempts, done = ledger.attempts(job.id), ledger.result(job.id)
        if not attempts or not done or not settings:
            continue
        entry = first.setdefault((job.picture.recipe, _key(job.picture.style, settings)), [0, 0])
        entry[0] += bool(attempts[0].accepted)
        entry[1] += 1
        path = ledger.folder / str(job.output)
        with suppress(OSError):  # pictures and records may be gone
            if len(sizes.setdefault(job.picture.recipe, [])) < 200:
                sizes[job.picture.recipe].append(path.stat().st_size + path.with_suffix(".json").stat().st_size)
                kind = path.suffix[1:]
    table = measured_rates()
    for recipe, seconds in seconds_per_attempt.items():
        entry_of = table.setdefault(recipe, {})
        entry_of["seconds_per_attempt"] = round(seconds, 4)
        rates = entry_of.setdefault("first_attempts", {})
        rates |= {key: counts for (name, key), counts in first.items() if name == recipe}
        if sizes.get(recipe):
            entry_of.setdefault("bytes", {})[kind] = round(sum(sizes[recipe]) / len(sizes[recipe]))
    with suppress(InputError, OSError):
        write_json(_file(), table)
