"""`portrait calibrate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portrait.cli.console import Console
from portrait.errors import SettingsError

if TYPE_CHECKING:
    from portrait.records import RgbImage

_EPILOG = """Each person is drawn twice a style: as asked, and at one of the dial's ends, for the statistics of the style. The dial
follows the recipe's curves, so measure those first (portrait curves).

examples:
  portrait calibrate --subjects people/ --impostors strangers/ --far 0.01,0.001
  portrait stylize anna.jpg --style oil --far 0.001 --thresholds mini.thresholds.json
"""


def add(commands: Any) -> None:
    """Add `calibrate` to the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    calibrate = commands.add_parser(
        "calibrate",
        help="measure a recipe's acceptance thresholds",
        description="Stylize people in every style and read the thresholds of acceptance off the impostor pairs: every "
        "photo against every other person's portrait, by each judge. Give one photo a person, of people that the "
        "recipe was not trained on; 23 people are enough for a false accept rate of 0.01, 72 for 0.001.",
        epilog=_EPILOG,
        formatter_class=raw,
    )
    calibrate.add_argument(
        "--subjects", type=Path, required=True, metavar="FOLDER", help="photos, one a person, also in folders below"
    )
    calibrate.add_argument(
        "--only", type=Path, metavar="FILE", help="a text file that names the photos to take, a line each"
    )
    calibrate.add_argument(
        "--impostors", type=Path, metavar="FOLDER", help="photos of other people, compared only: allows lower rates"
    )
    calibrate.add_argument("--recipe", default="mini", metavar="TEXT", help="what is calibrated (default: mini)")
    calibrate.add_argument("--style", action="append", metavar="TEXT", help="a style, may be repeated (default: all)")
    calibrate.add_argument(
        "--far", default="0.05,0.02,0.01", metavar="X,X", help="false accept rates (default: 0.05,0.02,0.01)"
    )
    calibrate.add_argument("--balance", type=float, default=0.5, metavar="X", help="of the portraits (default: 0.5)")
    calibrate.add_argument("--seed", type=int, default=1, metavar="N", help="of each portrait (default: 1)")
    calibrate.add_argument("--sheet", type=Path, metavar="FILE", help="also write a contact sheet of the portraits")
    calibrate.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the table (default: RECIPE.thresholds.json)"
    )
    calibrate.add_argument(
        "--commercial", action="store_true", help="as in stylize: thresholds for dlib alone, without InsightFace"
    )
    calibrate.add_argument("--quiet", action="store_true", help="print errors only")
    calibrate.set_defaults(run=_calibrate)


def _calibrate(args: argparse.Namespace) -> int:
    from portrait.calibrate.thresholds import calibrate
    from portrait.images import photos_below, write_json, write_picture
    from portrait.loop.stylizer import AttemptLoop
    from portrait.recipes.load import load_recipe
    from portrait.report.sheet import contact_sheet, thumbnail

    recipe = load_recipe(args.recipe)
    chosen = args.style or ["all"]
    styles = list(recipe.styles) if "all" in chosen else [recipe.style(name).name for name in chosen]
    recipe.knobs_at(args.balance)
    if not 0 <= args.seed < 2**31:
        raise SettingsError(f"--seed {args.seed} is outside 0 to {2**31}")
    try:
        rates = sorted({float(rate) for rate in args.far.split(",")}, reverse=True)
    except ValueError:
        raise SettingsError(f"--far {args.far!r} is not a list of numbers such as 0.01,0.001") from None
    photos = photos_below(args.subjects, args.only)
    known = {path.resolve() for path in photos}
    others = [p for p in photos_below(args.impostors) if p.resolve() not in known] if args.impostors else []
    console = Console(quiet=args.quiet)
    cells: list[tuple[RgbImage, str, bool | None]] = []
    with console.status("loading models"):
        stylizer = AttemptLoop.from_recipe(args.recipe, commercial=args.commercial)
    with console.attempts(f"{len(photos)} people, {len(others)} further faces", unit="") as on_step:

        def on_picture(style: str, made: int, total: int, picture: RgbImage) -> None:
            on_step(made, made, total)
            if args.sheet:
                cells.append((thumbnail(picture, 160), style, None))

        table = calibrate(
            stylizer,
            photos,
            styles=styles,
            rates=rates,
            balance=args.balance,
            seed=args.seed,
            impostors=others,
            on_picture=on_picture,
        )
    path = write_json(args.output or Path(f"{args.recipe}.thresholds.json"), table)
    if args.sheet:
        write_picture(args.sheet, contact_sheet(cells, columns=max(12, round(len(cells) ** 0.5)), side=160), quality=85)
    console.calibration(table, path)
    return 0
