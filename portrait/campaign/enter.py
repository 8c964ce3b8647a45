"""Enter a plan into the ledger of its run, and refuse plans that would change what the run was started with."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from portrait.campaign.files import is_there
from portrait.campaign.keys import Fingerprint, job_key, shared_ingredients
from portrait.campaign.ledger import FILE, Ledger
from portrait.campaign.people import moved_photos
from portrait.campaign.plan import Plan, PlannedPicture, read_plan
from portrait.campaign.settle import judge_against_everyone
from portrait.errors import CampaignError, PlanChangedError, SettingsError
from portrait.paths import is_within, require_regular_file
from portrait.recipes.load import load_recipe
from portrait.recipes.recipe import Recipe

log = logging.getLogger(__name__)

MISSING = "missing:"
"""Prefix of the placeholder for the SHA-256 of a photo that cannot be read."""
_MAX_CHANGES = 6
"""Maximum number of plan changes listed in a message."""


def load_recipes(plan: Plan) -> tuple[dict[str, Recipe], dict[str, str]]:
    """The plan's recipes by name, and how the plan refers to each: by the same name, or as a TOML file.

    Raises:
        SettingsError: two have the same name, or the plan sets a knob that one of them does not have.
    """
    loaded = {text: load_recipe(text) for text in plan.recipes}
    for recipe in loaded.values():
        recipe.check_settings(plan.settings.chosen())
    sources = {recipe.name: text for text, recipe in loaded.items()}
    if len(sources) < len(loaded):
        raise SettingsError(f"two of the recipes {', '.join(plan.recipes)} have the same name")
    return {recipe.name: recipe for recipe in loaded.values()}, sources


def plan_of(folder: Path) -> Plan:
    """The plan that a run was started with; its paths are relative to the plan file's folder.

    Raises:
        CampaignError: the plan file no longer exists; or it is neither in the run nor below the current folder, and so only
            named by a ledger that may be somebody else's.
    """
    with Ledger.open(folder) as ledger:
        source = ledger.meta().plan_path
    path = Path(source)
    if source and not is_within(path, (folder, Path.cwd())):
        raise CampaignError(
            f"the plan of {folder} is {source[:200]!r}, which is not below the current folder; if it is yours, add: "
            f"--plan {shlex.quote(source)[:200]}"
        )
    if not path.is_file():
        raise CampaignError(f"the plan of {folder} is no longer at {source!r}; say where it is now with --plan")
    return read_plan(path)


def note_environment(ledger: Ledger, environment: Mapping[str, object]) -> None:
    """Store what a run's pictures are made with, and warn if it differs from when the run was started."""
    before = ledger.meta().environment
    if before is None:
        ledger.set(environment=environment)
    elif before != environment:
        log.warning(
            "this run was started with other libraries or another processor; new pictures may differ from the earlier "
            "ones by rounding: %s",
            ", ".join(_differences(before, environment)),
        )


def enter_plan(
    plan: Plan,
    recipes: Mapping[str, Recipe],
    fingerprints: Mapping[str, Fingerprint],
    ledger: Ledger,
    *,
    accept_changes: bool,
) -> None:
    """Enter the plan's people and jobs into the ledger; refuse a plan that would change what the run was started with.

    Recipes and fingerprints are by the recipe's name. With `accept_changes`, what the plan no longer names is dropped.

    Raises:
        SettingsError: two people have the same photo, or two jobs the same picture or file.
        PlanChangedError: the plan would drop or change jobs of the run.
    """
    photos = {person.name: [_photo_digest(path) for path in person.photos] for person in plan.people}
    _require_different_photos(photos)
    shared = shared_ingredients(plan.settings)
    jobs = [
        (job_key(picture, shared, fingerprints[picture.recipe], photos[picture.subject]), picture)
        for picture in plan.pictures(recipes)
    ]
    _require_different_files(jobs)
    snapshot = {
        "settings": shared,
        "recipes": {name: fingerprints[name].recipe() | {"styles": fingerprints[name].styles} for name in recipes},
        "photos": photos,
        "variants": plan.variants,
        "axes": plan.axes,
    }
    if not accept_changes:
        now = {person.name: dict(zip(photos[person.name], person.photos, strict=True)) for person in plan.people}
        if lost := list(_lost_photos(ledger, now)):
            raise _not_found(ledger.folder, lost)
        _require_same_owners(ledger, photos)
        _require_same_jobs(ledger, {key for key, _ in jobs}, snapshot)
    with ledger.transaction():
        for person in plan.people:
            pairs = zip(person.photos, photos[person.name], strict=True)
            entries = [{"path": str(path.resolve()), "sha256": digest} for path, digest in pairs]
            ledger.put_subject(person.name, entries, person.columns)
        ledger.put_jobs(jobs)
        path = str(plan.path.resolve()) if plan.path else ""
        ledger.set(finalized=False, snapshot=snapshot, name=plan.name, plan_path=path, sizes=plan.sizes)


