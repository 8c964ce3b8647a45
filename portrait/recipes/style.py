"""A style: a name, a title and the prompts that condition the model."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

from portrait.errors import SettingsError
from portrait.file_model import Entries, FileModel
from portrait.paths import MAX_NAME_BYTES, config_dir, is_file_name
from portrait.validation import parse_toml, read_text


class StyleEntry(FileModel):
    """A table of `styles.toml`, under the style's name.

    `prompt` is the few words that `mini` knows; `rich_prompt` is for models that read whole sentences. `instruction` is for
    models that edit photos by instruction; `recipes.instructions` has those of the shipped styles. `palettes` are the names
    that `mini` was trained on, appended to the prompt, as in "pop art portrait, turquoise".
    """

    title: str
    prompt: str
    rich_prompt: str = ""
    instruction: str = ""
    palettes: Entries[str] = ()


class Style(StyleEntry):
    """A style with its name."""

    name: str


def styles() -> dict[str, Style]:
    """All styles of `styles.toml`, by name, in the file's order; then those of the user's own `styles.toml`.

    The user's file is in the configuration folder and has the same format.

    Raises:
        SettingsError: a file cannot be read or is not TOML, or an entry is invalid.
    """
    shipped = _parse((resources.files("portrait.recipes") / "styles.toml").read_text("utf-8"), "styles.toml")
    file = config_dir() / "styles.toml"
    return shipped | _parse(read_text(file), str(file)) if file.is_file() else dict(shipped)


@lru_cache(maxsize=8)
def _parse(text: str, file: str) -> dict[str, Style]:
    table = parse_toml(text, file)
    for name in table:
        if not is_file_name(name):
            raise SettingsError(
                f"{file}: [{name[:200]!r}] must be a name that a file can have, of at most {MAX_NAME_BYTES} bytes"
            )
    entries = {name: StyleEntry.from_table(entry, f"{file}: [{name}]") for name, entry in table.items()}
    return {name: Style(name=name, **entry.model_dump()) for name, entry in entries.items()}
