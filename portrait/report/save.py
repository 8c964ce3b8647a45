"""Write portraits to a folder: picture, record, before/after strip and contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from portrait.errors import InputError
from portrait.images import write_bytes, write_picture
from portrait.loop.types import StylizedPortrait
from portrait.provenance.credentials import Signer
from portrait.provenance.files import write_portrait
from portrait.provenance.mark import xmp_mark
from portrait.records import RgbImage
from portrait.records.portrait import PortraitRecord
from portrait.report.explain import chain_in_words
from portrait.report.sheet import before_after, contact_sheet, thumbnail


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SavedPortrait:
    """What is kept of a finished portrait: its record, where it lies, and small pictures for the sheet."""

    record: PortraitRecord
    path: Path
    thumbnail: RgbImage
    before: RgbImage

    @property
    def accepted(self) -> bool:
        """Whether every judge and check passed."""
        return self.record.accepted


def save_portrait(
    result: StylizedPortrait, folder: Path, stem: str, kind: str, *, signer: Signer | None = None
) -> SavedPortrait:
    """Write picture, record and before/after; the name says when it was rejected.

    The picture is signed where there is a signer, and the before/after strip is marked as generated only.
    A rejection of an earlier run goes when the picture is now accepted; an accepted picture is never deleted.
    """
    name = stem if result.accepted else f"{stem}-rejected"
    path = write_portrait(folder / f"{name}.{kind}", result.pixels, result.record, signer=signer)
    record = result.record.model_copy(update={"output": str(path)})
    write_bytes(folder / f"{name}.json", record.file_bytes())
    mark = xmp_mark(tool=not record.settings.no_metadata)
    write_picture(folder / f"{name}-before-after.jpg", before_after(result.before, result.picture), xmp=mark)
    if result.accepted:
        for stale in (f"-rejected.{kind}", "-rejected.json", "-rejected-before-after.jpg"):
            with suppress(OSError):
                (folder / f"{stem}{stale}").unlink(missing_ok=True)
    return SavedPortrait(record=record, path=path, thumbnail=thumbnail(result.picture), before=thumbnail(result.before))


def save_contact_sheets(rows: Sequence[SavedPortrait], folder: Path) -> list[Path]:
    """Contact sheets of at most 100 pictures, each under the first free name: contact-sheet.jpg, contact-sheet-2.jpg, ...

    Raises:
        InputError: the folder cannot be written to.
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
        cells.append((row.thumbnail, f"{record.style}: {record.status}\n{scores}", row.accepted))
    pages = [cells[i : i + 100] for i in range(0, len(cells), 100)]
    footer = chain_in_words(rows[0].record.recipe, rows[0].record.licenses)
    mark = xmp_mark(tool=not rows[0].record.settings.no_metadata)
    return [
        write_picture(_new_file(folder, "contact-sheet", ".jpg"), contact_sheet(page, footer=footer), xmp=mark)
        for page in pages
    ]


def _new_file(folder: Path, stem: str, suffix: str) -> Path:
    """An empty file under the first name that is free, taken at once so that no other run picks it too."""
    for number in count(1):
        path = folder / f"{stem}{f'-{number}' if number > 1 else ''}{suffix}"
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}") from None
        return path
    raise AssertionError("counting has no end")


def free_stem(stem: str, taken: set[str]) -> str:
    """`stem`, numbered if another photo of this call has it; file systems may not tell cases apart."""
    name, n = stem, 1
    while name.casefold() in taken:
        n += 1
        name = f"{stem}-{n}"
    taken.add(name.casefold())
    return name
