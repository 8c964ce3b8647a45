"""Smoothed faces: cuts over a face hide it from the judges less, strangers stay strangers, and limits name their form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from portrait.calibrate.combine import combine_tables
from portrait.errors import SettingsError
from portrait.faces.alignment import align_face, align_smoothly
from portrait.faces.dlib_recognizer import DlibRecognizer
from portrait.faces.form import PLAIN, SMOOTH, form_named
from portrait.faces.identity import identify
from portrait.faces.insightface_analyzer import InsightFaceAnalyzer
from portrait.files import write_json
from portrait.images import Photo, read_photo
from portrait.judge.thresholds import calibrated_form, thresholds_for
from portrait.records import Identity, Points, RgbImage
from tests.fakes import rgb

SHIPPED = Path(__file__).parents[1] / "portrait" / "recipes" / "mini.thresholds.json"


@pytest.fixture(scope="module")
def smooth() -> tuple[InsightFaceAnalyzer, DlibRecognizer]:
    return InsightFaceAnalyzer(form=SMOOTH), DlibRecognizer(form=SMOOTH)


def cut(photo: RgbImage, every: int = 5) -> RgbImage:
    """The photo in black and white, as cuts that are the wider the lighter it is."""
    light = photo.astype(float).mean(-1) / 255
    across = np.arange(light.shape[0])[:, None] % every / every
    return rgb(np.repeat(255 * (light > across)[..., None], 3, 2).astype(np.uint8))


def test_cuts_hide_a_face_less_from_judges_that_see_it_smoothed(
    smooth: tuple[InsightFaceAnalyzer, DlibRecognizer],
    analyzer: InsightFaceAnalyzer,
    dlib_recognizer: DlibRecognizer,
    astronaut: Photo,
    photos: Path,
) -> None:
    crowd = read_photo(photos / "t1.png").pixels
    (face,) = analyzer.detect(astronaut.pixels)
    strangers = analyzer.detect(crowd)

    def seen(first: InsightFaceAnalyzer, second: DlibRecognizer) -> tuple[Identity, Identity, list[Identity]]:
        views = [(astronaut.pixels, face), (cut(astronaut.pixels), face), *((crowd, other) for other in strangers)]
        person, woodcut, *others = (identify([view], first, [second]) for view in views)
        return person, woodcut, others

    by_form = {"plain": seen(analyzer, dlib_recognizer), "smooth": seen(*smooth)}
    for judge in ("arcface", "dlib"):
        likeness = {}
        for form, (person, woodcut, others) in by_form.items():
            own = float(person.embeddings[judge] @ woodcut.embeddings[judge])
            likeness[form] = own, max(float(other.embeddings[judge] @ woodcut.embeddings[judge]) for other in others)
        print(judge, likeness)
        gaps = {form: own - stranger for form, (own, stranger) in likeness.items()}
        assert likeness["smooth"][0] > likeness["plain"][0]
        assert gaps["smooth"] > gaps["plain"]


def test_what_conditions_pictures_is_the_same_in_both_forms(
    smooth: tuple[InsightFaceAnalyzer, DlibRecognizer], analyzer: InsightFaceAnalyzer, astronaut: Photo
) -> None:
    (face,) = analyzer.detect(astronaut.pixels)
    view = (astronaut.pixels, face)
    (expected,) = analyzer.embed_crops([align_face(astronaut.pixels, face.kps)])
    plain, smoothed = identify([view], analyzer, []), identify([view], smooth[0], [])
    assert np.array_equal(plain.embeddings["arcface"], expected)
    assert plain.conditioning is None
    assert smoothed.conditioning is not None
    assert np.allclose(smoothed.conditioning, expected, atol=1e-6)
    assert 0.3 < float(smoothed.embeddings["arcface"] @ expected) < 0.99
    assert [one.form.name for one in (analyzer, smooth[0])] == ["plain", "smooth"]


def test_a_large_face_is_read_whole(astronaut: Photo, analyzer: InsightFaceAnalyzer) -> None:
    """Stripes of two pixels are gray when they are shrunk; reading four pixels for each of its own makes beats of them."""
    (face,) = analyzer.detect(astronaut.pixels)
    large = rgb(np.repeat(np.repeat(astronaut.pixels, 4, 0), 4, 1))
    kps = Points(4 * face.kps + 1.5)
    striped = large.copy()
    striped[::4] = striped[1::4] = 0
    whole, sampled = (
        float(np.abs(2.0 * align(striped, kps) - align(large, kps)).mean()) for align in (align_smoothly, align_face)
    )
    print(whole, sampled)
    assert whole < 0.25 * sampled


def test_limits_hold_for_one_form_of_faces_which_they_name(tmp_path: Path) -> None:
    table = json.loads(SHIPPED.read_text("utf-8"))
    table["styles"] = {"oil": table["styles"]["oil"]}
    file = write_json(tmp_path / "plain.json", table | {"form": "plain"})
    assert (calibrated_form("mini"), calibrated_form("mini", file)) == ("smooth", "plain")
    assert (
        thresholds_for("mini", "oil", 0.01, file, form="plain").gate
        == thresholds_for("mini", "oil", 0.01, form="smooth").gate
    )
    with pytest.raises(SettingsError, match="hold for plain faces, and the judges that are loaded see smooth ones"):
        thresholds_for("mini", "oil", 0.01, file, form="smooth")
    with pytest.raises(SettingsError, match="hold for smooth faces, and the judges that are loaded see plain ones"):
        thresholds_for("mini", "oil", 0.01, form="plain")
    with pytest.raises(SettingsError, match="different forms of faces: smooth and plain"):
        combine_tables([table, table | {"form": "plain"}])
    with pytest.raises(SettingsError, match="does not know the form 'rough' of faces; it knows: plain, smooth"):
        form_named("rough")
    assert form_named("plain") is PLAIN
