"""Files for download, made in memory on request: the picture, its sizes, the record."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from starlette.responses import Response

from portrait.campaign.sizes import SIZES, Size, crop_for, encode_size, face_box, suffix_of
from portrait.errors import PortraitError
from portrait.loop.types import StylizedPortrait
from portrait.provenance.credentials import CROP_ACTIONS, Signer
from portrait.provenance.files import encode_portrait
from portrait.records import RgbImage
from portrait.studio.guard import require_route
from portrait.studio.session import HistoryEntry, Session

if TYPE_CHECKING:
    from portrait.studio.session_registry import Sessions

CUTS: dict[str, Size] = {name: size for name, size in SIZES.items() if size is not None}
"""Name -> size: those of a campaign's exports."""
_ALL = 0
"""In addresses, in place of a picture's number: all pictures."""
_MEDIA = {"png": "image/png", "jpg": "image/jpeg", "json": "application/json", "zip": "application/zip"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The address of a file, relative to the page, and its name."""

    href: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeLink(Link):
    """A picture cut to `size`, a name of `CUTS`; `is_enlarged` if the portrait has fewer pixels."""

    size: str
    width: int
    height: int
    is_enlarged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """The files of a picture: itself as PNG, a ZIP of everything, the record, and each of its sizes."""

    picture: Link
    archive: Link
    record: Link
    sizes: tuple[SizeLink, ...]


def portrait_square(portrait: StylizedPortrait) -> RgbImage:
    """The square around the person: the picture itself or, with `--frame full`, the part with the portrait."""
    picture = portrait.picture
    if portrait.record.frame != "full":
        return picture
    left, top, side = portrait.record.box
    return RgbImage(np.ascontiguousarray(picture[top : top + side, left : left + side]))


def links(session: Session, entry: HistoryEntry) -> Links:
    """The addresses of a picture's files, which are not made yet."""

    def link(name: str) -> dict[str, str]:
        return {"href": f"studio/{session.key}/{entry.number}/{quote(name)}", "name": name}

    height, width = entry.portrait.picture.shape[:2]
    face = face_box(entry.portrait.record)
    return Links(
        picture=Link(**link(f"{entry.stem}.png")),
        archive=Link(**link(f"{entry.stem}.zip")),
        record=Link(**link(f"{entry.stem}.json")),
        sizes=tuple(
            SizeLink(
                **link(_name(entry, name, size)),
                size=name,
                width=size.width,
                height=size.height,
                is_enlarged=crop_for(size, width, height, face).scale > 1,
            )
            for name, size in CUTS.items()
        ),
    )


def link_to_all(session: Session) -> Link:
    """The address of a ZIP with all pictures of a session."""
    name = f"portraits-{session.history[-1].number}.zip"
    return Link(href=f"studio/{session.key}/{_ALL}/{name}", name=name)


def _name(entry: HistoryEntry, name: str, size: Size) -> str:
    return f"{entry.stem}-{name}.{suffix_of(entry.portrait.pixels, size)}"


def file_of(entry: HistoryEntry, name: str, signer: Signer | None = None) -> bytes | None:
    """The bytes of one of a picture's files by its name; None if it has no such file."""
    if name == f"{entry.stem}.png":
        return encode_portrait(entry.portrait.pixels, "png", entry.portrait.record, signer=signer)
    if name == f"{entry.stem}.json":
        return entry.portrait.record.file_bytes()
    if name == f"{entry.stem}.zip":
        return _archive(entry, signer)
    cut = next((size for size in CUTS if name == _name(entry, size, CUTS[size])), None)
    return None if cut is None else _cut(entry.portrait, CUTS[cut], signer)


def _cut(portrait: StylizedPortrait, size: Size, signer: Signer | None) -> bytes:
    record = portrait.record
    data, suffix, _ = encode_size(portrait.pixels, size, face_box(record), tool=not record.settings.no_metadata)
    return data if signer is None else signer.sign(data, suffix, record, edits=CROP_ACTIONS)


def _archive(entry: HistoryEntry, signer: Signer | None) -> bytes:
    names = [f"{entry.stem}.png", *(_name(entry, *cut) for cut in CUTS.items()), f"{entry.stem}.json"]
    return _zip([(entry, name) for name in names], signer)


def _zip(files: Iterable[tuple[HistoryEntry, str]], signer: Signer | None) -> bytes:
    """A ZIP of files of `file_of`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # pictures do not get smaller
        for entry, name in files:
            data = file_of(entry, name, signer)
            if data is not None:
                archive.writestr(name, data)
    return buffer.getvalue()


def _file_at(session: Session, number: int, name: str, signer: Signer | None) -> bytes | None:
    """The file at an address; None if there is none."""
    if number == _ALL:  # a ZIP with every picture as PNG, and its record
        files = [(entry, f"{entry.stem}{end}") for entry in list(session.history) for end in (".png", ".json")]
        return _zip(files, signer) if files and name.endswith(".zip") else None
    entry = session.find(number)
    return None if entry is None else file_of(entry, name, signer)


def add_route(app: Any, sessions: Sessions, signer: Signer | None) -> None:
    """Serve the files of all sessions' pictures at the addresses of `links`, to everybody to whom Gradio's `app` serves its own."""

    def serve(key: str, number: int, name: str) -> Response:
        session = sessions.find(key)
        try:
            data = None if session is None else _file_at(session, number, name, signer)
        except PortraitError as error:
            return Response(str(error), status_code=500, media_type="text/plain")
        if data is None:
            return Response("this picture no longer exists", status_code=404, media_type="text/plain")
        return Response(data, media_type=_MEDIA[name.rpartition(".")[2]])

    login = require_route(app, "/config").dependencies
    app.add_api_route("/studio/{key}/{number}/{name}", serve, methods=["GET", "HEAD"], dependencies=login)
    app.router.routes.insert(0, app.router.routes.pop())  # before Gradio's routes, which match every address
