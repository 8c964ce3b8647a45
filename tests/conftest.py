"""Real parts, loaded once: the demo photos, InsightFace, dlib, `mini`, and a tiny SD 1.5."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import portrait  # noqa: F401  (sets the telemetry switches before any of the libraries is imported)
from portrait.faces.dlib_recognizer import DlibRecognizer
from portrait.faces.insightface_analyzer import InsightFaceAnalyzer
from portrait.images import Photo, read_photo, write_picture
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.load import load_loop
from portrait.records import RgbImage
from portrait.settings import Settings
from tests.fakes import a_photo

if TYPE_CHECKING:
    from portrait.generate.diffusion import DiffusionGenerator

FIXTURE_MARKS = {"analyzer": "weights", "dlib_recognizer": "weights", "mini": "weights", "cluster": "ray"}
"""Fixture -> the marker of every test that uses it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in FIXTURE_MARKS:
                item.add_marker(FIXTURE_MARKS[fixture])


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache shared by all tests: the speed of fakes must not enter the predictions of the user's campaigns."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PORTRAIT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def analyzer() -> InsightFaceAnalyzer:
    return InsightFaceAnalyzer()


@pytest.fixture(scope="session")
def dlib_recognizer() -> DlibRecognizer:
    return DlibRecognizer()


@pytest.fixture(scope="session")
def mini() -> AttemptLoop:
    return load_loop(Settings())


@pytest.fixture(scope="session")
def mini_in_torch(mini: AttemptLoop) -> DiffusionGenerator:
    """The same weights in float32, by diffusers' own pipeline."""
    from portrait.generate.diffusion import DiffusionGenerator

    return DiffusionGenerator(mini.recipe, dtype="float32")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with astronaut.png (one face), t1.png (six), chelsea.png and coffee.png (none)."""
    import skimage.data
    from insightface.data import get_image

    folder = tmp_path_factory.mktemp("photos")
    write_picture(folder / "t1.png", get_image("t1")[:, :, ::-1].copy())
    for name in ("astronaut", "chelsea", "coffee"):
        write_picture(folder / f"{name}.png", getattr(skimage.data, name)())
    return folder


@pytest.fixture(scope="session")
def astronaut(photos: Path) -> Photo:
    return read_photo(photos / "astronaut.png")


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests import tiny

    return tiny.build(tmp_path_factory.mktemp("tiny"))


# ---- for the fakes


@pytest.fixture
def limits(tmp_path: Path) -> str:
    """A file of thresholds for the fake recognizers, in the styles watercolor and oil."""
    recognizers = {n: {"thresholds": {"0.01": 0.9}, "impostor_pairs": 1000} for n in ("arcface", "dlib")}
    style = {"recognisers": recognizers, "style_on_face": {"limit": 0.2}}
    path = tmp_path / "limits.json"
    path.write_text(json.dumps({"styles": {"watercolor": style, "oil": style}, "burned": {"limit": 0.05}}))
    return str(path)


@pytest.fixture
def people(tmp_path: Path) -> list[Path]:
    """Twelve photos whose mean red and green, and so whose identity to the fakes, differ."""
    base = a_photo().pixels.astype(int)
    colors = [np.array([10 * i - 60, 60 - 10 * i, 0]) for i in range(12)]
    return [
        write_picture(tmp_path / f"{i:02d}.png", np.clip(base + c, 0, 255).astype(np.uint8))
        for i, c in enumerate(colors)
    ]


@pytest.fixture(scope="session")
def picture() -> RgbImage:
    """(128, 128, 3) uint8: red increases to the right, green downwards."""
    y, x = np.mgrid[0:128, 0:128]
    return RgbImage(np.stack([x * 2, y * 2, 128 + 0 * x], -1).astype(np.uint8))
