"""`portrait studio`: the local web page."""

from __future__ import annotations

import argparse
import ipaddress
import os
from importlib.util import find_spec

from portrait.cli.signing import signer_of
from portrait.cli.terminal import say
from portrait.errors import SettingsError
from portrait.settings import Settings


def open_studio(args: argparse.Namespace) -> int:
    """`portrait studio`."""
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
