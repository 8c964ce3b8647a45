"""Watercolor: four transparent glazes with wet edges and granulation, paper left for the lights, a loose wash behind."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from painters.common import channels, contours, freedom, planes
from painters.features import Features
from painters.palettes import palette
from painters.scene import SIZE, Plane, Scene, blur, from_lab, outline_map, smoothstep, to_lab, tone_outline
from painters.tones import cuts, without_small
from portrait.generate.families.mini.marks.fields import smooth_noise
from portrait.generate.families.mini.marks.layout import Marks, pack

PAPER = np.array([0.985, 0.98, 0.96], np.float32)

LIMITS = (0.34, 0.56, 0.76)
"""Darkness from which the second, third and fourth glaze are laid."""


def paint(scene: Scene, coarse: float, name: str = "warm", cells: int = 128) -> Marks:
    behind, shade = (to_lab(c[None, None])[0, 0] for c in palette("watercolor", name))
    features = Features(scene)
    free = freedom(coarse)
    lab = to_lab(scene.simplified(0.25 + 0.75 * coarse))
    lightness = blur(lab[..., 0] / 100 + (scene.light - scene.lightness), 0.9 + 3.6 * coarse)
    present = smoothstep(blur(scene.matte, 1.5), 0.35, 0.65)
    darkness = (1 - scene.relative(lightness, 0.35)) * present * (1 - 0.9 * scene.whites)
    # Below, fewer glazes lie on each other: the figure runs out in its palest washes.
    darkness = darkness * (0.55 + 0.45 * scene.fade(0.78, 1.0))
    limits = [limit + 0.14 * free * (0.8 - limit) for limit in LIMITS]
    shapes = [base_wash(scene, features, darkness, 0.10 + 0.1 * free, coarse)]
    shapes += [wash_outline(scene, darkness, limit, coarse) for limit in limits]
    lab[..., 1:] = livelier(lab, coarse)
    mixed = [
        tinted(color, behind if band < 2 else shade, (0.10 + 0.35 * free) * (1 - 0.7 * blur(scene.skin, 2)), free)
        for band, color in enumerate(band_colors(lab, darkness, [0.0, *limits], scene.matte))
    ]
    mixed[0][..., 0] = np.minimum(mixed[0][..., 0] + 6 + 6 * free, 96)
    under = np.broadcast_to(PAPER, (SIZE, SIZE, 3))
    glazes = []
    for color in mixed:
        target = from_lab(color)
        glazes.append(planes(np.clip(target / np.maximum(under, 0.02), 0.03, 1)))
        under = np.minimum(target, under)
    maps = {
        "paper": planes(sheet(scene, features, behind, np.random.default_rng(len(name)))),
        "shape": np.stack(shapes),
        "glaze": np.concatenate(glazes),
        "line": np.maximum(0.9 * contours(scene, 0.3 + 0.5 * coarse) * present, features.ink(1.0 + 0.5 * coarse)),
        "detail": scene.detail(coarse),
    }
    values = {
        "soft": 0.05 + 0.10 * coarse,
        "wobble": 0.08 + 0.5 * coarse,
        "wet": 0.3 + 0.3 * coarse,
        "multiply": 1.0,
        "pigment": 0.45 + 0.25 * coarse,
        "line_dark": 0.72,
        "line_rough": 0.3,
        "tooth": 0.8,
        "splash": 0.35 + 0.5 * coarse,
        **channels("ink", np.array([0.20, 0.12, 0.11], np.float32)),
    }
    return pack(maps, values, cells)


def livelier(lab: np.ndarray, coarse: float) -> np.ndarray:
    """The hues of pigments: clearer than the photo's where those are faint, gray where they are gray."""
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    gain = (1.05 + 0.15 * coarse) * np.minimum(1.3, 1 + 9 / (chroma + 12)) * np.clip(chroma / 6, 0.5, 1)
    return np.asarray(lab[..., 1:] * gain[..., None], np.float32)


