"""Instructions for models that edit photos by instruction: the style's sentence, and how much of the photo stays."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

from portrait.file_model import Entries, FileModel
from portrait.recipes.style import Style
from portrait.validation import parse_toml


class Instructions(FileModel):
    """`instructions.toml`: `styles` maps a style to its sentence.

    `keep` are sentences along the dial, from most like the person to most stylized.
    """

    keep: Entries[str]
    styles: dict[str, str]


def instruction_for(style: Style, balance: float) -> str:
    """The instruction that draws a photo in a style.

    Args:
        style: Its own instruction is used, or else ours, or else its prompt.
        balance: In [0, 1]; the dial is divided evenly among the sentences that say how much must stay.
    """
    ours = _shipped()
    what = (
        style.instruction
        or ours.styles.get(style.name)
        or f"Redraw this photo as: {style.rich_prompt or style.prompt}."
    )
    return f"{what} {ours.keep[min(len(ours.keep) - 1, int(balance * len(ours.keep)))]}"


@lru_cache(maxsize=1)
def _shipped() -> Instructions:
    file = "instructions.toml"
    text = (resources.files("portrait.recipes") / file).read_text("utf-8")
    return Instructions.from_table(parse_toml(text, file), file)
