"""`portrait calibrate`."""

from __future__ import annotations

from pathlib import Path

from portrait.cli.parsers.common import Commands, add_path, add_switch, add_value

_EPILOG = """1. Curves: up to --curve-people people are drawn at several settings of each knob. The curves define the balance, and
   tell retries what to expect of each knob. Styles that are already in the file of curves are not measured again, so
   an interrupted run continues; delete the file to start over.
2. Thresholds: each person is drawn twice per style along these curves: at one of five positions of the balance, so that
   the limits hold for all of it, and from a degraded photo at one of its ends, for the statistics of the style. The
   measurements are kept in OUTPUT.measured.jsonl until the table is written, so that an interrupted run continues; they
   hold similarities but no embeddings. A file given with --measured is kept: later calls with it write tables for
   other rates or groups without drawing anything.
Rates are those of the whole gate: the share of strangers whom all judges together accept.

examples:
  portrait calibrate --subjects people/ --impostors strangers/ --far 0.01,0.001
  portrait calibrate --subjects people/ --style oil --curves mine.curves.json -o mine.thresholds.json
  portrait calibrate --subjects people/ --groups people.csv --source "staff photos, 2026" -o staff.json
  portrait calibrate --combine real-people.json mini.thresholds.json -o combined.json
  portrait stylize anna.jpg --style oil --far 0.001 --curves mini.curves.json --thresholds mini.thresholds.json
"""


def add(commands: Commands) -> None:
    """Add `calibrate` to the command line."""
    parser = commands.add_parser(
        "calibrate",
        help="measure a recipe's knobs and acceptance thresholds",
        description="Stylize your own people in every style: measure the effects of the recipe's knobs, then derive the "
        "acceptance limits from the impostor pairs, which are every photo against every other person's portrait, for "
        "all judges together. Give one photo per person, of people that the recipe was not trained on; 23 people are enough for "
        "a false accept rate of 0.01, 72 for 0.001.",
        epilog=_EPILOG,
    )
    add_path(parser, "--subjects", "FOLDER", "photos, one per person; subfolders are searched too")
    parser.add_argument(
        "--combine",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="measure nothing; combine tables from several sources, such as figures for real people; earlier tables take precedence",
    )
    add_value(parser, "--source", "TEXT", "", "where the people came from, stored in the table")
    add_path(
        parser,
        "--groups",
        "FILE.csv",
        "a column person (FOLDER/NAME.jpg), and one each for sex, age, skin or others; reports the rates within them",
    )
    add_path(parser, "--only", "FILE", "a text file that names the photos to use, one per line")
    add_path(parser, "--impostors", "FOLDER", "photos of other people, only for comparison; allows lower rates")
    add_value(
        parser,
        "--curve-people",
        "N",
        12,
        "number of people to measure the curves on, evenly spread over the subjects (default: 12)",
    )
    add_value(parser, "--recipe", "TEXT", "mini", "the recipe to calibrate (default: mini)")
    parser.add_argument("--style", action="append", metavar="TEXT", help="a style, may be repeated (default: all)")
    add_value(parser, "--far", "X,X", "0.05,0.02,0.01", "false accept rates (default: 0.05,0.02,0.01)")
    parser.add_argument(
        "--balance", type=float, metavar="X", help="calibrate for one balance only (default: for all of them)"
    )
    add_value(
        parser, "--seed", "N", 1, "seed of the first portrait of each style; each further one has the next (default: 1)"
    )
    add_value(parser, "--threads", "N", 0, "CPU threads, 0 for all cores")
    add_path(parser, "--sheet", "FILE", "also write a contact sheet of the portraits; no file is overwritten")
    add_path(parser, "--curves", "FILE", "file for the curves (default: RECIPE.curves.json)")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="file for the thresholds (default: RECIPE.thresholds.json)"
    )
    add_path(
        parser,
        "--measured",
        "FILE",
        "keep the measurements in this file, and continue from them (default: in a file that is deleted at the end)",
    )
    add_switch(parser, "--commercial", "as in stylize: thresholds for SFace and dlib, without InsightFace")
    add_switch(parser, "--quiet", "print errors only")
    parser.set_defaults(run="calibrate:calibrate_recipe")
