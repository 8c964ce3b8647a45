"""`portrait calibrate`: measure a recipe's knobs, then its acceptance thresholds, on your own people."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

from portrait.calibrate.combine import combine_tables
from portrait.calibrate.response import check_curves, measure_curves, merge_curves
from portrait.calibrate.sample import SampleOptions
from portrait.calibrate.statistics import require_pairs
from portrait.calibrate.thresholds import calibrate_thresholds
from portrait.cli.console import Console
from portrait.cli.terminal import say
from portrait.errors import SettingsError, one_line
from portrait.faces.form import SMOOTH
from portrait.files import write_json, write_new
from portrait.images import encode_picture, kind_of, photos_below, thumbnail
from portrait.images.search import PassedOver, describe
from portrait.judge.thresholds import read_thresholds
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.load import load_loop
from portrait.loop.response import read_curves
from portrait.paths import prove_writable
from portrait.provenance.mark import xmp_mark
from portrait.recipes.load import load_recipe
from portrait.records import RgbImage
from portrait.records.calibration import CalibrationTable
from portrait.records.curves import CurvesFile
from portrait.report.sheet import contact_sheet
from portrait.settings import Settings

_SHEET_SIDE = 160


def calibrate_recipe(args: argparse.Namespace) -> int:
    """Measure missing curves, then the thresholds; or combine tables."""
    if args.combine:
        return _combine(args)
    if args.subjects is None:
        raise SettingsError("name the photos with --subjects FOLDER, or tables with --combine FILE FILE")
    recipe = load_recipe(args.recipe)
    styles = recipe.styles_named(args.style or ["all"])
    rates = _rates(args.far)
    recipe.knobs_at(0.5 if args.balance is None else args.balance)
    if not 0 <= args.seed < 2**31:
        raise SettingsError(f"--seed {args.seed} is outside 0 to {2**31}")
    photos, passed_over = photos_below(args.subjects, args.only)
    impostors, impostors_passed_over = _impostors(args.impostors, photos)
    curve_photos = _spread(photos, args.curve_people)
    groups = _groups(args.groups) if args.groups else {}
    require_pairs(len(photos), len(photos) + len(impostors), rates)  # fail before hours of curves
    curves_file = args.curves or Path(f"{recipe.name}.curves.json")
    curves = read_curves(curves_file) if curves_file.is_file() else None
    output = args.output or Path(f"{recipe.name}.thresholds.json")
    journal = args.measured or output.with_name(f"{output.stem}.measured.jsonl")
    _check_outputs(output, journal, curves_file, args.sheet)

    console = Console(quiet=args.quiet)
    if output.exists():
        console.line(f"{output} will be replaced")
    if passed_over or impostors_passed_over:
        console.line(describe([*passed_over, *impostors_passed_over]))
    with console.status("loading models"):
        loop = load_loop(
            Settings(recipe=args.recipe, threads=args.threads, commercial=args.commercial),
            every_judge=True,
            form=SMOOTH.name if curves is None else curves.form,  # curves that were measured before stay in use
        )
    _measure_curves(loop, curve_photos, styles, curves_file, curves, console)
    options = SampleOptions(
        styles=styles,
        rates=rates,
        balance=args.balance,
        seed=args.seed,
        impostors=impostors,
        curves=str(curves_file),
        journal=journal,
    )
    table = _measure_thresholds(loop, photos, options, groups, args, console)
    path = write_json(output, table)
    if args.measured is None:
        journal.unlink(missing_ok=True)
    console.calibration(CalibrationTable.model_validate(table), path, curves_file)
    return 0


def _check_outputs(output: Path, journal: Path, curves: Path, sheet: Path | None) -> None:
    """Check that all files can be written, before hours of drawing."""
    if sheet:
        kind_of(sheet)
    for file in (output, journal, curves, *([sheet] if sheet else [])):
        prove_writable(file.parent)


def _combine(args: argparse.Namespace) -> int:
    if args.output is None:
        raise SettingsError("name the combined table with -o FILE")
    tables = [read_thresholds(file) for file in args.combine]
    say(write_json(args.output, combine_tables(tables)))
    return 0


def _impostors(folder: Path | None, photos: list[Path]) -> tuple[list[Path], list[PassedOver]]:
    """The photos in a folder that are not among the subjects' photos, and the files that are not photos."""
    if folder is None:
        return [], []
    others, passed_over = photos_below(folder)
    subjects = {path.resolve() for path in photos}
    return [path for path in others if path.resolve() not in subjects], passed_over


def _groups(file: Path) -> dict[str, dict[str, str]]:
    """Person -> kind of group -> the person's group, from a CSV file with a column `person`."""
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            return {
                row.pop("person"): {kind: value or "" for kind, value in row.items()} for row in csv.DictReader(lines)
            }
    except (OSError, KeyError, ValueError, AttributeError, csv.Error) as error:
        raise SettingsError(f"{file} is not a CSV file with a column person: {one_line(error)}") from None


def _rates(text: str) -> list[float]:
    """The false accept rates of `--far`, the loosest first."""
    try:
        return sorted({float(rate) for rate in text.split(",")}, reverse=True)
    except ValueError:
        raise SettingsError(f"--far {text!r} is not a list of numbers such as 0.01,0.001") from None


def _spread(photos: list[Path], count: int) -> list[Path]:
    """At most `count` of the photos, evenly spread."""
    if count < 1:
        raise SettingsError(f"--curve-people {count} is below 1")
    count = min(count, len(photos))
    return [photos[i * len(photos) // count] for i in range(count)]


def _measure_curves(
    loop: AttemptLoop,
    photos: list[Path],
    styles: list[str],
    file: Path,
    table: CurvesFile | None,
    console: Console,
) -> None:
    """Measure the styles missing in `table`, the content of `file`, and write each as soon as it is measured."""
    if table is not None:
        check_curves(table, loop)
    for style in styles:
        if table is not None and style in table.styles:
            console.line(f"{style}: using the curves already in {file}")
            continue
        with console.attempts(f"curves of {style}, {len(photos)} people", unit="") as on_step:

            def on_picture(style: str, number: int, total: int) -> None:
                on_step(number, number, total)

            measured = measure_curves(loop, photos, styles=[style], on_picture=on_picture)
        table = merge_curves(table, measured)
        write_json(file, table.model_dump())
        console.curves(style, table.styles[style])


def _measure_thresholds(
    loop: AttemptLoop,
    photos: list[Path],
    options: SampleOptions,
    groups: dict[str, dict[str, str]],
    args: argparse.Namespace,
    console: Console,
) -> dict[str, Any]:
    cells: list[tuple[RgbImage, str, bool | None]] = []
    with console.attempts(f"{len(photos)} people, {len(options.impostors)} further faces", unit="") as on_step:

        def on_picture(style: str, made: int, total: int, picture: RgbImage | None) -> None:
            on_step(made, made, total)
            if args.sheet and picture is not None:
                cells.append((thumbnail(picture, _SHEET_SIDE), style, None))

        table = calibrate_thresholds(loop, photos, options, on_picture=on_picture, groups=groups, source=args.source)
    if args.sheet:
        columns = max(12, round(len(cells) ** 0.5))
        sheet = contact_sheet(cells, columns=columns, side=_SHEET_SIDE)
        place = write_new(args.sheet, encode_picture(sheet, kind_of(args.sheet), xmp=xmp_mark(), quality=85))
        console.line(f"contact sheet: {place}")
    return table
