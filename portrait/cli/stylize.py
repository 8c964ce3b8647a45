"""`portrait stylize` and `portrait demo`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portrait.cli.console import Console, complain, failure_record
from portrait.errors import PortraitError, SettingsError, WeightsError
from portrait.settings import Settings, add_flags, settings_from

if TYPE_CHECKING:
    from portrait.loop.stylizer import AttemptLoop
    from portrait.report.save import SavedPortrait

_EPILOG = """examples:
  portrait stylize anna.jpg --style watercolor -o out/
  portrait stylize *.jpg --style oil --style sketch --variants 3
  portrait stylize anna.jpg --reference anna2.jpg --reference anna3.jpg --style popart
  portrait stylize team.jpg --face like:anna.jpg --frame full --style oil
  portrait stylize anna.jpg --style popart --background '#ffd23f'
  portrait stylize anna.jpg --style oil --background transparent
  portrait stylize anna.jpg --style comic --ip-adapter-scale 1.2 --seed 7 --json

Beside each picture lies a .json record of settings, seeds, every attempt and every score. A portrait that
no attempt brought past both judges is written as NAME-rejected.png; the exit code is 1 when nothing was accepted.
"""


def add(commands: Any) -> None:
    """Add `stylize` and `demo` to the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    stylize = commands.add_parser(
        "stylize",
        help="make stylized portraits of photos",
        description="Make stylized portraits of photos; each is judged and, if rejected, tried again with other knobs.",
        epilog=_EPILOG,
        formatter_class=raw,
    )
    stylize.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="JPEG, PNG, WebP, TIFF, AVIF or HEIC")
    stylize.add_argument(
        "--reference", action="append", type=Path, default=[], metavar="PHOTO", help="another photo of the same person"
    )
    stylize.add_argument("--settings", type=Path, metavar="FILE", help="a TOML file with any of the settings below")
    _output_flags(stylize)
    add_flags(stylize)
    stylize.set_defaults(run=_stylize)

    demo = commands.add_parser(
        "demo",
        help="stylize the demo photo in every style",
        description="Stylize skimage's public-domain photo of astronaut Eileen Collins in every style of the recipe.",
        epilog="example:\n  portrait demo -o out/ --balance 0.7",
        formatter_class=raw,
    )
    _output_flags(demo)
    add_flags(demo)
    demo.set_defaults(run=_demo)


def _output_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("out"), metavar="FOLDER", help="folder (default: out)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON record per picture and line, nothing else")
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    parser.add_argument("--verbose", action="store_true", help="log what the loop does")


def _stylize(args: argparse.Namespace) -> int:
    settings = settings_from(vars(args), args.settings)
    return _run(args, settings, args.photos, args.reference)


def _demo(args: argparse.Namespace) -> int:
    from portrait.images import write_picture

    settings = settings_from({"style": ("all",)} | vars(args))
    try:
        from skimage.data import astronaut
    except ImportError:
        raise SettingsError("the demo photo comes with scikit-image; run: pip install scikit-image") from None
    photo = write_picture(args.output / "astronaut.png", astronaut())
    return _run(args, settings, [photo], [])


def _run(args: argparse.Namespace, settings: Settings, photos: Sequence[Path], references: Sequence[Path]) -> int:
    """Stylize every photo in every style; one bad photo is one line and does not stop the others."""
    from portrait.faces.identity import FaceChoice
    from portrait.images import read_photo
    from portrait.loop.limits import resolve_thresholds
    from portrait.recipes.licensing import license_chain
    from portrait.recipes.load import load_recipe
    from portrait.recipes.override import with_overrides

    recipe = with_overrides(load_recipe(settings.recipe), settings.base, settings.lora)
    names = list(recipe.styles) if "all" in settings.style else [recipe.style(n).name for n in settings.style]
    for name in names:  # before the models are loaded
        file = Path(settings.thresholds) if settings.thresholds else None
        resolve_thresholds(recipe, name, settings.far, file, judges=("dlib",) if settings.commercial else ())
    choice = FaceChoice.parse(settings.face)
    if choice.kind == "each" and references:
        raise SettingsError("--face each takes no --reference: references are photos of one person")
    if choice.kind == "like":
        read_photo(choice.reference)
    background = settings.backdrop()
    if background is not None and background.file is not None:
        read_photo(background.file)
    more = [read_photo(path) for path in references]
    from portrait.loop.stylizer import AttemptLoop
    from portrait.report.save import free_stem, save_contact_sheets, save_portrait

    console = Console(quiet=args.quiet or args.json)
    stylizer: AttemptLoop | None = None
    rows: list[SavedPortrait] = []
    taken: set[str] = set()
    worst = 0
    for path in photos:
        try:
            photo = read_photo(path)
            if stylizer is None:
                with console.status("loading models"):
                    stylizer = AttemptLoop.from_settings(settings)
            subjects = stylizer.subjects(photo, settings.face, more)
            for subject in subjects:
                stem = free_stem(photo.path.stem + (f"-face{subject.index}" if len(subjects) > 1 else ""), taken)
                for style in names:
                    for variant in range(settings.variants):
                        with console.attempts(f"{stem} {style}") as on_step:
                            made = stylizer.stylize(subject, style, settings, variant=variant, on_step=on_step)
                        rows.append(save_portrait(made, args.output, f"{stem}-{style}-{variant + 1}", settings.format))
                        console.result(rows[-1])
                        if args.json:
                            print(rows[-1].record.to_json(), flush=True)
        except (SettingsError, WeightsError):
            raise  # not this photo's fault, and the same for all
        except PortraitError as error:
            complain(error)
            if args.json:
                chain = license_chain(recipe, commercial=settings.commercial)
                print(failure_record(path, error, recipe.name, chain).to_json(), flush=True)
            worst = max(worst, error.exit_code)
    if not rows:
        return worst
    console.summary(rows, save_contact_sheets(rows, args.output))
    return max(worst, 0 if any(row.accepted for row in rows) else 1)
