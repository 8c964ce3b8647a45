"""Low poly: flat facets, dense at the features, calm and large behind."""

from __future__ import annotations

import numpy as np

from painters.common import planes
from painters.palettes import palette
from painters.scene import SIZE, Scene, blur, from_lab, smoothstep, to_lab
from portrait.generate.families.mini.marks.layout import Marks, pack


def paint(scene: Scene, coarse: float, name: str = "blue", cells: int = 128) -> Marks:
    (back,) = palette("lowpoly", name)
    lab = to_lab(calm(scene, coarse))
    middle = float(scene.skin_lab[0])
    lab[..., 0] = np.clip(middle + 1.18 * (lab[..., 0] - middle), 3, 98)
    lab[..., 1:] *= 1.28
    behind = to_lab(scene.background(34))
    y = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None]
    behind = 0.3 * behind + 0.7 * to_lab(back[None, None])
    behind[..., 0] = np.clip(behind[..., 0] + 22 * (0.5 - y), 20, 94)
    figure = smoothstep(scene.matte, 0.35, 0.65)[..., None]
    color = from_lab((lab * figure + behind * (1 - figure)).astype(np.float32))
    edge = np.clip(4 * blur(figure[..., 0], 3) * (1 - blur(figure[..., 0], 3)), 0, 1)
    fine = np.clip(blur(scene.features, 0.04 * scene.span) * 1.3, 0, 1)
    density = np.maximum.reduce([fine, 0.62 * blur(scene.face, 4), 0.6 * edge, 0.36 * scene.matte])
    maps = {
        "paper": planes(blur(color, 6)),
        "color": planes(color),
        "facet": np.ones((SIZE, SIZE), np.float32),
        "detail": np.clip(density * (1.05 - 0.25 * coarse), 0, 1),
    }
    return pack(maps, {"facet_size": 0.1 + 0.5 * coarse}, cells)


def calm(scene: Scene, coarse: float) -> np.ndarray:
    """The photo with its fine texture gone, features kept."""
    wide = np.clip(blur(scene.features, 3), 0, 1)[..., None]
    return wide * blur(scene.photo, 0.8) + (1 - wide) * scene.simplified(0.3 + 0.5 * coarse)
