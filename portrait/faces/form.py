"""The form in which the judges look at a face: as it is, or smoothed until marks and pores are gone.

A drawing and a photo of one person differ most in what is fine: hatching, cuts and brush strokes do not belong to the
person, and no drawing shows pores and single hairs. Smoothed alike, on the scale of the face, they are far more alike,
and strangers are not (`eval/forms.py`). Limits hold for one form only, so calibrations and curves name theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from portrait.errors import SettingsError
from portrait.faces.alignment import align_face, align_smoothly
from portrait.records import Embedding, Points, RgbImage

TEMPLATE_SIDE = 112
"""Pixels of the aligned crop that `Form.deviations` are told in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a face is prepared before it is embedded, under the name that calibrations use; several crops are averaged.

    Each crop is smoothed by a Gaussian of one of the `deviations`, in pixels of a crop of 112; without any there is one crop as
    the networks were trained with.
    """

    name: str
    deviations: tuple[float, ...] = ()

    def aligned(self, image: RgbImage, kps: Points) -> list[RgbImage]:
        """The crops on ArcFace's template, (112, 112, 3) uint8 RGB each."""
        if not self.deviations:
            return [align_face(image, kps)]
        return self.smoothed(align_smoothly(image, kps))

    def smoothed(self, crop: RgbImage) -> list[RgbImage]:
        """A square crop of the same face as on ArcFace's template, of any side, as each deviation leaves it."""
        if not self.deviations:
            return [crop]
        scale = len(crop) / TEMPLATE_SIDE
        blurred = (cv2.GaussianBlur(crop, (0, 0), deviation * scale) for deviation in self.deviations)
        return [RgbImage(np.asarray(picture, np.uint8)) for picture in blurred]


PLAIN = Form(name="plain")
"""The form of calibrations that name none."""
SMOOTH = Form(name="smooth", deviations=(2.0,))
"""What `portrait calibrate` measures with."""
FORMS = {form.name: form for form in (PLAIN, SMOOTH)}


def form_named(name: str) -> Form:
    """Raises SettingsError for the name of a form that this version does not know."""
    if name not in FORMS:
        raise SettingsError(f"this version does not know the form {name!r} of faces; it knows: {', '.join(FORMS)}")
    return FORMS[name]


def mean_embedding(crops: list[RgbImage], features: Callable[[RgbImage], NDArray[np.floating]]) -> Embedding:
    """The mean direction, of unit length, of the features, (D,) of any length, of at least one crop."""
    vectors = np.stack([np.asarray(features(crop), np.float32) for crop in crops])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    if len(vectors) == 1:
        return Embedding(vectors[0])
    mean = vectors.mean(0)
    return Embedding(mean / np.linalg.norm(mean))
