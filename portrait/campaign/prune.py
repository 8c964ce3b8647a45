"""Remove what a run no longer needs: files, jobs, embeddings."""

from __future__ import annotations

import os
from pathlib import Path

from portrait.campaign.files import BEFORE, PICTURES, before_file, leftovers_of
from portrait.campaign.ledger import Ledger
from portrait.campaign.lock import exclusive_lock
from portrait.campaign.settle import finalize
from portrait.judge.gallery import genuine_impostor_gap
from portrait.paths import below


def prune_run(
    run: Path, *, rejected: bool = False, embeddings: bool = False, dry_run: bool = False
) -> tuple[list[Path], int]:
    """Remove what a run no longer needs; return the files, and the number of rows of embeddings or jobs removed.

    Always removed: files that no job of the plan refers to, and jobs that are no longer in the plan. `rejected` also removes
    pictures that were not accepted; their rows and scores stay. `embeddings` also removes the faces' embeddings, which are
    biometric data. Comparisons between people (impostors, one person across styles) are then no longer possible; only the gap
    between a person and strangers stays in the ledger, because the tolerance of later comparisons is a share of it.
    """
    with exclusive_lock(run), Ledger.open(run) as ledger:
        if not dry_run:
            finalize(ledger)
        needed = _needed_files(ledger, rejected=rejected)
        places = (below(run, PICTURES), below(run, BEFORE))
        files = [path for place in places for path in _files_below(place) if path not in needed]
        files += [path for path in leftovers_of(run) if path not in files]
        if dry_run:
            return files, 0
        if rejected:
            ledger.set(pruned=True)
        for path in files:
            path.unlink(missing_ok=True)
        for place in places:
            _remove_empty_folders(place)
        rows = ledger.delete_dropped()
        if embeddings:
            rows += _clear_embeddings(ledger)
        return files, rows


def _needed_files(ledger: Ledger, *, rejected: bool) -> set[Path]:
    """The files that jobs refer to; with `rejected`, without those of rejected jobs."""
    files: set[Path] = set()
    for job in ledger.jobs():
        files.add(below(ledger.folder, before_file(job.stem)))
        if job.output and not (rejected and job.state == "rejected"):
            picture = below(ledger.folder, job.output)
            files |= {picture, picture.with_suffix(".json")}
    return files


def _files_below(top: Path) -> list[Path]:
    """Files and links; links are not followed."""
    paths = (Path(folder, name) for folder, folders, names in os.walk(top) for name in (*folders, *names))
    return sorted(path for path in paths if path.is_symlink() or path.is_file())


def _remove_empty_folders(top: Path) -> None:
    for folder, _, _ in os.walk(top, topdown=False):
        if Path(folder) != top and not os.listdir(folder):
            Path(folder).rmdir()


def _clear_embeddings(ledger: Ledger) -> int:
    """Remove the embeddings, except for what later comparisons need; return the number of rows."""
    people = {person.name: person.embeddings for person in ledger.subjects()}
    portraits = ((job.picture.subject, ledger.embeddings_of(job.id)) for job in ledger.jobs("accepted", "rejected"))
    if gap := genuine_impostor_gap(people, portraits):
        ledger.set(separation=gap)
    return ledger.clear_embeddings()
