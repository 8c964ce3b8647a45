"""`portrait replay` and `portrait explain`."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from portrait.cli.console import Commands
from portrait.errors import SettingsError
from portrait.settings import Settings

if TYPE_CHECKING:
    from portrait.images import Photo
    from portrait.records.portrait import PortraitRecord


def add(commands: Commands) -> None:
    """Add `replay` and `explain` to the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    replay = commands.add_parser(
        "replay",
        help="make the picture of a record again",
        description="Make the chosen picture of a record again and compare it pixel by pixel with the one recorded.",
        epilog="examples:\n  portrait replay out/anna-oil-1.json\n"
        "  portrait replay anna-oil-1.json --photo elsewhere/anna.jpg -o again.png",
        formatter_class=raw,
    )
    replay.add_argument("record", type=Path, metavar="RECORD.json")
    replay.add_argument("--photo", type=Path, help="the photo, if it lies elsewhere now")
    replay.add_argument(
        "--reference", type=Path, action="append", default=[], metavar="PHOTO", help="the same for each reference photo"
    )
    replay.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="where to write it (default: NAME-replay.png)"
    )
    replay.add_argument("--json", action="store_true", help="one JSON object")
    replay.set_defaults(run=_replay)

    explain = commands.add_parser(
        "explain",
        help="explain how a portrait was made",
        description="Say in sentences what a record holds: every attempt, what the judges said, what was changed and why.",
        epilog="example:\n  portrait explain out/anna-oil-1.json",
        formatter_class=raw,
    )
    explain.add_argument("record", type=Path, metavar="RECORD.json")
    explain.set_defaults(run=_explain)


def _replay(args: argparse.Namespace) -> int:
    from portrait.images import pixels_sha256, write_picture
    from portrait.loop.load import load_loop_for
    from portrait.loop.record import library_versions
    from portrait.records.portrait import read_portrait

    record = read_portrait(_read(args.record), args.record)
    record = record.model_copy(update={"settings": _with_moved_files(record, args.record)})
    photo = _same_photo(args.photo or _beside(args.record, record.input.path), record.input.sha256)
    references = record.input.references
    if args.reference and len(args.reference) != len(references):
        raise SettingsError(f"the record has {len(references)} reference photo(s), {len(args.reference)} were given")
    places = args.reference or [_beside(args.record, reference.path) for reference in references]
    more = [_same_photo(place, reference.sha256) for place, reference in zip(places, references, strict=True)]
    threads = min(max(record.threads, 1), 1024)
    stylizer = load_loop_for(replace(record.settings, threads=threads))
    changed = [name for name, digest in record.weights.items() if stylizer.digests.get(name) != digest]
    if changed:
        raise SettingsError(
            f"the weights are not those of the record, so the picture would be another: {', '.join(changed)}"
        )
    picture = stylizer.replay(record, photo, more)
    digest = pixels_sha256(picture)
    same = digest == record.picture.pixels_sha256
    output = args.output or args.record.with_name(f"{args.record.stem}-replay.png")
    write_picture(output, picture, parameters=record.parameters_text())
    if args.json:
        print(json.dumps({"identical": same, "output": str(output), "pixels_sha256": digest}))
    elif same:
        print(f"identical, pixel for pixel: {output}")
    else:
        now, then = library_versions(), record.versions
        other = ", ".join(f"{k} {then.get(k)} then, {v} now" for k, v in now.items() if then.get(k) != v)
        print(f"not identical ({other or 'same versions: another processor?'}): {output}")
    return 0 if same else 1


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from None


def _with_moved_files(record: PortraitRecord, file: Path) -> Settings:
    """The record's settings, with each mask and the background's file where they lie now."""
    masks = {Path(mask.path).name: _beside(file, mask.path).resolve() for mask in record.input.masks}

    def moved(keep: str) -> str:
        kind, _, path = keep.partition(":")
        name = Path(path).name
        return f"mask:{masks[name]}" if kind == "mask" and name in masks else keep

    background = record.settings.background
    if record.background is not None and record.background.sha256:
        background = str(_beside(file, background).resolve())
    keep = tuple(moved(keep) for keep in record.settings.keep)
    return replace(record.settings, keep=keep, background=background)


def _beside(record: Path, path: str) -> Path:
    """The photo where the record says, or else beside the record, under its own name."""
    place = Path(path)
    return place if place.exists() or not (record.parent / place.name).exists() else record.parent / place.name


def _same_photo(path: Path, sha256: str) -> Photo:
    from portrait.images import read_photo

    photo = read_photo(path)
    if photo.sha256 != sha256:
        raise SettingsError(
            f"{path} is not the photo of the record (SHA-256 {photo.sha256[:12]}..., not {sha256[:12]}...)"
        )
    return photo


def _explain(args: argparse.Namespace) -> int:
    from portrait.records.portrait import read_record
    from portrait.report.explain import explain

    print(explain(read_record(_read(args.record), args.record)))
    return 0
