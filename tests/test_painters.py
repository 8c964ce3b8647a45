"""The painters: how a photo becomes marks, the targets that `mini` learns from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from portrait.generate.families.mini.marks.layout import CHANNELS, SLICES, Marks
from portrait.generate.families.mini.marks.rasterize import draw
from portrait.recipes.load import load_recipe

TRAINING = Path(__file__).parents[1] / "weights" / "training"
MESH = Path(__file__).parent / "data" / "astronaut_mesh.npy"
CROP = np.s_[0:265, 93:358]
"""The square around the astronaut's head in which the mesh was measured, enlarged to 512 px."""
STYLES = (
    "watercolor", "oil", "sketch", "charcoal", "comic", "popart", "poster", "woodcut", "stipple", "lowpoly", "pastel",
    "cinematic",
)  # fmt: skip
LOCAL_COLOR = ("watercolor", "oil", "comic", "lowpoly", "pastel")


@pytest.fixture(scope="module")
def training() -> Iterator[dict[str, Any]]:
    sys.path.insert(0, str(TRAINING))
    try:
        from painters.palettes import PALETTES
        from painters.registry import PAINTERS
        from painters.scene import Scene
        from text import PROMPTS

        yield {"PAINTERS": PAINTERS, "PALETTES": PALETTES, "PROMPTS": PROMPTS, "Scene": Scene}
    finally:
        sys.path.remove(str(TRAINING))


def photo_of_astronaut() -> np.ndarray:
    return cv2.resize(astronaut()[CROP], (512, 512), interpolation=cv2.INTER_CUBIC).astype(np.float32) / 255


def figure_of(mesh: np.ndarray) -> np.ndarray:
    """A plain matte: an ellipse around the head, and shoulders below."""
    matte = np.zeros((512, 512), np.float32)
    center = mesh.mean(0)
    height = float(np.ptp(mesh[:, 1]))
    cv2.ellipse(
        matte,
        (int(center[0]), int(center[1] - 0.1 * height)),
        (int(0.62 * height), int(0.85 * height)),
        0,
        0,
        360,
        1.0,
        -1,
    )
    cv2.ellipse(matte, (int(center[0]), 560), (int(1.3 * height), int(0.8 * height)), 0, 0, 360, 1.0, -1)
    return cv2.GaussianBlur(matte, (0, 0), 2)


@pytest.fixture(scope="module")
def scene(training: dict[str, Any]) -> Any:
    mesh = np.load(MESH).astype(np.float32)
    return training["Scene"](photo_of_astronaut(), figure_of(mesh), mesh)


def paint(training: dict[str, Any], scene: Any, style: str, coarse: float, palette: int = 0) -> Marks:
    name = list(training["PALETTES"][style])[palette]
    return training["PAINTERS"][style](scene, coarse, name)


def test_every_style_has_a_painter_and_at_least_two_palettes(training: dict[str, Any]) -> None:
    assert set(training["PAINTERS"]) == set(STYLES) == set(training["PALETTES"])
    assert all(len(palettes) >= 2 for palettes in training["PALETTES"].values())


def test_the_recipe_names_the_styles_palettes_and_words_of_the_training(training: dict[str, Any]) -> None:
    recipe = load_recipe("mini")
    assert set(recipe.styles) == set(STYLES)
    for name in recipe.styles:
        style = recipe.style(name)
        assert style.palettes == tuple(training["PALETTES"][name])
        assert style.prompt == training["PROMPTS"][name][0]


@pytest.mark.parametrize("style", STYLES)
def test_a_painting_is_marks_and_no_filter(training: dict[str, Any], scene: Any, style: str) -> None:
    """Two seeds of one painting differ on the face by single marks, or its outlines are flat areas."""
    marks = paint(training, scene, style, 0.4)
    assert marks.maps.shape == (CHANNELS, 128, 128)
    assert np.isfinite(marks.maps).all()
    assert marks.maps.min() >= 0
    assert marks.maps.max() <= 1
    picture = draw(marks, 512, 1)
    assert np.isfinite(picture).all()
    assert float(np.abs(picture - scene.photo).mean()) > 0.06


