"""Read and parse text files that users write, and answer unknown names with the one that was probably meant."""

from __future__ import annotations

import codecs
import difflib
import tomllib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from portrait.errors import PortraitError, SettingsError, one_line
from portrait.paths import require_regular_file


def did_you_mean(name: str, choices: Iterable[str], form: str = "; did you mean {}?") -> str:
    """`form` filled with the choice closest to `name`; empty if none is close."""
    nearest = difflib.get_close_matches(name, [*choices], 1)
    return form.format(nearest[0]) if nearest else ""


def check_names(names: Iterable[str], where: str, choices: Collection[str], noun: str = "setting") -> None:
    """Refuse the first name that is not one of `choices`; `where` they come from and `noun` are for the message.

    Raises:
        SettingsError: a name is unknown; the message suggests the one that was probably meant.
    """
    for name in names:
        if name not in choices:
            raise SettingsError(f"{where}: unknown {noun} {name!r}{did_you_mean(name, choices)}")


def read_text(path: Path, name: str = "", kind: type[PortraitError] = SettingsError) -> str:
    """Read a UTF-8 file, with or without a byte order mark, or a UTF-16 file that has one, as Excel's Unicode text.

    Raises an error of class `kind`, which calls the file `name`, or else by its path.
    """
    try:
        require_regular_file(path)
        with path.open("rb") as file:
            is_utf_16 = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        return path.read_text("utf-16" if is_utf_16 else "utf-8-sig")
    except OSError as error:
        raise kind(f"cannot read {name or path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise kind(f"{name or path} is not UTF-8 text; save it as UTF-8 (in Excel: CSV UTF-8)") from None
    except ValueError:  # a zero byte
        raise kind(f"{str(path)!r} is not a valid file name") from None


def read_lines(path: Path, name: str = "") -> list[str]:
    """Read the lines of a list, stripped, without empty ones and comments (`#`); `name` as in `read_text`."""
    lines = [line.strip() for line in read_text(path, name).split("\n")]
    return [line for line in lines if line and not line.startswith("#")]


def parse_toml(text: str, name: str, kind: type[PortraitError] = SettingsError) -> dict[str, Any]:
    """Parse TOML text into a table; `name` and `kind` as in `read_text`."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError covers numbers with too many digits too
        raise kind(f"{name} is not TOML: {one_line(error)}") from None
