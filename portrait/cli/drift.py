"""`portrait drift`: the report on a run, alone or against a baseline."""

from __future__ import annotations

import argparse
from pathlib import Path

from portrait.cli.console import Commands, say
from portrait.errors import SettingsError
from portrait.paths import below

_EPILOG = """examples:
  portrait drift run                                        writes run/report/index.html, report.json, report.csv
  portrait drift run --baseline last-month --html report.html
  portrait drift run --json accepted.json                   a baseline to keep
  portrait drift run --baseline accepted.json --fail-on drifted

exit codes: 0 done, 2 invalid input, 3 drifted (with --fail-on drifted), or inconclusive (with
--fail-on unclear, which also fails on drift)
"""

_FAILING = {"drifted": ("drifted",), "unclear": ("drifted", "inconclusive")}
"""Value of `--fail-on` -> the verdicts that end with exit code 3."""


def add(commands: Commands) -> None:
    """Add `drift` to the command line."""
    parser = commands.add_parser(
        "drift",
        help="report how far identity drifted in a run",
        description="Measure a run, alone or against a baseline, and write one self-contained HTML page, JSON and CSV. "
        "Two runs are compared person by person; the verdict is stable, drifted or inconclusive.",
        epilog=_EPILOG,
    )
    parser.add_argument("folder", type=Path, metavar="RUN")
    parser.add_argument(
        "--baseline", type=Path, metavar="RUN|FILE.json", help="an earlier run, or the JSON of its report"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="the page (default: RUN/report/index.html)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the numbers (default: RUN/report/report.json)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="the numbers (default: RUN/report/report.csv)")
    parser.add_argument(
        "--fail-on", choices=("drifted", "unclear"), help="exit with 3 if the verdict is this, or worse"
    )
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the report; the exit code is 3 if the verdict is covered by `--fail-on`."""
    from portrait.report.words import summary_lines
    from portrait.report.write import write_report

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
