"""The ledger of a run: a SQLite file with every job and every attempt, written by only one process."""

from __future__ import annotations

import base64
import json
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, Json, TypeAdapter, ValidationError

from portrait.campaign.files import output_file
from portrait.campaign.plan import PlannedPicture
from portrait.errors import CampaignError
from portrait.file_model import first_problem
from portrait.paths import below, is_file_name, prove_writable
from portrait.records import Embedding
from portrait.records.portrait import AttemptRecord, FileRecord, PortraitRecord, Score, read_portrait

_T = TypeVar("_T")

FILE = "ledger.sqlite"
STATES = ("pending", "accepted", "rejected", "failed")
"""Of a job."""
SCHEMA = 1
_RECOVERED = "table 'lost_and_found"
"""What `.recover` of the sqlite3 tool adds to a file."""

# WAL: readers (status, drift) never wait for the run, nor the run for them. synchronous FULL: a commit is on the disk
# when it returns, so that a loss of power loses no more than kill -9 does. NORMAL could lose the last commits. FULL costs
# one flush per job: milliseconds, while a picture takes seconds.
_OPEN = "PRAGMA trusted_schema=OFF; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA busy_timeout=10000;"

_MAX_VALUE = 100_000_000
"""Bytes of a value in the file: more than a plan of half a million people takes."""

_TEXTS = TypeAdapter(tuple[str, ...])
_COLUMNS = TypeAdapter(dict[str, str])
_LOOK = TypeAdapter(dict[str, Annotated[float, Field(ge=-1e6, le=1e6)]])
_PHOTOS = TypeAdapter(Annotated[tuple[FileRecord, ...], Field(min_length=1)])
_ATTEMPT = TypeAdapter(AttemptRecord)


class RunMeta(BaseModel):
    """What is stored once for a run, each value as JSON; those that were not stored have their defaults.

    `faulted` are jobs that met an error of the machine, `alike` people whom no judge can tell apart, and `separation` is each
    judge's gap between a person and strangers, from before the embeddings were removed.
    """

    model_config = ConfigDict(frozen=True)

    version: Json[int] | None = Field(None, alias="schema")
    id: Json[str] = ""
    name: Json[str] = ""
    plan_path: Json[str] = ""
    sizes: Json[tuple[str, ...]] = ()
    finalized: Json[bool] = False
    pruned: Json[bool] = False
    faulted: Json[tuple[int, ...]] = ()
    alike: Json[tuple[tuple[str, str], ...]] = ()
    separation: Json[dict[str, Score]] = {}
    environment: Json[dict[str, Any]] | None = None
    snapshot: Json[dict[str, Any]] = {}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JobResult:
    """The result of a job: the picture's record, its `appearance_features`, and its embeddings by each judge."""

    record: PortraitRecord
    look: dict[str, float]
    embeddings: dict[str, Embedding]


class LedgerJob(BaseModel):
    """A row of `jobs`; columns of SQLite accept values of any type, so their types are checked.

    `state` is pending, accepted, rejected or failed; `place` its position in the plan, or -1 if it is no longer in it;
    `round` counts its retries.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    id: int
    key: str
    place: int
    subject: str
    recipe: str
    style: str
    axes: Json[tuple[tuple[str, str], ...]]
    variant: int
    stem: str
    state: str
    round: int
    attempts: int
    seconds: float
    reasons: Json[tuple[str, ...]]
    output: str | None

    @property
    def picture(self) -> PlannedPicture:
        """The picture of the plan."""
        folder = self.stem.partition("/")[0]
        values = {name: getattr(self, name) for name in ("subject", "recipe", "style", "axes", "variant")}
        return PlannedPicture(folder=folder, **values)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LedgerSubject:
    """A person in the plan: photos, columns of the plan's CSV, and the photos' embeddings by each judge.

    `failure` is why no face could be used; None if one could, or nothing was tried yet.
    """

    name: str
    photos: tuple[FileRecord, ...]
    columns: dict[str, str]
    failure: str | None
    embeddings: dict[str, Embedding]


@dataclass(frozen=True, slots=True, kw_only=True)
class Swapped:
    """How many portraits of `subject` look more like `other`."""

    subject: str
    other: str
    pictures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The progress of a run: jobs by state, attempts and seconds of compute so far."""

    pending: int = 0
    accepted: int = 0
    rejected: int = 0
    failed: int = 0
    attempts: int = 0
    seconds: float = 0.0

    @property
    def done(self) -> int:
        """Jobs that have ended."""
        return self.accepted + self.rejected + self.failed

    @property
    def jobs(self) -> int:
        """All jobs of the plan."""
        return self.done + self.pending


