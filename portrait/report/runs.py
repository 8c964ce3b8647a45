"""A run as the report sees it: read from its ledger, or from the JSON of a report about it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portrait.campaign.ledger import Ledger, LedgerJob
from portrait.campaign.settle import finalize_run
from portrait.errors import EvaluationError, SettingsError
from portrait.judge.gallery import genuine_impostor_gap
from portrait.records import Embedding
from portrait.records.portrait import AttemptRecord, PortraitRecord

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """A run as the report sees it: a dictionary per job (`jobs` of the JSON), and what is not written into reports."""

    name: str
    jobs: list[dict[str, Any]]
    people: list[dict[str, Any]]
    separation: dict[str, float] = field(default_factory=dict)
    looks: list[dict[str, float]] = field(default_factory=list)
    embeddings: list[dict[str, Embedding]] = field(default_factory=list)
    identities: dict[str, dict[str, Embedding]] = field(default_factory=dict)
    licenses: list[dict[str, str]] = field(default_factory=list)
    far: float | None = None
    pending: int = 0
    settled: bool = True


def read_run(folder: Path) -> Run:
    """Read a campaign's ledger. A run that was killed before its end is judged first, if no other process works on it.

    Raises:
        CampaignError: the folder is no run.
        EvaluationError: nothing was made yet.
    """
    settled = finalize_run(folder)
    with Ledger.open(folder) as ledger:
        people = list(ledger.subjects())
        photos = {p["name"]: p["photos"][0]["sha256"] for p in people}
        jobs, looks, embeddings = [], [], []
        licenses: dict[str, dict[str, str]] = {}
        rates: set[float] = set()
        for job in ledger.jobs("accepted", "rejected", "failed"):
            done = ledger.result(job.id)
            jobs.append(
                _entry(job, photos[job.picture.subject], done.record if done else None, ledger.attempts(job.id))
            )
            if done:
                licenses |= {link.part: link.model_dump() for link in done.record.licenses}
                rates.add(done.record.far)
            looks.append(done.look if done else {})
            embeddings.append(done.embeddings if done else {})
        name, pending = str(ledger.get("name") or folder.name), ledger.counts().pending
        kept = ledger.get("separation") or {}  # of before the embeddings were pruned
    if not jobs:
        raise EvaluationError(f"{folder}: nothing was made yet; run it first")
    listed = [{"subject": p["name"], "columns": p["columns"], "failure": p["failure"]} for p in people]
    run = Run(
        name=name,
        jobs=jobs,
        people=listed,
        looks=looks,
        embeddings=embeddings,
        identities={p["name"]: p["embeddings"] for p in people if p["embeddings"]},
        licenses=list(licenses.values()),
        far=rates.pop() if len(rates) == 1 else None,
        pending=pending,
        settled=settled,
    )
    made = ((jobs[i]["subject"], embeddings[i]) for i in _with_pictures(run))
    run.separation.update(genuine_impostor_gap(run.identities, made) or kept)
    return run


def read_baseline(path: Path) -> Run:
    """A run's folder, or the JSON of a report about one.

    Raises:
        SettingsError: it is neither.
    """
    if path.is_dir():
        return read_run(path)
    try:
        report = json.loads(path.read_text("utf-8"))
        if report["schema"] != SCHEMA:
            raise SettingsError(f"{path} has schema {report['schema']}; this version of portrait reads {SCHEMA}")
        jobs, people = list(report["jobs"]), list(report["people"])
        return Run(
            name=report["run"]["name"],
            jobs=jobs,
            people=people,
            separation=dict(report["separation"]),
            pending=report["run"].get("pending", 0),
            settled=report["run"].get("settled", True),
        )
    except OSError as error:
        raise SettingsError(f"cannot read baseline {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"baseline {path} is neither a run's folder nor the JSON of a report: {error!r}") from None


def _entry(
    job: LedgerJob, photo: str, record: PortraitRecord | None, attempts: Sequence[AttemptRecord]
) -> dict[str, Any]:
    picture = job.picture
    entry: dict[str, Any] = {
        "subject": picture.subject, "recipe": picture.recipe, "style": picture.style, "axes": dict(picture.axes),
        "variant": picture.variant, "photo": photo, "state": job.state, "reasons": list(job.reasons),
        "attempts": len(attempts), "seconds": round(sum(attempt.seconds for attempt in attempts), 3), "output": job.output,
        "first": None, "quoted": {}, "delivered": None, "thresholds": {}, "seed": None,
    }  # fmt: skip
    if record is None or not attempts or job.state == "failed":
        return entry
    limits = {judge: threshold.value for judge, threshold in record.thresholds.items()}
    chosen = record.chosen_attempt
    entry["thresholds"], entry["seed"] = limits, record.seed
    entry["first"], entry["delivered"] = _measures(attempts[0]), _measures(chosen)
    if attempts[0].seed == chosen.seed:  # what the run as a whole said of it, `swapped`, is said of this attempt
        entry["first"]["accepted"] = job.state == "accepted"
    entry["quoted"] = {judge: quoted(attempts, limits, judge) for judge in limits}
    return entry


def _measures(attempt: AttemptRecord) -> dict[str, Any]:
    return {
        "accepted": attempt.accepted,
        "face_found": attempt.face_found,
        "similarity": attempt.similarity,
        "style_on_face": attempt.style_on_face,
        "burned": attempt.burned,
        "reasons": list(attempt.reasons),
    }


def quoted(attempts: Sequence[AttemptRecord], limits: Mapping[str, float], judge: str) -> float:
    """What `judge` says of the attempt that the *other* judges alone would have chosen: free of the winner's curse.

    A picture that is taken because a judge likes it has, on average, too high a score with that judge. So here the
    others choose (the first attempt that passes with them and has no other fault, or else the one that comes nearest),
    and `judge` is asked. Where there is no other judge, it is the first attempt, which nobody chose.
    """
    others = [name for name in limits if name != judge]
    if not others:
        return attempts[0].similarity[judge]

    def margin(attempt: AttemptRecord) -> float:
        return min(attempt.similarity[name] - limits[name] for name in others)

    for attempt in attempts:
        if margin(attempt) >= 0 and all(reason == f"identity_low:{judge}" for reason in attempt.reasons):
            return attempt.similarity[judge]
    return max(attempts, key=margin).similarity[judge]


def _with_pictures(run: Run) -> list[int]:
    return [i for i, job in enumerate(run.jobs) if job["delivered"] and run.embeddings and run.embeddings[i]]


def _unseen(run: Run) -> set[str]:
    """The people whose photo could not be used."""
    return {person["subject"] for person in run.people if person["failure"]}
