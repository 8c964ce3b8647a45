"""`portrait drift`: the report on a run, alone or against a baseline."""

from __future__ import annotations

import argparse

from portrait.cli.terminal import say
from portrait.errors import SettingsError
from portrait.paths import below
from portrait.report.words import summary_lines
from portrait.report.write import write_report

_FAILING = {"drifted": ("drifted",), "unclear": ("drifted", "inconclusive")}
"""Value of `--fail-on` -> the verdicts that end with exit code 3."""


def report_drift(args: argparse.Namespace) -> int:
    """Write the report; the exit code is 3 if the verdict is covered by `--fail-on`."""
    if args.fail_on and not args.baseline:
        raise SettingsError("--fail-on needs --baseline: drift is measured against another run")
    html = args.html or below(args.folder, "report/index.html")
    numbers = args.json or below(args.folder, "report/report.json")
    table = args.csv or below(args.folder, "report/report.csv")
    report = write_report(args.folder, args.baseline, html=html, json_file=numbers, csv_file=table)
    if not args.quiet:
        for line in summary_lines(report):
            say(line)
        say(f"page: {html}; the same numbers: {numbers}, {table}")
    verdict = report.verdict.verdict if report.verdict else ""
    return 3 if verdict in _FAILING.get(args.fail_on, ()) else 0
