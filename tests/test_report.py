"""`explain`: what is printed about a record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portrait.cli.main import main
from portrait.records import RgbImage
from portrait.records.portrait import FailedInput, FailureRecord, LicenseLink
from portrait.report.explain import explain
from portrait.report.sheet import contact_sheet
from tests.fakes import restyled, run_loop


def test_explain_shows_attempts_verdicts_and_changes(limits: str) -> None:
    portrait, _ = run_loop(
        lambda photo, knobs, seed: restyled(photo, 0 if knobs.ip_adapter_scale > 0.7 else 150), limits
    )
    story = explain(portrait.record).splitlines()
    assert story[0].startswith("watercolor portrait of face 0 of anna.png; recipe mini, balance 0.5")
    assert story[1].startswith("Accepted: attempt 2 (2 of at most")
    text = "\n".join(story)
    assert "Attempt 1 (seed 1, " in text
    assert "BELOW the limit 0.900" in text
    assert "changed because it does not look enough like the person (arcface); it does not" in text
    assert "identity adapter 0.6 -> " in text
    assert "predicted: a chance of " in text
    assert "it ended with the first accepted picture, as requested" in text
    assert text.count("<- this is the picture") == 1


def test_explain_says_which_rejected_attempt_came_closest(limits: str) -> None:
    portrait, _ = run_loop(lambda photo, knobs, seed: photo, limits, max_attempts=2)
    text = explain(portrait.record)
    assert "Rejected (2 of at most 2 attempts" in text
    assert "the face is still the photo" in text
    assert "<- this is the picture" not in text


def test_explain_says_when_only_the_seed_changed(limits: str) -> None:
    fixed: dict[str, Any] = {
        "strength": 0.6,
        "guidance_scale": 3.0,
        "ip_adapter_scale": 0.6,
        "controlnet_conditioning_scale": 0.7,
    }
    portrait, _ = run_loop(lambda photo, knobs, seed: photo, limits, max_attempts=2, **fixed)
    assert "only another seed" in explain(portrait.record)


def test_explain_on_the_command_line(limits: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    portrait, _ = run_loop(lambda photo, knobs, seed: restyled(photo), limits)
    path = tmp_path / "anna.json"
    path.write_bytes(portrait.record.file_bytes())
    assert main(["explain", str(path)]) == 0
    assert "Accepted: attempt 1" in capsys.readouterr().out
    path.write_text("[1, 2]")
    assert main(["explain", str(path)]) == 2
    assert "is not a record of portrait" in capsys.readouterr().err
    assert main(["explain", str(tmp_path / "none.json")]) == 2
    capsys.readouterr()
    written = json.loads(portrait.record.to_json())
    damages: list[dict[str, object]] = [{"thresholds": {}}, {"balance": 10**400}, {"attempts": [1]}]
    for broken in damages:
        path.write_text(json.dumps(written | broken))
        assert main(["explain", str(path)]) == 2, broken
    path.write_text(json.dumps(written | {"style": "\x1b]0;owned\x07"}))
    assert main(["explain", str(path)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_explain_shows_a_batch_as_one_change(limits: str) -> None:
    portrait, _ = run_loop(lambda photo, knobs, seed: photo, limits, max_attempts=4, batch=2)
    text = explain(portrait.record)
    assert text.count("changed because") == 1
    assert text.count("made together with the previous one") == 2


def test_a_failed_record_is_explained_in_one_line() -> None:
    record = FailureRecord(input=FailedInput(path="anna.jpg"), reasons=("no face in it",))
    assert explain(record) == "anna.jpg: nothing was made.\n  no face in it"


def test_explain_and_the_contact_sheet_carry_the_chain_of_licences(limits: str) -> None:
    portrait, _ = run_loop(lambda photo, knobs, seed: restyled(photo), limits)
    chain = (
        LicenseLink(part="sd15", license="CreativeML OpenRAIL-M", commercial="yes"),
        LicenseLink(part="style.safetensors", license="unknown", commercial="unknown"),
    )
    text = explain(portrait.record.model_copy(update={"licenses": chain}))
    assert "not for commercial use, or not known to be: style.safetensors." in text
    assert "  sd15: CreativeML OpenRAIL-M" in text
    free = explain(portrait.record.model_copy(update={"licenses": chain[:1]}))
    assert "Recipe mini: every part is licensed for commercial use." in free
    assert "Only one detector looked for faces" in free
    second = LicenseLink(part="yunet", license="MIT", commercial="yes")
    assert "yunet looked again" in explain(portrait.record.model_copy(update={"licenses": (*chain, second)}))
    cell = (RgbImage(np.zeros((64, 64, 3), np.uint8)), "oil", None)
    plain, footed = contact_sheet([cell]), contact_sheet([cell], footer="not for commercial use: " + "a part, " * 20)
    assert footed.shape[0] > plain.shape[0] + 40  # several lines
    assert (footed[: plain.shape[0] - 12] == plain[: plain.shape[0] - 12]).all()
    assert footed[plain.shape[0] :].min() < 100, "nothing was written"
