"""The data of a run for a report: read from its ledger, or from the JSON of a report about it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import cast

from pydantic import BaseModel, ConfigDict, ValidationError

from portrait.campaign.ledger import Ledger, LedgerJob
from portrait.campaign.settle import finalize_run
from portrait.errors import EvaluationError, SettingsError, one_line
from portrait.file_model import first_problem
from portrait.files import json_sha256
from portrait.judge.gallery import genuine_impostor_gap
from portrait.paths import require_regular_file
from portrait.records import Embedding
from portrait.records.portrait import AttemptRecord, LicenseLink, PortraitRecord
from portrait.records.report import SCHEMA, AttemptScores, DriftReport, JobState, ReportJob, ReportPerson

_NO_CONDITIONS = {
    "recipe", "style", "variants", "seed", "face", "keep", "background", "thresholds", "curves", "threads", "lora", "format",
    "no_metadata", "prompt",
}  # fmt: skip
"""Settings of single pictures, settings that are meant to differ, and texts and files, whose digests are compared instead."""

_DIGEST = 12
"""Hexadecimal digits of a digest that tell two of them apart."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """The data of a run for a report.

    `looks` and `embeddings` have one entry per job, empty if there is none; `identities` are the embeddings of people's
    photos by name and judge. None of these three is written into reports, so runs read from a report lack them, and
    `folder`, where the pictures are.
    """

    name: str
    folder: Path | None = None
    jobs: list[ReportJob]
    people: list[ReportPerson]
    genuine_impostor_gap: dict[str, float] = field(default_factory=dict)
    looks: list[dict[str, float]] = field(default_factory=list)
    embeddings: list[dict[str, Embedding]] = field(default_factory=list)
    identities: dict[str, dict[str, Embedding]] = field(default_factory=dict)
    licenses: list[LicenseLink] = field(default_factory=list)
    far: float | None = None
    pending: int = 0
    settled: bool = True
    conditions: dict[str, str] = field(default_factory=dict)

    @property
    def not_acquired(self) -> set[str]:
        """The people whose photo could not be used."""
        return {person.subject for person in self.people if person.failure}

    def with_embeddings(self) -> list[int]:
        """Indices of the jobs whose pictures have embeddings by all judges."""
        return [i for i, job in enumerate(self.jobs) if job.delivered and self.embeddings and self.embeddings[i]]


class _PlannedRecipe(BaseModel):
    """A recipe in a ledger's snapshot; its weights are compared file by file, and its other values by one digest."""

    model_config = ConfigDict(extra="allow")

    styles: dict[str, dict[str, object]] = {}
    weights: object = None


class _Snapshot(BaseModel):
    recipes: dict[str, _PlannedRecipe] = {}
    settings: dict[str, object] = {}


class _MadeWith:
    """What all portraits of a run together were made and judged with."""

    def __init__(self) -> None:
        self.licenses: dict[str, LicenseLink] = {}
        self._rates: set[float] = set()
        self._conditions: dict[str, set[str]] = {}

    def add(self, record: PortraitRecord) -> None:
        self.licenses |= {link.part: link for link in record.licenses}
        self._rates.add(record.far)
        for name, value in portrait_conditions(record).items():
            self._conditions.setdefault(name, set()).add(value)

    @property
    def far(self) -> float | None:
        """The false accept rate; None if it is not the same for all."""
        return next(iter(self._rates)) if len(self._rates) == 1 else None

    @property
    def conditions(self) -> dict[str, str]:
        return {name: ", ".join(sorted(values)) for name, values in sorted(self._conditions.items())}


