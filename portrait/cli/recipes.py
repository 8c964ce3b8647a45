"""`portrait recipes`."""

from __future__ import annotations

import argparse
import json
from typing import Any

from portrait.cli.console import Commands


def add(commands: Commands) -> None:
    """Add `recipes` to the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    recipes = commands.add_parser(
        "recipes",
        help="list recipes, styles and licenses",
        description="List the recipes, the styles of each, and the license of every part of the chain.",
        formatter_class=raw,
    )
    recipes.add_argument("--json", action="store_true", help="one JSON object")
    recipes.set_defaults(run=_recipes)


def _recipes(args: argparse.Namespace) -> int:
    from portrait.recipes.licensing import license_chain
    from portrait.recipes.load import load_recipe, recipe_names
    from portrait.recipes.style import styles

    entries: dict[str, Any] = {}
    for name in recipe_names():
        recipe = load_recipe(name)
        entries[name] = {
            "title": recipe.title,
            "styles": {s: styles()[s].title for s in recipe.styles},
            "licenses": license_chain(recipe),
        }
    if args.json:
        print(json.dumps(entries))
        return 0
    for name, entry in entries.items():
        print(f"{name}: {entry['title']}")
        print("  styles: " + ", ".join(f"{s} ({title})" for s, title in entry["styles"].items()))
        for part in entry["licenses"]:
            print(f"  {part['part']}: {part['license']}; commercial use: {part['commercial']}")
    return 0
