"""Oil, alla prima: bristle strokes along the form, large to small, relief lit from the upper left, a muted broad ground."""

from __future__ import annotations

import numpy as np

from painters.common import channels, evenness, feature_lines, freedom, planes
from painters.palettes import palette
from painters.scene import SIZE, Scene, blur, from_lab, smoothstep, to_lab
from portrait.generate.families.mini.marks.fields import smooth_noise
from portrait.generate.families.mini.marks.layout import Marks, pack


def graded(scene: Scene, coarse: float, name: str) -> np.ndarray:
    """The colors of the strokes: a little more contrast and chroma than the photo, and a ground instead of the room."""
    simple = scene.simplified(0.15 + 0.6 * coarse)
    lab = to_lab(simple)
    middle = float(scene.skin_lab[0])
    free = freedom(coarse)
    lab[..., 0] = np.clip(middle + (1.10 + 0.25 * free) * (lab[..., 0] - middle), 3, 98)
    lab[..., 1:] *= 1.2
    ground, tint = (to_lab(c[None, None])[0, 0] for c in palette("oil", name))
    shadow = np.clip((middle - lab[..., 0]) / 35, 0, 1)[..., None]
    light = np.clip((lab[..., 0] - middle) / 22, 0, 1)[..., None]
    lab[..., 1:] += 0.45 * shadow * (tint[1:] - 0.5 * lab[..., 1:])
    # Boldly, the shadows are a clear tint, and the lights its opposite, warmer.
    hue = tint[1:] / max(float(np.hypot(*tint[1:])), 1)
    cold = 40 * hue
    warm = -16 * hue + np.array([10, 26], np.float32)
    lab[..., 1:] += free * (
        (0.2 + 0.8 * shadow) * (1 - light) * (cold - 0.75 * lab[..., 1:]) + light * (warm - 0.5 * lab[..., 1:])
    )
    mottled = smooth_noise(SIZE, np.random.default_rng(len(name)), 4, 3)
    behind = to_lab(scene.background(36))
    back = 0.30 * behind + 0.70 * ground
    x = np.linspace(0, 1, SIZE, dtype=np.float32)[None, :]
    back[..., 0] = np.clip(0.5 * back[..., 0] + 0.5 * ground[0] + 6 * mottled + 16 * (0.5 - x), 8, 80)
    back[..., 1:] += 3 * mottled[..., None]
    amount = smoothstep(scene.matte, 0.3, 0.7)[..., None]
    return from_lab((lab * amount + back * (1 - amount)).astype(np.float32))


def paint(scene: Scene, coarse: float, name: str = "umber", cells: int = 128) -> Marks:
    color = graded(scene, coarse, name)
    figure = smoothstep(scene.matte, 0.3, 0.7)
    face = blur(scene.face, 4)
    near = np.clip(blur(scene.features, 2), 0, 1)
    # Broad strokes where nothing changes, finer ones along every border, the finest at the features.
    even, fairly_even = (evenness(color, reach * (1 + 0.7 * coarse)) for reach in (16.0, 7.0))
    large = np.maximum(even * (1 - 0.9 * face * (1 - 0.5 * coarse)), 1 - blur(figure, 12))
    middle = np.clip(0.1 + 0.9 * figure * (0.35 + 0.65 * fairly_even) - 0.7 * near * (1 - 0.6 * coarse), 0, 1)
    small = np.clip(
        1.2 * near + 0.9 * (1 - fairly_even) * blur(figure, 3) + 0.45 * face * (1 - coarse) - 0.2 * coarse, 0, 1
    )
    maps = {
        "paper": planes(np.clip(blur(color, 4), 0, 1)),
        "color": planes(color),
        "direction": scene.direction(7.0 + 4 * coarse),
        "stroke": np.stack([large, middle, small]),
        "line": 0.8 * feature_lines(scene, coarse),
        "detail": scene.detail(coarse),
    }
    values = {
        "bristle": 0.45,
        "relief": 0.45,
        "length": 0.55,
        "width": 0.1 + 0.6 * coarse,
        "line_dark": 0.62,
        "line_rough": 0.25,
        "tooth": 0.2,
        **channels("ink", np.array([0.13, 0.07, 0.05], np.float32)),
    }
    return pack(maps, values, cells)