class Ledger:
    """The jobs, attempts and people of one run. Open it with `create` or `open`, and close it or use it in a `with`.

    Threads may use it one after another, not at the same time.
    """

    def __init__(self, connection: sqlite3.Connection, folder: Path) -> None:
        self.folder = folder
        self._db = connection
        self._db.row_factory = sqlite3.Row
        self._lengths: dict[str, int] = {}

    @classmethod
    def create(cls, folder: Path) -> Ledger:
        """Open the folder's ledger, or create the folder and a new one.

        Raises:
            InputError: the folder cannot be made.
            CampaignError: the ledger cannot be written, is damaged, or is from a newer version.
        """
        prove_writable(folder)
        folder.mkdir(parents=True, exist_ok=True)
        ledger = cls._connected(folder)
        with ledger._translated_errors():
            if ledger._is_empty():
                with ledger.transaction():
                    for statement in _statements():
                        ledger._db.execute(statement)
                    ledger.set(schema=SCHEMA, id=secrets.token_hex(8))
            ledger._check()
        return ledger

    @classmethod
    def open(cls, folder: Path) -> Ledger:
        """Open the ledger of an existing run.

        Raises:
            CampaignError: there is none, it cannot be opened, is damaged, or is from a newer version.
        """
        if not (folder / FILE).is_file():
            raise CampaignError(
                f"{folder} is not a campaign run: it has no {FILE}; name the folder that was given with -o"
            )
        ledger = cls._connected(folder)
        with ledger._translated_errors():
            if ledger._is_empty():
                raise CampaignError(f"the run of {folder} was stopped before it began; start the same command again")
            ledger._check()
        return ledger

    @classmethod
    def _connected(cls, folder: Path) -> Ledger:
        for suffix in ("", "-wal", "-shm", "-journal"):
            below(folder, FILE + suffix)
        try:
            connection = sqlite3.connect(folder / FILE, isolation_level=None, check_same_thread=False)
        except sqlite3.OperationalError as error:
            raise _cannot_open(folder, error) from None
        ledger = cls(connection, folder)
        with ledger._translated_errors():
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE)
            connection.executescript(_OPEN)
        return ledger

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Close the file on an error, and turn SQLite's errors into ours; its messages may quote damaged text."""
        try:
            yield
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            self.close()
            has_bad_content = getattr(error, "sqlite_errorname", "SQLITE_ERROR") == "SQLITE_ERROR"
            if isinstance(error, sqlite3.OperationalError) and not has_bad_content:
                raise _cannot_open(self.folder, error) from None
            raise self._damaged(str(error)) from None
        except BaseException:
            self.close()
            raise

    def _is_empty(self) -> bool:
        return not self._db.execute("SELECT 1 FROM sqlite_master").fetchone()

    def _check(self) -> None:
        """Refuse a file whose version or tables are not ours: a stranger's views and triggers would run when it is used."""
        rows = self._db.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        defined = {" ".join(sql.split()): f"{kind} {name!r}"[:80] for kind, name, sql in rows}
        ours = {" ".join(statement.split()) for statement in _statements()}
        meta = {sql for sql in ours if sql.startswith("CREATE TABLE meta(")}
        self._require(meta <= defined.keys(), "it has no table of its version")
        if (version := self.meta().version) != SCHEMA:
            raise CampaignError(f"{self.folder / FILE} has schema {version}; this version of portrait reads {SCHEMA}")
        self._require(ours <= defined.keys(), "tables are missing, or not those of a run")
        others = [what for sql, what in defined.items() if sql not in ours and not what.startswith(_RECOVERED)]
        self._require(not others, f"it has the {others[0]}, which no run has" if others else "")
        query = "SELECT subject FROM jobs WHERE place >= 0 AND subject NOT IN (SELECT name FROM subjects) LIMIT 1"
        if row := self._db.execute(query).fetchone():
            raise self._damaged(f"it has a job of {row[0]!r}, who is none of its people")

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Close the file, and turn SQLite's errors about damage into ours.

        Raises:
            CampaignError: the file is damaged.
        """
        self.close()
        if isinstance(error, sqlite3.OperationalError) and hasattr(error, "sqlite_errorname"):
            raise CampaignError(f"cannot read {self.folder / FILE}: {error}") from None
        if isinstance(error, sqlite3.DatabaseError):  # also text that is none
            raise self._damaged(str(error)) from None

    def _require(self, holds: bool, why: str) -> None:
        if not holds:
            raise self._damaged(why)

    def _damaged(self, why: str) -> CampaignError:
        return CampaignError(
            f"{self.folder / FILE} is damaged ({why[:200]}); put back a copy of it, or save what can be read with "
            f"sqlite3 {FILE} .dump | sed 's/^ROLLBACK.*/COMMIT;/' | sqlite3 new.sqlite and put new.sqlite in place of "
            f"{FILE} and {FILE}-wal"
        )

    def _parse(self, kind: TypeAdapter[_T], text: str | None, what: str) -> _T:
        """Parse a JSON text from the file, and check that the value has the type that this program writes."""
        return self._checked(lambda: kind.validate_json(text or "", extra="allow"), what)

    def _checked(self, validate: Callable[[], _T], what: str) -> _T:
        """A value that pydantic checks; `what` is wrong if it is not as this program writes it."""
        try:
            return validate()
        except ValidationError as error:
            raise self._damaged(f"{what}: {first_problem(error)}") from None

    def _text(self, value: object) -> str:
        """Check that a value is text, as this program writes it; SQLite columns accept values of any type."""
        if not isinstance(value, str):
            raise self._damaged(f"{value!r} is not text")
        return value

    def _embeddings(self, text: str | None) -> dict[str, Embedding]:
        try:
            embeddings = unpack_embeddings(text)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise self._damaged(f"embeddings: {error}") from None
        for judge, embedding in embeddings.items():
            if len(embedding) != self._lengths.setdefault(judge, len(embedding)) or not (np.abs(embedding) <= 10).all():
                raise self._damaged(f"embeddings of {judge[:80]!r} of different lengths, or with values that are none")
        return embeddings

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all changes in the block or none, even if the process is killed."""
        if self._db.in_transaction:  # nested in another one
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:  # a full disk may have ended it already
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise CampaignError(f"cannot write {self.folder / FILE}: {error}") from None
            raise

    def meta(self) -> RunMeta:
        """What `set` stored for the whole run."""
        values = dict(self._db.execute("SELECT name, value FROM meta").fetchall())
        return self._checked(lambda: RunMeta.model_validate(values), "meta")

    def set(self, **values: object) -> None:
        """Store values for the whole run, as `RunMeta` names them."""
        rows = [(name, json.dumps(value)) for name, value in values.items()]
        with self.transaction():
            self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)

    def put_subject(self, name: str, photos: Sequence[Mapping[str, str]], columns: Mapping[str, str]) -> None:
        """Enter a person of the plan: photos as path and sha256, and columns of the plan's CSV.

        Their embeddings stay valid as long as the photos' bytes are the same, wherever the files are.
        """
        digests = "(SELECT json_group_array(json_extract(value, '$.sha256')) FROM json_each({}.photos))"
        same = f"{digests.format('subjects')} = {digests.format('excluded')}"
        self._db.execute(
            "INSERT INTO subjects(name, photos, columns) VALUES (?, ?, ?) ON CONFLICT(name) DO UPDATE SET "
            f"embeddings = CASE WHEN {same} THEN embeddings END, failure = CASE WHEN {same} THEN failure END, "
            "photos = excluded.photos, columns = excluded.columns",
            (name, json.dumps(photos), json.dumps(columns)),
        )

    def put_jobs(self, jobs: Iterable[tuple[str, PlannedPicture]]) -> None:
        """Enter the plan's jobs in order. Known keys keep their state; jobs that are no longer in the plan are dropped.

        A job that had been dropped, or whose files get another name, starts over: another job may have overwritten its
        picture.
        """
        self._db.execute("UPDATE jobs SET state = 'pending', output = NULL WHERE place < 0")
        self._db.execute("UPDATE jobs SET place = -1")
        self._db.executemany(
            "INSERT INTO jobs(key, place, subject, recipe, style, axes, variant, stem, state) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'pending') ON CONFLICT(key) DO UPDATE SET place = excluded.place, "
            "subject = excluded.subject, stem = excluded.stem, "
            "state = CASE WHEN stem = excluded.stem THEN state ELSE 'pending' END, "
            "output = CASE WHEN stem = excluded.stem THEN output END",
            (
                (key, place, p.subject, p.recipe, p.style, json.dumps(p.axes), p.variant, p.stem)
                for place, (key, p) in enumerate(jobs)
            ),
        )
        self._db.execute("DELETE FROM results WHERE job IN (SELECT id FROM jobs WHERE output IS NULL)")

    def keys(self) -> dict[str, tuple[str, str]]:
        """Key -> (stem, state) of every job in the plan."""
        rows = self._db.execute("SELECT key, stem, state FROM jobs WHERE place >= 0")
        return {key: (stem, state) for key, stem, state in rows}

    def next_batch(self, after: int, limit: int) -> list[LedgerJob]:
        """Pending jobs of one recipe and subject, in the plan's order, starting after place `after`."""
        first = self._db.execute(
            "SELECT recipe, subject FROM jobs WHERE state = 'pending' AND place > ? ORDER BY place LIMIT 1", (after,)
        ).fetchone()
        if first is None:
            return []
        where = "recipe = ? AND subject = ? AND state = 'pending' AND place > ? ORDER BY place LIMIT ?"
        return list(self._jobs(where, *first, after, limit))

    def judged_jobs(self, after: int, limit: int) -> list[LedgerJob]:
        """Jobs that have a verdict, in the plan's order, starting after place `after`."""
        return list(self._jobs("state IN ('accepted', 'rejected') AND place > ? ORDER BY place LIMIT ?", after, limit))

    def jobs(self, *states: str) -> Iterator[LedgerJob]:
        """Jobs in these states, in the plan's order; all jobs in the plan if no state is given."""
        states = states or STATES
        yield from self._jobs(f"state IN ({_marks(states)}) AND place >= 0 ORDER BY place", *states)

    def _jobs(self, where: str, *values: str | int) -> Iterator[LedgerJob]:
        for row in self._db.execute(f"SELECT * FROM jobs WHERE {where}", values):
            job = self._checked(partial(LedgerJob.model_validate, dict(row)), "a job")
            self._check_names(job)
            yield job

    def _check_names(self, job: LedgerJob) -> None:
        """Refuse names that lead out of the run's folder, since files are written, shown and removed by them."""
        names = [job.recipe, job.style, *job.stem.split("/")]
        suffix = Path(job.output or "").suffix
        outputs = [output_file(job.stem, state, suffix) for state in ("accepted", "rejected")]
        are_names = len(names) == 5 and all(is_file_name(name, 255) for name in names)
        if not are_names or (job.output is not None and job.output not in outputs):
            raise CampaignError(
                f"{self.folder / FILE} names files that no run would create: {(job.output or job.stem)[:200]!r} of "
                f"{job.subject[:80]!r}; do not use this run"
            )

    def folders(self) -> dict[str, str]:
        """Name of a person in the plan -> the folder of their files, if it has another name."""
        rows = self._db.execute("SELECT subject, min(stem) FROM jobs WHERE place >= 0 GROUP BY subject")
        folders = {self._text(name): self._text(stem).partition("/")[0] for name, stem in rows}
        return {name: folder for name, folder in folders.items() if folder != name}

    def photos(self, subject: str) -> tuple[FileRecord, ...]:
        """The photos of a person in the plan, the first of which is stylized."""
        row = self._db.execute("SELECT photos FROM subjects WHERE name = ?", (subject,)).fetchone()
        return self._parse(_PHOTOS, row[0], "photos")

    def subjects(self) -> Iterator[LedgerSubject]:
        """Everybody in the plan, by name."""
        for name, photos, columns, failure, embeddings in self._db.execute(
            "SELECT name, photos, columns, failure, embeddings FROM subjects "
            "WHERE name IN (SELECT subject FROM jobs WHERE place >= 0) ORDER BY name"
        ):
            yield LedgerSubject(
                name=name,
                photos=self._parse(_PHOTOS, photos, "photos"),
                columns=self._parse(_COLUMNS, columns, "columns"),
                failure=None if failure is None else self._text(failure),
                embeddings=self._embeddings(embeddings),
            )

    def end(
        self,
        job: LedgerJob,
        state: str,
        *,
        record: PortraitRecord | None = None,
        attempts: Sequence[AttemptRecord] = (),
        reasons: Sequence[str] = (),
        output: str | None = None,
        look: Mapping[str, float] | None = None,
        embeddings: Mapping[str, Embedding] | None = None,
    ) -> None:
        """Write the outcome of a job, with all attempts of its round, in one transaction.

        If `record` is None, the result of an earlier round stays.
        """
        now = time.time()
        with self.transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, json_extract(?, '$.reasons'))",
                (
                    (job.id, job.round, number, now, int(attempt.accepted), attempt.seconds, entry, entry)
                    for number, attempt in enumerate(attempts)
                    for entry in [attempt.model_dump_json()]
                ),
            )
            if record is not None:
                self._db.execute(
                    "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?)",
                    (job.id, record.model_dump_json(), json.dumps(look), pack_embeddings(embeddings)),
                )
            self._db.execute(
                "UPDATE jobs SET state = ?, reasons = ?, output = COALESCE(?, output), "
                "attempts = (SELECT count(*) FROM attempts WHERE job = jobs.id), "
                "seconds = (SELECT COALESCE(sum(seconds), 0) FROM attempts WHERE job = jobs.id) WHERE id = ?",
                (state, json.dumps(list(reasons)), output, job.id),
            )

    def judge(self, job: LedgerJob, record: PortraitRecord) -> None:
        """Write a new verdict on an existing picture: state, reasons and output are the record's."""
        with self.transaction():
            self._db.execute("UPDATE results SET record = ? WHERE job = ?", (record.model_dump_json(), job.id))
            self._db.execute(
                "UPDATE jobs SET state = ?, reasons = ?, output = ? WHERE id = ?",
                (str(record.status), json.dumps(record.reasons), record.output, job.id),
            )

    def put_faces(self, subject: str, embeddings: Mapping[str, Embedding], failure: str | None = None) -> None:
        """Write the embeddings of a subject's photos by each judge, or why the photos cannot be used.

        Embeddings by other judges stay: recipes may have different judges.
        """
        with self.transaction():
            self._db.execute(
                "UPDATE subjects SET embeddings = COALESCE(json_patch(COALESCE(embeddings, '{}'), ?), embeddings), "
                "failure = ? WHERE name = ?",
                (pack_embeddings(embeddings), failure, subject),
            )

    def requeue(self, *, states: Sequence[str] = (), ids: Sequence[int] = (), new_round: bool = False) -> int:
        """Make jobs pending again, by state or by id; with `new_round` from other seeds. Return their number."""
        with self.transaction():
            cursor = self._db.execute(
                "UPDATE jobs SET state = 'pending', round = round + ? "
                f"WHERE (state IN ({_marks(states)}) OR id IN ({_marks(ids)})) AND place >= 0",
                (int(new_round), *states, *ids),
            )
        return cursor.rowcount

    def count_retries(self) -> int:
        """The number of jobs of a retry that are still pending."""
        query = "SELECT count(*) FROM jobs WHERE state = 'pending' AND place >= 0 AND round > 0"
        return int(self._db.execute(query).fetchone()[0])

    def counts(self) -> Counts:
        rows = self._db.execute(
            "SELECT state, count(*), sum(attempts), sum(seconds) FROM jobs WHERE place >= 0 GROUP BY state"
        )
        return _counts_from(rows.fetchall())

    def counts_by_style(self) -> list[tuple[str, str, Counts]]:
        """The progress of each style, in the plan's order: (recipe, style, counts)."""
        rows_of: dict[tuple[str, str], list[list[Any]]] = {}
        for recipe, style, *row in self._db.execute(
            "SELECT recipe, style, state, count(*), sum(attempts), sum(seconds) FROM jobs WHERE place >= 0 "
            "GROUP BY recipe, style, state ORDER BY min(place)"
        ):
            rows_of.setdefault((self._text(recipe), self._text(style)), []).append(row)
        return [(recipe, style, _counts_from(rows)) for (recipe, style), rows in rows_of.items()]

    def count_reasons(self) -> dict[str, int]:
        """The number of attempts that were rejected for each reason, the most frequent first."""
        total: Counter[str] = Counter()
        query = "SELECT reasons, count(*) FROM attempts WHERE accepted = 0 GROUP BY reasons"
        for reasons, count in self._db.execute(query):
            for reason in self._parse(_TEXTS, reasons, "reasons"):
                total[reason] += count
        return dict(total.most_common())

    def swapped(self) -> list[Swapped]:
        """The people whose portraits are taken for somebody else, the most frequent first."""
        rows = self._db.execute(
            "SELECT j.subject, json_extract(r.record, '$.campaign.swapped.subject') AS other, count(*) FROM jobs j "
            "JOIN results r ON r.job = j.id WHERE j.state = 'rejected' AND j.place >= 0 AND other IS NOT NULL "
            "GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2"
        )
        return [Swapped(subject=self._text(a), other=self._text(b), pictures=count) for a, b, count in rows]

    def attempts(self, job: int) -> list[AttemptRecord]:
        """All attempts at a job, over all rounds, in the order in which they were made."""
        rows = self._db.execute("SELECT entry FROM attempts WHERE job = ? ORDER BY round, number", (job,))
        return [self._parse(_ATTEMPT, row[0], "an attempt") for row in rows]

    def result(self, job: int) -> JobResult | None:
        """The result of a job; None while there is none."""
        row = self._db.execute("SELECT record, look, embeddings FROM results WHERE job = ?", (job,)).fetchone()
        if row is None:
            return None
        record, look, embeddings = row
        return JobResult(
            record=read_portrait(record, f"job {job} of {self.folder / FILE}"),
            look=self._parse(_LOOK, look or "{}", "look"),
            embeddings=self._embeddings(embeddings),
        )

    def embeddings_of(self, job: int) -> dict[str, Embedding]:
        """Embeddings of a job's picture, without reading its record; none while there is no picture."""
        row = self._db.execute("SELECT embeddings FROM results WHERE job = ?", (job,)).fetchone()
        return self._embeddings(row[0]) if row else {}

    def clear_embeddings(self) -> int:
        """Remove everybody's embeddings, which are biometric data; return the number of rows that had any."""
        with self.transaction():
            rows = [
                self._db.execute(f"UPDATE {table} SET embeddings = NULL WHERE embeddings IS NOT NULL").rowcount
                for table in ("subjects", "results")
            ]
        self._wipe()
        return sum(rows)

    def delete_dropped(self) -> int:
        """Remove jobs that are no longer in the plan, and people without jobs, with all their data; return the number of jobs."""
        with self.transaction():
            jobs = self._db.execute("DELETE FROM jobs WHERE place < 0").rowcount
            people = self._db.execute("DELETE FROM subjects WHERE name NOT IN (SELECT subject FROM jobs)").rowcount
        if jobs or people:
            self._wipe()
        return jobs

    def _wipe(self) -> None:
        """Erase removed data from the files, including free pages and the write-ahead log."""
        try:
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError as error:
            raise CampaignError(f"cannot write {self.folder / FILE}: {error}") from None


