"""The style judge of a set of weights: its input, what it rejects, its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from portrait.calibrate.degrade import copies
from portrait.calibrate.sample import SampleOptions
from portrait.calibrate.thresholds import calibrate_thresholds
from portrait.errors import SettingsError, ShapeError, WeightsCorruptError, WeightsMissingError
from portrait.faces.alignment import align_face
from portrait.faces.insightface_analyzer import InsightFaceAnalyzer
from portrait.generate.framing import frame_portrait
from portrait.hub.files import sha256_of
from portrait.images import Photo
from portrait.judge.changes import mouth_shift, skin_lightness
from portrait.judge.style_judge import PHOTO, StyleJudge, StyleLimits, face_window
from portrait.judge.verdict import Measurement, decide, describe_reason
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.load import style_judge_of
from portrait.recipes.load import load_recipe
from portrait.records import Embedding, Face, Points, RgbImage
from portrait.records.portrait import read_record
from portrait.report.explain import explain
from portrait.settings import Settings
from tests.fakes import (
    LIMITS,
    RECIPE,
    FakeAnalyzer,
    FakeGenerator,
    FakeRecognizer,
    a_face,
    a_photo,
    fake_loop,
    restyled,
    rgb,
    unit,
)

SIDE = 24
BLUE = [[0.0, 0, 40], [0.0, 0, -40], [0.0, 0, 0]]
"""Watercolor if the face is blue, oil if it is not."""


def write_judge(folder: Path, classes: tuple[str, ...] = ("watercolor", "oil", PHOTO), **more: object) -> Path:
    """A style judge by the mean color of the face: the logits are `BLUE` times it, less half for watercolor."""
    weights = [
        numpy_helper.from_array(np.array(BLUE, np.float32), "weight"),
        numpy_helper.from_array(np.array([-12.0, 12, -30], np.float32), "bias"),
    ]
    nodes = [
        helper.make_node("GlobalAveragePool", ["faces"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colors",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3])],
        weights,
    )
    folder.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / "style.onnx"))
    least = {"watercolor": 0.4, "oil": 0.5}
    config = {"scale": 128, "side": SIDE, "classes": classes, "least": least} | more
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> StyleJudge:
    return StyleJudge(write_judge(tmp_path_factory.mktemp("judge")), {"judge/style.onnx": "0" * 64})


@pytest.fixture(scope="module")
def skin_judge(tmp_path_factory: pytest.TempPathFactory) -> StyleJudge:
    skin = {"watercolor": {"slope": 0.5, "offset": 26.0, "most": 8.0}}
    return StyleJudge(write_judge(tmp_path_factory.mktemp("skin"), skin=skin, least={"watercolor": 0.0}), {})


def test_the_window_is_the_face_at_the_scale_of_the_marks() -> None:
    picture = a_photo().pixels
    kps = a_face().kps
    window = face_window(picture, kps, 128, SIDE)
    x, y = np.round(kps.mean(0)).astype(int) - SIDE // 2
    assert np.array_equal(window, picture[y : y + SIDE, x : x + SIDE])
    large = RgbImage(picture.repeat(2, 0).repeat(2, 1))
    difference = face_window(large, a_face(256).kps, 128, SIDE).astype(int) - window
    assert np.abs(difference).mean() < 6  # brought to the same scale
    corner = face_window(picture, Points(kps - 60), 128, SIDE)
    assert corner.shape == (SIDE, SIDE, 3)  # beyond the border too


def test_probabilities_add_up_and_follow_the_face(judge: StyleJudge) -> None:
    blue = np.zeros((128, 128, 3), np.uint8)
    blue[40:90, 40:90, 2] = 255
    probabilities = judge.probabilities(RgbImage(blue), a_face().kps)
    assert sum(probabilities.values()) == pytest.approx(1)
    assert probabilities["watercolor"] > 0.99
    blue[40:90, 40:90] = 0
    blue[:30, :, 2] = 255  # blue elsewhere says nothing
    assert judge.probabilities(RgbImage(blue), a_face().kps)["oil"] > 0.99


def tinted(blue: int) -> Callable[..., RgbImage]:
    def paint(photo: RgbImage, *_: object) -> RgbImage:
        picture = restyled(photo)
        return RgbImage(np.stack([picture[..., 0], picture[..., 1], np.full_like(picture[..., 2], blue)], -1))

    return paint


class Unmoved(FakeAnalyzer):
    """Recognizes the same person in any color."""

    def embed(self, image: RgbImage, kps: Points) -> Embedding:
        return unit(1.0)


class Convinced(FakeRecognizer):
    def embed(self, image: RgbImage, face: Face) -> Embedding:
        return unit(1.0)


def looked_at(judge: StyleJudge | None, blue: int) -> AttemptLoop:
    return fake_loop(tinted(blue), style_judge=judge)


@pytest.mark.parametrize(("blue", "reasons"), [(200, []), (20, ["not_stylized:watercolor"])])
def test_a_face_in_another_style_is_rejected_by_what_the_weights_know(
    judge: StyleJudge, limits: str, blue: int, reasons: list[str]
) -> None:
    loop = looked_at(judge, blue)
    (subject,) = loop.subjects(a_photo())
    record = loop.stylize(subject, "watercolor", Settings(thresholds=limits, max_attempts=1)).record
    attempt = record.chosen_attempt
    print(attempt)
    assert list(record.reasons) == reasons
    assert record.limits.style_probability == 0.4
    assert record.weights["judge/style.onnx"] == "0" * 64  # another judge is another verdict
    assert attempt.style_probability is not None
    assert (attempt.style_probability < 0.4) == bool(reasons)
    assert read_record(record.to_json()) == record
    text = explain(record)
    assert "drawn as watercolor is, says the style judge:" in text
    assert ("BELOW the limit 40.0%" in text) == bool(reasons)


@pytest.mark.parametrize(("change", "is_change"), [(0, False), (15, True), (-15, True)])
def test_a_skin_that_was_lightened_is_a_change_of_the_person(
    skin_judge: StyleJudge, limits: str, change: int, is_change: bool
) -> None:
    """The style halves the photo's lightness and adds 26; a picture that is 15 lighter than that was changed."""

    def paint(photo: RgbImage, *_: object) -> RgbImage:
        picture = tinted(90)(photo)
        for _turn in range(12):  # until the cheeks are as light as wanted
            expected = 0.5 * skin_lightness(align_face(photo, a_face().kps, 224)) + 26 + change
            gap = expected - skin_lightness(align_face(picture, a_face().kps, 224))
            lab = np.asarray(cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
            lab[40:90, 40:90, 0] += gap
            picture = RgbImage((cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).clip(0, 1) * 255 + 0.5).astype(np.uint8))
        return picture

    loop = AttemptLoop(RECIPE, FakeGenerator(paint), Unmoved(), [Convinced()], style_judge=skin_judge)
    (subject,) = loop.subjects(a_photo())
    record = loop.stylize(subject, "watercolor", Settings(thresholds=limits, max_attempts=1)).record
    print(record.chosen_attempt)
    assert record.chosen_attempt.changed["skin"] == pytest.approx(change, abs=4)
    assert ("changed:skin" in record.reasons) == is_change
    assert record.limits.changed == {"skin": 8.0}
    assert read_record(record.to_json()) == record
    assert describe_reason("changed:skin") == "the skin is lighter or darker than this style draws it"
    text = explain(record)
    assert f"at most 8 is allowed: {'TOO MUCH' if is_change else 'fine'}" in text
    assert "changed" not in loop.stylize(subject, "oil", Settings(thresholds=limits, max_attempts=1)).record.to_json()


