"""Run a plan to its end: finished jobs stay finished, however often the process is killed on the way."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from portrait.campaign.engines import Engine
from portrait.campaign.enter import MISSING, enter_plan, load_recipes, note_environment, requeue, requeue_lost
from portrait.campaign.files import PLAN, leftovers_of
from portrait.campaign.keys import seed_of
from portrait.campaign.ledger import Counts, Ledger, LedgerJob
from portrait.campaign.lock import exclusive_lock
from portrait.campaign.plan import Plan
from portrait.campaign.rates import remember
from portrait.campaign.settle import finalize
from portrait.campaign.worker import Batch, Drawn, PhotoFile, WorkItem, WorkResult
from portrait.campaign.write import write_failure, write_result
from portrait.errors import CampaignError
from portrait.files import write_bytes
from portrait.paths import cpu_threads, prove_writable, require_regular_file
from portrait.recipes.recipe import Recipe
from portrait.records.portrait import PortraitRecord

log = logging.getLogger(__name__)

BATCH_SIZE = 8
"""Jobs of one person that are given to a worker at a time; Ctrl-C waits for a batch, kill -9 costs at most one."""
MAX_FAULTS = 5
"""Consecutive subjects that fail for a reason other than their photo before the run aborts."""
_MIN_ATTEMPTS_TIMED = 5
"""Number of attempts of a recipe from which its speed is worth storing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress of a run after each job. `rate` is in jobs per minute, `left` in seconds; None until known."""

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
    start_engine: Callable[[int], Engine],
    *,
    accept_changes: bool = False,
    retry: Collection[str] = (),
    limit: int = 0,
    batch: int = BATCH_SIZE,
    stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Counts:
    """Make all pictures of the plan that are not made yet.

    Every job is written as it ends: its picture and its record, each completely, then the ledger's row with all attempts, in
    one transaction. If the process is killed in between, that job is made again, with the same picture. At the end every
    picture is judged against everybody else in the run, so verdicts do not depend on the order, nor pictures on other
    people.

    Args:
        plan: The plan.
        folder: The run's folder; created if missing.
        start_engine: Starts the engine, given the number of threads for each worker.
        accept_changes: Continue although the plan has changed; what it no longer names is dropped.
        retry: Make `rejected` jobs again with new seeds, or `failed` jobs with the same. While an earlier retry is
            unfinished, its jobs are made and no others are added.
        limit: Make at most this many jobs now; 0 is no limit.
        batch: Jobs per batch.
        stop: Called before each batch; True lets the running batches finish, and starts no other.
        on_progress: Called after each job, and once before the first.

    Returns:
        The current counts of the whole run.

    Raises:
        PlanChangedError: the plan would make other pictures than the run was started with; the message says which.
        CampaignError: another process works on the folder; or `MAX_FAULTS` people in a row met an error that is not
            due to their photo, such as a broken model or a full disk: their jobs stay pending. Jobs that meet such an
            error a second time fail, and no longer stop the others.
        InputError: the folder cannot be created, or a file in it cannot be written.
        SettingsError, WeightsError: the plan, recipe or thresholds are invalid. Nothing was started.
    """
    recipes, sources = load_recipes(plan)
    styles = {name: tuple(recipe.styles_named(plan.styles)) for name, recipe in recipes.items()}
    prove_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder), Ledger.create(folder) as ledger:
        for path in leftovers_of(folder):
            path.unlink(missing_ok=True)
        threads = plan.settings.threads or (ledger.meta().environment or {}).get("threads") or cpu_threads()
        plan = replace(plan, settings=replace(plan.settings, threads=threads))
        engine = start_engine(threads)
        try:
            fingerprints = {  # the first recipe last, so that its models stay loaded
                name: engine.describe(replace(plan.settings, recipe=sources[name]), styles[name])
                for name in reversed(recipes)
            }
            note_environment(ledger, next(iter(fingerprints.values())).environment)
            enter_plan(plan, recipes, fingerprints, ledger, accept_changes=accept_changes)
            write_bytes(folder / PLAN, (plan.text or "# this run was started from Python\n").encode())
            requeue(ledger, retry)
            requeue_lost(ledger)
            driver = Driver(
                plan=plan,
                recipes={
                    name: RunRecipe(recipe=recipe, source=sources[name], weights=fingerprints[name].weights)
                    for name, recipe in recipes.items()
                },
                ledger=ledger,
                batch_size=batch,
                limit=limit,
                stop=stop,
                on_progress=on_progress,
            )
            driver.run(engine)
        finally:
            engine.close()
        finalize(ledger)
        return ledger.counts()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecipe:
    """A recipe of a run: `source` is its name in the plan, `weights` file -> SHA-256 of the models that were loaded."""

    recipe: Recipe
    source: str
    weights: Mapping[str, str]


@dataclass(kw_only=True, eq=False)
class Driver:
    """Passes the pending jobs of a run to an engine, and writes the results. Recipes are keyed by name.

    A thread writes each picture while the next one of its batch is drawn; no batch starts before all pictures are written.
    """

    plan: Plan
    recipes: Mapping[str, RunRecipe]
    ledger: Ledger
    batch_size: int
    limit: int
    stop: Callable[[], bool]
    on_progress: Callable[[Progress], None]

    def __post_init__(self) -> None:
        self._started = time.perf_counter()
        self._made = 0
        self._jobs_in_flight: dict[int, LedgerJob] = {}
        self._faults = Faults(self.ledger)
        self._warned: set[str] = set()
        self._writing: Future[None] | None = None

    def run(self, engine: Engine) -> None:
        """Run until no job is left, or until the budget, the limit or `stop` ends it."""
        seconds: defaultdict[str, float] = defaultdict(float)
        attempts: defaultdict[str, int] = defaultdict(int)
        self.on_progress(Progress(counts=self.ledger.counts(), made=0, seconds=0.0))
        last_result = time.perf_counter()
        with ThreadPoolExecutor(1, "writer") as writer:
            for result in engine.work(self._batches()):
                recipe = result.item.picture.recipe
                attempts[recipe] += result.attempts
                now = time.perf_counter()
                seconds[recipe] += now - last_result
                last_result = now
                self._wait_for_writer()
                self._writing = writer.submit(self._write, result)
            self._wait_for_writer()
        remember(
            self.ledger,
            self.plan.settings,
            {
                recipe: seconds[recipe] * engine.workers / count
                for recipe, count in attempts.items()
                if count >= _MIN_ATTEMPTS_TIMED
            },
        )

    def _write(self, drawn: Drawn | WorkResult) -> None:
        result = drawn.result() if isinstance(drawn, Drawn) else drawn
        job = self._jobs_in_flight.pop(result.item.id)
        write_result(self.ledger, job, result, self.plan.settings.format)
        self._report(job)
        if result.record is not None:
            self._faults.clear()
            self._warn(result.record)
        elif result.fault:
            self._faults.add([job], result.failure)

    def _wait_for_writer(self) -> None:
        """Wait until everything is written, so that this thread may use the ledger; raise the writer's error."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _warn(self, record: PortraitRecord) -> None:
        """Log each warning about unused parts of prompts and models once."""
        for warning in record.warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                log.warning("%s, %s: %s", record.recipe, record.style, warning)

    def _batches(self) -> Iterator[Batch]:
        """Batches of pending jobs in the plan's order; jobs whose photo cannot be read fail on the way."""
        place, count = -1, 0
        while not self._is_over():
            size = min(self.batch_size, self.limit - count) if self.limit else self.batch_size
            jobs = self.ledger.next_batch(place, size) if size > 0 else []
            if not jobs:
                return
            place = jobs[-1].place
            count += len(jobs)
            try:
                photos = _read_photos(self.ledger, jobs[0].picture.subject)
            except PhotoError as error:
                self._fail(jobs, error)
                continue
            self._jobs_in_flight.update({job.id: job for job in jobs})
            weights = self.recipes[jobs[0].picture.recipe].weights
            yield Batch(items=tuple(map(self._item, jobs)), photos=photos, weights=weights)

    def _is_over(self) -> bool:
        self._wait_for_writer()
        budget = self.plan.budget
        if self.stop() or (budget.hours and time.perf_counter() - self._started >= 3600 * budget.hours):
            return True
        return bool(budget.attempts) and self.ledger.counts().attempts >= budget.attempts

    def _item(self, job: LedgerJob) -> WorkItem:
        picture = job.picture
        run_recipe = self.recipes[picture.recipe]
        settings = self.plan.settings_of(run_recipe.recipe, picture.style, picture.axes)
        settings = replace(settings, recipe=run_recipe.source, seed=seed_of(job.key, job.round))
        return WorkItem(id=job.id, key=job.key, picture=picture, settings=settings)

    def _fail(self, jobs: Sequence[LedgerJob], error: PhotoError) -> None:
        for job in jobs:
            write_failure(self.ledger, job, str(error))
            self._report(job)
        if error.is_fault:
            self._faults.add(jobs, str(error))
        else:
            self.ledger.put_faces(jobs[0].picture.subject, {}, str(error))

    def _report(self, job: LedgerJob) -> None:
        self._made += 1
        seconds = time.perf_counter() - self._started
        self.on_progress(Progress(counts=self.ledger.counts(), made=self._made, seconds=seconds, last=job.stem))


