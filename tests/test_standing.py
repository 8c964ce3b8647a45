"""The standing protocol, small: the shipped model has not drifted from the accepted result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_shipped_model_has_not_drifted_from_the_accepted_result(tmp_path: Path) -> None:
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
