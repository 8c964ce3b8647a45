"""The inputs of an attempt: knobs, keeps and previews."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from portrait.errors import SettingsError
from portrait.records.arrays import RgbImage


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """The knobs of one attempt, under diffusers' names.

    `controlnet_conditioning_scale` in [0, 1] is how much of the source's structure the model sees: a
    ControlNet's scale if the recipe has one, the signal level of the source latents in `mini`.
    """

    strength: float
    guidance_scale: float
    ip_adapter_scale: float
    controlnet_conditioning_scale: float
    num_inference_steps: int

    @property
    def steps(self) -> int:
        """Denoising steps that run: `strength` times `num_inference_steps`, rounded down."""
        return int(self.num_inference_steps * self.strength)


@dataclass(frozen=True, slots=True)
class Keep:
    """One thing that must stay.

    `kind` is one of `KEEP_KINDS` (face is always kept, so it changes nothing), or region with `box` (x, y, width, height)
    in pixels of the photo, or mask with `file`, a picture of the photo's size that is white where the photo must stay.
    """

    kind: str
    box: tuple[int, int, int, int] | None = None
    file: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Keep:
        """Parse the text of `--keep`: face, pose, composition, colors, background, region:x,y,w,h or mask:FILE.

        Raises:
            SettingsError: it is none of these.
        """
        kind, _, rest = text.partition(":")
        if text in KEEP_KINDS:
            return cls(text)
        if kind == "mask" and rest:
            return cls(kind, file=Path(rest))
        if kind == "region" and (match := re.fullmatch(r"(\d{1,6}),(\d{1,6}),([1-9]\d{0,5}),([1-9]\d{0,5})", rest)):
            x, y, width, height = (int(v) for v in match.groups())
            return cls(kind, box=(x, y, width, height))
        raise SettingsError(
            f"keep {text!r} is not one of: {', '.join(KEEP_KINDS)}, region:x,y,width,height (pixels of the photo), mask:FILE"
        )

    @property
    def name(self) -> str:
        """As it was given, for records and reasons."""
        if self.box:
            return f"{self.kind}:{','.join(map(str, self.box))}"
        return f"{self.kind}:{self.file}" if self.file else self.kind


def parse_shift(text: str) -> tuple[float, float]:
    """Read what `--shift` was given: X,Y, in shares of the square's side, to the right and down.

    Raises:
        SettingsError: it is not two numbers from -1 to 1.
    """
    number = r"\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*"
    match = re.fullmatch(f"{number},{number}", text)
    x, y = (float(v) for v in match.groups()) if match else (2.0, 2.0)
    if max(abs(x), abs(y)) > 1:
        raise SettingsError(f"shift {text!r} is not X,Y: two numbers from -1 to 1, such as 0.1,-0.05")
    return x, y


KEEP_KINDS = ("face", "pose", "composition", "colors", "background")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Preview:
    """When to show unfinished pictures: `show(step, pictures)` is called after each of `steps`, counted from 1.

    `pictures` are the decoded estimates of the finished ones, (S, S, 3) uint8. Showing them does not change the result.
    """

    steps: tuple[int, ...]
    show: Callable[[int, list[RgbImage]], None]
