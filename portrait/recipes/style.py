"""A style: a name, a title and the prompts that condition the model."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

from portrait.errors import SettingsError
from portrait.paths import config_dir

_KEYS = {"title", "prompt", "rich_prompt"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """`prompt` are the few words that `mini` knows; `rich_prompt` is for models that read whole sentences."""

    name: str
    title: str
    prompt: str
    rich_prompt: str = ""


def styles() -> dict[str, Style]:
    """Every style of `styles.toml`, by name, in the file's order; then those of the user's own `styles.toml`.

    The user's file lies in the configuration folder and has the same form.

    Raises:
        SettingsError: a file is not TOML, or an entry lacks a title or a prompt.
    """
    own = config_dir() / "styles.toml"
    ours = _read((resources.files("portrait.recipes") / "styles.toml").read_text("utf-8"), "styles.toml")
    return ours | own_styles(own) if own.is_file() else dict(ours)


def own_styles(file: Path) -> dict[str, Style]:
    """The styles of a TOML file.

    Raises:
        SettingsError: it cannot be read, is not TOML, or an entry does not fit.
    """
    try:
        return _read(file.read_text("utf-8"), str(file))
    except OSError as error:
        raise SettingsError(f"cannot read styles {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{file} is not UTF-8 text") from None


@lru_cache(maxsize=8)
def _read(text: str, source: str) -> dict[str, Style]:
    try:
        table = tomllib.loads(text)
        if strange := [key for entry in table.values() for key in entry if key not in _KEYS]:
            raise SettingsError(f"{source}: unknown key {strange[0]!r}; known: {', '.join(sorted(_KEYS))}")
        return {n: Style(name=n, **{key: str(value) for key, value in v.items()}) for n, v in table.items()}
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{source} is not TOML: {error}") from None
    except (TypeError, AttributeError) as error:
        raise SettingsError(f"{source}: an entry needs title and prompt: {error}") from None
