"""The people of a campaign: photos in a folder, in a list, or in a table with columns of their own."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from portrait.errors import SettingsError
from portrait.images import PHOTO_SUFFIXES, PassedOver, photos_in
from portrait.images.search import describe
from portrait.validation import read_text

_MAX_NAME_BYTES = 80  # file systems take 255; pictures and temporary files add to it
_JOINERS = "\u200c\u200d"  # of letters in Persian and Hindi, of the parts of an emoji


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One person of a campaign: the photo that is stylized, more photos of the same person, columns of the CSV."""

    name: str
    photos: tuple[Path, ...]
    columns: dict[str, str] = field(default_factory=dict)


def read_people(subjects: str | tuple[str, ...], folder: Path) -> tuple[tuple[Person, ...], tuple[PassedOver, ...]]:
    """The people whom a plan names, and what a folder holds beside their photos.

    Args:
        subjects: A folder, a .csv or .txt file, or a list of photos.
        folder: Where relative paths start.

    Raises:
        SettingsError: it cannot be read, or holds nobody.
    """
    passed_over: list[PassedOver] = []
    if isinstance(subjects, tuple):
        people = _from_paths(subjects, folder)
    else:
        path = folder / subjects
        if path.suffix.lower() in (".csv", ".tsv"):
            people = _from_csv(path)
        elif path.suffix.lower() == ".txt":
            people = _from_list(path)
        elif path.is_dir():
            people, passed_over = _from_folder(path)
        else:
            raise SettingsError(f"subjects {path} is no folder, no .csv and no .txt file")
    if not people:
        why = describe(passed_over) or f"read are {', '.join(sorted(PHOTO_SUFFIXES))}"
        raise SettingsError(f"no photos in subjects {subjects!r}; {why}")
    return _with_safe_names(people), tuple(passed_over)


def _with_safe_names(people: Iterable[Person]) -> tuple[Person, ...]:
    """The people under names that are folders of their own, also where a disk takes A for a; a second one is numbered."""
    by_name: dict[str, Person] = {}
    for person in people:
        base = name = safe_name(person.name)
        number = 1
        while name.casefold() in by_name:
            number += 1
            name = f"{base}-{number}"
        by_name[name.casefold()] = replace(person, name=name)
    return tuple(by_name.values())


def _from_paths(paths: Iterable[str], folder: Path) -> list[Person]:
    return [Person(name=Path(path).stem, photos=(folder / path,)) for path in paths]


def _from_list(file: Path) -> list[Person]:
    lines = [line.strip() for line in read_text(file).splitlines()]
    return _from_paths([line for line in lines if line and not line.startswith("#")], file.parent)


def _from_folder(folder: Path) -> tuple[list[Person], list[PassedOver]]:
    """A picture is a person; so is a folder of pictures, of which the first by name is stylized."""
    photos, passed_over = photos_in(folder)
    people = [Person(name=path.stem, photos=(path,)) for path in photos]
    for subfolder in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        photos, others = photos_in(subfolder)
        passed_over += others
        passed_over += [
            PassedOver(path, "a folder in a person's folder") for path in subfolder.iterdir() if path.is_dir()
        ]
        if photos:
            people.append(Person(name=subfolder.name, photos=tuple(photos)))
        elif not others:
            passed_over.append(PassedOver(subfolder, "a folder without photos"))
    return people, passed_over


def _from_csv(file: Path) -> list[Person]:
    """Columns: photo, with | between several; subject, or else the photo's name; any others are kept for the report.

    Several rows of one subject are several photos of the same person.
    """
    rows, lines_above = _open_csv(file)
    photo_heading, subject_heading = _headings(rows.fieldnames or (), file)
    people: dict[str, Person] = {}
    for row in rows:
        if not any(row.values()):
            continue
        where = f"{file} line {rows.line_num + lines_above}"
        cells = _cells(row, where)
        photos = _photos_in(cells.pop(photo_heading), file.parent, where)
        subject = cells.pop(subject_heading) if subject_heading else ""
        name = subject or photos[0].stem
        if name not in people:
            people[name] = Person(name=name, photos=photos, columns=cells)
        elif subject:
            people[name] = replace(people[name], photos=people[name].photos + photos)
        else:
            raise SettingsError(f"{where}: a second {name}; add a column subject with their names")
    return list(people.values())


def _open_csv(file: Path) -> tuple[csv.DictReader[str], int]:
    """The rows of a CSV with whatever delimiter, and how many lines stand above its header: Excel's `sep=;`."""
    text = read_text(file)
    header, _, below = text.partition("\n")
    if excel := re.fullmatch(r"sep=(.)\r?", header):
        return csv.DictReader(io.StringIO(below, newline=""), delimiter=excel[1]), 1
    return csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count)), 0


def _headings(headings: Iterable[str], file: Path) -> tuple[str, str]:
    """What the columns of photo and subject are called, stripped; the second is empty where there is none."""
    by_word = {heading.strip().lower(): heading.strip() for heading in map(str, headings)}
    photo = by_word.get("photo") or by_word.get("photos")
    if not photo:
        raise SettingsError(f"{file} lacks the column photo; its columns: {', '.join(by_word) or 'none'}")
    return photo, by_word.get("subject") or by_word.get("name") or ""


def _cells(row: dict[str, str], where: str) -> dict[str, str]:
    """A row's cells by heading, stripped."""
    if None in row:  # where DictReader puts what has no heading
        raise SettingsError(f"{where}: more cells than columns")
    return {heading.strip(): (cell or "").strip() for heading, cell in row.items() if heading}


def _photos_in(cell: str, folder: Path, where: str) -> tuple[Path, ...]:
    photos = tuple(folder / path.strip() for path in cell.split("|") if path.strip())
    if not photos:
        raise SettingsError(f"{where}: no photo")
    return photos


def moved_photos(before: Mapping[str, str], now: Mapping[str, str]) -> list[tuple[str, str]]:
    """Photos that are called otherwise than before: (name now, name before) each, by name.

    Args:
        before: Name -> SHA-256 of the photo.
        now: The same of a later time.
    """
    owners = {digest: name for name, digest in before.items()}
    moved = ((name, owners[digest]) for name, digest in now.items() if digest in owners and before.get(name) != digest)
    return sorted(moved)


def safe_name(text: str) -> str:
    """A name that every file system takes as one folder: letters and marks of every script, digits, emoji."""
    text = "".join(c if _is_safe(c) else "-" for c in unicodedata.normalize("NFC", text))
    text = text.strip(" .-" + _JOINERS) or "unnamed"
    text = f"{text}-" if re.fullmatch(r"(?i)con|prn|aux|nul|(com|lpt)\d", text) else text
    return shorten_name(text, _MAX_NAME_BYTES, text)


def _is_safe(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] in "LMN" or (category in ("So", "Sk") and char not in "^`") or char in " .-_" + _JOINERS


def shorten_name(name: str, max_bytes: int, whole: str) -> str:
    """A name of at most so many bytes; one that was cut ends in six digits of the SHA-256 of what it stands for."""
    if len(name.encode()) <= max_bytes:
        return name
    digits = hashlib.sha256(whole.encode()).hexdigest()[:6]
    return f"{name.encode()[: max_bytes - 7].decode(errors='ignore').rstrip('-_')}-{digits}"
