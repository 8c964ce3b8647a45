"""Uploaded files: taken from disk at once, and read as photos."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from portrait.errors import InputError
from portrait.images import Photo, decode_photo
from portrait.studio import strings

MAX_PIXELS = 64_000_000
"""A photo with more is refused: several visitors' photos must fit into memory."""
MAX_UPLOAD_MB = 100
_decoding = threading.Lock()
"""Held while a picture is decoded, which takes several times the memory of its pixels."""


def take_upload(data: Mapping[str, object], folder: Path) -> tuple[bytes, str]:
    """The bytes of an upload and the name of the file; the file itself is deleted at once.

    Args:
        data: Its `path`, below `folder`, and the `name` that it had on the visitor's computer.
        folder: Where uploads lie.

    Raises:
        InputError: it is not there.
    """
    path = Path(str(data.get("path", ""))).resolve()
    if not path.is_relative_to(folder.resolve()) or path.name.startswith(".") or not path.is_file():
        raise InputError(strings.UPLOAD_FAILED)
    name = Path(str(data.get("name") or path.name).replace("\\", "/")).name
    try:
        return path.read_bytes(), name
    finally:
        path.unlink(missing_ok=True)


def read_upload(data: bytes, name: str) -> Photo:
    """Read what a visitor uploaded, under the name that it had on their computer; one at a time, over all visitors.

    Raises:
        ImageReadError: as `images.read_photo`; or it has more pixels than a studio takes.
    """
    with _decoding:
        return decode_photo(data, name, max_pixels=MAX_PIXELS)
