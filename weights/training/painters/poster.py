"""Cut paper: four tones of the figure on a split background, crisp borders, the features in finer ones."""

from __future__ import annotations

import numpy as np

from painters.common import channels, flat
from painters.palettes import palette
from painters.scene import SIZE, Scene, outline_map
from painters.tones import cuts, poster_tone
from portrait.generate.families.mini.marks.layout import Marks, pack


def paint(scene: Scene, coarse: float, name: str = "red", cells: int = 128) -> Marks:
    dark, strong, middle, light = palette("poster", name)
    tone = poster_tone(scene, coarse)
    shapes = [outline_map(scene.matte), *cuts(scene, 1 - tone, (0.30, 0.54, 0.76), coarse)]
    columns = np.arange(SIZE)[None, :] < scene.mesh[:, 0].mean()
    paper = np.where(np.broadcast_to(columns, (SIZE, SIZE))[None], flat(strong), flat(middle)).astype(np.float32)
    maps = {
        "paper": paper,
        "shape": np.stack(shapes),
        "glaze": np.concatenate([flat(light), flat(middle), flat(strong), flat(dark)]),
        "detail": scene.detail(coarse),
    }
    values = {"soft": 0.01, "wobble": 0.01 + 0.05 * coarse, "tooth": 0.3, **channels("ink", dark)}
    return pack(maps, values, cells)
