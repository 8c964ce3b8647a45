"""`portrait weights`: list, fetch, verify, path, prune, licenses."""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from portrait.errors import PortraitError

if TYPE_CHECKING:
    from portrait.hub.manifest import Part
    from portrait.hub.stream import Report

_EPILOG = """examples:
  portrait weights list                        which parts there are, their size and licence, and what is here
  portrait weights fetch sd15-plus-face        download and verify every part of a recipe
  portrait weights fetch clip-vit-h            or one part
  portrait weights verify                      hash everything that is here
  portrait weights path sd15                   the folder of verified files, for other programs
  portrait weights licenses sd15-plus-face     the licence of every part of the chain
  portrait weights licenses --commercial       which recipes a business may use, and why the others not
  portrait weights prune --dry-run             what of our own cache nothing needs any more

Files of the hub go to huggingface_hub's cache. HF_HOME, HF_HUB_CACHE, HF_ENDPOINT (a mirror), HF_TOKEN and
HF_HUB_OFFLINE work as everywhere; PORTRAIT_INSIGHTFACE_URL is a mirror of the InsightFace releases. A file that the
manifest has no hash for is pinned on first use in a lock file (PORTRAIT_LOCK) and must stay the same from then on.
"""


def add(commands: Any) -> None:
    """Add `weights` to the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    weights = commands.add_parser(
        "weights",
        help="list, fetch and verify public models",
        description="The public models that recipes are made of: pinned by revision and SHA-256, each with its licence.",
        epilog=_EPILOG,
        formatter_class=raw,
    )
    actions = weights.add_subparsers(dest="action", metavar="ACTION", required=True)
    many = {"nargs": "*", "metavar": "NAME", "help": "a recipe or a part"}

    listing = actions.add_parser(
        "list",
        help="every part, its size and licence, and what is here",
        description="Every part of the manifest, or those of the recipes that are named: size (? or + where a "
        "large file's is not known), whether a business may use it, how many of its files are here, what it is. --json also has revisions, "
        "licences, and how many public sources state each hash.",
    )
    listing.add_argument("names", **many)
    listing.add_argument("--json", action="store_true", help="one JSON object")
    listing.set_defaults(run=_list)

    fetch = actions.add_parser(
        "fetch",
        help="download and verify",
        description="Download parts and verify every byte before anything uses it. What is here already is only "
        "verified. A download that breaks off, by Ctrl-C too, is gone on with by the same command.",
    )
    fetch.add_argument("names", **(many | {"nargs": "+"}))
    fetch.add_argument("--force", action="store_true", help="download again what is here, after a wrong hash")
    fetch.add_argument("--jobs", type=int, default=4, metavar="N", help="files at once (default: 4)")
    fetch.add_argument("--quiet", action="store_true", help="print errors only")
    fetch.set_defaults(run=_fetch)

    verify = actions.add_parser(
        "verify",
        help="hash what is here",
        description="Hash files against their pins: those of the recipes and parts that are named, or all that are here. "
        "The exit code is 1 if a file is another one; nothing is deleted.",
    )
    verify.add_argument("names", **many)
    verify.add_argument("--json", action="store_true", help="one JSON object")
    verify.set_defaults(run=_verify)

    path = actions.add_parser(
        "path",
        help="the folder of a part's verified files",
        description="Print a folder for each part that holds its verified files and nothing else, for other programs.",
    )
    path.add_argument("names", **(many | {"nargs": "+"}))
    path.set_defaults(run=_path)

    licenses = actions.add_parser(
        "licenses",
        help="the licence of every part of a recipe",
        description="The chain of licences of recipes: base model, adapter, encoders, and the tools that find and judge "
        "faces. With --commercial the face tools are dlib's, and the exit code is 2 if a named recipe is not allowed.",
    )
    licenses.add_argument("names", nargs="*", metavar="RECIPE", help="recipes (default: all)")
    licenses.add_argument("--commercial", action="store_true", help="say which recipes a business may use")
    licenses.add_argument("--json", action="store_true", help="one JSON object")
    licenses.set_defaults(run=_licenses)

    prune = actions.add_parser(
        "prune",
        help="remove what nothing needs any more",
        description="Remove broken-off downloads of ours, and folders of older versions from portrait's own cache. The "
        "models in huggingface_hub's cache are shared with other programs and left alone; see: hf cache --help",
    )
    prune.add_argument(
        "--all", action="store_true", help="also the folders and adapters in use; they can be built again"
    )
    prune.add_argument("--dry-run", action="store_true", help="only say what would go")
    prune.set_defaults(run=_prune)


def _parts(names: Sequence[str]) -> list[Part]:
    """The parts of the recipes and parts that are named, each once; all parts if no name is given.

    Says of a recipe without any, such as mini, that there is nothing to fetch.
    """
    from portrait.hub.files import mini_folder
    from portrait.hub.manifest import find_part, manifest
    from portrait.recipes.load import load_recipe, recipe_names

    recipes = recipe_names()
    wanted: dict[str, Part] = {}
    for name in names:
        if name not in recipes and not name.endswith(".toml"):
            wanted[name] = find_part(name, recipes)
            continue
        recipe = load_recipe(name)
        wanted |= {part: find_part(part) for part in recipe.part_names}
        if not recipe.part_names:
            where = "is shipped" if recipe.base == mini_folder() else f"is made of files in {recipe.base}"
            print(f"{name} {where}: nothing to fetch", file=sys.stderr)
    return list(wanted.values()) if names else list(manifest().values())


def _whole(part: Part) -> str:
    """The size of a part: with a + where that of a large file is not known, ? where it is all there is."""
    unknown = any(not file.bytes and file.path.endswith((".safetensors", ".bin")) for file in part.files)
    return "? " if unknown and part.size < 2**20 else _size(part.size) + ("+" if unknown else " ")


def _size(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**29 else f"{size / 2**20:.1f} MiB"


def _list(args: argparse.Namespace) -> int:
    from portrait.hub.store import status

    rows = [status(part) for part in _parts(args.names)]
    if args.json:
        found = {
            row.part.name: {
                "title": row.part.title,
                "origin": row.part.repo or row.part.archive,
                "revision": row.part.revision,
                "license": row.part.license,
                "commercial": row.part.commercial,
                "bytes": row.part.size,
                "files": len(row.part.files),
                "here": row.here,
                "unpinned": sum(not file.sha256 for file in row.part.files),
                "sources": {file.path: file.sources for file in row.part.files},
            }
            for row in rows
        }
        print(json.dumps(found))
        return 0
    width = max((len(row.part.name) for row in rows), default=0)
    for row in rows:
        here = "here" if row.complete else "no" if not row.here else f"{row.here} of {len(row.part.files)} files"
        print(
            f"{row.part.name:{width}}  {_whole(row.part):>11} commercial: {row.part.commercial:11}  "
            f"here: {here:14}  {row.part.title}"
        )
    return 0


def _fetch(args: argparse.Namespace) -> int:
    from portrait.hub.download import fetch
    from portrait.hub.store import status

    parts = _parts(args.names)
    try:
        with _bars(quiet=args.quiet) as report:
            fetch(parts, force=args.force, jobs=args.jobs, report=report)
    except KeyboardInterrupt:
        print("portrait: interrupted; what arrived is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    if not args.quiet:
        for part in parts:
            found = status(part)
            note = f"; {part.license}" + ("" if part.commercial == "yes" else f" (commercial use: {part.commercial})")
            print(f"{part.name}: {found.here} files, {_size(found.bytes)}, verified{note}")
    return 0


@contextmanager
def _bars(*, quiet: bool) -> Iterator[Report]:
    """A bar per file on stderr; returns what the downloads report to."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, Any] = {}
    lock = threading.Lock()
    with Progress(*columns, console=Console(stderr=True, quiet=quiet), transient=True, disable=quiet) as progress:

        def report(name: str, done: int, total: int) -> None:
            with lock:
                if name not in tasks:
                    tasks[name] = progress.add_task(name, total=total or None)
                progress.update(tasks[name], completed=done)

        yield report


