"""The standing protocol, small: the shipped model is what was accepted, and a model that drifts is noticed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def standing(folder: Path, planted: str = "") -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """The protocol as CI runs it, its settings changed by `planted` if that is given; and its report."""
    code = f"import sys, standing; standing.SETTINGS |= {{{planted}}}; sys.exit(standing.main())"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'eval'}", "PORTRAIT_CACHE": str(folder / "cache")}
    argv = [sys.executable, "-c", code, "--run", str(folder)]
    result = subprocess.run(argv, env=environment, capture_output=True, text=True)
    assert result.returncode in (0, 3), result.stdout + result.stderr
    return result, json.loads((folder / "report" / "report.json").read_text())


def test_the_shipped_model_is_stable_against_the_accepted_result(tmp_path: Path) -> None:
    """If a change of weights, thresholds or loop is meant to move pictures: look at the page, then
    `python eval/standing.py --accept`."""
    result, report = standing(tmp_path)
    assert report["comparison"]["people"] == 7, report["comparison"]["not_paired"]
    assert report["failure_to_acquire"]["count"] == 0
    for row in report["comparison"]["rows"]:
        assert row["verdict"] == "stable" or row["style"] or row["measure"] == "accepted", result.stdout
    assert report["verdict"]["verdict"] != "drifted", result.stdout
    assert result.returncode == 0


def test_the_protocol_notices_a_model_that_drifts(tmp_path: Path) -> None:
    """The dial at its end stands for other weights."""
    result, report = standing(tmp_path, "'balance': 1.0, 'max_attempts': 1")
    assert report["verdict"]["verdict"] == "drifted", result.stdout
    assert result.returncode == 3
