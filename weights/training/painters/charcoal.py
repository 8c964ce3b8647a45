"""Charcoal and white chalk on toned paper: smudged masses, strokes side by side, lights, edges that fade into the sheet."""

from __future__ import annotations

import numpy as np

from painters.common import channels, contours, drawn_tone, flat, strands
from painters.features import Features
from painters.palettes import palette
from painters.scene import Plane, Scene, blur, smoothstep
from portrait.generate.families.mini.marks.layout import Marks, pack

COAL = np.array([0.10, 0.095, 0.10], np.float32)


def paint(scene: Scene, coarse: float, name: str = "gray", cells: int = 128) -> Marks:
    (sheet,) = palette("charcoal", name)
    features = Features(scene)
    figure = smoothstep(blur(scene.matte, 2), 0.3, 0.75)
    fade = scene.fade(0.74, 1.02)
    shade = np.clip(1.0 - drawn_tone(scene, 0.1 + 0.7 * coarse, 0.5), 0, 1) * figure * fade
    skin = blur(scene.skin, 3) * (1 - scene.features)
    calm = 1 - 0.4 * np.maximum(scene.eyes, scene.mouth)
    # A draftsman spares the lights: only what lies in shadow is shaded, smudged first, then stroke beside stroke.
    smudge = blur(steps(shade, 0.16), 2 + 4 * coarse) * smoothstep(blur(scene.matte, 6), 0.1, 0.8)
    strokes = [np.clip((shade - limit) / span, 0, 1) * calm for limit, span in ((0.30, 0.5), (0.52, 0.4), (0.74, 0.3))]
    hair = strands(scene, 0.8 * shade) * fade
    lights = (
        smoothstep(scene.relative(blur(scene.lightness, 3.5 + 2 * coarse), 0.1), 0.86, 0.98)
        * skin
        * (1 - scene.below_eyes)
    )
    maps = {
        "paper": flat(sheet),
        "grain": np.clip(0.72 * smudge + 0.4 * shade * (1 - 0.3 * skin), 0, 0.86),
        "hatch": np.stack(strokes) * (hair == 0),
        "groove": hair,
        "direction": scene.direction(5.0),
        "line": np.maximum(contours(scene, 0.4 + 0.6 * coarse) * fade, features.ink(1.1 + 0.6 * coarse)),
        "light": np.maximum.reduce([0.9 * lights * (1 - scene.mouth), 0.42 * features.whites, 0.6 * features.teeth]),
        "detail": scene.detail(coarse),
    }
    values = {
        "grain_dark": 0.85,
        "grain_stroke": 0.35 + 0.65 * coarse,
        "width": coarse,
        "hatch_period": 0.15 + 0.75 * coarse,
        "hatch_dark": 0.4,
        "groove_period": 0.2 + 0.8 * coarse,
        "line_dark": 0.9,
        "line_rough": 0.55,
        "tooth": 0.5,
        **channels("ink", COAL),
        **channels("light", np.array([0.97, 0.96, 0.93], np.float32)),
    }
    return pack(maps, values, cells)


def steps(shade: Plane, width: float) -> Plane:
    """Shade in few values with soft borders, as a hand lays it: the first step is bare sheet."""
    level = shade / width
    whole = np.floor(level)
    return np.asarray(width * (whole + smoothstep(level - whole, 0.3, 0.7)), np.float32)
