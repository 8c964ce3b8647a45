"""Watercolor: four transparent glazes with wet edges and granulation, paper left for the lights, a loose wash behind."""

from __future__ import annotations

import numpy as np

from painters.common import channels, freedom, planes
from painters.palettes import palette
from painters.scene import SIZE, Plane, Scene, blur, from_lab, outline_map, smoothstep, to_lab, tone_outline
from painters.tones import cuts, without_small
from portrait.generate.families.mini.marks.fields import smooth_noise
from portrait.generate.families.mini.marks.layout import Marks, pack

PAPER = np.array([0.985, 0.98, 0.96], np.float32)


def paint(scene: Scene, coarse: float, name: str = "warm", cells: int = 128) -> Marks:
    behind, shade = (to_lab(c[None, None])[0, 0] for c in palette("watercolor", name))
    rng = np.random.default_rng(len(name))
    simple = scene.simplified(0.25 + 0.75 * coarse)
    lab = to_lab(simple)
    lightness = blur(lab[..., 0] / 100 + (scene.light - scene.lightness), 0.9 + 3.6 * coarse)
    tone = scene.relative(lightness, 0.35)
    # Pigment: the local hue, clearer than in the photo, at a lightness that layers can darken.
    hue = lab.copy()
    hue[..., 0] = np.clip(52 + 0.32 * lab[..., 0], 0, 96)
    chroma = np.hypot(hue[..., 1], hue[..., 2])
    hue[..., 1:] *= (1 + 0.2 * coarse) * (np.minimum(1.35, 1 + 10 / (chroma + 12)) * np.clip(chroma / 6, 0.4, 1))[
        ..., None
    ]
    pigment = np.clip(from_lab(np.dstack([hue[..., 0], blur(hue[..., 1], 2), blur(hue[..., 2], 2)])), 0.03, 1)
    present = smoothstep(blur(scene.matte, 1.5), 0.35, 0.65) * scene.fade(0.80, 1.02)
    darkness = (1 - tone) * present
    darkness = np.maximum(darkness, (0.9 - 0.2 * coarse) * blur(scene.feature_ink, 0.8 + 1.2 * coarse) * present) * (
        1 - 0.9 * scene.whites
    )
    shapes = []
    colors = []
    absolute = np.clip(1 - lightness, 0.05, 1)
    free = freedom(coarse)
    skin = blur(scene.skin, 2)
    glazes = ((0.10, 0.55, behind), (0.36, 0.5, behind), (0.56, 0.7, shade), (0.76, 0.95, shade))
    for limit, share, tint in glazes:
        # Bold is more bare paper, and deeper washes where there are any.
        limit_here = limit + 0.16 * free * (0.8 - limit)
        shapes.append(
            wash_outline(scene, darkness, limit_here, coarse)
            if limit > 0.2
            else base_wash(scene, darkness, limit_here, coarse)
        )
        strength = share * (0.45 + 0.95 * absolute) * (1 + 0.25 * free) * (0.35 + 0.65 * scene.fade(0.70, 1.0))
        toward = (limit > 0.3) * (0.45 - 0.38 * skin) * (1 - free) + (0.62 - 0.5 * skin) * free
        clear = tint * np.array([1, 1 + free, 1 + free], np.float32)
        colors.append(planes(np.power(pigment_toward(pigment, clear, toward), strength[..., None])))
    # A loose wash behind, of the colors around the person and of cloth, heavier on one side.
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE
    side = rng.uniform(0.25, 0.75)
    spot = np.exp(-(((x - side) / 0.42) ** 2 + ((y - 0.42) / 0.40) ** 2))
    cloud = smoothstep(spot + 0.16 * smooth_noise(SIZE, rng, 4, 3), 0.32, 0.85)
    wash_lab = 0.25 * to_lab(scene.background(40)) + 0.75 * behind
    wash_lab[..., 0] = 76
    wash = from_lab(wash_lab)
    paper = PAPER * (1 - 0.62 * cloud[..., None] * (1 - wash))
    maps = {
        "paper": planes(paper.astype(np.float32)),
        "shape": np.stack(shapes),
        "glaze": np.concatenate(colors),
        "line": scene.ink_lines(0.3 + 0.7 * coarse, 0.85)
        * present
        * (0.25 + 0.75 * np.clip(blur(scene.features, 3) * 1.3, 0, 1)),
        "detail": scene.detail(coarse),
    }
    values = {
        "soft": 0.05 + 0.10 * coarse,
        "wobble": 0.08 + 0.55 * coarse,
        "wet": 0.28 + 0.4 * coarse,
        "multiply": 1.0,
        "pigment": 0.45 + 0.3 * coarse,
        "line_dark": 0.6,
        "line_rough": 0.3,
        "tooth": 0.8,
        "splash": 0.35 + 0.5 * coarse,
        **channels("ink", np.array([0.27, 0.16, 0.12], np.float32)),
    }
    return pack(maps, values, cells)


def wash_outline(scene: Scene, darkness: Plane, limit: float, coarse: float) -> Plane:
    """Where a wash lies that is put on for tones darker than `limit`, without islands and holes a brush would not leave."""
    (calm,) = cuts(scene, darkness, (limit,), 0.25 + 0.75 * coarse)
    soft = tone_outline(darkness, limit)
    return np.where(np.abs(calm - (soft > 0.5)) > 0.5, calm, soft).astype(np.float32)


def base_wash(scene: Scene, darkness: Plane, limit: float, coarse: float) -> Plane:
    """The first, pale wash: all of the figure but eyes, teeth and, boldly, the broad lights."""
    figure = outline_map((scene.matte > 0.5) & (scene.fade(0.80, 1.04) > 0.5))
    lights = blur(darkness, 2 + 3 * coarse) < limit - 0.06 * (1 - coarse)
    spared = 0.9 * np.maximum(scene.teeth, scene.whites)
    if coarse > 0.6:
        spared = np.maximum(spared, outline_map(without_small(lights, 0.05 * scene.span**2)))
    return np.minimum(figure, 1 - spared)


def pigment_toward(pigment: np.ndarray, tint: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The pigment with a share of its hue given to a tint; its lightness stays, so skin stays as dark as it is."""
    lab = to_lab(pigment)
    lab[..., 1:] = (1 - share[..., None]) * lab[..., 1:] + share[..., None] * tint[1:]
    return np.clip(from_lab(lab), 0.03, 1)
