"""Run a plan to its end: what is done stays done, however often the process is killed on the way."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from portrait.campaign.engines import Batch, Engine, Made, PhotoFile, Task
from portrait.campaign.ledger import Counts, Job, Ledger, make_folder, only_run
from portrait.campaign.plan import Plan, Slot, job_key, read_plan, seed_of, shared_ingredients
from portrait.campaign.rates import remember
from portrait.errors import CampaignError, InputError, PlanChangedError, SettingsError
from portrait.images import write_bytes, write_json
from portrait.judge.gallery import Crowd, Nearest
from portrait.recipes.load import load_recipe
from portrait.recipes.recipe import Recipe
from portrait.runtime import cpu_threads

log = logging.getLogger(__name__)

MISSING = "missing:"
"""Begins what stands for the SHA-256 of a photo that cannot be read."""
PICTURES, BEFORE, PLAN = "pictures", "before", "campaign.toml"
BATCH = 8
"""Jobs of one person that are handed to a worker at once; Ctrl-C waits for a batch, kill -9 costs at most one."""
MOST_FAULTS = 5
"""Errors that need not be the photo's are one person's bad luck; met by so many people in a row they stop the run."""
_CHUNK = 500
"""Pictures that are judged against everybody else at once."""


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
    retry: Collection[str] = (),
    limit: int = 0,
    batch: int = BATCH,
    stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Counts:
    """Make what the plan says and is not made yet.

    Every job is written as it ends: its picture and its record, each whole, then the ledger's row with all attempts, in
    one transaction. A process killed in between makes that job again, and the same picture. At the end every picture is
    judged against everybody else of the run, so that the verdict depends on no order and no picture on other people.

    Args:
        plan: What to make.
        folder: Of the run; made if it is not there.
        engine: Makes the engine, given the threads that each worker shall use.
        accept_changes: Go on although the plan is another one than before; what it no longer names is dropped.
        retry: Make again what is `rejected` (from new seeds) or `failed` (as it was). While an earlier retry has jobs to
            make, these are made and no others are added.
        limit: Make at most so many jobs now; 0 is no limit.
        batch: Jobs per batch.
        stop: Asked before each batch; True lets the batches in flight end, and no other begin.
        on_progress: Called after each job, and once before the first.

    Returns:
        The counts of the whole run, as they are now.

    Raises:
        PlanChangedError: the plan would make other pictures than the run was begun with; says which.
        CampaignError: another process works on the folder; or `MOST_FAULTS` people in a row met an error that is not
            their photo's, a broken model or a full disk say: their jobs are left pending. Who meets one a second time
            has failed, and no longer stops the others.
        InputError: the folder cannot be made, or a file of it cannot be written.
        SettingsError, WeightsError: the plan, recipe or thresholds do not fit. Nothing was begun.
    """
    recipes, sources = recipes_of(plan)
    styles = {name: tuple(plan.styles_of(recipe)) for name, recipe in recipes.items()}
    make_folder(folder)
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
            _requeue(ledger, retry)
            _requeue_lost(ledger)
            _drive(plan, recipes, sources, weights, ledger, machine, limit, batch, stop, on_progress)
        finally:
            machine.close()
        settle(ledger)
        return ledger.counts()


def recipes_of(plan: Plan) -> tuple[dict[str, Recipe], dict[str, str]]:
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


def settle(ledger: Ledger) -> None:
    """Judge the pictures of a run against everybody of it, if that was not done since a run last began."""
    if not ledger.get("settled"):
        _settle(ledger)
        ledger.set("settled", True)


def settle_run(folder: Path) -> bool:
    """Judge a run's pictures against everybody of it, if a run that was killed has not; whether they are judged now.

    They are not while another process works on the folder, or where it cannot be written to.

    Raises:
        CampaignError: the folder is no run.
    """
    with Ledger.open(folder) as ledger:
        if ledger.get("settled"):
            return True
    try:
        with only_run(folder), Ledger.open(folder) as ledger:
            settle(ledger)
    except (CampaignError, InputError) as error:
        log.info("%s is not settled: %s", folder, error)
        return False
    return True


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


def _require_own_files(jobs: Iterable[tuple[str, Slot]]) -> None:
    """No two jobs may be one in the ledger, or write to one file, also where a disk takes A for a."""
    taken: dict[str, Slot] = {}
    for key, slot in jobs:
        for name, what in ((key, "are the same picture"), (slot.stem.casefold(), "would be written to one file")):
            if (other := taken.setdefault(name, slot)) is not slot:
                raise SettingsError(
                    f"{_in_words(other)} and {_in_words(slot)} {what}; rename one, or leave it out of the plan"
                )


def _in_words(slot: Slot) -> str:
    return ", ".join([slot.subject, slot.recipe, slot.style, *(repr(text) for _, text in slot.axes)])


def _requeue(ledger: Ledger, retry: Collection[str]) -> None:
    if retry and (left := ledger.retrying()):
        log.warning("an earlier retry has %d jobs to make; these are made now, and no others are added", left)
        return
    if "rejected" in retry:
        _settle(ledger)  # a run that was killed may not have judged everybody
        ledger.requeue(states=("rejected",), new_round=True)
    if "failed" in retry:
        ledger.set("faulted", sorted({*(ledger.get("faulted") or []), *(job.id for job in ledger.jobs("failed"))}))
        ledger.requeue(states=("failed",))


def _requeue_lost(ledger: Ledger) -> None:
    """Jobs whose picture is no longer there are made again, but for rejected ones that were removed on purpose."""
    states = ("accepted",) if ledger.get("pruned") else ("accepted", "rejected")
    lost = [job.id for job in ledger.jobs(*states) if not _is_there(ledger, job)]
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
    begun = last = time.perf_counter()
    made = 0
    jobs: dict[int, Job] = {}
    spent: dict[str, list[float]] = {}  # recipe -> seconds, attempts
    faults: dict[int, str] = {}  # job -> subject, of the faults since the last picture
    again = set(ledger.get("faulted") or [])  # who met one before: it is theirs, and stops nobody else

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
            photos, failure, fault = _photos(ledger, found[0])
            if failure:
                for job in found:
                    _fail(ledger, job, failure)
                    report(job)
                if fault:
                    met(found, failure)
                else:
                    ledger.seen(found[0].slot.subject, {}, failure)
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

    def met(them: Sequence[Job], why: str) -> None:
        """An error that need not be the photo's; of too many people in a row it stops the run."""
        faults.update({job.id: job.slot.subject for job in them if job.id not in again})
        if len(set(faults.values())) >= MOST_FAULTS:
            ledger.set("faulted", sorted(again | faults.keys()))
            ledger.requeue(ids=list(faults))
            raise CampaignError(
                f"{MOST_FAULTS} people in a row met an error that need not be their photo's, the last of them this: "
                f"{why}. Their jobs are left pending; mend the cause, and start the same command again"
            )

    on_progress(Progress(counts=ledger.counts(), made=0, seconds=0.0))
    for result in machine.work(batches()):
        job = jobs.pop(result.task.id)
        attempts = _write(ledger, job, result, plan.settings.format)
        report(job)
        now, of = time.perf_counter(), spent.setdefault(job.slot.recipe, [0.0, 0])
        of[0], of[1], last = of[0] + now - last, of[1] + attempts, now
        if result.record is not None:
            faults.clear()
        elif result.fault:
            met([job], result.failure)
    remember(ledger, {recipe: s * machine.workers / tried for recipe, (s, tried) in spent.items() if tried >= 5})


