"""Judge the pictures of a run against everybody of it, and leave one file of each job."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from portrait.campaign.files import output_file
from portrait.campaign.ledger import Ledger, LedgerJob
from portrait.campaign.lock import exclusive_lock
from portrait.errors import CampaignError, InputError
from portrait.images import write_bytes
from portrait.judge.gallery import Gallery, Nearest
from portrait.records.portrait import Status, SwappedRecord
from portrait.records.reasons import Reason

log = logging.getLogger(__name__)

_CHUNK = 500
"""Pictures that are judged against everybody else at once."""


def finalize(ledger: Ledger) -> None:
    """Judge the pictures of a run against everybody of it, if that was not done since a run last began."""
    if not ledger.get("settled"):
        judge_against_everyone(ledger)
        ledger.set("settled", True)


def finalize_run(folder: Path) -> bool:
    """Judge a run's pictures against everybody of it, if a run that was killed has not; whether they are judged now.

    They are not while another process works on the folder, or where it cannot be written to.

    Raises:
        CampaignError: the folder is no run.
    """
    with Ledger.open(folder) as ledger:
        if ledger.get("settled"):
            return True
    try:
        with exclusive_lock(folder), Ledger.open(folder) as ledger:
            finalize(ledger)
    except (CampaignError, InputError) as error:
        log.info("%s is not settled: %s", folder, error)
        return False
    return True


def judge_against_everyone(ledger: Ledger) -> None:
    """Judge every picture against everybody else of the run, and leave one file of each job.

    Here, and not while a picture is made, because everybody must be known, and because a picture shall depend on its own
    photo alone. It can be done again at any time.
    """
    gallery = Gallery({person["name"]: person["embeddings"] for person in ledger.subjects()})
    place = -1
    while jobs := ledger.ended(place, _CHUNK):
        place = jobs[-1].place
        found = gallery.nearest([(job.picture.subject, ledger.seen_in(job.id)) for job in jobs])
        for job, nearest in zip(jobs, found, strict=True):
            output = job.output
            if nearest is not None and (nearest.margin > 0 or "swapped" in job.reasons):
                output = _judge_again(ledger, job, nearest)
            for state in ("accepted", "rejected") if output else ():
                stale = ledger.folder / output_file(job.stem, state, Path(str(output)).suffix)
                if stale != ledger.folder / str(output):
                    with suppress(OSError):
                        stale.unlink(missing_ok=True)
                        stale.with_suffix(".json").unlink(missing_ok=True)
    alike = gallery.duplicate_identities()
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


def _judge_again(ledger: Ledger, job: LedgerJob, nearest: Nearest) -> str:
    """Put `swapped` into a verdict, or take it out; returns the output. Files first, then the ledger."""
    done = ledger.result(job.id)
    assert done is not None  # only what has a picture is judged
    assert job.output
    assert done.record.campaign
    reasons = done.record.chosen_attempt.reasons
    swapped = None
    if nearest.margin > 0:
        swapped = SwappedRecord(subject=nearest.subject, margin=nearest.margin)
        reasons = reasons if "swapped" in reasons else (Reason("swapped"), *reasons)
    if (job.reasons, done.record.campaign.swapped) == (reasons, swapped):
        return job.output
    status = Status.REJECTED if reasons else Status.ACCEPTED
    old = ledger.folder / job.output
    if status == Status.ACCEPTED and not old.is_file():  # pruned while it was rejected
        ledger.requeue(ids=[job.id])
        return job.output
    output = output_file(job.stem, status, old.suffix)
    campaign = done.record.campaign.model_copy(update={"swapped": swapped})
    changes = {"status": status, "reasons": reasons, "output": output, "campaign": campaign}
    record = done.record.model_copy(update=changes)
    if output != job.output and old.is_file():
        write_bytes(ledger.folder / output, old.read_bytes())
    write_bytes((ledger.folder / output).with_suffix(".json"), record.file_bytes())
    ledger.judge(job, record)
    return output
