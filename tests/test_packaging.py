"""The wheel contains the model and its metadata."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from portrait.recipes.load import load_recipe

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_carries_mini_and_the_tables(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT],
        check=True,
    )
    (wheel,) = tmp_path.glob("portrait_stylizer-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for part in ("unet", "vae", "text_encoder"):
        assert any(n.startswith(f"portrait/weights_data/mini/{part}/") and n.endswith(".safetensors") for n in names)
    expected = [
        "py.typed",
        "weights_data/mini/manifest.json",
        "weights_data/mini/matte.safetensors",
        "weights_data/mini/onnx/unet.onnx",
        "weights_data/mini/faceid/ip-adapter-faceid_mini.safetensors",
    ]
    expected += [
        "weights_data/manifest.toml",
        "recipes/mini.toml",
        "recipes/styles.toml",
        "recipes/mini.thresholds.json",
        "recipes/mini.curves.json",
        "recipes/photo.thresholds.json",
        "campaign/campaign.toml",
        "report/templates/drift.html",
        "report/templates/drift.css",
        "report/templates/drift.js",
        "studio/templates/viewer.html",
    ]
    expected += ["studio/frame.css", "studio/page.css", "studio/page.js"]
    expected += [f"studio/samples/mini/{style}.webp" for style in load_recipe("mini").styles]
    for name in expected:
        assert f"portrait/{name}" in names


def test_the_distribution_says_what_it_is() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == "portrait-stylizer"
    assert list(project["scripts"]) == ["portrait"]
    assert project["authors"]
    assert "Typing :: Typed" in project["classifiers"]
    assert {"portrait", "face recognition"} <= set(project["keywords"])


def test_no_text_says_to_install_the_other_project_of_that_name() -> None:
    """`portrait` on PyPI is another project."""
    files = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("portrait/**/*.py"), *ROOT.glob("eval/*.py")]
    assert len(files) > 50
    pattern = re.compile(r"pip install[^\n`]*\bportrait(?![-\w/])")
    assert [str(path) for path in files if pattern.search(path.read_text())] == []
