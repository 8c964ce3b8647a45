"""A style: a name, a title and the prompt that conditions the model."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from portrait.errors import SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    name: str
    title: str
    prompt: str


@cache
def styles() -> dict[str, Style]:
    """Every style of `styles.toml`, by name, in the file's order.

    Raises:
        SettingsError: an entry lacks a title or a prompt.
    """
    table = tomllib.loads((resources.files("portrait.recipes") / "styles.toml").read_text("utf-8"))
    try:
        return {n: Style(name=n, title=v["title"], prompt=v["prompt"]) for n, v in table.items()}
    except KeyError as error:
        raise SettingsError(f"styles.toml: an entry lacks {error}") from None
