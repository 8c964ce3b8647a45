"""Likeness: the cosine of two unit embeddings, per recognizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from portrait.errors import ShapeError
from portrait.judge.thresholds import DEFAULT_DETECTOR, photo_thresholds
from portrait.records import Embedding, Identity


def similarity(reference: Embedding, candidate: Embedding) -> float:
    """Cosine similarity of two unit vectors, in [-1, 1]; larger is more alike.

    Raises:
        ShapeError: different lengths, not unit length, or not finite.
    """
    if reference.shape != candidate.shape:
        raise ShapeError(f"embeddings of {reference.shape} and {candidate.shape} are not of one recognizer")
    for vector in (reference, candidate):
        if not abs(float(np.linalg.norm(vector)) - 1) < 1e-3:
            raise ShapeError(f"an embedding has length {float(np.linalg.norm(vector)):.4f}, not 1")
    return float(np.clip(reference @ candidate, -1, 1))


def similarities(reference: Identity, candidate: Mapping[str, Embedding]) -> dict[str, float]:
    """Recognizer name -> similarity of the candidate's embedding to the reference's."""
    return {name: similarity(reference.embeddings[name], vector) for name, vector in candidate.items()}


def swap_margin(reference: Identity, candidate: Mapping[str, Embedding], others: Sequence[Identity]) -> float | None:
    """How much more similar the candidate is to one of the `others` than to the reference.

    For each other person it is the smallest difference of similarities over the recognizers, so above 0 only if all agree;
    the largest of these counts. Others who are the same person even in their photos (twice on a passport sheet, in a mirror)
    are ignored. Cosine units, in [-2, 2]; None without others.
    """
    to_reference = similarities(reference, candidate)
    margins = []
    for other in others:
        if same_person(reference, other):
            continue
        to_other = similarities(other, candidate)
        margins.append(min(to_other[name] - to_reference[name] for name in to_other))
    return max(margins, default=None)


def same_person(one: Identity, other: Identity) -> bool:
    """Whether every recognizer with a photo-to-photo threshold takes two photos for the same person; False without any."""
    limits = photo_thresholds(DEFAULT_DETECTOR if "arcface" in one.embeddings else "yunet").limits
    shared = [name for name in one.embeddings if name in limits and name in other.embeddings]
    return bool(shared) and all(
        similarity(one.embeddings[name], other.embeddings[name]) >= limits[name] for name in shared
    )
