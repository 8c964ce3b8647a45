"""The file of a portrait: its pixels, what they say of themselves, and a signature where one is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from portrait.images import encode_picture, kind_of, write_bytes
from portrait.provenance.credentials import Signer
from portrait.provenance.mark import xmp_mark
from portrait.records.portrait import PortraitRecord


def encode_portrait(image: np.ndarray, kind: str, record: PortraitRecord, *, signer: Signer | None = None) -> bytes:
    """The bytes of a portrait's file, with the mark, the parameters and, by a signer, Content Credentials.

    With `no_metadata` only the mark stays. No pixel depends on any of it.

    Args:
        image: (H, W, 3) or (H, W, 4) uint8.
        kind: A key of `WRITE_FORMATS`.
        record: Of the portrait.
        signer: Who signs it; None leaves it unsigned.

    Raises:
        InputError, ShapeError: as `encode_picture`.
        SettingsError: it cannot be signed.
    """
    described = not record.settings.no_metadata
    parameters = record.parameters_text() if described else None
    data = encode_picture(image, kind, parameters=parameters, xmp=xmp_mark(tool=described))
    return data if signer is None else signer.sign(data, kind, record)


def write_portrait(path: Path, image: np.ndarray, record: PortraitRecord, *, signer: Signer | None = None) -> Path:
    """Write a portrait's file by its suffix, whole or not at all; the rest as in `encode_portrait`."""
    return write_bytes(path, encode_portrait(image, kind_of(path), record, signer=signer))
