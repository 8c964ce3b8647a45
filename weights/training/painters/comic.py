"""Comic: flat cels of local color, ink lines that swell, spot blacks, Ben-Day dots in the shadow and behind."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from painters.common import INK, channels, flat, freedom, planes
from painters.design import Mask
from painters.inking import contour, ink_lines, own_light, skin_area
from painters.likeness import Likeness
from painters.palettes import palette
from painters.scene import Scene, outline_map
from painters.tones import cuts
from portrait.generate.families.mini.marks.layout import Marks, pack
from portrait.generate.families.mini.sitter import (
    MOUTH_TOP,
    SIZE,
    UPPER_LIP,
    Picture,
    Plane,
    blur,
    from_lab,
    smoothstep,
    to_lab,
)

WHITE = np.array([97, 0, 2], np.float32)
"""CIELAB of whites of eyes, teeth and the shine on hair."""


def paint(scene: Scene, coarse: float, name: str = "blue", cells: int = 128) -> Marks:
    back, tint = palette("comic", name)
    likeness = Likeness(scene, coarse)
    area = skin_area(likeness)
    skin = blur(area.astype(np.float32), 1.0)
    base = local_colors(likeness, area)
    untinted = np.maximum(skin, 0.7 * blur(likeness.hair.astype(np.float32), 1.0))
    shadow = shaded(base, untinted, to_lab(tint[None, None])[0, 0], coarse)
    bright = base.copy()
    bright[..., 0] = np.minimum(base[..., 0] + 8 + 20 * (1 - skin), 97)
    bright[..., 1:] *= 0.5 + 0.5 * skin[..., None]
    near = np.clip(2 * np.maximum(blur(scene.openings, 3), blur(likeness.teeth.astype(np.float32), 3)), 0, 1)[..., None]
    bright = bright * (1 - near) + near * WHITE
    (shade,) = cuts(scene, shade_tone(likeness, area), (0.5,), coarse)
    shade = np.maximum(shade, outline_map(scene.polygon(UPPER_LIP + MOUTH_TOP[::-1])))
    white = np.maximum(scene.whites, likeness.teeth) > 0.5
    (gleam,) = cuts(scene, gleam_tone(likeness, area), (0.5,), coarse)
    gleam = np.maximum(gleam * (1 - scene.eyes), outline_map(white))
    (black,) = cuts(scene, black_tone(likeness, area, base), (0.5,), coarse)
    present = smoothstep(scene.matte, 0.4, 0.6)
    maps = {
        "paper": flat(back),
        "shape": np.stack([outline_map(scene.matte), shade, gleam, black]),
        "glaze": np.concatenate(
            [planes(from_lab(base)), planes(from_lab(shadow)), planes(from_lab(bright)), flat(INK)]
        ),
        "line": np.maximum(ink_lines(likeness), contour(likeness)),
        "dot": dots(scene, shade, black, coarse),
        "dot_color": planes(np.where(present[..., None] > 0.5, from_lab(deeper(shadow)), np.float32(0.98))),
        "detail": scene.detail(coarse),
    }
    values = {
        "cel": 1.0,
        "soft": 0.0,
        "wobble": 0.02 + 0.04 * coarse,
        "dot_pitch": 0.25 + 0.5 * coarse,
        "dot_dark": 0.8,
        "line_dark": 1.0,
        "line_rough": 0.03,
        **channels("ink", INK),
    }
    return pack(maps, values, cells)


def local_colors(likeness: Likeness, skin: Mask) -> Picture:
    """CIELAB of what things are colored like, light and shadow left out: one color for the skin, few for hair and cloth."""
    scene = likeness.scene
    side = 2 * round(0.05 * scene.span * (1 + likeness.coarse)) + 1
    eight_bit = np.round(np.clip(scene.simplified(0.5), 0, 1) * 255).astype(np.uint8)
    lab = to_lab(cv2.medianBlur(eight_bit, side).astype(np.float32) / np.float32(255))
    for region, count in ((likeness.hair, 2), (likeness.cloth, 3)):
        lab[region] = few_colors(lab[region], count)
    away = np.abs(lab - scene.skin_lab)
    shoulders = likeness.cloth & (np.hypot(away[..., 1], away[..., 2]) < 10) & (away[..., 0] < 20)
    # A colorist's colors: higher and clearer than the photo's.
    lab[..., 0] += 0.14 * (96 - lab[..., 0]) * np.clip(lab[..., 0] / 30, 0, 1)
    lab[..., 1:] *= 1.3 + 0.3 * likeness.coarse
    tone = clear(scene.skin_lab)
    lab[skin | shoulders] = tone
    if likeness.beard.any():
        lab[likeness.beard] = np.median(scene.lab[likeness.beard], 0)
    lips = scene.polygon_lips() > 0.5
    if lips.any():
        own = np.median(scene.lab[lips], 0)
        lab[lips] = [min(own[0], tone[0] - 6), max(1.2 * own[1], tone[1] + 14), 0.8 * tone[2]]
    lab[np.maximum(scene.openings, likeness.teeth) > 0.4] = WHITE
    iris = scene.discs(1.0) * scene.openings > 0.5
    if iris.any():
        lab[iris] = np.median(scene.bare_lab[iris], 0) * np.array([1.2, 1.8, 1.8], np.float32)
    return lab


def few_colors(colors: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Colors, (n, 3), each replaced by the nearest of a few (k-means, from a fixed start)."""
    if len(colors) < 50 * count:
        return colors
    order = np.argsort(np.argsort(colors[:, 0], kind="stable"), kind="stable")
    start = (order * count // len(colors)).astype(np.int32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 12, 0.1)
    _, labels, centers = cv2.kmeans(colors, count, start, stop, 1, cv2.KMEANS_USE_INITIAL_LABELS)
    return np.asarray(centers[labels.ravel()], np.float32)


def clear(skin: NDArray[np.float32]) -> NDArray[np.float32]:
    """A skin's color as a colorist mixes it: a little lighter, never muddy, never greenish or purple."""
    chroma = float(np.clip(1.1 * np.hypot(skin[1], skin[2]), 26, 38))
    hue = float(np.clip(np.arctan2(skin[2], skin[1]), np.radians(46), np.radians(62)))
    lightness = skin[0] + 0.12 * (96 - skin[0])
    return np.array([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], np.float32)


def shaded(base: Picture, untinted: Plane, tint: NDArray[np.float32], coarse: float) -> Picture:
    """The cels' colors in shadow: skin stays skin, cloth leans to the palette's tint.

    Args:
        base: (512, 512, 3) CIELAB.
        untinted: (512, 512) in [0, 1], 1 where a shadow has the color's own hue.
        tint: (3,) CIELAB.
        coarse: How bold, in [0, 1].
    """
    shadow = base.copy()
    shadow[..., 0] *= 0.76 - 0.02 * untinted
    share = ((0.2 + 0.25 * freedom(coarse)) * (1 - untinted))[..., None]
    shadow[..., 1:] = (1 - share) * base[..., 1:] * (1 + 0.12 * untinted[..., None]) + share * tint[1:]
    return shadow


def deeper(shadow: Picture) -> Picture:
    """The color of dots in a shadow."""
    dark = shadow.copy()
    dark[..., 0] *= 0.7
    return dark


def shade_tone(likeness: Likeness, skin: Mask) -> Plane:
    """Above 0.5 where a cel is in shadow: the face's own shadow side, the neck below the jaw, folds and strands."""
    scene, coarse = likeness.scene, likeness.coarse
    tone, low, _ = skin_tone(likeness)
    on_skin = 0.5 + 3 * (low - tone)
    simple = np.asarray(cv2.bilateralFilter(scene.light, -1, 0.10, 5 + 5 * coarse), np.float32)
    elsewhere = 0.5 + 2.5 * (blur(scene.light, 0.16 * scene.span) - 0.05 - blur(simple, 2 + 2 * coarse))
    return np.where(skin, on_skin, elsewhere).astype(np.float32)


def skin_tone(likeness: Likeness) -> tuple[Plane, float, float]:
    """Lightness of the skin in calm areas, and what of it is in shadow and in the light: below the one, above the other."""
    scene = likeness.scene
    tone = likeness.calm_within(own_light(scene), likeness.skin, 0.012 + 0.04 * likeness.coarse)
    tone = tone + 0.25 * likeness.form
    inside = likeness.face & likeness.skin
    values = tone[inside] if inside.any() else tone.ravel()
    low, middle, high = (float(q) for q in np.quantile(values, [0.28, 0.5, 0.72]))
    return tone, min(low, middle - 0.02), max(high, middle + 0.03)


def gleam_tone(likeness: Likeness, skin: Mask) -> Plane:
    """Above 0.5 where hair shines and skin turns to the light."""
    light = likeness.scene.light
    local = blur(light, 2.0) - blur(light, 0.16 * likeness.scene.span)
    tone, _, high = skin_tone(likeness)
    on_hair = np.where(likeness.hair, 0.44 + 3 * (local - 0.04), 0)
    return np.where(skin, 0.5 + 3 * (tone - high), on_hair).astype(np.float32)


def black_tone(likeness: Likeness, skin: Mask, base: Picture) -> Plane:
    """Above 0.5 where the ink is laid on flat: dark hair and what is nearly black."""
    hair = 0.28 - cv2.bilateralFilter(likeness.scene.light, -1, 0.10, 6)
    cloth = 0.28 - base[..., 0] / 100
    return np.where(skin, 0, 0.5 + 3 * np.where(likeness.hair, hair, cloth)).astype(np.float32)


def dots(scene: Scene, shade: Plane, black: Plane, coarse: float) -> Plane:
    """Ben-Day dots: a fade behind the figure, and a light screen in its shadows."""
    present = smoothstep(scene.matte, 0.4, 0.6)
    rows = np.linspace(1, 0, SIZE, dtype=np.float32)[:, None] * np.ones((1, SIZE), np.float32)
    behind = 0.5 * smoothstep(rows, 0.25, 1.1) * (1 - present)
    in_shade = present * smoothstep(shade, 0.55, 0.75) * (1 - smoothstep(black, 0.4, 0.6))
    return behind + 0.22 * (0.4 + 0.6 * coarse) * in_shade * (1 - np.clip(blur(scene.features, 2), 0, 1))
