"""`portrait styles` and `portrait recipes`."""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
import textwrap
from pathlib import Path

import numpy as np
from PIL import Image

from portrait.cli.licenses import print_licenses
from portrait.cli.terminal import say
from portrait.errors import SettingsError
from portrait.files import write_new
from portrait.images import encode_picture, kind_of
from portrait.provenance.mark import xmp_mark
from portrait.recipes.licensing import license_chain, noncommercial_links
from portrait.recipes.load import load_recipe, recipe_names
from portrait.recipes.recipe import Recipe
from portrait.recipes.samples import sample_file
from portrait.recipes.style import Style
from portrait.records import RgbImage
from portrait.report.sheet import contact_sheet


def list_styles(args: argparse.Namespace) -> int:
    """`portrait styles`."""
    recipe = load_recipe(args.recipe)
    styles = [recipe.style(name) for name in recipe.styles]
    if args.json:
        rows = {s.name: {"title": s.title, "looks": _looks(s), "palettes": recipe.palettes_of(s)} for s in styles}
        say(json.dumps(rows))
    else:
        longest = max(len(style.name) for style in styles)
        for style in styles:
            palettes = f" ({', '.join(recipe.palettes_of(style))})" if recipe.palettes_of(style) else ""
            say(_fitted(f"{style.name:{longest}}  {style.title}{palettes}: {_looks(style)}"))
    if args.sheet:
        place, missing = _write_sheet(args.sheet, recipe, styles)
        if not args.json:
            say(f"written to {place}" + (f"; no sample of {', '.join(missing)}" if missing else ""))
    return 0


def _fitted(line: str) -> str:
    """`line`, cut at the width of the terminal; unchanged if the output is not a terminal."""
    width = shutil.get_terminal_size().columns
    return line[: width - 3] + "..." if sys.stdout.isatty() and len(line) > width else line


def _looks(style: Style) -> str:
    """The look of a style: the phrases of its prompt that do not merely say "portrait"."""
    phrases = (style.rich_prompt or style.prompt).split(", ")
    return ", ".join(p for p in phrases if "portrait" not in p and p != style.title.lower()) or style.prompt


def _write_sheet(file: Path, recipe: Recipe, styles: list[Style]) -> tuple[Path, list[str]]:
    """Write a captioned sample of each style; return the file, and the names of styles without a sample."""
    samples = {style: sample_file(recipe.name, style.name) for style in styles}
    cells: list[tuple[RgbImage, str, bool | None]] = []
    for style, sample in samples.items():
        if sample is not None:
            with Image.open(io.BytesIO(sample.read_bytes())) as picture:
                cells.append((RgbImage(np.asarray(picture.convert("RGB"))), f"{style.name}\n{style.title}", None))
    if not cells:
        raise SettingsError(f"there are no sample pictures for recipe {recipe.name}; only mini comes with them")
    place = write_new(file, encode_picture(contact_sheet(cells, side=240), kind_of(file), xmp=xmp_mark()))
    return place, [style.name for style, sample in samples.items() if sample is None]


def list_recipes(args: argparse.Namespace) -> int:
    """`portrait recipes`."""
    recipes = [load_recipe(name) for name in args.names or recipe_names()]
    if args.json:
        say(json.dumps({recipe.name: _details(recipe) for recipe in recipes}))
    elif args.names:
        for recipe in recipes:
            say(f"{recipe.name}: {recipe.title}")
            say("  styles: " + ", ".join(f"{name} ({recipe.style(name).title})" for name in recipe.styles))
            print_licenses(license_chain(recipe))
    else:
        _print_list(recipes)
    return 0


def _details(recipe: Recipe) -> dict[str, object]:
    return {
        "title": recipe.title,
        "styles": {name: recipe.style(name).title for name in recipe.styles},
        "licenses": [link.model_dump() for link in license_chain(recipe)],
    }


def _print_list(recipes: list[Recipe]) -> None:
    """Print one line per recipe; the column `commercial` says whether --commercial accepts it."""
    longest = max(len(recipe.name) for recipe in recipes)
    say(f"{'recipe':{longest}}  commercial  models")
    for recipe in recipes:
        commercial = "no" if noncommercial_links(recipe) else "yes"
        title = textwrap.shorten(recipe.title.partition(" (")[0], 79 - longest - 14, placeholder=" ...")
        say(f"{recipe.name:{longest}}  {commercial:10}  {title}")
    say("Licenses and styles of a recipe: portrait recipes NAME")
