"""What every painter looks at: the photo at 512 px, who is in it, where the features lie, how light falls on the form."""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from portrait.generate.families.mini.marks.fields import smooth_noise
from portrait.generate.families.mini.sitter import (
    BROWS,
    JAW,
    LIPS,
    LOWER_LIDS,
    LOWER_LIP,
    MOUTH_BOTTOM,
    MOUTH_TOP,
    NOSE_BASE,
    NOSTRILS,
    SIZE,
    UPPER_LIDS,
    UPPER_LIP,
    Picture,
    Plane,
    Sitter,
    blur,
    from_lab,
    smoothstep,
    to_lab,
)

__all__ = [
    "MOUTH_TOP",
    "SIZE",
    "UPPER_LIP",
    "Picture",
    "Plane",
    "Scene",
    "blur",
    "from_lab",
    "outline_map",
    "smoothstep",
    "to_lab",
    "tone_outline",
]


def outline_map(mask: NDArray[np.bool_] | Plane, reach: float = 8.0) -> Plane:
    """A glaze's outline: 0.5 on the border of the mask, 1 `reach` pixels inside, 0 as far outside."""
    inside = (mask > 0.5).astype(np.uint8)
    if not inside.any():
        return np.zeros(mask.shape, np.float32)
    within = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
    beyond = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)
    return np.clip(0.5 + (within - beyond) / (2 * reach), 0, 1).astype(np.float32)


def tone_outline(darkness: Plane, limit: float, steepest: float = 0.035) -> Plane:
    """The same for the area where `darkness` passes a limit; the slope of the tone gives the distance."""
    darkness = darkness.astype(np.float32)
    gx = cv2.Sobel(darkness, cv2.CV_32F, 1, 0, scale=1 / 8)
    gy = cv2.Sobel(darkness, cv2.CV_32F, 0, 1, scale=1 / 8)
    slope = blur(np.hypot(gx, gy), 2.0)
    distance = (darkness - limit) / np.clip(slope, 0.006, steepest)
    return np.clip(0.5 + distance / 16, 0, 1).astype(np.float32)


