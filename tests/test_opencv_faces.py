"""YuNet and SFace: the real files, fetched by their pins, detect and distinguish real faces."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest

from portrait.cli.main import main
from portrait.errors import FaceError, WeightsCorruptError, WeightsMissingError
from portrait.faces.identity import identify
from portrait.faces.insightface_analyzer import InsightFaceAnalyzer
from portrait.faces.opencv import SFaceRecognizer, YuNetAnalyzer, YuNetDetector, second_detector
from portrait.hub.judges import fetched_judges
from portrait.hub.manifest import GROUPS, find_part
from portrait.images import Photo, read_photo
from portrait.images.decode import MAX_RATIO
from portrait.records import RgbImage
from tests.fakes import rgb
from tests.hub_server import serving, use
from tests.wheel_files import wheel_file

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Both models, fetched by the command from a hub on loopback, verified by the shipped pins."""
    with serving() as hub, pytest.MonkeyPatch.context() as patch:
        use(patch, hub, tmp_path_factory.mktemp("judges"))
        patch.delenv("PORTRAIT_MANIFEST")
        for part in map(find_part, GROUPS["judges"]):
            for file in part.files:
                hub.files[part.repo, part.revision, file.path] = wheel_file(file.path).read_bytes()
        with pytest.raises(WeightsMissingError, match="run: portrait weights fetch yunet"):
            YuNetDetector()
        assert main(["weights", "fetch", "judges", "--quiet"]) == 0
        yield


@pytest.fixture(scope="module")
def yunet(fetched: None) -> YuNetDetector:
    return YuNetDetector()


@pytest.fixture(scope="module")
def sface(fetched: None) -> SFaceRecognizer:
    return SFaceRecognizer()


def test_the_files_are_those_of_the_pins(yunet: YuNetDetector, sface: SFaceRecognizer) -> None:
    for model, part in ((yunet, find_part("yunet")), (sface, find_part("sface"))):
        assert [*model.digests.values()] == [part.files[0].sha256]
        assert part.commercial == "yes"
        assert part.note


def test_the_narrowest_photos_that_are_read_are_looked_at(yunet: YuNetDetector) -> None:
    """Their short side is less than a pixel where the long one is shrunk the most."""
    for shape in ((5 * MAX_RATIO, 5), (5, 5 * MAX_RATIO)):
        assert yunet.detect(RgbImage(np.zeros((*shape, 3), np.uint8))) == []


def test_yunet_sees_the_faces_that_scrfd_sees(
    yunet: YuNetDetector, analyzer: InsightFaceAnalyzer, photos: Path
) -> None:
    for name, count in (("astronaut", 1), ("t1", 6), ("chelsea", 0), ("coffee", 0)):
        image = read_photo(photos / f"{name}.png").pixels
        faces = yunet.detect(image)
        assert len(faces) == count, name
        for face, other in zip(faces, analyzer.detect(image), strict=True):
            distance = np.linalg.norm(face.kps - other.kps, axis=1).mean()
            eyes = np.linalg.norm(other.kps[1] - other.kps[0])
            assert distance < 0.2 * eyes, name


