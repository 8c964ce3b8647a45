"""Pen and ink: contour lines of varying weight, hatching in up to four directions by depth, white paper."""

from __future__ import annotations

import numpy as np

from painters.common import channels, contours, drawn_tone, flat, strands
from painters.features import Features
from painters.palettes import palette
from painters.scene import Scene
from portrait.generate.families.mini.marks.layout import Marks, pack


def paint(scene: Scene, coarse: float, name: str = "black", cells: int = 128) -> Marks:
    ink, sheet = palette("sketch", name)
    tone = drawn_tone(scene, 0.1 + 0.8 * coarse, 0.42)
    tone = 1 - (1 - tone) * scene.fade(0.70, 1.0)
    calm = 1 - 0.5 * scene.eyes - 0.3 * scene.mouth
    darkness = []
    for limit, span in ((0.68, 0.55), (0.46, 0.46), (0.27, 0.34), (0.10, 0.22)):
        darkness.append(np.clip((limit - tone) / span, 0, 1) * calm)
    hair = strands(scene, 0.9 * (1 - tone)) * scene.fade(0.76, 1.0)
    line = contours(scene, coarse) * (0.35 + 0.65 * scene.fade(0.8, 1.0))
    maps = {
        "paper": flat(sheet),
        "hatch": np.stack(darkness) * (hair == 0),
        "groove": hair,
        "direction": scene.direction(5.0),
        "line": np.maximum(line, Features(scene).ink(1.0 + 0.6 * coarse)),
        "detail": scene.detail(coarse),
    }
    values = {
        "hatch_period": 0.06 + 0.7 * coarse,
        "hatch_dark": 0.62 + 0.2 * coarse,
        "groove_period": 0.05 + 0.7 * coarse,
        "line_dark": 0.93,
        "line_rough": 0.25,
        "tooth": 0.35,
        **channels("ink", ink),
    }
    return pack(maps, values, cells)
