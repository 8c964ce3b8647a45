"""`portrait styles`, `portrait recipes`, `portrait weights` and `portrait doctor`."""

from __future__ import annotations

import argparse

from portrait.cli.parsers.common import Commands, add_path, add_switch, add_value

_WEIGHTS = """examples:
  portrait weights list                        every part: its size, its license, and whether it is here
  portrait weights fetch sd15-plus-face        download and verify every part of a recipe
  portrait weights fetch clip-vit-h            download and verify one part
  portrait weights fetch judges                the face detector and recognizer of the OpenCV Zoo
  portrait weights fetch auraface              a larger recognizer, also for commercial use; then run portrait calibrate
  portrait weights verify                      hash everything that is here
  portrait weights path sd15                   print the folder of verified files, for other programs
  portrait weights licenses sd15-plus-face     print the license of every part of a recipe
  portrait weights licenses --commercial       which recipes are licensed for commercial use, and why others are not
  portrait weights prune --dry-run             show what is no longer needed in portrait's cache

Downloads go to portrait's own cache (PORTRAIT_CACHE). Files in huggingface_hub's cache (HF_HOME, HF_HUB_CACHE) are
used in place. HF_ENDPOINT (a mirror), HF_TOKEN and HF_HUB_OFFLINE work as usual; PORTRAIT_INSIGHTFACE_URL names
a mirror of the InsightFace releases. A file whose hash is not in the manifest is pinned on first use in a lock file
(PORTRAIT_LOCK) and must not change from then on.
"""


def add(commands: Commands) -> None:
    """Add these commands to the command line."""
    _add_recipes(commands)
    _add_weights(commands)
    _add_doctor(commands)


def _add_recipes(commands: Commands) -> None:
    styles = commands.add_parser(
        "styles",
        help="list the styles of a recipe",
        description="List the styles of a recipe, one per line: the name for --style, the palettes for --palette, and its look.",
        epilog="examples:\n  portrait styles\n  portrait styles --sheet styles.jpg",
    )
    add_value(styles, "--recipe", "TEXT", "mini", "the recipe whose styles to list (default: mini)")
    add_path(styles, "--sheet", "FILE", "write a picture with a sample of each style")
    add_switch(styles, "--json", "one JSON object")
    styles.set_defaults(run="recipes:list_styles")

    recipes = commands.add_parser(
        "recipes",
        help="list the recipes, or show one with its licenses",
        description="List the recipes, one per line. With a name, show its styles and the license of every part.",
        epilog="examples:\n  portrait recipes\n  portrait recipes mini",
    )
    recipes.add_argument("names", nargs="*", metavar="NAME", help="show these recipes in detail")
    add_switch(recipes, "--json", "one JSON object, with every detail")
    recipes.set_defaults(run="recipes:list_recipes")


def _add_weights(commands: Commands) -> None:
    weights = commands.add_parser(
        "weights",
        help="list, fetch and verify public models",
        description="The public models that recipes use, pinned by revision and SHA-256, each with its license.",
        epilog=_WEIGHTS,
    )
    actions = weights.add_subparsers(dest="action", metavar="ACTION", required=True)

    listing = actions.add_parser(
        "list",
        help="list parts, their size and license, and whether they are here",
        description="List every part of the manifest, or those of the given recipes: size (? or + where that of a large "
        "file is unknown), whether it is licensed for commercial use, how many of its files are here, and what it is. "
        "--json adds revisions, licenses, and how many public sources state each hash.",
    )
    _add_names(listing, "*")
    add_switch(listing, "--json", "print one JSON object")
    listing.set_defaults(run="weights:list_parts")

    fetch = actions.add_parser(
        "fetch",
        help="download and verify parts",
        description="Download parts and verify every byte before anything uses it. Files that are here already are only "
        "verified. Interrupted downloads are resumed by running the same command.",
    )
    _add_names(fetch, "+")
    add_switch(fetch, "--force", "download files again even if they are here, as after a wrong hash")
    add_value(fetch, "--jobs", "N", 4, "files to download at once (default: 4)")
    add_switch(fetch, "--quiet", "print errors only")
    fetch.set_defaults(run="weights:fetch_parts")

    verify = actions.add_parser(
        "verify",
        help="hash the files that are here",
        description="Hash files and compare them with their pins: those of the given recipes and parts, or all that are "
        "here. The exit code is 1 if a file differs; nothing is deleted.",
    )
    _add_names(verify, "*")
    add_switch(verify, "--json", "print one JSON object")
    verify.set_defaults(run="weights:verify_parts")

    path = actions.add_parser(
        "path",
        help="print the folder of a part's verified files",
        description="Print, for each part, a folder that holds its verified files and nothing else, for other programs.",
    )
    _add_names(path, "+")
    path.set_defaults(run="weights:print_folders")

    licenses = actions.add_parser(
        "licenses",
        help="print the license of every part of a recipe",
        description="Print the licenses of recipes: base model, adapter, encoders, and the tools that find and judge "
        "faces. With --commercial the face tools are YuNet, SFace and dlib, and the exit code is 2 if a named recipe is not licensed "
        "for commercial use.",
    )
    licenses.add_argument("names", nargs="*", metavar="RECIPE", help="recipes (default: all)")
    add_switch(licenses, "--commercial", "say which recipes are licensed for commercial use")
    add_switch(licenses, "--json", "print one JSON object")
    licenses.set_defaults(run="weights:list_licenses")

    prune = actions.add_parser(
        "prune",
        help="remove files that are no longer needed",
        description="Remove interrupted downloads, and files and folders of other versions, from portrait's own cache. "
        "huggingface_hub's cache is shared with other programs and left alone; see: hf cache --help",
    )
    add_switch(prune, "--all", "remove the models and adapters in use too; they are downloaded again when fetched")
    add_switch(prune, "--dry-run", "print what would be removed, and remove nothing")
    prune.set_defaults(run="weights:prune_cache")


def _add_names(parser: argparse.ArgumentParser, nargs: str) -> None:
    parser.add_argument("names", nargs=nargs, metavar="NAME", help="a recipe, a part, or judges")


def _add_doctor(commands: Commands) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="check what this machine can run, and what is missing",
        description="Check Python, libraries, device, memory, disk, face models and weights; say for each recipe "
        "whether it can run here, how much memory it needs, and what to do if not. The exit code is 1 if none can.\n\n"
        "With --recipe: test whether its identity input works. One face is drawn with it on, off, and with another person's\n"
        "in its place, from the same seeds and with the photo hidden as far as possible; the judges say how much the\n"
        "pictures look like the person. The exit code is 1 if no pixel changes.",
        epilog="examples:\n  portrait doctor\n  portrait doctor --device cuda --json\n"
        "  portrait doctor --recipe mini\n  portrait doctor --recipe klein4b --photo anna.jpg --other bo.jpg",
    )
    doctor.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="as in stylize (default: auto)"
    )
    add_switch(doctor, "--json", "one JSON object")
    doctor.add_argument(
        "--recipe", metavar="TEXT", help="draw one face with this recipe's identity on, off and swapped"
    )
    probe = doctor.add_argument_group("with --recipe")
    add_path(probe, "--photo", "FILE", "the person to draw (default: the demo photo)")
    add_path(probe, "--other", "FILE", "the person who replaces them (default: a face in InsightFace's test photo)")
    probe.add_argument("--style", metavar="TEXT", help="a style of the recipe (default: its first)")
    add_value(probe, "--pictures", "N", 3, "pictures of each kind, 2 or more (default: 3)")
    add_switch(probe, "--commercial", "judge by SFace and dlib, as in stylize")
    doctor.set_defaults(run="doctor:check_machine")
