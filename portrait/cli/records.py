"""`portrait replay` and `portrait explain`."""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from portrait.cli.terminal import complain, say
from portrait.errors import PortraitError, SettingsError
from portrait.files import read_bytes, write_new
from portrait.hub.manifest import manifest
from portrait.images import Photo, kind_of, pixels_sha256, read_photo
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.load import LatestLoop, load_loop
from portrait.loop.record import library_versions
from portrait.paths import is_within
from portrait.provenance.files import encode_portrait
from portrait.recipes.load import recipe_names
from portrait.recipes.override import parse_lora
from portrait.records.portrait import PortraitRecord, read_portrait, read_record
from portrait.report.explain import explain
from portrait.settings import LOADING, RULES, Settings


def replay_records(args: argparse.Namespace) -> int:
    """Replay every record; one that cannot be replayed is reported in one line and does not stop the others."""
    if len(args.records) > 1 and (args.photo or args.reference):
        raise SettingsError("--photo and --reference need exactly one record")
    models = LatestLoop(load_loop)
    worst = 0
    for path in args.records:
        try:
            worst = max(worst, _replay_one(path, args, models))
        except PortraitError as error:
            complain(error)
            worst = max(worst, error.exit_code)
    return worst


def _replay_one(path: Path, args: argparse.Namespace, models: LatestLoop) -> int:
    record = read_portrait(read_bytes(path), path)
    places = _Places(record=path, folders=(path.parent, Path.cwd(), *args.files))
    record = record.model_copy(update={"settings": _with_found_files(record, places)})
    photo = _same_photo(args.photo or places.find(record.input.path), record.input.sha256)
    references = _reference_photos(places, args.reference, record)
    threads = min(max(record.threads, 1), 1024)
    dtype = record.dtype if record.dtype in RULES["dtype"].choices else "auto"
    to_load = {name: getattr(record.settings, name) for name in LOADING} | {"threads": threads, "dtype": dtype}
    loop = models.get(Settings(**to_load))
    files = loop.digests | loop.generator.graphs
    changed = [name for name, digest in record.weights.items() if files.get(name) != digest]
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
        say(f"not identical ({_differences(record, loop) or 'same versions: another processor?'}): {output}")
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


def _differences(record: PortraitRecord, loop: AttemptLoop) -> str:
    """What the picture was made with then and is made with now, as far as it differs."""
    then = {"runtime": record.runtime, **record.versions}
    now = {"runtime": loop.generator.runtime, **library_versions()}
    return ", ".join(
        f"{name} {then[name]} then, {now[name]} now" for name in now if then.get(name, now[name]) != now[name]
    )


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
    loras = ((places.find(file), weight) for file, weight in map(parse_lora, settings.lora))
    return {
        "recipe": settings.recipe if settings.recipe in recipe_names() else str(places.find(settings.recipe)),
        "base": settings.base if settings.base in ("", *manifest()) else str(places.find(settings.base)),
        "lora": tuple(f"{file}:{weight!r}" for file, weight in loras),
    }


def _same_photo(path: Path, sha256: str) -> Photo:
    photo = read_photo(path)
    if photo.sha256 != sha256:
        raise SettingsError(
            f"{path} is not the photo of the record (SHA-256 {photo.sha256[:12]}..., not {sha256[:12]}...)"
        )
    return photo


def explain_record(args: argparse.Namespace) -> int:
    """`portrait explain`."""
    say(explain(read_record(read_bytes(args.record), args.record), verbose=args.verbose))
    return 0
