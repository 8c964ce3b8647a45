"""Text files that a user writes: read, parsed, and their unknown names answered with the one that was meant."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from portrait.errors import PortraitError, SettingsError, one_line


def did_you_mean(name: str, choices: Iterable[str], form: str = "; did you mean {}?") -> str:
    """`form` with the choice that is nearest to `name`; empty where none is near."""
    nearest = difflib.get_close_matches(name, [*choices], 1)
    return form.format(nearest[0]) if nearest else ""


def check_names(
    names: Iterable[str], where: str, choices: Collection[str], noun: str = "setting", elsewhere: Mapping[str, str] = {}
) -> None:
    """Refuse the first name that is none of `choices`.

    Args:
        names: As they were given.
        where: They were given, for the message.
        choices: Names that exist.
        noun: What the names are of.
        elsewhere: Name that belongs somewhere else -> what to say of it, in place of a name that is near.

    Raises:
        SettingsError: names the unknown name and the one that was probably meant.
    """
    for name in names:
        if name not in choices:
            hint = f"; {elsewhere[name]}" if name in elsewhere else did_you_mean(name, choices)
            raise SettingsError(f"{where}: unknown {noun} {name!r}{hint}")


def read_text(path: Path, name: str = "", kind: type[PortraitError] = SettingsError) -> str:
    """The text of a UTF-8 file, with or without a byte order mark.

    Args:
        path: Of the file.
        name: What to call it in messages; its path if empty.
        kind: Class of the error that is raised.
    """
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise kind(f"cannot read {name or path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise kind(f"{name or path} is not UTF-8 text") from None
    except ValueError:  # a zero byte
        raise kind(f"{str(path)!r} is not a valid file name") from None


def parse_toml(text: str, name: str, kind: type[PortraitError] = SettingsError) -> dict[str, Any]:
    """The table of a TOML text; `name` and `kind` as in `read_text`."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of too many digits
        raise kind(f"{name} is not TOML: {one_line(error)}") from None
