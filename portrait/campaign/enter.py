"""Put a plan into the ledger of its run, and refuse one that would change what was begun."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from portrait.campaign.files import is_there
from portrait.campaign.keys import job_key, shared_ingredients
from portrait.campaign.ledger import Ledger
from portrait.campaign.plan import Plan, PlannedPicture, read_plan
from portrait.campaign.settle import judge_against_everyone
from portrait.errors import CampaignError, PlanChangedError, SettingsError
from portrait.recipes.load import load_recipe
from portrait.recipes.recipe import Recipe

log = logging.getLogger(__name__)

MISSING = "missing:"
"""Begins what stands for the SHA-256 of a photo that cannot be read."""


def load_recipes(plan: Plan) -> tuple[dict[str, Recipe], dict[str, str]]:
    """The plan's recipes by their own names, and what the plan calls each: the same, or a TOML file."""
    loaded = {text: load_recipe(text) for text in plan.recipes}
    sources = {recipe.name: text for text, recipe in loaded.items()}
    if len(sources) < len(loaded):
        raise SettingsError(f"two of the recipes {', '.join(plan.recipes)} have one name")
    return {recipe.name: recipe for recipe in loaded.values()}, sources


def plan_of(folder: Path) -> Plan:
    """The plan that a run was started with, its paths seen from where the plan file lay."""
    with Ledger.open(folder) as ledger:
        source = ledger.get("plan_path")
    if not source or not Path(source).is_file():
        raise CampaignError(f"the plan of {folder} is no longer at {source}; name the plan file, and the run with -o")
    return read_plan(Path(source))


def note_environment(ledger: Ledger, now: dict[str, Any]) -> None:
    before = ledger.get("environment")
    if before is None:
        ledger.set("environment", now)
    elif before != now:
        log.warning(
            "this run was begun with other libraries or another processor; pictures made from now on may differ from the "
            "earlier ones by rounding: %s",
            ", ".join(_differences(before, now)),
        )


def enter_plan(
    plan: Plan, recipes: Mapping[str, Recipe], found: Mapping[str, Any], ledger: Ledger, accept_changes: bool
) -> None:
    """Put the plan's people and jobs into the ledger; refuse a plan that would change what was begun."""
    photos = {person.name: [_photo_digest(path) for path in person.photos] for person in plan.people}
    _require_different(photos)
    shared = shared_ingredients(plan.settings)
    jobs = [
        (job_key(picture, shared, found[picture.recipe], photos[picture.subject]), picture)
        for picture in plan.pictures(recipes)
    ]
    _require_own_files(jobs)
    snapshot = {
        "settings": shared,
        "recipes": dict(found),
        "photos": photos,
        "variants": plan.variants,
        "axes": plan.axes,
    }
    known = ledger.keys()
    gone = {key: stem for key, (stem, state) in known.items() if state != "failed"} if known else {}
    for key, _ in jobs:
        gone.pop(key, None)
    if gone and not accept_changes:
        raise PlanChangedError(_explain(ledger, snapshot, known, gone))
    with ledger.transaction():
        ledger.put_subjects(
            (
                person.name,
                [
                    {"path": str(p.resolve()), "sha256": d}
                    for p, d in zip(person.photos, photos[person.name], strict=True)
                ],
                person.columns,
            )
            for person in plan.people
        )
        ledger.put_jobs(jobs)
        ledger.set("settled", False)
        ledger.set("snapshot", snapshot)
        ledger.set("name", plan.name)
        ledger.set("plan_path", str(plan.path.resolve()) if plan.path else "")
        ledger.set("sizes", list(plan.sizes))


def _explain(
    ledger: Ledger, snapshot: dict[str, Any], known: Mapping[str, tuple[str, str]], gone: Mapping[str, str]
) -> str:
    now = json.loads(json.dumps(snapshot))
    changes = _differences(ledger.get("snapshot") or {}, now)
    made = sum(known[key][1] in ("accepted", "rejected") for key in gone)
    shown = "; ".join(changes[:6]) + (f"; and {len(changes) - 6} more" if len(changes) > 6 else "")
    return (
        f"the plan is not the one that {ledger.folder} was begun with: {shown or 'fewer people, styles or variants'}. "
        f"{len(gone)} of {len(known)} jobs would be dropped or other pictures, {made} of them are made. Name another "
        "folder with -o for a run of its own, or go on with --accept-changes"
    )


def _differences(before: Any, now: Any, name: str = "") -> list[str]:
    """What differs between two nested values, as `name: before -> now`."""
    if isinstance(before, dict) and isinstance(now, dict):
        found = []
        for key in sorted({*before, *now}):
            path = f"{name} {key}".strip()
            if key not in now:
                found.append(f"{path}: gone")
            elif key not in before:
                found.append(f"{path}: new")
            else:
                found += _differences(before[key], now[key], path)
        return found
    return [] if before == now else [f"{name}: {_short(before)} -> {_short(now)}"]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:12] + "..."


def _photo_digest(path: Path) -> str:
    """SHA-256 of a photo's bytes; `MISSING` and its place for one that cannot be read, which fails when its turn comes."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return f"{MISSING}{path.resolve()}"
    return digest.hexdigest()


def _require_different(photos: Mapping[str, list[str]]) -> None:
    """One photo under two names would make one person an impostor of themselves."""
    first: dict[str, str] = {}
    for name, digests in photos.items():
        if (other := first.setdefault(digests[0], name)) != name and not digests[0].startswith(MISSING):
            raise SettingsError(f"{name} and {other} are the same photo; name each person once")


def _require_own_files(jobs: Iterable[tuple[str, PlannedPicture]]) -> None:
    """No two jobs may be one in the ledger, or write to one file, also where a disk takes A for a."""
    taken: dict[str, PlannedPicture] = {}
    for key, picture in jobs:
        for name, what in ((key, "are the same picture"), (picture.stem.casefold(), "would be written to one file")):
            if (other := taken.setdefault(name, picture)) is not picture:
                raise SettingsError(
                    f"{_in_words(other)} and {_in_words(picture)} {what}; rename one, or leave it out of the plan"
                )


def _in_words(picture: PlannedPicture) -> str:
    return ", ".join([picture.subject, picture.recipe, picture.style, *(repr(text) for _, text in picture.axes)])


def requeue(ledger: Ledger, retry: Collection[str]) -> None:
    if retry and (left := ledger.retrying()):
        log.warning("an earlier retry has %d jobs to make; these are made now, and no others are added", left)
        return
    if "rejected" in retry:
        judge_against_everyone(ledger)  # a run that was killed may not have judged everybody
        ledger.requeue(states=("rejected",), new_round=True)
    if "failed" in retry:
        ledger.set("faulted", sorted({*(ledger.get("faulted") or []), *(job.id for job in ledger.jobs("failed"))}))
        ledger.requeue(states=("failed",))


def requeue_lost(ledger: Ledger) -> None:
    """Jobs whose picture is no longer there are made again, but for rejected ones that were removed on purpose."""
    states = ("accepted",) if ledger.get("pruned") else ("accepted", "rejected")
    lost = [job.id for job in ledger.jobs(*states) if not is_there(ledger.folder, job.output)]
    if lost:
        log.warning("%d pictures of this run are no longer there and are made again", len(lost))
        ledger.requeue(ids=lost)
