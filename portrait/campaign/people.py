"""The people of a campaign: photos in a folder, in a list, or in a table with further columns."""

from __future__ import annotations

import csv
import io
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, zip_longest
from pathlib import Path

from portrait.errors import NoPeopleError, SettingsError
from portrait.images import PHOTO_SUFFIXES, PassedOver, photos_in
from portrait.images.search import describe
from portrait.paths import JOINERS, shorten_name
from portrait.validation import read_lines, read_text

_MAX_NAME_BYTES = 255
"""Bytes of a displayed name: as many as a photo's file name can have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One person of a campaign: the photo that is stylized, more photos of the same person, columns of the CSV.

    `name` is as in the plan, `folder` a version of it that file systems accept; both are unique to this person.
    """

    name: str
    photos: tuple[Path, ...]
    folder: str = ""
    columns: dict[str, str] = field(default_factory=dict)


def read_people(subjects: str | tuple[str, ...], folder: Path) -> tuple[tuple[Person, ...], tuple[PassedOver, ...]]:
    """The people in a plan, and the files of a folder that were skipped.

    Args:
        subjects: A folder, a .csv or .txt file, or a list of photos.
        folder: The folder to which relative paths refer.

    Raises:
        NoPeopleError: `subjects` is not there, or contains nobody.
        SettingsError: `subjects` cannot be read.
    """
    passed_over: list[PassedOver] = []
    if isinstance(subjects, tuple):
        people = _from_paths(subjects, folder)
    else:
        path = folder / subjects
        if path.suffix.lower() in (".csv", ".tsv"):
            people = _from_csv(path)
        elif path.suffix.lower() == ".txt":
            people = _from_paths(read_lines(path), path.parent)
        elif path.is_dir():
            people, passed_over = _from_folder(path)
        else:
            raise NoPeopleError(f"subjects {path} is neither a folder nor a .csv or .txt file")
    if not people:
        why = describe(passed_over) or f"supported are {', '.join(sorted(PHOTO_SUFFIXES))}"
        raise NoPeopleError(f"no photos in subjects {subjects!r}; {why}")
    return _with_folders(people), tuple(passed_over)


def _with_folders(people: Iterable[Person]) -> tuple[Person, ...]:
    """Give each person a folder of their own, even on disks that ignore case; a repeated name or folder is numbered."""
    names: set[str] = set()
    folders: set[str] = set()
    named = []
    for person in people:
        name = _free(_printable(person.name), names, str)
        named.append(replace(person, name=name, folder=_free(safe_name(name), folders, str.casefold)))
    return tuple(named)


def _free(base: str, taken: set[str], key: Callable[[str], str]) -> str:
    """Reserve the name, or the name with the first free number appended."""
    name = next(name for n in count(1) if key(name := f"{base}-{n}" if n > 1 else base) not in taken)
    taken.add(key(name))
    return name


def _printable(name: str) -> str:
    """A name on one line, with unprintable characters replaced."""
    text = " ".join(unicodedata.normalize("NFC", name).split())
    text = "".join(char if char.isprintable() or char in JOINERS else "\N{REPLACEMENT CHARACTER}" for char in text)
    return shorten_name(text, _MAX_NAME_BYTES) or "unnamed"


def _from_paths(paths: Iterable[str], folder: Path) -> list[Person]:
    return [Person(name=Path(path).stem, photos=(folder / path,)) for path in paths]


def _from_folder(folder: Path) -> tuple[list[Person], list[PassedOver]]:
    """Each picture is a person; so is each folder of pictures, of which the first by name is stylized."""
    try:
        photos, passed_over = photos_in(folder)
        subfolders = sorted(path for path in folder.iterdir() if os.path.isdir(path) and not path.name.startswith("."))
    except OSError as error:
        raise SettingsError(f"cannot read subjects {folder}: {error.strerror}") from None
    people = [Person(name=path.stem, photos=(path,)) for path in photos]
    for subfolder in subfolders:
        photos, others = _photos_of_person(subfolder)
        passed_over += others
        if photos:
            people.append(Person(name=subfolder.name, photos=tuple(photos)))
    return people, passed_over


def _photos_of_person(folder: Path) -> tuple[list[Path], list[PassedOver]]:
    try:
        photos, passed_over = photos_in(folder)
        nested = [path for path in folder.iterdir() if os.path.isdir(path)]
    except OSError as error:
        return [], [PassedOver(folder, f"a folder that cannot be read: {error.strerror}")]
    is_empty = not photos and not passed_over
    passed_over += [PassedOver(path, "a folder in a person's folder") for path in nested]
    if is_empty:
        passed_over.append(PassedOver(folder, "a folder without photos"))
    return photos, passed_over


