"""Export a run: the accepted pictures by person and style, in the requested sizes."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from portrait.campaign.ledger import Ledger, LedgerJob
from portrait.campaign.settle import finalize_run
from portrait.campaign.sizes import SIZES, encode_size, face_box, unknown_size
from portrait.errors import CampaignError, InputError, SettingsError
from portrait.files import leftovers, write_bytes
from portrait.images import read_picture
from portrait.paths import below
from portrait.provenance.credentials import CROP_ACTIONS, Signer
from portrait.records.portrait import PortraitRecord

MANIFEST = "manifest.csv"
BEGUN = "manifest.begun.csv"
"""Lists the files of an export until its manifest is written, so that an interrupted one can be cleaned up."""
COLUMNS = (
    "file", "subject", "recipe", "style", "variant", "size", "width", "height", "enlarged", "padded", "seed", "key",
    "run",
)  # fmt: skip
"""Columns of the manifest, before those of the plan's CSV."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """The number of files written, and of portraits.

    `enlarged` counts files that had to be enlarged, `removed` files of the previous export that were deleted. `finalized` is
    False if not every portrait was judged against everybody in the run.
    """

    files: int
    pictures: int
    enlarged: int
    removed: int
    finalized: bool
    manifest: Path


def export_run(run: Path, folder: Path, sizes: Sequence[str] = (), *, signer: Signer | None = None) -> ExportResult:
    """Write every accepted picture as `SUBJECT/STYLE...-SIZE.suffix`, and a manifest CSV with one line each.

    A run that was killed before its end is judged first (`finalize_run`), so that nobody gets a portrait of somebody else.
    Files of a killed export are known to the next one, as if there were a manifest.

    Args:
        run: A run's folder.
        folder: The target. Files of an earlier export, by its manifest, are replaced, or removed if no longer exported.
        sizes: Names of `SIZES`; if none, those of the plan, or else the original.
        signer: Signs each file with Content Credentials; None leaves them unsigned.

    Raises:
        SettingsError: a size is unknown; or the folder holds the export of another run, or some other manifest.
        CampaignError: the folder is not a run, or a picture of it is missing.
    """
    finalized = finalize_run(run)
    with Ledger.open(run) as ledger, ExitStack() as stack:
        names = sizes or ledger.meta().sizes or ("original",)
        if unknown := unknown_size(names):
            raise SettingsError(unknown)
        columns_of = {person.name: person.columns for person in ledger.subjects()}
        more_columns = sorted({column for columns in columns_of.values() for column in columns})
        run_id = ledger.meta().id
        earlier_files = _listed_in(folder / MANIFEST, run_id) | _listed_in(folder / BEGUN, run_id)
        several_recipes = len({job.picture.recipe for job in ledger.jobs()}) > 1
        rows: list[list[object]] = []
        pictures = 0
        enlarged = 0
        note = stack.enter_context(_begun(folder, run_id, earlier_files))
        for job, record, source in _accepted(ledger, run):
            pictures += 1
            more_cells = [columns_of[job.picture.subject].get(column, "") for column in more_columns]
            picture = read_picture(source)  # once for all sizes
            for name in names:
                copy = _copy_in_size(source, picture, record, name, signer)
                enlarged += copy.scale > 1
                path = f"{_export_stem(job, name, several_recipes)}.{copy.suffix}"
                note(path)  # before it is written: a killed export must leave no file that the next one does not know
                write_bytes(below(folder, path), copy.data)
                rows.append([path, *_cells(job, name, copy, record.seed), run_id, *more_cells])
    manifest = _write_manifest(folder, [[*COLUMNS, *map(_heading, more_columns)], *rows])
    removed = _remove_earlier(folder, earlier_files, {str(row[0]) for row in rows})
    return ExportResult(
        files=len(rows), pictures=pictures, enlarged=enlarged, removed=removed, finalized=finalized, manifest=manifest
    )


def _accepted(ledger: Ledger, run: Path) -> Iterator[tuple[LedgerJob, PortraitRecord, Path]]:
    """Each accepted job with its record and the file of its picture.

    Raises:
        CampaignError: a picture is missing.
    """
    for job in ledger.jobs("accepted"):
        result = ledger.result(job.id)
        if result is None or job.output is None:
            continue
        picture = below(run, job.output)
        if not picture.is_file():
            raise CampaignError(f"{picture} is missing; run the campaign again, which makes it again, then export")
        yield job, result.record, picture


def _export_stem(job: LedgerJob, size: str, several_recipes: bool) -> str:
    """The path of a picture in the export's folder, without its suffix."""
    recipe = f"{job.picture.recipe}_" if several_recipes else ""
    end = "" if size == "original" else f"-{size}"
    return f"{job.picture.folder}/{recipe}{Path(job.stem).name}{end}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copy:
    """A picture in one size, encoded. `scale` above 1 means that it was enlarged, `padded` that its border was filled."""

    data: bytes
    suffix: str
    width: int
    height: int
    scale: float = 1.0
    padded: bool = False


