"""`PortraitStylizer`: one call, the names of the command line, a thin layer over the loop."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import portrait
from portrait import PortraitStylizer
from portrait.api import Result
from portrait.errors import FaceError, ImageReadError, SettingsError, ShapeError
from portrait.images import pixels_sha256, write_picture
from portrait.settings import Settings
from tests.campaigns import Load, person, write_limits
from tests.fakes import SIZE, FakeAnalyzer, a_face


@pytest.fixture
def stylizer(tmp_path: Path) -> PortraitStylizer:
    return PortraitStylizer(Load()(Settings()))


@pytest.fixture
def limits(tmp_path: Path) -> str:
    return str(write_limits(tmp_path / "limits.json"))


def test_importing_portrait_loads_nothing_for_it() -> None:
    code = "import sys, portrait; print([m for m in ('numpy', 'PIL', 'torch', 'portrait.api') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'Portraiture'"):
        portrait.Portraiture  # noqa: B018


def test_the_public_names_are_these_and_each_is_there() -> None:
    names = {"AttemptRecord", "FailureRecord", "PortraitError", "PortraitRecord", "PortraitStylizer", "Result"}
    assert set(portrait.__all__) == names | {"__version__", "read_record"}
    assert set(portrait.__all__) <= set(dir(portrait))
    for name in portrait.__all__:
        assert getattr(portrait, name) is not None


def test_the_public_calls_take_these_names() -> None:
    """Whoever calls the library relies on them: a name may be added here, and none goes or moves."""
    stylize = list(inspect.signature(PortraitStylizer.stylize).parameters)
    assert stylize == ["self", "photo", "style", "references", "variant", "on_step", "settings"]
    assert list(inspect.signature(PortraitStylizer.from_recipe).parameters) == ["name", "loading"]
    assert [f.name for f in fields(Result)] == ["image", "before", "record"]
    assert {"accepted", "attempts", "reasons"} <= set(dir(Result))


@pytest.mark.slow
def test_a_type_checker_of_a_user_sees_the_annotations(tmp_path: Path) -> None:
    """Without `py.typed` every annotation of an installed package counts as Any."""
    assert (Path(portrait.__file__).parent / "py.typed").is_file()
    (tmp_path / "user.py").write_text(
        "import numpy as np\n"
        "from portrait import PortraitStylizer\n"
        "result = PortraitStylizer.from_recipe('mini').stylize(np.zeros((9, 9, 3), np.uint8))\n"
        "reveal_type(result.attempts[0].similarity)\n"
    )
    others = ["torch", "diffusers", "transformers", "gradio", "cv2", "scipy", "matplotlib", "skimage", "ray", "PIL"]
    others += ["huggingface_hub", "onnxruntime", "pydantic", "rich"]  # large, and of no interest here
    skipped = ",".join(f"{name}.*" for name in others)
    (tmp_path / "mypy.ini").write_text(
        f"[mypy]\nignore_missing_imports = true\n[mypy-{skipped}]\nfollow_imports = skip\n"
    )
    command = [sys.executable, "-m", "mypy", "user.py"]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert 'Revealed type is "dict[str, float]"' in checked.stdout, checked.stdout + checked.stderr
    assert checked.returncode == 0, checked.stdout


def test_one_call_makes_one_judged_picture(stylizer: PortraitStylizer, limits: str) -> None:
    steps: list[tuple[int, int, int]] = []
    result = stylizer.stylize(
        person(2), style="oil", balance=0.3, seed=4, thresholds=limits, on_step=lambda *at: steps.append(at)
    )
    assert isinstance(result, Result)
    assert result.image.size == (SIZE, SIZE)
    assert result.accepted is (result.record.status == "accepted")
    assert result.reasons == result.record.reasons
    assert result.attempts == list(result.record.attempts)
    assert (result.record.style, result.record.balance) == ("oil", 0.3)
    assert result.attempts[0].seed == 4


def test_a_path_an_image_and_an_array_are_the_same_photo(
    stylizer: PortraitStylizer, limits: str, tmp_path: Path
) -> None:
    pixels = person(3)
    file = write_picture(tmp_path / "anna.png", pixels)
    results = [
        stylizer.stylize(photo, thresholds=limits) for photo in (str(file), file, Image.fromarray(pixels), pixels)
    ]
    assert len({pixels_sha256(np.asarray(result.image)) for result in results}) == 1
    assert Path(results[0].record.input.path).name == "anna.png"


def test_what_is_not_a_photo_is_reported_as_such(stylizer: PortraitStylizer, tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match="cannot read"):
        stylizer.stylize(tmp_path / "nobody.jpg")
    with pytest.raises(ShapeError, match="uint8 RGB"):
        stylizer.stylize(np.zeros((8, 8), np.uint8))


def test_an_unknown_name_says_which_was_meant(stylizer: PortraitStylizer) -> None:
    with pytest.raises(SettingsError, match="unknown setting 'balence'; did you mean balance"):
        stylizer.stylize(person(1), balence=0.5)
    with pytest.raises(SettingsError, match="stylize: unknown setting 'device'"):
        stylizer.stylize(person(1), device="cpu")
    with pytest.raises(SettingsError, match="from_recipe: unknown setting 'balance'"):
        PortraitStylizer.from_recipe("mini", balance=0.5)


def test_a_setting_has_the_name_and_the_words_of_its_flag(stylizer: PortraitStylizer, limits: str) -> None:
    record = stylizer.stylize(person(2), thresholds=limits, stop="best", max_attempts=1, keep="pose").record
    assert (record.settings.until, record.settings.keep) == ("best", ("pose",))


def test_each_means_several_people_and_a_call_makes_one_portrait(limits: str) -> None:
    stylizer = Load()(Settings())
    stylizer.analyzer = FakeAnalyzer(lambda image: [a_face(SIZE), a_face(SIZE)])
    with pytest.raises(FaceError, match="give an index"):
        PortraitStylizer(stylizer).stylize(person(1), face="each", thresholds=limits)


def test_mini_keeps_the_astronaut(mini: object, photos: Path) -> None:
    result = PortraitStylizer(mini).stylize(photos / "astronaut.png", style="watercolor", balance=0.5)  # type: ignore[arg-type]
    assert result.accepted, result.reasons
    assert result.image.size == (512, 512)
    assert set(result.attempts[0].similarity) == {"arcface", "dlib"}