class Faults:
    """Errors since the last picture that may not be due to a photo; for too many people in a row they stop the run.

    People who met one in an earlier run do not count: the error is due to them and must not stop the others.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._excused = set(ledger.meta().faulted)
        self._subjects: dict[int, str] = {}

    def clear(self) -> None:
        """A picture was made, so the machine works."""
        self._subjects.clear()

    def add(self, jobs: Sequence[LedgerJob], why: str) -> None:
        """Add a person's error; raises CampaignError if it is one too many, and their jobs are then pending again."""
        self._subjects |= {job.id: job.picture.subject for job in jobs if job.id not in self._excused}
        if len(set(self._subjects.values())) < MAX_FAULTS:
            return
        self._ledger.set(faulted=sorted(self._excused | self._subjects.keys()))
        self._ledger.requeue(ids=list(self._subjects))
        raise CampaignError(
            f"{MAX_FAULTS} people in a row met an error that may not be due to their photo, most recently: "
            f"{why}. Their jobs are still pending; fix the cause, and run the same command again"
        )


class PhotoError(Exception):
    """A photo's bytes are not those of its key. `is_fault`: that may be due to the disk, not the photo."""

    def __init__(self, message: str, *, is_fault: bool = False) -> None:
        super().__init__(message)
        self.is_fault = is_fault


def _read_photos(ledger: Ledger, subject: str) -> tuple[PhotoFile, ...]:
    """The bytes from which the keys of a subject's jobs were made."""
    photos = []
    for photo in ledger.photos(subject):
        path, sha256 = Path(photo.path), photo.sha256
        try:
            require_regular_file(path)
            data = path.read_bytes()
        except OSError as error:  # a fault of the machine if it could be read when the run was started
            is_fault = not sha256.startswith(MISSING)
            raise PhotoError(f"cannot read {path}: {error.strerror or error}", is_fault=is_fault) from None
        except MemoryError:
            raise PhotoError(f"{path} does not fit into memory; use a smaller photo") from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise PhotoError(f"{path} has changed since this run was started; start the run again")
        photos.append(PhotoFile(path=str(path), sha256=sha256, data=data))
    return tuple(photos)
