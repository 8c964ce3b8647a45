"""The judge: thresholds computed by hand, checks with a picture that fails and one that passes, verdicts."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from portrait.errors import SettingsError, ShapeError, TooFewPairsError
from portrait.faces.alignment import align_face
from portrait.faces.insightface_analyzer import InsightFaceAnalyzer
from portrait.hub.files import mini_folder, verify_manifest
from portrait.images import Photo
from portrait.judge.checks import StyleStatistics, burned_share, style_on_face
from portrait.judge.thresholds import photo_thresholds, threshold_at_far, thresholds_for
from portrait.judge.verdict import Measurement, decide, describe_reason
from portrait.judge.verification import similarity
from portrait.recipes.load import load_recipe
from portrait.records import Embedding, RgbImage
from tests.fakes import LIMITS, rgb


def measured(
    arcface: float = 0.6, dlib: float = 0.95, style: float = 0.3, burned: float = 0.0, face: bool = True
) -> Measurement:
    return Measurement(
        similarity={"arcface": arcface, "dlib": dlib}, face_found=face, style_on_face=style, burned=burned
    )


def test_threshold_at_far_by_hand() -> None:
    impostors = np.arange(1000) / 1000  # 0.000 ... 0.999
    threshold = threshold_at_far(impostors, 0.01)
    assert (impostors >= threshold).sum() == 10
    assert threshold == pytest.approx(0.989, abs=1e-6)


def test_a_threshold_among_equal_scores_does_not_let_more_pass() -> None:
    impostors = np.array([0.9] * 50 + [0.1] * 950)
    assert (impostors >= threshold_at_far(impostors, 0.01)).sum() == 0


def test_too_small_a_sample_is_an_error_not_a_number() -> None:
    with pytest.raises(TooFewPairsError, match="100 impostor pairs cannot show a FAR of 0.001; 5000 or more"):
        threshold_at_far(np.zeros(100), 0.001)


def test_similarity_of_a_picture_with_itself_survives_the_codecs(
    astronaut: Photo, analyzer: InsightFaceAnalyzer
) -> None:
    (face,) = analyzer.detect(astronaut.pixels)
    reference = analyzer.embed(astronaut.pixels, face.kps)
    assert similarity(reference, reference) == pytest.approx(1, abs=1e-6)
    for kind, options, smallest in (
        ("PNG", {}, 0.99999),
        ("JPEG", {"quality": 95}, 0.97),
        ("WEBP", {"quality": 95}, 0.97),
    ):
        buffer = io.BytesIO()
        Image.fromarray(astronaut.pixels).save(buffer, kind, **options)
        again = RgbImage(np.asarray(Image.open(buffer).convert("RGB")))
        (detected,) = analyzer.detect(again)
        value = similarity(reference, analyzer.embed(again, detected.kps))
        print(kind, round(value, 5))
        assert value >= smallest


def test_similarity_refuses_raw_embeddings() -> None:
    with pytest.raises(ShapeError, match="length 5"):
        similarity(Embedding(np.array([3, 4], np.float32)), Embedding(np.array([1, 0], np.float32)))
    with pytest.raises(ShapeError, match="not of one recognizer"):
        similarity(Embedding(np.ones(2, np.float32)), Embedding(np.ones(3, np.float32)))


@pytest.fixture(scope="module")
def crop(astronaut: Photo, analyzer: InsightFaceAnalyzer) -> RgbImage:
    (face,) = analyzer.detect(astronaut.pixels)
    return align_face(astronaut.pixels, face.kps, 224)


def copies(crop: RgbImage) -> dict[str, RgbImage]:
    jpeg = cv2.imdecode(cv2.imencode(".jpg", crop[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 40])[1], 1)
    assert jpeg is not None
    gray = np.repeat(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)

    def moved(degrees: float, zoom: float, shift: float) -> RgbImage:
        affine = cv2.getRotationMatrix2D((112, 112), degrees, zoom) + np.array([[0, 0, shift], [0, 0, shift]])
        return rgb(cv2.warpAffine(crop, affine, (224, 224), borderMode=cv2.BORDER_REFLECT))

    pictures: dict[str, np.ndarray] = {
        "shifted": moved(0, 1, 4),
        "turned": moved(4, 1, 0),
        "zoomed": moved(0, 1.05, 0),
        "mirrored": np.ascontiguousarray(crop[:, ::-1]),
        "mirrored, shifted, gray": np.ascontiguousarray(np.roll(gray, 5, 1)[:, ::-1]),
        "the photo": crop,
        "jpeg": jpeg[:, :, ::-1],
        "darker": (255 * (crop / 255) ** 1.5).astype(np.uint8),
        "contrast": np.clip((crop.astype(float) - 128) * 1.4 + 128, 0, 255).astype(np.uint8),
        "sepia": np.clip(gray * np.array([1.05, 0.95, 0.8]), 0, 255).astype(np.uint8),
        "duotone": (gray / 255 * np.array([200, 60, 90]) + np.array([40, 20, 120])).astype(np.uint8),
        "grain": np.clip(crop + np.random.default_rng(0).normal(0, 8, crop.shape), 0, 255).astype(np.uint8),
    }
    return {name: rgb(pixels) for name, pixels in pictures.items()}


def test_a_copy_of_the_photo_is_not_a_style(crop: RgbImage) -> None:
    limit = min(thresholds_for("mini", s, 0.01).style_on_face for s in load_recipe("mini").styles)
    for name, copy in copies(crop).items():
        value = style_on_face(crop, copy)
        print(name, round(value, 3))
        assert value < limit, name
    drawing = cv2.adaptiveThreshold(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), 255, cv2.ADAPTIVE_THRESH_MEAN_C, 0, 15, 4)
    assert style_on_face(crop, rgb(np.repeat(drawing[..., None], 3, 2))) > limit
    inks = np.array([[33, 13, 82], [191, 18, 122], [252, 107, 66], [255, 204, 51], [255, 247, 199]], np.uint8)
    printed = inks[np.digitize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), [50, 100, 150, 200])]
    assert style_on_face(crop, rgb(printed)) > limit


def test_style_on_face_needs_crops_of_one_shape(crop: RgbImage) -> None:
    with pytest.raises(ShapeError):
        style_on_face(crop, RgbImage(crop[:100]))


def test_burned_counts_what_the_photo_did_not_have(crop: RgbImage) -> None:
    assert burned_share(crop, crop) == 0
    hot = np.clip(crop.astype(int) * 4, 0, 255).astype(np.uint8)
    assert burned_share(crop, hot) > 0.2
    assert burned_share(hot, hot) == 0


def test_a_good_picture_is_accepted() -> None:
    verdict = decide(measured(), LIMITS)
    assert verdict.accepted
    assert verdict.reasons == ()
    assert verdict.margin == pytest.approx(0.05)


def test_a_similarity_at_the_threshold_passes() -> None:
    assert decide(measured(arcface=0.4, dlib=0.9), LIMITS).accepted


@pytest.mark.parametrize(
    ("kwargs", "reasons"),
    [
        ({"arcface": 0.39}, ("identity_low:arcface",)),
        ({"dlib": 0.89}, ("identity_low:dlib",)),
        ({"arcface": 0.1, "dlib": 0.1}, ("identity_low:arcface", "identity_low:dlib")),
        ({"style": 0.1}, ("not_stylized",)),
        ({"burned": 0.2}, ("burned",)),
        ({"face": False, "arcface": 0.1}, ("no_face", "identity_low:arcface")),
    ],
)
def test_each_fault_has_its_reason(kwargs: dict[str, float], reasons: tuple[str, ...]) -> None:
    verdict = decide(measured(**kwargs), LIMITS)  # type: ignore[arg-type]
    assert not verdict.accepted
    assert verdict.reasons == reasons
    assert all(describe_reason(r) != r for r in reasons)


def test_half_a_style_is_no_copy_and_not_the_style_either() -> None:
    drawn = StyleStatistics(mean=np.zeros(1), precision=np.eye(1), limit=2.0, least=0.27)
    limits = replace(LIMITS, style="woodcut", statistics=drawn)
    half = replace(measured(style=0.18), style_distance=1.0)
    assert decide(half, LIMITS).accepted
    assert decide(half, limits).reasons == ("not_stylized:woodcut",)
    assert decide(replace(half, style_on_face=0.28), limits).accepted


def test_a_picture_without_a_face_is_rejected_however_alike_it_is_at_the_photos_landmarks() -> None:
    assert decide(measured(face=False, arcface=0.99, dlib=0.99), LIMITS).reasons == ("no_face",)
    assert decide(measured(face=False, dlib=0.5), LIMITS).reasons == ("no_face", "identity_low:dlib")


def test_shipped_thresholds_name_counts_and_cover_every_style() -> None:
    recipe = load_recipe("mini")
    path = Path(__file__).parents[1] / "portrait" / "recipes" / "mini.thresholds.json"
    table = json.loads(path.read_text())
    assert table["weights"] == verify_manifest(mini_folder())
    for style in recipe.styles:
        thresholds = thresholds_for("mini", style, 0.01)
        assert set(thresholds.identity) == {"arcface", "dlib", "sface"}
        for recognizer in table["styles"][style]["recognisers"].values():
            assert recognizer["impostor_pairs"] >= 500
    assert set(photo_thresholds().limits) == {"arcface", "dlib"}


def test_an_uncalibrated_rate_or_style_says_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"FAR 0\.0001 is not calibrated .*calibrated: .*0\.01"):
        thresholds_for("mini", "oil", 0.0001)
    with pytest.raises(SettingsError, match="calibrated styles: watercolor"):
        thresholds_for("mini", "fresco", 0.01)
    with pytest.raises(SettingsError, match="--thresholds"):
        thresholds_for("elsewhere", "oil", 0.01)
    for text in ('{"styles": {"oil": {}}, "burned": {}}', "[]", '{"styles": {"oil": {"recognisers": {}}}}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(SettingsError):
            thresholds_for("mini", "oil", 0.01, tmp_path / "bad.json")
    with pytest.raises(SettingsError, match="calibrated for other weights"):
        thresholds_for("mini", "oil", 0.01, weights={"vae/diffusion_pytorch_model.safetensors": "0" * 64})
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(SettingsError, match="cannot read thresholds"):
        thresholds_for("mini", "oil", 0.01, tmp_path / "bad.json")
