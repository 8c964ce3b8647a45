"""`portrait curves`: measure what the knobs of a recipe do. Heavy imports stay inside the command."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from portrait.errors import SettingsError

_EPILOG = """examples:
  portrait curves --subjects people/ --people 12
  portrait curves --subjects people/ --style oil -o mine.json      the other styles of mine.json stay
  portrait stylize anna.jpg --style oil --curves mine.json

The limit of not_stylized decides where the dial starts, and the dial which pictures are calibrated: measure the
curves first, then portrait calibrate.
"""


def add(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = commands.add_parser(
        "curves",
        help="measure what a recipe's knobs do",
        description="Stylize people at several settings of each knob and measure likeness and style: where the dial's "
        "positions lie, and what the retries expect of each knob. Give one photo a person, of people that the recipe was "
        "not trained on.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--subjects", type=Path, required=True, metavar="FOLDER", help="photos, one a person")
    parser.add_argument("--only", type=Path, metavar="FILE", help="a text file that names the photos to take")
    parser.add_argument("--people", type=int, metavar="N", help="take every k-th, so that N are taken (default: all)")
    parser.add_argument("--recipe", default="mini", metavar="TEXT", help="what is measured (default: mini)")
    parser.add_argument("--style", action="append", metavar="TEXT", help="a style, may be repeated (default: all)")
    parser.add_argument(
        "--commercial", action="store_true", help="as in stylize: dlib alone looks, without InsightFace"
    )
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="processor threads, 0 for all cores")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the table (default: RECIPE.curves.json)")
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    parser.set_defaults(run=_curves)


def _curves(args: argparse.Namespace) -> int:
    from portrait.calibrate.response import measure_curves, merged
    from portrait.images import photos_below, write_json
    from portrait.loop.stylizer import AttemptLoop
    from portrait.recipes.load import load_recipe

    recipe = load_recipe(args.recipe)
    styles = list(args.style or recipe.styles) if "all" not in (args.style or ()) else list(recipe.styles)
    for style in styles:
        recipe.style(style)
    photos = photos_below(args.subjects, args.only)
    if args.people is not None:
        if not 1 <= args.people <= len(photos):
            raise SettingsError(f"--people {args.people} is outside 1 to {len(photos)}, the photos that are there")
        photos = [photos[i * len(photos) // args.people] for i in range(args.people)]
    path = args.output or Path(f"{args.recipe}.curves.json")
    try:
        old = json.loads(path.read_text("utf-8")) if path.is_file() and len(styles) < len(recipe.styles) else None
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read {path}: {error}") from None
    stylizer = AttemptLoop.from_recipe(args.recipe, threads=args.threads, commercial=args.commercial)
    show = not args.quiet and sys.stderr.isatty()

    def on_picture(style: str, made: int, total: int) -> None:
        if show:
            print(f"\r{style}: {made} of {total} pictures ", end="", file=sys.stderr, flush=True)

    for style in styles:  # written style by style: what is measured is not lost
        old = merged(old, measure_curves(stylizer, photos, styles=[style], on_picture=on_picture))
        write_json(path, old)
        if not args.quiet:
            entry = old["styles"][style]
            print(f"{style}: along the dial " + ", ".join(entry["outputs"]))
            for at, means in zip(entry["dial"]["at"], entry["dial"]["mean"], strict=True):
                print(f"  {at:.2f}  " + "  ".join(f"{value:.3f}" for value in means), flush=True)
    if not args.quiet:
        print(f"Written to {path}; use it with --curves.")
    return 0
