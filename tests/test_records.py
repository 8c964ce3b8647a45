"""Records are read and written back unchanged."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from portrait.errors import SettingsError
from portrait.records.portrait import FaceRecord, FailureRecord, PortraitRecord, Status, read_portrait, read_record
from portrait.records.reasons import Reason
from tests.golden_records import GOLDEN, MAKERS, golden_text


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_the_program_writes_each_golden_record_byte_for_byte(name: str) -> None:
    assert golden_text(name) == (GOLDEN / f"{name}.json").read_text()


@pytest.mark.parametrize("name", MAKERS)
def test_a_golden_record_read_and_written_is_the_same_bytes(name: str) -> None:
    text = (GOLDEN / f"{name}.json").read_text()
    record = read_record(text)
    assert record.to_json(indent=1) + "\n" == text
    assert read_record(record.to_json()) == record


def golden(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def test_a_record_of_a_later_version_is_read() -> None:
    value = golden("accepted") | {"mood": "calm"}
    value["attempts"][0]["noise"] = value["settings"]["glow"] = 0.5
    record = read_record(json.dumps(value))
    assert isinstance(record, PortraitRecord)
    assert record.model_extra == {"mood": "calm"}
    assert record == read_record(json.dumps(value))
    assert record.to_json(indent=1) + "\n" == (GOLDEN / "accepted.json").read_text()


def test_a_key_that_no_record_has_cannot_be_written() -> None:
    with pytest.raises(ValidationError, match="moood"):
        PortraitRecord(**golden("accepted"), moood="calm")  # type: ignore[arg-type,call-arg]


def test_a_record_does_not_change() -> None:
    record = read_record(json.dumps(golden("accepted")))
    with pytest.raises(ValidationError, match="frozen"):
        record.status = Status.REJECTED  # type: ignore[misc,assignment]
    moved = record.model_copy(update={"output": "elsewhere.png"})
    assert (record.output, moved.output) == ("/photos/out/anna-oil-1.png", "elsewhere.png")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"chosen": 9}, "chosen 9 is none of 2 attempts"),
        ({"thresholds": {"arcface": {"value": 0.9, "far": 0.01}}}, "judges .* are not those of the thresholds"),
        ({"status": "lost"}, "lost"),
        ({"box": [1, 2]}, "box"),
        ({"attempts": []}, "attempts"),
        ({"balance": "much"}, "balance"),
        ({"settings": {"balance": 7}}, "anna.json .*balance 7.0 is outside 0 to 1"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(change: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        read_record(json.dumps(golden("accepted") | change), "anna.json")


@pytest.mark.parametrize("text", ["", "[1]", "{}", "null", "[" * 10_000, '{"status": "accepted"}'])
def test_what_is_not_a_record_is_reported_as_such(text: str) -> None:
    with pytest.raises(SettingsError, match=r"anna\.json is not a record of portrait"):
        read_record(text, "anna.json")


def test_the_record_of_a_failure_is_no_portrait() -> None:
    text = (GOLDEN / "failed.json").read_text()
    assert isinstance(read_record(text), FailureRecord)
    with pytest.raises(SettingsError, match=r"anna\.json is the record of a failure; nothing was made"):
        read_portrait(text, "anna.json")


def test_a_reason_is_its_text_and_knows_its_parts() -> None:
    reason = Reason("broken_keep:region:1,2,3,4")
    assert (reason.code, reason.subject) == ("broken_keep", "region:1,2,3,4")
    assert (Reason("burned").code, Reason("burned").subject) == ("burned", "")
    assert reason == "broken_keep:region:1,2,3,4"
    assert json.dumps([reason]) == '["broken_keep:region:1,2,3,4"]'


def test_numbers_are_rounded_when_they_enter_a_record() -> None:
    face = FaceRecord(index=0, bbox=(1.0049, 2.0, 3.0, 4.0), kps=((1.234, 5.678),), det_score=0.123456)
    assert face.bbox[0] == 1.0
    assert face.kps == ((1.23, 5.68),)
    assert face.det_score == 0.1235
