"""Run a plan to its end: what is done stays done, however often the process is killed on the way."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from portrait.campaign.engines import Batch, Engine, PhotoFile, WorkItem, WorkResult
from portrait.campaign.enter import MISSING, enter_plan, load_recipes, note_environment, requeue, requeue_lost
from portrait.campaign.files import PLAN, before_file, is_there, make_folder, output_file
from portrait.campaign.keys import seed_of
from portrait.campaign.ledger import Counts, Ledger, LedgerJob
from portrait.campaign.lock import exclusive_lock
from portrait.campaign.plan import Plan
from portrait.campaign.rates import remember
from portrait.campaign.settle import finalize
from portrait.errors import CampaignError
from portrait.images import write_bytes
from portrait.paths import cpu_threads
from portrait.recipes.recipe import Recipe
from portrait.records.portrait import CampaignInfo, PortraitRecord

log = logging.getLogger(__name__)

BATCH = 8
"""Jobs of one person that are handed to a worker at once; Ctrl-C waits for a batch, kill -9 costs at most one."""
MAX_FAULTS = 5
"""Errors that need not be the photo's are one person's bad luck; met by so many people in a row they stop the run."""


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
        CampaignError: another process works on the folder; or `MAX_FAULTS` people in a row met an error that is not
            their photo's, a broken model or a full disk say: their jobs are left pending. Who meets one a second time
            has failed, and no longer stops the others.
        InputError: the folder cannot be made, or a file of it cannot be written.
        SettingsError, WeightsError: the plan, recipe or thresholds do not fit. Nothing was begun.
    """
    recipes, sources = load_recipes(plan)
    styles = {name: tuple(plan.styles_of(recipe)) for name, recipe in recipes.items()}
    make_folder(folder)
    with exclusive_lock(folder), Ledger.create(folder) as ledger:
        threads = plan.settings.threads or (ledger.get("environment") or {}).get("threads") or cpu_threads()
        plan = replace(plan, settings=replace(plan.settings, threads=threads))
        machine = engine(threads)
        try:
            found = {  # the first recipe last, so that its models are the ones that stay loaded
                name: machine.describe(replace(plan.settings, recipe=sources[name]), styles[name])
                for name in reversed(recipes)
            }
            weights = {name: found[name].recipe["weights"] for name in recipes}
            note_environment(ledger, next(iter(found.values())).environment)
            enter_plan(plan, recipes, {name: found[name].recipe for name in recipes}, ledger, accept_changes)
            write_bytes(folder / PLAN, (plan.text or "# this run was started from Python\n").encode())
            requeue(ledger, retry)
            requeue_lost(ledger)
            _drive(plan, recipes, sources, weights, ledger, machine, limit, batch, stop, on_progress)
        finally:
            machine.close()
        finalize(ledger)
        return ledger.counts()


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
    jobs: dict[int, LedgerJob] = {}
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
                    ledger.seen(found[0].picture.subject, {}, failure)
                continue
            jobs.update({job.id: job for job in found})
            yield Batch(
                items=tuple(_task(plan, recipes, sources, job) for job in found),
                photos=photos,
                weights=weights[found[0].picture.recipe],
            )

    def report(job: LedgerJob) -> None:
        nonlocal made
        made += 1
        spent = time.perf_counter() - begun
        on_progress(Progress(counts=ledger.counts(), made=made, seconds=spent, last=job.stem))

    def met(them: Sequence[LedgerJob], why: str) -> None:
        """An error that need not be the photo's; of too many people in a row it stops the run."""
        faults.update({job.id: job.picture.subject for job in them if job.id not in again})
        if len(set(faults.values())) >= MAX_FAULTS:
            ledger.set("faulted", sorted(again | faults.keys()))
            ledger.requeue(ids=list(faults))
            raise CampaignError(
                f"{MAX_FAULTS} people in a row met an error that need not be their photo's, the last of them this: "
                f"{why}. Their jobs are left pending; mend the cause, and start the same command again"
            )

    on_progress(Progress(counts=ledger.counts(), made=0, seconds=0.0))
    for result in machine.work(batches()):
        job = jobs.pop(result.item.id)
        attempts = _write(ledger, job, result, plan.settings.format)
        report(job)
        now, of = time.perf_counter(), spent.setdefault(job.picture.recipe, [0.0, 0])
        of[0], of[1], last = of[0] + now - last, of[1] + attempts, now
        if result.record is not None:
            faults.clear()
        elif result.fault:
            met([job], result.failure)
    remember(ledger, {recipe: s * machine.workers / tried for recipe, (s, tried) in spent.items() if tried >= 5})


