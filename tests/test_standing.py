"""The small standing protocol: the shipped model equals the accepted one, and the gate can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from portrait.records.report import ReportJob
from portrait.report.compare import compare
from portrait.report.runs import read_baseline

ROOT = Path(__file__).parents[1]
ACCEPTED = ROOT / "eval" / "accepted" / "small.json"


@pytest.mark.weights
@pytest.mark.slow
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


Jobs = list[ReportJob]


def moved(job: ReportJob, judge: str, by: float) -> ReportJob:
    scores = job.selection_free | {judge: job.selection_free[judge] + by}
    return job.model_copy(update={"selection_free": scores})


def less_alike(jobs: Jobs) -> Jobs:
    return [moved(job, "dlib", -0.03) for job in jobs]


def less_drawn(jobs: Jobs) -> Jobs:
    drawn = [job.delivered for job in jobs if job.delivered]
    paler = [scores.model_copy(update={"style_on_face": 0.7 * scores.style_on_face}) for scores in drawn]
    return [job.model_copy(update={"delivered": scores}) for job, scores in zip(jobs, paler, strict=True)]


def unsteady(jobs: Jobs) -> Jobs:
    """The same likeness on average, but everybody's changed: too few people for a conclusion."""
    return [moved(job, "arcface", 0.2 * (n // 2 % 2 * 2 - 1)) for n, job in enumerate(jobs)]


def without_a_style(jobs: Jobs) -> Jobs:
    return [job for job in jobs if job.style != jobs[0].style]


def without_a_person(jobs: Jobs) -> Jobs:
    return [job for job in jobs if job.subject != "guest-3"]


def failing(jobs: Jobs) -> Jobs:
    return [jobs[0].model_copy(update={"state": "failed", "delivered": None}), *jobs[1:]]


@pytest.mark.parametrize("change", [less_alike, less_drawn, unsteady, without_a_style, without_a_person, failing])
def test_the_gate_closes(change: Callable[[Jobs], Jobs], monkeypatch: pytest.MonkeyPatch) -> None:
    """The accepted result, changed so that it has drifted, is inconclusive, or lacks something."""
    monkeypatch.syspath_prepend(str(ROOT / "eval"))
    from standing import as_accepted

    baseline, current = read_baseline(ACCEPTED), read_baseline(ACCEPTED)
    assert as_accepted(*compare(current, baseline))
    comparison, verdict = compare(replace(current, jobs=change(current.jobs)), baseline)
    assert not as_accepted(comparison, verdict), verdict
    expected = "drifted" if change in (less_alike, less_drawn) else "inconclusive"
    if change is not without_a_person:  # people are a sample to compare, but the protocol has fixed ones
        assert verdict.verdict == expected, verdict
