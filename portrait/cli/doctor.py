"""`portrait doctor`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from portrait.cli.console import Commands, say


def add(commands: Commands) -> None:
    """Add `doctor` to the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    doctor = commands.add_parser(
        "doctor",
        help="what this machine can run, and what is missing",
        description="Check Python, libraries, device, memory, disk, face models and weights; say for each recipe "
        "whether it can run here, how much memory it needs, and what to do if not. The exit code is 1 if none can.",
        epilog="examples:\n  portrait doctor\n  portrait doctor --device cuda --json",
        formatter_class=raw,
    )
    doctor.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="as in stylize (default: auto)"
    )
    doctor.add_argument("--json", action="store_true", help="one JSON object")
    doctor.set_defaults(run=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    from portrait.cli.diagnosis import diagnose, in_lines

    machine = diagnose(args.device)
    say(json.dumps(asdict(machine)) if args.json else "\n".join(in_lines(machine)))
    return 0 if any(recipe.runs for recipe in machine.recipes.values()) else 1