def _copy_in_size(file: Path, picture: np.ndarray, record: PortraitRecord, name: str, signer: Signer | None) -> _Copy:
    size = SIZES[name]
    if size is None:
        height, width = picture.shape[:2]
        data, suffix = file.read_bytes(), file.suffix[1:]
        signed = data if signer is None else signer.sign(data, suffix, record)
        return _Copy(data=signed, suffix=suffix, width=width, height=height)
    data, suffix, crop = encode_size(picture, size, face_box(record), tool=not record.settings.no_metadata)
    if signer is not None:
        data = signer.sign(data, suffix, record, edits=CROP_ACTIONS)
    return _Copy(data=data, suffix=suffix, width=size.width, height=size.height, scale=crop.scale, padded=crop.padded)


def _cells(job: LedgerJob, size: str, copy: _Copy, seed: int) -> list[object]:
    """The cells of `COLUMNS` between the file and the run."""
    picture = job.picture
    return [
        picture.subject,
        picture.recipe,
        picture.style,
        picture.variant + 1,
        size,
        copy.width,
        copy.height,
        copy.scale if copy.scale > 1 else "",
        "yes" if copy.padded else "",
        seed,
        job.key,
    ]


def _heading(column: str) -> str:
    """The heading of a column of the subjects' table, marked if its name is one of ours."""
    return f"{column} (of the subjects)" if column in COLUMNS else column


def _write_manifest(folder: Path, rows: Iterable[Sequence[object]]) -> Path:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([plain_cell(value) for value in row] for row in rows)
    return write_bytes(folder / MANIFEST, text.getvalue().encode("utf-8-sig"))


def _listed_in(file: Path, run_id: str) -> set[str]:
    """The files that a manifest of an earlier export of this run lists; none if there is no manifest.

    Raises:
        SettingsError: the manifest is for another run, or something else.
    """
    if not file.is_file():
        return set()
    try:
        text = file.read_text("utf-8-sig")
        whole = text[: text.rfind("\n") + 1] if file.name == BEGUN else text  # the last line may be cut short
        rows = csv.DictReader(io.StringIO(whole, newline=""))
        is_ours = {"file", "run"} <= set(rows.fieldnames or ())
        listed = [(row["file"], row["run"]) for row in rows] if is_ours else []
    except (OSError, ValueError, csv.Error):
        is_ours = False
    if not is_ours or any(run != run_id for _, run in listed):
        raise SettingsError(
            f"{file} is not from this run; name another folder with -o, so that nothing in it is replaced"
        )
    return {name for name, _ in listed if _is_below(file.parent, name)}


def _is_below(folder: Path, name: str) -> bool:
    """Whether a name in a manifest can be that of an exported file."""
    try:
        return below(folder, name) != folder
    except InputError:
        return False


@contextmanager
def _begun(folder: Path, run_id: str, files: Iterable[str]) -> Iterator[Callable[[str], None]]:
    """Keep a list of the files of an export; yields a function that adds one before it is written."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("file", "run"), *((name, run_id) for name in sorted(files))])
    with write_bytes(folder / BEGUN, text.getvalue().encode()).open("a", encoding="utf-8", newline="") as file:

        def note(name: str) -> None:
            csv.writer(file).writerow((name, run_id))
            file.flush()

        yield note


def _remove(folder: Path, files: Iterable[str]) -> int:
    """Remove files below a folder, and folders that become empty; return the number of files removed."""
    count = 0
    for path in (folder / name for name in files):
        if path.is_file():
            path.unlink()
            count += 1
            with suppress(OSError):  # not empty
                path.parent.rmdir()
    return count


def _remove_earlier(folder: Path, earlier_files: Set[str], files: Set[str]) -> int:
    """Remove what earlier exports left and this one, whose files are `files`, has not; return how many pictures."""
    _remove_leftovers([folder / name for name in {MANIFEST, BEGUN, *earlier_files, *files}])
    # On some disks a name that differs only in case is the same file, which must then not be removed as an earlier one.
    names = {file.casefold() for file in files}
    removed = _remove(folder, (file for file in earlier_files if file.casefold() not in names))
    (folder / BEGUN).unlink(missing_ok=True)
    return removed


def _remove_leftovers(files: Sequence[Path]) -> None:
    """Remove temporary files of an export that was killed."""
    names = {file.name for file in files}
    for folder in {file.parent for file in files if file.parent.is_dir()}:
        for path in leftovers(folder):
            if path.name[1:-9] in names:
                path.unlink(missing_ok=True)


def plain_cell(value: object) -> object:
    """Keep spreadsheets from taking a cell for a formula: text that begins like one gets a leading apostrophe."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r\n＝＋－＠") else value
