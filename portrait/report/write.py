"""The files of a report: page, JSON and CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from portrait.campaign.export import plain_cell
from portrait.images import write_bytes, write_json
from portrait.report.drift import measure
from portrait.report.page import render_page
from portrait.report.runs import read_baseline, read_run
from portrait.report.table import flat


def write_report(
    folder: Path,
    baseline: Path | None = None,
    *,
    html: Path | None = None,
    json_file: Path | None = None,
    csv_file: Path | None = None,
) -> dict[str, Any]:
    """Measure a run, against a baseline if there is one, and write what is asked for; returns the report.

    Args:
        folder: A run.
        baseline: Another run, or the JSON of a report.
        html: The page.
        json_file: The numbers; also what a later run can be compared with.
        csv_file: The numbers as a table.

    Raises:
        CampaignError, EvaluationError, SettingsError: as `read_run`, `measure` and `read_baseline`.
    """
    run = read_run(folder)
    report = measure(run, read_baseline(baseline) if baseline else None)
    if json_file:
        write_json(json_file, report)
    if csv_file:
        text = io.StringIO(newline="")
        csv.writer(text).writerows([plain_cell(v) for v in row] for row in flat(report))
        write_bytes(csv_file, text.getvalue().encode("utf-8-sig"))
    if html:
        write_bytes(html, render_page(report, folder, baseline if baseline and baseline.is_dir() else None).encode())
    return report
