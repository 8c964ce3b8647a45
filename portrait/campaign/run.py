"""Run a plan to its end: what is done stays done, however often the process is killed on the way."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from portrait.campaign.engines import Batch, Engine, Made, PhotoFile, Task
from portrait.campaign.ledger import Counts, Job, Ledger, only_run
from portrait.campaign.plan import Plan, job_key, read_plan, seed_of, shared_ingredients
from portrait.campaign.rates import remember
from portrait.errors import CampaignError, PlanChangedError, SettingsError
from portrait.images import write_bytes, write_json
from portrait.recipes.recipe import Recipe, load_recipe
from portrait.runtime import cpu_threads

log = logging.getLogger(__name__)

PICTURES, BEFORE, PLAN = "pictures", "before", "campaign.toml"
BATCH = 8
"""Jobs of one person that are handed to a worker at once; Ctrl-C waits for a batch, kill -9 costs at most one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is, after each job. `rate` is in jobs a minute, `left` in seconds; None until something is known."""

    counts: Counts
    made: int
    seconds: float
    last: str = ""

    @property
    def rate(self) -> float | None:
        return 60 * self.made / self.seconds if self.made and self.seconds > 0 else None

    @property
    def left(self) -> float | None:
        return self.seconds / self.made * self.counts.pending if self.made else None

    @property
    def accept_rate(self) -> float | None:
        """Of the jobs whose photo could be used."""
        judged = self.counts.accepted + self.counts.rejected
        return self.counts.accepted / judged if judged else None


def run_campaign(
    plan: Plan,
    folder: Path,
    engine: Callable[[int], Engine],
    *,
    accept_changes: bool = False,
    limit: int = 0,
    batch: int = BATCH,
    stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Counts:
    """Make what the plan says and is not made yet.

    Every job is written as it ends: its picture and its record, each whole, then the ledger's row with all attempts, in
    one transaction. A process killed in between makes that job again, and the same picture.

    Args:
        plan: What to make.
        folder: Of the run; made if it is not there.
        engine: Makes the engine, given the threads that each worker shall use.
        accept_changes: Go on although the plan is another one than before; what it no longer names is dropped.
        limit: Make at most so many jobs now; 0 is no limit.
        batch: Jobs per batch.
        stop: Asked before each batch; True lets the batches in flight end, and no other begin.
        on_progress: Called after each job, and once before the first.

    Returns:
        The counts of the whole run, as they are now.

    Raises:
        PlanChangedError: the plan would make other pictures than the run was begun with; says which.
        CampaignError: another process works on the folder.
        SettingsError, WeightsError: the plan, recipe or thresholds do not fit. Nothing was begun.
    """
    recipes, sources = recipes_of(plan)
    styles = {name: tuple(plan.styles_of(recipe)) for name, recipe in recipes.items()}
    folder.mkdir(parents=True, exist_ok=True)
    with only_run(folder), Ledger.create(folder) as ledger:
        threads = plan.settings.threads or (ledger.get("environment") or {}).get("threads") or cpu_threads()
        plan = replace(plan, settings=replace(plan.settings, threads=threads))
        machine = engine(threads)
        try:
            found = {  # the first recipe last, so that its models are the ones that stay loaded
                name: machine.describe(replace(plan.settings, recipe=sources[name]), styles[name])
                for name in reversed(recipes)
            }
            weights = {name: found[name].recipe["weights"] for name in recipes}
            _note_environment(ledger, next(iter(found.values())).environment)
            _enter(plan, recipes, {name: found[name].recipe for name in recipes}, ledger, accept_changes)
            write_bytes(folder / PLAN, (plan.text or "# this run was started from Python\n").encode())
            _requeue_lost(ledger)
            _drive(plan, recipes, sources, weights, ledger, machine, limit, batch, stop, on_progress)
        finally:
            machine.close()
        return ledger.counts()


def recipes_of(plan: Plan) -> tuple[dict[str, Recipe], dict[str, str]]:
    """The plan's recipes by their own names, and what the plan calls each: the same, or a TOML file."""
    loaded = {text: load_recipe(text) for text in plan.recipes}
    sources = {recipe.name: text for text, recipe in loaded.items()}
    if len(sources) < len(loaded):
        raise SettingsError(f"two of the recipes {', '.join(plan.recipes)} have one name")
    return {recipe.name: recipe for recipe in loaded.values()}, sources


