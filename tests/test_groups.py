"""Results by group of people: who is in a group, what is counted, and that small groups are marked as too few."""

from __future__ import annotations

from pathlib import Path

import pytest

from portrait.records.portrait import read_portrait
from tests.scripts import script

GOLDEN = Path(__file__).parent / "golden"


def a_row(person: str, first: bool, accepted: bool = True) -> dict[str, object]:
    reasons = [] if first else ["identity_low:dlib"]
    row = {"person": person, "style": "oil", "first_accepted": first, "first_reasons": reasons, "accepted": accepted}
    return row | {"reasons": [], "arcface": 0.7, "dlib": 0.97}


def test_everybody_held_out_has_labels_and_nobody_else() -> None:
    bench, people = script("groups"), script("held_out_people")
    names = {line for line in people.HELD_OUT.read_text().splitlines() if line.endswith(".jpg")}
    read = bench.labels()
    assert read.keys() == names
    assert all(row[kind] in ("yes", "no") for row in read.values() for kind in bench.KINDS)
    assert {row["skin"] for row in read.values()} == set(bench.TONES)
    members = bench.groups(read)
    assert sum(len(members[f"skin {tone}"]) for tone in bench.TONES) == len(names) == len(members["everybody"])
    assert len(members["women"]) == len(members["men"]) == 18


def test_a_group_counts_its_people_and_few_of_them_are_too_few() -> None:
    bench = script("groups")
    read = bench.labels()
    covered = bench.groups(read)["head covering"]
    rows = [a_row(person, first=person not in covered) for person in read for _ in range(2)]
    lines = {line.split(" | ")[0].strip("| "): line for line in bench.table(rows, read).splitlines()}
    assert f"| {len(covered)} | {2 * len(covered)} | 0.0% (0% to " in lines["head covering"]
    assert "too few" in lines["head covering"]
    assert f"identity_low:dlib {2 * len(covered)}" in lines["head covering"]
    assert "too few" not in lines["skin dark"]
    assert lines["glasses"].startswith("| glasses | 0 | 0 | too few | too few |")
    assert "| 36 | 72 | " in lines["everybody"]


def test_a_person_without_labels_is_named() -> None:
    bench = script("groups")
    with pytest.raises(SystemExit, match="lacks male/99.jpg; look at the photo"):
        bench.table([a_row("male/99.jpg", True)], bench.labels())


def test_a_row_keeps_the_first_attempt_and_the_verdict() -> None:
    record = read_portrait((GOLDEN / "accepted.json").read_text("utf-8"))
    rejected = record.attempts[0].model_copy(
        update={"accepted": False, "reasons": ("identity_low:dlib",), "similarity": {"arcface": 0.6, "dlib": 0.9}}
    )
    row = script("held_out").row_of(
        "male/0.jpg", record.model_copy(update={"attempts": (rejected, *record.attempts[1:])})
    )
    assert (row["first_accepted"], row["accepted"], row["dlib"]) == (False, True, 0.9)
    assert list(row["first_reasons"]) == ["identity_low:dlib"]
