"""`portrait weights`: list, fetch, verify, path, prune, licenses."""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from portrait.cli.licenses import print_licenses
from portrait.cli.signals import interrupted_by
from portrait.cli.terminal import say
from portrait.errors import PortraitError
from portrait.hub.download import fetch
from portrait.hub.files import mini_folder
from portrait.hub.manifest import GROUPS, Part, find_part, manifest
from portrait.hub.store import Status, leftovers, part_folder, prune, status, verify_part
from portrait.hub.stream import Report
from portrait.paths import format_size
from portrait.recipes.licensing import (
    FREE_TOOLS,
    NOT_OFFERED,
    commercial_recipes,
    license_chain,
    nearest_commercial_recipe,
    noncommercial_links,
)
from portrait.recipes.load import load_recipe, recipe_names
from portrait.records.portrait import LicenseLink


def _parts(names: Sequence[str]) -> list[Part]:
    """The given parts and those of the given recipes, each once; all parts if no name is given.

    Prints that there is nothing to fetch for a recipe without parts, such as mini.
    """
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


def list_parts(args: argparse.Namespace) -> int:
    """`portrait weights list`."""
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


def fetch_parts(args: argparse.Namespace) -> int:
    """`portrait weights fetch`."""
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


def verify_parts(args: argparse.Namespace) -> int:
    """`portrait weights verify`."""
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


def print_folders(args: argparse.Namespace) -> int:
    """`portrait weights path`."""
    for part in _parts(args.names):
        say(part_folder(part))
    return 0


def prune_cache(args: argparse.Namespace) -> int:
    """`portrait weights prune`."""
    parts = _parts([])
    paths = leftovers(parts, everything=args.all) if args.dry_run else prune(parts, everything=args.all)
    for path in paths:
        say(f"{'would remove' if args.dry_run else 'removed'} {path}")
    if not paths:
        say("nothing to remove")
    return 0


def list_licenses(args: argparse.Namespace) -> int:
    """`portrait weights licenses`."""
    names = args.names or recipe_names()
    verdicts = {name: _verdict(name, commercial=args.commercial) for name in names}
    if args.json:
        say(json.dumps({name: verdict.entry() for name, verdict in verdicts.items()}))
    else:
        for name, verdict in verdicts.items():
            say(f"{name}: commercial use {verdict.in_words()}")
            print_licenses(verdict.licenses)
        if not args.names:
            say("not offered as recipes, because of their licenses:")
            for model in NOT_OFFERED:
                say(f"  {model.name}: {model.license}; {model.reason}")
    allowed = all(verdict.allowed for verdict in verdicts.values())
    return 2 if args.commercial and args.names and not allowed else 0


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
        if self.allowed:
            free = all(link.commercial == "yes" for link in self.licenses)
            return "allowed" if free else f"allowed with --commercial: {FREE_TOOLS}"
        hint = f"; use instead: {', '.join(self.commercial_recipes)}" if self.commercial_recipes else ""
        return f"not allowed because of {', '.join(self.because_of)}{hint}"


def _verdict(name: str, *, commercial: bool) -> _Verdict:
    recipe = load_recipe(name)
    refused = [link.part for link in noncommercial_links(recipe)]
    return _Verdict(
        allowed=not refused,
        because_of=refused,
        nearest_commercial_recipe=nearest_commercial_recipe(recipe) if refused else name,
        commercial_recipes=commercial_recipes(recipe) if refused else [name],
        licenses=license_chain(recipe, commercial=commercial),
    )