@pytest.fixture(scope="module")
def face(astronaut: Photo, analyzer: InsightFaceAnalyzer) -> RgbImage:
    """A real face, aligned at 224 px."""
    detected = max(analyzer.detect(astronaut.pixels), key=lambda face: face.size)
    return align_face(astronaut.pixels, detected.kps, 224)


def inked(crop: RgbImage) -> RgbImage:
    """Flat tones in a cold ink with dark lines: redrawn, with the same face."""
    gray = cv2.cvtColor(cv2.bilateralFilter(crop, 9, 60, 9), cv2.COLOR_RGB2GRAY)
    lines = cv2.adaptiveThreshold(cv2.medianBlur(gray, 5), 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 15, 4)
    tones = np.where(lines > 0, gray // 64 * 64 + 32, 10)
    return rgb(np.stack([0.5 * tones, 0.7 * tones, tones], -1).astype(np.uint8))


def with_open_mouth(crop: RgbImage, by: float) -> RgbImage:
    """Move everything below the line of the mouth down by `by` inter-eye distances, which opens a dark gap."""
    y, x = np.mgrid[0:224, 0:224].astype(np.float32)
    line, depth = 185, 70 * by
    source = np.where(y > line, np.maximum(y - depth, line), y)
    opened = cv2.remap(crop, x, source.astype(np.float32), cv2.INTER_LINEAR)
    opened[(y > line) & (y < line + depth) & (np.abs(x - 112) < 28)] = 25
    return rgb(opened)


def test_a_mouth_that_was_opened_is_a_change_and_a_drawing_of_it_is_none(face: RgbImage) -> None:
    assert mouth_shift(face, face) == 0
    assert abs(mouth_shift(face, inked(face))) < 0.03
    for by in (0.1, 0.15):
        for picture in (with_open_mouth(face, by), inked(with_open_mouth(face, by))):
            print(by, mouth_shift(face, picture))
            assert mouth_shift(face, picture) > 0.6 * by
            assert abs(mouth_shift(picture, face)) > 0.05  # and one that was closed
    limits = StyleLimits(probability=0.0, expression=0.05)
    assert limits.changes(face, inked(face)).keys() == {"expression"}
    measured = Measurement(similarity={}, face_found=True, style_on_face=1.0, burned=0.0, style_probability=1.0)
    thresholds = replace(LIMITS, identity={}, drawing=limits)
    for picture, reasons in ((inked(face), ()), (with_open_mouth(face, 0.15), ("changed:expression",))):
        assert decide(replace(measured, changed=limits.changes(face, picture)), thresholds).reasons == reasons
    assert describe_reason("changed:expression") == "the mouth is not as in the photo"


def test_crops_of_another_shape_are_no_faces(face: RgbImage) -> None:
    with pytest.raises(ShapeError, match="a multiple of 112, got 100 x 224"):
        skin_lightness(RgbImage(face[:, :100]))
    with pytest.raises(ShapeError, match="crops differ"):
        mouth_shift(face, RgbImage(face[:112, :112]))


@pytest.mark.slow
def test_calibration_leaves_the_style_to_the_judge_that_knows_it(judge: StyleJudge, people: list[Path]) -> None:
    loop = fake_loop(tinted(200), style_judge=judge)
    table = calibrate_thresholds(loop, people[:6], SampleOptions(styles=["oil"], rates=[0.2], balance=0.5))
    assert table["styles"]["oil"]["style_statistics"] is None
    assert judge.limits["oil"] == loop.judges.with_drawing(replace(LIMITS, style="oil")).drawing


def test_without_a_style_judge_nothing_about_it_is_recorded(limits: str) -> None:
    loop = looked_at(None, 20)
    (subject,) = loop.subjects(a_photo())
    record = loop.stylize(subject, "watercolor", Settings(thresholds=limits, max_attempts=1)).record
    assert record.accepted
    assert "style_probability" not in record.to_json()


def with_judge(base: Path) -> Path:
    """A model folder with a judge and a manifest."""
    write_judge(base / "judge")
    files = {f"judge/{name}": {"sha256": sha256_of(base / "judge" / name)} for name in ("config.json", "style.onnx")}
    (base / "manifest.json").write_text(json.dumps({"files": {}, "judge": files}))
    return base


def test_the_judge_of_a_set_of_weights_is_verified(tmp_path: Path) -> None:
    base = with_judge(tmp_path)
    recipe = replace(RECIPE, base=base, judge="judge")
    loaded = style_judge_of(recipe)
    assert loaded is not None
    assert loaded.digests["judge/style.onnx"] == sha256_of(base / "judge/style.onnx")
    assert style_judge_of(RECIPE) is None
    network = base / "judge/style.onnx"
    network.write_bytes(network.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsCorruptError, match="expected"):
        style_judge_of(recipe)
    (base / "manifest.json").write_text(json.dumps({"files": {}, "judge": {}}))
    with pytest.raises(WeightsCorruptError, match="does not list judge/config.json, judge/style.onnx"):
        style_judge_of(recipe)
    (base / "manifest.json").unlink()  # a user's own folder has none
    network.unlink()
    with pytest.raises(WeightsMissingError, match="names a style judge, but .* has no judge/style.onnx"):
        style_judge_of(recipe)


def test_a_judge_whose_classes_are_not_those_of_its_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsCorruptError, match="distinguishes 3 classes"):
        StyleJudge(write_judge(tmp_path, ("watercolor", "oil", "comic", PHOTO)), {})
    with pytest.raises(WeightsCorruptError, match="cannot be loaded"):
        StyleJudge(tmp_path / "nowhere", {})


