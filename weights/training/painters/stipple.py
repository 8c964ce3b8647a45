"""Stipple, the newspaper's hedcut: dots whose size is the tone, hair in strands, contour lines, a white background."""

from __future__ import annotations

import numpy as np

from painters.common import channels, contours, drawn_tone, flat, strands
from painters.features import Features
from painters.palettes import palette
from painters.scene import Scene
from portrait.generate.families.mini.marks.layout import Marks, pack


def paint(scene: Scene, coarse: float, name: str = "black", cells: int = 128) -> Marks:
    ink, sheet = palette("stipple", name)
    features = Features(scene)
    fade = scene.fade(0.80, 1.06)
    tone = drawn_tone(scene, 0.8 * coarse, 0.35)
    share = np.clip(1.0 - 1.05 * tone, 0, 1) ** 1.25
    hair = strands(scene, share) * fade
    dots = np.clip(0.95 * share, 0, 1) * fade * (hair == 0) * (1 - features.whites) * (1 - features.teeth)
    maps = {
        "paper": flat(sheet),
        "dot": dots,
        "dot_color": flat(ink),
        "groove": hair,
        "direction": scene.direction(5.0),
        "line": np.maximum(contours(scene, 0.2 + 0.5 * coarse) * (0.6 + 0.4 * fade), features.ink(1.0 + 0.6 * coarse)),
        "detail": scene.detail(coarse),
    }
    values = {
        "dot_pitch": 0.04 + 0.40 * coarse,
        "dot_jitter": 0.35,
        "dot_dark": 1.0,
        "groove_period": 0.1 + 0.8 * coarse,
        "line_dark": 0.97,
        "line_rough": 0.1,
        "tooth": 0.25,
        **channels("ink", ink),
    }
    return pack(maps, values, cells)
