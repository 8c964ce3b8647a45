"""`portrait doctor --recipe`: the identity input on, off and swapped, as the judges measure it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from portrait.calibrate.probe import probe_identity
from portrait.cli.main import main
from portrait.loop.attempt_loop import AttemptLoop
from portrait.recipes.load import load_recipe
from portrait.records import Embedding, Identity, Knobs, RgbImage
from tests.fakes import FakeGenerator, a_photo, fake_loop, restyled, unit

STRANGER = Identity(embeddings={"arcface": unit(1, 0), "dlib": unit(1, 0)})


def listening(photo: RgbImage, knobs: Knobs, seed: int) -> RgbImage:
    """Draws the likeness given by the scale; the fake does not know whose, so a swap has no effect."""
    return restyled(photo, drift=0 if knobs.ip_adapter_scale else 60 + seed)


def test_an_input_that_changes_no_pixel_does_nothing() -> None:
    loop = fake_loop(lambda photo, knobs, seed: restyled(photo, drift=seed))
    probe = probe_identity(loop, loop.subjects(a_photo())[0], STRANGER, "oil", (1, 2))
    assert (probe.verdict, probe.moved) == ("nothing", 0)


def test_an_input_that_moves_pixels_and_is_seen_by_no_judge_is_unclear() -> None:
    loop = fake_loop(listening)
    probe = probe_identity(loop, loop.subjects(a_photo())[0], STRANGER, "oil", (1, 2, 3))
    assert probe.moved > 0
    assert probe.likeness["on"]["arcface"] > probe.likeness["off"]["arcface"]
    assert probe.over_off["arcface"].stands_out
    assert not probe.over_swapped["arcface"].stands_out  # the other person's is drawn alike
    assert probe.verdict == "unclear"


def test_an_input_that_every_judge_sees_works() -> None:
    class Told(FakeGenerator):
        def prepare(
            self, image: RgbImage, embedding: Embedding, *more: object, **named: object
        ) -> tuple[RgbImage, bool]:
            return image, bool(np.allclose(embedding, STRANGER.embeddings["arcface"]))

    def paint(conditions: tuple[RgbImage, bool], knobs: Knobs, seed: int) -> RgbImage:  # type: ignore[misc]
        photo, is_stranger = conditions
        return restyled(photo, drift=0 if knobs.ip_adapter_scale and not is_stranger else 60 + seed)

    loop = fake_loop(Told(paint))  # type: ignore[arg-type]
    probe = probe_identity(loop, loop.subjects(a_photo())[0], STRANGER, "oil", (1, 2, 3))
    assert probe.verdict == "works"


def test_the_photo_is_hidden_as_far_as_the_recipe_can_and_every_step_runs() -> None:
    reference = ("klein4b", "qwen-edit-2511-lightning")
    for name, structure in (("mini", 0.35), *((name, 0.0) for name in (*reference, "sd15-plus-face"))):
        loop = fake_loop(listening, recipe=load_recipe(name))
        knobs = probe_identity(loop, loop.subjects(a_photo())[0], STRANGER, "oil", (1, 2)).knobs
        assert (knobs.strength, knobs.controlnet_conditioning_scale) == (1.0, structure)


def test_mini_is_drawn_with_its_identity_on_off_and_swapped(
    mini: AttemptLoop, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("portrait.cli.doctor.load_loop", lambda *args, **kwargs: mini)
    argv = ["doctor", "--recipe", "mini", "--style", "oil", "--pictures", "2", "--photo", str(photos / "astronaut.png")]
    assert main([*argv, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["moved"] > 0
    assert set(record["likeness"]) == {"on", "off", "swapped"}
    assert all(set(row) == {"arcface", "dlib"} for row in record["likeness"].values())
    assert record["verdict"] in ("works", "unclear")
    monkeypatch.setattr("portrait.cli.doctor.probe_identity", lambda *args: probe_of(record))
    assert main(argv) == 0
    printed = capsys.readouterr().out
    assert f"on {record['likeness']['on']['arcface']:>36.3f}"[3:].strip() in printed
    assert "switching it changes a pixel by" in printed


def probe_of(found: dict[str, object]) -> object:
    from portrait.calibrate.probe import Probe, Rise

    values = {key: value for key, value in found.items() if key != "verdict"}
    for key in ("over_off", "over_swapped"):
        values[key] = {judge: Rise(**rise) for judge, rise in values[key].items()}  # type: ignore[attr-defined]
    values["knobs"] = Knobs(**values["knobs"])  # type: ignore[arg-type]
    return Probe(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--pictures", "1"], "pictures 1: use 2 or more"),
        (["--style", "oils"], "no style 'oils'; did you mean oil"),
    ],
)
def test_what_cannot_be_probed_is_reported_before_anything_is_loaded(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--recipe", "mini", *argv]) == 2
    assert says in capsys.readouterr().err
