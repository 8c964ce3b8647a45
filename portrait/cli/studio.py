"""`portrait studio`: the local web page."""

from __future__ import annotations

import argparse
import ipaddress
import os
from importlib.util import find_spec
from pathlib import Path

from portrait.cli.console import Commands, say
from portrait.cli.signing import add_sign_flag, signer_of
from portrait.errors import SettingsError
from portrait.settings import Settings

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
    studio.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: 127.0.0.1)"
    )
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
    studio.add_argument("--recipe", default="mini", metavar="TEXT", help="the recipe to start with (default: mini)")
    studio.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="as in stylize")
    studio.add_argument(
        "--memory", default="auto", choices=("auto", "full", "offload", "sequential"), help="as in stylize"
    )
    studio.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads, 0 for all cores")
    studio.add_argument(
        "--commercial", action="store_true", help="use only what is licensed for commercial use, as in stylize"
    )
    studio.add_argument("--no-metadata", action="store_true", help="as in stylize, for the files for download")
    add_sign_flag(studio)
    studio.set_defaults(run=_studio)


def _studio(args: argparse.Namespace) -> int:
    auth = credentials(args.auth or os.environ.get("PORTRAIT_STUDIO_AUTH", ""))
    local = is_loopback(args.host)
    if not local and auth is None:
        raise SettingsError(
            f"--host {args.host} lets other computers connect; set a password with --auth NAME:PASSWORD or PORTRAIT_STUDIO_AUTH"
        )
    if args.port is not None and not 1 <= args.port <= 65535:
        raise SettingsError(f"--port {args.port} is outside 1 to 65535")
    if not args.runs.is_dir():
        raise SettingsError(f"--runs {args.runs} is not a folder")
    settings = Settings(
        recipe=args.recipe,
        device=args.device,
        memory=args.memory,
        threads=args.threads,
        commercial=args.commercial,
        no_metadata=args.no_metadata,
    )
    if find_spec("gradio") is None:
        raise SettingsError("the studio needs gradio; run: pip install 'portrait-stylizer[studio]'")
    from portrait.studio.serve import serve

    return serve(
        settings,
        host=args.host,
        port=args.port,
        auth=auth,
        runs=args.runs,
        local=local,
        signer=signer_of(args),
        announce=say,
    )


def credentials(text: str) -> tuple[str, str] | None:
    """NAME:PASSWORD as a pair, None for nothing. Raises SettingsError for anything else."""
    if not text:
        return None
    name, colon, password = text.partition(":")
    if not (name and colon and password):
        raise SettingsError("--auth is not of the form NAME:PASSWORD")
    return name, password


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