def test_the_second_opinion_is_yunet_where_it_was_fetched(
    yunet: YuNetDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(second_detector(), YuNetDetector)
    assert fetched_judges("insightface") == ("sface",)
    assert [part.commercial for part in yunet.licenses] == ["yes"]
    monkeypatch.setenv("PORTRAIT_CACHE", str(tmp_path))
    assert second_detector() is None
    assert fetched_judges("insightface") == ()


@pytest.mark.parametrize("angle", [-40, 25, 40])
def test_the_points_of_a_tilted_head_turn_with_it(yunet: YuNetDetector, astronaut: Photo, angle: float) -> None:
    matrix = cv2.getRotationMatrix2D((220, 110), angle, 0.8)
    (face,) = yunet.detect(rgb(cv2.warpAffine(astronaut.pixels, matrix, (512, 512))))
    (upright,) = yunet.detect(astronaut.pixels)
    expected = upright.kps @ matrix[:, :2].T + matrix[:, 2]
    eyes = np.linalg.norm(expected[1] - expected[0])
    assert np.linalg.norm(face.kps - expected, axis=1).mean() < 0.05 * eyes


def test_a_large_photo_and_a_tiny_one_are_looked_at(yunet: YuNetDetector, astronaut: Photo) -> None:
    large = np.zeros((2400, 3200, 3), np.uint8)
    large[100:612, 2000:2512] = astronaut.pixels
    (face,) = yunet.detect(RgbImage(large))
    (expected,) = yunet.detect(astronaut.pixels)
    assert np.abs(face.kps - (expected.kps + np.array([2000, 100]))).max() < 12
    assert yunet.detect(RgbImage(np.zeros((8, 3000, 3), np.uint8))) == []


def test_sface_distinguishes_people(
    yunet: YuNetDetector, sface: SFaceRecognizer, photos: Path, astronaut: Photo
) -> None:
    crowd = read_photo(photos / "t1.png").pixels
    people = [sface.embed(crowd, face) for face in yunet.detect(crowd)]
    assert all(vector.shape == (128,) and np.isclose(np.linalg.norm(vector), 1) for vector in people)
    assert max(float(a @ b) for a, b in combinations(people, 2)) < 0.45
    turned = rgb(cv2.warpAffine(astronaut.pixels, cv2.getRotationMatrix2D((220, 110), 12, 0.9), (512, 512)))
    astronaut_embedding, other = (sface.embed(p, yunet.detect(p)[0]) for p in (astronaut.pixels, turned))
    assert float(astronaut_embedding @ other) > 0.8
    assert max(float(astronaut_embedding @ person) for person in people) < 0.45


def test_sface_is_what_opencv_computes_itself(yunet: YuNetDetector, sface: SFaceRecognizer, astronaut: Photo) -> None:
    """Our alignment and channel order are those of OpenCV's own `alignCrop` and `feature`."""
    (face,) = yunet.detect(astronaut.pixels)
    bgr = np.ascontiguousarray(astronaut.pixels[:, :, ::-1])
    network = cv2.FaceRecognizerSF.create(str(wheel_file("face_recognition_sface_2021dec.onnx")), "")
    row = np.concatenate([face.bbox[:2], face.bbox[2:] - face.bbox[:2], face.kps.ravel(), [face.det_score]])
    expected = network.feature(network.alignCrop(bgr, row.astype(np.float32)))[0]
    assert float(sface.embed(astronaut.pixels, face) @ expected) / np.linalg.norm(expected) > 0.999


@pytest.mark.parametrize("model", [YuNetDetector, SFaceRecognizer])
def test_a_file_that_is_no_such_model_is_one_line(
    tmp_path: Path, model: type[YuNetDetector] | type[SFaceRecognizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    monkeypatch.setattr("portrait.faces.opencv.part_file", lambda part: file)
    with pytest.raises(WeightsCorruptError, match="OpenCV cannot load") as caught:
        model()
    assert "\n" not in str(caught.value)


def test_yunet_and_sface_notice_two_people(fetched: None, photos: Path, astronaut: Photo) -> None:
    free = YuNetAnalyzer()
    assert (free.name, free.detector) == ("sface", "yunet")
    assert [part.name for part in free.licenses] == ["yunet", "sface"]
    several = read_photo(photos / "t1.png").pixels
    (face,) = free.detect(astronaut.pixels)
    darker = RgbImage((astronaut.pixels * 0.6).astype(np.uint8))
    assert identify([(astronaut.pixels, face), (darker, free.detect(darker)[0])], free, []).photos == 2
    with pytest.raises(FaceError, match="do not look like one person"):
        identify([(astronaut.pixels, face), (several, free.detect(several)[0])], free, [])


COMMERCIAL = """
import json, sys
from portrait.cli.main import main
photo = sys.argv[1]
assert main(["faces", photo, "--commercial", "--json"]) == 0
assert main(["compare", photo, photo, "--commercial", "--json"]) == 0
assert main(["compare", photo, photo, "--recipe", "sd15-plus-face", "--style", "oil", "--commercial", "--json"]) == 0
loaded = [name for name in sys.modules if name.partition(".")[0] == "insightface"]
assert not loaded, loaded
"""


def test_for_business_insightface_is_never_imported(fetched: None, photos: Path) -> None:
    command = [sys.executable, "-c", COMMERCIAL, str(photos / "astronaut.png")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    faces, compared, styled = (json.loads(line) for line in run.stdout.splitlines())
    assert len(faces["faces"]) == 1
    assert compared["thresholds"].keys() == compared["similarity"].keys() == {"sface", "dlib"}
    assert compared["decision"] == styled["decision"] == "same person"
    assert "not calibrated" in styled["provisional_thresholds"]
