"""Cut paper: four tones of the figure on a split background, crisp borders, the features in finer ones."""

from __future__ import annotations

import numpy as np

from painters.common import channels, feature_lines, flat
from painters.palettes import palette
from painters.scene import SIZE, Scene, outline_map
from painters.tones import cuts, poster_tone
from portrait.generate.families.mini.marks.layout import Marks, pack


def paint(scene: Scene, coarse: float, name: str = "red", cells: int = 128) -> Marks:
    dark, strong, middle, light = palette("poster", name)
    tone = poster_tone(scene, coarse)
    shapes = [outline_map(scene.matte), *cuts(scene, 1 - tone, (0.30, 0.54, 0.76), coarse)]
    ground = [
        0.65 * color + 0.35 * light for color in (strong, middle)
    ]  # printed lighter, so that no figure melts into it
    columns = np.arange(SIZE)[None, :] < scene.mesh[:, 0].mean()
    paper = np.where(np.broadcast_to(columns, (SIZE, SIZE))[None], flat(ground[0]), flat(ground[1])).astype(np.float32)
    maps = {
        "paper": paper,
        "shape": np.stack(shapes),
        "glaze": np.concatenate([flat(light), flat(middle), flat(strong), flat(dark)]),
        "line": feature_lines(scene, coarse),
        "detail": scene.detail(coarse),
    }
    values = {"line_dark": 1.0, "soft": 0.01, "wobble": 0.01 + 0.05 * coarse, "tooth": 0.3, **channels("ink", dark)}
    return pack(maps, values, cells)
