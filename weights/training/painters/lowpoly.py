"""Low poly: flat facets along the planes of the form, eyes and mouth as few flat shapes, a calm polygon background."""

from __future__ import annotations

import numpy as np

from painters.common import channels, planes
from painters.features import Features
from painters.palettes import palette
from painters.scene import SIZE, Scene, blur, from_lab, smoothstep, to_lab
from portrait.generate.families.mini.marks.layout import Marks, pack


def paint(scene: Scene, coarse: float, name: str = "blue", cells: int = 128) -> Marks:
    (back,) = palette("lowpoly", name)
    features = Features(scene)
    figure = smoothstep(scene.matte, 0.35, 0.65)[..., None]
    lab = form(scene, coarse) * figure + ground(scene, back) * (1 - figure)
    color = from_lab(lab.astype(np.float32))
    edge = np.clip(4 * blur(figure[..., 0], 3) * (1 - blur(figure[..., 0], 3)), 0, 1)
    near = np.clip(blur(scene.features, 0.04 * scene.span) * 1.3, 0, 1)
    density = np.maximum.reduce(
        [0.92 * near, (0.78 - 0.14 * coarse) * blur(scene.face, 4), 0.5 * edge, 0.3 * scene.matte]
    )
    maps = {
        "paper": planes(blur(color, 6)),
        "color": planes(color),
        "facet": np.ones((SIZE, SIZE), np.float32),
        "detail": density,
        "line": features.ink(0.8 + 0.5 * coarse, over_paint=True),
        **features.painted(),
    }
    values = {
        "facet_size": 0.12 + 0.56 * coarse,
        "line_dark": 0.6,
        **channels("ink", np.array([0.10, 0.07, 0.07], np.float32)),
    }
    return pack(maps, values, cells)


def form(scene: Scene, coarse: float) -> np.ndarray:
    """CIELAB of the figure, its planes told apart: every turn of the form is lighter or darker, warmer or cooler than the next."""
    lab = to_lab(scene.simplified(0.3 + 0.5 * coarse))
    middle = float(scene.skin_lab[0])
    light = blur(lab[..., 0], 2)
    turn = np.clip(light - blur(light, 0.22 * scene.span), -18, 18)
    lab[..., 0] = np.clip(middle + 1.15 * (lab[..., 0] - middle) + 0.3 * turn, 3, 98)
    lab[..., 1:] = 1.25 * lab[..., 1:] + turn[..., None] * np.array([-0.12, 0.30], np.float32)
    return lab.astype(np.float32)


def ground(scene: Scene, back: np.ndarray) -> np.ndarray:
    """CIELAB of the background: the palette's color with a little of the room's, lighter above."""
    lab = 0.25 * to_lab(scene.background(34)) + 0.75 * to_lab(back[None, None])
    down = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None]
    lab[..., 0] = np.clip(lab[..., 0] + 22 * (0.5 - down), 20, 94)
    return lab.astype(np.float32)
