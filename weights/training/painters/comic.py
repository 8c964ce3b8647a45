"""Comic: flat cels in two or three tones, ink lines that swell, spot blacks, Ben-Day dots, a flat background."""

from __future__ import annotations

import numpy as np

from painters.common import INK, channels, flat, planes
from painters.palettes import palette
from painters.scene import SIZE, Scene, blur, from_lab, outline_map, smoothstep, to_lab, tone_outline
from portrait.generate.families.mini.marks.layout import Marks, pack


def paint(scene: Scene, coarse: float, name: str = "blue", cells: int = 128) -> Marks:
    back, tint = palette("comic", name)
    tint_lab = to_lab(tint[None, None])[0, 0]
    simple = scene.simplified(0.5 + 0.5 * coarse)
    lab = to_lab(simple)
    lightness = blur(lab[..., 0] / 100 + (scene.light - scene.lightness), 1.2 + 3.4 * coarse)
    tone = scene.relative(lightness, 0.25)
    wide = 2.5 + 4 * coarse
    inside = np.clip(scene.matte, 0.02, 1)
    base = np.dstack([blur(lab[..., c] * inside, wide) / blur(inside, wide) for c in range(3)])
    keep = np.clip(blur(scene.features, 2) * 1.2, 0, 1)[..., None]
    skin = blur(scene.skin, 2)[..., None] * (1 - keep)
    base = base * (1 - 0.9 * skin) + 0.9 * skin * scene.skin_lab
    base = base * (1 - keep) + keep * np.dstack([0.4 * base[..., 0] + 0.6 * lab[..., 0], lab[..., 1], lab[..., 2]])
    base[..., 1:] *= 1.32
    flat_color = from_lab(base.astype(np.float32))
    shadow = base.copy()
    shadow[..., 0] = base[..., 0] * 0.72
    shadow[..., 1:] = 0.62 * base[..., 1:] + 0.55 * tint_lab[1:]
    bright = base.copy()
    bright[..., 0] = np.minimum(base[..., 0] + 11, 98)
    figure = outline_map(scene.matte)
    present = smoothstep(scene.matte, 0.4, 0.6)
    shade = tone_outline((1 - tone) * present, 0.60)
    gleam = tone_outline(tone * present * np.clip(1 - scene.eyes, 0, 1), 0.86)
    gray = blur(scene.lightness, 1.6 + coarse)
    black = tone_outline((1 - gray) * present * (1 - 0.6 * scene.skin * (1 - scene.features)), 0.86)
    rows = np.linspace(1, 0, SIZE, dtype=np.float32)[:, None] * np.ones((1, SIZE), np.float32)
    dots = 0.55 * smoothstep(rows, 0.25, 1.1) * (1 - present)
    dot_color = np.ones((SIZE, SIZE, 3), np.float32) * 0.98
    in_shade = present * smoothstep(shade, 0.5, 0.7) * (1 - smoothstep(black, 0.4, 0.6)) * (1 - 0.9 * keep[..., 0])
    dots = dots + 0.28 * in_shade * (0.35 + 0.65 * coarse)
    darker = base.copy()
    darker[..., 0] *= 0.5
    dot_color = dot_color * (1 - present[..., None]) + from_lab(darker.astype(np.float32)) * present[..., None]
    maps = {
        "paper": flat(back),
        "shape": np.stack([figure, shade, gleam, black]),
        "glaze": np.concatenate(
            [
                planes(flat_color),
                planes(from_lab(shadow.astype(np.float32))),
                planes(from_lab(bright.astype(np.float32))),
                flat(INK),
            ]
        ),
        "line": scene.ink_lines(0.3 + 0.7 * coarse, 1.0) * (0.85 + 0.15 * coarse),
        "dot": dots,
        "dot_color": planes(dot_color),
        "detail": scene.detail(coarse),
    }
    values = {
        "soft": 0.03,
        "wobble": 0.03 + 0.08 * coarse,
        "dot_pitch": 0.25 + 0.6 * coarse,
        "dot_dark": 0.8,
        "line_dark": 1.0,
        "line_rough": 0.05,
        **channels("ink", INK),
    }
    return pack(maps, values, cells)