def test_a_recipe_names_its_judge_inside_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    shipped = (Path(__file__).parents[1] / "portrait/recipes/mini.toml").read_text()
    for judge, is_fine in (("judge", True), ("../judge", False)):
        file = tmp_path / "own.toml"
        text = shipped.replace('base = "mini"', 'base = "own"').replace('judge = "judge"', f'judge = "{judge}"')
        file.write_text(text)
        if is_fine:
            assert load_recipe(str(file)).judge == "judge"
            child = tmp_path / "child.toml"
            child.write_text('extends = "own.toml"\nname = "child"\nbase = "own"\n')
            assert load_recipe(str(child)).judge == ""  # it draws otherwise
            child.write_text('extends = "own.toml"\nname = "child"\n')
            assert load_recipe(str(child)).judge == "judge"
        else:
            with pytest.raises(SettingsError, match="must be a folder inside that of base"):
                load_recipe(str(file))


def test_the_shipped_judge_takes_no_copy_of_a_photo_for_a_style(
    astronaut: Photo, analyzer: InsightFaceAnalyzer
) -> None:
    judge = style_judge_of(load_recipe("mini"))
    assert judge is not None
    assert set(judge.limits) == set(load_recipe("mini").styles)
    assert sum(file.stat().st_size for file in (load_recipe("mini").base / "judge").iterdir()) < 1_000_000
    detected = max(analyzer.detect(astronaut.pixels), key=lambda face: face.size)
    framed = frame_portrait(astronaut.pixels, detected, "bust", 512)
    offered = {"as it is": framed.image} | copies(framed.image, np.random.default_rng(0))
    passed = {
        (kind, style)
        for kind, picture in offered.items()
        for style, probability in judge.probabilities(picture, framed.face.kps).items()
        if style != PHOTO and probability >= judge.limits[style].probability
    }
    assert len(passed) <= 0.05 * len(offered) * len(judge.limits), passed
