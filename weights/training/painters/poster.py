"""Cut paper: four tones of the figure on a split background, crisp borders, the features in finer ones."""

from __future__ import annotations

import numpy as np

from painters.common import channels, flat
from painters.design import outline_maps
from painters.likeness import Likeness
from painters.palettes import palette
from painters.scene import SIZE, Scene, outline_map
from portrait.generate.families.mini.marks.layout import Marks, pack


def paint(scene: Scene, coarse: float, name: str = "red", cells: int = 128) -> Marks:
    dark, strong, middle, light = palette("poster", name)
    likeness = Likeness(scene, coarse)
    shapes = [outline_map(scene.matte), *outline_maps(likeness.levels, likeness.person)]
    # Printed lighter, so that no figure melts into it.
    ground = [0.65 * color + 0.35 * light for color in (strong, middle)]
    left = np.arange(SIZE)[None, :] < scene.mesh[:, 0].mean()
    paper = np.where(np.broadcast_to(left, (SIZE, SIZE))[None], flat(ground[0]), flat(ground[1])).astype(np.float32)
    maps = {
        "paper": paper,
        "shape": np.stack(shapes),
        "glaze": np.concatenate([flat(light), flat(middle), flat(strong), flat(dark)]),
        "line": likeness.ink,
        "detail": scene.detail(coarse),
    }
    values = {"line_dark": 1.0, "soft": 0.01, "wobble": 0.01 + 0.05 * coarse, "tooth": 0.3, **channels("ink", dark)}
    return pack(maps, values, cells)
