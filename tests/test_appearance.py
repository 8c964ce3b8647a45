"""Features of a picture's appearance."""

from __future__ import annotations

import cv2
import numpy as np

from portrait.judge.appearance import appearance_features
from portrait.records import RgbImage
from portrait.report.words import APPEARANCE_WORDS
from tests.fakes import rgb


def noise(scale: int) -> RgbImage:
    small = np.random.default_rng(0).integers(0, 255, (512 // scale, 512 // scale, 3), np.uint8)
    return rgb(cv2.resize(small, (512, 512), interpolation=cv2.INTER_NEAREST))


def test_every_statistic_answers_to_what_it_is_named_after() -> None:
    gray = RgbImage(np.full((64, 64, 3), 128, np.uint8))
    white = RgbImage(np.full((64, 64, 3), 255, np.uint8))
    assert appearance_features(white)["lightness"] > appearance_features(gray)["lightness"]
    red, blue = RgbImage(gray.copy()), RgbImage(gray.copy())
    red[..., 0], blue[..., 2] = 220, 220
    assert appearance_features(red)["green_red"] > appearance_features(gray)["green_red"]
    assert appearance_features(blue)["blue_yellow"] < appearance_features(gray)["blue_yellow"]
    assert appearance_features(red)["chroma"] > appearance_features(gray)["chroma"]
    assert appearance_features(gray)["flat"] == 1
    assert appearance_features(noise(2))["detail_256"] > appearance_features(noise(32))["detail_256"]
    assert appearance_features(noise(32))["detail_32"] > appearance_features(noise(2))["detail_32"]
    stripes = np.repeat(np.where(np.arange(512) % 32 < 16, 40, 220).astype(np.uint8)[None], 512, 0)
    striped = rgb(np.stack([stripes] * 3, -1))
    assert appearance_features(striped)["coherence"] > 1.5 * appearance_features(noise(8))["coherence"]


def test_size_hardly_matters_and_every_statistic_has_words() -> None:
    smaller = rgb(cv2.resize(noise(32), (300, 300), interpolation=cv2.INTER_AREA))
    a, b = appearance_features(noise(32)), appearance_features(smaller)
    assert abs(a["lightness"] - b["lightness"]) < 1
    assert a.keys() == APPEARANCE_WORDS.keys()
