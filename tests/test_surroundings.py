"""What `mini` sees behind a person: the background's colors, without its outlines."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from portrait.generate.diffusion import DiffusionGenerator
from portrait.generate.families.mini.generator import MiniGenerator
from portrait.generate.families.mini.surroundings import without_outlines
from portrait.generate.matte import person_matte
from portrait.images import Photo, resized
from portrait.loop.attempt_loop import AttemptLoop
from portrait.records import Face, RgbImage
from tests.fakes import a_face

pytestmark = pytest.mark.weights

BEHIND = np.s_[:150, 300:500]
"""The shuttle and the wall beside the astronaut's head."""


@pytest.fixture(scope="module")
def face(mini: AttemptLoop, astronaut: Photo) -> Face:
    return max(mini.judges.analyzer.detect(astronaut.pixels), key=lambda face: face.size)


@pytest.fixture(scope="module")
def seen(astronaut: Photo, face: Face) -> RgbImage:
    return without_outlines(astronaut.pixels, face)


def outlines(picture: np.ndarray) -> float:
    """Mean strength of the edges of a picture."""
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(np.abs(cv2.Laplacian(gray, cv2.CV_32F)).mean())


def test_the_person_stays_as_they_are(astronaut: Photo, seen: RgbImage) -> None:
    for region in (np.s_[50:150, 195:255], np.s_[350:, 180:330]):  # face and hair; the suit
        assert np.abs(seen[region].astype(int) - astronaut.pixels[region]).mean() < 1


def test_of_the_background_the_outlines_go(astronaut: Photo, seen: RgbImage) -> None:
    assert outlines(seen[BEHIND]) < outlines(astronaut.pixels[BEHIND]) / 5


def test_no_color_of_the_person_reaches_the_background(astronaut: Photo, face: Face) -> None:
    orange = seen_of(astronaut.pixels, face)
    green = astronaut.pixels.copy()
    green[360:, 180:330] = (0, 160, 0)  # the suit, far from the outline
    assert np.abs(orange[BEHIND].astype(int) - seen_of(green, face)[BEHIND]).max() <= 2


def seen_of(picture: np.ndarray, face: Face) -> RgbImage:
    return without_outlines(RgbImage(picture), face)


def test_a_face_stays_whatever_the_matte_says() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (512, 512, 3)).astype(np.uint8)  # nobody is seen in it
    face = a_face(512)
    kept = seen_of(noise, face)[200:312, 200:312]
    assert np.array_equal(kept, noise[200:312, 200:312])


def test_a_photo_without_anybody_is_a_picture_still() -> None:
    blank = RgbImage(np.full((512, 512, 3), 255, np.uint8))
    assert without_outlines(blank, None).min() >= 254


def before_a_wall(photo: RgbImage, color: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The person of a photo before a wall of one color, and where the wall is well away from them."""
    matte = person_matte(photo)[..., None]
    painted = (photo * matte + np.array(color) * (1 - matte)).astype(np.uint8)
    return painted, cv2.dilate(matte, np.ones((41, 41), np.uint8)) < 0.02


def test_a_dark_wall_is_shown_lighter_than_dark_hair(astronaut: Photo, face: Face) -> None:
    dark, wall = before_a_wall(astronaut.pixels, (12, 9, 7))
    lightness = cv2.cvtColor(seen_of(dark, face), cv2.COLOR_RGB2LAB)[..., 0][wall] / 2.55
    assert np.median(lightness) == pytest.approx(40, abs=2)


def test_a_light_wall_keeps_its_color(astronaut: Photo, face: Face) -> None:
    light, wall = before_a_wall(astronaut.pixels, (205, 215, 230))
    assert np.abs(np.median(seen_of(light, face)[wall], 0) - (205, 215, 230)).max() < 6


@pytest.mark.parametrize("runtime", [MiniGenerator, DiffusionGenerator])
def test_mini_sees_it_at_every_size_and_once_for_all_styles(
    mini: AttemptLoop, mini_in_torch: DiffusionGenerator, astronaut: Photo, face: Face, monkeypatch: pytest.MonkeyPatch,
    runtime: type,
) -> None:  # fmt: skip
    generator = mini.generator if runtime is MiniGenerator else mini_in_torch
    assert isinstance(generator, runtime)
    generator.clear_cache()
    calls = []

    def counted(photo: RgbImage, face: Face | None) -> RgbImage:
        calls.append((photo.shape, face))
        return without_outlines(photo, face)

    monkeypatch.setattr("portrait.generate.families.mini.surroundings.without_outlines", counted)
    embedding = mini.judges.analyzer.embed(astronaut.pixels, face.kps)
    large = resized(astronaut.pixels, 1024, 1024)
    for style in ("oil style", "comic style"):
        conditions = generator.prepare(large, embedding, style, face=face.moved(2, 0, 0))
    assert len(calls) == 1
    assert calls[0][0] == (512, 512, 3)
    assert calls[0][1] is not None
    assert np.allclose(calls[0][1].bbox, face.bbox, atol=0.1)
    photo = conditions.photo if runtime is MiniGenerator else conditions.picture.numpy()
    shown = (photo[0].transpose(1, 2, 0) + 1) * 127.5
    assert outlines(shown[BEHIND].astype(np.uint8)) < outlines(astronaut.pixels[BEHIND]) / 5
