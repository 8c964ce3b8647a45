"""`portrait recipes`."""

from __future__ import annotations

import argparse
import json

from portrait.cli.console import Commands, print_licenses


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

    recipes = [load_recipe(name) for name in recipe_names()]
    titles = {name: style.title for name, style in styles().items()}
    if args.json:
        entries = {
            recipe.name: {
                "title": recipe.title,
                "styles": {style: titles[style] for style in recipe.styles},
                "licenses": [link.model_dump() for link in license_chain(recipe)],
            }
            for recipe in recipes
        }
        print(json.dumps(entries))
        return 0
    for recipe in recipes:
        print(f"{recipe.name}: {recipe.title}")
        print("  styles: " + ", ".join(f"{style} ({titles[style]})" for style in recipe.styles))
        print_licenses(license_chain(recipe))
    return 0
