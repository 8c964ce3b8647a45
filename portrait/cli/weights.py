"""`portrait weights`: list, fetch, verify, path, prune, licenses."""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from portrait.cli.console import Commands, interrupted_by, print_licenses, say
from portrait.errors import PortraitError
from portrait.paths import format_size

if TYPE_CHECKING:
    from rich.progress import TaskID

    from portrait.hub.manifest import Part
    from portrait.hub.store import Status
    from portrait.hub.stream import Report
    from portrait.records.portrait import LicenseLink

_EPILOG = """examples:
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
    """Add `weights` to the command line."""
    weights = commands.add_parser(
        "weights",
        help="list, fetch and verify public models",
        description="The public models that recipes use, pinned by revision and SHA-256, each with its license.",
        epilog=_EPILOG,
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
    listing.add_argument("--json", action="store_true", help="print one JSON object")
    listing.set_defaults(run=_list)

    fetch = actions.add_parser(
        "fetch",
        help="download and verify parts",
        description="Download parts and verify every byte before anything uses it. Files that are here already are only "
        "verified. Interrupted downloads are resumed by running the same command.",
    )
    _add_names(fetch, "+")
    fetch.add_argument(
        "--force", action="store_true", help="download files again even if they are here, as after a wrong hash"
    )
    fetch.add_argument("--jobs", type=int, default=4, metavar="N", help="files to download at once (default: 4)")
    fetch.add_argument("--quiet", action="store_true", help="print errors only")
    fetch.set_defaults(run=_fetch)

    verify = actions.add_parser(
        "verify",
        help="hash the files that are here",
        description="Hash files and compare them with their pins: those of the given recipes and parts, or all that are "
        "here. The exit code is 1 if a file differs; nothing is deleted.",
    )
    _add_names(verify, "*")
    verify.add_argument("--json", action="store_true", help="print one JSON object")
    verify.set_defaults(run=_verify)

    path = actions.add_parser(
        "path",
        help="print the folder of a part's verified files",
        description="Print, for each part, a folder that holds its verified files and nothing else, for other programs.",
    )
    _add_names(path, "+")
    path.set_defaults(run=_path)

    licenses = actions.add_parser(
        "licenses",
        help="print the license of every part of a recipe",
        description="Print the licenses of recipes: base model, adapter, encoders, and the tools that find and judge "
        "faces. With --commercial the face tools are YuNet, SFace and dlib, and the exit code is 2 if a named recipe is not licensed "
        "for commercial use.",
    )
    licenses.add_argument("names", nargs="*", metavar="RECIPE", help="recipes (default: all)")
    licenses.add_argument("--commercial", action="store_true", help="say which recipes are licensed for commercial use")
    licenses.add_argument("--json", action="store_true", help="print one JSON object")
    licenses.set_defaults(run=_licenses)

    prune = actions.add_parser(
        "prune",
        help="remove files that are no longer needed",
        description="Remove interrupted downloads, and files and folders of other versions, from portrait's own cache. "
        "huggingface_hub's cache is shared with other programs and left alone; see: hf cache --help",
    )
    prune.add_argument(
        "--all",
        action="store_true",
        help="remove the models and adapters in use too; they are downloaded again when fetched",
    )
    prune.add_argument("--dry-run", action="store_true", help="print what would be removed, and remove nothing")
    prune.set_defaults(run=_prune)


def _add_names(parser: argparse.ArgumentParser, nargs: str) -> None:
    parser.add_argument("names", nargs=nargs, metavar="NAME", help="a recipe, a part, or judges")


def _parts(names: Sequence[str]) -> list[Part]:
    """The given parts and those of the given recipes, each once; all parts if no name is given.

    Prints that there is nothing to fetch for a recipe without parts, such as mini.
    """
    from portrait.hub.files import mini_folder
    from portrait.hub.manifest import GROUPS, find_part, manifest
    from portrait.recipes.load import load_recipe, recipe_names

    recipes = recipe_names()
    parts: dict[str, Part] = {}
    for name in names:
        if name in GROUPS:
            parts |= {part: find_part(part) for part in GROUPS[name]}
            continue
        if name not in recipes and not name.endswith(".toml"):
            parts[name] = find_part(name, recipes)
            continue
        recipe = load_recipe(name)
        parts |= {part: find_part(part) for part in recipe.part_names}
        if not recipe.part_names:
            where = "is shipped" if recipe.base == mini_folder() else f"is made of files in {recipe.base}"
            say(f"{name} {where}: nothing to fetch", error=True)
    return list(parts.values()) if names else list(manifest().values())


def _part_size(part: Part) -> str:
    """The size of a part, followed by + where that of a large file is unknown; ? where no other is stated."""
    unknown = any(not file.bytes and file.path.endswith((".safetensors", ".bin")) for file in part.files)
    return "? " if unknown and part.size < 2**20 else format_size(part.size) + ("+" if unknown else " ")


def _part_entry(row: Status) -> dict[str, object]:
    part = row.part
    return {
        "title": part.title,
        "origin": part.repo or part.archive,
        "revision": part.revision,
        "license": part.license,
        "commercial": part.commercial,
        "bytes": part.size,
        "files": len(part.files),
        "here": row.here,
        "unpinned": sum(not file.sha256 for file in part.files),
        "sources": {file.path: file.sources for file in part.files},
    }


def _list(args: argparse.Namespace) -> int:
    from portrait.hub.store import status

    rows = [status(part) for part in _parts(args.names)]
    if args.json:
        say(json.dumps({row.part.name: _part_entry(row) for row in rows}))
        return 0
    width = max((len(row.part.name) for row in rows), default=0)
    for row in rows:
        presence = "here" if row.complete else "no" if not row.here else f"{row.here} of {len(row.part.files)} files"
        say(
            f"{row.part.name:{width}}  {_part_size(row.part):>11} commercial: {row.part.commercial:11}  "
            f"here: {presence:14}  {row.part.title}"
        )
    return 0


def _fetch(args: argparse.Namespace) -> int:
    from portrait.hub.download import fetch
    from portrait.hub.store import status

    parts = _parts(args.names)
    try:
        with interrupted_by("SIGTERM", "SIGHUP"), _bars(quiet=args.quiet) as report:
            fetch(parts, force=args.force, jobs=args.jobs, report=report)
    except KeyboardInterrupt:
        say("portrait: interrupted; run the same command again to resume the download", error=True)
        return 130
    if not args.quiet:
        for part in parts:
            size = format_size(status(part).bytes)
            note = "" if part.commercial == "yes" else f" (commercial use: {part.commercial})"
            say(f"{part.name}: {len(part.files)} files, {size}, verified; {part.license}{note}")
    return 0


@contextmanager
def _bars(*, quiet: bool) -> Iterator[Report]:
    """A progress bar per file on stderr; yields the function to which downloads report."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
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
    exit_code = 0
    for part in parts:
        try:
            results[part.name] = f"{len(verify_part(part))} files as pinned"
        except PortraitError as error:
            results[part.name] = str(error)
            exit_code = max(exit_code, error.exit_code)
        if not args.json:
            say(f"{part.name}: {results[part.name]}")
    if args.json:
        say(json.dumps({"ok": exit_code == 0, "parts": results}))
    elif not args.names and not parts:
        say("no public model is on this machine")
    return exit_code


