"""Write the file of a portrait: its pixels, the AI mark and parameters, and a signature if requested."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from portrait.files import write_bytes
from portrait.images import encode_picture, kind_of
from portrait.provenance.credentials import Signer
from portrait.provenance.mark import xmp_mark
from portrait.records.portrait import PortraitRecord


def encode_portrait(image: np.ndarray, kind: str, record: PortraitRecord, *, signer: Signer | None = None) -> bytes:
    """Encode a portrait, (H, W, 3) or (H, W, 4) uint8, with the AI mark, the parameters and, given a signer, Content Credentials.

    `kind` is a key of `WRITE_FORMATS`. With `no_metadata` only the mark is written. The pixels are the same in any case.

    Raises:
        InputError, ShapeError: as in `encode_picture`.
        SettingsError: the file cannot be signed.
    """
    described = not record.settings.no_metadata
    parameters = record.parameters_text() if described else None
    data = encode_picture(image, kind, parameters=parameters, xmp=xmp_mark(tool=described))
    return data if signer is None else signer.sign(data, kind, record)


def write_portrait(path: Path, image: np.ndarray, record: PortraitRecord, *, signer: Signer | None = None) -> Path:
    """Write a portrait's file by its suffix, completely or not at all; otherwise as `encode_portrait`."""
    return write_bytes(path, encode_portrait(image, kind_of(path), record, signer=signer))
