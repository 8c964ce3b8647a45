"""What `mini` sees: of a background its colors; if it is guided, the sitter in a kind light, and where features lie."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from portrait.generate.diffusion import DiffusionGenerator
from portrait.generate.families.mini.face_mesh import corners, find_mesh
from portrait.generate.families.mini.generator import MiniGenerator
from portrait.generate.families.mini.marks.layout import GUIDES
from portrait.generate.families.mini.seen import LastSeen, Seen, look_at
from portrait.generate.matte import person_matte
from portrait.images import Photo, resized
from portrait.loop.attempt_loop import AttemptLoop
from portrait.records import Face, Points, RgbImage
from tests.fakes import a_face

pytestmark = pytest.mark.weights

BEHIND = np.s_[:150, 300:500]
"""The shuttle and the wall beside the astronaut's head."""


@pytest.fixture(scope="module")
def face(mini: AttemptLoop, astronaut: Photo) -> Face:
    return max(mini.judges.analyzer.detect(astronaut.pixels), key=lambda face: face.size)


@pytest.fixture(scope="module")
def seen(astronaut: Photo, face: Face) -> RgbImage:
    return look_at(astronaut.pixels, face, guided=False).picture


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
    return look_at(RgbImage(picture), face, guided=False).picture


def test_a_face_stays_whatever_the_matte_says() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (512, 512, 3)).astype(np.uint8)  # nobody is seen in it
    face = a_face(512)
    kept = seen_of(noise, face)[200:312, 200:312]
    assert np.array_equal(kept, noise[200:312, 200:312])


def test_a_photo_without_anybody_is_a_picture_still() -> None:
    blank = RgbImage(np.full((512, 512, 3), 255, np.uint8))
    assert look_at(blank, None, guided=False).picture.min() >= 254
    guided = look_at(blank, None, guided=True)
    assert guided.picture.min() >= 254
    assert not guided.guides.any()


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

    def counted(photo: RgbImage, face: Face | None, guided: bool) -> Seen:
        calls.append((photo.shape, face))
        return look_at(photo, face, guided)

    monkeypatch.setattr("portrait.generate.families.mini.seen.look_at", counted)
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


# --- guides


@pytest.fixture(scope="module")
def crop(mini: AttemptLoop, astronaut: Photo) -> tuple[RgbImage, Face, np.ndarray]:
    """The astronaut's head at 512 px, her face, and MediaPipe's own mesh of it."""
    head = resized(RgbImage(astronaut.pixels[0:265, 93:358]), 512, 512)
    face = max(mini.judges.analyzer.detect(head), key=lambda face: face.size)
    return head, face, np.load(Path(__file__).parent / "data" / "astronaut_mesh.npy").astype(np.float32)


def test_the_mesh_is_mediapipes(crop: tuple[RgbImage, Face, np.ndarray]) -> None:
    head, face, expected = crop
    mesh = find_mesh(head, face.kps)
    assert mesh is not None
    eyes = float(np.linalg.norm(face.kps[1] - face.kps[0]))
    off = np.linalg.norm(mesh - expected, axis=1) / eyes
    print(f"{off.mean():.2%} of the eyes' distance, at most {off.max():.2%}")
    assert off.mean() < 0.04
    assert np.linalg.norm(corners(mesh) - corners(expected), axis=1).max() < 0.05 * eyes


def test_a_turned_face_has_the_same_mesh_turned(crop: tuple[RgbImage, Face, np.ndarray]) -> None:
    head, face, _ = crop
    turned = RgbImage(np.ascontiguousarray(np.rot90(head)))  # the point (x, y) moves to (y, 511 - x)
    straight = find_mesh(head, face.kps)
    lying = find_mesh(turned, Points(np.stack([face.kps[:, 1], 511 - face.kps[:, 0]], 1)))
    assert straight is not None
    assert lying is not None
    assert np.abs(np.stack([511 - lying[:, 1], lying[:, 0]], 1) - straight).max() < 2


def test_points_that_are_no_face_have_no_mesh(crop: tuple[RgbImage, Face, np.ndarray]) -> None:
    head, face, _ = crop
    jumbled = Points(face.kps[[3, 0, 2, 1, 4]])
    assert find_mesh(head, jumbled) is None


def test_guides_lie_where_the_features_do(crop: tuple[RgbImage, Face, np.ndarray]) -> None:
    head, face, _ = crop
    seen = look_at(head, face, guided=True)
    assert seen.guides.shape == (len(GUIDES), 256, 256)
    assert seen.guides.dtype == np.float32
    assert seen.guides.min() >= 0
    assert seen.guides.max() <= 1
    planes = dict(zip(GUIDES, seen.guides, strict=True))
    at = (face.kps / 2).astype(int)
    left, right, nose, *_ = at.tolist()
    for x, y in (left, right):
        for name in ("eyes", "irises", "lids"):
            assert planes[name][y - 6 : y + 7, x - 6 : x + 7].max() > 0.9
    assert planes["lips"][at[3:, 1].min() - 8 : at[3:, 1].max() + 20, at[3, 0] : at[4, 0]].max() > 0.9
    assert planes["brows"][: min(left[1], right[1])].max() == 1
    assert planes["face"][nose[1], nose[0]] == 1
    assert planes["face"][:, :10].max() == 0


def test_a_guided_model_sees_a_kinder_light_on_the_face_alone(crop: tuple[RgbImage, Face, np.ndarray]) -> None:
    head, face, _ = crop
    kind, plain = (look_at(head, face, guided).picture.astype(int) for guided in (True, False))
    x1, y1, x2, y2 = face.bbox.astype(int)
    assert np.abs(kind - plain)[y1:y2, x1:x2].mean() > 0.5
    assert np.abs(kind - plain)[:, :40].mean() < 1
    assert not look_at(head, face, guided=False).guides.any()


def test_a_guided_model_sees_the_same_at_every_size(crop: tuple[RgbImage, Face, np.ndarray]) -> None:
    head, face, _ = crop
    large = look_at(resized(head, 1024, 1024), face.moved(2, 0, 0), guided=True)
    assert large.picture.shape == (1024, 1024, 3)
    assert large.guides.shape == (len(GUIDES), 512, 512)
    small = look_at(head, face, guided=True)
    halved = cv2.resize(large.guides.transpose(1, 2, 0), (256, 256), interpolation=cv2.INTER_AREA)
    assert np.abs(halved.transpose(2, 0, 1) - small.guides).mean() < 0.02


def test_it_looks_again_at_another_face(crop: tuple[RgbImage, Face, np.ndarray]) -> None:
    head, face, _ = crop
    last = LastSeen(guided=True)
    first = last.of(head, face)
    assert last.of(head, face) is first
    assert last.of(head, None) is not first
    last.clear()
    assert last.of(head, face) is not first
