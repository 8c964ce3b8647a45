"""Charcoal and white chalk on toned paper: smudged masses, grainy strokes, lights, edges that fade into the sheet."""

from __future__ import annotations

import numpy as np

from painters.common import channels, drawn_tone, flat
from painters.palettes import palette
from painters.scene import Scene, blur, smoothstep
from portrait.generate.families.mini.marks.layout import Marks, pack

COAL = np.array([0.10, 0.095, 0.10], np.float32)


def paint(scene: Scene, coarse: float, name: str = "gray", cells: int = 128) -> Marks:
    (sheet,) = palette("charcoal", name)
    tone = drawn_tone(scene, 0.4 + 0.6 * coarse, 0.35)
    shade = np.clip(1.04 - tone, 0, 1) ** 1.15 * scene.fade(0.66, 1.0)
    shade = shade * smoothstep(blur(scene.matte, 2), 0.3, 0.75)
    # Hair is lifted out in strands instead of one black mass.
    strands = scene.lightness - blur(scene.lightness, 7)
    shade = np.minimum(shade, 1 - 0.30 * scene.hair) - scene.hair * np.clip(4.5 * strands, -0.2, 0.55)
    shade = np.minimum(np.clip(shade, 0, 1), 1 - 0.2 * blur(scene.skin, 3) * (1 - scene.features)).astype(np.float32)
    smudge = blur(shade, 5 + 7 * coarse) * smoothstep(blur(scene.matte, 6), 0.1, 0.8)
    line = (
        scene.ink_lines(0.4 + 0.6 * coarse, 1.05)
        * scene.fade(0.72, 0.98)
        * (0.85 + 0.15 * np.clip(blur(scene.features, 3) * 1.3, 0, 1))
    )
    lights = smoothstep(scene.relative(blur(scene.lightness, 3.5 + 2 * coarse), 0.1), 0.86, 0.97) * scene.skin
    maps = {
        "paper": flat(sheet),
        "grain": np.clip(0.62 * shade + 0.38 * smudge, 0, 1),
        "line": line,
        "light": 0.8 * lights * (1 - 0.4 * scene.mouth),
        "detail": scene.detail(coarse),
    }
    values = {
        "grain_dark": 0.92,
        "grain_stroke": 0.3 + 0.7 * coarse,
        "width": coarse,
        "line_dark": 0.85,
        "line_rough": 0.7,
        "tooth": 0.5,
        **channels("ink", COAL),
        **channels("light", np.array([0.97, 0.96, 0.93], np.float32)),
    }
    return pack(maps, values, cells)
