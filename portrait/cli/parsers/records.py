"""`portrait replay`, `portrait explain` and `portrait inspect`."""

from __future__ import annotations

from pathlib import Path

from portrait.cli.parsers.common import Commands, add_path, add_switch

_INSPECT = """examples:
  portrait inspect out/anna-oil-1.png
  portrait inspect download.jpg --json
  portrait inspect delivery/anna/oil.png --trust root.pem      the issuers of signers to trust

Works for pictures of any tool. A picture that says nothing proves nothing: metadata is easily lost.
exit codes: 0 read, 1 its Content Credentials are invalid, 2 not a picture
"""


def add(commands: Commands) -> None:
    """Add these commands to the command line."""
    _add_records(commands)
    _add_inspect(commands)


def _add_records(commands: Commands) -> None:
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
    add_switch(replay, "--json", "one JSON object per record and line")
    replay.set_defaults(run="records:replay_records")

    explain = commands.add_parser(
        "explain",
        help="explain how a portrait was made",
        description="Explain in sentences how a portrait was made: every attempt, what the judges said, what was changed and why.",
        epilog="example:\n  portrait explain out/anna-oil-1.json",
    )
    explain.add_argument("record", type=Path, metavar="RECORD.json")
    add_switch(explain, "--verbose", "show cosine similarities and their limits too")
    explain.set_defaults(run="records:explain_record")


def _add_inspect(commands: Commands) -> None:
    inspect = commands.add_parser(
        "inspect",
        help="show a picture's AI mark, parameters and signature",
        description="Show a picture's XMP, the parameters that generators write, and its Content Credentials (C2PA), which "
        "are verified. Nothing is fetched from the network.",
        epilog=_INSPECT,
    )
    inspect.add_argument("picture", type=Path, metavar="PICTURE", help="JPEG, PNG, WebP, TIFF, AVIF or HEIC")
    add_path(inspect, "--trust", "PEM", "certificates that are trusted to issue signers (default: none)")
    add_switch(inspect, "--json", "one JSON object")
    inspect.set_defaults(run="inspect:show_inspection")
