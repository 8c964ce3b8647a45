"""Values that travel between the stations: arrays, faces, identities, knobs. The record of a portrait is in `portrait`."""

from portrait.records.arrays import Embedding, Points, RgbImage
from portrait.records.face import Face, Identity
from portrait.records.knobs import KEEP_KINDS, Attempt, Keep, Knobs, Preview

__all__ = [
    "KEEP_KINDS",
    "Attempt",
    "Embedding",
    "Face",
    "Identity",
    "Keep",
    "Knobs",
    "Points",
    "Preview",
    "RgbImage",
]
