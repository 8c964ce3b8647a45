"""Take uploaded files from the disk at once, and read them as photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from portrait.errors import InputError
from portrait.images import PHOTO_SUFFIXES, Photo
from portrait.images.decoder_process import DecoderProcess
from portrait.studio import strings

MAX_PIXELS = 64_000_000
"""Photos with more pixels are refused: several visitors' photos must fit into memory."""
MAX_UPLOAD_MB = 100
ACCEPTED = ",".join(["image/*", *sorted(PHOTO_SUFFIXES)])
"""What a file dialog offers: browsers do not know all kinds as pictures."""
decoder = DecoderProcess()
"""Shared by all visitors: one photo at a time, because decoding takes several times the memory of its pixels."""


def take_upload(upload: str, name: str, folder: Path) -> tuple[bytes, str]:
    """The bytes of an upload and the name of the file; the file itself is deleted at once.

    `upload` is its path, below the folder for uploads, and `name` the one that it had on the visitor's computer.

    Raises:
        InputError: there is no such upload.
    """
    path = Path(upload).resolve()
    if not path.is_relative_to(folder.resolve()) or path.name.startswith(".") or not path.is_file():
        raise InputError(strings.UPLOAD_FAILED)
    name = Path((name or path.name).replace("\\", "/")).name
    try:
        return path.read_bytes(), name
    finally:
        path.unlink(missing_ok=True)


def read_upload(data: bytes, name: str, is_wanted: Callable[[], bool] = lambda: True) -> Photo:
    """Read a visitor's upload, under the name that it had on their computer; one at a time for all visitors.

    Raises:
        ImageReadError: as `DecoderProcess.decode`, or it has more pixels than a studio accepts.
    """
    return decoder.decode(data, name, max_pixels=MAX_PIXELS, is_wanted=is_wanted)
