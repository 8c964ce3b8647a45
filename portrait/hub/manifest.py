"""The list of public model files: the origin, the pins and the license of each (`weights/manifest.toml`).

A part is one repository at one revision under one license; recipes refer to parts. Nothing here accesses the network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from portrait.errors import WeightsError
from portrait.file_model import Entries, FileModel
from portrait.hub.files import is_plain_path, shipped
from portrait.records.portrait import LicenseLink
from portrait.validation import did_you_mean, parse_toml, read_text

Commercial = Literal["yes", "no", "conditional", "unknown"]
GROUPS = {"judges": ("yunet", "sface")}
"""Name of several parts that are fetched together -> the parts."""
SHA256 = r"[0-9a-f]{64}"


def _matching(pattern: str, what: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {what}, got {text!r}")
        return text

    return AfterValidator(check)


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"must be printable text on one line, got {text!r}")
    return text


def _file_path(path: str) -> str:
    if not is_plain_path(path):
        raise ValueError(f"must be a relative path inside the part's folder, got {path!r}")
    if path.casefold() == "manifest.json":
        raise ValueError("must not be manifest.json, which lists a folder's hashes")
    return path


_WORD = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_Text = Annotated[str, AfterValidator(_printable)]
_Name = Annotated[str, _matching(_WORD, "a plain name")]
_OptionalName = Annotated[str, _matching(f"({_WORD})?", "a plain file name")]
_OptionalRepository = Annotated[str, _matching(f"({_WORD}/{_WORD})?", "owner/name")]
_OptionalDigest = Annotated[str, _matching(f"({SHA256})?", "64 hex digits")]
_Count = Annotated[int, Field(ge=0)]


class PartFile(FileModel):
    """One file of a part.

    `path` is relative with forward slashes. `sha256` and `bytes` are empty and 0 if no public source states them; `sources`
    is the number of sources that state the hash.
    """

    path: Annotated[str, AfterValidator(_file_path)]
    sha256: _OptionalDigest = ""
    bytes: _Count = 0
    sources: _Count = 0


class Part(FileModel):
    """Files of one origin under one license: a hub repository at a commit, or an InsightFace archive of a release.

    Exactly one of `repo` and `archive` is set; `sha256` and `bytes` are the archive's. `sources` is the number of public
    sources that state the revision.
    """

    name: _Name
    title: _Text
    repo: _OptionalRepository = ""
    archive: _OptionalName = ""
    revision: _Name
    license: _Text
    commercial: Commercial
    files: Annotated[Entries[PartFile], Field(min_length=1)]
    sha256: _OptionalDigest = ""
    bytes: _Count = 0
    sources: _Count = 0
    note: _Text = ""

    @model_validator(mode="after")
    def _check_source(self) -> Part:
        if bool(self.repo) == bool(self.archive):
            raise ValueError("needs either repo or archive")
        if self.repo and not re.fullmatch(r"[0-9a-f]{40}", self.revision):
            raise ValueError(f"revision must be a full commit, got {self.revision!r}")
        if self.archive and not (self.sha256 and self.bytes):
            raise ValueError("an archive needs its sha256 and its bytes")
        return self

    @model_validator(mode="after")
    def _check_files(self) -> Part:
        if self.archive and not all(file.sha256 and file.bytes for file in self.files):
            raise ValueError("every file of an archive needs sha256 and bytes")
        if len({file.path.casefold() for file in self.files}) != len(self.files):
            raise ValueError("a file is listed twice")
        return self

    @property
    def size(self) -> int:
        """Bytes of all files of known size."""
        return sum(file.bytes for file in self.files)

    @property
    def origin(self) -> str:
        """Repository (or archive) and revision, for messages."""
        return f"{self.repo or self.archive}@{self.revision[:12]}"

    def pin_name(self, file: PartFile) -> str:
        """The key of a file in the lock file."""
        return f"{self.repo or self.archive}@{self.revision}/{file.path}"


def manifest() -> dict[str, Part]:
    """All parts by name. `PORTRAIT_MANIFEST` names a file of the same format whose parts are added, or replace ours.

    Raises:
        WeightsError: a file cannot be read, or an entry is not fully pinned or would leave its folder.
    """
    parts = dict(_shipped())
    if override := os.environ.get("PORTRAIT_MANIFEST"):
        parts |= _read(Path(override))
    return parts


def find_part(name: str, recipes: Collection[str] = ()) -> Part:
    """Find a part by name.

    Raises:
        WeightsError: there is no such part; the message suggests the part, or which of `recipes`, was probably meant.
    """
    parts = manifest()
    if name not in parts:
        hint = did_you_mean(name, [*recipes, *GROUPS, *parts], "did you mean {}? ")
        what = f"no recipe and no part {name!r}" if recipes else f"no part {name!r} in the weights manifest"
        raise WeightsError(f"{what}; {hint}portrait weights list shows all parts")
    return parts[name]


def licenses_of(names: Iterable[str]) -> list[LicenseLink]:
    """The license of each part, in the format of records."""
    parts = [find_part(name) for name in names]
    return [LicenseLink(part=part.name, license=part.license, commercial=part.commercial) for part in parts]


@lru_cache(maxsize=1)
def _shipped() -> dict[str, Part]:
    return _read(shipped("manifest.toml"))


def _read(path: Path) -> dict[str, Part]:
    what = f"the weights manifest {path}"
    tables = parse_toml(read_text(path, what, WeightsError), what, WeightsError)
    return {name: _part(f"{path}: part {name!r}", name, table) for name, table in tables.items()}


def _part(where: str, name: str, table: object) -> Part:
    if not isinstance(table, dict) or "name" in table:
        raise WeightsError(f"{where}: must be a table without a key 'name'")
    return Part.from_table({"name": name, **table}, where, kind=WeightsError)
