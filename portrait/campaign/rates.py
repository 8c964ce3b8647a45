"""Estimate the attempts, time and disk space of a plan from measured rates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

from portrait.campaign.ledger import Ledger
from portrait.campaign.plan import Plan
from portrait.errors import InputError, SettingsError
from portrait.files import json_sha256, write_json
from portrait.intervals import wilson
from portrait.judge.thresholds import calibration_table
from portrait.paths import cache_dir
from portrait.recipes.recipe import Recipe
from portrait.settings import KNOB_SETTINGS, Settings

_MIN_JOBS = 20
"""Number of jobs of a style from which its measured rate takes precedence over the calibration's."""
_MAX_JOBS = 2000
"""Number of jobs of a recipe that are examined."""
_MAX_FILES = 200
"""Number of pictures of a recipe whose size is examined."""
_MOVE_FIRST_ATTEMPTS = ("frame", "shift", "prompt", "negative_prompt", *KNOB_SETTINGS)
"""Settings besides the balance and `far` that affect the first attempt at a picture."""
_UNKNOWN_RATE = (0.7, 0.05, 0.98)
"""The assumed rate of a style that was never measured, and its range."""

Estimate = tuple[float, float, float]
"""Value, low, high."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The estimate for one recipe and style.

    `accept` is the share of first attempts that pass, `source` says where it comes from; `attempts` is per picture.
    """

    recipe: str
    style: str
    jobs: int
    accept: Estimate
    attempts: Estimate
    source: str


class MeasuredRates(BaseModel):
    """Rates of a recipe measured by runs on this machine.

    `seconds_per_attempt` is per worker; `first_attempts` maps a `_rate_key` to (number passed, number of all); `bytes` maps
    a format to the size of a picture with its record.
    """

    model_config = ConfigDict(frozen=True)

    seconds_per_attempt: float
    first_attempts: dict[str, tuple[int, int]] = {}
    bytes: dict[str, int] = {}


_RATES_FILE = TypeAdapter(dict[str, MeasuredRates])


def forecast(plan: Plan, recipes: Mapping[str, Recipe], measured: Mapping[str, MeasuredRates]) -> list[Forecast]:
    """Expected attempts per style, as independent trials until the first success, up to `max_attempts`.

    The success rate is that of first attempts in runs on this machine, or the calibration's at the plan's FAR. As retries
    adjust the knobs, the true number is a little lower.
    """
    jobs = Counter((picture.recipe, picture.style) for picture in plan.pictures(recipes))
    forecasts = []
    for (recipe, style), count in jobs.items():
        accept, source = _first_attempt_rate(recipe, style, plan, measured)
        tries = plan.settings.max_attempts
        value, high, low = ((1 - (1 - rate) ** tries) / rate if rate > 0 else tries for rate in accept)
        forecasts.append(
            Forecast(recipe=recipe, style=style, jobs=count, accept=accept, attempts=(value, low, high), source=source)
        )
    return forecasts


def _first_attempt_rate(
    recipe: str, style: str, plan: Plan, measured: Mapping[str, MeasuredRates]
) -> tuple[Estimate, str]:
    """The share of first attempts that are accepted, and where it comes from."""
    rates = measured.get(recipe)
    counts = rates and rates.first_attempts.get(_rate_key(style, plan.settings))
    if counts and counts[1] >= _MIN_JOBS:
        accepted, jobs = counts
        return (accepted / jobs, *wilson(accepted, jobs)), "measured here"
    with suppress(KeyError, SettingsError):  # an estimate can do without
        if table := calibration_table(recipe, plan.settings.thresholds):
            share = table.styles[style].first_attempt_accepted[plan.settings.far]
            return (share.rate, *share.interval), "calibration"
    return _UNKNOWN_RATE, "a guess: nothing was measured"


