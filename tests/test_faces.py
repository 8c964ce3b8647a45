"""Detection, choice, alignment and identity with the real SCRFD, ArcFace and dlib models."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from portrait.errors import FaceError, ManyFacesError, NoFaceError, SettingsError, ShapeError
from portrait.faces.alignment import ARCFACE_TEMPLATE, align_face, similarity_transform
from portrait.faces.dlib_recognizer import DlibRecognizer
from portrait.faces.identity import (
    SMALLEST_FACE,
    FaceChoice,
    choose_faces,
    face_warnings,
    identify,
    require_large_enough,
)
from portrait.faces.insightface_analyzer import InsightFaceAnalyzer
from portrait.faces.upright import degrees_to_upright, upright_photo
from portrait.images import Photo, read_photo, turned
from portrait.images.decode import MAX_RATIO
from portrait.records import Points, RgbImage
from tests.fakes import rgb


def test_one_face_is_found_where_it_is(astronaut: Photo, analyzer: InsightFaceAnalyzer) -> None:
    (face,) = analyzer.detect(astronaut.pixels)
    x, y = face.center
    assert 200 < x < 250
    assert 90 < y < 150
    assert face.det_score > 0.7
    assert face.kps[0, 0] < face.kps[1, 0]


def test_a_face_that_fills_the_frame_is_found(astronaut: Photo, analyzer: InsightFaceAnalyzer) -> None:
    (face,) = analyzer.detect(astronaut.pixels)
    x1, y1, x2, y2 = face.bbox.round().astype(int)
    crop = rgb(cv2.resize(astronaut.pixels[y1 : y2 + 1, x1 : x2 + 1], (1500, 1960), interpolation=cv2.INTER_CUBIC))
    (detected,) = analyzer.detect(crop)
    assert detected.height > 0.7 * crop.shape[0]


def test_a_small_face_in_a_large_photo_is_found(astronaut: Photo, analyzer: InsightFaceAnalyzer) -> None:
    large = RgbImage(np.full((3000, 4000, 3), 180, np.uint8))
    small = cv2.resize(astronaut.pixels, (256, 256), interpolation=cv2.INTER_AREA)
    large[1200:1456, 3000:3256] = small
    (face,) = analyzer.detect(large)
    assert 3000 < face.center[0] < 3256
    assert face.size < 70


@pytest.mark.parametrize(
    ("width", "height", "side"), [(3000, 2000, 60), (8000, 5400, 100)], ids=["6 megapixels", "43 megapixels in tiles"]
)
def test_small_faces_are_found_beside_a_large_one(
    astronaut: Photo, analyzer: InsightFaceAnalyzer, width: int, height: int, side: int
) -> None:
    face = astronaut.pixels[20:240, 110:330]  # its face is 93 px
    small = cv2.resize(face, None, fx=side / 93, fy=side / 93, interpolation=cv2.INTER_CUBIC)
    photo = RgbImage(np.full((height, width, 3), 128, np.uint8))
    for i in range(16):
        top, left = i // 4 * height // 4, i % 4 * width // 8
        photo[top : top + len(small), left : left + len(small)] = small
    photo[:, -(width // 2) :] = cv2.resize(face, (height, height))[:, : width // 2]
    sizes = sorted(detected.size for detected in analyzer.detect(photo))
    assert len(sizes) == 17
    assert sizes[0] > 0.75 * side
    assert sizes[15] < 1.4 * side < sizes[16]


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("name", ["astronaut", "t1"])
def test_a_photo_on_its_side_or_head_is_turned(
    photos: Path, analyzer: InsightFaceAnalyzer, name: str, degrees: int
) -> None:
    photo = read_photo(photos / f"{name}.png")
    lying = turned(photo, -degrees)
    upright = upright_photo(lying, analyzer)
    np.testing.assert_array_equal(upright.pixels, photo.pixels)
    assert (upright.turned - lying.turned) % 360 == degrees


def test_a_photo_without_faces_is_left_as_it_is(photos: Path, analyzer: InsightFaceAnalyzer) -> None:
    assert degrees_to_upright(read_photo(photos / "coffee.png").pixels, analyzer) == 0


def test_a_face_too_small_to_tell_people_apart_is_refused(astronaut: Photo, analyzer: InsightFaceAnalyzer) -> None:
    (face,) = analyzer.detect(astronaut.pixels)
    require_large_enough(face, "anna.jpg")
    with pytest.raises(FaceError, match=r"the face in anna\.jpg is \d+ px; .* use a larger photo"):
        require_large_enough(face.moved(0.8 * SMALLEST_FACE / face.size, 0, 0), "anna.jpg")


def test_a_dark_face_is_warned_of(astronaut: Photo, analyzer: InsightFaceAnalyzer) -> None:
    (face,) = analyzer.detect(astronaut.pixels)
    assert not [warning for warning in face_warnings(astronaut.pixels, face) if "dark" in warning]
    assert "dark" in " ".join(face_warnings(rgb((astronaut.pixels * 0.2).astype(np.uint8)), face))


def test_six_faces_are_not_guessed_between(photos: Path, analyzer: InsightFaceAnalyzer) -> None:
    pixels = read_photo(photos / "t1.png").pixels
    with pytest.raises(ManyFacesError, match=r"6 faces of similar size .*0: .*5: .*--face INDEX") as caught:
        choose_faces(pixels, "t1.png", FaceChoice("auto"), analyzer)
    assert "--face each" in str(caught.value)


def test_each_policy_chooses_as_it_says(photos: Path, analyzer: InsightFaceAnalyzer) -> None:
    pixels = read_photo(photos / "t1.png").pixels
    everyone = choose_faces(pixels, "t1", FaceChoice("each"), analyzer)
    assert [i for i, _ in everyone] == [0, 1, 2, 3, 4, 5]
    assert [f.center[0] for _, f in everyone] == sorted(f.center[0] for _, f in everyone)
    ((_index, face),) = choose_faces(pixels, "t1", FaceChoice("largest"), analyzer)
    assert face.size == max(f.size for _, f in everyone)
    ((third, _),) = choose_faces(pixels, "t1", FaceChoice("index", index=3), analyzer)
    assert third == 3
    expected = analyzer.embed(pixels, everyone[4][1].kps)
    mirrored = RgbImage(np.ascontiguousarray(pixels[:, ::-1]))  # another picture of the same six
    ((alike, _),) = choose_faces(mirrored, "t1", FaceChoice("like"), analyzer, expected)
    assert alike == 1
    stranger = np.roll(expected, 100)
    with pytest.raises(FaceError, match="no face in t1 matches the reference"):
        choose_faces(pixels, "t1", FaceChoice("like"), analyzer, stranger)
    with pytest.raises(FaceError, match="last index is 5, not 9"):
        choose_faces(pixels, "t1", FaceChoice("index", index=9), analyzer)


@pytest.mark.parametrize("name", ["chelsea", "coffee"])
def test_no_face_names_the_best_score_seen(photos: Path, analyzer: InsightFaceAnalyzer, name: str) -> None:
    pixels = read_photo(photos / f"{name}.png").pixels
    with pytest.raises(NoFaceError, match=rf"no face found in {name} \(best score 0\.\d\d, 0\.5 is needed\)") as caught:
        choose_faces(pixels, name, FaceChoice("auto"), analyzer)
    assert "best score 0.00" not in str(caught.value)


def test_the_narrowest_photos_that_are_read_are_looked_at(analyzer: InsightFaceAnalyzer) -> None:
    """Their short side is less than a pixel where the long one is shrunk the most."""
    for shape in ((5 * MAX_RATIO, 5), (5, 5 * MAX_RATIO)):
        assert analyzer.detect(RgbImage(np.zeros((*shape, 3), np.uint8))) == []


@pytest.mark.parametrize("text", ["biggest", "-1", "like:", "1.5", ""])
def test_a_bad_face_policy_is_a_settings_error(text: str) -> None:
    with pytest.raises(SettingsError, match="largest"):
        FaceChoice.parse(text)


def test_alignment_puts_the_five_points_on_the_template() -> None:
    matrix = np.array([[1.4, -0.6, 30], [0.6, 1.4, 12]], np.float32)
    kps = ARCFACE_TEMPLATE @ matrix[:, :2].T + matrix[:, 2]
    back = similarity_transform(kps, ARCFACE_TEMPLATE)
    np.testing.assert_allclose(kps @ back[:, :2].T + back[:, 2], ARCFACE_TEMPLATE, atol=1e-3)


@pytest.mark.filterwarnings("ignore:.estimate. is deprecated:FutureWarning")  # in insightface's own code
def test_alignment_equals_insightface(astronaut: Photo, analyzer: InsightFaceAnalyzer) -> None:
    from insightface.utils import face_align

    (face,) = analyzer.detect(astronaut.pixels)
    theirs = face_align.norm_crop(astronaut.pixels, face.kps)
    assert np.abs(align_face(astronaut.pixels, face.kps).astype(int) - theirs).max() <= 1


def test_alignment_refuses_what_is_not_a_face() -> None:
    image, template = RgbImage(np.zeros((64, 64, 3), np.uint8)), Points(ARCFACE_TEMPLATE)
    with pytest.raises(ShapeError, match=r"kps must be \(5, 2\)"):
        align_face(image, Points(np.zeros((4, 2), np.float32)))
    with pytest.raises(ShapeError, match="multiple of 112"):
        align_face(image, template, 100)
    with pytest.raises(ShapeError, match="uint8"):
        align_face(image.astype(np.float32), template)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="one spot"):
        align_face(image, Points(np.full((5, 2), 7.0, np.float32)))


def test_both_judges_tell_people_apart(
    photos: Path, astronaut: Photo, analyzer: InsightFaceAnalyzer, dlib_recognizer: DlibRecognizer
) -> None:
    (face,) = analyzer.detect(astronaut.pixels)
    flipped = RgbImage(np.ascontiguousarray(astronaut.pixels[:, ::-1]))
    (mirror,) = analyzer.detect(flipped)
    others = read_photo(photos / "t1.png").pixels
    me = identify([(astronaut.pixels, face)], analyzer, [dlib_recognizer])
    me_again = identify([(flipped, mirror)], analyzer, [dlib_recognizer])
    strangers = [identify([(others, f)], analyzer, [dlib_recognizer]) for f in analyzer.detect(others)]
    for name in ("arcface", "dlib"):
        own_similarity = float(me.embeddings[name] @ me_again.embeddings[name])
        foreign = max(float(me.embeddings[name] @ s.embeddings[name]) for s in strangers)
        print(name, round(own_similarity, 3), "against", round(foreign, 3))
        assert np.linalg.norm(me.embeddings[name]) == pytest.approx(1, abs=1e-4)
        assert own_similarity > foreign


def test_several_photos_average_into_one_identity(
    astronaut: Photo, analyzer: InsightFaceAnalyzer, dlib_recognizer: DlibRecognizer
) -> None:
    darker = RgbImage((astronaut.pixels * 0.6).astype(np.uint8))
    views = [(image, analyzer.detect(image)[0]) for image in (astronaut.pixels, darker)]
    alone = [identify([view], analyzer, [dlib_recognizer]).embeddings["arcface"] for view in views]
    both = identify(views, analyzer, [dlib_recognizer])
    assert both.photos == 2
    mean = alone[0] + alone[1]
    np.testing.assert_allclose(both.embeddings["arcface"], mean / np.linalg.norm(mean), atol=1e-5)


def test_photos_of_two_people_are_not_averaged(
    photos: Path, analyzer: InsightFaceAnalyzer, dlib_recognizer: DlibRecognizer
) -> None:
    pixels = read_photo(photos / "t1.png").pixels
    faces = analyzer.detect(pixels)
    with pytest.raises(FaceError, match="do not look like one person"):
        identify([(pixels, f) for f in faces], analyzer, [dlib_recognizer])


def test_warnings_name_what_makes_a_face_hard(astronaut: Photo, analyzer: InsightFaceAnalyzer) -> None:
    (face,) = analyzer.detect(astronaut.pixels)
    assert face_warnings(astronaut.pixels, face) == []
    blurred = rgb(cv2.GaussianBlur(astronaut.pixels, (0, 0), 6))
    assert any("blurred" in w for w in face_warnings(blurred, face))
    tiny = rgb(cv2.resize(astronaut.pixels, (128, 128), interpolation=cv2.INTER_AREA))
    assert any("small" in w for w in face_warnings(tiny, face.moved(0.25, 0, 0)))


def test_a_picture_of_noise_is_searched_in_seconds(analyzer: InsightFaceAnalyzer) -> None:
    """It has thousands of weak candidates, each of which overlaps many others."""
    noise = rgb(np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8))
    start = time.process_time()
    analyzer.candidates(noise)
    assert time.process_time() - start < 20