def _photos(ledger: Ledger, job: Job) -> tuple[tuple[PhotoFile, ...], str, bool]:
    """The bytes that the key was made from, or why they are not to be had; and whether that may lie with the disk: a
    photo could be read when the run was started, and cannot now."""
    found = []
    for photo in ledger.photos(job.slot.subject):
        path = Path(photo["path"])
        try:
            data = path.read_bytes()
        except OSError as error:
            fault = not photo["sha256"].startswith(MISSING)
            return (), f"cannot read {path}: {error.strerror or error}", fault
        except MemoryError:
            return (), f"{path} is larger than the memory; use a smaller photo", False
        if hashlib.sha256(data).hexdigest() != photo["sha256"]:
            return (), f"{path} has changed since this run was started; start the run again", False
        found.append(PhotoFile(path=str(path), sha256=photo["sha256"], data=data))
    return tuple(found), "", False


def _task(plan: Plan, recipes: Mapping[str, Recipe], sources: Mapping[str, str], job: Job) -> Task:
    slot = job.slot
    settings = plan.settings_of(recipes[slot.recipe], slot.style, slot.axes)
    seed = seed_of(job.key, job.round)
    return Task(id=job.id, key=job.key, slot=slot, settings=replace(settings, recipe=sources[slot.recipe], seed=seed))


