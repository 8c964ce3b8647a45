"""Ordinary photos: degraded in common ways, they still become accepted portraits.

`eval/robustness.py` measures the same on held-out people.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from portrait.images import Photo
from portrait.loop.attempt_loop import AttemptLoop
from portrait.records import RgbImage
from portrait.settings import Settings
from tests.fakes import rgb


def gray(image: RgbImage) -> RgbImage:
    return rgb(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB))


def faded(image: RgbImage) -> RgbImage:
    return RgbImage((0.5 * image + 0.3 * np.array([255, 235, 200])).astype(np.uint8))


def dark(image: RgbImage) -> RgbImage:
    return RgbImage((255 * (image / 255.0) ** 2.0).astype(np.uint8))


def jpeg(image: RgbImage) -> RgbImage:
    coded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 20])[1]
    decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return rgb(np.ascontiguousarray(decoded[:, :, ::-1]))


def blurred(image: RgbImage) -> RgbImage:
    return rgb(cv2.filter2D(image, -1, np.eye(7, dtype=np.float32) / 7))


def small(image: RgbImage) -> RgbImage:
    """250 px, about the smallest photo that is worth a portrait."""
    return rgb(cv2.resize(image, (250, 250), interpolation=cv2.INTER_AREA))


def tight(image: RgbImage) -> RgbImage:
    """Little more than the face."""
    return RgbImage(np.ascontiguousarray(image[40:220, 140:310]))


@pytest.mark.parametrize("spoil", [gray, faded, dark, jpeg, blurred, small, tight], ids=lambda f: f.__name__)
def test_a_spoiled_photo_becomes_an_accepted_portrait(
    spoil: Callable[[RgbImage], RgbImage], astronaut: Photo, mini: AttemptLoop
) -> None:
    photo = Photo(path=Path(f"{spoil.__name__}.png"), pixels=spoil(astronaut.pixels), sha256=spoil.__name__)
    (subject,) = mini.subjects(photo, "largest")
    portrait = mini.stylize(subject, "oil", Settings())
    assert portrait.accepted, portrait.record.attempts