def _photos(ledger: Ledger, job: LedgerJob) -> tuple[tuple[PhotoFile, ...], str, bool]:
    """The bytes that the key was made from, or why they are not to be had; and whether that may lie with the disk: a
    photo could be read when the run was started, and cannot now."""
    found = []
    for photo in ledger.photos(job.picture.subject):
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


def _task(plan: Plan, recipes: Mapping[str, Recipe], sources: Mapping[str, str], job: LedgerJob) -> WorkItem:
    picture = job.picture
    settings = plan.settings_of(recipes[picture.recipe], picture.style, picture.axes)
    seed = seed_of(job.key, job.round)
    return WorkItem(
        id=job.id, key=job.key, picture=picture, settings=replace(settings, recipe=sources[picture.recipe], seed=seed)
    )


def _write(ledger: Ledger, job: LedgerJob, made: WorkResult, kind: str) -> int:
    """Files first, each atomically, then the ledger; returns the number of attempts."""
    picture = job.picture
    if made.record is None:
        _fail(ledger, job, made.failure)
        ledger.seen(picture.subject, made.identity, made.failure if made.no_face else None)
        return 0
    record, folder = made.record, ledger.folder
    old = ledger.result(job.id)
    if made.before:
        write_bytes(folder / before_file(picture.subject, picture.recipe), made.before)
    ledger.seen(picture.subject, made.identity)
    if (
        old
        and is_there(ledger.folder, job.output)
        and not record.accepted
        and job.round
        and closeness(old.record) >= closeness(record)
    ):
        ledger.end(job, "rejected", attempts=record.attempts, reasons=old.record.reasons)  # the earlier one is nearer
        return len(record.attempts)
    output = output_file(job.stem, record.status, f".{kind}")
    campaign = CampaignInfo(
        key=job.key, subject=picture.subject, variant=picture.variant, axes=dict(picture.axes), round=job.round
    )
    record = record.model_copy(update={"output": output, "campaign": campaign})
    write_bytes(folder / output, made.encoded)
    write_bytes((folder / output).with_suffix(".json"), record.file_bytes())
    ledger.end(
        job,
        record.status,
        record=record,
        attempts=record.attempts,
        reasons=record.reasons,
        output=output,
        look=made.look,
        embeddings=made.embeddings,
    )
    return len(record.attempts)


def _fail(ledger: Ledger, job: LedgerJob, why: str) -> None:
    """End a job of which nothing came. A picture that an earlier round left keeps its verdict."""
    old = ledger.result(job.id)
    if old and is_there(ledger.folder, job.output):
        log.warning("%s could not be made again (%s); the earlier picture stays", job.stem, why)
        ledger.end(job, old.record.status, reasons=old.record.reasons)
    else:
        ledger.end(job, "failed", reasons=[why])


def closeness(record: PortraitRecord) -> tuple[int, float]:
    """How near a rejected picture came: fewer reasons first, then the worst of its margins to the judges' limits."""
    similarity = record.chosen_attempt.similarity
    margins = (similarity[judge] - threshold.value for judge, threshold in record.thresholds.items())
    return -len(record.reasons), min(margins, default=0.0)
