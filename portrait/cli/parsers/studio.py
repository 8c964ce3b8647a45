"""`portrait studio`."""

from __future__ import annotations

from pathlib import Path

from portrait.cli.parsers.common import Commands, add_sign_flag, add_switch, add_value

_EPILOG = """examples:
  portrait studio                                          a page at http://127.0.0.1:7860, for this computer only
  portrait studio --recipe sd15-plus-face --port 8000
  PORTRAIT_STUDIO_AUTH=anna:secret portrait studio --host 0.0.0.0     for the local network, with a password

Photos and embeddings stay in memory, files for download in a temporary folder that is deleted at the end.
"""


def add(commands: Commands) -> None:
    """Add `studio` to the command line."""
    studio = commands.add_parser(
        "studio",
        help="make and adjust portraits in a local web page",
        description="Open a web page on this computer: drop a photo, pick a style, move one slider, keep what you like.",
        epilog=_EPILOG,
    )
    add_value(studio, "--host", "ADDRESS", "127.0.0.1", "address to listen on (default: 127.0.0.1)")
    studio.add_argument("--port", type=int, metavar="N", help="port (default: the first free one from 7860)")
    studio.add_argument(
        "--auth",
        metavar="NAME:PASSWORD",
        help="require a password; PORTRAIT_STUDIO_AUTH does the same without showing it in the list of processes",
    )
    studio.add_argument(
        "--runs",
        type=Path,
        default=Path("."),
        metavar="FOLDER",
        help="the folder with the runs whose reports the page shows (default: .)",
    )
    add_value(studio, "--recipe", "TEXT", "mini", "the recipe to start with (default: mini)")
    studio.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="as in stylize")
    studio.add_argument(
        "--memory", default="auto", choices=("auto", "full", "offload", "sequential"), help="as in stylize"
    )
    add_value(studio, "--threads", "N", 0, "CPU threads, 0 for all cores")
    add_switch(studio, "--commercial", "use only what is licensed for commercial use, as in stylize")
    add_switch(studio, "--no-metadata", "as in stylize, for the files for download")
    add_sign_flag(studio)
    studio.set_defaults(run="studio:open_studio")
