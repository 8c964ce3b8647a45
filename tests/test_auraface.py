"""AuraFace: a small network in its layout is fetched, loaded and used like the real file, which was not available."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest

from portrait.cli.main import main
from portrait.errors import WeightsCorruptError, WeightsMissingError
from portrait.faces.alignment import align_face
from portrait.faces.auraface import AuraFaceRecognizer
from portrait.faces.insightface_analyzer import InsightFaceAnalyzer
from portrait.faces.load import load_recognizers
from portrait.hub.judges import fetched_judges
from portrait.hub.manifest import find_part
from portrait.images import Photo
from portrait.loop import load
from portrait.recipes.licensing import license_chain
from portrait.recipes.load import load_recipe
from tests.hub_server import serving, use
from tests.public import recognizer

TINY = recognizer(seed=5)
PART = """
[auraface]
title = "AuraFace in small"
repo = "fal/AuraFace-v1"
revision = "{revision}"
license = "Apache-2.0"
commercial = "yes"
files = [{{ path = "glintr100.onnx", sha256 = "{sha256}", bytes = {bytes} }}]
"""


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The small network, fetched by the command from a hub on loopback with the name and commit of the real one."""
    part = find_part("auraface")
    manifest = tmp_path / "manifest.toml"
    manifest.write_text(
        PART.format(revision=part.revision, sha256=hashlib.sha256(TINY).hexdigest(), bytes=len(TINY)), "utf-8"
    )
    with serving() as hub:
        use(monkeypatch, hub, tmp_path)
        monkeypatch.setenv("PORTRAIT_MANIFEST", str(manifest))
        hub.files[part.repo, part.revision, "glintr100.onnx"] = TINY
        with pytest.raises(WeightsMissingError, match="run: portrait weights fetch auraface"):
            AuraFaceRecognizer()
        assert main(["weights", "fetch", "auraface", "--quiet"]) == 0
        yield


def test_only_the_recognizer_is_taken_and_it_is_pinned() -> None:
    part = find_part("auraface")
    assert [file.path for file in part.files] == ["glintr100.onnx"]
    assert part.files[0].sha256.startswith("a7933ea5330113b0")
    assert part.files[0].bytes == 260_694_151
    assert part.commercial == "yes"


def test_what_was_fetched_embeds_aligned_faces_in_rgb_from_minus_one_to_one(
    fetched: None, astronaut: Photo, analyzer: InsightFaceAnalyzer, tmp_path: Path
) -> None:
    (judge,) = load_recognizers(["auraface"])
    (face,) = analyzer.detect(astronaut.pixels)
    embedding = judge.embed(astronaut.pixels, face)
    crop = align_face(astronaut.pixels, face.kps)
    blob = cv2.dnn.blobFromImage(crop, 1 / 127.5, (112, 112), (127.5, 127.5, 127.5))
    session = onnxruntime.InferenceSession(TINY, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"input.1": blob})[0]
    assert embedding.shape == (512,)
    assert np.allclose(embedding, expected / np.linalg.norm(expected), atol=1e-6)
    assert judge.digests == {"auraface/glintr100": hashlib.sha256(TINY).hexdigest()}  # type: ignore[attr-defined]
    assert "auraface" in [link.part for link in license_chain(load_recipe("mini"))]


def test_a_file_that_is_no_such_network_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "glintr100.onnx"
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    monkeypatch.setattr("portrait.faces.auraface.part_file", lambda part: file)
    with pytest.raises(WeightsCorruptError, match=r"glintr100\.onnx cannot be loaded") as caught:
        AuraFaceRecognizer()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tools", ["insightface", "opencv"])
def test_it_judges_once_limits_and_curves_know_it(
    fetched: None, tools: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fetched_judges(tools)[-1] == "auraface"
    assert "auraface" not in load.calibrated_further("mini", tools)
    judges = [*load.FACE_TOOLS[tools], "auraface"]
    gate = {"judges": judges, "rates": {"0.01": {"floors": dict.fromkeys(judges, 0.5)}}}
    style = {"style_on_face": {"limit": 0.1}, "recognisers": {}, "gates": [gate]}
    limits = {"styles": {"oil": style}, "burned": {"limit": 0.5}}
    (tmp_path / "limits.json").write_text(json.dumps(limits))
    with monkeypatch.context() as patch:
        patch.setattr(load, "measured_judges", lambda recipe, file: set(judges))
        assert load.calibrated_further("mini", tools, str(tmp_path / "limits.json")) == ("auraface",)
    assert load.calibrated_further("mini", tools, str(tmp_path / "limits.json")) == ()  # the curves do not know it


def test_it_runs_without_insightface(fetched: None) -> None:
    program = (
        "import sys\nfrom portrait.faces.load import load_recognizers\nload_recognizers(['auraface'])\n"
        "assert 'insightface' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
