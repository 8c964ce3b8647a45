"""`portrait replay` and `portrait explain`."""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portrait.cli.console import Commands, complain, say
from portrait.errors import PortraitError, SettingsError
from portrait.files import read_bytes, write_new
from portrait.paths import is_within
from portrait.settings import LOADING, RULES, Settings

if TYPE_CHECKING:
    from portrait.images import Photo
    from portrait.loop.attempt_loop import AttemptLoop
    from portrait.records.portrait import PortraitRecord


def add(commands: Commands) -> None:
    """Add `replay` and `explain` to the command line."""
    replay = commands.add_parser(
        "replay",
        help="make the pictures of records again",
        description="Make the chosen picture of each record again and compare it pixel by pixel with the recorded one. "
        "Files that a record names (photos, masks, recipes, models) are opened only beside the record, below the current "
        "folder, or below a folder of --files: the record may be somebody else's.",
        epilog="examples:\n  portrait replay out/anna-oil-1.json\n  portrait replay out/*.json -o again/\n"
        "  portrait replay out/*.json --files ~/photos\n"
        "  portrait replay anna-oil-1.json --photo elsewhere/anna.jpg -o again.png",
    )
    replay.add_argument("records", nargs="+", type=Path, metavar="RECORD.json")
    replay.add_argument("--photo", type=Path, help="the photo, if it has been moved (one record only)")
    replay.add_argument(
        "--reference", type=Path, action="append", default=[], metavar="PHOTO", help="the same for each reference photo"
    )
    replay.add_argument(
        "--files",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="a folder whose files, including subfolders, the records may name; may be given several times",
    )
    replay.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="PATH",
        help="where to write it: a file, or a folder for several records (default: NAME-replay.png beside the record)",
    )
    replay.add_argument("--json", action="store_true", help="one JSON object per record and line")
    replay.set_defaults(run=_replay)

    explain = commands.add_parser(
        "explain",
        help="explain how a portrait was made",
        description="Explain in sentences how a portrait was made: every attempt, what the judges said, what was changed and why.",
        epilog="example:\n  portrait explain out/anna-oil-1.json",
    )
    explain.add_argument("record", type=Path, metavar="RECORD.json")
    explain.add_argument("--verbose", action="store_true", help="show cosine similarities and their limits too")
    explain.set_defaults(run=_explain)


def _replay(args: argparse.Namespace) -> int:
    """Replay every record; one that cannot be replayed is reported in one line and does not stop the others."""
    if len(args.records) > 1 and (args.photo or args.reference):
        raise SettingsError("--photo and --reference need exactly one record")
    models = _Models()
    worst = 0
    for path in args.records:
        try:
            worst = max(worst, _replay_one(path, args, models))
        except PortraitError as error:
            complain(error)
            worst = max(worst, error.exit_code)
    return worst


class _Models:
    """The models of the last record, kept for later records made with the same ones."""

    def __init__(self) -> None:
        self._loaded: tuple[Settings, AttemptLoop] | None = None

    def load(self, settings: Settings) -> AttemptLoop:
        from portrait.loop.load import load_loop_for

        to_load = Settings(**{name: getattr(settings, name) for name in LOADING})
        if self._loaded is None or self._loaded[0] != to_load:
            self._loaded = None  # release the old models before loading new ones
            self._loaded = to_load, load_loop_for(to_load)
        return self._loaded[1]


