"""Comic: flat cels in three tones, ink lines that swell, spot blacks, Ben-Day dots in the shadow and behind."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from painters.common import INK, channels, flat, freedom, planes
from painters.palettes import palette
from painters.scene import SIZE, Picture, Scene, blur, from_lab, outline_map, smoothstep, to_lab
from painters.tones import cuts, poster_tone
from portrait.generate.families.mini.marks.layout import Marks, pack


def paint(scene: Scene, coarse: float, name: str = "blue", cells: int = 128) -> Marks:
    back, tint = palette("comic", name)
    tint_lab = to_lab(tint[None, None])[0, 0]
    tone = poster_tone(scene, 0.15 + 0.6 * coarse)
    base = local_colors(scene, coarse)
    shadow = base.copy()
    shadow[..., 0] = base[..., 0] * 0.73
    free = freedom(coarse)
    # Skin stays skin up to the middle of the dial.
    share = (0.25 + 0.65 * free - 0.22 * (1 - free) * blur(scene.skin, 2))[..., None]
    shadow[..., 1:] = (1 - share) * base[..., 1:] + share * (1.1 + 0.5 * free) * tint_lab[1:]
    bright = base.copy()
    bright[..., 0] = np.minimum(base[..., 0] + 9 + 14 * free, 98)
    bright[..., 1:] = base[..., 1:] * (1 - 0.6 * free)
    keep = np.clip(blur(scene.features, 2) * 1.2, 0, 1)
    present = smoothstep(scene.matte, 0.4, 0.6)
    darkness = 1 - tone
    (shade,) = cuts(scene, darkness, (0.56 - 0.10 * free,), coarse)
    (gleam,) = cuts(
        scene, tone * (1 - scene.eyes) * (1 - 0.4 * (1 - free) * blur(scene.skin, 2)), (0.86 - 0.12 * free,), coarse
    )
    gray = blur(scene.light, 1.2 + coarse)
    bare = 1 - np.maximum(0.75 * scene.skin * (1 - keep), scene.openings)
    (black,) = cuts(scene, (1 - gray) * bare, (0.87,), coarse)
    rows = np.linspace(1, 0, SIZE, dtype=np.float32)[:, None] * np.ones((1, SIZE), np.float32)
    dots = 0.5 * smoothstep(rows, 0.25, 1.1) * (1 - present)
    in_shade = present * smoothstep(shade, 0.5, 0.7) * (1 - smoothstep(black, 0.4, 0.6)) * (1 - 0.9 * keep)
    dots = dots + 0.2 * in_shade * (0.3 + 0.7 * coarse)
    darker = base.copy()
    darker[..., 0] *= 0.45
    dot_color = np.where(present[..., None] > 0.5, from_lab(darker), np.float32(0.98))
    lines = scene.ink_lines(0.25 + 0.6 * coarse, 0.85)
    maps = {
        "paper": flat(back),
        "shape": np.stack([outline_map(scene.matte), shade, gleam, black]),
        "glaze": np.concatenate(
            [planes(from_lab(base)), planes(from_lab(shadow)), planes(from_lab(bright)), flat(INK)]
        ),
        "line": lines * (0.85 + 0.15 * coarse),
        "dot": dots,
        "dot_color": planes(dot_color),
        "detail": scene.detail(coarse),
    }
    values = {
        "cel": 1.0,
        "soft": 0.0,
        "wobble": 0.02 + 0.06 * coarse,
        "dot_pitch": 0.25 + 0.6 * coarse,
        "dot_dark": 0.8,
        "line_dark": 1.0,
        "line_rough": 0.05,
        **channels("ink", INK),
    }
    return pack(maps, values, cells)


def local_colors(scene: Scene, coarse: float) -> Picture:
    """CIELAB of what things are colored like, light and shadow left out: one color for the skin, few for hair and cloth."""
    eight_bit = np.round(np.clip(scene.simplified(0.5 + 0.5 * coarse), 0, 1) * 255).astype(np.uint8)
    lab = to_lab(cv2.medianBlur(eight_bit, 11 + 2 * int(5 * coarse)).astype(np.float32) / np.float32(255))
    # Light and shadow are cels of their own, so lightness is halfway to its surroundings', and higher than in the photo.
    lab[..., 0] = 0.45 * lab[..., 0] + 0.55 * blur(lab[..., 0], 12)
    fine = np.clip(blur(scene.features, 1.5) * 1.2, 0, 1)[..., None]
    off = np.hypot(*np.moveaxis(to_lab(blur(scene.photo, 2.0))[..., 1:] - scene.skin_lab[1:], -1, 0))
    below_brows = smoothstep(
        np.arange(SIZE, dtype=np.float32)[:, None] - scene.mesh[[107, 336], 1].mean(), 0, 0.3 * scene.span
    )
    alike = np.exp(-((off / (6 + 9 * below_brows)) ** 2))  # gray or fair hair is no skin, a neck in shadow is
    skin = np.maximum(blur(scene.face, 1.5), blur((scene.skin * alike).astype(np.float32), 3))[..., None]
    lips = blur(scene.polygon_lips(), 1.2)[..., None]
    detail = to_lab(blur(scene.photo, 1.0))
    lab = (lab * (1 - 0.95 * skin) + 0.95 * skin * clear(scene.skin_lab)).astype(np.float32)
    eyes = blur(scene.eyes, 1.0)[..., None]
    lab = lab * (1 - 0.8 * eyes * fine) + 0.8 * eyes * fine * detail
    openings = np.clip(2 * scene.openings, 0, 1)[..., None]
    lab = lab * (1 - openings) + openings * np.array([90, 1, 4], np.float32)
    red = np.concatenate([0.85 * lab[..., :1], detail[..., 1:] * 1.15], -1)
    lab = (lab * (1 - lips) + lips * red).astype(np.float32)
    lab = lab * (1 - scene.teeth[..., None]) + scene.teeth[..., None] * np.array([94, 0, 3], np.float32)
    lab[..., 0] += 0.16 * (96 - lab[..., 0]) * np.clip(lab[..., 0] / 30, 0, 1)
    lab[..., 1:] *= 1.35 + 0.25 * coarse
    return lab.astype(np.float32)


def clear(skin: NDArray[np.float32]) -> NDArray[np.float32]:
    """A skin's color as a colorist mixes it: as light, never muddy, never greenish."""
    red = max(float(skin[1]), 0.7 * float(skin[2]), 6.0)
    chroma = float(np.hypot(red, skin[2]))
    return np.array([skin[0], red, skin[2]], np.float32) * np.array([1, *[max(1.0, 24 / chroma)] * 2], np.float32)