def _path(args: argparse.Namespace) -> int:
    from portrait.hub.store import part_folder

    for part in _parts(args.names):
        say(part_folder(part))
    return 0


def _prune(args: argparse.Namespace) -> int:
    from portrait.hub.store import leftovers, prune

    parts = _parts([])
    paths = leftovers(parts, everything=args.all) if args.dry_run else prune(parts, everything=args.all)
    for path in paths:
        say(f"{'would remove' if args.dry_run else 'removed'} {path}")
    if not paths:
        say("nothing to remove")
    return 0


def _licenses(args: argparse.Namespace) -> int:
    from portrait.recipes.load import recipe_names

    names = args.names or recipe_names()
    verdicts = {name: _verdict(name, commercial=args.commercial) for name in names}
    if args.json:
        say(json.dumps({name: verdict.entry() for name, verdict in verdicts.items()}))
    else:
        for name, verdict in verdicts.items():
            say(f"{name}: commercial use {verdict.in_words()}")
            print_licenses(verdict.licenses)
        if not args.names:
            _print_not_offered()
    allowed = all(verdict.allowed for verdict in verdicts.values())
    return 2 if args.commercial and args.names and not allowed else 0


def _print_not_offered() -> None:
    from portrait.recipes.licensing import NOT_OFFERED

    say("not offered as recipes, because of their licenses:")
    for model in NOT_OFFERED:
        say(f"  {model.name}: {model.license}; {model.reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    """Whether a recipe is licensed for commercial use, the parts that prevent it, and similar recipes."""

    allowed: bool
    because_of: list[str]
    nearest_commercial_recipe: str | None
    commercial_recipes: list[str]
    licenses: list[LicenseLink]

    def entry(self) -> dict[str, object]:
        """What `--json` prints."""
        return asdict(self) | {"licenses": [link.model_dump() for link in self.licenses]}

    def in_words(self) -> str:
        from portrait.recipes.licensing import FREE_TOOLS

        if self.allowed:
            free = all(link.commercial == "yes" for link in self.licenses)
            return "allowed" if free else f"allowed with --commercial: {FREE_TOOLS}"
        hint = f"; use instead: {', '.join(self.commercial_recipes)}" if self.commercial_recipes else ""
        return f"not allowed because of {', '.join(self.because_of)}{hint}"


def _verdict(name: str, *, commercial: bool) -> _Verdict:
    from portrait.recipes.licensing import (
        commercial_recipes,
        license_chain,
        nearest_commercial_recipe,
        noncommercial_links,
    )
    from portrait.recipes.load import load_recipe

    recipe = load_recipe(name)
    refused = [link.part for link in noncommercial_links(recipe)]
    return _Verdict(
        allowed=not refused,
        because_of=refused,
        nearest_commercial_recipe=nearest_commercial_recipe(recipe) if refused else name,
        commercial_recipes=commercial_recipes(recipe) if refused else [name],
        licenses=license_chain(recipe, commercial=commercial),
    )
