"""What a visitor can download: the picture, the avatar sizes, the record."""

from __future__ import annotations

import io
import secrets
import zipfile
from pathlib import Path

import numpy as np

from portrait.campaign.sizes import SIZES, encode_size, face_box
from portrait.errors import InputError
from portrait.images import write_bytes
from portrait.loop.types import StylizedPortrait
from portrait.provenance.credentials import CROP_ACTIONS, Signer
from portrait.provenance.files import write_portrait
from portrait.records import RgbImage

AVATARS = {name: size for name, size in SIZES.items() if size and name.partition("-")[0] in ("avatar", "round")}


def portrait_square(portrait: StylizedPortrait) -> RgbImage:
    """The square around the person: the picture itself, or of `--frame full` the part where the portrait is."""
    picture = portrait.picture
    if portrait.record.frame != "full":
        return picture
    left, top, side = portrait.record.box
    return RgbImage(np.ascontiguousarray(picture[top : top + side, left : left + side]))


def file_stem(photo: str, suffix: str, max_bytes: int = 80) -> str:
    """A file name without extension: at most `max_bytes` of the photo's name, and `suffix`."""
    return f"{photo.encode()[:max_bytes].decode(errors='ignore')}-{suffix}"


def write_downloads(
    portrait: StylizedPortrait, stem: str, folder: Path, signer: Signer | None = None
) -> tuple[Path, Path]:
    """Write the picture as PNG and a ZIP of it, its avatar sizes and the record, under a path nobody can guess."""
    if Path(stem).name != stem:
        raise InputError(f"{stem!r} is no file name")
    folder = folder / secrets.token_urlsafe(16)
    record = portrait.record
    picture = write_portrait(folder / f"{stem}.png", portrait.pixels, record, signer=signer)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # PNG does not get smaller
        archive.write(picture, picture.name)
        face = face_box(record)
        for name, size in AVATARS.items():
            data, suffix, _ = encode_size(portrait.picture, size, face, tool=not record.settings.no_metadata)
            if signer is not None:
                data = signer.sign(data, suffix, record, edits=CROP_ACTIONS)
            archive.writestr(f"{stem}-{name}.{suffix}", data)
        archive.writestr(f"{stem}.json", record.file_bytes())
    return picture, write_bytes(folder / f"{stem}.zip", buffer.getvalue())
