"""The files of a report: page, JSON and CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from portrait.campaign.export import plain_cell
from portrait.files import write_bytes, write_json
from portrait.records.report import CsvRow, DriftReport
from portrait.report.drift import compute_report
from portrait.report.page import render_page
from portrait.report.runs import read_baseline, read_run
from portrait.report.table import csv_rows


def write_report(
    folder: Path,
    baseline: Path | None = None,
    *,
    html: Path | None = None,
    json_file: Path | None = None,
    csv_file: Path | None = None,
) -> DriftReport:
    """Measure a run, compare it with a baseline (another run, or the JSON of a report), and write the requested files.

    Raises:
        CampaignError, EvaluationError, SettingsError: as `read_run`, `read_baseline` and `compute_report`.
    """
    run = read_run(folder)
    earlier = read_baseline(baseline) if baseline else None
    report = compute_report(run, earlier)
    if json_file:
        write_json(json_file, report.dump())
    if csv_file:
        write_bytes(csv_file, csv_text(report).encode("utf-8-sig"))
    if html:
        write_bytes(html, render_page(report, folder, earlier).encode())
    return report


def csv_text(report: DriftReport) -> str:
    """The CSV of a report, in which no cell is a formula."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    columns = list(CsvRow.model_fields)
    writer.writerow(columns)
    writer.writerows([plain_cell(getattr(row, column)) for column in columns] for row in csv_rows(report))
    return text.getvalue()
