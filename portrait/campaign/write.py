"""Write the result of a job: files first, each atomically, then the ledger's row."""

from __future__ import annotations

import logging

from portrait.campaign.files import before_file, is_there, output_file
from portrait.campaign.ledger import Ledger, LedgerJob
from portrait.campaign.worker import WorkResult
from portrait.files import write_bytes
from portrait.paths import below
from portrait.records.portrait import CampaignInfo, PortraitRecord

log = logging.getLogger(__name__)


def write_result(ledger: Ledger, job: LedgerJob, result: WorkResult, suffix: str) -> None:
    """Write a picture with its record, or why there is none."""
    subject = job.picture.subject
    if result.record is None:
        write_failure(ledger, job, result.failure)
        ledger.put_faces(subject, result.identity, result.failure if result.no_face else None)
        return
    if result.before:
        write_bytes(below(ledger.folder, before_file(job.stem)), result.before)
    ledger.put_faces(subject, result.identity)
    if not _keep_earlier(ledger, job, result.record):
        _write_picture(ledger, job, result, result.record, suffix)


def _keep_earlier(ledger: Ledger, job: LedgerJob, record: PortraitRecord) -> bool:
    """Whether a retry came no closer than the picture of an earlier round, which then stays."""
    earlier = ledger.result(job.id)
    if record.accepted or not job.round or earlier is None or not is_there(ledger.folder, job.output):
        return False
    if closeness(earlier.record) < closeness(record):
        return False
    ledger.end(job, "rejected", attempts=record.attempts, reasons=earlier.record.reasons)
    return True


def _write_picture(ledger: Ledger, job: LedgerJob, result: WorkResult, record: PortraitRecord, suffix: str) -> None:
    picture = job.picture
    output = output_file(job.stem, record.status, f".{suffix}")
    campaign = CampaignInfo(
        key=job.key, subject=picture.subject, variant=picture.variant, axes=dict(picture.axes), round=job.round
    )
    record = record.model_copy(update={"output": output, "campaign": campaign})
    path = below(ledger.folder, output)
    write_bytes(path, result.encoded)
    write_bytes(path.with_suffix(".json"), record.file_bytes())
    ledger.end(
        job,
        record.status,
        record=record,
        attempts=record.attempts,
        reasons=record.reasons,
        output=output,
        look=result.look,
        embeddings=result.embeddings,
    )


def write_failure(ledger: Ledger, job: LedgerJob, why: str) -> None:
    """End a job without a picture. A picture of an earlier round keeps its verdict."""
    earlier = ledger.result(job.id)
    if earlier and is_there(ledger.folder, job.output):
        log.warning("%s could not be made again (%s); the earlier picture stays", job.stem, why)
        ledger.end(job, earlier.record.status, reasons=earlier.record.reasons)
    else:
        ledger.end(job, "failed", reasons=[why])


def closeness(record: PortraitRecord) -> tuple[int, float]:
    """How close a rejected picture came: fewer reasons first, then the smallest margin to the judges' limits."""
    similarity = record.chosen_attempt.similarity
    margins = [similarity[judge] - threshold.value for judge, threshold in record.thresholds.items()]
    if record.gate is not None and record.chosen_attempt.evidence is not None:
        margins.append(record.chosen_attempt.evidence - record.gate.least)
    return -len(record.reasons), min(margins, default=0.0)
