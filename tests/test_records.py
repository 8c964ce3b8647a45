"""What the program knows of a portrait: records are read, kept and written without a change."""

from __future__ import annotations

import json

import pytest

from tests.golden_records import GOLDEN, MAKERS, golden_text


@pytest.mark.parametrize("name", MAKERS)
def test_the_program_writes_each_golden_record_byte_for_byte(name: str) -> None:
    assert golden_text(name) == (GOLDEN / f"{name}.json").read_text()


@pytest.mark.parametrize("name", MAKERS)
def test_a_golden_record_read_and_written_is_the_same_bytes(name: str) -> None:
    text = (GOLDEN / f"{name}.json").read_text()
    assert json.dumps(json.loads(text), indent=1) + "\n" == text