def require_photos_of(folder: Path) -> None:
    """Check that the photos of a run, if one was started in this folder, are where they were.

    Raises:
        CampaignError: some are not; the message counts them.
    """
    if not (folder / FILE).is_file():
        return
    with Ledger.open(folder) as ledger:
        begun = [path for _, path, _ in _photos_begun(ledger)]
    if lost := [str(path) for path in begun if not path.is_file()]:
        raise _not_found(folder, lost)


def _not_found(run: Path, photos: Iterable[str]) -> CampaignError:
    lost = list(dict.fromkeys(photos))
    more = " and others" if len(lost) > 3 else ""
    count = "1 photo" if len(lost) == 1 else f"{len(lost)} photos"
    return CampaignError(
        f"{count} of {run} not found: {', '.join(lost[:3])}{more}; mount the folder or put them back, and start the same "
        "command again"
    )


def _lost_photos(ledger: Ledger, now: Mapping[str, Mapping[str, Path]]) -> Iterator[str]:
    """Where the photos of the run that are neither where the plan has them nor elsewhere should be; `now` is person -> digest -> path."""
    places = {digest: path for paths in now.values() for digest, path in paths.items()}
    begun = _photos_begun(ledger)
    # Photos that are found tell where their folder is now, and so where the others should be.
    moved = {path.parent: places[digest].resolve().parent for _, path, digest in begun if digest in places}
    for name, path, digest in begun:
        if digest not in places:
            yield from _missing_paths(now.get(name), moved.get(path.parent, path.parent) / path.name)


def _photos_begun(ledger: Ledger) -> list[tuple[str, Path, str]]:
    """(person, path, SHA-256) of each photo that could be read when it was entered."""
    return [
        (person.name, Path(photo.path), photo.sha256)
        for person in ledger.subjects()
        for photo in person.photos
        if not photo.sha256.startswith(MISSING)
    ]


def _missing_paths(now: Mapping[str, Path] | None, expected: Path) -> list[str]:
    """The missing photos of a person; `now` is digest -> path, or None if the plan no longer names the person.

    A file with other bytes is a changed photo, which the comparison of plans reports.
    """
    if now is not None:
        return [str(path) for digest, path in now.items() if digest.startswith(MISSING)]
    return [] if expected.is_file() else [str(expected)]


def _require_same_owners(ledger: Ledger, photos: Mapping[str, Sequence[str]]) -> None:
    """Check that nobody has another person's former photo; warn about people who only changed their name."""
    before = {person.name: person.photos[0].sha256 for person in ledger.subjects()}
    moved = moved_photos(before, {name: digests[0] for name, digests in photos.items()})
    exchanged = [(name, old) for name, old in moved if name in before or old in photos]
    if exchanged:
        changes = ", ".join(f"{name} has the photo that {old} had" for name, old in exchanged[:_MAX_CHANGES])
        raise PlanChangedError(
            f"photos belong to other people than when {ledger.folder} was started: {changes}; put them back, or continue with "
            "--accept-changes, which makes their pictures again"
        )
    for name, old in moved:
        log.warning(
            "%s has the photo that %s had: it is taken for the same person, and the pictures are made again", name, old
        )


