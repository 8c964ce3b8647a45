"""Judge the pictures of a run against everybody in it, and keep one file for each job."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from portrait.campaign.files import output_file
from portrait.campaign.ledger import Ledger, LedgerJob
from portrait.campaign.lock import exclusive_lock
from portrait.errors import CampaignError, InputError
from portrait.files import write_bytes
from portrait.judge.gallery import Gallery
from portrait.paths import below
from portrait.records.portrait import Status, SwappedRecord
from portrait.records.reasons import Reason
from portrait.records.report import NearestOther

log = logging.getLogger(__name__)

_CHUNK = 500
"""Pictures that are judged against everybody else at a time."""


def finalize(ledger: Ledger) -> None:
    """Judge the pictures of a run against everybody in it, unless that was done since the run last started."""
    if not ledger.meta().finalized:
        judge_against_everyone(ledger)
        ledger.set(finalized=True)


def finalize_run(folder: Path) -> bool:
    """Judge a run's pictures against everybody in it, if a killed run has not; return whether they are judged now.

    They are not if another process works on the folder, or it cannot be written to.

    Raises:
        CampaignError: the folder is not a run.
    """
    with Ledger.open(folder) as ledger:
        if ledger.meta().finalized:
            return True
    try:
        with exclusive_lock(folder), Ledger.open(folder) as ledger:
            finalize(ledger)
    except (CampaignError, InputError) as error:
        log.info("%s is not finalized: %s", folder, error)
        return False
    return True


def judge_against_everyone(ledger: Ledger) -> None:
    """Judge every picture against everybody else in the run, and keep one file for each job.

    This is done at the end because everybody must be known, and because a picture must depend on its own photo alone. It can
    be repeated at any time.
    """
    gallery = Gallery({person.name: person.embeddings for person in ledger.subjects()})
    place = -1
    while jobs := ledger.judged_jobs(place, _CHUNK):
        place = jobs[-1].place
        portraits = [(job.picture.subject, ledger.embeddings_of(job.id)) for job in jobs]
        for job, (_, embeddings), nearest in zip(jobs, portraits, gallery.nearest(portraits), strict=True):
            output = job.output
            other = nearest if nearest is not None and nearest.margin > 0 else None
            if other or ("swapped" in job.reasons and embeddings):
                output = _judge_again(ledger, job, other)
            if output:
                _remove_stale_files(ledger.folder, job, output)
    _note_duplicates(ledger, [pair.subjects for pair in gallery.duplicate_identities()])


def _remove_stale_files(folder: Path, job: LedgerJob, output: str) -> None:
    """Remove the picture that a job had under another verdict."""
    for state in ("accepted", "rejected"):
        stale = output_file(job.stem, state, Path(output).suffix)
        if stale != output:
            with suppress(OSError):
                file = below(folder, stale)
                file.unlink(missing_ok=True)
                file.with_suffix(".json").unlink(missing_ok=True)


def _note_duplicates(ledger: Ledger, pairs: Sequence[tuple[str, str]]) -> None:
    """Store the pairs of people whom no judge can tell apart, and warn if they have changed."""
    if tuple(pairs) == ledger.meta().alike:
        return
    ledger.set(alike=pairs)
    if pairs:
        log.warning(
            "%d pairs of people look like one person to every judge, so their portraits are not judged against each "
            "other: %s; if they are one person, name them as one subject",
            len(pairs),
            ", ".join(" and ".join(pair) for pair in pairs[:3]) + (" and more" if pairs[3:] else ""),
        )


def _judge_again(ledger: Ledger, job: LedgerJob, other: NearestOther | None) -> str:
    """Add `swapped` to a verdict, or remove it; return the output. Files are written first, then the ledger."""
    result = ledger.result(job.id)
    if result is None or result.record.campaign is None or job.output is None:
        raise CampaignError(f"{ledger.folder}: the ledger has no picture of {job.stem}; start the run again")
    record, campaign = result.record, result.record.campaign
    swapped = SwappedRecord(subject=other.subject, margin=other.margin) if other else None
    reasons = record.chosen_attempt.reasons
    if swapped and "swapped" not in reasons:
        reasons = (Reason("swapped"), *reasons)
    if (job.reasons, campaign.swapped) == (reasons, swapped):
        return job.output
    status = Status.REJECTED if reasons else Status.ACCEPTED
    old = below(ledger.folder, job.output)
    if status == Status.ACCEPTED and not old.is_file():  # pruned while it was rejected
        ledger.requeue(ids=[job.id])
        return job.output
    output = output_file(job.stem, status, old.suffix)
    campaign = campaign.model_copy(update={"swapped": swapped})
    record = record.model_copy(update={"status": status, "reasons": reasons, "output": output, "campaign": campaign})
    new = below(ledger.folder, output)
    if output != job.output and old.is_file():
        write_bytes(new, old.read_bytes())
    write_bytes(new.with_suffix(".json"), record.file_bytes())
    ledger.judge(job, record)
    return output