def read_run(folder: Path) -> Run:
    """Read a campaign's ledger. A run that was killed before its end is judged first, if no other process works on it.

    Raises:
        CampaignError: the folder is not a run.
        EvaluationError: nothing was made yet.
    """
    settled = finalize_run(folder)
    with Ledger.open(folder) as ledger:
        subjects = list(ledger.subjects())
        meta = ledger.meta()
        photos = {subject.name: subject.photos[0].sha256 for subject in subjects}
        jobs: list[ReportJob] = []
        looks: list[dict[str, float]] = []
        embeddings: list[dict[str, Embedding]] = []
        made_with = _MadeWith()
        for job in ledger.jobs("accepted", "rejected", "failed"):
            result = ledger.result(job.id)
            record = result.record if result else None
            jobs.append(_report_job(job, photos[job.picture.subject], record, ledger.attempts(job.id)))
            looks.append(result.look if result else {})
            embeddings.append(result.embeddings if result else {})
            if record:
                made_with.add(record)
        name = meta.name or folder.name
        pending = ledger.counts().pending
    if not jobs:
        raise EvaluationError(f"{folder}: nothing was made yet; run it first")
    run = Run(
        name=name,
        folder=folder,
        jobs=jobs,
        people=[ReportPerson(subject=s.name, columns=s.columns, failure=s.failure) for s in subjects],
        looks=looks,
        embeddings=embeddings,
        identities={s.name: s.embeddings for s in subjects if s.embeddings},
        licenses=list(made_with.licenses.values()),
        far=made_with.far,
        pending=pending,
        settled=settled,
        conditions=made_with.conditions | dict(_planned_conditions(meta.snapshot)),
    )
    portraits = ((jobs[i].subject, embeddings[i]) for i in run.with_embeddings())
    run.genuine_impostor_gap.update(genuine_impostor_gap(run.identities, portraits) or meta.separation)
    return run


def read_baseline(path: Path) -> Run:
    """Read a run's folder, or the JSON of a report about one.

    Raises:
        SettingsError: it is neither.
    """
    if path.is_dir():
        return read_run(path)
    try:
        require_regular_file(path)
        values = json.loads(path.read_text("utf-8"))
        if values["schema"] != SCHEMA:
            raise SettingsError(f"{path} has schema {values['schema']}; this version of portrait reads {SCHEMA}")
        report = DriftReport.model_validate(values, extra="ignore")
    except OSError as error:
        raise SettingsError(f"cannot read baseline {path}: {error.strerror}") from None
    except ValidationError as error:
        raise SettingsError(f"baseline {path} is not the JSON of a report: {first_problem(error)}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SettingsError(
            f"baseline {path} is neither a run's folder nor the JSON of a report: {type(error).__name__}: {one_line(error)}"
        ) from None
    return Run(
        name=report.run.name,
        jobs=list(report.jobs),
        people=list(report.people),
        genuine_impostor_gap=dict(report.genuine_impostor_gap),
        pending=report.run.pending,
        settled=report.run.settled,
        conditions=dict(report.run.conditions),
    )


def portrait_conditions(record: PortraitRecord) -> dict[str, str]:
    """The conditions that may affect pictures or verdicts even for the same people and styles; without paths."""
    conditions = {
        "device": record.device,
        "dtype": record.dtype,
        "runtime": record.runtime,
        "judges": " + ".join(record.thresholds),
        "curves": record.policy.prior,
    }
    conditions |= {f"weights {name}": digest[:_DIGEST] for name, digest in record.weights.items()}
    conditions |= {f"version of {name}": version for name, version in record.versions.items()}
    place = f"in {record.recipe}, {record.style}"
    conditions[f"prompt {place}"] = json_sha256([record.prompt, record.negative_prompt])[:_DIGEST]
    conditions |= {f"threshold of {judge} {place}": str(limit.value) for judge, limit in record.thresholds.items()}
    conditions |= {f"limit of {name} {place}": str(value) for name, value in _limits(record)}
    names = [field.name for field in fields(record.settings) if field.name not in _NO_CONDITIONS]
    conditions |= {f"setting {name}": str(getattr(record.settings, name)) for name in names}
    return conditions


