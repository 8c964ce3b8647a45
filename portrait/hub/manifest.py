"""The list of public model files: where each lies, its pins, and its licence (`weights/manifest.toml`).

A part is one repository at one revision under one licence; recipes name parts. Nothing here touches the network.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from portrait.errors import WeightsError

COMMERCIAL = ("yes", "no", "conditional", "unknown")
_PART_KEYS = {
    "title", "repo", "archive", "revision", "sources", "sha256", "bytes", "license", "commercial", "note", "files",
}  # fmt: skip
_FILE_KEYS = {"path", "sha256", "bytes", "sources"}
_SHA256, _COMMIT = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFile:
    """One file of a part. `path` is relative with forward slashes; `sha256` and `bytes` are empty and 0 when no
    public source states them; `sources` counts those that state the hash.
    """

    path: str
    sha256: str = ""
    bytes: int = 0
    sources: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Files of one origin under one licence: a hub repository at a commit, or an InsightFace archive of a release.

    `archive` is empty for a hub repository; `sha256` and `bytes` are the archive's. `commercial` is one of
    `COMMERCIAL`; `sources` counts the public sources that state the revision.
    """

    name: str
    title: str
    repo: str
    archive: str
    revision: str
    license: str
    commercial: str
    files: tuple[PartFile, ...]
    sha256: str = ""
    bytes: int = 0
    sources: int = 0
    note: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files whose size is known."""
        return sum(file.bytes for file in self.files)

    @property
    def origin(self) -> str:
        """Repository (or archive) and revision, as messages show it."""
        return f"{self.repo or self.archive}@{self.revision[:12]}"

    def pin_name(self, file: PartFile) -> str:
        """The key of a file in the lock file."""
        return f"{self.repo or self.archive}@{self.revision}/{file.path}"


def manifest_file() -> Path:
    """The shipped manifest: inside the wheel, or in `weights/` of a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "weights_data" / "manifest.toml"
    return inside if inside.is_file() else package.parent / "weights" / "manifest.toml"


def manifest() -> dict[str, Part]:
    """Every part by name. `PORTRAIT_MANIFEST` names a file of the same form whose parts are added, or replace ours.

    Raises:
        WeightsError: a file cannot be read, or an entry is not fully pinned or would leave its folder.
    """
    own = os.environ.get("PORTRAIT_MANIFEST", "")
    parts = dict(_read(manifest_file()))
    if own:
        _read.cache_clear()  # the user may be editing it
        parts |= _read(Path(own))
    return parts


def find_part(name: str, recipes: Collection[str] = ()) -> Part:
    """Raises WeightsError for a name that is not in the manifest, and says which was probably meant.

    Args:
        name: Of a part.
        recipes: Names that could have been meant as well.
    """
    known = manifest()
    if name not in known:
        close = difflib.get_close_matches(name, [*recipes, *known], 1)
        hint = f"did you mean {close[0]}? " if close else ""
        what = f"no recipe and no part {name!r}" if recipes else f"no part {name!r} in the weights manifest"
        raise WeightsError(f"{what}; {hint}portrait weights list shows all parts")
    return known[name]


@lru_cache(maxsize=4)
def _read(path: Path) -> dict[str, Part]:
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise WeightsError(f"cannot read the weights manifest {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WeightsError(f"the weights manifest {path} is not TOML: {error}") from None
    return {name: _part(name, entry, path) for name, entry in table.items()}


def _part(name: str, entry: Any, source: Path) -> Part:
    def refuse(why: str) -> WeightsError:
        return WeightsError(f"{source}: part {name}: {why}")

    if not isinstance(entry, dict) or not _NAME.fullmatch(name):
        raise refuse("not a table with a plain name")
    if unknown := entry.keys() - _PART_KEYS:
        raise refuse(f"unknown key {sorted(unknown)[0]!r}; known: {', '.join(sorted(_PART_KEYS))}")
    if missing := {"title", "revision", "license", "commercial", "files"} - entry.keys():
        raise refuse(f"lacks {', '.join(sorted(missing))}")
    try:
        files = tuple(_file(item, refuse) for item in entry["files"])
        part = Part(
            **{k: str(entry.get(k, "")) for k in ("title", "repo", "archive", "revision", "license", "sha256", "note")},
            name=name,
            commercial=str(entry["commercial"]),
            files=files,
            bytes=int(entry.get("bytes", 0)),
            sources=int(entry.get("sources", 0)),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise refuse(f"a value is of the wrong kind: {error}") from None
    if bool(part.repo) == bool(part.archive):
        raise refuse("needs either repo or archive")
    if part.repo and not (_REPO.fullmatch(part.repo) and _COMMIT.fullmatch(part.revision)):
        raise refuse(f"repo must be owner/name and revision a full commit, got {part.repo!r} at {part.revision!r}")
    if part.archive and not (_NAME.fullmatch(part.archive) and _SHA256.fullmatch(part.sha256) and part.bytes > 0):
        raise refuse("an archive needs a plain file name, its sha256 and its bytes")
    if part.archive and not all(f.sha256 and f.bytes for f in files):
        raise refuse("every file of an archive needs sha256 and bytes")
    if part.commercial not in COMMERCIAL:
        raise refuse(f"commercial {part.commercial!r} is not one of: {', '.join(COMMERCIAL)}")
    if not files or len({f.path.casefold() for f in files}) != len(files):
        raise refuse("files must be one or more, each named once")
    return part


def _file(item: Any, refuse: Any) -> PartFile:
    if unknown := item.keys() - _FILE_KEYS:
        raise refuse(f"unknown key {sorted(unknown)[0]!r} of a file; known: {', '.join(sorted(_FILE_KEYS))}")
    path, digest = str(item.get("path", "")), str(item.get("sha256", ""))
    if not is_inside(path):
        raise refuse(f"path {path!r} is not a plain relative path")
    if path.casefold() == "manifest.json":
        raise refuse("a file of the name manifest.json would take the place of our own list of hashes")
    if digest and not _SHA256.fullmatch(digest):
        raise refuse(f"sha256 {digest!r} of {path} is not 64 hex digits")
    size = int(item.get("bytes", 0))
    if size < 0:
        raise refuse(f"bytes {size} of {path} is negative")
    return PartFile(path=path, sha256=digest, bytes=size, sources=int(item.get("sources", 0)))


def is_inside(path: str) -> bool:
    """Whether `path` stays inside the folder it is taken from, on every platform."""
    pieces = PurePosixPath(path).parts
    plain = path == "/".join(pieces) and not set(path) & set('\\:*?"<>|\0') and path.isprintable()
    return bool(pieces) and plain and not path.startswith("/") and ".." not in pieces


def licenses_of(names: Iterable[str]) -> list[dict[str, str]]:
    """The licence of each part: part, license, commercial, in the form that records carry."""
    parts = [find_part(name) for name in names]
    return [{"part": p.name, "license": p.license, "commercial": p.commercial} for p in parts]
