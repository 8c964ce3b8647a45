"""Pop art: four flat inks slightly out of register, dots only where tones meet, a loud background, several palettes."""

from __future__ import annotations

import numpy as np

from painters.common import channels, flat, planes
from painters.design import outline_maps
from painters.likeness import DARK, MIDDLE, STRONG, Likeness
from painters.palettes import palette
from painters.scene import Plane, Scene, blur, outline_map
from portrait.generate.families.mini.marks.layout import Marks, pack


def paint(scene: Scene, coarse: float, name: str = "pink", cells: int = 128) -> Marks:
    dark, strong, middle, light, back = palette("popart", name)
    likeness = Likeness(scene, coarse)
    levels = likeness.levels
    shapes = [outline_map(scene.matte), *outline_maps(levels, likeness.person)]
    # Lips have an ink of their own, the pink of the palette, whatever tone they are in.
    lips = blur(scene.polygon_lips(), 1.0)[..., None]
    second = planes((1 - lips) * middle + lips * strong)
    maps = {
        "paper": flat(back),
        "shape": np.stack(shapes),
        "glaze": np.concatenate([flat(light), second, flat(strong), flat(dark)]),
        "dot": 0.42 * meeting(likeness, coarse),
        "dot_color": np.where((levels >= MIDDLE)[None], flat(strong), flat(middle)).astype(np.float32),
        "line": likeness.ink,
        "detail": scene.detail(coarse),
    }
    values = {
        "soft": 0.02,
        "wobble": 0.02 + 0.08 * coarse,
        "shift": 0.10 + 0.28 * coarse,
        "dot_pitch": 0.25 + 0.45 * coarse,
        "dot_dark": 1.0,
        "line_dark": 1.0,
        "tooth": 0.25,
        **channels("ink", dark),
    }
    return pack(maps, values, cells)


def meeting(likeness: Likeness, coarse: float) -> Plane:
    """Where a lighter tone meets the next, on its side of the border, (512, 512) in [0, 1].

    On skin it follows the tone itself, so that the dots go on modeling the face; elsewhere it is a band along the border.
    """
    scene = likeness.scene
    reach = (0.03 + 0.05 * coarse) * scene.span
    _, strong, middle = likeness.limits
    dots = np.zeros_like(scene.matte)
    for level, limit in ((MIDDLE, middle), (STRONG, strong)):
        lighter = likeness.levels == level - 1
        near = np.exp(-np.square((likeness.skin_tone - limit - 0.02) / 0.05))
        darker = ((likeness.areas >= level) & (likeness.areas < DARK)).astype(np.float32)
        band = np.clip(2 * blur(darker, reach), 0, 1) * likeness.cloth
        dots = np.maximum(dots, lighter * np.where(likeness.skin, near, band))
    return np.asarray(dots * (1 - 0.8 * np.clip(1.3 * blur(scene.features, 2), 0, 1)), np.float32)
