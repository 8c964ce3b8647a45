"""Woodcut: black and cream, cuts that follow the form and swell with the light, a cut border around the figure."""

from __future__ import annotations

import numpy as np

from painters.common import channels, drawn_tone, flat
from painters.palettes import palette
from painters.scene import SIZE, Scene, blur, smoothstep
from painters.tones import cuts, poster_tone
from portrait.generate.families.mini.marks.layout import Marks, pack

QUIET = 0.88
"""How much of the block stays behind the figure: a cut here and there."""


def paint(scene: Scene, coarse: float, name: str = "black", cells: int = 128) -> Marks:
    ink, sheet = palette("woodcut", name)
    tone = drawn_tone(scene, 0.3 + 0.7 * coarse, 0.18)
    present = smoothstep(scene.matte, 0.35, 0.65)
    darkness = np.clip(1.04 - 1.12 * tone, 0, 1)
    darkness = np.where(darkness < 0.16, darkness * 0.6, darkness)
    skin = blur(scene.skin, 2) * (1 - np.clip(blur(scene.features, 3), 0, 1))
    (shadow,) = cuts(scene, 1 - poster_tone(scene, 0.3 + 0.4 * coarse), (0.54,), coarse)
    darkness = darkness * (1 - skin) + skin * shadow  # no cuts on smooth skin but along the shadow
    darkness = darkness * (1 - 0.25 * np.clip(blur(scene.features, 2), 0, 1))
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE
    border = np.clip(4.4 * blur(present, 3.2) * (1 - blur(present, 3.2)) - 0.15, 0, 1)
    groove = darkness * present + (1 - present) * QUIET
    groove = groove * (1 - smoothstep(border, 0.35, 0.7))  # a cut along the figure parts dark hair from a dark ground
    lines = scene.ink_lines(0.5 + 0.5 * coarse, 1.05) * smoothstep(blur(scene.matte, 3), 0.75, 0.98)
    direction = scene.direction(6.0 + 3 * coarse)
    angle = np.arctan2(y - 0.45, x - 0.5)
    rays = np.stack([0.5 + 0.5 * np.cos(2 * angle), 0.5 + 0.5 * np.sin(2 * angle)]).astype(np.float32)
    maps = {
        "paper": flat(sheet),
        "groove": np.clip(groove, 0, 1),
        "direction": direction * present + rays * (1 - present),
        "line": lines,
        "detail": scene.detail(coarse),
    }
    values = {
        "groove_period": 0.1 + 0.6 * coarse,
        "line_dark": 1.0,
        "line_rough": 0.08,
        "tooth": 0.5,
        **channels("ink", ink),
    }
    return pack(maps, values, cells)
