"""`--sign CERT KEY`, the same for all commands that write pictures for others."""

from __future__ import annotations

import argparse

from portrait.errors import SettingsError
from portrait.provenance.credentials import Signer


def signer_of(args: argparse.Namespace) -> Signer | None:
    """The tested signer given by `--sign`; None without it.

    Raises:
        SettingsError: it cannot sign, or `--no-metadata` was given too.
    """
    if args.sign is None:
        return None
    if getattr(args, "no_metadata", False):
        raise SettingsError("--sign and --no-metadata contradict each other: leave out one")
    return Signer.from_files(*args.sign)
