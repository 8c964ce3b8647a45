"""Hand over a run: the accepted pictures by person and style in the sizes that were asked for; and clean up."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from portrait.campaign.files import BEFORE, PICTURES, before_file
from portrait.campaign.ledger import Ledger
from portrait.campaign.lock import exclusive_lock
from portrait.campaign.settle import finalize, finalize_run
from portrait.campaign.sizes import SIZES, encode_size, face_box
from portrait.errors import SettingsError
from portrait.images import read_photo, write_bytes
from portrait.judge.gallery import genuine_impostor_gap

MANIFEST = "manifest.csv"
_COLUMNS = (
    "file",
    "subject",
    "recipe",
    "style",
    "variant",
    "size",
    "width",
    "height",
    "enlarged",
    "padded",
    "seed",
    "key",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """How many files were written, of how many portraits; `enlarged` is how many had to be enlarged, `removed` how many
    files of the export before are gone. `settled` False: not every portrait was judged against everybody of the run."""

    files: int
    pictures: int
    enlarged: int
    removed: int
    settled: bool
    manifest: Path


def export_run(run: Path, folder: Path, sizes: Sequence[str] = ()) -> Exported:
    """Write every accepted picture as `SUBJECT/STYLE...-SIZE.suffix`, and a manifest CSV with a line each.

    A run that was killed before its end is judged first (`finalize_run`), so that nobody gets a portrait of somebody else.

    Args:
        run: A run's folder.
        folder: Where to. What its manifest lists of an earlier export is replaced, and removed if it is no longer in it.
        sizes: Names of `SIZES`; those of the plan if there are none, or else the original.

    Raises:
        SettingsError: an unknown size.
    """
    settled = finalize_run(run)
    with Ledger.open(run) as ledger:
        wanted = list(sizes) or ledger.get("sizes") or ["original"]
        for name in wanted:
            if name not in SIZES:
                raise SettingsError(f"no size {name!r}; sizes: {', '.join(SIZES)}")
        columns = sorted({column for person in ledger.subjects() for column in person["columns"]} - set(_COLUMNS))
        groups = {person["name"]: person["columns"] for person in ledger.subjects()}
        several = len({job.picture.recipe for job in ledger.jobs()}) > 1
        rows, pictures, enlarged = [], 0, 0
        for job in ledger.jobs("accepted"):
            done = ledger.result(job.id)
            if done is None or job.output is None:
                continue
            record, source = done.record, run / job.output
            picture = read_photo(source).pixels
            pictures += 1
            stem = Path(job.stem).name if not several else f"{job.picture.recipe}_{Path(job.stem).name}"
            for name in wanted:
                size, scale, padded = SIZES[name], 1.0, False
                if size is None:
                    data, suffix = source.read_bytes(), source.suffix[1:]
                    width, height = picture.shape[1], picture.shape[0]
                else:
                    data, suffix, crop = encode_size(picture, size, face_box(record))
                    width, height, scale, padded = size.width, size.height, crop.scale, crop.padded
                enlarged += scale > 1
                path = f"{job.picture.subject}/{stem}{'' if name == 'original' else '-' + name}.{suffix}"
                write_bytes(folder / path, data)
                own = [groups[job.picture.subject].get(column, "") for column in columns]
                facts = [
                    job.picture.subject,
                    job.picture.recipe,
                    job.picture.style,
                    job.picture.variant + 1,
                    name,
                    width,
                    height,
                ]
                rows.append(
                    [path, *facts, scale if scale > 1 else "", "yes" if padded else "", record.seed, job.key, *own]
                )
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerows([plain_cell(value) for value in row] for row in [[*_COLUMNS, *columns], *rows])
    before = _listed(folder)
    manifest = write_bytes(folder / MANIFEST, text.getvalue().encode("utf-8-sig"))
    now = {str(row[0]).casefold() for row in rows}
    removed = _remove(folder, (name for name in before if name.casefold() not in now))
    return Exported(
        files=len(rows), pictures=pictures, enlarged=enlarged, removed=removed, settled=settled, manifest=manifest
    )


def _listed(folder: Path) -> set[str]:
    """The files that the manifest in a folder lists; none if there is no such manifest."""
    try:
        with (folder / MANIFEST).open(encoding="utf-8-sig", newline="") as file:
            return {row["file"] for row in csv.DictReader(file) if row.get("file")}
    except (OSError, ValueError, csv.Error):
        return set()


def _remove(folder: Path, files: Iterable[str]) -> int:
    """Remove files below a folder, and the folders that are empty then; returns how many files went."""
    gone, top = 0, folder.resolve()
    for path in (top / name for name in files):
        if top in path.resolve().parents and path.is_file():
            path.unlink()
            gone += 1
            with suppress(OSError):  # others lie in it
                path.parent.rmdir()
    return gone


def plain_cell(value: object) -> object:
    """A cell that no spreadsheet takes for a formula: text that begins like one gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def prune_run(
    run: Path, *, rejected: bool = False, embeddings: bool = False, dry_run: bool = False
) -> tuple[list[Path], int]:
    """Remove what a run does not need any more; returns the files, and how many rows of embeddings or jobs went.

    Always: files that no job of the plan refers to, and jobs that the plan no longer names. With `rejected` the pictures
    that were not accepted (their rows and scores stay). With `embeddings` the faces' embeddings, which are biometric
    data: what is measured between people (impostors, one person over the styles) can then no longer be, but for
    the way from the person to a stranger, which stays in the ledger: the tolerance of every later comparison is a share
    of it.
    """
    with exclusive_lock(run), Ledger.open(run) as ledger:
        if not dry_run:
            finalize(ledger)
        keep: set[Path] = set()
        for job in ledger.jobs():
            if job.output and not (rejected and job.state == "rejected"):
                keep |= {run / job.output, (run / job.output).with_suffix(".json")}
            keep.add(run / before_file(job.picture.subject, job.picture.recipe))
        files = [
            p for place in (PICTURES, BEFORE) for p in sorted((run / place).rglob("*")) if p.is_file() and p not in keep
        ]
        if dry_run:
            return files, 0
        if rejected:
            ledger.set("pruned", True)
        for path in files:
            path.unlink(missing_ok=True)
        for top in (PICTURES, BEFORE):
            for place in sorted((run / top).rglob("*"), reverse=True):
                if place.is_dir() and not any(place.iterdir()):
                    place.rmdir()
        gone = ledger.delete_dropped()
        if embeddings:
            known = {person["name"]: person["embeddings"] for person in ledger.subjects()}
            made = ((job.picture.subject, ledger.seen_in(job.id)) for job in ledger.jobs("accepted", "rejected"))
            if found := genuine_impostor_gap(known, made):
                ledger.set("separation", found)
            gone += ledger.forget()
        return files, gone