def _write(ledger: Ledger, job: Job, made: Made, kind: str) -> int:
    """Files first, each atomically, then the ledger; returns the number of attempts."""
    slot = job.slot
    if made.record is None:
        _fail(ledger, job, made.failure)
        ledger.seen(slot.subject, made.identity, made.failure if made.no_face else None)
        return 0
    record, folder = made.record, ledger.folder
    state = str(record["status"])
    old = ledger.result(job.id)
    if made.before:
        write_bytes(folder / before_file(slot.subject, slot.recipe), made.before)
    ledger.seen(slot.subject, made.identity)
    if old and _is_there(ledger, job) and state == "rejected" and job.round and closeness(old[0]) >= closeness(record):
        ledger.end(job, "rejected", attempts=record["attempts"], reasons=old[0]["reasons"])  # the earlier one is nearer
        return len(record["attempts"])
    output = record["output"] = _output(job, state, f".{kind}")
    record["campaign"] = {
        "key": job.key, "subject": slot.subject, "variant": slot.variant, "axes": dict(slot.axes), "round": job.round
    }  # fmt: skip
    write_bytes(folder / output, made.picture)
    write_json((folder / output).with_suffix(".json"), record)
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
    return len(record["attempts"])


def _fail(ledger: Ledger, job: Job, why: str) -> None:
    """End a job of which nothing came. A picture that an earlier round left keeps its verdict."""
    old = ledger.result(job.id)
    if old and _is_there(ledger, job):
        log.warning("%s could not be made again (%s); the earlier picture stays", job.stem, why)
        ledger.end(job, str(old[0]["status"]), reasons=old[0]["reasons"])
    else:
        ledger.end(job, "failed", reasons=[why])


def _is_there(ledger: Ledger, job: Job) -> bool:
    return bool(job.output) and (ledger.folder / str(job.output)).is_file()


def _output(job: Job, state: str, suffix: str) -> str:
    return f"{PICTURES}/{job.stem}{'' if state == 'accepted' else '-rejected'}{suffix}"


def before_file(subject: str, recipe: str) -> str:
    """Where the framed photo of a person lies in a run's folder."""
    return f"{BEFORE}/{subject}/{recipe}.jpg"


def _settle(ledger: Ledger) -> None:
    """Judge every picture against everybody else of the run, and leave one file of each job.

    Here, and not while a picture is made, because everybody must be known, and because a picture shall depend on its own
    photo alone. It can be done again at any time.
    """
    crowd = Crowd({person["name"]: person["embeddings"] for person in ledger.subjects()})
    place = -1
    while jobs := ledger.ended(place, _CHUNK):
        place = jobs[-1].place
        found = crowd.nearest([(job.slot.subject, ledger.seen_in(job.id)) for job in jobs])
        for job, nearest in zip(jobs, found, strict=True):
            output = job.output
            if nearest is not None and (nearest.margin > 0 or "swapped" in job.reasons):
                output = _judge_again(ledger, job, nearest)
            for state in ("accepted", "rejected") if output else ():
                stale = ledger.folder / _output(job, state, Path(str(output)).suffix)
                if stale != ledger.folder / str(output):
                    with suppress(OSError):
                        stale.unlink(missing_ok=True)
                        stale.with_suffix(".json").unlink(missing_ok=True)
    alike = crowd.alike()
    if [list(pair.subjects) for pair in alike] != (ledger.get("alike") or []):
        ledger.set("alike", [pair.subjects for pair in alike])
        if not alike:
            return
        shown = ", ".join(" and ".join(pair.subjects) for pair in alike[:3]) + (" and more" if alike[3:] else "")
        log.warning(
            "%d pairs of people look like one person to every judge, and their portraits are not judged against each "
            "other: %s; if they are one person, name them as one subject",
            len(alike),
            shown,
        )


def _judge_again(ledger: Ledger, job: Job, nearest: Nearest) -> str:
    """Put `swapped` into a verdict, or take it out; returns the output. Files first, then the ledger."""
    done = ledger.result(job.id)
    assert done is not None and job.output, job.stem  # noqa: PT018
    record, old = done[0], ledger.folder / job.output
    own = record["attempts"][record["chosen"]]["reasons"]
    reasons = ["swapped", *own] if nearest.margin > 0 and "swapped" not in own else list(own)
    who = {"subject": nearest.subject, "margin": nearest.margin} if nearest.margin > 0 else None
    if (list(job.reasons), record["campaign"].get("swapped")) != (reasons, who):
        record["status"] = "rejected" if reasons else "accepted"
        record["reasons"] = reasons
        record["output"] = _output(job, record["status"], old.suffix)
        if record["status"] == "accepted" and not old.is_file():  # pruned while it was rejected
            ledger.requeue(ids=[job.id])
            return job.output
        record["campaign"].pop("swapped", None)
        if who:
            record["campaign"]["swapped"] = who
        if record["output"] != job.output and old.is_file():
            write_bytes(ledger.folder / record["output"], old.read_bytes())
        write_json((ledger.folder / record["output"]).with_suffix(".json"), record)
        ledger.judge(job, record)
    return str(record["output"])


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
