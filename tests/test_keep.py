"""`--keep`: what must stay is preserved and measured, and a picture in which it changed is rejected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from portrait.errors import InputError, SettingsError
from portrait.faces.insightface_analyzer import InsightFaceAnalyzer
from portrait.generate.keep import Kept, hold_colors, prepare_keeps
from portrait.images import Photo, read_photo, write_picture
from portrait.judge.checks import color_distance, edge_agreement, point_displacement, psnr_inside
from portrait.judge.verdict import KEEP_LIMITS, Measurement, decide
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.directions import next_knobs
from portrait.records import Face, Keep, Points, RgbImage
from portrait.settings import Settings, settings_from
from tests.fakes import KNOBS, LIMITS, SIZE, FakeAnalyzer, a_face, a_photo, fake_loop, restyled, rgb, run_loop


@pytest.mark.parametrize(
    "text", ["", "region:1,2,3", "region:1,2,0,4", "region:-1,2,3,4", "mask:", "backgroud", "region:1.5,2,3,4"]
)
def test_what_cannot_be_kept_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="is not one of: face, pose, composition, colors, background"):
        Settings(keep=(text,))


def test_keep_is_read_from_flags_and_files(tmp_path: Path) -> None:
    file = tmp_path / "look.toml"
    file.write_text('keep = ["pose", "region:10,20,30,40"]\n')
    assert [k.kind for k in settings_from({}, file).keeps()] == ["pose", "region"]
    assert settings_from({"keep": ["colors"]}, file).keeps() == [Keep("colors")]
    assert Keep.parse("region:10,20,30,40").box == (10, 20, 30, 40)


def test_pixels_that_stay_need_a_lossless_format() -> None:
    with pytest.raises(SettingsError, match="keep region needs format png: jpg changes every pixel"):
        Settings(keep=("region:1,2,3,4",), format="jpg")
    Settings(keep=("pose",), format="jpg")


def test_a_region_stays_pixel_by_pixel_with_a_rim_outside_of_it() -> None:
    photo = rgb(np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8))
    keeps = prepare_keeps([Keep.parse("region:30,40,20,10")], photo, a_face(100), (0, 0, 100), 100, whole=False)
    painted = RgbImage(np.full_like(photo, 200))
    held = keeps.hold(painted)
    assert (held[40:50, 30:50] == photo[40:50, 30:50]).all()
    assert (held[:36] == 200).all()
    assert (held[:, :26] == 200).all()
    rim = held[39, 30:50].astype(int)
    assert (rim != 200).any()
    assert (rim != photo[39, 30:50]).any()


def test_a_region_stays_at_full_resolution_when_the_portrait_is_set_back(limits: str) -> None:
    photo = a_photo()
    keep = ("region:20,100,30,16", "face")
    portrait, _ = run_loop(lambda image, knobs, seed: restyled(image), limits, keep=keep, frame="full", max_attempts=1)
    assert (portrait.picture[100:116, 20:50] == photo.pixels[100:116, 20:50]).all()
    assert not (portrait.picture == photo.pixels).all()
    assert portrait.record.attempts[0].kept == {"region:20,100,30,16": 100.0}
    assert portrait.record.limits.kept == {"region:20,100,30,16": 100.0}


def test_a_mask_keeps_what_is_white(tmp_path: Path) -> None:
    photo = a_photo().pixels
    mask = np.zeros_like(photo)
    mask[:20, :20] = 255
    path = write_picture(tmp_path / "logo.png", mask)
    keeps = [Keep.parse(f"mask:{path}")]

    def prepare() -> Kept:
        return prepare_keeps(keeps, photo, a_face(), (0, 0, SIZE), SIZE, whole=False)

    assert prepare().masks[f"mask:{path}"].sum() == 400
    assert prepare().files[0][0] == str(path)
    write_picture(path, mask[:50])
    with pytest.raises(InputError, match="logo.png is 128 x 50; the photo is 128 x 128"):
        prepare()
    write_picture(path, np.full_like(mask, 255))
    with pytest.raises(InputError, match="is all white"):
        prepare()
    path.unlink()
    with pytest.raises(InputError):
        prepare()


@pytest.mark.parametrize("color", [(0, 0, 0, 255), (255, 0, 0, 255), (0, 255, 0, 255), (255, 255, 255, 0)])
def test_neither_a_color_nor_what_is_transparent_is_white(tmp_path: Path, color: tuple[int, int, int, int]) -> None:
    photo = a_photo().pixels
    mask = np.full((*photo.shape[:2], 4), color, np.uint8)
    path = write_picture(tmp_path / "logo.png", mask)
    keeps = [Keep.parse(f"mask:{path}")]
    with pytest.raises(InputError, match="logo.png has no white"):
        prepare_keeps(keeps, photo, a_face(), (0, 0, SIZE), SIZE, whole=False)
    mask[:20, :20] = 255
    write_picture(path, mask)
    assert prepare_keeps(keeps, photo, a_face(), (0, 0, SIZE), SIZE, whole=False).masks[f"mask:{path}"].sum() == 400


def test_a_region_that_is_not_shown_is_an_error_and_not_a_promise() -> None:
    keeps, photo = [Keep.parse("region:0,0,10,10")], a_photo().pixels
    with pytest.raises(InputError, match="lies outside the frame: 50 x 50 pixels from .50, 50."):
        prepare_keeps(keeps, photo, a_face(), (50, 50, 50), 128, whole=False)
    prepared = prepare_keeps(keeps, photo, a_face(), (50, 50, 50), 50, whole=True)  # the rest of the photo stays anyway
    assert not prepared.masks["region:0,0,10,10"].any()
    with pytest.raises(InputError, match="reaches beyond the photo, which is 128 x 128"):
        prepare_keeps([Keep.parse("region:100,0,30,10")], photo, a_face(), (0, 0, 128), 128, whole=True)


def test_a_face_that_fills_the_photo_has_no_background(astronaut: Photo, analyzer: InsightFaceAnalyzer) -> None:
    (face,) = analyzer.detect(astronaut.pixels)
    x, y = (int(v) for v in face.center)
    photo = RgbImage(astronaut.pixels[y - 30 : y + 30, x - 30 : x + 30])
    keeps = prepare_keeps([Keep("background")], photo, face.moved(1, 30 - x, 30 - y), (0, 0, 60), 60, whole=False)
    assert keeps.hold(RgbImage(255 - photo)).tolist() == (255 - photo).tolist()


def test_the_background_stays_and_the_person_changes(astronaut: Photo, analyzer: InsightFaceAnalyzer) -> None:
    (face,) = analyzer.detect(astronaut.pixels)
    height, width = astronaut.pixels.shape[:2]
    assert height == width
    keeps = prepare_keeps([Keep("background")], astronaut.pixels, face, (0, 0, width), width, whole=True)
    held = keeps.hold(RgbImage(255 - astronaut.pixels))
    assert psnr_inside(astronaut.pixels, held, keeps.masks["background"]) == 100
    assert keeps.masks["background"][:100, 340:].mean() > 0.95  # the shuttle
    assert keeps.masks["background"][300:, 150:350].mean() < 0.03  # the suit
    (left, top), (right, bottom) = face.kps.min(0).astype(int), face.kps.max(0).astype(int)
    assert (held[top:bottom, left:right] == 255 - astronaut.pixels[top:bottom, left:right]).all()


@pytest.mark.slow
def test_colors_are_held_under_the_picture_s_own_lightness(astronaut: Photo) -> None:
    photo, limit = astronaut.pixels, KEEP_LIMITS["colors"][1]
    gray = rgb(np.repeat(photo.mean(-1, keepdims=True).astype(np.uint8), 3, 2))
    held = hold_colors(photo, gray)
    assert color_distance(photo, gray) > limit
    assert color_distance(photo, held) < limit
    assert np.abs(held.mean(-1) - gray.mean(-1)).mean() < 8


def test_point_displacement_by_hand() -> None:
    kps = a_face().kps
    assert point_displacement(kps, kps) == 0
    eyes = float(np.linalg.norm(kps[1] - kps[0]))
    moved = Points(kps + np.array([0.2 * eyes, 0], np.float32))
    assert point_displacement(kps, moved) == pytest.approx(0.2, abs=1e-5)


def test_edges_agree_with_a_copy_and_not_with_another_photo(astronaut: Photo, photos: Path) -> None:
    cat = RgbImage(read_photo(photos / "chelsea.png").pixels[:300, :300])
    crop = RgbImage(astronaut.pixels[:300, :300])
    darker = RgbImage((255 * (crop / 255) ** 1.7).astype(np.uint8))
    limit = KEEP_LIMITS["composition"][1]
    assert edge_agreement(crop, crop) == pytest.approx(1, abs=1e-5)
    assert edge_agreement(crop, darker) > limit
    assert edge_agreement(crop, cat) < limit
    assert edge_agreement(crop, RgbImage(np.zeros_like(crop))) == 0


def test_composition_is_compared_on_the_person_so_a_style_may_leave_the_background_out(
    astronaut: Photo, analyzer: InsightFaceAnalyzer
) -> None:
    photo, limit = astronaut.pixels, KEEP_LIMITS["composition"][1]
    (face,) = analyzer.detect(photo)
    figure = prepare_keeps([Keep("composition")], photo, face, (0, 0, len(photo)), len(photo), whole=False).figure
    assert figure is not None
    alone = photo.copy()
    alone[~figure] = 128
    moved = RgbImage(np.roll(alone, len(photo) // 4, axis=1))
    assert edge_agreement(photo, RgbImage(alone), figure) > 0.6 > edge_agreement(photo, RgbImage(alone))
    assert edge_agreement(photo, moved, figure) < limit


@pytest.mark.parametrize(
    ("kept", "reasons"),
    [
        ({"pose": 0.1, "composition": 0.4, "colors": 8.0, "background": 100.0}, ()),
        ({"pose": 0.11}, ("broken_keep:pose",)),
        ({"composition": 0.39}, ("broken_keep:composition",)),
        ({"colors": 8.1}, ("broken_keep:colors",)),
        ({"region:1,2,3,4": 99.0}, ("broken_keep:region:1,2,3,4",)),
    ],
)
def test_a_broken_promise_is_a_rejection_with_its_reason(kept: dict[str, float], reasons: tuple[str, ...]) -> None:
    similarity = {"arcface": 0.6, "dlib": 0.95}
    measured = Measurement(similarity=similarity, face_found=True, style_on_face=0.3, burned=0, kept=kept)
    assert decide(measured, LIMITS).reasons == reasons


def test_a_broken_keep_asks_for_more_structure() -> None:
    moved = next_knobs(KNOBS, ["broken_keep:pose"])
    assert moved.controlnet_conditioning_scale > KNOBS.controlnet_conditioning_scale
    assert moved.strength < KNOBS.strength
    assert next_knobs(KNOBS, ["broken_keep:pose", "not_stylized"]) == KNOBS


def test_a_head_that_moved_is_rejected_when_the_pose_must_stay(limits: str) -> None:
    class Nodding(FakeAnalyzer):
        def candidates(self, image: RgbImage) -> list[Face]:
            face = a_face(image.shape[0])
            moved = replace(face, kps=Points(face.kps + np.array([0, 12], np.float32)))
            return [moved if image[..., 2].std() < 20 else face]

        detect = candidates

    def paint(photo: RgbImage, knobs: object, seed: int) -> RgbImage:
        return restyled(photo)

    photo = a_photo()
    photo.pixels[::2, :, 2] = 140
    loop = fake_loop(paint, Nodding())
    (subject,) = loop.subjects(photo)
    portrait = loop.stylize(subject, "oil", Settings(thresholds=limits, keep=("pose",), max_attempts=2))
    assert "broken_keep:pose" in portrait.record.reasons
    free = loop.stylize(subject, "oil", Settings(thresholds=limits, max_attempts=2))
    assert "broken_keep:pose" not in free.record.reasons


def test_one_pixel_that_did_not_stay_breaks_the_promise() -> None:
    photo = a_photo().pixels
    mask = np.zeros(photo.shape[:2], bool)
    mask[:40, :40] = True
    picture = restyled(photo)
    picture[mask] = photo[mask]
    assert psnr_inside(photo, picture, mask) >= KEEP_LIMITS["region"][1]
    picture[7, 7, 0] ^= 1
    assert psnr_inside(photo, picture, mask) < KEEP_LIMITS["region"][1]


def test_nothing_to_keep_changes_nothing() -> None:
    picture = a_photo().pixels
    assert Kept(before=RgbImage(255 - picture), masks={}).hold(picture) is picture  # no copy either


def test_mini_keeps_background_and_region_and_the_record_replays(mini: AttemptLoop, astronaut: Photo) -> None:
    (subject,) = mini.subjects(astronaut)
    settings = Settings(keep=("background", "region:150,200,60,60", "pose", "colors"), max_attempts=1)
    portrait = mini.stylize(subject, "oil", settings)
    measures = portrait.record.attempts[0].kept
    assert measures["background"] == measures["region:150,200,60,60"] == 100
    assert measures["pose"] < 0.1
    assert measures["colors"] < 8
    assert (mini.replay(portrait.record, astronaut) == portrait.picture).all()
    assert not (portrait.picture == portrait.before).all()