class Scene(Sitter):
    """One photo to be painted, with everything computed once that several painters need; as `Sitter`."""

    @cached_property
    def lab(self) -> Picture:
        return to_lab(self.photo)

    @cached_property
    def lightness(self) -> Plane:
        """CIELAB L over 100."""
        return self.lab[..., 0] / np.float32(100)

    @cached_property
    def catchlights(self) -> Plane:
        """The light in each eye, from the upper left."""
        return self.discs(0.34, (-0.32, -0.38)) * self.openings

    def polygon_lips(self) -> Plane:
        """The lips without the mouth's opening."""
        lips = self.polygon(LIPS)
        inner = self.polygon(MOUTH_TOP + MOUTH_BOTTOM[::-1])
        return np.clip(lips - inner, 0, 1)

    @cached_property
    def hair(self) -> Plane:
        """What of the person is neither skin nor below the chin."""
        rows = np.arange(SIZE, dtype=np.float32)[:, None]
        above = 1 - smoothstep(rows, float(self.mesh[152, 1]), float(self.mesh[152, 1]) + 1.5 * self.span)
        return self.matte * above * (1 - np.clip(blur(self.skin, 2), 0, 1))

    @cached_property
    def teeth(self) -> Plane:
        """Teeth of an open mouth: light and nearly gray, between the lips."""
        opening = self.polygon(MOUTH_TOP + MOUTH_BOTTOM[::-1], soft=0.01)
        chroma = np.hypot(self.lab[..., 1] - 0.35 * self.skin_lab[1], self.lab[..., 2] - 0.35 * self.skin_lab[2])
        bright = smoothstep(self.lightness - 0.55 * float(self.skin_lab[0]) / 100, -0.05, 0.08)
        return blur(opening * bright * (1 - smoothstep(chroma, 9, 20)), 0.7)

    @cached_property
    def light(self) -> Plane:
        """Lightness, with teeth as bright as teeth are thought of."""
        return (self.lightness + self.teeth * np.clip(0.92 - self.lightness, 0, 0.6)).astype(np.float32)

    @cached_property
    def feature_ink(self) -> Plane:
        """What is dark in eyes, brows, nostrils and the line of the mouth, at full resolution, in [0, 1]."""
        ink = np.zeros((SIZE, SIZE), np.float32)
        light = self.lightness
        skin_light = float(self.skin_lab[0]) / 100
        for upper, lower in zip(UPPER_LIDS, LOWER_LIDS, strict=True):
            opening = self.polygon(upper + lower[::-1], grow=0.02, soft=0.012)
            inside = opening > 0.5
            if inside.sum() < 12:
                continue
            lash = np.zeros((SIZE, SIZE), np.float32)
            self.polyline(lash, upper, 0.03 * self.span, 0.8)
            ink = np.maximum(ink, blur(lash, 0.6))
            if not self.irises:
                dark, bright = np.quantile(light[inside], [0.08, 0.85])
                level = (light - dark) / max(float(bright - dark), 0.08)
                ink = np.maximum(ink, opening * smoothstep(0.42 - level, -0.10, 0.14))
        ink = np.maximum(ink, (0.85 * self.discs(1.0) * self.openings).astype(np.float32)) * (1 - self.catchlights)
        brows = [(region, region > 0.5) for region in (self.polygon(b, grow=0.03, soft=0.025) for b in BROWS)]
        brow_ink = np.zeros((SIZE, SIZE), np.float32)
        contrasts: list[float] = []
        for region, inside in brows:
            if inside.sum() < 12:
                continue
            dark = float(np.quantile(light[inside], 0.12))
            wider = cv2.dilate(region, np.ones((9, 9), np.uint8)) > 0.5
            around = float(np.median(light[wider & ~inside])) if (wider & ~inside).any() else skin_light
            contrasts.append(float(np.clip((around - dark - 0.07) / 0.20, 0, 1)))  # fair brows stay fair
            level = (light - dark) / max(around - dark, 0.06)
            brow_ink = np.maximum(brow_ink, region * smoothstep(0.50 - level, -0.12, 0.14))
        # Light from one side must not blacken one brow: both get the fainter one's contrast.
        ink = np.maximum(ink, (0.85 * min(contrasts) if contrasts else 0.0) * brow_ink)
        local = blur(light, 0.09 * self.span)
        base = np.maximum.reduce(
            [self.polygon_around(NOSE_BASE, 0.10), *(self.polygon_around(n, 0.09) for n in NOSTRILS)]
        )
        ink = np.maximum(ink, 0.7 * base * smoothstep(local - light - 0.065, -0.02, 0.06))
        gap = self.polygon(MOUTH_TOP + MOUTH_BOTTOM[::-1], grow=0.025, soft=0.015)
        dark_mouth = smoothstep(0.52 * skin_light - light, -0.04, 0.05)  # teeth are no ink
        return np.maximum(ink, gap * dark_mouth).astype(np.float32)

    def polygon_around(self, points: list[int], width: float) -> Plane:
        """A soft band along a chain of mesh points; its width in spans."""
        mask = np.zeros((SIZE, SIZE), np.float32)
        self.polyline(mask, points, width * self.span)
        return np.clip(blur(mask, 0.02 * self.span), 0, 1)

    @cached_property
    def glasses(self) -> Plane:
        """Around the eyes, where the rims of glasses would be."""
        ring = np.maximum.reduce([self.polygon(u + lo[::-1], grow=0.3, soft=0.06)
                                  for u, lo in zip(UPPER_LIDS, LOWER_LIDS, strict=True)])  # fmt: skip
        return np.clip(ring, 0, 1)

    @cached_property
    def skin(self) -> Plane:
        """Skin of face and neck, soft."""
        distance = self.lab - self.skin_lab
        like = np.exp(-((distance[..., 0] / 34) ** 2) - (np.hypot(distance[..., 1], distance[..., 2]) / 11) ** 2)
        return (
            np.clip(
                np.maximum(self.face, blur(like.astype(np.float32), 2) * (blur(self.face, 0.8 * self.span) > 0.02)),
                0,
                1,
            )
            * self.matte
        )

    @cached_property
    def quantiles(self) -> NDArray[np.float32]:
        """Lightness of the face's skin that 3, 15, 35, 50, 65, 85 and 97 % of it do not reach."""
        inside = (self.face > 0.9) & (self.eyes < 0.2) & (self.brows < 0.2)
        values = blur(self.lightness, 1.2)[inside]
        if len(values) < 50:
            values = self.lightness.ravel()
        return np.quantile(values, [0.03, 0.15, 0.35, 0.5, 0.65, 0.85, 0.97]).astype(np.float32)

    def relative(self, lightness: Plane, absolute: float = 0.25) -> Plane:
        """Lightness on this face's own scale, about [0, 1]; a share of it stays absolute, so dark skin stays dark."""
        low, middle, high = self.quantiles[0], self.quantiles[3], self.quantiles[6]
        below = 0.15 + 0.45 * (lightness - low) / max(middle - low, 0.10)
        above = 0.60 + 0.32 * (lightness - middle) / max(high - middle, 0.10)
        own_scale = np.where(lightness < middle, below, above)
        own_scale = np.where(own_scale < 0.15, 0.15 * np.clip(lightness / max(low, 0.05), 0, 1), own_scale)
        return np.clip((1 - absolute) * np.clip(own_scale, 0, 1) + absolute * lightness, 0, 1).astype(np.float32)

    def detail(self, coarse: float) -> Plane:
        """Where fine marks belong: features most, then the face, then the figure, the background least."""
        wide = np.clip(blur(self.features, 0.05 * self.span) * 1.15, 0, 1)
        fine = np.maximum(wide, 0.5 * blur(self.face, 0.1 * self.span))
        fine = np.maximum(fine, 0.24 * self.matte)
        return np.clip(fine * (1.05 - 0.55 * coarse), 0, 1)

    def simplified(self, coarse: float, photo: Picture | None = None) -> Picture:
        """The photo in fewer, calmer areas: fine at the features, broad on cloth and hair (mean shift, bilateral)."""
        source = self.photo if photo is None else photo
        eight_bit = np.round(np.clip(source, 0, 1) * 255).astype(np.uint8)
        fine = cv2.bilateralFilter(eight_bit, 7, 26, 4)
        middle = cv2.bilateralFilter(cv2.bilateralFilter(eight_bit, 11, 40, 6), 11, 36, 6)
        half = cv2.resize(eight_bit, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        half = cv2.pyrMeanShiftFiltering(half, 5 + 5 * coarse, 22 + 14 * coarse, maxLevel=2)
        broad = cv2.resize(half, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        wide = np.clip(blur(self.features, 0.04 * self.span) * (1.25 - 0.5 * coarse), 0, 1)[..., None]
        face = np.clip(blur(self.face, 0.06 * self.span), 0, 1)[..., None] * (1 - wide)
        rest = 1 - wide - face
        mixed = (
            wide * fine
            + face * middle
            + rest * (0.75 * broad + 0.25 * cv2.GaussianBlur(eight_bit, (0, 0), 3 + 2 * coarse))
        )
        return (mixed / 255).astype(np.float32)

    def background(self, sigma: float = 30.0) -> Picture:
        """What lies behind the person, blurred, the person left out of the mean."""
        behind = smoothstep(1 - self.matte, 0.5, 0.98) + 1e-3
        return blur(self.shot * behind[..., None], sigma) / blur(behind, sigma)[..., None]

    def direction(self, sigma: float = 5.0) -> Plane:
        """(2, 512, 512): 0.5 + 0.5 (cos 2a, sin 2a), weaker where the form has no direction (structure tensor)."""
        smooth = blur(self.lightness + np.float32(0.7) * blur(self.matte, 2.5), 1.5)  # strokes run along the silhouette
        gx = cv2.Scharr(smooth, cv2.CV_32F, 1, 0)
        gy = cv2.Scharr(smooth, cv2.CV_32F, 0, 1)
        xx, xy, yy = (blur(p, sigma) for p in (gx * gx, gx * gy, gy * gy))
        # The tangent is at a right angle to the gradient, so the double angle turns around.
        energy = xx + yy + 0.02
        return np.stack([0.5 - 0.5 * (xx - yy) / energy, 0.5 - xy / energy]).astype(np.float32)

    def ink_lines(self, coarse: float, strength: float = 1.0) -> Plane:
        """Where a pen would draw a line, (512, 512) in [0, 1], lines about 2 px wide and soft.

        Dark edges count at the features and along outlines; on skin they must be far stronger, so that soft
        shadows and creases of expression stay what they are. Lids, mouth, nose and jaw are drawn by the mesh.
        """
        gray = cv2.bilateralFilter(self.lightness, 7, 0.10, 4).astype(np.float32, copy=False)
        sigma = 1.15 + 0.65 * coarse
        difference = blur(gray, 1.6 * sigma) - blur(gray, sigma)
        local = np.sqrt(blur(np.square(gray - blur(gray, 14)), 14)) + 0.05
        ridge = np.clip(difference / local, 0, None)
        open_skin = self.skin * (1 - self.features)
        limit = 0.13 + 0.05 * coarse + 0.20 * np.clip(open_skin - 0.55 * self.glasses, 0, 1)
        cloth = self.matte * (1 - np.clip(blur(self.skin, 3), 0, 1))
        limit = limit + 0.05 * cloth * coarse - 0.04 * self.hair
        edges = smoothstep(ridge * strength - limit, -0.03, 0.06) * smoothstep(self.matte, 0.25, 0.6)
        drawn = np.zeros((SIZE, SIZE), np.float32)
        width = max(1.0, 0.022 * self.span)
        for chain in UPPER_LIDS:
            self.polyline(drawn, chain, 1.1 * width, 0.85)
        for chain in LOWER_LIDS:
            self.polyline(drawn, chain[2:-2], 0.6 * width, 0.4)
        gap = float(np.linalg.norm(self.mesh[13] - self.mesh[14])) / self.span
        closed = 1 - float(smoothstep(np.float32(gap), 0.03, 0.08))
        self.polyline(drawn, MOUTH_TOP, width, 0.45 + 0.45 * closed)
        if gap > 0.05:
            self.polyline(drawn, MOUTH_BOTTOM, 0.6 * width, 0.5)
        self.polyline(drawn, LOWER_LIP[2:-2], 0.7 * width, 0.45)
        self.polyline(drawn, NOSE_BASE, 0.8 * width, 0.55)
        for chain in NOSTRILS:
            self.polyline(drawn, chain, 0.8 * width, 0.6)
        self.polyline(drawn, JAW, 0.7 * width, 0.3)
        border = self.matte > 0.5
        outline = cv2.morphologyEx(border.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        outline[-3:] = 0
        outline = outline * self.pressure(0.45)
        edges = edges * (1 - 0.85 * np.maximum(self.glabella, self.below_eyes))
        heavy = 0.65 + 1.3 * coarse  # bold lines are broad
        gain = 1.2 + 1.5 * coarse
        soft = np.clip(gain * blur(np.maximum(edges, 0.75 * outline), heavy), 0, 1)
        drawn = np.clip((0.85 + 1.1 * coarse) * blur(drawn, 0.9 + 0.7 * coarse), 0, 1)
        ink = np.clip((1 + 0.9 * coarse) * blur(self.feature_ink, 0.7 + 0.9 * coarse), 0, 1)
        lines = np.maximum.reduce([self.without_specks(soft, coarse) * (1 - self.whites), drawn, ink])
        return lines * (1 - 0.9 * np.maximum(self.teeth, self.catchlights))

    def without_specks(self, lines: Plane, coarse: float) -> Plane:
        """Lines without the dots that the weave of cloth leaves in them; at the features everything stays."""
        drawn = (lines > 0.3).astype(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(drawn, connectivity=8)
        fine = np.bincount(labels[blur(self.features, 3) > 0.25], minlength=count) > 0
        # On cloth only what is as long as a fold is drawn.
        cloth = np.bincount(
            labels[(self.matte > 0.5) & (blur(self.skin, 2) < 0.3) & (self.hair < 0.3)], minlength=count
        )
        on_cloth = cloth > 0.6 * stats[:, cv2.CC_STAT_AREA]
        least = (0.010 + 0.02 * coarse) * np.where(on_cloth, 8, 1) * self.span**2
        speck = (stats[:, cv2.CC_STAT_AREA] < least) & ~fine
        speck[0] = False
        spots = cv2.dilate(speck[labels].astype(np.uint8), np.ones((5, 5), np.uint8)).astype(np.float32)
        return lines * (1 - blur(spots, 1.0))

    def pressure(self, least: float) -> Plane:
        """How hard a hand presses along an outline, in [least, 1]: more in shadow and below, less where the light comes from."""
        shadow = smoothstep(0.75 - blur(self.lightness, 6), -0.25, 0.35)
        rows = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None]
        noise = smooth_noise(SIZE, np.random.default_rng(round(self.span * 100)), 7, 2)
        return np.clip(least + (1 - least) * (0.7 * shadow + 0.3 * rows + 0.25 * noise), least, 1).astype(np.float32)

    def fade(self, start: float = 0.80, end: float = 1.02) -> Plane:
        """1 on the upper part, falling to 0 towards the bottom along a ragged line: painters let the figure run out."""
        rows = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None] * np.ones((1, SIZE), np.float32)
        rows = rows + 0.035 * smooth_noise(SIZE, np.random.default_rng(round(1000 * start)), 6, 4)
        return 1 - smoothstep(rows, start, end)