def _from_csv(file: Path) -> list[Person]:
    """Columns: photo, several separated by |; subject, default: the photo's name; any others are kept for the report.

    Several rows with the same subject are several photos of that person.
    """
    rows = _csv_rows(file)
    headings = next(rows, (file, []))[1]
    photo_heading, subject_heading = _photo_and_subject(headings, file)
    people: dict[str, Person] = {}
    for where, row in rows:
        cells = _by_heading(row, headings, where)
        photos = _photos_in(cells.pop(photo_heading), file.parent, where)
        subject = cells.pop(subject_heading) if subject_heading else ""
        name = unicodedata.normalize("NFC", subject or photos[0].stem)
        if name not in people:
            people[name] = Person(name=name, photos=photos, columns=cells)
        elif subject:
            people[name] = replace(people[name], photos=people[name].photos + photos)
        else:
            raise SettingsError(f"{where}: a second {name}; add a column subject with their names")
    return list(people.values())


def _csv_rows(file: Path) -> Iterator[tuple[str, list[str]]]:
    """The position and stripped cells of every row that is not empty; the first row has the headings.

    The delimiter is given by Excel's first line `sep=;`, or else the most frequent one in the headings.
    """
    text = read_text(file)
    lines_above = 0
    if excel := re.match(r'(?i)"?sep=(.)"?(\n|$)', text):
        text, delimiter, lines_above = text[excel.end() :], excel[1], 1
    else:
        delimiter = max(",;\t", key=text.lstrip("\n").partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield f"{file} line {reader.line_num + lines_above}", cells
    except csv.Error as error:
        raise SettingsError(f"{file} line {reader.line_num + lines_above}: {error}") from None


def _photo_and_subject(headings: Sequence[str], file: Path) -> tuple[str, str]:
    """The names of the columns photo and subject; the second is empty if there is none."""
    by_word = {heading.lower(): heading for heading in headings if heading}
    if len(by_word) < sum(map(bool, headings)):
        raise SettingsError(f"{file} has two columns with the same name; its columns: {', '.join(headings)}")
    photo = by_word.get("photo") or by_word.get("photos")
    if not photo:
        raise SettingsError(f"{file} lacks the column photo; its columns: {', '.join(by_word) or 'none'}")
    return photo, by_word.get("subject") or by_word.get("name") or ""


def _by_heading(row: Sequence[str], headings: Sequence[str], where: str) -> dict[str, str]:
    """A row's cells by heading; missing cells are empty, and cells without a heading must be empty."""
    pairs = list(zip_longest(headings, row, fillvalue=""))
    if any(cell and not heading for heading, cell in pairs):
        raise SettingsError(f"{where}: more cells than columns")
    return {heading: cell for heading, cell in pairs if heading}


def _photos_in(cell: str, folder: Path, where: str) -> tuple[Path, ...]:
    photos = tuple(folder / path.strip() for path in cell.split("|") if path.strip())
    if not photos:
        raise SettingsError(f"{where}: no photo")
    return photos


def moved_photos(before: Mapping[str, str], now: Mapping[str, str]) -> list[tuple[str, str]]:
    """Photos whose name has changed: (name now, name before), sorted by name.

    Args:
        before: Name -> SHA-256 of the photo.
        now: The same at a later time.
    """
    owners = {digest: name for name, digest in before.items()}
    moved = ((name, owners[digest]) for name, digest in now.items() if digest in owners and before.get(name) != digest)
    return sorted(moved)


def safe_name(text: str) -> str:
    """A folder name that every file system accepts: letters and marks of every script, digits, emoji."""
    text = "".join(c if _is_safe(c) else "-" for c in unicodedata.normalize("NFC", text))
    text = text.strip(" .-" + JOINERS) or "unnamed"
    # Windows' device names, even before a dot
    text = re.sub(r"(?i)^(con|prn|aux|nul|(?:com|lpt)\d)(?= *(?:\.|$))", r"\1-", text)
    return shorten_name(text)


def _is_safe(char: str) -> bool:
    category = unicodedata.category(char)
    return (
        category[0] in "LMN"
        or (category in ("So", "Sk") and char not in "^`\N{REPLACEMENT CHARACTER}")
        or char in " .-_" + JOINERS
    )
