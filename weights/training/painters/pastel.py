"""Pastel: broad dry strokes with the colored sheet between them, blended on the face, chalk lights."""

from __future__ import annotations

import numpy as np

from painters.common import channels, evenness, feature_lines, freedom, planes
from painters.features import Features
from painters.palettes import palette
from painters.scene import Scene, blur, from_lab, smoothstep, to_lab
from portrait.generate.families.mini.marks.layout import Marks, pack


def paint(scene: Scene, coarse: float, name: str = "rose", cells: int = 128) -> Marks:
    (sheet,) = palette("pastel", name)
    features = Features(scene)
    figure = smoothstep(scene.matte, 0.35, 0.65)
    fade = scene.fade(0.84, 1.04)
    color = from_lab(chalks(scene, coarse))
    rubbed = to_lab(sheet[None, None])
    rubbed[..., 0] += 9
    color = color * figure[..., None] + from_lab(rubbed) * (1 - figure[..., None])
    # Strokes begin well inside, the longer the farther: none crosses the outline of the head, a neckline or the hair.
    even, fairly_even = (evenness(color, reach * (1 + 0.7 * coarse)) for reach in (16.0, 7.0))
    inside = even * smoothstep(blur(scene.matte, 7), 0.80, 0.98) * fade
    face = np.clip(blur(scene.face, 5), 0, 1)
    near = np.clip(blur(scene.features, 2), 0, 1)
    large = np.clip((0.75 - 0.68 * face * (1 - 0.6 * coarse)) * inside, 0, 1)
    medium = (
        0.9
        * (0.3 + 0.7 * fairly_even)
        * smoothstep(blur(scene.matte, 3), 0.75, 0.97)
        * fade
        * (1 - 0.75 * near * (1 - 0.4 * coarse))
    )
    small = (
        np.clip(
            1.3 * near + 0.9 * (1 - fairly_even) * smoothstep(scene.matte, 0.6, 0.95) + 0.5 * face * (1 - coarse), 0, 1
        )
        * fade
    )
    # On the face the chalk is rubbed into the sheet.
    rub = 0.72 * face[..., None]
    lights = smoothstep(scene.relative(blur(scene.lightness, 1.8), 0.15), 0.90, 0.98) * scene.skin
    maps = {
        "paper": planes((sheet * (1 - rub) + rub * blur(color, 3)).astype(np.float32)),
        "color": planes(color),
        "direction": slanted(scene, coarse),
        "stroke": np.stack([large, medium, small]),
        "line": 0.8 * feature_lines(scene, coarse),
        "light": 0.7 * lights * (1 - scene.features),
        "detail": scene.detail(coarse),
        **features.painted(only_eyes=True),
    }
    values = {
        "dry": 0.42 + 0.12 * coarse,
        "bristle": 0.35,
        "length": 0.7,
        "width": 0.12 + 0.6 * coarse,
        "soft": 0.05,
        "line_dark": 0.55,
        "line_rough": 0.45,
        "tooth": 0.9,
        **channels("ink", np.array([0.17, 0.11, 0.14], np.float32)),
        **channels("light", np.array([0.98, 0.95, 0.92], np.float32)),
    }
    return pack(maps, values, cells)


def chalks(scene: Scene, coarse: float) -> np.ndarray:
    """CIELAB of the strokes on the figure: clearer than the photo, shadows toward violet, boldly more so."""
    lab = to_lab(scene.simplified(0.3 + 0.7 * coarse))
    middle = float(scene.skin_lab[0])
    lab[..., 0] = np.clip(middle + 1.12 * (lab[..., 0] - middle) + 3, 6, 98)
    shade = np.clip((middle - lab[..., 0]) / 30, 0, 1)[..., None]
    free = freedom(coarse)
    lab[..., 1:] = (1.3 + 0.3 * free) * lab[..., 1:] + (1 + free) * shade * np.array([3, -9], np.float32)
    return lab.astype(np.float32)


def slanted(scene: Scene, coarse: float) -> np.ndarray:
    """Directions of strokes, (2, 512, 512): along the form, and the more along the hand's own slant the flatter the form is."""
    slant = np.array([0.35, 0.94], np.float32)[:, None, None]  # cosine and sine of twice the angle
    form = 2 * (scene.direction(9.0 + 4 * coarse) - 0.5)
    return np.asarray(0.5 + 0.5 * np.clip(1.5 * form + 0.22 * slant, -1, 1), np.float32)