def _verify(args: argparse.Namespace) -> int:
    from portrait.hub.store import status, verify_part

    parts = _parts(args.names)
    if not args.names:
        parts = [part for part in parts if status(part).here]
    results: dict[str, str] = {}
    worst = 0
    for part in parts:
        try:
            results[part.name] = f"{len(verify_part(part))} files as pinned"
        except PortraitError as error:
            results[part.name] = str(error)
            worst = max(worst, error.exit_code)
        if not args.json:
            print(f"{part.name}: {results[part.name]}", flush=True)
    if args.json:
        print(json.dumps({"ok": worst == 0, "parts": results}))
    elif not args.names and not parts:
        print("no public model is on this machine")
    return worst


def _path(args: argparse.Namespace) -> int:
    from portrait.hub.store import part_folder

    for part in _parts(args.names):
        print(part_folder(part))
    return 0


def _prune(args: argparse.Namespace) -> int:
    from portrait.hub.store import leftovers, prune

    parts = _parts([])
    found = leftovers(parts, everything=args.all) if args.dry_run else prune(parts, everything=args.all)
    for path in found:
        print(f"{'would remove' if args.dry_run else 'removed'} {path}")
    if not found:
        print("nothing to remove")
    return 0


def _licenses(args: argparse.Namespace) -> int:
    from portrait.recipes.licensing import license_chain, nearest_allowed, not_for_business
    from portrait.recipes.load import load_recipe, recipe_names

    found: dict[str, Any] = {}
    for name in args.names or recipe_names():
        recipe = load_recipe(name)
        refused = [link["part"] for link in not_for_business(recipe)]
        found[name] = {
            "allowed": not refused,
            "because_of": refused,
            "nearest_allowed": nearest_allowed(recipe) if refused else name,
            "licenses": license_chain(recipe, commercial=args.commercial),
        }
    allowed = all(entry["allowed"] for entry in found.values())
    if args.json:
        print(json.dumps(found))
    else:
        for name, entry in found.items():
            verdict = "allowed" if entry["allowed"] else f"not allowed because of {', '.join(entry['because_of'])}"
            nearest = entry["nearest_allowed"]
            hint = f"; nearest that is: {nearest}" if nearest and not entry["allowed"] else ""
            print(f"{name}: commercial use {verdict}{hint}")
            for link in entry["licenses"]:
                print(f"  {link['part']}: {link['license']}; commercial use: {link['commercial']}")
    return 2 if args.commercial and args.names and not allowed else 0
