"""The people of a campaign: photos in a folder, in a list, or in a table with columns of their own."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from portrait.errors import SettingsError
from portrait.validation import read_text

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".avif", ".heic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One person of a campaign: the photo that is stylized, more photos of the same person, columns of the CSV."""

    name: str
    photos: tuple[Path, ...]
    columns: dict[str, str] = field(default_factory=dict)


def read_people(subjects: str | tuple[str, ...], folder: Path) -> tuple[Person, ...]:
    """The people whom a plan names.

    Args:
        subjects: A folder, a .csv or .txt file, or a list of photos.
        folder: Where relative paths start.

    Raises:
        SettingsError: it cannot be read, holds nobody, or two people of one name.
    """
    if isinstance(subjects, tuple):
        people = _from_paths(subjects, folder)
    else:
        path = folder / subjects
        if path.suffix.lower() in (".csv", ".tsv"):
            people = _from_csv(path)
        elif path.suffix.lower() == ".txt":
            people = _from_list(path)
        elif path.is_dir():
            people = _from_folder(path)
        else:
            raise SettingsError(f"subjects {path} is no folder, no .csv and no .txt file")
    if not people:
        raise SettingsError(f"no photos in subjects {subjects!r} ({', '.join(PHOTO_SUFFIXES)})")
    return _with_safe_names(people)


def _with_safe_names(people: Iterable[Person]) -> tuple[Person, ...]:
    """The people under names that are folders of their own, also where a disk takes A for a."""
    by_name: dict[str, Person] = {}
    for person in people:
        name = safe_name(person.name)
        if other := by_name.get(name.casefold()):
            raise SettingsError(f"{other.photos[0]} and {person.photos[0]} are both called {name}; rename one")
        by_name[name.casefold()] = replace(person, name=name)
    return tuple(by_name.values())


def _from_paths(paths: Iterable[str], folder: Path) -> list[Person]:
    return [Person(name=Path(path).stem, photos=(folder / path,)) for path in paths]


def _from_list(file: Path) -> list[Person]:
    lines = [line.strip() for line in read_text(file).splitlines()]
    return _from_paths([line for line in lines if line and not line.startswith("#")], file.parent)


def _from_folder(folder: Path) -> list[Person]:
    """A picture is a person; so is a folder of pictures, of which the first by name is stylized."""
    people = [Person(name=path.stem, photos=(path,)) for path in _photos_in(folder)]
    for subfolder in sorted(path for path in folder.iterdir() if path.is_dir()):
        if photos := _photos_in(subfolder):
            people.append(Person(name=subfolder.name, photos=photos))
    return people


def _photos_in(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(p for p in folder.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES and p.is_file()))


def _from_csv(file: Path) -> list[Person]:
    """Columns: photo, with | between several; subject, or else the photo's name; any others are kept for the report.

    Several rows of one subject are several photos of the same person.
    """
    lines = read_text(file).splitlines()
    header = lines[0] if lines else ""
    rows = csv.DictReader(lines, delimiter=max(",;\t", key=header.count))
    headings = {str(heading).strip().lower(): heading for heading in rows.fieldnames or ()}
    photo_heading = headings.get("photo") or headings.get("photos")
    if not photo_heading:
        raise SettingsError(f"{file} lacks the column photo; its columns: {', '.join(headings) or 'none'}")
    subject_heading = headings.get("subject") or headings.get("name")
    people: dict[str, Person] = {}
    for number, row in enumerate(rows, 2):
        if None in row:  # where DictReader puts what has no heading
            raise SettingsError(f"{file} line {number}: more cells than columns")
        cells = {heading.strip(): (cell or "").strip() for heading, cell in row.items() if heading}
        photos = tuple(
            file.parent / path.strip() for path in cells.pop(photo_heading.strip()).split("|") if path.strip()
        )
        if not photos:
            raise SettingsError(f"{file} line {number}: no photo")
        subject = cells.pop(subject_heading.strip()) if subject_heading else ""
        person = Person(name=subject or photos[0].stem, photos=photos, columns=cells)
        if person.name in people:
            if not subject:
                raise SettingsError(
                    f"{file} line {number}: a second {person.name}; add a column subject with their names"
                )
            first = people[subject]
            person = replace(first, photos=first.photos + photos)
        people[person.name] = person
    return list(people.values())


def safe_name(text: str) -> str:
    """A name that every file system takes as one folder: letters, digits, space, dot, hyphen, underscore."""
    text = "".join(c if c.isalnum() or c in " .-_" else "-" for c in unicodedata.normalize("NFC", text))
    text = text.strip(" .-")[:80] or "unnamed"
    return f"{text}-" if re.fullmatch(r"(?i)con|prn|aux|nul|(com|lpt)\d", text) else text
