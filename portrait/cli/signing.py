"""`--sign CERT KEY`, the same for all commands that write pictures for others."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from portrait.errors import SettingsError

if TYPE_CHECKING:
    from portrait.provenance.credentials import Signer


def add_sign_flag(parser: argparse.ArgumentParser) -> None:
    """Add `--sign` to a command."""
    parser.add_argument(
        "--sign",
        nargs=2,
        type=Path,
        metavar=("CERT", "KEY"),
        help="sign each picture with Content Credentials (C2PA): a certificate chain and its private key, both PEM; includes "
        "digests of photo, recipe and weights, but no face and no path (needs the extra sign)",
    )


def signer_of(args: argparse.Namespace) -> Signer | None:
    """The tested signer given by `--sign`; None without it.

    Raises:
        SettingsError: it cannot sign, or `--no-metadata` was given too.
    """
    if args.sign is None:
        return None
    if getattr(args, "no_metadata", False):
        raise SettingsError("--sign and --no-metadata contradict each other: leave out one")
    from portrait.provenance.credentials import Signer

    return Signer.from_files(*args.sign)
