"""The measurements of eval/, on pictures with known answers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike

from portrait.faces.alignment import ARCFACE_TEMPLATE
from portrait.records import Points, RgbImage
from tests.fakes import rgb
from tests.scripts import script

KPS = Points((ARCFACE_TEMPLATE * 2 + 20).astype(np.float32))


def picture_of(values: ArrayLike, side: int = 300) -> RgbImage:
    """A square picture with these values in [0, 255], broadcast to its shape."""
    return rgb(np.broadcast_to(values, (side, side, 3)).round().astype(np.uint8))


def test_a_grid_of_the_latents_stands_out_and_noise_does_not() -> None:
    energy = script("measures").grid_energy
    rng = np.random.default_rng(0)
    noise = 128 + rng.normal(0, 6, (256, 256, 3))
    without = energy(picture_of(noise, 256))
    assert all(0.5 < value < 2 for value in without.values())
    stripes = 4 * np.cos(2 * np.pi * np.arange(256) / 8)
    measured = energy(picture_of(noise + stripes[None, :, None], 256))
    assert measured["1/8"] > 4
    assert measured["1/16"] == pytest.approx(without["1/16"], rel=0.25)
    assert list(measured) == ["1/16", "1/8", "3/16", "1/4"]


def test_a_flat_picture_has_no_grid() -> None:
    assert set(script("measures").grid_energy(picture_of(90, 128)).values()) == {1.0}


def test_the_change_of_color_is_ciede2000_on_the_face_alone() -> None:
    change = script("measures").color_change
    gray = picture_of(119)  # L 50
    other = picture_of(119)
    other[:10] = 255  # above the face
    assert change(gray, other, KPS) == 0
    lighter = picture_of(145)  # L 60.2; by hand 10.15 / 1.057
    assert change(gray, lighter, KPS) == pytest.approx(9.6, abs=0.2)


def test_the_lightness_is_that_of_the_face() -> None:
    picture = picture_of(255)
    picture[70:230, 70:195] = 119
    assert script("measures").face_lightness(picture, KPS) == pytest.approx(50, abs=0.5)


def test_a_reversed_order_of_skin_tones_is_reported() -> None:
    skin = script("skin")
    photo = np.linspace(30, 70, 12)
    assert skin.order(photo, 2 * photo)[0] == pytest.approx(1)
    assert skin.order(photo, -photo)[0] == pytest.approx(-1)
    people = list(script("groups").labels())
    rows = [
        {"person": person, "style": style, "lightness": [40 + n, sign * n + 50]}
        for n, person in enumerate(people)
        for style, sign in (("oil", 1), ("woodcut", -1))
    ]
    lines = skin.table(rows, script("groups").labels()).splitlines()
    assert lines[2].startswith("| oil | yes | 1.00 (1.00 to 1.00) | +10.0 | +10.0 | +10.0 |")
    assert lines[3].startswith("| woodcut | no | -1.00 (-1.00 to -1.00) | ")


def test_a_group_that_is_rejected_more_than_all_others_is_called_worse() -> None:
    groups = script("groups")
    read = groups.labels()
    dark = {person for person, row in read.items() if row["skin"] == "dark"}
    rows = [{"person": person, "first_accepted": person not in dark} for person in read for _ in range(3)]
    assert groups.against_others(rows, dark) == (-1, -1, -1)
    assert groups.against_others(rows, set(read)) is None
    lines = groups.gaps(rows, read)
    assert "| skin dark | 12 | -100.0% (-100.0% to -100.0%), **worse** |" in lines
    assert "worse" not in next(line for line in lines.splitlines() if "skin light" in line)


def test_what_the_adapter_is_worth_is_a_paired_difference_by_every_judge() -> None:
    summary = script("adapter").summary
    owners = list(range(20)) * 2
    base = np.linspace(0.3, 0.7, 40)
    gains = {"off": 0.0, "half": 0.02, "default": 0.05, "above": 0.06, "swapped": -0.03}
    result = summary({name: {"dlib": list(base + gain)} for name, gain in gains.items()}, owners)
    assert result["difference"]["default - off, dlib"] == [0.05, 0.05, 0.05]
    assert result["difference"]["default - swapped, dlib"] == [0.08, 0.08, 0.08]
    assert result["likeness"]["off"] == {"dlib": 0.5}


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    """A blind test of four pictures with answers: three right, one fault."""
    truth = {f"{n:03d}.png": {"style": style} for n, style in enumerate(("oil", "oil", "comic", "comic"))}
    (tmp_path / "key.json").write_text(json.dumps({"styles": ["oil", "comic"], "pictures": truth}))
    answers = [("000.png", "oil", "5", ""), ("001.png", "comic", "3", "grid; halo"), ("002.png", "comic", "4", ""),
               ("003.png", "comic", "4", "")]  # fmt: skip
    with (tmp_path / "answers.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("picture", "style", "score", "faults"), *answers])
    return tmp_path


def test_a_blind_sheet_is_counted_by_style(sheet: Path) -> None:
    summary = script("blind").score(sheet)
    assert summary["all"] == {"pictures": 4, "named_right": 0.75, "mean": 4.0, "with_fault": 0.25}
    assert summary["styles"]["oil"] == {"pictures": 2, "named_right": 0.5, "mean": 4.0, "with_fault": 0.5}
    assert summary["confusions"] == {"oil as comic": 1}
    assert summary["faults"] == {"grid": 1, "halo": 1}


def test_a_blind_sheet_with_a_gap_is_not_counted(sheet: Path) -> None:
    lines = (sheet / "answers.csv").read_text().splitlines()
    (sheet / "answers.csv").write_text("\n".join([*lines[:-1], "003.png,,4,"]))
    with pytest.raises(SystemExit, match="003.png: style '', score '4'"):
        script("blind").score(sheet)
    (sheet / "answers.csv").write_text("\n".join(lines[:-1]))
    with pytest.raises(SystemExit, match=r"answers.csv lacks 003.png and 0 more"):
        script("blind").score(sheet)


def test_a_table_without_a_result_says_which_command_measures_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = script("tables")
    monkeypatch.setattr(tables, "HERE", tmp_path)
    for name, command in (("dial", "dial"), ("held-out", "held_out"), ("loop-gain", "loop")):
        page = f"<!-- table: {name} -->\n<!-- end of table -->\n"
        assert f"*Not measured yet: `python eval/{command}.py`.*\n" in tables.filled(page)


def test_a_table_that_new_weights_may_have_changed_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = script("tables")
    page = "<!-- table: speed -->\n<!-- end of table -->\n"
    speed = json.loads((tables.HERE / "speed.json").read_text("utf-8"))
    monkeypatch.setattr(tables, "HERE", tmp_path)
    monkeypatch.setattr(tables, "weights_today", lambda: {"unet": "1"})
    for weights, is_earlier in (({"unet": "0"}, True), ({"unet": "1", "judge": "2"}, False)):
        (tmp_path / "speed.json").write_text(json.dumps(speed | {"weights": weights}))
        assert ("*Measured with earlier weights of `mini`; `python eval/speed.py`" in tables.filled(page)) == is_earlier


def test_an_interval_of_a_mean_draws_people_and_not_pictures() -> None:
    bootstrap_mean = script("measures").bootstrap_mean
    people = np.repeat(np.arange(4), 100)
    values = np.repeat([0.0, 0.0, 1.0, 1.0], 100)
    low, high = bootstrap_mean(values, people)
    assert (low, high) == (0.0, 1.0)  # 400 pictures, but only four people
    low, high = bootstrap_mean(values, np.arange(400))
    assert 0.44 < low < 0.5 < high < 0.56
