"""Cinematic, painted like a film's key frame: one key light with a soft shadow side, a rim light, a dark room in broad strokes."""

from __future__ import annotations

import numpy as np

from painters.common import channels, evenness, feature_lines, planes
from painters.palettes import palette
from painters.scene import SIZE, Scene, blur, from_lab, smoothstep, to_lab
from portrait.generate.families.mini.marks.layout import Marks, pack


def paint(scene: Scene, coarse: float, name: str = "amber", cells: int = 128) -> Marks:
    glow_color, room = (to_lab(c[None, None])[0, 0] for c in palette("cinematic", name))
    side = lit_side(scene)
    lab = to_lab(scene.simplified(0.1 + 0.5 * coarse))
    x = np.linspace(-1, 1, SIZE, dtype=np.float32)[None, :] * np.ones((SIZE, 1), np.float32)
    y = np.linspace(-1, 1, SIZE, dtype=np.float32)[:, None] * np.ones((1, SIZE), np.float32)
    center = scene.mesh.mean(0) / SIZE * 2 - 1
    across = (x - center[0]) * side / (2.0 * scene.span / SIZE)
    key = 1 / (1 + np.exp(-2.2 * (0.35 - across)))
    figure = smoothstep(scene.matte, 0.3, 0.7)
    middle = float(scene.skin_lab[0])
    lightness = middle + 1.12 * (lab[..., 0] - middle)
    lightness = lightness * (0.60 + 0.46 * key)
    inner = blur(figure, 5)
    rim = np.clip(figure * (1 - inner) * 2.6, 0, 1) * smoothstep(across, 0.1, 0.9) * smoothstep(-y, -0.75, 0.0)
    lightness = lightness + 34 * rim
    shadow = (1 - key)[..., None]
    color = lab.copy()
    color[..., 0] = np.clip(lightness, 2, 97)
    color[..., 1:] = lab[..., 1:] * 1.08 + shadow * 0.35 * room[1:] + (1 - shadow) * 0.14 * glow_color[1:]
    color[..., 1:] += 0.6 * rim[..., None] * glow_color[1:]
    glow = np.exp(-(((x + 0.55 * side) / 0.6) ** 2 + ((y + 0.35) / 0.6) ** 2))
    spread = 0.62 * glow[..., None]
    back = 0.10 * to_lab(scene.background(46)) + 0.90 * ((1 - spread) * room + spread * glow_color)
    back[..., 0] *= 0.9
    mixed = from_lab((color * figure[..., None] + back * (1 - figure[..., None])).astype(np.float32))
    face = blur(scene.face, 3)
    near = np.clip(blur(scene.features, 2), 0, 1)
    even, fairly_even = (evenness(mixed, reach * (1 + 0.7 * coarse)) for reach in (16.0, 7.0))
    inner = smoothstep(blur(scene.matte, 5), 0.7, 0.97)
    large = np.maximum(even * inner * (1 - face * (1 - 0.7 * coarse)), 1 - blur(figure, 10))
    middle = np.clip(0.9 * inner * (0.3 + 0.7 * fairly_even) - 0.7 * near * (1 - 0.6 * coarse), 0, 1)
    small = np.clip(1.2 * near + 0.9 * (1 - fairly_even) * figure + 0.6 * face * (1 - coarse), 0, 1)
    maps = {
        "paper": planes(np.clip(blur(mixed, 2.0), 0, 1)),
        "color": planes(mixed),
        "direction": scene.direction(7.0 + 4 * coarse),
        "stroke": np.stack([large, middle, small]),
        "line": 0.8 * feature_lines(scene, coarse),
        "detail": scene.detail(coarse),
    }
    values = {
        "bristle": 0.3 + 0.2 * coarse,
        "relief": 0.12 + 0.2 * coarse,
        "length": 0.5,
        "width": 0.05 + 0.6 * coarse,
        "line_dark": 0.62,
        "tooth": 0.7,
        **channels("ink", np.array([0.05, 0.04, 0.05], np.float32)),
    }
    return pack(maps, values, cells)


def lit_side(scene: Scene) -> float:
    """1 when the light on the face comes from the left of the picture, else -1: the key light follows the photo's."""
    columns = np.arange(SIZE, dtype=np.float32)[None, :] - scene.mesh[:, 0].mean()
    weights = scene.face * scene.lightness
    return (
        1.0
        if float((weights * columns).sum())
        <= float((scene.face * columns).sum() * scene.lightness[scene.face > 0.5].mean())
        else -1.0
    )
