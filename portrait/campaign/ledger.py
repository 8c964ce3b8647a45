"""The ledger of a run: a SQLite file that holds every job and every attempt, written by one process alone."""

from __future__ import annotations

import base64
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from portrait.campaign.files import make_folder
from portrait.campaign.plan import PlannedPicture
from portrait.errors import CampaignError
from portrait.records import Embedding
from portrait.records.portrait import AttemptRecord, PortraitRecord, read_portrait

FILE = "ledger.sqlite"
SCHEMA = 1

# WAL: readers (status, drift) never wait for the run, nor the run for them. synchronous FULL: a commit is on the disk
# when it returns, so that a loss of power takes no more than kill -9 does. NORMAL would lose the last commits with the
# power; what FULL costs is one flush a job, milliseconds beside the seconds that a picture takes.
_OPEN = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA busy_timeout=10000;"

# Records lie in a table of their own, and reasons in a column of their own (no index covers a generated one): counting
# then reads an index of a few megabytes, and no record.
_TABLES = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE subjects(
  name TEXT PRIMARY KEY, photos TEXT NOT NULL, columns TEXT NOT NULL, failure TEXT, embeddings TEXT
) WITHOUT ROWID;
CREATE TABLE jobs(
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, place INTEGER NOT NULL, subject TEXT NOT NULL, recipe TEXT NOT NULL,
  style TEXT NOT NULL, axes TEXT NOT NULL, variant INTEGER NOT NULL, stem TEXT NOT NULL, state TEXT NOT NULL,
  round INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0, seconds REAL NOT NULL DEFAULT 0,
  reasons TEXT NOT NULL DEFAULT '[]', output TEXT
);
CREATE INDEX jobs_counts ON jobs(state, recipe, style, place, attempts, seconds);
CREATE INDEX jobs_next ON jobs(state, place);
CREATE INDEX jobs_of ON jobs(recipe, subject, state, place);
CREATE TABLE attempts(
  job INTEGER NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, round INTEGER NOT NULL, number INTEGER NOT NULL,
  ended REAL NOT NULL, accepted INTEGER NOT NULL, seconds REAL NOT NULL, entry TEXT NOT NULL, reasons TEXT NOT NULL,
  PRIMARY KEY(job, round, number)
) WITHOUT ROWID;
CREATE INDEX attempts_reasons ON attempts(accepted, reasons);
CREATE TABLE results(
  job INTEGER PRIMARY KEY REFERENCES jobs(id) ON DELETE CASCADE, record TEXT NOT NULL, look TEXT, embeddings TEXT
);
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JobResult:
    """What is known of a job's picture: its record, how it looks (`measure_look`), what each judge sees in it."""

    record: PortraitRecord
    look: dict[str, float]
    embeddings: dict[str, Embedding]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerJob:
    """A row of `jobs`. `state` is pending, accepted, rejected or failed; `place` its place in the plan's order, and -1
    when the plan no longer has it."""

    id: int
    key: str
    place: int
    picture: PlannedPicture
    stem: str
    state: str
    round: int
    attempts: int
    seconds: float
    reasons: tuple[str, ...]
    output: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How far a run is: jobs by state, attempts and seconds of compute so far."""

    pending: int = 0
    accepted: int = 0
    rejected: int = 0
    failed: int = 0
    attempts: int = 0
    seconds: float = 0.0

    @property
    def done(self) -> int:
        return self.accepted + self.rejected + self.failed

    @property
    def jobs(self) -> int:
        return self.done + self.pending


class Ledger:
    """Open with `create` or `open`; close it, or use it in a `with`."""

    def __init__(self, connection: sqlite3.Connection, folder: Path) -> None:
        self.folder = folder
        self._db = connection
        self._db.row_factory = sqlite3.Row

    @classmethod
    def create(cls, folder: Path) -> Ledger:
        """A new ledger, or the one that is there; the folder is made.

        Raises:
            InputError: the folder cannot be made.
            CampaignError: the ledger cannot be written, is damaged or of a newer version.
        """
        make_folder(folder)
        ledger = cls._connected(folder)
        with ledger.transaction():
            if not ledger._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
                for statement in _TABLES.split(";\n"):
                    ledger._db.execute(statement)
                ledger.set("schema", SCHEMA)
        ledger._check()
        return ledger

    @classmethod
    def open(cls, folder: Path) -> Ledger:
        """The ledger of a run that was started.

        Raises:
            CampaignError: there is none, it cannot be opened, or it is damaged or of a newer version.
        """
        if not (folder / FILE).is_file():
            raise CampaignError(
                f"{folder} is no campaign run: it has no {FILE}; name the folder that was given with -o"
            )
        ledger = cls._connected(folder)
        try:
            ledger._check()
        except sqlite3.DatabaseError as error:
            raise CampaignError(f"{folder / FILE} is damaged: {error}") from None
        return ledger

    @classmethod
    def _connected(cls, folder: Path) -> Ledger:
        try:
            ledger = cls(sqlite3.connect(folder / FILE, isolation_level=None), folder)
            ledger._db.executescript(_OPEN)
        except sqlite3.OperationalError as error:
            raise CampaignError(
                f"cannot open {folder / FILE}: {error}; a run must lie where files can be written, to be read too"
            ) from None
        except sqlite3.DatabaseError as error:
            raise CampaignError(f"{folder / FILE} is damaged: {error}") from None
        return ledger

    def _check(self) -> None:
        if (version := self.get("schema")) != SCHEMA:
            raise CampaignError(f"{self.folder / FILE} has schema {version}; this version of portrait reads {SCHEMA}")

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing, also when the process is killed in between."""
        if self._db.in_transaction:  # a part of a larger one
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:  # a full disk has ended it already
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise CampaignError(f"cannot write {self.folder / FILE}: {error}") from None
            raise

    def get(self, name: str) -> Any:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def set(self, name: str, value: Any) -> None:
        with self.transaction():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json.dumps(value)))

    def put_subjects(self, subjects: Iterable[tuple[str, Sequence[Mapping[str, str]], Mapping[str, str]]]) -> None:
        """(name, photos as path and sha256, columns) each; what is known of their faces stays if the photos stay the
        same bytes, wherever they lie."""
        digests = "(SELECT json_group_array(json_extract(value, '$.sha256')) FROM json_each({}.photos))"
        same = f"{digests.format('subjects')} = {digests.format('excluded')}"
        self._db.executemany(
            "INSERT INTO subjects(name, photos, columns) VALUES (?, ?, ?) ON CONFLICT(name) DO UPDATE SET "
            f"embeddings = CASE WHEN {same} THEN embeddings END, failure = CASE WHEN {same} THEN failure END, "
            "photos = excluded.photos, columns = excluded.columns",
            ((name, json.dumps(photos), json.dumps(columns)) for name, photos, columns in subjects),
        )

    def put_jobs(self, jobs: Iterable[tuple[str, PlannedPicture]]) -> None:
        """The plan's jobs in their order. Known keys keep their state; jobs that are no longer named are dropped.

        A job that had left the plan, or whose files get another name, begins again: another job may have written over
        its picture since.
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
                (key, place, s.subject, s.recipe, s.style, json.dumps(s.axes), s.variant, s.stem)
                for place, (key, s) in enumerate(jobs)
            ),
        )
        self._db.execute("DELETE FROM results WHERE job IN (SELECT id FROM jobs WHERE output IS NULL)")

    def keys(self) -> dict[str, tuple[str, str]]:
        """Key -> (stem, state) of every job that is in the plan."""
        rows = self._db.execute("SELECT key, stem, state FROM jobs WHERE place >= 0")
        return {row["key"]: (row["stem"], row["state"]) for row in rows}

    def next_batch(self, after: int, most: int) -> list[LedgerJob]:
        """Pending jobs of one recipe and subject, in the plan's order, the first of them behind place `after`."""
        first = self._db.execute(
            "SELECT recipe, subject FROM jobs WHERE state = 'pending' AND place > ? ORDER BY place LIMIT 1", (after,)
        ).fetchone()
        if first is None:
            return []
        where = "recipe = ? AND subject = ? AND state = 'pending' AND place > ? ORDER BY place LIMIT ?"
        return list(self._jobs(where, *first, after, most))

    def ended(self, after: int, most: int) -> list[LedgerJob]:
        """Jobs that have a verdict, in the plan's order, the first of them behind place `after`."""
        return list(self._jobs("state IN ('accepted', 'rejected') AND place > ? ORDER BY place LIMIT ?", after, most))

    def jobs(self, *states: str) -> Iterator[LedgerJob]:
        """Jobs of these states in the plan's order; all that are in the plan if none is named."""
        wanted = states or ("pending", "accepted", "rejected", "failed")
        yield from self._jobs(f"state IN ({','.join('?' * len(wanted))}) AND place >= 0 ORDER BY place", *wanted)

    def _jobs(self, where: str, *values: Any) -> Iterator[LedgerJob]:
        for row in self._db.execute(f"SELECT * FROM jobs WHERE {where}", values):
            yield LedgerJob(
                id=row["id"],
                key=row["key"],
                place=row["place"],
                stem=row["stem"],
                state=row["state"],
                round=row["round"],
                attempts=row["attempts"],
                seconds=row["seconds"],
                reasons=tuple(json.loads(row["reasons"])),
                output=row["output"],
                picture=PlannedPicture(
                    subject=row["subject"],
                    recipe=row["recipe"],
                    style=row["style"],
                    axes=tuple((axis, text) for axis, text in json.loads(row["axes"])),
                    variant=row["variant"],
                ),
            )

    def photos(self, subject: str) -> list[dict[str, str]]:
        return list(
            json.loads(self._db.execute("SELECT photos FROM subjects WHERE name = ?", (subject,)).fetchone()[0])
        )

    def subjects(self) -> Iterator[dict[str, Any]]:
        """name, photos, columns, failure (None, or why no face could be used) and embeddings of everyone in the plan."""
        for row in self._db.execute(
            "SELECT * FROM subjects WHERE name IN (SELECT subject FROM jobs WHERE place >= 0) ORDER BY name"
        ):
            yield {
                "name": row["name"],
                "photos": json.loads(row["photos"]),
                "columns": json.loads(row["columns"]),
                "failure": row["failure"],
                "embeddings": unpack(row["embeddings"]),
            }

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
        """Write how a job ended, with all attempts of its round, in one transaction.

        `record` None leaves the result of an earlier round as it is.
        """
        now = time.time()
        with self.transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, json_extract(?7, '$.reasons'))",
                (
                    (job.id, job.round, n, now, int(attempt.accepted), attempt.seconds, attempt.model_dump_json())
                    for n, attempt in enumerate(attempts)
                ),
            )
            if record is not None:
                self._db.execute(
                    "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?)",
                    (job.id, record.model_dump_json(), json.dumps(look), pack(embeddings)),
                )
            self._db.execute(
                "UPDATE jobs SET state = ?, reasons = ?, output = COALESCE(?, output), "
                "attempts = (SELECT count(*) FROM attempts WHERE job = jobs.id), "
                "seconds = (SELECT COALESCE(sum(seconds), 0) FROM attempts WHERE job = jobs.id) WHERE id = ?",
                (state, json.dumps(list(reasons)), output, job.id),
            )

    def judge(self, job: LedgerJob, record: PortraitRecord) -> None:
        """Write another verdict on a picture that is there: state, reasons and output are the record's."""
        with self.transaction():
            self._db.execute("UPDATE results SET record = ? WHERE job = ?", (record.model_dump_json(), job.id))
            self._db.execute(
                "UPDATE jobs SET state = ?, reasons = ?, output = ? WHERE id = ?",
                (str(record.status), json.dumps(record.reasons), record.output, job.id),
            )

    def seen(self, subject: str, embeddings: Mapping[str, Embedding], failure: str | None = None) -> None:
        """What the faces of a subject's photos are to the judges, or why they cannot be used. Judges that are not named
        keep what they know: recipes may have different ones."""
        with self.transaction():
            self._db.execute(
                "UPDATE subjects SET embeddings = COALESCE(json_patch(COALESCE(embeddings, '{}'), ?), embeddings), "
                "failure = ? WHERE name = ?",
                (pack(embeddings), failure, subject),
            )

    def requeue(self, *, states: Sequence[str] = (), ids: Sequence[int] = (), new_round: bool = False) -> int:
        """Make jobs pending again, by state or by id; with `new_round` from other seeds. Returns how many."""
        wanted = f"(state IN ({','.join('?' * len(states))}) OR id IN ({','.join('?' * len(ids))})) AND place >= 0"
        with self.transaction():
            done = self._db.execute(
                f"UPDATE jobs SET state = 'pending', round = round + ? WHERE {wanted}", (int(new_round), *states, *ids)
            )
        return done.rowcount

    def retrying(self) -> int:
        """How many jobs of a retry are still to be made."""
        query = "SELECT count(*) FROM jobs WHERE state = 'pending' AND place >= 0 AND round > 0"
        return int(self._db.execute(query).fetchone()[0])

    def counts(self) -> Counts:
        rows = self._db.execute(
            "SELECT state, count(*), sum(attempts), sum(seconds) FROM jobs WHERE place >= 0 GROUP BY state"
        ).fetchall()
        return Counts(
            **{state: count for state, count, _, _ in rows},
            attempts=sum(row[2] for row in rows),
            seconds=sum(row[3] for row in rows),
        )

    def counts_by_style(self) -> list[tuple[str, str, Counts]]:
        """(recipe, style, counts) each."""
        rows = self._db.execute(
            "SELECT recipe, style, state, count(*), sum(attempts), sum(seconds) FROM jobs WHERE place >= 0 "
            "GROUP BY recipe, style, state ORDER BY min(place)"
        ).fetchall()
        found = []
        for recipe, style in dict.fromkeys((row[0], row[1]) for row in rows):
            own = [row for row in rows if (row[0], row[1]) == (recipe, style)]
            numbers = {row[2]: row[3] for row in own}
            total = Counts(**numbers, attempts=sum(r[4] for r in own), seconds=sum(r[5] for r in own))
            found.append((recipe, style, total))
        return found

    def reasons(self) -> dict[str, int]:
        """How many attempts failed for each reason, the most frequent first."""
        total: Counter[str] = Counter()
        query = "SELECT reasons, count(*) FROM attempts WHERE accepted = 0 GROUP BY reasons"
        for reasons, count in self._db.execute(query):
            total.update(dict.fromkeys(json.loads(reasons), count))
        return dict(total.most_common())

    def swapped(self) -> list[dict[str, Any]]:
        """subject, other and pictures: how many portraits of a subject are taken for another one."""
        rows = self._db.execute(
            "SELECT j.subject, json_extract(r.record, '$.campaign.swapped.subject') AS other, count(*) FROM jobs j "
            "JOIN results r ON r.job = j.id WHERE j.state = 'rejected' AND j.place >= 0 AND other IS NOT NULL "
            "GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2"
        )
        return [{"subject": subject, "other": other, "pictures": count} for subject, other, count in rows]

    def attempts(self, job: int) -> list[AttemptRecord]:
        """Every attempt at a job, of all rounds, in the order in which they were made."""
        rows = self._db.execute("SELECT entry FROM attempts WHERE job = ? ORDER BY round, number", (job,))
        return [AttemptRecord.model_validate_json(row[0], extra="allow") for row in rows]

    def result(self, job: int) -> JobResult | None:
        """What is known of a job's picture; None while there is none."""
        row = self._db.execute("SELECT record, look, embeddings FROM results WHERE job = ?", (job,)).fetchone()
        if row is None:
            return None
        record = read_portrait(row["record"], f"job {job}")
        return JobResult(record=record, look=json.loads(row["look"] or "{}"), embeddings=unpack(row["embeddings"]))

    def seen_in(self, job: int) -> dict[str, Embedding]:
        """Embeddings of a job's picture, without its record; none while there is no picture."""
        row = self._db.execute("SELECT embeddings FROM results WHERE job = ?", (job,)).fetchone()
        return unpack(row[0]) if row else {}

    def forget(self, subjects: Sequence[str] | None = None) -> int:
        """Remove embeddings, which are biometric data; of everyone, or of some. Returns how many rows held any."""
        some = "" if subjects is None else f" AND subject IN ({','.join('?' * len(subjects))})"
        names = tuple(subjects or ())
        with self.transaction():
            people = self._db.execute(
                "UPDATE subjects SET embeddings = NULL WHERE embeddings IS NOT NULL" + some.replace("subject", "name"),
                names,
            )
            jobs = self._db.execute(
                "UPDATE results SET embeddings = NULL WHERE embeddings IS NOT NULL AND job IN "
                f"(SELECT id FROM jobs WHERE 1{some})",
                names,
            )
        self._wipe()
        return people.rowcount + jobs.rowcount

    def delete_dropped(self) -> int:
        """Remove jobs that are no longer in the plan, with their attempts, and the people of whom no job is left, with
        their embeddings; returns how many jobs."""
        with self.transaction():
            jobs = self._db.execute("DELETE FROM jobs WHERE place < 0").rowcount
            people = self._db.execute("DELETE FROM subjects WHERE name NOT IN (SELECT subject FROM jobs)").rowcount
        if jobs or people:
            self._wipe()
        return jobs

    def _wipe(self) -> None:
        """Leave nothing of what was removed in the files: neither in free pages nor in the log of changes."""
        try:
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError as error:
            raise CampaignError(f"cannot write {self.folder / FILE}: {error}") from None


def pack(embeddings: Mapping[str, Embedding] | None) -> str | None:
    """Embeddings as text: recogniser -> base64 of float32, little-endian."""
    if not embeddings:
        return None
    return json.dumps({k: base64.b64encode(np.asarray(v, "<f4").tobytes()).decode() for k, v in embeddings.items()})


def unpack(text: str | None) -> dict[str, Embedding]:
    """The embeddings that `pack` wrote; none of None."""
    values = json.loads(text) if text else {}
    arrays = {name: np.frombuffer(base64.b64decode(value), "<f4") for name, value in values.items()}
    return {name: Embedding(array.astype(np.float32)) for name, array in arrays.items()}