def _require_same_jobs(ledger: Ledger, keys: Collection[str], snapshot: Mapping[str, object]) -> None:
    """Check that every job of the run that did not fail is still in the plan."""
    jobs = ledger.keys()
    dropped = {key: state for key, (_, state) in jobs.items() if state != "failed" and key not in keys}
    if not dropped:
        return
    changes = _differences(ledger.meta().snapshot, json.loads(json.dumps(snapshot)))
    text = "; ".join(changes[:_MAX_CHANGES]) or "fewer people, styles or variants"
    if len(changes) > _MAX_CHANGES:
        text += f"; and {len(changes) - _MAX_CHANGES} more"
    finished = sum(state in ("accepted", "rejected") for state in dropped.values())
    raise PlanChangedError(
        f"the plan differs from the one that {ledger.folder} was started with: {text}. {len(dropped)} of {len(jobs)} "
        f"jobs would be dropped or become other pictures, {finished} of them finished. Start a separate run with -o, or "
        "continue with --accept-changes"
    )


def _differences(before: object, now: object, name: str = "") -> list[str]:
    """The differences between two nested values, as `name: before -> now`."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return [] if before == now else [f"{name}: {_short(before)} -> {_short(now)}"]
    differences = []
    for key in sorted({*before, *now}):
        path = f"{name} {key}".strip()
        if key not in now:
            differences.append(f"{path}: gone")
        elif key not in before:
            differences.append(f"{path}: new")
        else:
            differences += _differences(before[key], now[key], path)
    return differences


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:12] + "..."


def _photo_digest(path: Path) -> str:
    """SHA-256 of a photo's bytes; `MISSING` and the path if it cannot be read, so that it fails when its turn comes."""
    try:
        require_regular_file(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return f"{MISSING}{os.path.abspath(path)}"


def _require_different_photos(photos: Mapping[str, list[str]]) -> None:
    """Refuse one photo under two names: it would make a person their own impostor."""
    names: dict[str, str] = {}
    for name, (digest, *_) in photos.items():
        other = names.setdefault(digest, name)
        if other != name and not digest.startswith(MISSING):
            raise SettingsError(f"{name} and {other} are the same photo; name each person once")


def _require_different_files(jobs: Iterable[tuple[str, PlannedPicture]]) -> None:
    """Refuse two jobs with the same key or the same file, even on disks that ignore case."""
    by_key: dict[str, PlannedPicture] = {}
    by_file: dict[str, PlannedPicture] = {}
    for key, picture in jobs:
        for other, problem in (
            (by_key.setdefault(key, picture), "are the same picture"),
            (by_file.setdefault(picture.stem.casefold(), picture), "would be written to the same file"),
        ):
            if other is not picture:
                raise SettingsError(
                    f"{_describe(other)} and {_describe(picture)} {problem}; rename one, or leave it out of the plan"
                )


def _describe(picture: PlannedPicture) -> str:
    return ", ".join([picture.subject, picture.recipe, picture.style, *(repr(text) for _, text in picture.axes)])


def requeue(ledger: Ledger, retry: Collection[str]) -> None:
    """Make `rejected` (with new seeds) or `failed` jobs pending again, unless an earlier retry is unfinished."""
    if retry and (remaining := ledger.count_retries()):
        log.warning("an earlier retry still has %d jobs to do; these are done now, and no others are added", remaining)
        return
    if "rejected" in retry:
        judge_against_everyone(ledger)  # a run that was killed may not have judged everybody yet
        ledger.requeue(states=("rejected",), new_round=True)
    if "failed" in retry:
        ledger.set(faulted=sorted({*ledger.meta().faulted, *(job.id for job in ledger.jobs("failed"))}))
        ledger.requeue(states=("failed",))


def requeue_lost(ledger: Ledger) -> None:
    """Make jobs pending again whose picture is missing, except rejected ones that were removed on purpose."""
    states = ("accepted",) if ledger.meta().pruned else ("accepted", "rejected")
    lost = [job.id for job in ledger.jobs(*states) if not is_there(ledger.folder, job.output)]
    if lost:
        log.warning("%d pictures of this run are missing and will be made again", len(lost))
        ledger.requeue(ids=lost)
