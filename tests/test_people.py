"""eval/people.py on fakes: rates computed by hand, intervals over people, an evaluator's folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portrait.errors import SettingsError, TooFewPairsError
from portrait.images import write_picture
from portrait.records import Face, RgbImage
from tests.fakes import FakeAnalyzer, FakeRecognizer, a_face, a_photo
from tests.scripts import script

people = script("people")


def test_rates_by_hand() -> None:
    whose = np.array([f"p{i:02d}" for i in range(30)])
    scores = np.full((30, 30), 0.1)
    scores[np.arange(30), np.arange(30)] = 0.9
    scores[0, 0] = 0.05  # one portrait is not recognized
    scores[5, 6:16] = 0.5  # ten of 870 strangers are more alike than the rest
    row = people.rates(scores, whose, whose, 0.01)
    assert row["impostor_pairs"] == 30 * 29
    assert row["limit"] == 0.5  # eight may pass, and the ten are equal: just above them
    assert row["tar"]["rate"] == row["rank_1"]["rate"] == pytest.approx(29 / 30, abs=1e-4)
    assert row["eer"]["interval"][0] <= row["eer"]["rate"] <= row["eer"]["interval"][1]
    verdict = people.gate_rates(scores >= 0.4, whose, whose)
    assert verdict["far"]["rate"] == pytest.approx(10 / 870, abs=1e-5)
    low, high = verdict["far"]["interval"]
    assert low == 0 < 0.02 < high  # one person makes all of it
    with pytest.raises(TooFewPairsError):
        people.rates(scores[:5, :5], whose[:5], whose[:5], 0.01)


def test_joint_rates_use_limits_of_other_people_and_are_compared_with_a_second_chain() -> None:
    rng = np.random.default_rng(0)
    whose = np.array([f"p{i:02d}" for i in range(80)])

    def scores(separation: float) -> dict[str, np.ndarray]:
        return {judge: rng.normal(size=(80, 80)) + separation * np.eye(80) for judge in ("sface", "dlib")}

    strong, weak = (people.held_out_gate(scores(separation), whose, whose, 0.01) for separation in (4.0, 2.0))
    assert strong["far"]["of"] == 2 * 40 * 39  # pairs within one half alone
    assert strong["far"]["rate"] == pytest.approx(0.01, abs=0.006)
    assert strong["tar"]["rate"] > 0.95 > weak["tar"]["rate"] + 0.1
    assert people.held_out_gate({j: v[:30, :30] for j, v in scores(4.0).items()}, whose[:30], whose[:30], 0.01) is None
    chains = [{"far": 0.01, "styles": {"oil": {"first": {"together": gate}}}} for gate in (strong, weak)]
    loss = 1 - weak["tar"]["rate"] / strong["tar"]["rate"]
    assert people.comparison(*chains).endswith(f" {loss:.1%} |")
    assert "too few people" in people.comparison(*[{"far": 0.01, "styles": {"oil": {"first": {}}}}] * 2)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Twelve people with two photos each, and an oil portrait of each; the last portrait shows no face."""
    base = a_photo().pixels.astype(int)
    for i in range(12):
        for n in range(2):
            photo = np.clip(base + np.array([10 * i - 60 + n, 60 - 10 * i, 0]), 0, 255).astype(np.uint8)
            write_picture(tmp_path / "photos" / f"p{i:02d}" / f"{n}.png", photo)
        drawn = np.clip(base + np.array([10 * i - 58, 60 - 10 * i, 0]), 0, 255).astype(np.uint8)
        write_picture(tmp_path / "portraits" / "oil" / f"p{i:02d}.png", drawn if i < 11 else 0 * drawn)
    return tmp_path / "photos", tmp_path / "portraits"


def sees(image: RgbImage) -> list[Face]:
    return [a_face()] if image.any() else []


def test_portraits_are_measured_against_another_photo_too(folders: tuple[Path, Path]) -> None:
    photos = people.photos_of_people(folders[0])
    portraits = people.portraits_of_people(folders[1], photos)
    result: dict[str, Any] = people.measure(photos, portraits, FakeAnalyzer(sees), [FakeRecognizer()], 0.05)
    oil = result["styles"]["oil"]
    assert oil["pictures"] == 12
    assert oil["no_face"] == 1
    assert oil["first"].keys() == oil["second"].keys() == {"arcface", "dlib", "gate"}  # too few people for two halves
    for photo in ("first", "second"):
        assert oil[photo]["arcface"]["rank_1"] | {"interval": None} == {"rate": 0.9167, "interval": None, "of": 12}
    assert result["photos_without_a_face"] == {"oil, first": 0, "oil, second": 0}
    table = people.markdown(result)
    assert "| oil | second | dlib | " in table
    alone = people.measure(photos, {}, FakeAnalyzer(sees), [FakeRecognizer()], 0.05)
    assert alone["styles"]["photos"].keys() == {"first", "pictures", "no_face"}


def test_folders_that_do_not_fit_say_so(folders: tuple[Path, Path], tmp_path: Path) -> None:
    photos = people.photos_of_people(folders[0])
    write_picture(folders[1] / "oil" / "nobody.png", a_photo().pixels)
    with pytest.raises(SettingsError, match=r"nobody\.png is of nobody in the photos"):
        people.portraits_of_people(folders[1], photos)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match="photos of 0 people"):
        people.photos_of_people(tmp_path / "empty")
    with pytest.raises(SettingsError, match="holds no portraits"):
        people.portraits_of_people(tmp_path / "empty", photos)
