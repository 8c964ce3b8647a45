"""Pastel: broad dry strokes with the colored sheet between them, blended on the face, chalk lights."""

from __future__ import annotations

import numpy as np

from painters.common import channels, feature_lines, flat, freedom, planes
from painters.palettes import palette
from painters.scene import Scene, blur, from_lab, smoothstep, to_lab
from portrait.generate.families.mini.marks.layout import Marks, pack


def paint(scene: Scene, coarse: float, name: str = "rose", cells: int = 128) -> Marks:
    (sheet,) = palette("pastel", name)
    lab = to_lab(scene.simplified(0.3 + 0.7 * coarse))
    middle = float(scene.skin_lab[0])
    lab[..., 0] = np.clip(middle + 1.08 * (lab[..., 0] - middle) + 4, 4, 98)
    shade = np.clip((middle - lab[..., 0]) / 30, 0, 1)[..., None]
    lab[..., 1:] = (1.3 + 0.3 * freedom(coarse)) * lab[..., 1:] + (1 + freedom(coarse)) * shade * np.array(
        [3, -9], np.float32
    )
    color = from_lab(lab.astype(np.float32))
    figure = smoothstep(scene.matte, 0.35, 0.65)
    fade = scene.fade(0.66, 0.98)
    around = np.clip(blur(figure, 22) - 0.25, 0, 1) * (1 - figure)
    back = 0.1 * to_lab(scene.background(40)) + 0.9 * to_lab(sheet[None, None])
    back[..., 0] += 7
    color = color * figure[..., None] + from_lab(back.astype(np.float32)) * (1 - figure[..., None])
    inner = smoothstep(blur(scene.matte, 7), 0.75, 0.97)  # long strokes begin well inside, so that none crosses a skull
    large = np.clip(0.62 * inner * fade + 0.22 * around * (1 - inner), 0, 1)
    medium = np.clip(0.85 * smoothstep(blur(scene.matte, 3), 0.65, 0.95) * fade, 0, 1)
    edge = np.clip(4 * blur(figure, 2) * (1 - blur(figure, 2)), 0, 1) * figure
    small = (
        np.clip(
            1.7 * np.maximum.reduce([scene.detail(coarse), scene.features, 0.55 * edge]) - 0.25 - 0.2 * coarse, 0, 1
        )
        * fade
    )
    face = np.clip(blur(scene.face, 5), 0, 1)
    soft = color * face[..., None] + sheet * (1 - face[..., None])
    paper = sheet * (1 - 0.72 * face[..., None]) + 0.72 * face[..., None] * blur(soft, 2.0)
    lights = smoothstep(scene.relative(blur(scene.lightness, 1.8), 0.15), 0.88, 0.97) * scene.skin
    maps = {
        "paper": planes(paper.astype(np.float32)),
        "color": planes(color),
        "direction": 0.5
        + 0.5 * (scene.direction(6.0) - 0.5)
        + 0.5 * (flat(np.array([0.35, 0.1, 0.0], np.float32))[:2] - 0.5),
        "stroke": np.stack([large, medium, small]),
        "line": np.maximum(
            0.6 * scene.ink_lines(0.6 + 0.4 * coarse, 0.8) * np.clip(0.2 + blur(scene.features, 3) * 1.2, 0, 1),
            feature_lines(scene, coarse),
        )
        * fade,
        "light": 0.75 * lights,
        "detail": scene.detail(coarse),
    }
    values = {
        "dry": 0.42 + 0.12 * coarse,
        "bristle": 0.3,
        "length": 0.75,
        "width": 0.15 + 0.55 * coarse,
        "line_dark": 0.6,
        "line_rough": 0.5,
        "tooth": 0.9,
        **channels("ink", np.array([0.24, 0.17, 0.22], np.float32)),
        **channels("light", np.array([0.98, 0.95, 0.92], np.float32)),
    }
    return pack(maps, values, cells)
