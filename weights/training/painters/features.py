"""Eyes, brows, nose and mouth as a hand draws them: few lines and shapes, placed by the mesh, weighed by the photo."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from painters.scene import Scene, outline_map
from portrait.generate.families.mini.sitter import (
    BROWS,
    CREASES,
    LIPS,
    LOWER_LIDS,
    MOUTH_BOTTOM,
    MOUTH_TOP,
    SIZE,
    UPPER_LIDS,
    UPPER_LIP,
    Plane,
    blur,
    from_lab,
    smoothstep,
    to_lab,
    union,
)

Curve = NDArray[np.floating[Any]]
"""(n, 2) points in pixels."""

SOCKETS = ([225, 224, 223, 222, 221], [441, 442, 443, 444, 445])
"""The fold of each eye where it lies highest; `CREASES` is where it lies lowest."""

NOSTRIL_LINES = ([64, 219, 218, 79, 239, 20], [294, 439, 438, 309, 459, 250])
WINGS = ([209, 49, 102, 64], [429, 279, 331, 294])
"""The outer edges of the nose."""

CHIN_SHADOW = [181, 84, 17, 314, 405]
"""The lower edge of the lower lip."""


@dataclass(eq=False)
class Features:
    """The features of one face. All planes are (512, 512) float32 in [0, 1]."""

    scene: Scene

    @cached_property
    def lids(self) -> Plane:
        """The lines of the upper lids with the weight of their lashes, heaviest outside."""
        canvas = np.zeros((SIZE, SIZE), np.float32)
        span = self.scene.span
        for chain, outer_first in zip(UPPER_LIDS, (True, False), strict=True):
            curve = smooth_curve(self.scene.mesh[chain if outer_first else chain[::-1]])
            # The lashes go on a little beyond the outer corner.
            flick = curve[0] + 0.045 * span * unit(curve[0] - curve[6]) + np.array([0, 0.006 * span], np.float32)
            curve = np.concatenate([flick[None], curve])
            t = np.linspace(0, 1, len(curve))
            ribbon(canvas, curve, span * (0.008 + 0.020 * np.sin(np.pi * np.clip(1.15 - t, 0, 1) ** 1.4)))
        return canvas

    @cached_property
    def lower_lids(self) -> Plane:
        """Thin lines below the outer half of the eyes."""
        canvas = np.zeros((SIZE, SIZE), np.float32)
        for chain, outer_first in zip(LOWER_LIDS, (True, False), strict=True):
            curve = smooth_curve(self.scene.mesh[chain if outer_first else chain[::-1]])[:24]
            ribbon(canvas, curve, self.scene.span * np.linspace(0.016, 0.006, len(curve)))
        return canvas

    @cached_property
    def folds(self) -> Plane:
        """The folds above the eyes, where the photo has them; an eye without a fold gets none."""
        canvas = np.zeros((SIZE, SIZE), np.float32)
        scene = self.scene
        light = to_lab(scene.bare)[..., 0] / np.float32(100)
        ridge = blur(light, 0.035 * scene.span) - blur(light, 0.009 * scene.span)
        best: list[tuple[float, NDArray[np.float32]]] = []
        for low, high in zip(CREASES, SOCKETS, strict=True):
            start, end = (smooth_curve(scene.mesh[chain]) for chain in (low, high))
            curves = [(1 - share) * start + share * end for share in np.linspace(0, 0.9, 7)]
            depths = [float(sample(ridge, curve[6:-6]).mean()) for curve in curves]
            at = int(np.argmax(depths))
            best.append((depths[at], curves[at]))
        if min(depth for depth, _ in best) > 0.012:
            for _, curve in best:
                ribbon(canvas, curve, scene.span * 0.017 * np.sin(np.linspace(0.25, np.pi - 0.25, len(curve))))
        return canvas

    @cached_property
    def dark_eyed(self) -> bool:
        """Whether the irises are as dark as pupils."""
        scene = self.scene
        inside = (scene.discs(0.85) * (1 - scene.discs(0.4)) * scene.openings) > 0.5
        return not inside.any() or float(np.median(to_lab(scene.bare)[inside, 0])) < 30

    @cached_property
    def irises(self) -> Plane:
        """The irises between the lids, whole."""
        return (self.scene.discs(1.0, soft=1.2) * self.scene.openings).astype(np.float32)

    @cached_property
    def pupils(self) -> Plane:
        """What of the eyes is black: pupils, the rims of the irises, the shadow of the lids; the light is left out."""
        scene = self.scene
        rims = scene.discs(1.0, soft=1.2) - scene.discs(0.86, soft=1.2)
        shade = scene.discs(1.0) * blur(self.lids, 0.01 * scene.span)
        whole = union([rims, shade, scene.discs(0.42)])
        if self.dark_eyed:
            whole = np.maximum(whole, scene.discs(1.0, soft=1.2))
        return (whole * scene.openings * (1 - self.lights)).astype(np.float32)

    @cached_property
    def lights(self) -> Plane:
        """One light in each eye, from the upper left."""
        return (self.scene.discs(0.32, (-0.32, -0.34), soft=1.0) * self.scene.openings).astype(np.float32)

    @cached_property
    def whites(self) -> Plane:
        return np.clip(self.scene.whites - self.lids, 0, 1).astype(np.float32)

    @cached_property
    def brows(self) -> Plane:
        """The brows' own hair; fair ones are drawn as narrow strokes."""
        scene = self.scene
        light = blur(scene.lightness, 0.8)
        canvas, hairs = np.zeros((2, SIZE, SIZE), np.float32)
        contrasts = []
        for chain in BROWS:
            region = scene.polygon(chain, grow=0.025, soft=0.02)
            inside = region > 0.5
            if inside.sum() < 12:
                continue
            around = (cv2.dilate(region, np.ones((9, 9), np.uint8)) > 0.5) & ~inside
            skin = float(np.median(light[around])) if around.any() else float(scene.skin_lab[0]) / 100
            dark = float(np.quantile(light[inside], 0.15))
            contrasts.append(float(np.clip((skin - dark - 0.04) / 0.14, 0, 1)))
            level = (light - dark) / max(skin - dark, 0.06)
            canvas = np.maximum(canvas, region * smoothstep(0.58 - level, -0.10, 0.14))
            # Even of a fair brow a pen draws a few hairs.
            spine = smooth_curve((scene.mesh[chain[:5]] + scene.mesh[chain[:4:-1]]) / 2)
            ribbon(hairs, spine, 0.014 * scene.span)
        # Light from one side must not blacken one brow: both get the fainter one's weight.
        return np.maximum(canvas * (0.35 + 0.65 * min(contrasts, default=0.0)), 0.5 * hairs).astype(np.float32)

    @cached_property
    def nostrils(self) -> Plane:
        canvas = np.zeros((SIZE, SIZE), np.float32)
        for chain in NOSTRIL_LINES:
            curve = smooth_curve(self.scene.mesh[chain])
            t = np.linspace(0, 1, len(curve))
            ribbon(canvas, curve, self.scene.span * (0.008 + 0.034 * np.exp(-(((t - 0.5) / 0.24) ** 2))))
        # Only as far as they are dark: noses are told apart by how much of the nostrils shows.
        light = blur(self.scene.lightness, 1.0)
        dark = smoothstep(blur(light, 0.09 * self.scene.span) - light, 0.0, 0.07)
        return (canvas * dark).astype(np.float32)

    @cached_property
    def wings(self) -> Plane:
        canvas = np.zeros((SIZE, SIZE), np.float32)
        for chain in WINGS:
            curve = smooth_curve(self.scene.mesh[chain])
            ribbon(canvas, curve, self.scene.span * 0.015 * np.sin(np.linspace(0.1, np.pi - 0.3, len(curve))))
        return canvas

    @cached_property
    def open_mouth(self) -> bool:
        """Whether the lips are far enough apart to show teeth; a narrower gap is a line."""
        gap = float(np.linalg.norm(self.scene.mesh[13] - self.scene.mesh[14]))
        return gap > 0.075 * self.scene.span

    @cached_property
    def teeth(self) -> Plane:
        return self.scene.teeth * np.float32(self.open_mouth)

    @cached_property
    def mouth_line(self) -> Plane:
        """Where the lips meet, heaviest at the corners and in the middle; of an open mouth its dark, without the teeth."""
        canvas = np.zeros((SIZE, SIZE), np.float32)
        scene = self.scene
        top, bottom = (smooth_curve(_eased(scene.mesh[chain])) for chain in (MOUTH_TOP, MOUTH_BOTTOM))
        t = np.linspace(-1, 1, len(top))
        if not self.open_mouth:
            width = 0.009 + 0.010 * np.exp(-((t / 0.22) ** 2)) + 0.013 * np.exp(-(((np.abs(t) - 0.85) / 0.12) ** 2))
            ribbon(canvas, (top + bottom) / 2, scene.span * width * np.clip(6 - 5.5 * np.abs(t), 0, 1))
            return canvas
        ribbon(canvas, top, scene.span * (0.014 + 0.012 * t**2))
        ribbon(canvas, bottom, scene.span * (0.006 + 0.012 * t**2))
        opening = scene.polygon(MOUTH_TOP + MOUTH_BOTTOM[::-1])
        dark = smoothstep(0.5 * float(scene.skin_lab[0]) / 100 - blur(scene.lightness, 1.5), -0.04, 0.05)
        return np.maximum(canvas, opening * dark * (1 - self.teeth)).astype(np.float32)

    @cached_property
    def lip_shadow(self) -> Plane:
        """The short line below the lower lip."""
        canvas = np.zeros((SIZE, SIZE), np.float32)
        curve = smooth_curve(self.scene.mesh[CHIN_SHADOW])[8:-8]
        ribbon(canvas, curve, self.scene.span * 0.02 * np.sin(np.linspace(0.1, np.pi - 0.1, len(curve))))
        return canvas

    def ink(self, weight: float = 1.0, over_paint: bool = False) -> Plane:
        """All that a pen or a fine brush draws at the features; a larger `weight` is a bolder hand, 1 is a fine one.

        Over paint, which models brows, nose and lips by itself, only lashes, pupils, nostrils and the line of the mouth are needed.
        """
        fine = union([np.float32(0.9) * self.lower_lids, np.float32(0.9) * self.folds])
        if over_paint:
            scene = self.scene
            bold = union(
                [0.8 * self.lids, scene.discs(0.42) * scene.openings, 0.8 * self.nostrils, 0.8 * self.mouth_line]
            )
        else:
            fine = union([fine, 0.6 * self.wings, 0.55 * self.lip_shadow])
            bold = union([self.lids, self.pupils, self.nostrils, self.mouth_line, 0.95 * self.brows])
        spread = 0.45 + 0.5 * max(weight - 1, 0)
        lines = np.maximum(weight**0.5 * blur(fine, 0.45), (0.9 + 0.35 * weight) * blur(bold, spread))
        return (np.clip(lines, 0, 1) * (1 - self.lights) * (1 - 0.95 * self.teeth)).astype(np.float32)

    def painted(self, lab: Plane | None = None, only_eyes: bool = False) -> dict[str, Plane]:
        """The features as flat opaque shapes to lie on facets or paint, maps `shape` and `glaze`.

        The first shape is all that is covered, in the whites of the eyes, the lower lip and the brows; on it lie irises and the
        upper lip, then teeth. Their colors are those of `lab`, (512, 512, 3) CIELAB, or of the photo. Where strokes model lips and
        brows, `only_eyes` and teeth are painted.
        """
        scene = self.scene
        lab = scene.lab if lab is None else lab
        skin = area_color(lab, scene.face * (1 - scene.features))
        upper = scene.polygon(UPPER_LIP + MOUTH_TOP[::-1])
        lips = scene.polygon(LIPS)
        brows = (self.brows > 0.5).astype(np.float32)
        white = self.white_of(lab)
        iris = area_color(lab, scene.discs(0.85) * (1 - scene.discs(0.45)) * scene.openings) * self.clearer
        lower_lip = area_color(lab, np.clip(scene.polygon_lips() - upper, 0, 1)) * self.clearer
        upper_lip = area_color(lab, upper, 0.4) * self.clearer
        upper_lip[0] = min(upper_lip[0], lower_lip[0] - 5)
        brow = area_color(lab, brows, 0.3)
        near_eyes = union(scene.polygon(u + lo[::-1], grow=0.08) for u, lo in zip(UPPER_LIDS, LOWER_LIDS, strict=True))
        near_mouth = scene.polygon(LIPS, grow=0.1)
        bases, tops = np.empty((2, SIZE, SIZE, 3), np.float32)
        bases[:], tops[:] = brow, iris
        bases[near_eyes > 0.5] = white
        bases[near_mouth > 0.5] = lower_lip
        tops[near_mouth > 0.5] = upper_lip
        # The photo's light stays on them, softly: it is what tells this person's eyes and lips from others'.
        seen = 0.5 * blur(lab, 1.2)
        bases, tops = 0.5 * bases + seen, 0.5 * tops + seen
        teeth = np.broadcast_to(np.array([min(88, skin[0] + 34), 1, 6], np.float32), bases.shape)
        shapes = [union([scene.openings, self.teeth]), self.irises, self.teeth]
        if not only_eyes:
            shapes[:2] = [union([*shapes[:1], lips, brows]), union([self.irises, upper])]
        return {
            "shape": np.stack([outline_map(shape) for shape in shapes]),
            "glaze": np.concatenate([from_lab(color).transpose(2, 0, 1) for color in (bases, tops, teeth)]),
        }

    def white_of(self, lab: Plane) -> NDArray[np.float32]:
        """CIELAB of the whites of the eyes in a picture: a little lighter than its skin, nearly gray."""
        skin = area_color(lab, self.scene.face * (1 - self.scene.features))
        white = area_color(lab, self.whites, 0.75) * np.array([1, 0.4, 0.4], np.float32)
        white[0] = np.clip(white[0], skin[0] + 6, 88)
        return white

    clearer = np.array([1, 1.25, 1.25], np.float32)
    """How much clearer than in the photo irises and lips are."""