def band_colors(lab: np.ndarray, darkness: Plane, limits: list[float], figure: Plane) -> list[np.ndarray]:
    """What a painter mixes: for each band of tone the color around each place, CIELAB, of the person's parts in that band."""
    lab, darkness, figure = (_quarter(p) for p in (lab, darkness, figure))
    bounds = [*limits, 2.0]
    colors: list[np.ndarray] = []
    for low, high in pairwise(bounds):
        inside = ((darkness >= low) & (darkness < high) & (figure > 0.9)).astype(np.float32)
        # From the widest view to the nearest: where a band is far away, its colors are those of the whole band.
        color = colors[-1] if colors else lab
        for sigma in (12.0, 4.5, 1.5, 0.7):
            near = blur(inside, sigma)
            mean = blur(lab * inside[..., None], sigma) / np.maximum(near, 1e-3)[..., None]
            trust = smoothstep(near, 0.01, 0.2)[..., None]
            color = mean * trust + color * (1 - trust)
        colors.append(color.astype(np.float32))
    return [cv2.resize(color, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR) for color in colors]


def _quarter(plane: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.resize(plane, (SIZE // 4, SIZE // 4), interpolation=cv2.INTER_AREA))


def tinted(lab: np.ndarray, tint: np.ndarray, share: Plane, free: float) -> np.ndarray:
    """A color with a share of its hue given to a tint; its lightness stays, so skin stays as dark as it is."""
    # Next to black a tint would glow.
    share = share * smoothstep(lab[..., 0], 8, 50)
    mixed = lab.copy()
    mixed[..., 1:] = (1 - share[..., None]) * lab[..., 1:] + share[..., None] * tint[1:] * (1 + free)
    return mixed


def sheet(scene: Scene, features: Features, behind: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The paper with a loose wash behind the figure, heavier on one side."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE
    side = rng.uniform(0.25, 0.75)
    spot = np.exp(-(((x - side) / 0.42) ** 2 + ((y - 0.42) / 0.40) ** 2))
    cloud = smoothstep(spot + 0.16 * smooth_noise(SIZE, rng, 4, 3), 0.32, 0.85)
    # None of it shines through the figure.
    cloud = cloud * (1 - smoothstep(blur(scene.matte, 2), 0.3, 0.7))
    wash_lab = 0.25 * to_lab(scene.background(40)) + 0.75 * behind
    wash_lab[..., 0] = 76
    paper = PAPER * (1 - 0.62 * cloud[..., None] * (1 - from_lab(wash_lab.astype(np.float32))))
    # In a dark face the whites of the eyes are not as light as the paper.
    eyes = np.clip(blur(scene.openings, 4) * 2, 0, 1)[..., None]
    return np.asarray(paper * (1 - eyes) + eyes * from_lab(features.white_of(scene.lab)[None, None]), np.float32)


def wash_outline(scene: Scene, darkness: Plane, limit: float, coarse: float) -> Plane:
    """Where a wash lies that is put on for tones darker than `limit`, without islands and holes a brush would not leave."""
    (calm,) = cuts(scene, darkness, (limit,), 0.25 + 0.75 * coarse)
    soft = tone_outline(darkness, limit)
    return np.where(np.abs(calm - (soft > 0.5)) > 0.5, calm, soft).astype(np.float32)


def base_wash(scene: Scene, features: Features, darkness: Plane, limit: float, coarse: float) -> Plane:
    """The first, pale wash: all of the figure but eyes, teeth and, boldly, the broad lights."""
    lights = blur(darkness, 2 + 3 * coarse) < limit - 0.06 * (1 - coarse)
    spared = 0.9 * np.maximum(features.teeth, features.whites)
    if coarse > 0.6:
        spared = np.maximum(spared, outline_map(without_small(lights, 0.05 * scene.span**2)))
    return np.minimum(outline_map(scene.matte > 0.5), 1 - spared)