@pytest.mark.parametrize("style", STYLES)
def test_bold_marks_are_larger_than_fine_ones(training: dict[str, Any], scene: Any, style: str) -> None:
    fine = draw(paint(training, scene, style, 0.0), 512, 1)
    bold = draw(paint(training, scene, style, 1.0), 512, 1)
    figure = scene.matte > 0.5
    assert float(np.abs(fine - bold)[figure].mean()) > 0.035


@pytest.mark.parametrize("style", STYLES)
def test_another_palette_is_seen_at_once(training: dict[str, Any], scene: Any, style: str) -> None:
    first, other = (draw(paint(training, scene, style, 0.4, k), 512, 1) for k in (0, 1))
    assert float(np.abs(first - other).mean()) > 0.01


@pytest.mark.parametrize("style", STYLES)
def test_the_background_is_left_out(training: dict[str, Any], scene: Any, style: str) -> None:
    """Nothing of what stands behind the person is traced: a striped wall changes no tone behind the figure."""
    stripes = scene.photo.copy()
    behind = scene.matte < 0.02
    columns = np.broadcast_to((np.arange(512) // 8 % 2).astype(np.float32)[None, :, None], stripes.shape)
    stripes[behind] = columns[behind]
    striped = training["Scene"](stripes, scene.matte, scene.mesh)
    picture = draw(paint(training, striped, style, 0.4), 512, 1).mean(-1)
    wall = behind & (cv2.blur(behind.astype(np.float32), (41, 41)) > 0.99)
    profile = np.array([picture[:, x][wall[:, x]].mean() for x in range(512) if wall[:, x].sum() > 40])
    period = 16
    if len(profile) >= 4 * period:
        spectrum = np.abs(np.fft.rfft(profile - profile.mean()))
        at = len(profile) // period
        assert spectrum[at - 1 : at + 2].max() < 0.02 * len(profile)


@pytest.mark.parametrize("style", LOCAL_COLOR)
def test_dark_skin_stays_darker_than_light_skin(training: dict[str, Any], scene: Any, style: str) -> None:
    face = scene.face > 0.9
    dark = training["Scene"](np.clip(scene.photo * 0.42, 0, 1), scene.matte, scene.mesh)
    light_face, dark_face = (draw(paint(training, s, style, 0.4), 512, 1).mean(-1)[face].mean() for s in (scene, dark))
    assert dark_face < light_face - 0.12


def test_teeth_are_no_ink(scene: Any) -> None:
    """The astronaut smiles: where her teeth show, a pen leaves the paper."""
    teeth = scene.teeth > 0.6
    assert teeth.sum() > 100
    assert float(scene.ink_lines(0.4)[teeth].mean()) < 0.15


def test_nothing_joins_the_brows(scene: Any) -> None:
    between = scene.polygon([9, 55, 193, 168, 417, 285]) > 0.9
    assert float(scene.ink_lines(0.4)[between].mean()) < 0.05


def test_there_are_more_lines_at_the_features_than_on_open_skin(scene: Any) -> None:
    lines = scene.ink_lines(0.4)
    skin = (scene.face > 0.9) & (scene.features < 0.05)
    assert lines[scene.eyes > 0.8].mean() > 6 * lines[skin].mean()


@pytest.mark.parametrize("style", ["oil", "pastel"])
def test_strokes_are_smaller_at_the_features(training: dict[str, Any], scene: Any, style: str) -> None:
    marks = paint(training, scene, style, 0.3)
    large, _, small = marks.maps[SLICES["stroke"]]
    eyes = cv2.resize(scene.eyes, (128, 128)) > 0.8
    assert small[eyes].mean() > large[eyes].mean()
