"""What several commands take."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""The result of `add_subparsers`: commands are added with `add_parser`."""


Arguments: TypeAlias = "argparse._ActionsContainer"
"""A parser, or a group of its arguments."""


def add_switch(arguments: Arguments, flag: str, help: str) -> None:
    """Add a flag that takes no value: on if it is given."""
    arguments.add_argument(flag, action="store_true", help=help)


def add_path(arguments: Arguments, flag: str, metavar: str, help: str) -> None:
    """Add a flag that takes the path of a file or folder: None if it is not given."""
    arguments.add_argument(flag, type=Path, metavar=metavar, help=help)


def add_value(arguments: Arguments, flag: str, metavar: str, default: str | float, help: str) -> None:
    """Add a flag that takes a value of the default's type."""
    arguments.add_argument(flag, type=type(default), default=default, metavar=metavar, help=help)


def output_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of every command that makes portraits."""
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("out"), metavar="FOLDER", help="folder for the results (default: out)"
    )
    add_sign_flag(parser)
    add_switch(parser, "--json", "print one JSON record per picture and line, nothing else")
    add_switch(parser, "--quiet", "print errors only")
    add_switch(parser, "--verbose", "log what the loop does, and show cosine similarities")


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


def add_upright_flag(parser: argparse.ArgumentParser) -> None:
    """Add `--upright` to a command."""
    parser.add_argument(
        "--upright", choices=("auto", "off"), default="auto", help="auto turns photos whose faces are sideways"
    )
