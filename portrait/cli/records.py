"""`portrait replay` and `portrait explain`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portrait.errors import SettingsError
from portrait.settings import settings_from

if TYPE_CHECKING:
    from portrait.images import Photo
    from portrait.loop.stylizer import Stylizer


def add(commands: Any) -> None:
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
        help="tell the story of a record",
        description="Say in sentences what a record holds: every attempt, what the judges said, what was changed and why.",
        epilog="example:\n  portrait explain out/anna-oil-1.json",
        formatter_class=raw,
    )
    explain.add_argument("record", type=Path, metavar="RECORD.json")
    explain.set_defaults(run=_explain)


def _replay(args: argparse.Namespace) -> int:
    from portrait.images import pixels_sha256, write_picture
    from portrait.loop.stylizer import Stylizer, library_versions
    from portrait.records.parameters import parameters_text

    try:
        record = json.loads(args.record.read_text("utf-8"))
        source, wanted = record["input"], str(record["picture"]["pixels_sha256"])
        threads, digests = min(max(int(record["threads"]), 1), 1024), dict(record["weights"])
        settings = settings_from(dict(record["settings"]) | {"threads": threads})
        text, then = parameters_text(record), dict(record["versions"])
        photo = _same_photo(args.photo or _beside(args.record, source["path"]), str(source["sha256"]))
        known = list(source["references"])
        if args.reference and len(args.reference) != len(known):
            raise SettingsError(f"the record has {len(known)} reference photo(s), {len(args.reference)} were given")
        places = args.reference or [_beside(args.record, r["path"]) for r in known]
        more = [_same_photo(place, str(r["sha256"])) for place, r in zip(places, known, strict=True)]
        for mask in source.get("masks", []):  # where they lie now
            place = _beside(args.record, mask["path"]).resolve()
            record["settings"]["keep"] = [
                f"mask:{place}" if text.startswith("mask:") and Path(text[5:]).name == place.name else text
                for text in record["settings"]["keep"]
            ]
    except OSError as error:
        raise SettingsError(f"cannot read {args.record}: {error.strerror}") from None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise SettingsError(f"{args.record} is not a record of portrait: {str(error)[:200]!r}") from None
    stylizer: Stylizer = Stylizer.from_settings(settings)
    changed = [str(name) for name, digest in digests.items() if stylizer.digests.get(name) != digest]
    if changed:
        raise SettingsError(
            f"the weights are not those of the record, so the picture would be another: {', '.join(changed)}"
        )
    picture = stylizer.replay(record, photo, more)
    same = pixels_sha256(picture) == wanted
    output = args.output or args.record.with_name(f"{args.record.stem}-replay.png")
    write_picture(output, picture, parameters=text)
    if args.json:
        print(json.dumps({"identical": same, "output": str(output), "pixels_sha256": pixels_sha256(picture)}))
    elif same:
        print(f"identical, pixel for pixel: {output}")
    else:
        other = ", ".join(f"{k} {then.get(k)} then, {v} now" for k, v in library_versions().items() if then.get(k) != v)
        print(f"not identical ({other or 'same versions: another processor?'}): {output}")
    return 0 if same else 1


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
    from portrait.report.explain import explain

    try:
        record = json.loads(args.record.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read {args.record}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{args.record} is not a record of portrait: {str(error)[:200]!r}") from None
    print(explain(record))
    return 0
