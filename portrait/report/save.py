"""Write portraits to a folder: picture, record, before/after strip and contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from portrait.errors import InputError
from portrait.files import write_bytes, write_new
from portrait.images import encode_picture, thumbnail, write_picture
from portrait.loop.types import StylizedPortrait
from portrait.provenance.credentials import Signer
from portrait.provenance.files import write_portrait
from portrait.provenance.mark import xmp_mark
from portrait.records import RgbImage
from portrait.records.portrait import PortraitRecord
from portrait.report.explain import chain_in_words
from portrait.report.sheet import before_after, contact_sheet


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SavedPortrait:
    """What is kept of a finished portrait: its record, its file, and small pictures for the sheet.

    `problems` are errors that occurred while writing the files beside the picture.
    """

    record: PortraitRecord
    path: Path
    thumbnail: RgbImage
    before: RgbImage
    problems: tuple[InputError, ...] = ()


def save_portrait(
    result: StylizedPortrait, folder: Path, stem: str, kind: str, *, signer: Signer | None = None
) -> SavedPortrait:
    """Write picture, record and before/after; the file's name says if it was rejected.

    The picture is signed if there is a signer; the before/after strip is only marked as generated. If the picture is
    accepted, an earlier rejection of that name is deleted; accepted pictures are never deleted.

    Raises:
        InputError: the picture cannot be written.
    """
    name = stem if result.accepted else f"{stem}-rejected"
    path = write_portrait(folder / f"{name}.{kind}", result.pixels, result.record, signer=signer)
    record = result.record.model_copy(update={"output": str(path)})
    mark = xmp_mark(tool=not record.settings.no_metadata)
    problems = []
    try:
        write_bytes(folder / f"{name}.json", record.file_bytes())
        write_picture(folder / f"{name}-before-after.jpg", before_after(result.before, result.picture), xmp=mark)
    except InputError as error:
        problems.append(error)
    if result.accepted and not problems:
        for stale in (f"-rejected.{kind}", "-rejected.json", "-rejected-before-after.jpg"):
            with suppress(OSError):
                (folder / f"{stem}{stale}").unlink(missing_ok=True)
    return SavedPortrait(
        record=record.model_copy(update={"unwritten": tuple(map(str, problems))}),
        path=path,
        thumbnail=thumbnail(result.picture),
        before=thumbnail(result.before),
        problems=tuple(problems),
    )


def save_contact_sheets(rows: Sequence[SavedPortrait], folder: Path) -> tuple[list[Path], list[InputError]]:
    """Contact sheets of at most 100 pictures, each under the first free name: contact-sheet.jpg, contact-sheet-2.jpg, ...

    Returns:
        The files, and why others could not be written.
    """
    cells: list[tuple[RgbImage, str, bool | None]] = []
    last = None
    for row in rows:
        record = row.record
        source = (record.input.path, record.input.face.index)
        if source != last:
            cells.append((row.before, f"{Path(record.input.path).name}\nthe photo", None))
            last = source
        scores = "  ".join(f"{name} {value:.2f}" for name, value in record.chosen_attempt.similarity.items())
        cells.append((row.thumbnail, f"{record.style}: {record.status}\n{scores}", row.record.accepted))
    pages = [cells[i : i + 100] for i in range(0, len(cells), 100)]
    footer = chain_in_words(rows[0].record.recipe, rows[0].record.licenses)
    mark = xmp_mark(tool=not rows[0].record.settings.no_metadata)
    sheets, problems = [], []
    for page in pages:
        sheet = encode_picture(contact_sheet(page, footer=footer), "jpg", xmp=mark)
        try:
            sheets.append(write_new(folder / "contact-sheet.jpg", sheet))
        except InputError as error:
            problems.append(error)
    return sheets, problems
