"""`portrait stylize`, `portrait demo` and `portrait watch`."""

from __future__ import annotations

import argparse
from pathlib import Path

from portrait.cli.parsers.common import Commands, add_path, add_switch, add_value, output_flags
from portrait.settings import add_flags

_STYLIZE = """examples:
  portrait stylize anna.jpg --style watercolor -o out/
  portrait stylize *.jpg --style oil --style sketch --variants 3
  portrait stylize anna.jpg --reference anna2.jpg --reference anna3.jpg --style popart
  portrait stylize team.jpg --face like:anna.jpg --frame full --style oil
  portrait stylize anna.jpg --style popart --background '#ffd23f'
  portrait stylize anna.jpg --style oil --background transparent
  portrait stylize anna.jpg --style comic --ip-adapter-scale 1.2 --seed 7 --json

Each picture comes with a .json record of settings, seeds, every attempt and every score. If no attempt passes both
judges, the closest one is written as NAME-rejected.png; the exit code is 1 if nothing was accepted.
Nothing is overwritten: pictures of another anna.jpg, or of other settings, are called anna-2-oil-1.png and so on.
"""
_WATCH = """examples:
  portrait watch incoming/ -o portraits/ --style comic
  portrait watch incoming/ -o portraits/ --style all --background paper --every 5

Photos that are already there count as new. Each photo is turned into portraits once, whatever its name:
OUT/watch.jsonl remembers it by its content, so you can stop with Ctrl-C and start again. A file that is still being
copied is left alone until it is complete. A photo that cannot be used is reported once, and tried again when it
changes. With other settings, every photo counts as new.
"""
DEMO_DEFAULTS: dict[str, object] = {"style": ("all",), "max_attempts": 24, "max_seconds": 600.0}
"""The demo's own defaults. Its photo is a close call in some styles: whether an attempt passes then depends on the last
digits, which differ between processors, so it tries more often than `stylize` does."""


def add(commands: Commands) -> None:
    """Add these commands to the command line."""
    _add_stylize(commands)
    _add_watch(commands)


def _add_stylize(commands: Commands) -> None:
    stylize = commands.add_parser(
        "stylize",
        help="make stylized portraits of photos",
        usage="%(prog)s PHOTO [PHOTO ...] [--style NAME] [--balance X] [-o FOLDER] [options]",
        description="Make stylized portraits of photos. Face recognizers judge each picture; if they reject it, it is made again "
        "with other settings. Most people need --style, --balance, --variants, --background and -o.",
        epilog=_STYLIZE,
    )
    stylize.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="JPEG, PNG, WebP, TIFF, AVIF or HEIC")
    stylize.add_argument(
        "--reference",
        action="append",
        type=Path,
        default=[],
        metavar="PHOTO",
        help="another photo of the same person, for a better likeness; may be given several times",
    )
    add_path(stylize, "--settings", "FILE", "a TOML file with any of the settings below")
    _overwrite_flag(stylize)
    output_flags(stylize)
    add_flags(stylize)
    stylize.set_defaults(run="stylize:stylize")

    demo = commands.add_parser(
        "demo",
        help="stylize the demo photo in every style",
        usage="%(prog)s [--style NAME] [--balance X] [-o FOLDER] [options]",
        description="Stylize skimage's public-domain photo of astronaut Eileen Collins in every style of the recipe. "
        f"Up to {DEMO_DEFAULTS['max_attempts']} pictures are tried per style, so that one close call does not spoil the demo; "
        "styles in which no attempt passes the judges are still marked as rejected.",
        epilog="example:\n  portrait demo -o out/ --balance 0.7",
    )
    _overwrite_flag(demo)
    output_flags(demo)
    add_flags(demo, DEMO_DEFAULTS)
    demo.set_defaults(run="stylize:demo")


def _overwrite_flag(parser: argparse.ArgumentParser) -> None:
    add_switch(
        parser,
        "--overwrite",
        "overwrite pictures of the same name; otherwise names get a number, as in anna-2-oil-1.png",
    )


def _add_watch(commands: Commands) -> None:
    watch = commands.add_parser(
        "watch",
        help="make portraits of every photo that arrives in a folder",
        usage="%(prog)s IN -o FOLDER [--style NAME] [options]",
        description="Watch a folder, and make portraits of every photo that arrives in it, until you press Ctrl-C.",
        epilog=_WATCH,
    )
    watch.add_argument("folder", type=Path, metavar="IN", help="the folder to watch, without subfolders")
    add_value(watch, "--every", "SECONDS", 2.0, "time between checks (default: 2)")
    add_path(watch, "--settings", "FILE", "a TOML file with any of the settings below")
    output_flags(watch)
    add_flags(watch)
    watch.set_defaults(run="watch:watch_folder")