def _statements() -> list[str]:
    """The statements that create the tables and indexes."""
    text = (resources.files("portrait.campaign") / "ledger.sql").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [statement.strip() for statement in "\n".join(lines).split(";") if statement.strip()]


def _cannot_open(folder: Path, error: sqlite3.OperationalError) -> CampaignError:
    return CampaignError(f"cannot open {folder / FILE}: {error}; a run's folder must be writable, even for reading")


def _marks(values: Sequence[object]) -> str:
    """Placeholders for an SQL list."""
    return ",".join("?" * len(values))


def _counts_from(rows: Sequence[Sequence[Any]]) -> Counts:
    """Counts from rows of (state, jobs, attempts, seconds)."""
    return Counts(
        **{state: jobs for state, jobs, _, _ in rows if state in STATES},
        attempts=sum(attempts for _, _, attempts, _ in rows),
        seconds=sum(seconds for *_, seconds in rows),
    )


def pack_embeddings(embeddings: Mapping[str, Embedding] | None) -> str | None:
    """Encode embeddings as text: recognizer -> base64 of little-endian float32."""
    if not embeddings:
        return None
    return json.dumps({k: base64.b64encode(np.asarray(v, "<f4").tobytes()).decode() for k, v in embeddings.items()})


def unpack_embeddings(text: str | None) -> dict[str, Embedding]:
    """Decode the text of `pack_embeddings`; None has no embeddings."""
    values = json.loads(text) if text else {}
    arrays = {name: np.frombuffer(base64.b64decode(value), "<f4") for name, value in values.items()}
    return {name: Embedding(array.astype(np.float32)) for name, array in arrays.items()}