def requeue(folder: Path, *, rejected: bool = False, failed: bool = False) -> int:
    """Make rejected jobs (from new seeds) or failed ones (as they were) pending again; returns how many."""
    with only_run(folder), Ledger.open(folder) as ledger:
        count = ledger.requeue(states=("rejected",), new_round=True) if rejected else 0
        return count + (ledger.requeue(states=("failed",)) if failed else 0)


def plan_of(folder: Path) -> Plan:
    """The plan that a run was started with, its paths seen from where the plan file lay."""
    with Ledger.open(folder) as ledger:
        source = ledger.get("plan_path")
    if not source or not Path(source).is_file():
        raise CampaignError(f"the plan of {folder} is no longer at {source}; name the plan file, and the run with -o")
    return read_plan(Path(source))


def _note_environment(ledger: Ledger, now: dict[str, Any]) -> None:
    before = ledger.get("environment")
    if before is None:
        ledger.set("environment", now)
    elif before != now:
        log.warning(
            "this run was begun with other libraries or another processor; pictures made from now on may differ from the "
            "earlier ones by rounding: %s",
            ", ".join(_differences(before, now)),
        )


def _enter(
    plan: Plan, recipes: Mapping[str, Recipe], found: Mapping[str, Any], ledger: Ledger, accept_changes: bool
) -> None:
    """Put the plan's people and jobs into the ledger; refuse a plan that would change what was begun."""
    photos = {person.name: [_photo_digest(path) for path in person.photos] for person in plan.people}
    _require_different(photos)
    shared = shared_ingredients(plan.settings)
    jobs = [(job_key(slot, shared, found[slot.recipe], photos[slot.subject]), slot) for slot in plan.slots(recipes)]
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
    """SHA-256 of a photo's bytes; `missing` for one that cannot be read, which fails when its turn comes."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return f"missing:{path.resolve()}"
    return digest.hexdigest()


def _require_different(photos: Mapping[str, list[str]]) -> None:
    """One photo under two names would make one person an impostor of themselves."""
    first: dict[str, str] = {}
    for name, digests in photos.items():
        if (other := first.setdefault(digests[0], name)) != name and not digests[0].startswith("missing:"):
            raise SettingsError(f"{name} and {other} are the same photo; name each person once")


def _requeue_lost(ledger: Ledger) -> None:
    """Jobs whose picture is no longer there are made again."""
    lost = [
        job.id
        for job in ledger.jobs("accepted", "rejected")
        if not (job.output and (ledger.folder / job.output).is_file())
    ]
    if lost and ledger.get("pruned"):  # rejected pictures were removed on purpose
        lost = [job.id for job in ledger.jobs("accepted") if job.id in set(lost)]
    if lost:
        log.warning("%d pictures of this run are no longer there and are made again", len(lost))
        ledger.requeue(ids=lost)


def _drive(
    plan: Plan,
    recipes: Mapping[str, Recipe],
    sources: Mapping[str, str],
    weights: Mapping[str, Mapping[str, str]],
    ledger: Ledger,
    machine: Engine,
    limit: int,
    size: int,
    stop: Callable[[], bool],
    on_progress: Callable[[Progress], None],
) -> None:
    begun, made, tried = time.perf_counter(), 0, 0
    jobs: dict[int, Job] = {}

    def batches() -> Iterator[Batch]:
        place, given = -1, 0
        while not stop() and not (plan.budget.hours and time.perf_counter() - begun >= 3600 * plan.budget.hours):
            if plan.budget.attempts and ledger.counts().attempts >= plan.budget.attempts:
                return
            most = min(size, limit - given) if limit else size
            found = ledger.next_batch(place, most) if most > 0 else []
            if not found:
                return
            place, given = found[-1].place, given + len(found)
            photos, failure = _photos(ledger, found[0])
            if failure:
                for job in found:
                    ledger.end(job, "failed", reasons=[failure])
                    ledger.seen(job.slot.subject, None, failure)
                    report(job)
                continue
            jobs.update({job.id: job for job in found})
            yield Batch(
                tasks=tuple(_task(plan, recipes, sources, job) for job in found),
                photos=photos,
                weights=weights[found[0].slot.recipe],
            )

    def report(job: Job) -> None:
        nonlocal made
        made += 1
        spent = time.perf_counter() - begun
        on_progress(Progress(counts=ledger.counts(), made=made, seconds=spent, last=job.stem))

    on_progress(Progress(counts=ledger.counts(), made=0, seconds=0.0))
    for result in machine.work(batches()):
        job = jobs.pop(result.task.id)
        tried += _write(ledger, job, result, plan.settings.format)
        report(job)
    if tried >= 5:
        remember(ledger, (time.perf_counter() - begun) * machine.workers / tried)


def _photos(ledger: Ledger, job: Job) -> tuple[tuple[PhotoFile, ...], str]:
    """The bytes that the key was made from, or why they are not to be had."""
    found = []
    for photo in ledger.photos(job.slot.subject):
        path = Path(photo["path"])
        try:
            data = path.read_bytes()
        except OSError as error:
            return (), f"cannot read {path}: {error.strerror or error}"
        if hashlib.sha256(data).hexdigest() != photo["sha256"]:
            return (), f"{path} has changed since this run was started; start the run again"
        found.append(PhotoFile(path=str(path), sha256=photo["sha256"], data=data))
    return tuple(found), ""


def _task(plan: Plan, recipes: Mapping[str, Recipe], sources: Mapping[str, str], job: Job) -> Task:
    slot = job.slot
    settings = plan.settings_of(recipes[slot.recipe], slot.style, slot.axes)
    seed = seed_of(job.key, job.round)
    return Task(id=job.id, key=job.key, slot=slot, settings=replace(settings, recipe=sources[slot.recipe], seed=seed))


def _write(ledger: Ledger, job: Job, made: Made, kind: str) -> int:
    """Files first, each atomically, then the ledger; returns the number of attempts."""
    slot = job.slot
    if made.record is None:
        ledger.end(job, "failed", reasons=[made.failure])
        ledger.seen(slot.subject, made.identity, made.failure if made.no_face else None)
        return 0
    record, folder = made.record, ledger.folder
    state = str(record["status"])
    old = ledger.result(job.id)
    if made.before:
        write_bytes(folder / BEFORE / f"{slot.subject}-{slot.recipe}.jpg", made.before)
    ledger.seen(slot.subject, made.identity)
    there = bool(job.output) and (folder / str(job.output)).is_file()
    if old and there and state == "rejected" and job.round and closeness(old[0]) >= closeness(record):
        ledger.end(job, "rejected", attempts=record["attempts"], reasons=old[0]["reasons"])  # the earlier one is nearer
        return len(record["attempts"])
    name = f"{PICTURES}/{job.stem}" + ("" if state == "accepted" else "-rejected")
    output = f"{name}.{kind}"
    record["output"] = output
    record["campaign"] = {
        "key": job.key, "subject": slot.subject, "variant": slot.variant, "axes": dict(slot.axes), "round": job.round
    }  # fmt: skip
    write_bytes(folder / output, made.picture)
    write_json(folder / f"{name}.json", record)
    ledger.end(
        job,
        state,
        record=record,
        attempts=record["attempts"],
        reasons=record["reasons"],
        output=output,
        look=made.look,
        embeddings=made.embeddings,
    )
    if state == "accepted":
        for stale in (f".{kind}", ".json"):
            with suppress(OSError):
                (folder / f"{name}-rejected{stale}").unlink(missing_ok=True)
    return len(record["attempts"])


def closeness(record: Mapping[str, Any]) -> tuple[int, float]:
    """How near a rejected picture came: fewer reasons first, then the worst of its margins to the judges' limits."""
    attempt = record["attempts"][record["chosen"]]
    margins = (attempt["similarity"][name] - limit["value"] for name, limit in record["thresholds"].items())
    return -len(record["reasons"]), min(margins, default=0.0)


def free_bytes(folder: Path) -> int:
    """Free space where the run's folder is or will be."""
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