def _replay_one(path: Path, args: argparse.Namespace, models: _Models) -> int:
    from portrait.images import kind_of, pixels_sha256
    from portrait.provenance.files import encode_portrait
    from portrait.records.portrait import read_portrait

    record = read_portrait(read_bytes(path), path)
    places = _Places(record=path, folders=(path.parent, Path.cwd(), *args.files))
    record = record.model_copy(update={"settings": _with_found_files(record, places)})
    photo = _same_photo(args.photo or places.find(record.input.path), record.input.sha256)
    references = _reference_photos(places, args.reference, record)
    threads = min(max(record.threads, 1), 1024)
    dtype = record.dtype if record.dtype in RULES["dtype"].choices else "auto"
    loop = models.load(replace(record.settings, threads=threads, dtype=dtype))
    changed = [name for name, digest in record.weights.items() if loop.digests.get(name) != digest]
    if changed:
        raise SettingsError(
            f"the weights differ from those of the record, so the picture would too: {', '.join(changed)}"
        )
    picture = loop.replay(record, photo, references)
    digest = pixels_sha256(picture)
    same = digest == record.picture.pixels_sha256
    output = _place_of_replay(path, args)
    output = write_new(output, encode_portrait(picture, kind_of(output), record))
    if args.json:
        result = {"identical": same, "record": str(path), "output": str(output), "pixels_sha256": digest}
        say(json.dumps(result))
    elif same:
        say(f"identical, pixel for pixel: {output}")
    else:
        say(f"not identical ({_other_versions(record) or 'same versions: another processor?'}): {output}")
    return 0 if same else 1


def _place_of_replay(record: Path, args: argparse.Namespace) -> Path:
    """The file given by -o, or NAME-replay.png in the folder given by -o, or else beside the record."""
    name = f"{record.stem}-replay.png"
    if args.output is None:
        return record.with_name(name)
    is_folder = len(args.records) > 1 or args.output.is_dir()
    return Path(args.output / name if is_folder else args.output)


def _reference_photos(places: _Places, files: list[Path], record: PortraitRecord) -> list[Photo]:
    references = record.input.references
    if files and len(files) != len(references):
        raise SettingsError(f"the record has {len(references)} reference photo(s), {len(files)} were given")
    paths = files or [places.find(reference.path) for reference in references]
    return [_same_photo(file, reference.sha256) for file, reference in zip(paths, references, strict=True)]


def _other_versions(record: PortraitRecord) -> str:
    from portrait.loop.record import library_versions

    then = record.versions
    return ", ".join(f"{k} {then.get(k)} then, {v} now" for k, v in library_versions().items() if then.get(k) != v)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Places:
    """The folders whose files a record may name; its own comes first."""

    record: Path
    folders: tuple[Path, ...]

    def find(self, path: str) -> Path:
        """Find a file that the record names: at its path, or beside the record under its own name.

        Raises:
            SettingsError: it is in none of the folders.
        """
        file = Path(path)
        beside = self.record.parent / file.name
        allowed = [place for place in (file, beside) if is_within(place, self.folders)]
        if existing := next((place for place in allowed if place.exists()), None):
            return existing
        if file not in allowed:
            raise SettingsError(
                f"{self.record} names {path[:200]!r}, which is neither beside it nor below the current folder; if it is "
                f"your record, add: --files {shlex.quote(str(file.parent))[:200]}"
            )
        return file


def _with_found_files(record: PortraitRecord, places: _Places) -> Settings:
    """The record's settings, with the current paths of all files that they name."""
    settings = record.settings
    masks = {Path(mask.path).name: mask.path for mask in record.input.masks}

    def found(keep: str) -> str:
        kind, _, path = keep.partition(":")
        return f"mask:{places.find(masks.get(Path(path).name, path)).resolve()}" if kind == "mask" else keep

    backdrop = settings.backdrop()
    return replace(
        settings,
        keep=tuple(map(found, settings.keep)),
        background=str(places.find(settings.background).resolve())
        if backdrop is not None and backdrop.file is not None
        else settings.background,
        **_found_models(settings, places),
    )


def _found_models(settings: Settings, places: _Places) -> dict[str, Any]:
    """The settings that name models, with paths replaced by found files; plain names stay."""
    from portrait.hub.manifest import manifest
    from portrait.recipes.load import recipe_names
    from portrait.recipes.override import parse_lora

    loras = ((places.find(file), weight) for file, weight in map(parse_lora, settings.lora))
    return {
        "recipe": settings.recipe if settings.recipe in recipe_names() else str(places.find(settings.recipe)),
        "base": settings.base if settings.base in ("", *manifest()) else str(places.find(settings.base)),
        "lora": tuple(f"{file}:{weight!r}" for file, weight in loras),
    }


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

    say(explain(read_record(read_bytes(args.record), args.record), verbose=args.verbose))
    return 0
