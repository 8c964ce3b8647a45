"""Pop art: four flat inks slightly out of register, dots only where tones meet, a loud background, several palettes."""

from __future__ import annotations

import numpy as np

from painters.common import channels, flat, planes
from painters.palettes import palette
from painters.scene import Scene, blur, outline_map, smoothstep
from painters.tones import cuts, poster_tone
from portrait.generate.families.mini.marks.layout import Marks, pack


def paint(scene: Scene, coarse: float, name: str = "pink", cells: int = 128) -> Marks:
    dark, strong, middle, light, back = palette("popart", name)
    tone = poster_tone(scene, coarse)
    present = smoothstep(scene.matte, 0.4, 0.6)
    darkness = (1 - tone) * present
    figure = outline_map(scene.matte)
    limits = (0.34, 0.58, 0.80)
    shapes = [figure, *cuts(scene, 1 - tone, limits, coarse)]
    lips = blur(scene.polygon_lips(), 1.0)[..., None]
    third = planes(np.ones((*tone.shape, 3), np.float32) * strong)
    second = planes((1 - lips) * middle + lips * strong)
    colors = [flat(light), second, third, flat(dark)]
    meet = np.maximum.reduce([np.exp(-(((darkness - limit + 0.055) / 0.045) ** 2)) for limit in limits[:2]])
    maps = {
        "paper": flat(back),
        "shape": np.stack(shapes),
        "glaze": np.concatenate(colors),
        "dot": 0.42 * meet * present * (1 - 0.8 * np.clip(blur(scene.features, 3), 0, 1)),
        "dot_color": np.where((darkness > 0.46)[None], flat(strong), flat(middle)).astype(np.float32),
        "line": 0.8 * scene.ink_lines(0.4 + 0.6 * coarse, 0.8) * np.clip(blur(scene.features, 4) * 1.4, 0, 1),
        "detail": scene.detail(coarse),
    }
    values = {
        "soft": 0.03,
        "wobble": 0.02 + 0.1 * coarse,
        "shift": 0.16 + 0.4 * coarse,
        "dot_pitch": 0.25 + 0.45 * coarse,
        "dot_dark": 1.0,
        "line_dark": 0.95,
        "tooth": 0.25,
        **channels("ink", dark),
    }
    return pack(maps, values, cells)
