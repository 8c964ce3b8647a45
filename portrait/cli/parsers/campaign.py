"""`portrait campaign` and `portrait drift`."""

from __future__ import annotations

import argparse
from pathlib import Path

from portrait.cli.parsers.common import Commands, add_path, add_sign_flag, add_switch, add_value

_CAMPAIGN = """examples:
  portrait campaign new                                     writes campaign.toml, a commented plan
  portrait campaign plan campaign.toml                      the matrix, attempts, disk and time
  portrait campaign run campaign.toml -o run                run it; the same command resumes after any interruption
  portrait campaign run campaign.toml -o run --engine ray --gpus 0.5
  portrait campaign status run
  portrait campaign retry run --rejected                    once more, from other seeds
  portrait campaign export run -o delivery --size square --size round-512
  portrait campaign export run -o delivery --sign chain.pem key.pem
  portrait campaign prune run --rejected
  portrait drift run --baseline last-month

exit codes: 0 every job has ended, 1 stopped before that, or nothing was accepted, 2 invalid input
"""
_DRIFT = """examples:
  portrait drift run                                        writes run/report/index.html, report.json, report.csv
  portrait drift run --baseline last-month --html report.html
  portrait drift run --json accepted.json                   a baseline to keep
  portrait drift run --baseline accepted.json --fail-on drifted

exit codes: 0 done, 2 invalid input, 3 drifted (with --fail-on drifted), or inconclusive (with
--fail-on unclear, which also fails on drift)
"""


def add(commands: Commands) -> None:
    """Add these commands to the command line."""
    _add_campaign(commands)
    _add_drift(commands)


def _add_campaign(commands: Commands) -> None:
    campaign = commands.add_parser(
        "campaign",
        help="make portraits of many people from a plan, resumably",
        description="Make portraits of many people from a plan. A run survives being killed at any moment and resumes "
        "where it stopped; each picture's seed comes from what determines the picture, so it is the same on any worker.",
        epilog=_CAMPAIGN,
    )
    actions = campaign.add_subparsers(dest="action", metavar="ACTION", required=True)

    new = actions.add_parser("new", help="write a commented plan")
    new.add_argument("plan", nargs="?", type=Path, default=Path("campaign.toml"), metavar="PLAN.toml")
    new.set_defaults(run="campaign:write_plan")

    plan = actions.add_parser(
        "plan",
        help="preview jobs, time and disk",
        description="Print the matrix of a plan, and the attempts, disk and time that it will take. The rates are those "
        "measured by runs on this machine, or else the recipe's calibration; time needs one measured run.",
    )
    plan.add_argument("plan", type=Path, metavar="PLAN.toml")
    add_value(plan, "--workers", "N", 1, "workers that share the work (default: 1)")
    add_switch(plan, "--json", "one JSON object")
    plan.set_defaults(run="campaign:preview_plan")

    run = actions.add_parser("run", help="make the missing pictures")
    run.add_argument("plan", type=Path, metavar="PLAN.toml")
    run.add_argument("-o", "--output", type=Path, default=Path("run"), metavar="RUN", help="folder (default: run)")
    _engine_flags(run)
    add_switch(run, "--accept-changes", "resume although the plan has changed since the start")
    run.set_defaults(run="campaign:run_plan")

    status = actions.add_parser("status", help="show the progress of a run")
    status.add_argument("folder", type=Path, metavar="RUN")
    add_switch(status, "--json", "one JSON object")
    status.set_defaults(run="campaign:show_status")

    retry = actions.add_parser(
        "retry",
        help="retry rejected or failed pictures",
        description="Make rejected pictures again from other seeds, or failed ones as they were. A retry that is rejected "
        "too replaces a picture only if it came closer; every attempt stays in the ledger.",
    )
    retry.add_argument("folder", type=Path, metavar="RUN")
    add_switch(retry, "--rejected", "pictures that were not accepted")
    add_switch(retry, "--failed", "jobs that failed")
    add_path(retry, "--plan", "PLAN.toml", "the plan, if it has been moved")
    _engine_flags(retry)
    retry.set_defaults(run="campaign:retry_jobs")

    export = actions.add_parser(
        "export",
        help="accepted pictures by person and style, in sizes for platforms",
        description="Write the accepted pictures by person and style with a manifest.csv, cut to sizes around the face.",
    )
    export.add_argument("folder", type=Path, metavar="RUN")
    export.add_argument("-o", "--output", type=Path, default=Path("export"), metavar="FOLDER", help="(default: export)")
    export.add_argument(
        "--size",
        action="append",
        default=[],
        metavar="NAME",
        help="original, square, portrait, wide, story, avatar-N (1024, 800, 512, 400, 256, 128) or round-N (the same but "
        "128); may be repeated (default: those of the plan)",
    )
    add_sign_flag(export)
    export.set_defaults(run="campaign:export_pictures")

    prune = actions.add_parser(
        "prune",
        help="remove what a run no longer needs",
        description="Remove files that no job refers to and jobs that the plan no longer names; with flags also more.",
    )
    prune.add_argument("folder", type=Path, metavar="RUN")
    add_switch(prune, "--rejected", "also remove pictures that were not accepted; their scores stay")
    add_switch(
        prune,
        "--embeddings",
        "also remove the faces' embeddings, which are biometric data; later reports lack ROC, DET and likeness across styles",
    )
    add_switch(prune, "--dry-run", "only print what would be removed")
    prune.set_defaults(run="campaign:prune_files")


def _engine_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="(default: local)")
    add_value(parser, "--address", "ADDRESS", "", "address of a Ray cluster, or auto (default: start a local one)")
    add_value(parser, "--workers", "N", 0, "Ray actors (default: as many as fit)")
    add_value(parser, "--gpus", "X", 0.0, "GPUs per actor, such as 1 or 0.5")
    add_value(parser, "--limit", "N", 0, "make at most N pictures now")
    add_value(parser, "--batch", "N", 8, "jobs of one person per batch (default: 8)")
    add_switch(parser, "--quiet", "print errors only")
    add_switch(parser, "--verbose", "log what the loop does")


def _add_drift(commands: Commands) -> None:
    parser = commands.add_parser(
        "drift",
        help="report how far identity drifted in a run",
        description="Measure a run, alone or against a baseline, and write one self-contained HTML page, JSON and CSV. "
        "Two runs are compared person by person; the verdict is stable, drifted or inconclusive.",
        epilog=_DRIFT,
    )
    parser.add_argument("folder", type=Path, metavar="RUN")
    add_path(parser, "--baseline", "RUN|FILE.json", "an earlier run, or the JSON of its report")
    add_path(parser, "--html", "FILE", "the page (default: RUN/report/index.html)")
    add_path(parser, "--json", "FILE", "the numbers (default: RUN/report/report.json)")
    add_path(parser, "--csv", "FILE", "the numbers (default: RUN/report/report.csv)")
    parser.add_argument(
        "--fail-on", choices=("drifted", "unclear"), help="exit with 3 if the verdict is this, or worse"
    )
    add_switch(parser, "--quiet", "print errors only")
    parser.set_defaults(run="drift:report_drift")
