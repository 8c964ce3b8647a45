"""The standing protocol, small: the shipped model is what was accepted; and its gate can close."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portrait.report.compare import compare
from portrait.report.runs import read_baseline

ROOT = Path(__file__).parents[1]
ACCEPTED = ROOT / "eval" / "accepted" / "small.json"


def test_the_shipped_model_is_stable_against_the_accepted_result(tmp_path: Path) -> None:
    """If a change of weights, thresholds or loop is meant to move pictures: look at the page, then
    `python eval/standing.py --accept`."""
    result = subprocess.run(
        [sys.executable, str(ROOT / "eval" / "standing.py"), "--run", str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PORTRAIT_CACHE": str(tmp_path / "cache")}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["comparison"]["people"] == 7, report["comparison"]["not_paired"]
    assert report["failure_to_acquire"]["count"] == 0
    for row in report["comparison"]["rows"]:
        assert row["verdict"] == "stable" or row["style"] or row["measure"] == "accepted", result.stdout
    assert report["verdict"]["verdict"] != "drifted", result.stdout


def less_alike(jobs: list[dict[str, Any]]) -> None:
    for job in jobs:
        job["quoted"]["dlib"] -= 0.03


def less_drawn(jobs: list[dict[str, Any]]) -> None:
    for job in jobs:
        job["delivered"]["style_on_face"] *= 0.7


def unsteady(jobs: list[dict[str, Any]]) -> None:
    """As alike on average, but nobody as they were: too few people to say."""
    for n, job in enumerate(jobs):
        job["quoted"]["arcface"] += 0.2 * (n // 2 % 2 * 2 - 1)


def without_a_style(jobs: list[dict[str, Any]]) -> None:
    jobs[:] = [job for job in jobs if job["style"] != jobs[0]["style"]]


def without_a_person(jobs: list[dict[str, Any]]) -> None:
    jobs[:] = [job for job in jobs if job["subject"] != "guest-3"]


def failing(jobs: list[dict[str, Any]]) -> None:
    jobs[0] |= {"state": "failed", "delivered": None}


@pytest.mark.parametrize("change", [less_alike, less_drawn, unsteady, without_a_style, without_a_person, failing])
def test_the_gate_closes(change: Callable[[list[dict[str, Any]]], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Drifted, too few to say, or not all there: the accepted result itself, changed."""
    monkeypatch.syspath_prepend(str(ROOT / "eval"))
    from standing import as_accepted

    baseline, current = read_baseline(ACCEPTED), read_baseline(ACCEPTED)
    assert as_accepted(compare(current, baseline))
    change(current.jobs)
    report = compare(current, baseline)
    assert not as_accepted(report), report["verdict"]
    expected = "drifted" if change in (less_alike, less_drawn) else "too few to say"
    if change is not without_a_person:  # people are a sample to compare, but the protocol has fixed ones
        assert report["verdict"]["verdict"] == expected, report["verdict"]
