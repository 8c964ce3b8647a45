"""Woodcut: black and cream, grooves that follow the form and swell with the light, a cut border around the figure."""

from __future__ import annotations

import cv2
import numpy as np

from painters.common import channels, flat
from painters.inking import ink_lines, own_light, skin_area
from painters.likeness import Likeness
from painters.palettes import palette
from painters.scene import Scene
from portrait.generate.families.mini.marks.layout import Marks, pack
from portrait.generate.families.mini.sitter import MOUTH_TOP, OVAL, SIZE, UPPER_LIP, Plane, blur, smoothstep

QUIET = 0.93
"""How much of the block stays behind the figure: hardly a cut."""


def paint(scene: Scene, coarse: float, name: str = "black", cells: int = 128) -> Marks:
    ink, sheet = palette("woodcut", name)
    likeness = Likeness(scene, coarse)
    present = smoothstep(scene.matte, 0.35, 0.65)
    tone = shading(likeness)
    groove = with_features(likeness, tone) * present + (1 - present) * QUIET
    maps = {
        "paper": flat(sheet),
        "groove": np.clip(groove * (1 - cut_border(scene, coarse)), 0, 1),
        "direction": form(likeness, tone),
        "line": ink_lines(likeness) * smoothstep(blur(scene.matte, 3), 0.75, 0.98),
        "detail": scene.detail(coarse),
    }
    values = {
        "groove_period": 0.25 + 0.7 * coarse,
        "line_dark": 1.0,
        "line_rough": 0.05,
        "tooth": 0.5,
        **channels("ink", ink),
    }
    return pack(maps, values, cells)


def shading(likeness: Likeness) -> Plane:
    """How much of the block is left standing: skin by the face's own light and shade, hair by strands, cloth by folds."""
    scene, coarse = likeness.scene, likeness.coarse
    own = own_light(scene)
    near = np.clip(1.5 * blur(scene.features, 0.03 * scene.span), 0, 1)
    relief = blur(own, 1.2 + 1.5 * coarse) - blur(own, 0.1 * scene.span)
    calm = likeness.calm_within(own, likeness.skin, 0.016 + 0.03 * coarse)
    tone = calm + 0.25 * likeness.form + (0.4 + 0.5 * near) * relief
    inside = likeness.face & likeness.skin
    values = tone[inside] if inside.any() else tone.ravel()
    # Of a dark face more is left standing.
    dark = float(np.interp(scene.skin_lab[0], [30, 65], [0.22, 0.05]))
    black, half, cream = np.quantile(values, [dark, dark + 0.2, dark + 0.5])
    on_skin = np.interp(tone, [black, half, cream], [0.95, 0.5, 0.0])
    on_skin = on_skin - 0.2 * scene.muzzle * (1 - scene.mouth) * ~likeness.beard  # no beard that is not there
    light = scene.light
    simple = np.asarray(cv2.bilateralFilter(light, -1, 0.10, 4 + 5 * coarse), np.float32)
    relief = blur(light, 1.5) - blur(light, 0.16 * scene.span)
    elsewhere = 1.08 - 1.15 * np.clip(blur(simple, 1.2) + 0.9 * relief, 0, 1)
    skin = blur(skin_area(likeness).astype(np.float32), 1.0)
    return (on_skin * skin + elsewhere * (1 - skin)).astype(np.float32)


def with_features(likeness: Likeness, tone: Plane) -> Plane:
    """The tone with bare places around eyes and mouth, so that they are read on any skin, and with lips."""
    scene = likeness.scene
    bare = np.maximum(scene.eyes * (1 - scene.brows), 0.6 * scene.mouth)
    tone = tone * (1 - 0.65 * np.clip(1.3 * bare, 0, 1))
    upper = scene.polygon(UPPER_LIP + MOUTH_TOP[::-1], soft=0.01)
    tone = np.maximum(tone, 0.9 * upper)
    white = np.clip(2 * np.maximum(blur(scene.openings, 1.5), likeness.teeth), 0, 1)
    tone = tone * (1 - white)
    return np.where(tone < 0.12, tone * 0.3, tone).astype(np.float32)


def cut_border(scene: Scene, coarse: float) -> Plane:
    """A cut along the figure, which parts dark hair from the dark block."""
    mask = (blur(scene.matte, 2.0) > 0.5).astype(np.uint8)
    beyond = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5)
    cut = np.clip((4 + 8 * coarse - beyond) / 4 + 0.5, 0, 1) * (1 - smoothstep(blur(scene.matte, 1.5), 0.5, 0.9))
    return blur(cut.astype(np.float32), 1.0)


def form(likeness: Likeness, tone: Plane) -> Plane:
    """The direction of the cuts, as `Scene.direction`: along light and shadow, strands, folds and the figure's outline.

    Where all is even they are hatching.
    """
    scene, coarse = likeness.scene, likeness.coarse
    smooth = blur(tone, 2 + 2 * coarse) * smoothstep(scene.matte, 0.3, 0.7) - blur(scene.matte, 10)
    gx = cv2.Scharr(smooth, cv2.CV_32F, 1, 0, scale=1 / 32)
    gy = cv2.Scharr(smooth, cv2.CV_32F, 0, 1, scale=1 / 32)
    products = (np.asarray(p, np.float32) for p in (gx * gx, gx * gy, gy * gy))
    xx, xy, yy = (blur(p, 6 + 4 * coarse) for p in products)
    even = 2e-5 + 2e-4 * np.clip(blur(scene.face, 5), 0, 1)
    energy = xx + yy + even
    c, s = hatching(likeness)
    # The tangent is at a right angle to the gradient, so the double angle turns around.
    along = [(even * c - (xx - yy)) / energy, (even * s - 2 * xy) / energy]
    return (0.5 + 0.5 * np.stack(along)).astype(np.float32)


def hatching(likeness: Likeness) -> tuple[Plane, Plane]:
    """Cosine and sine of twice the angle of strokes across the face, which rise to the right and bend around the form."""
    scene = likeness.scene
    rows, columns = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    down = likeness.down
    across = np.array([down[1], -down[0]], np.float32)
    middle = scene.mesh[OVAL].mean(0)
    u = ((columns - middle[0]) * across[0] + (rows - middle[1]) * across[1]) / scene.span
    angle = np.arctan2(across[1], across[0]) - np.pi / 4 + 0.35 * np.clip(u, -1.2, 1.2)
    return np.cos(2 * angle).astype(np.float32), np.sin(2 * angle).astype(np.float32)
