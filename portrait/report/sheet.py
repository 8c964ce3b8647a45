"""Before/after strips and contact sheets, with a line of text under each picture."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from portrait.images import resized, thumbnail
from portrait.records import RgbImage

_MARGIN, _LINE = 12, 22
_PAPER, _INK, _GREEN, _RED = (250, 249, 246), (34, 34, 34), (24, 110, 60), (168, 40, 30)


def before_after(before: RgbImage, after: RgbImage) -> RgbImage:
    """Photo and picture side by side at the picture's height, (H, W1 + W2, 3); each at most 2048 px high and wide."""
    after = thumbnail(after, 2048)
    height = after.shape[0]
    left = resized(before, max(1, round(before.shape[1] * height / before.shape[0])), height)
    return RgbImage(np.concatenate([left, after], axis=1))


def contact_sheet(
    cells: Sequence[tuple[RgbImage, str, bool | None]], *, columns: int = 4, side: int = 320, footer: str = ""
) -> RgbImage:
    """A grid of pictures with a longer side of `side` pixels, with captions of at most two lines, and a wrapped `footer`.

    Each cell is (picture, caption, verdict); the caption is green for True, red for False, and in ink for None.
    """
    columns = max(1, min(columns, len(cells)))
    rows = -(-len(cells) // columns)
    cell_height = side + 2 * _LINE + _MARGIN
    width, font = columns * (side + _MARGIN) + _MARGIN, ImageFont.load_default(16)
    foot = textwrap.wrap(footer, max(20, int((width - 2 * _MARGIN) / font.getlength("n"))))
    end = rows * cell_height + _MARGIN
    sheet = Image.new("RGB", (width, end + len(foot) * _LINE), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for k, line in enumerate(foot):
        draw.text((_MARGIN, end - 3 + k * _LINE), line, font=font, fill=_INK)
    for n, (picture, caption, verdict) in enumerate(cells):
        x, y = _MARGIN + n % columns * (side + _MARGIN), _MARGIN + n // columns * cell_height
        scale = side / max(picture.shape[:2])
        small = resized(picture, max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        sheet.paste(Image.fromarray(small), (x + (side - small.shape[1]) // 2, y + (side - small.shape[0]) // 2))
        color = _INK if verdict is None else _GREEN if verdict else _RED
        for k, line in enumerate(caption.split("\n")[:2]):
            draw.text((x, y + side + 3 + k * _LINE), line, font=font, fill=color)
    return RgbImage(np.asarray(sheet))
