"""The person in a photo: where the features lie, and what they look like under a kinder light than the room's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Picture = NDArray[np.float32]

SIZE = 512

# Points of MediaPipe's face mesh; left and right as in the picture.
OVAL = [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149,
        150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]  # fmt: skip
JAW = [323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136, 172, 58, 132, 93]
UPPER_LIDS = ([33, 246, 161, 160, 159, 158, 157, 173, 133], [362, 398, 384, 385, 386, 387, 388, 466, 263])
LOWER_LIDS = ([33, 7, 163, 144, 145, 153, 154, 155, 133], [362, 382, 381, 380, 374, 373, 390, 249, 263])
CREASES = ([226, 247, 30, 29, 27, 28, 56, 190], [414, 286, 258, 257, 259, 260, 467, 446])
BROWS = ([70, 63, 105, 66, 107, 55, 65, 52, 53, 46], [336, 296, 334, 293, 300, 276, 283, 282, 295, 285])
LIPS = [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185]
MOUTH_TOP = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308]
MOUTH_BOTTOM = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308]
UPPER_LIP = [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291]
LOWER_LIP = [146, 91, 181, 84, 17, 314, 405, 321, 375]
NOSE_BASE = [98, 97, 2, 326, 327]
NOSTRILS = ([48, 64, 98], [278, 294, 327])
NOSE = [168, 6, 197, 195, 5, 4, 1, 19, 94, 2, 98, 327, 129, 358, 49, 279, 48, 278]
SYMMETRIC = [
    *zip(OVAL, [OVAL[0], *OVAL[:0:-1]], strict=True),
    *zip(UPPER_LIDS[0], UPPER_LIDS[1][::-1], strict=True), *zip(UPPER_LIDS[1], UPPER_LIDS[0][::-1], strict=True),
    *zip(BROWS[0], BROWS[1][4::-1] + BROWS[1][:4:-1], strict=True),
    *zip(BROWS[1], BROWS[0][4::-1] + BROWS[0][:4:-1], strict=True),
    *zip(UPPER_LIP, UPPER_LIP[::-1], strict=True), *zip(NOSE_BASE, NOSE_BASE[::-1], strict=True),
    *((point, point) for point in (168, 6, 197, 195, 5, 4, 1, 13, 14, 17, 152)),
]  # fmt: skip
"""Pairs of points: one, and its mirror image on the other half of the face."""

COARSER = 4
"""Pixels per cell of the grid on which light, which changes slowly, is computed."""


def blur(plane: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """A plane or picture smoothed by a Gaussian of `sigma` pixels."""
    return cv2.GaussianBlur(plane, (0, 0), sigma).astype(plane.dtype, copy=False)


def to_lab(picture: Picture) -> Picture:
    """L in [0, 100], a and b in about [-100, 100]."""
    lab = cv2.cvtColor(np.clip(picture, 0, 1).astype(np.float32), cv2.COLOR_RGB2LAB)
    return lab.astype(np.float32, copy=False)


def from_lab(lab: Picture) -> Picture:
    """RGB in [0, 1] of CIELAB as `to_lab` gives it."""
    return np.clip(cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB), 0, 1)


def smoothstep(value: NDArray[np.floating[Any]] | np.floating[Any], low: float, high: float) -> Plane:
    """0 up to `low`, 1 from `high` on, smooth between; the other way around if `low` is the larger."""
    t = np.asarray(np.clip((value - low) / (high - low), 0, 1))
    smooth: Plane = t * t * (3 - 2 * t)
    return smooth


def union(masks: Iterable[Plane]) -> Plane:
    """The largest of several masks at each place."""
    return np.asarray(np.maximum.reduce(list(masks)), np.float32)


@dataclass(eq=False)
class Sitter:
    """One person to be drawn, with everything computed once that several properties need.

    Attributes:
        shot: (512, 512, 3) float32 RGB in [0, 1], as the camera took it.
        matte: (512, 512) float32 in [0, 1], 1 on the person.
        mesh: (468, 2) float32 pixels, the face mesh.
    """

    shot: Picture
    matte: Plane
    mesh: NDArray[np.float32]

    @cached_property
    def photo(self) -> Picture:
        """(512, 512, 3) RGB in [0, 1]: the person cut free of the room's light, under a kinder light on the face.

        The dark half of a face is filled from the other; sockets, rings and the shadows below nose and lip are taken back,
        so is shine; lines of age are softer, and the eyes have whites. In few tones such shadows would be bars, rings and beards.
        Hue stays, and so does how light the skin is.
        """
        lab = self.bare_lab.copy()
        # More light scales L* + 16, a*, b* alike: they go with the cube roots of XYZ.
        light = ((lab[..., 0] + 16) * self.evening - 16) / np.float32(100)
        lab[..., 1:] *= self.evening[..., None]
        filled = smoothstep(self.evening, 1.04, 1.35)[
            ..., None
        ]  # what filled the shadow was a lawn's or a wall's color
        lab[..., 1:] += 0.6 * filled * (self.skin_lab[1:] - lab[..., 1:])
        inside = (self.face > 0.9) & (self.features < 0.1)
        skin_light = float(np.median(light[inside])) if inside.sum() > 50 else 0.6
        open_skin = self.face_and_neck * (1 - np.clip(1.3 * self.features, 0, 1))

        shadow = np.clip(skin_light - light, 0, 0.35)
        sockets = np.clip(0.8 * self.glabella + 0.6 * self.below_eyes + 0.6 * self.lids, 0, 0.85)
        light = light + shadow * np.maximum(sockets, 0.6 * self.shaven)

        # Highlights have the lamp's color: what they lose in light they gain in the skin's.
        shine = 0.7 * np.clip(light - skin_light - 0.07, 0, 0.4) * open_skin
        light = light - shine
        tint = smoothstep(shine, 0.02, 0.14)[..., None]
        lab[..., 1:] += tint * 0.6 * (self.skin_lab[1:] - lab[..., 1:])

        crease = np.clip(blur(light, 0.06 * self.span) - light, 0, 0.3)
        light = light + 0.3 * crease * open_skin

        light = light + self.whites * np.clip(min(skin_light + 0.16, 0.93) - light, 0, 0.4)
        # Whites of eyes have hardly any color, whatever the lamp's.
        lab[..., 1:] *= 1 - 0.6 * self.whites[..., None]
        lab[..., 0] = np.clip(100 * light, 0, 100)
        return from_lab(lab)

    @cached_property
    def evening(self) -> Plane:
        """By what L* + 16 is multiplied to even the light out, about [0.8, 1.8]: 1 far from the face."""
        side = SIZE // COARSER
        small, features, near = (
            cv2.resize(plane, (side, side), interpolation=cv2.INTER_AREA)
            for plane in (self.bare_lab, self.features, self.face)
        )
        off = np.hypot(small[..., 1] - self.skin_lab[1], small[..., 2] - self.skin_lab[2])
        skin = near * (1 - np.clip(1.5 * features, 0, 1)) * np.exp(-((off / 16) ** 2)) + 1e-5
        if skin.sum() < 20:
            return np.ones((SIZE, SIZE), np.float32)
        unit = self.span / COARSER
        known = blur(skin.astype(np.float32), 0.13 * unit)
        light = blur((skin * small[..., 0]).astype(np.float32), 0.13 * unit) / known

        columns, rows = self.mirrored
        other = cv2.remap(light, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        trust = np.minimum(known, cv2.remap(known, columns, rows, cv2.INTER_LINEAR))
        difference = (other - light) * smoothstep(trust, 0.05, 0.3)
        target = light + np.where(difference > 0, 0.9, 0.35) * difference

        level = float(np.average(target, weights=skin))
        wide = blur((skin * target).astype(np.float32), 0.35 * unit) / blur(skin.astype(np.float32), 0.35 * unit)
        target = target + 0.45 * (level - wide)
        # Nobody is painted lighter than the better lit part of the face is.
        usual = float(np.quantile(light[skin > 0.5], 0.6)) if (skin > 0.5).any() else level
        target = target + 0.8 * (usual - level)

        factor = np.clip((target + 16) / (light + 16), 0.8, 1.8).astype(np.float32)
        large = cv2.resize(blur(factor, 1.0), (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
        reach = np.clip(2 * self.softly(self.face, 0.35), 0, 1) * self.softly(self.face_and_neck, 0.03)
        return np.asarray(1 + reach * (large - 1), np.float32)

    @cached_property
    def mirrored(self) -> tuple[Plane, Plane]:
        """For each cell of the coarser grid, the column and row of the place on the other half of the face.

        A quadratic map, so that it follows a head that is turned.
        """
        here, there = (self.mesh[list(points)] for points in zip(*SYMMETRIC, strict=True))
        center = self.mesh[168]

        def terms(x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
            return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)

        near = (here - center) / self.span
        solution = np.linalg.lstsq(terms(near[:, 0], near[:, 1]), (there - center) / self.span, rcond=None)[0]
        side = SIZE // COARSER
        rows, columns = (np.mgrid[0:side, 0:side].astype(np.float32) + 0.5) * COARSER - 0.5
        x, y = (columns - center[0]) / self.span, (rows - center[1]) / self.span
        places = (terms(np.clip(x, -2, 2), np.clip(y, -2, 2)) @ solution) * self.span + center
        cells = ((places + 0.5) / COARSER - 0.5).astype(np.float32)
        return np.ascontiguousarray(cells[..., 0]), np.ascontiguousarray(cells[..., 1])

    @cached_property
    def shaven(self) -> Plane:
        """Skin without hair around the mouth: a beard has less color than skin in a shadow as dark."""
        chroma = np.hypot(self.bare_lab[..., 1], self.bare_lab[..., 2])
        shadowed = max(float(np.hypot(*self.skin_lab[1:])), 8) * (self.bare_lab[..., 0] + 16) / (self.skin_lab[0] + 16)
        return self.muzzle * smoothstep(chroma / shadowed, 0.68, 0.94) * (1 - self.mouth)

    @cached_property
    def face_and_neck(self) -> Plane:
        """Where skin is certain to be, by the mesh alone, and what is colored like it around it."""
        distance = self.bare_lab - self.skin_lab
        like = np.exp(-((distance[..., 0] / 34) ** 2) - (np.square(distance[..., 1:]).sum(-1) / 11**2))
        return np.asarray(np.maximum(self.face, blur(like.astype(np.float32), 2)) * self.matte, np.float32)

    @cached_property
    def bare(self) -> Picture:
        """The shot, with the person's own colors carried over their edge: no painter sees a rim of the room there."""
        certain = smoothstep(self.matte, 0.85, 0.98)
        colors = self.shot
        for sigma in (14.0, 6.0, 2.5):
            near = self.softly(certain, sigma / self.span)
            spread = self.softly(self.shot * certain[..., None], sigma / self.span)
            spread /= np.maximum(near, 1e-3)[..., None]
            colors = colors + smoothstep(near, 0.01, 0.12)[..., None] * (spread - colors)
        return np.asarray(colors + certain[..., None] * (self.shot - colors), np.float32)

    @cached_property
    def bare_lab(self) -> Picture:
        """`bare` in CIELAB."""
        return to_lab(self.bare)

    def softly(self, plane: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
        """A plane or picture smoothed by `sigma` spans; a wide blur is computed on a coarser grid."""
        pixels = sigma * self.span
        if pixels < COARSER:
            return blur(plane, pixels)
        side = SIZE // COARSER
        small = np.asarray(cv2.resize(plane, (side, side), interpolation=cv2.INTER_AREA), np.float32)
        large = cv2.resize(blur(small, pixels / COARSER), (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
        return np.asarray(large, np.float32)

    def polygon(self, points: list[int], grow: float = 0.0, soft: float = 0.0) -> Plane:
        """Soft mask of a closed outline of mesh points; `grow` and `soft` in spans."""
        outline = self.mesh[points]
        radius = max(1, round(grow * self.span)) if grow > 0 else 0
        margin = radius + int(4 * soft * self.span) + 3
        left, top = np.clip(np.floor(outline.min(0)).astype(int) - margin, 0, SIZE - 1)
        right, bottom = np.clip(np.ceil(outline.max(0)).astype(int) + margin, 1, SIZE)
        # Only the part that the outline reaches: most features are small.
        part = np.zeros((max(bottom - top, 1), max(right - left, 1)), np.float32)
        corners = np.round((outline - (left, top)) * 16).astype(np.int32)
        cv2.fillPoly(part, [corners], 1.0, cv2.LINE_AA, 4)
        if radius:
            disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
            part = cv2.dilate(part, disk).astype(np.float32, copy=False)
        mask = np.zeros((SIZE, SIZE), np.float32)
        mask[top : top + part.shape[0], left : left + part.shape[1]] = (
            blur(part, soft * self.span) if soft > 0 else part
        )
        return mask

    def polyline(self, canvas: Plane, points: list[int], width: float, value: float = 1.0) -> None:
        """Draw a line through mesh points; its width in pixels."""
        curve = np.round(self.mesh[points] * 16).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(canvas, [curve], False, value, max(1, round(width)), cv2.LINE_AA, 4)

    @cached_property
    def span(self) -> float:
        """Distance of the outer corners of the eyes, in pixels: the unit of the face."""
        return max(float(np.linalg.norm(self.mesh[263] - self.mesh[33])), 20.0)

    @cached_property
    def face(self) -> Plane:
        return self.polygon(OVAL, soft=0.03)

    @cached_property
    def eyes(self) -> Plane:
        pairs = zip(UPPER_LIDS, LOWER_LIDS, strict=True)
        return union(self.polygon(upper + lower[::-1], grow=0.09, soft=0.05) for upper, lower in pairs)

    @cached_property
    def openings(self) -> Plane:
        """The eyes between their lids."""
        eyes = [self.polygon(u + lo[::-1], soft=0.008) for u, lo in zip(UPPER_LIDS, LOWER_LIDS, strict=True)]
        return np.maximum(*eyes)

    @cached_property
    def irises(self) -> list[tuple[float, float, float]]:
        """Center and radius, pixels, of each iris that is seen: where it is darkest between the lids, as large as irises are."""
        light = self.bare_lab[..., 0]
        found = []
        for upper, lower in zip(UPPER_LIDS, LOWER_LIDS, strict=True):
            points = self.mesh[upper + lower]
            width = float(np.linalg.norm(self.mesh[upper[0]] - self.mesh[upper[-1]]))
            opening = self.polygon(upper + lower[::-1]) > 0.5
            if opening.sum() < max(12, 0.09 * width**2):
                continue  # closed, or nearly
            ys, xs = np.nonzero(opening)
            weights = np.clip(np.quantile(light[opening], 0.5) - light[opening], 0, None) + 1e-3
            x, y = float(np.average(xs, weights=weights)), float(np.average(ys, weights=weights))
            center = points.mean(0)
            x = float(np.clip(x, center[0] - 0.2 * width, center[0] + 0.2 * width))
            found.append((x, y, 0.205 * width))
        return found

    def discs(self, scale: float, shift: tuple[float, float] = (0.0, 0.0), soft: float = 1.0) -> Plane:
        """A disc on each iris, `scale` times as large and shifted by shares of its radius; its edge `soft` pixels wide."""
        rows, columns = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
        mask = np.zeros((SIZE, SIZE), np.float32)
        for x, y, radius in self.irises:
            distance = np.hypot(columns - x - shift[0] * radius, rows - y - shift[1] * radius)
            mask = np.maximum(mask, np.clip((scale * radius - distance) / soft + 0.5, 0, 1))
        return mask

    @cached_property
    def whites(self) -> Plane:
        """Of the eyes, what is no iris and no lash."""
        if not self.irises:
            return np.zeros((SIZE, SIZE), np.float32)
        return self.openings * (1 - self.discs(1.15, soft=1.5))

    @cached_property
    def muzzle(self) -> Plane:
        """From the nose down to the chin, without the nose: where a cast shadow looks like a beard."""
        return self.polygon(
            [98, 97, 2, 326, 327, 410, 422, 430, 394, 379, 400, 152, 176, 150, 169, 210, 202, 186], soft=0.06
        )

    @cached_property
    def brows(self) -> Plane:
        return union(self.polygon(brow, grow=0.05, soft=0.04) for brow in BROWS)

    @cached_property
    def mouth(self) -> Plane:
        return self.polygon(LIPS, grow=0.04, soft=0.04)

    @cached_property
    def nose(self) -> Plane:
        mask = np.zeros((SIZE, SIZE), np.float32)
        for chain in (NOSE_BASE, *NOSTRILS):
            self.polyline(mask, chain, 0.16 * self.span)
        return np.clip(blur(mask, 0.05 * self.span), 0, 1)

    @cached_property
    def features(self) -> Plane:
        return union([self.eyes, self.brows, self.mouth, self.nose])

    @cached_property
    def glabella(self) -> Plane:
        """Between the brows: shadow there must never join them."""
        corners = [9, 107, 55, 193, 168, 417, 285, 336]
        return self.polygon(corners, soft=0.05) * (1 - 0.9 * self.brows)

    @cached_property
    def lids(self) -> Plane:
        """Between the brows and the openings of the eyes, where deep shadow would make one bar of both."""
        chains = zip(BROWS, UPPER_LIDS, strict=True)
        between = union(self.polygon(brow[:5] + upper[::-1], soft=0.03) for brow, upper in chains)
        return np.asarray(between * (1 - self.brows), np.float32)

    @cached_property
    def below_eyes(self) -> Plane:
        """Bags and rings below the eyes: where a kind hand draws no line."""
        rings = union(self.polygon(lower, grow=0.22, soft=0.05) for lower in LOWER_LIDS)
        return np.asarray(np.clip(rings * (1 - 1.3 * self.eyes), 0, 1), np.float32)

    @cached_property
    def skin_lab(self) -> NDArray[np.float32]:
        """Median color of the cheeks, forehead and nose, deep shadow left out."""
        inside = (self.face > 0.9) & (self.features < 0.1)
        if inside.sum() < 50:
            return np.array([60, 12, 15], np.float32)
        colors = self.bare_lab[inside]
        # Where light comes from one side, the lit half tells.
        return np.asarray(np.median(colors[colors[:, 0] > np.quantile(colors[:, 0], 0.15)], 0), np.float32)
