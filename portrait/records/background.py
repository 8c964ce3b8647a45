"""The background to put behind the person, as given by `--background`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from portrait.errors import SettingsError

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

PLAIN_KINDS = ("keep", "paper", "blur", "transparent")


@dataclass(frozen=True, slots=True)
class Background:
    """One background.

    `kind` is keep (the photo's own), paper, blur (the picture's own, out of focus), transparent, color with one of
    `colors`, gradient with two (top, bottom), or picture with `file`. `value` is the text as given.
    """

    kind: str
    value: str
    colors: tuple[Color, ...] = ()
    file: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Background:
        """Parse the text of `--background`: keep, paper, blur, transparent, #rrggbb, gradient:A,B or a picture file.

        Raises:
            SettingsError: it is none of these.
        """
        if text in PLAIN_KINDS:
            return cls(text, text)
        if text.startswith("#"):
            return cls("color", text, (_color(text),))
        if text.startswith("gradient:"):
            ends = text.removeprefix("gradient:").split(",")
            if len(ends) != 2:
                raise SettingsError(f"background {text!r} needs two colors, such as gradient:#ffe0b0,#7090c0")
            return cls("gradient", text, (_color(ends[0]), _color(ends[1])))
        if Path(text).suffix:
            return cls("picture", text, file=Path(text))
        raise SettingsError(
            f"background {text!r} is not one of: {', '.join(PLAIN_KINDS)}, #rrggbb, gradient:A,B, or a picture file"
        )


def _color(text: str) -> Color:
    digits = re.fullmatch(r"#([0-9a-fA-F]{6})", text.strip())
    if digits is None:
        raise SettingsError(f"background color {text!r} is not #rrggbb, such as #30a0c0 (in a shell, in quotes)")
    red, green, blue = bytes.fromhex(digits[1])
    return red, green, blue
