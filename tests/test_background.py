"""`--background`, on a real photo with the shipped matte, and through every entry point."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from portrait.api import PortraitStylizer
from portrait.campaign.keys import shared_ingredients
from portrait.campaign.plan import read_plan
from portrait.cli.main import main
from portrait.errors import ImageReadError, InputError, SettingsError
from portrait.faces.insightface_analyzer import InsightFaceAnalyzer
from portrait.generate.background import covering, filled_in, gradient, paper, prepare_background, unmixed
from portrait.generate.framing import frame_portrait
from portrait.images import Photo, encode_picture, pixels_sha256, read_photo, write_picture
from portrait.loop.attempt_loop import AttemptLoop
from portrait.records import Background, Face, RgbImage
from portrait.records.portrait import PortraitRecord, read_record
from portrait.settings import Settings, settings_from

WALL, SHUTTLE = np.s_[10:80, 315:370], np.s_[20:90, 400:440]
FACE, SUIT = np.s_[80:150, 195:255], np.s_[230:330, 100:240]
"""Parts of the astronaut's photo: two of the background, two of the person."""


# ---- what may be asked for


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("papr", "background 'papr' is not one of: keep, paper, blur, transparent, #rrggbb, gradient:A,B"),
        ("#12345", "background color '#12345' is not #rrggbb"),
        ("#12345g", "background color '#12345g' is not #rrggbb"),
        ("gradient:#000000", "needs two colors, such as gradient:#ffe0b0,#7090c0"),
        ("gradient:red,blue", "background color 'red' is not #rrggbb"),
    ],
)
def test_what_is_no_background_is_refused_with_a_message(text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        settings_from({"background": text})


def test_transparency_needs_a_format_that_has_it() -> None:
    with pytest.raises(SettingsError, match="background transparent needs format png or webp: jpg has no transparency"):
        Settings(background="transparent", format="jpg")
    assert Settings(background="transparent", format="webp").backdrop() == Background("transparent", "transparent")
    with pytest.raises(InputError, match="JPEG has no transparency; use png or webp"):
        encode_picture(np.zeros((4, 4, 4), np.uint8), "jpg")


@pytest.mark.parametrize("keep", ["background", "region:1,2,3,4", "mask:logo.png"])
def test_pixels_that_must_stay_and_another_background_contradict_each_other(keep: str) -> None:
    with pytest.raises(SettingsError, match=f"background paper and keep {keep.split(':')[0]} contradict each other"):
        Settings(background="paper", keep=(keep,))
    Settings(background="paper", keep=("pose", "colors"))


def test_a_background_is_read_as_it_was_meant() -> None:
    assert Settings().backdrop() is None
    assert Background.parse("#ff8000").colors == ((255, 128, 0),)
    assert Background.parse("gradient:#000000, #ffffff").colors == ((0, 0, 0), (255, 255, 255))
    assert Background.parse("beach/sea.jpg").file == Path("beach/sea.jpg")


# ---- what comes of it, on the astronaut


@pytest.fixture(scope="module")
def face(astronaut: Photo, analyzer: InsightFaceAnalyzer) -> Face:
    return analyzer.detect(astronaut.pixels)[0]


@pytest.fixture(scope="module")
def painted(astronaut: Photo) -> RgbImage:
    """A stylized picture of the photo: its negative."""
    return RgbImage(255 - astronaut.pixels)


def behind(text: str, astronaut: Photo, face: Face, painted: RgbImage) -> tuple[np.ndarray, np.ndarray | None]:
    picture, cutout = prepare_background(Background.parse(text), astronaut.pixels, face).behind(painted)
    assert picture.shape == painted.shape
    assert (cutout is not None) == (text == "transparent")
    for part in (FACE, SUIT):
        assert np.abs(picture[part].astype(int) - painted[part]).max() <= 2
    return picture, cutout


def test_a_color_is_all_that_is_left_of_the_background(astronaut: Photo, face: Face, painted: RgbImage) -> None:
    picture, _ = behind("#ffd23f", astronaut, face, painted)
    for part in (WALL, SHUTTLE):
        assert np.abs(picture[part].astype(int) - (255, 210, 63)).mean() < 2


def test_a_gradient_runs_from_its_first_color_down_to_its_second(
    astronaut: Photo, face: Face, painted: RgbImage
) -> None:
    picture, _ = behind("gradient:#ff0000,#0000ff", astronaut, face, painted)
    expected = gradient((255, 0, 0), (0, 0, 255), 512, 512)
    assert np.abs(picture[WALL].astype(int) - expected[WALL]).mean() < 2
    assert expected[0, 0].tolist() == [255, 0, 0]
    assert expected[-1, 0].tolist() == [0, 0, 255]
    assert np.abs(expected[256, 0].astype(int) - (127, 0, 128)).max() <= 1


def test_paper_is_pale_and_has_a_grain(astronaut: Photo, face: Face, painted: RgbImage) -> None:
    picture, _ = behind("paper", astronaut, face, painted)
    assert picture[WALL].mean() > 235
    assert 0.5 < picture[WALL].std(axis=(0, 1)).mean() < 5
    assert (paper(300, 200) == paper(300, 200)).all()
    assert paper(300, 200).shape == (200, 300, 3)


def test_blur_takes_the_edges_from_the_background_and_nothing_else(
    astronaut: Photo, face: Face, painted: RgbImage
) -> None:
    picture, _ = behind("blur", astronaut, face, painted)
    sharp, blurred = (np.abs(np.diff(x[SHUTTLE].astype(int), axis=1)).max() for x in (painted, picture))
    assert sharp > 60
    assert blurred < 12
    assert abs(picture[WALL].mean() - painted[WALL].mean()) < 8


def test_keep_puts_the_person_before_the_photo_s_own_background(
    astronaut: Photo, face: Face, painted: RgbImage
) -> None:
    picture, _ = behind("keep", astronaut, face, painted)
    for part in (WALL, SHUTTLE):
        assert np.abs(picture[part].astype(int) - astronaut.pixels[part]).mean() < 2


def test_another_picture_is_cut_to_the_shape(
    astronaut: Photo, face: Face, painted: RgbImage, photos: Path, tmp_path: Path
) -> None:
    picture, _ = behind(str(photos / "coffee.png"), astronaut, face, painted)
    coffee = covering(read_photo(photos / "coffee.png").pixels, 512, 512)
    assert coffee.shape == (512, 512, 3)
    assert np.abs(picture[WALL].astype(int) - coffee[WALL]).mean() < 2
    with pytest.raises(ImageReadError, match=r"cannot read .*gone\.png"):
        prepare_background(Background.parse(str(tmp_path / "gone.png")), astronaut.pixels, face)


def test_transparent_has_alpha_and_the_person_s_own_colors(astronaut: Photo, face: Face, painted: RgbImage) -> None:
    picture, cutout = behind("transparent", astronaut, face, painted)
    assert cutout is not None
    assert cutout.dtype == np.uint8
    alpha = cutout[..., 3]
    assert alpha[FACE].min() == 255
    assert alpha[WALL].mean() < 2
    assert (picture[alpha == 0] == 255).all()
    over_white = np.asarray(Image.alpha_composite(Image.new("RGBA", (512, 512), "white"), Image.fromarray(cutout)))
    assert np.abs(over_white[..., :3].astype(int) - picture).max() <= 1
    soft = (alpha > 20) & (alpha < 235)
    assert 0.002 < soft.mean() < 0.08  # feathered at the edge, and only there


def test_the_edge_is_freed_of_the_old_background_s_color() -> None:
    """A gray person whose edge is mixed with green: on white no green is left."""
    alpha = np.clip((np.hypot(*np.mgrid[-64:64, -64:64]) - 40) / -8 + 0.5, 0, 1).astype(np.float32)
    gray, green = np.full((128, 128, 3), 120.0), np.full((128, 128, 3), (20.0, 230.0, 20.0))
    mixed = RgbImage((gray * alpha[..., None] + green * (1 - alpha[..., None])).astype(np.uint8))
    person, background = unmixed(mixed, alpha)
    edge = (alpha > 0.05) & (alpha < 0.95)
    green_left, green_before = (
        (np.abs(colors[edge].astype(int) - 120) * alpha[edge][:, None]).mean() for colors in (person, mixed)
    )
    print(f"{green_before:.1f} to {green_left:.1f} of 255")
    assert green_left < 0.3 * green_before
    assert np.abs(background[(alpha < 0.8) & (alpha > 0.05)].astype(int) - (20, 230, 20)).mean() < 12


def test_a_hole_is_filled_from_around_it() -> None:
    ramp = np.repeat(np.linspace(0, 255, 128)[None, :, None], 128, 0).repeat(3, 2).astype(np.uint8)
    mask = np.ones((128, 128), bool)
    mask[40:80, 50:80] = False
    filled = filled_in(RgbImage(np.where(mask[..., None], ramp, 255)), mask)
    assert (filled[mask] == ramp[mask]).all()
    assert np.abs(filled[~mask].astype(int) - ramp[~mask]).mean() < 25


def test_a_picture_of_another_size_than_the_photo_gets_the_same_background(
    astronaut: Photo, face: Face, painted: RgbImage
) -> None:
    backdrop = prepare_background(Background.parse("transparent"), astronaut.pixels, face)
    small, cutout = backdrop.behind(RgbImage(painted[::2, ::2]))
    assert cutout is not None
    assert small.shape == (256, 256, 3)
    assert cutout[40:75, 98:127, 3].min() == 255


# ---- through the loop


KINDS = ("keep", "paper", "blur", "#ffd23f", "gradient:#ffe0b0,#7090c0", "transparent", "coffee.png")


@pytest.mark.parametrize("text", KINDS)
def test_mini_s_picture_is_judged_before_and_replays_the_same(
    mini: AttemptLoop, astronaut: Photo, photos: Path, text: str
) -> None:
    value = str(photos / text) if text.endswith(".png") else text
    (subject,) = mini.subjects(astronaut)
    settings = Settings(background=value, max_attempts=1)
    portrait = mini.stylize(subject, "watercolor", settings)
    plain = mini.stylize(subject, "watercolor", replace(settings, background=""))
    assert plain.record.background is None
    similar = [one.record.attempts[0].similarity for one in (portrait, plain)]
    assert similar[0] == similar[1]  # the judges saw the same picture
    assert not (portrait.picture == plain.picture).all()
    framed = frame_portrait(astronaut.pixels, subject.face, "bust", 512)
    x, y = (int(v) for v in framed.face.center)
    assert (
        np.abs(
            portrait.picture[y - 40 : y + 40, x - 30 : x + 30].astype(int)
            - plain.picture[y - 40 : y + 40, x - 30 : x + 30]
        ).max()
        <= 2
    )
    recorded = portrait.record.background
    assert recorded is not None
    assert (recorded.kind, recorded.value) == (Background.parse(value).kind, value)
    assert recorded.sha256 == (read_photo(value).sha256 if text.endswith(".png") else "")
    assert portrait.pixels.shape[2] == (4 if text == "transparent" else 3)
    again = mini.replay(portrait.record, astronaut)
    assert pixels_sha256(again) == portrait.record.picture.pixels_sha256


def test_a_whole_photo_can_be_cut_out(mini: AttemptLoop, astronaut: Photo) -> None:
    wide = np.full((700, 1200, 3), astronaut.pixels[20, 300], np.uint8)
    wide[188:, 300:812] = astronaut.pixels
    photo = Photo(pixels=RgbImage(wide), path=Path("wide.png"), sha256="0" * 64)
    (subject,) = mini.subjects(photo)
    portrait = mini.stylize(subject, "oil", Settings(background="transparent", frame="full", max_attempts=1))
    assert portrait.pixels.shape == (700, 1200, 4)
    alpha = portrait.pixels[..., 3]
    assert alpha[:, :250].max() == 0
    assert alpha[:, 900:].max() == 0
    assert alpha[188:, 300:812][SUIT].mean() > 250


def test_another_file_of_the_same_name_is_not_replayed(mini: AttemptLoop, astronaut: Photo, tmp_path: Path) -> None:
    file = write_picture(tmp_path / "wall.png", np.full((64, 64, 3), 90, np.uint8))
    (subject,) = mini.subjects(astronaut)
    portrait = mini.stylize(subject, "oil", Settings(background=str(file), max_attempts=1))
    write_picture(file, np.full((64, 64, 3), 91, np.uint8))
    mini.clear_cache()
    with pytest.raises(
        SettingsError, match="the background's file or the matte network differs from the one in the record"
    ):
        mini.replay(portrait.record, astronaut)


# ---- at the entry points


@pytest.mark.weights
def test_the_command_line_writes_alpha_and_replays_it(photos: Path, tmp_path: Path) -> None:
    arguments = [str(photos / "astronaut.png"), "--style", "oil", "--max-attempts", "1", "--quiet", "-o", str(tmp_path)]
    main(["stylize", *arguments, "--background", "transparent"])
    (record,) = tmp_path.glob("*.json")
    (picture,) = (p for p in tmp_path.glob("*.png"))
    image = Image.open(picture)
    assert image.mode == "RGBA"
    assert image.info["parameters"]
    assert np.asarray(image)[..., 3].min() == 0
    assert isinstance(parsed := read_record(record.read_text()), PortraitRecord)
    assert parsed.background is not None
    assert parsed.background.kind == "transparent"
    assert len(parsed.background.matte) == 64
    assert json.loads(parsed.to_json())["background"] == json.loads(record.read_text())["background"]
    assert main(["replay", str(record), "--files", str(photos)]) == 0
    assert Image.open(record.with_name(f"{record.stem}-replay.png")).mode == "RGBA"


@pytest.mark.weights
def test_a_record_and_its_background_may_move_together(photos: Path, tmp_path: Path) -> None:
    sea = write_picture(tmp_path / "sea.png", read_photo(photos / "coffee.png").pixels)
    arguments = [str(photos / "astronaut.png"), "--style", "oil", "--max-attempts", "1", "--quiet", "-o", str(tmp_path)]
    main(["stylize", *arguments, "--background", str(sea)])
    (record,) = tmp_path.glob("*.json")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    sea.rename(folder / "sea.png")
    assert main(["replay", str(record.rename(folder / record.name)), "--files", str(photos)]) == 0


def test_a_wrong_value_and_a_missing_file_end_with_a_message(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stylize = ["stylize", str(photos / "astronaut.png"), "-o", str(tmp_path)]
    assert main([*stylize, "--background", "sand"]) == 2
    assert "background 'sand' is not one of" in capsys.readouterr().err
    assert main([*stylize, "--background", "transparent", "--format", "jpg"]) == 2
    assert "needs format png or webp" in capsys.readouterr().err
    assert main([*stylize, "--background", str(tmp_path / "gone.png")]) != 0
    assert "gone.png" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_plan_without_a_shift_keeps_the_keys_that_it_had() -> None:
    assert "shift" not in shared_ingredients(Settings())
    assert "shift" not in shared_ingredients(Settings(shift="0.0, 0"))
    assert shared_ingredients(Settings(shift="0.1,0"))["shift"] == "0.1,0"


def test_a_plan_s_background_lies_beside_it_and_its_content_is_in_the_keys(tmp_path: Path) -> None:
    def ingredients(background: str) -> dict[str, object]:
        (tmp_path / "plan.toml").write_text(
            f'subjects = ["anna.png"]\nstyles = ["oil"]\n[settings]\nbackground = "{background}"\n'
        )
        return shared_ingredients(read_plan(tmp_path / "plan.toml").settings)

    write_picture(tmp_path / "anna.png", np.zeros((8, 8, 3), np.uint8))
    write_picture(tmp_path / "wall.png", np.zeros((8, 8, 3), np.uint8))
    one = ingredients("wall.png")
    assert read_plan(tmp_path / "plan.toml").settings.background == str(tmp_path / "wall.png")
    write_picture(tmp_path / "wall.png", np.ones((8, 8, 3), np.uint8))
    other, paper_sheet, none = ingredients("wall.png"), ingredients("paper"), ingredients("")
    assert len({str(value["background"]) for value in (one, other, paper_sheet)}) == 3
    assert one["matte"] == other["matte"]
    assert "background" not in none
    assert "matte" not in none
    with pytest.raises(SettingsError, match="background 'sand' is not one of"):
        ingredients("sand")


def test_the_library_returns_an_image_with_alpha(mini: AttemptLoop, astronaut: Photo) -> None:
    portrait = PortraitStylizer(mini).stylize(astronaut, "oil", background="transparent", max_attempts=1)
    assert portrait.image.mode == "RGBA"
    assert portrait.before.mode == "RGB"
