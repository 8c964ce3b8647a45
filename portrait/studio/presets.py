"""A look as a TOML file: what a visitor saves, loads again, and `portrait stylize --settings FILE` reads."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

from portrait.records.portrait import read_portrait
from portrait.settings import RULES, Settings, values_of, word_of
from portrait.studio.web_settings import WEB_SETTINGS, web_settings
from portrait.validation import parse_toml

_OF_A_PHOTO = ("region:", "mask:")


def preset_toml(settings: Settings) -> str:
    """The TOML of a look: the recipe, the style and everything that differs from the defaults, by the names of the flags.

    Settings for one photo or one computer (the face, regions, the file of a background) are left out, as a comment says.
    """
    portable, missing = _portable(settings)
    lines = ["# portrait stylize PHOTO --settings THIS_FILE, or the studio page"]
    lines += [f"# left out: {''.join(char if char.isprintable() else '?' for char in name)}" for name in missing]
    for setting in fields(Settings):
        name, value = setting.name, getattr(portable, setting.name)
        if name in WEB_SETTINGS and (value != setting.default or name in ("recipe", "style")):
            lines.append(f"{RULES[name].flag or name} = {_toml(word_of(name, value))}")
    return "\n".join(lines) + "\n"


def _portable(settings: Settings) -> tuple[Settings, list[str]]:
    """The settings that fit other photos and computers, and what was left out."""
    missing = [name for name in settings.keep if name.startswith(_OF_A_PHOTO)]
    portable = replace(settings, face="auto", keep=tuple(name for name in settings.keep if name not in missing))
    background = settings.backdrop()
    if background is not None and background.file is not None:
        portable = replace(portable, background="")
        missing.append(f"the background {background.file.name}")
    return portable, missing


def read_preset(text: str, base: Settings, backdrop: Path | None = None) -> Settings:
    """Apply the settings of a preset, of any TOML file for `portrait stylize --settings`, or of a picture's record to `base`.

    Raises:
        SettingsError: it is neither TOML nor a record, or as `web_settings`.
        WeightsMissingError: its recipe is not installed.
    """
    if text.lstrip().startswith("{"):
        record = read_portrait(text, "the preset")
        text = preset_toml(replace(record.settings, style=(record.style,), variants=1))
    return web_settings(base, values_of(parse_toml(text, "the preset"), "the preset"), backdrop)


def _toml(value: object) -> str:
    """A value as TOML: texts become basic strings, which have the same escapes as JSON."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
