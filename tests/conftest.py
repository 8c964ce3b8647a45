"""Real parts, loaded once: the demo photos, InsightFace, dlib, `mini`, and a tiny SD 1.5."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import portrait  # noqa: F401  (sets the telemetry switches before any of the libraries is imported)
from portrait.faces.dlib_recogniser import DlibReferee
from portrait.faces.insightface_analyzer import InsightFaceAnalyzer
from portrait.images import Photo, read_photo, write_picture
from portrait.stylizer import Stylizer


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of the tests' own, shared by all: what fakes take for a picture shall predict no campaign of the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PORTRAIT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def analyzer() -> InsightFaceAnalyzer:
    return InsightFaceAnalyzer()


@pytest.fixture(scope="session")
def referee() -> DlibReferee:
    return DlibReferee()


@pytest.fixture(scope="session")
def mini() -> Stylizer:
    return Stylizer.from_recipe("mini")


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
