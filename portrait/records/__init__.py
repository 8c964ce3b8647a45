"""Values that are passed between the folders: arrays, faces, identities, knobs. The record of a portrait is in `portrait`."""

from portrait.records.arrays import Embedding, Points, RgbImage
from portrait.records.background import Background
from portrait.records.face import Face, Identity
from portrait.records.knobs import KEEP_KINDS, Keep, Knobs, Preview, parse_shift

__all__ = [
    "KEEP_KINDS", "Background", "Embedding", "Face", "Identity", "Keep", "Knobs", "Points", "Preview", "RgbImage",
    "parse_shift",
]  # fmt: skip
