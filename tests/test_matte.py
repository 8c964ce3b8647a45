"""The person matte: the shipped network on real photos, and the filter that brings its edges to the photo's resolution."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from portrait.errors import WeightsCorruptError, WeightsMissingError
from portrait.faces.insightface_analyzer import InsightFaceAnalyzer
from portrait.generate import matte as module
from portrait.generate.matte import guided_filter, matte_sha256, person_matte, refined_matte, subject_matte
from portrait.hub.files import mini_folder
from portrait.images import Photo, resized
from portrait.records import RgbImage
from tests.fakes import a_face

pytestmark = pytest.mark.weights


def test_the_shipped_matte_is_small_and_pinned() -> None:
    manifest = json.loads((mini_folder() / "manifest.json").read_text())
    assert (mini_folder() / "matte.safetensors").stat().st_size == manifest["files"]["matte.safetensors"]["bytes"]
    assert manifest["files"]["matte.safetensors"]["bytes"] <= 1_000_000


def test_the_measured_matte_is_the_shipped_one() -> None:
    measured = json.loads((Path(__file__).parents[1] / "eval" / "matte.json").read_text())
    assert measured["matte_sha256"] == matte_sha256()  # else run eval/matte.py
    for scenes in ("photos", "other backgrounds"):
        better, worse = measured[scenes]["matte"], measured[scenes]["grabcut"]
        assert better["iou"][0] > worse["iou"][0]
        assert better["boundary_f"][1] > worse["boundary_f"][2]  # the intervals do not meet


def test_another_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, astronaut: Photo) -> None:
    shutil.copy(mini_folder() / "manifest.json", tmp_path)
    monkeypatch.setattr(module, "mini_folder", lambda: tmp_path)
    with pytest.raises(WeightsMissingError, match="matte.safetensors"):
        person_matte(astronaut.pixels)
    (tmp_path / "matte.safetensors").write_bytes(b"another")
    with pytest.raises(WeightsCorruptError, match=r"matte\.safetensors has SHA-256"):
        person_matte(astronaut.pixels)
    (tmp_path / "manifest.json").write_text('{"name": "mini", "files": {}}')
    with pytest.raises(WeightsCorruptError, match=r"does not list matte\.safetensors"):
        person_matte(astronaut.pixels)


def test_the_astronaut_is_separated_from_flag_and_shuttle(astronaut: Photo) -> None:
    matte = person_matte(astronaut.pixels)
    assert matte.dtype == np.float32
    assert matte.shape == astronaut.pixels.shape[:2]
    assert 0 <= matte.min() <= matte.max() <= 1
    assert matte[50:150, 195:255].mean() > 0.98  # face and hair
    assert matte[300:, 150:350].mean() > 0.95  # the suit
    assert matte[:100, 340:].mean() < 0.05  # the shuttle
    assert matte[:150, :60].mean() < 0.05  # the flag
    assert (matte == person_matte(astronaut.pixels)).all()


@pytest.mark.parametrize("spoil", ["wide", "small", "large", "gray", "dark"])
def test_the_matte_bears_what_photos_are_like(astronaut: Photo, spoil: str) -> None:
    photo = astronaut.pixels
    truth = person_matte(photo) > 0.5
    if spoil == "wide":
        photo = resized(photo, 800, 512)
        matte = resized_matte(person_matte(photo))
    else:
        spoiled = {
            "small": lambda: resized(photo, 96, 96),
            "large": lambda: resized(photo, 3000, 3000),
            "gray": lambda: np.repeat(photo.mean(2, keepdims=True).astype(np.uint8), 3, 2),
            "dark": lambda: (photo * 0.35).astype(np.uint8),
        }[spoil]()
        matte = person_matte(RgbImage(spoiled))
        assert matte.shape == spoiled.shape[:2]
        matte = resized_matte(matte)
    person = matte > 0.5
    iou = (person & truth).sum() / (person | truth).sum()
    print(f"{spoil}: {iou:.3f}")
    assert iou > 0.9


def resized_matte(matte: np.ndarray) -> np.ndarray:
    picture = RgbImage(np.repeat((matte[..., None] * 255).astype(np.uint8), 3, 2))
    return resized(picture, 512, 512)[..., 0] / 255


def test_somebody_else_belongs_to_the_background(astronaut: Photo, analyzer: InsightFaceAnalyzer) -> None:
    left, right = astronaut.pixels[:, 90:330], astronaut.pixels[:, 90:330][:, ::-1]
    wall = np.full((512, 120, 3), astronaut.pixels[20, 300], np.uint8)
    photo = RgbImage(np.hstack([wall, left, wall, wall, right, wall]))
    faces = sorted(analyzer.detect(photo), key=lambda face: face.center[0])
    assert len(faces) == 2
    first, second = (subject_matte(photo, face) for face in faces)
    (x, y), (other_x, other_y) = ([int(v) for v in face.center] for face in faces)
    assert first[y, x] == second[other_y, other_x] == 1
    assert first[other_y, other_x] == second[y, x] == 0


def test_a_person_in_a_large_photo_is_looked_at_for_themselves(astronaut: Photo, analyzer: InsightFaceAnalyzer) -> None:
    photo = np.full((1600, 1600, 3), astronaut.pixels[20, 300], np.uint8)
    photo[1088:, 500:1012] = astronaut.pixels
    (face,) = analyzer.detect(RgbImage(photo))
    matte = subject_matte(RgbImage(photo), face, (500, 1088, 512))
    near = person_matte(astronaut.pixels)
    inner = np.s_[100:500, 100:400]
    assert np.abs(matte[1088:, 500:1012][inner] - near[inner]).mean() < 0.03
    assert matte[:1000].max() == 0


def test_the_inner_face_is_the_person_even_where_nothing_is_seen() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    face = a_face(128)
    x, y = (int(v) for v in face.center)
    assert subject_matte(RgbImage(noise), face)[y, x] == 1


def test_the_filter_repeats_a_linear_function_of_the_colors() -> None:
    guide = np.random.default_rng(1).random((40, 50, 3)).astype(np.float32)
    values = (0.2 + 0.5 * guide[..., 0] - 0.3 * guide[..., 1] + 0.1 * guide[..., 2]).astype(np.float32)
    filtered = guided_filter(guide, values, 4, 1e-8)
    assert np.abs(filtered - values).max() < 1e-3


def test_a_coarse_edge_moves_to_where_the_photo_has_one() -> None:
    photo = np.full((256, 1024, 3), (30, 60, 90), np.uint8)
    photo[:, 514:] = (220, 190, 160)
    coarse = np.zeros((256, 256), np.float32)
    coarse[:, 128:] = 1  # the edge of the coarse matte lies at 512
    refined = refined_matte(RgbImage(photo), coarse)
    assert refined.shape == (256, 1024)
    print(refined[100, 508:520].round(2))
    assert refined[:, 513].max() < 0.35
    assert refined[:, 514].min() > 0.7
    assert refined[:, :490].max() == 0
    assert refined[:, 540:].min() == 1