def _planned_conditions(snapshot: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """What the plan says besides: digests of each recipe and its curves and style statistics, and of files in settings."""
    try:
        planned = _Snapshot.model_validate(snapshot)
    except ValidationError:  # a ledger may come from somebody else
        return
    for recipe, entry in planned.recipes.items():
        yield f"recipe {recipe}", json_sha256(entry.model_extra)[:_DIGEST]
        for style, of_style in entry.styles.items():
            for name in ("curves", "statistics"):
                if isinstance(digest := of_style.get(name), str):
                    yield f"{name} in {recipe}, {style}", digest[:_DIGEST] or "none"
    if settings := planned.settings:
        for name in ("background", "keep", "matte"):
            yield name, json_sha256(settings[name])[:_DIGEST] if settings.get(name) else "none"


def _limits(record: PortraitRecord) -> Iterator[tuple[str, float | str]]:
    """The limits of the checks besides likeness, and of all judges together, by name."""
    for name, value in record.limits:
        if isinstance(value, float):
            yield name, value
    yield from record.limits.changed.items()
    yield from record.limits.kept.items()
    if record.gate:
        weights = " + ".join(f"{weight:g} {judge}" for judge, weight in record.gate.weights.items())
        yield "all judges together", f"{record.gate.least:g} of {record.gate.offset:g} + {weights}"


def _report_job(
    job: LedgerJob, photo: str, record: PortraitRecord | None, attempts: Sequence[AttemptRecord]
) -> ReportJob:
    picture = job.picture
    unjudged = ReportJob(
        subject=picture.subject,
        recipe=picture.recipe,
        style=picture.style,
        axes=dict(picture.axes),
        variant=picture.variant,
        photo=photo,
        state=cast(JobState, job.state),
        reasons=job.reasons,
        attempts=len(attempts),
        seconds=round(sum(attempt.seconds for attempt in attempts), 3),
        output=job.output,
        first=None,
        selection_free={},
        delivered=None,
        thresholds={},
        seed=None,
    )
    if record is None or not attempts or job.state == "failed":
        return unjudged
    thresholds = {judge: threshold.value for judge, threshold in record.thresholds.items()}
    chosen = record.chosen_attempt
    first = _scores(attempts[0])
    if attempts[0].seed == chosen.seed:  # `swapped` was found for the run as a whole; it applies to this attempt
        first = first.model_copy(update={"accepted": job.state == "accepted"})
    return unjudged.model_copy(
        update={
            "first": first,
            "delivered": _scores(chosen),
            "selection_free": {judge: selection_free_similarity(attempts, thresholds, judge) for judge in thresholds},
            "thresholds": thresholds,
            "seed": record.seed,
            "pixels_sha256": record.picture.pixels_sha256,
        }
    )


def _scores(attempt: AttemptRecord) -> AttemptScores:
    return AttemptScores.model_validate(attempt, from_attributes=True)


def selection_free_similarity(attempts: Sequence[AttemptRecord], thresholds: Mapping[str, float], judge: str) -> float:
    """The similarity by `judge` of the attempt that the *other* judges alone would have chosen: free of the winner's curse.

    A picture that was chosen for a judge's high score has, on average, too high a score by that judge. So here the others
    choose (the first attempt that passes with them and has no other fault, or else the closest one), and `judge` scores it.
    Without other judges it is the first attempt, which nobody chose.
    """
    others = [name for name in thresholds if name != judge]

    def margin(attempt: AttemptRecord) -> float:
        return min(attempt.similarity[name] - thresholds[name] for name in others)

    def acceptable(attempt: AttemptRecord) -> bool:
        return margin(attempt) >= 0 and all(reason == f"identity_low:{judge}" for reason in attempt.reasons)

    if not others:
        return attempts[0].similarity[judge]
    chosen = next(filter(acceptable, attempts), None) or max(attempts, key=margin)
    return chosen.similarity[judge]
