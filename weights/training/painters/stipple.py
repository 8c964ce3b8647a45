"""Stipple, the newspaper's hedcut: dots whose size is the tone, contour lines, a white background."""

from __future__ import annotations

import numpy as np

from painters.common import channels, drawn_tone, flat
from painters.palettes import palette
from painters.scene import Scene, blur
from portrait.generate.families.mini.marks.layout import Marks, pack


def paint(scene: Scene, coarse: float, name: str = "black", cells: int = 128) -> Marks:
    ink, sheet = palette("stipple", name)
    tone = drawn_tone(scene, 0.8 * coarse, 0.3)
    share = np.clip(1.0 - 1.08 * tone, 0, 1) ** 1.15 * scene.fade(0.66, 1.02)
    maps = {
        "paper": flat(sheet),
        "dot": np.clip(0.92 * share, 0, 1),
        "dot_color": flat(ink),
        "line": scene.ink_lines(0.2 + 0.5 * coarse)
        * (0.55 + 0.45 * np.clip(blur(scene.features, 3) * 1.2, 0, 1))
        * scene.fade(0.62, 0.85),
        "detail": scene.detail(coarse),
    }
    values = {
        "dot_pitch": 0.01 + 0.33 * coarse,
        "dot_jitter": 0.55,
        "dot_dark": 1.0,
        "line_dark": 0.95,
        "line_rough": 0.1,
        "tooth": 0.25,
        **channels("ink", ink),
    }
    return pack(maps, values, cells)