def _rate_key(style: str, settings: Settings) -> str:
    """The conditions that a rate of first attempts depends on.

    The style, the false accept rate, the balance, and a digest of all other settings that affect a first attempt.
    """
    chosen, default = asdict(settings), asdict(Settings())
    changed = {name: chosen[name] for name in _MOVE_FIRST_ATTEMPTS if chosen[name] != default[name]}
    key = f"{style} at {settings.far:g}, balance {settings.balance:g}"
    if not changed:
        return key
    return f"{key}, {json_sha256(changed)[:8]}"


def picture_bytes(recipe: Recipe, suffix: str, measured: Mapping[str, MeasuredRates]) -> float:
    """Bytes of one picture with its record: as measured here, else those of a detailed picture of that size and format."""
    rates = measured.get(recipe.name)
    measured_bytes = rates and rates.bytes.get(suffix)
    bytes_per_pixel = {"png": 1.9, "jpg": 0.6, "webp": 0.35}[suffix]
    return float(measured_bytes or recipe.resolution**2 * bytes_per_pixel + 12_000)


def rates_file() -> Path:
    """The file with the rates that were measured on this machine."""
    return cache_dir() / "rates.json"


def measured_rates() -> dict[str, MeasuredRates]:
    """The rates measured on this machine, by recipe; none if the file is missing or damaged."""
    try:
        return _RATES_FILE.validate_json(rates_file().read_bytes())
    except (OSError, ValueError):
        return {}


@dataclass(slots=True)
class _Measured:
    """A run's rates of one recipe; `first_attempts` maps a key to (number accepted, number of all)."""

    jobs: int = 0
    first_attempts: dict[str, tuple[int, int]] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    suffix: str = "png"

    def add_attempt(self, key: str, *, accepted: bool) -> None:
        before, count = self.first_attempts.get(key, (0, 0))
        self.first_attempts[key] = before + accepted, count + 1

    def add_file(self, picture: Path) -> None:
        if len(self.sizes) < _MAX_FILES:
            with suppress(OSError):  # pictures and records may have been removed
                self.sizes.append(picture.stat().st_size + picture.with_suffix(".json").stat().st_size)
                self.suffix = picture.suffix[1:]

    def bytes_per_picture(self) -> dict[str, int]:
        """The mean by the pictures' format; empty if no file is left."""
        return {self.suffix: round(sum(self.sizes) / len(self.sizes))} if self.sizes else {}


def remember(ledger: Ledger, settings: Settings, seconds_per_attempt: Mapping[str, float]) -> None:
    """Store a run's rates of some recipes for later plans with these settings. A cache that cannot be written is not an error."""
    if not seconds_per_attempt:
        return
    measured = _measure(ledger, settings, seconds_per_attempt)
    table = measured_rates()
    for recipe, seconds in seconds_per_attempt.items():
        run = measured[recipe]
        before = table.get(recipe)
        table[recipe] = MeasuredRates(
            seconds_per_attempt=round(seconds, 4),
            first_attempts=(before.first_attempts if before else {}) | run.first_attempts,
            bytes=(before.bytes if before else {}) | run.bytes_per_picture(),
        )
    with suppress(InputError, OSError):
        write_json(rates_file(), _RATES_FILE.dump_python(table))


def _measure(ledger: Ledger, settings: Settings, recipes: Mapping[str, float]) -> dict[str, _Measured]:
    """Measure first attempts and sizes of a run's pictures, by recipe."""
    measured = {recipe: _Measured() for recipe in recipes}
    for job in ledger.jobs("accepted", "rejected"):
        numbers = measured.get(job.picture.recipe)
        if numbers is None or numbers.jobs >= _MAX_JOBS:
            continue
        numbers.jobs += 1
        attempts = ledger.attempts(job.id)
        if attempts and job.output:
            numbers.add_attempt(_rate_key(job.picture.style, settings), accepted=attempts[0].accepted)
            numbers.add_file(ledger.folder / job.output)
    return measured