def area_color(lab: Plane, mask: Plane, share: float = 0.5) -> NDArray[np.float32]:
    """CIELAB of what lies under a mask: the median hue, at a quantile of lightness."""
    inside = mask > 0.5
    if inside.sum() < 6:
        return np.array([50, 10, 14], np.float32)
    colors = lab[inside]
    return np.array([np.quantile(colors[:, 0], share), *np.median(colors[:, 1:], 0)], np.float32)


def unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-6), np.float32)


def smooth_curve(points: Curve, count: int = 40) -> Curve:
    """(count, 2) points on a Catmull-Rom spline through (n, 2) points."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    at = np.linspace(0, len(points) - 1, count)
    k = np.minimum(at.astype(int), len(points) - 2)
    t = (at - k)[:, None]
    before, start, end, after = (padded[k + i] for i in range(4))
    curve = (
        2 * start
        + (end - before) * t
        + (2 * before - 5 * start + 4 * end - after) * t**2
        + (3 * start - before - 3 * end + after) * t**3
    )
    return np.asarray(0.5 * curve, np.float32)


def _eased(points: Curve) -> Curve:
    """(n, 2) points, each drawn toward its neighbors; the ends stay."""
    eased = points.copy()
    eased[1:-1] = 0.25 * points[:-2] + 0.5 * points[1:-1] + 0.25 * points[2:]
    return eased


def ribbon(canvas: Plane, curve: Curve, width: Curve | float) -> None:
    """Fill a line of varying width, in pixels, along an (n, 2) curve."""
    along = np.gradient(curve, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-6)
    half = 0.5 * np.broadcast_to(np.asarray(width, np.float32), len(curve))[:, None] * across
    # Quads, not one outline: a tight curve's outline would cross itself and cancel out.
    sides = np.round(np.stack([curve - half, curve + half], 1) * 16).astype(np.int32)
    for (a, b), (c, d) in pairwise(sides):
        cv2.fillConvexPoly(canvas, np.stack([a, b, d, c]), 1.0, cv2.LINE_AA, 4)


def sample(plane: Plane, curve: Curve) -> Plane:
    """The values of a plane at (n, 2) points."""
    at = curve.astype(np.float32)
    return cv2.remap(plane, at[:, 0].copy(), at[:, 1].copy(), cv2.INTER_LINEAR)[:, 0].astype(np.float32)
