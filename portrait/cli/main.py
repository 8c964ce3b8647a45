"""The command line. The module of a command is imported when the command runs, so that --help answers at once."""

from __future__ import annotations

import argparse
import glob
import io
import logging
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from pkgutil import resolve_name
from shutil import get_terminal_size
from typing import Any, NoReturn

import portrait
from portrait.cli.parsers import calibrate, campaign, models, photos, portraits, records, studio
from portrait.cli.terminal import LogLines, complain, open_streams, printable, say
from portrait.errors import InputError, PortraitError

_EPILOG = """examples:
  portrait demo -o out/                                      the demo photo in every style
  portrait styles                                            the available styles
  portrait stylize anna.jpg --style watercolor -o out/
  portrait stylize anna.jpg --style all --balance 0.3        closer to the person
  portrait stylize team.jpg --face each --style comic        every face of a group photo
  portrait faces team.jpg --draw faces.png                   the detected faces and their indices
  portrait compare anna.jpg out/anna-oil-1.png --style oil   do the judges see the same person
  portrait replay out/anna-watercolor-1.json                 the same picture again, bit for bit
  portrait explain out/anna-watercolor-1.json                what was tried, and why
  portrait inspect out/anna-watercolor-1.png                 its AI mark, parameters and signature
  portrait calibrate --subjects people/                      curves and thresholds from your own people
  portrait watch incoming/ -o out/ --style comic             every photo that arrives in a folder
  portrait studio                                            the same as a web page on this computer
  portrait campaign run campaign.toml -o run                 many people, resumable
  portrait drift run --baseline last-month                   did identity drift: a report

exit codes: 0 done, 1 nothing accepted or failed, 2 invalid input, 3 drifted (portrait drift)
"""


class _Parser(argparse.ArgumentParser):
    """A parser with one-line errors, which keeps the lines of an epilog; subcommands use it too."""

    def __init__(self, *, description: str = "", epilog: str | None = None, **options: Any) -> None:  # noqa: ANN401 (argparse's)
        if epilog is not None:
            options["formatter_class"] = argparse.RawDescriptionHelpFormatter
            width = max(11, get_terminal_size().columns - 2)  # as argparse
            description = "\n\n".join(textwrap.fill(paragraph, width) for paragraph in description.split("\n\n"))
        super().__init__(description=description or None, epilog=epilog, **options)

    def error(self, message: str) -> NoReturn:
        """Print the error and where to find help, and exit with 2."""
        message = message.replace("the following arguments are required:", "missing")
        self.exit(2, f"{self.prog}: {printable(message)}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands.

    The `run` of a command, MODULE:FUNCTION in `portrait.cli`, takes the parsed arguments and returns the exit code.
    """
    parser = _Parser(
        prog="portrait",
        description="Turn a photo into a stylized portrait in which the same person is still recognized, "
        "checked by two face recognizers of different families.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"portrait {portrait.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    for group in (portraits, photos, records, calibrate, models, studio, campaign):
        group.add(commands)
    return parser


def log_to_stderr(*, verbose: bool, quiet: bool) -> None:
    """Print errors and, unless `quiet`, each of our own warnings once; with `verbose` also what we and libraries do."""
    min_level = logging.INFO if verbose else logging.ERROR
    warned: set[str] = set()

    def is_shown(record: logging.LogRecord) -> bool:
        if record.levelno >= min_level:
            return True
        if quiet or record.levelno < logging.WARNING or not record.name.startswith("portrait."):
            return False
        text = record.getMessage()
        is_new = text not in warned
        warned.add(text)
        return is_new

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogLines("%(message)s"))
    handler.addFilter(is_shown)
    logging.basicConfig(level=min(min_level, logging.WARNING), handlers=[handler])
    for library in ("PIL", "tifffile"):  # our own message about a damaged photo says enough
        logging.getLogger(library).setLevel(logging.CRITICAL)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code. Errors of portrait are printed in one line on stderr."""
    open_streams()
    for stream in (sys.stdout, sys.stderr):  # file names that the terminal cannot show must not stop the run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    args = build_parser().parse_args(argv)
    for files in {"photos", "records"} & vars(args).keys():
        setattr(args, files, [match for path in getattr(args, files) for match in _expanded(path)])
    log_to_stderr(verbose=getattr(args, "verbose", False), quiet=getattr(args, "quiet", False))
    try:
        return int(resolve_name(f"portrait.cli.{args.run}")(args))
    except PortraitError as error:
        complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        say("portrait: interrupted; finished pictures have been saved", error=True)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:  # a name that is too long for the file system, a disk that is gone
        if error.filename is None:
            raise
        return complain(InputError(f"cannot use {error.filename}: {error.strerror}"))


def _expanded(path: Path) -> list[Path]:
    """Expand patterns such as *.jpg, for shells that leave this to the program."""
    if os.path.exists(path) or not any(c in str(path) for c in "*?"):
        return [path]
    return [Path(match) for match in sorted(glob.glob(str(path)))] or [path]
