"""A person in a few flat tones: calm areas of the evenly lit face, and features drawn from the mesh.

Tones come from the form of this face; eyes, brows, nose and mouth are shapes of their own, in this person's proportions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from painters.design import Levels, Mask, calm, curve, disk, fill, smoothed, stroke, without_crumbs
from painters.scene import MOUTH_TOP, SIZE, UPPER_LIP, Plane, Scene, blur, smoothstep, to_lab
from portrait.generate.families.mini.sitter import (
    BROWS,
    CREASES,
    JAW,
    LIPS,
    LOWER_LIDS,
    LOWER_LIP,
    MOUTH_BOTTOM,
    NOSTRILS,
    UPPER_LIDS,
    union,
)

RIDGE = [168, 6, 197, 195, 5, 4]
NOSE_SIDES = (
    [193, 122, 196, 3, 51, 45, 220, 48, 49, 198, 236, 174],
    [417, 351, 419, 248, 281, 275, 440, 278, 279, 420, 456, 399],
)
"""The side planes of the nose, from its ridge to the cheek."""

LIGHT, MIDDLE, STRONG, DARK = range(4)
"""Levels of tone, from the lightest."""

SHARES = {28: (0.06, 0.66, 0.99), 45: (0.03, 0.40, 0.92), 57: (0.01, 0.20, 0.70), 72: (0.0, 0.06, 0.38)}
"""Of the face's skin, how much is dark; strong or darker; middle or darker: by the skin's lightness, CIELAB L*."""


@dataclass(eq=False)
class Likeness:
    """One person, as a maker of flat pictures sees them.

    Attributes:
        scene: The photo.
        coarse: 0 for fine shapes close to the person, 1 for few bold ones.
    """

    scene: Scene
    coarse: float

    @cached_property
    def person(self) -> Mask:
        return self.scene.matte > 0.5

    @cached_property
    def face(self) -> Mask:
        """The face within the mesh's outline."""
        return self.scene.face > 0.5

    @cached_property
    def skin(self) -> Mask:
        """Skin of face, neck and ears; hair that falls over the forehead or the cheeks is none."""
        scene = self.scene
        span = scene.span
        lab = to_lab(blur(scene.photo, 1.5))
        darker = lab[..., 0] - scene.skin_lab[0]
        color = scene.skin_lab[1:]
        # In shadow skin has less color, and where it shines: as a share of its usual color.
        share = lab[..., 1:] @ color / max(float(color @ color), 60)
        other = np.linalg.norm(lab[..., 1:] - share[..., None] * color, axis=-1)
        shaded = np.clip((lab[..., 0] + 16) / (scene.skin_lab[0] + 16), 0.35, 1.1)
        smooth = self.rough < 1.5  # shine and soft shadow are, gray hair is not
        least = np.where(darker < 0, shaded - 0.2, 0.5) - np.where(smooth, 0.25, 0)
        off = other + float(np.linalg.norm(color)) * (
            np.clip(least - share, 0, 1) + np.clip(share - shaded - 0.4, 0, 1)
        )

        rows, columns = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
        brow_row = float(scene.mesh[[107, 336], 1].mean())
        below = smoothstep(rows - brow_row, 0, 0.3 * span)
        jaw = np.sort(scene.mesh[[58, 288], 0])
        neck = (rows > float(scene.mesh[[58, 288], 1].mean())) & (columns > jaw[0]) & (columns < jaw[1])
        pale = float(np.clip(np.linalg.norm(color) / 26, 0.5, 1))  # the less color skin has, the more is like it
        alike = np.exp(
            -((off / (pale * (6 + 5 * below))) ** 2) - (darker / np.where(neck, 44, np.where(smooth, 32, 26))) ** 2
        )
        alike *= np.clip(0.4 + 40 * scene.softly(scene.face, 0.8), 0, 1) * (scene.softly(scene.face, 1.4) > 0.01)
        deep = neck & (lab[..., 0] < 30) & (other < 12) & self.near_face(0.45)  # so dark that it has no color

        # Inside the outline all is skin but hair: darker or grayer, and near the outline or above the brows.
        inner = cv2.erode(self.face.astype(np.uint8), disk(0.16 * span)) * (rows > brow_row - 0.1 * span)
        hairy = (darker < -19) | (share < np.minimum(least, 0.6) - 0.08)
        on_face = self.face & ~(hairy & (inner == 0) & (scene.features < 0.3))
        skin = smoothed(on_face | (((alike > 0.38) | deep) & ~self.face & self.person), 0.02 * span)
        return without_crumbs(skin & self.person, 0.08 * span**2)

    @cached_property
    def rough(self) -> Plane:
        """How much lightness, L*, changes within a few pixels: much in hair, little on skin."""
        scene = self.scene
        light = scene.bare_lab[..., 0]
        return np.sqrt(scene.softly(np.square(light - blur(light, 0.02 * scene.span)), 0.03))

    def near_face(self, reach: float) -> Mask:
        """Up to `reach` spans around the face."""
        return cv2.dilate(self.face.astype(np.uint8), disk(reach * self.scene.span)) > 0

    @cached_property
    def hair(self) -> Mask:
        """Hair, or what covers the head; below the chin what is colored like it."""
        scene = self.scene
        rows = np.arange(SIZE, dtype=np.float32)[:, None]
        chin = float(scene.mesh[152, 1])
        rest = self.person & ~self.skin
        above = rest & (rows < float(scene.mesh[[33, 263], 1].max()))
        above |= rest & (rows < float(scene.mesh[1, 1])) & self.near_face(0.3)
        if above.sum() < 0.02 * scene.span**2:
            return above
        color = np.median(scene.lab[above], 0)
        away = blur(scene.lab, 2.0) - color
        alike = np.exp(-((away[..., 0] / 16) ** 2) - np.square(away[..., 1:]).sum(-1) / 10**2) > 0.4
        reach = chin + 1.6 * scene.span
        hair = above | (rest & alike & (rows < reach))
        hair = without_crumbs(smoothed(hair, 0.03 * scene.span) & rest, 0.05 * scene.span**2)
        # Only what hangs together with the head's.
        _, labels = cv2.connectedComponents(hair.astype(np.uint8), connectivity=4)
        return hair & np.isin(labels, np.unique(labels[above & hair]))

    @cached_property
    def head(self) -> Mask:
        """Skin of face, ears and a bald head: not the neck's."""
        scene = self.scene
        rows = np.arange(SIZE, dtype=np.float32)[:, None]
        above = rows < float(scene.mesh[[58, 288], 1].mean()) - 0.1 * scene.span
        return self.skin & (self.face | above)

    @cached_property
    def cloth(self) -> Mask:
        return self.person & ~self.skin & ~self.hair

    def calm_within(self, plane: Plane, region: Mask, sigma: float) -> Plane:
        """A plane smoothed by `sigma` spans within a region; nothing from outside comes in."""
        weight = region.astype(np.float32) + np.float32(1e-4)
        return self.scene.softly(plane * weight, sigma) / self.scene.softly(weight, sigma)

    @cached_property
    def bare_skin(self) -> Plane:
        """Lightness of the skin as if there were no features: what they darken is filled from around them."""
        scene = self.scene
        open_skin = self.skin & (union([scene.eyes, scene.brows, scene.mouth, 0.8 * scene.nose]) < 0.25)
        filled = self.calm_within(scene.lightness, open_skin, 0.10)
        share = blur(open_skin.astype(np.float32), 0.03 * scene.span)
        share = np.clip(2 * share - 1, 0, 1)
        return share * scene.lightness + (1 - share) * filled

    @cached_property
    def skin_tone(self) -> Plane:
        """Lightness of the skin: calm areas where the form is made clear, and as the photo has it at the features.

        Who it is lies in how eyes, nose and mouth are modeled; the rest may be summed up.
        """
        scene = self.scene
        fine = 0.008 + 0.05 * self.coarse
        head = self.calm_within(self.bare_skin, self.head, fine) + self.form
        neck = self.calm_within(self.bare_skin, self.inside(self.skin & ~self.head), fine) - self.under_jaw
        crisp = blur(scene.light, (0.010 + 0.006 * self.coarse) * scene.span)
        crisp = crisp + np.float32(0.6) * (crisp - scene.softly(scene.lightness, 0.16))  # readable on any skin
        crisp = crisp + np.float32(0.06) * scene.nose  # the shadow below a nose is no clown's nose
        tone = np.where(self.head, head, neck)
        return (tone + self.at_features * (crisp - tone)).astype(np.float32)

    @cached_property
    def at_features(self) -> Plane:
        """1 at eyes, brows, nose and mouth, falling softly to 0 around them."""
        return np.clip(1.6 * blur(self.scene.features, 0.06 * self.scene.span), 0, 1)

    def inside(self, region: Mask) -> Mask:
        """A region without its border, where colors of two things mix."""
        core = cv2.erode(region.astype(np.uint8), disk(0.03 * self.scene.span)) > 0
        return core if core.any() else region

    @cached_property
    def form(self) -> Plane:
        """What light from above and from the brighter side adds and takes on a face, lightness."""
        scene = self.scene
        whole = smoothed(self.face | self.head, 0.06 * scene.span).astype(np.uint8)
        depth = np.asarray(cv2.distanceTransform(whole, cv2.DIST_L2, 5), np.float32) / scene.span
        turned = -0.09 * np.square(1 - np.clip(depth / 0.42, 0, 1))
        columns = np.arange(SIZE, dtype=np.float32)[None, :]
        across = np.clip((columns - scene.mesh[4, 0]) / scene.span, -1, 1) * self.light_side
        form = turned + 0.035 * across
        form += 0.05 * self.ribbon(RIDGE[1:], 0.11, 0.02)
        form -= 0.10 * scene.polygon(NOSE_SIDES[1 if self.light_side < 0 else 0], soft=0.012)
        form -= 0.05 * scene.lids
        form -= 0.09 * self.below(LOWER_LIP, 0.06, 0.1)
        form -= 0.06 * self.below([98, 97, 2, 326, 327], 0.0, 0.09)
        return (np.float32(0.6) * form).astype(np.float32)

    @cached_property
    def light_side(self) -> float:
        """-1: the light comes from the left of the picture; 1: from the right."""
        scene = self.scene
        inside = (scene.face > 0.9) & (scene.features < 0.2)
        light = scene.bare_lab[..., 0]
        left = np.arange(SIZE)[None, :] < scene.mesh[4, 0]
        halves = [light[inside & side] for side in (left, ~left)]
        if min(map(len, halves)) < 50:
            return -1.0
        return 1.0 if halves[1].mean() > halves[0].mean() else -1.0

    def ribbon(self, points: list[int], width: float, soft: float) -> Plane:
        """A band along mesh points; widths in spans."""
        mask = np.zeros((SIZE, SIZE), np.float32)
        stroke(mask, curve(self.scene.mesh[points]), width * self.scene.span)
        return blur(mask, soft * self.scene.span)

    def below(self, points: list[int], start: float, depth: float) -> Plane:
        """A crescent below a chain of mesh points, from `start` to `depth` spans down."""
        line = curve(self.scene.mesh[points])
        down = self.down * self.scene.span
        bulge = np.sin(np.linspace(0, np.pi, len(line)))[:, None]
        mask = np.zeros((SIZE, SIZE), np.float32)
        fill(mask, np.concatenate([line + start * down * bulge, (line + depth * down * bulge)[::-1]]))
        return blur(mask, 0.008 * self.scene.span)

    @cached_property
    def down(self) -> NDArray[np.float32]:
        """From forehead to chin, unit length."""
        axis = self.scene.mesh[152] - self.scene.mesh[10]
        return np.asarray(axis / max(float(np.linalg.norm(axis)), 1), np.float32)

    @cached_property
    def under_jaw(self) -> Plane:
        """The shadow of the head on the neck."""
        scene = self.scene
        far = cv2.distanceTransform(1 - self.face.astype(np.uint8), cv2.DIST_L2, 5) / scene.span
        rows = np.arange(SIZE, dtype=np.float32)[:, None]
        below = smoothstep(rows - float(scene.mesh[[58, 288], 1].mean()), -0.1 * scene.span, 0.15 * scene.span)
        return np.asarray(0.13 * below * (1 - smoothstep(far.astype(np.float32), 0.15, 0.5)), np.float32)

    @cached_property
    def skin_light(self) -> float:
        """Lightness of the evenly lit face, in [0, 1]."""
        inside = self.head & (self.scene.features < 0.1)
        return float(np.median(self.scene.lightness[inside])) if inside.any() else 0.6

    @cached_property
    def limits(self) -> tuple[float, float, float]:
        """Lightness of the skin below which it is dark, strong, middle."""
        inside = self.face & self.skin & (self.scene.features < 0.3)
        values = self.skin_tone[inside] if inside.sum() > 50 else self.skin_tone.ravel()
        shares = [
            np.interp(self.scene.skin_lab[0], list(SHARES), column) for column in zip(*SHARES.values(), strict=True)
        ]
        # Bold: more paper, and deeper shadows.
        bold = float(smoothstep(np.float32(self.coarse), 0.3, 1.0))
        shares = [shares[0], shares[1] * (1 + 0.25 * bold), shares[2] * (1 - 0.3 * bold)]
        dark, strong, middle = (float(np.quantile(values, share)) for share in shares)
        # On a face without any shadow the quantiles lie close together: no tone for mere noise.
        strong = min(strong, middle - 0.05)
        return min(dark, strong - 0.06), strong, middle

    @cached_property
    def base(self) -> int:
        """The level that most of the face has."""
        dark, strong, middle = self.limits
        median = float(np.median(self.skin_tone[self.face & self.skin]))
        return int(sum(median < limit for limit in (dark, strong, middle)))

    @cached_property
    def areas(self) -> Levels:
        """Levels of skin, hair and cloth, before any feature is drawn."""
        scene = self.scene
        unit = scene.span**2
        skin = np.sum([self.skin_tone < limit for limit in self.limits], 0).astype(np.uint8)
        # Well inside the face nothing is darker than its base but what the form explains: that would be a beard, or a bruise.
        whole = (self.face | self.head).astype(np.uint8)
        depth = cv2.distanceTransform(whole, cv2.DIST_L2, 5) / scene.span
        inside = max(self.base, MIDDLE) + (self.form < -0.02)
        darkest = np.where(self.head, np.where(depth > 0.22, inside, DARK), min(self.base + 1, STRONG))
        skin = np.clip(skin, np.where(self.head, LIGHT, self.base), darkest).astype(np.uint8)
        cloth = self.cloth_levels
        if self.cloth.any() and float(np.median(cloth[self.cloth])) == LIGHT:
            skin = np.where(self.head, skin, np.maximum(skin, MIDDLE)).astype(np.uint8)  # told apart from a white shirt
        islands = (0.015 + 0.02 * self.coarse) * unit
        modeled = calm(np.sum([self.skin_tone < limit for limit in self.limits], 0).astype(np.uint8),
                       self.skin, (0.0015 + 0.003 * self.coarse) * unit, 0.006 * scene.span)  # fmt: skip
        skin = calm(skin, self.skin, islands, (0.014 + 0.025 * self.coarse) * scene.span)
        lit = skin == LIGHT  # a small light on a cheek is a blotch
        skin = np.where(lit & ~without_crumbs(lit, 2 * islands), MIDDLE, skin).astype(np.uint8)
        modeled = np.minimum(modeled, self.darkest_modeled)
        skin = np.where(self.at_features > 0.4, modeled, skin)
        hair = calm(
            self.hair_levels, self.hair, (0.012 + 0.03 * self.coarse) * unit, (0.012 + 0.02 * self.coarse) * scene.span
        )
        cloth = calm(cloth, self.cloth, (0.05 + 0.1 * self.coarse) * unit, (0.03 + 0.03 * self.coarse) * scene.span)
        levels = np.where(self.skin, skin, np.where(self.hair, hair, cloth))
        return np.where(self.beard, self.beard_level, levels).astype(np.uint8)

    @cached_property
    def beard(self) -> Mask:
        """Hair around the mouth and along the jaw: grayer than skin in a shadow as dark, or dark under a kind light too."""
        scene = self.scene
        span = scene.span
        lab = blur(scene.bare_lab, 0.015 * span)
        shadowed = max(float(np.hypot(*scene.skin_lab[1:])), 8) * (lab[..., 0] + 16) / (scene.skin_lab[0] + 16)
        share = np.hypot(lab[..., 1], lab[..., 2]) / shadowed
        dark = blur(scene.lightness, 0.015 * span) < self.skin_light - 0.05
        down = (
            (np.mgrid[0:SIZE, 0:SIZE].transpose(1, 2, 0)[..., ::-1] - scene.mesh[[98, 327]].mean(0)) @ self.down / span
        )
        place = self.near_face(0.2) & self.person & ~self.hair & (down > 0.05) & (scene.mouth < 0.6)
        hair = place & ((share < 0.62) & (self.rough > 1.5) | dark & (self.rough > 3.5) & (scene.muzzle > 0.3))
        hair = without_crumbs(smoothed(hair, 0.03 * span), 0.02 * span**2) & place
        # A beard grows on both halves, and about the mouth: what does not is a shadow, or hair beside the jaw.
        _, labels = cv2.connectedComponents(hair.astype(np.uint8), connectivity=8)
        muzzle = hair & (scene.muzzle > 0.3)
        hair &= np.isin(labels, np.unique(labels[muzzle]))
        left = np.arange(SIZE)[None, :] < scene.mesh[0, 0]
        halves = sorted([(muzzle & left).sum(), (muzzle & ~left).sum()])
        grown = halves[0] > 0.25 * halves[1] and sum(halves) > 0.03 * span**2
        return hair if grown else np.zeros_like(hair)

    @cached_property
    def beard_level(self) -> int:
        """Lighter than the skin if it is gray, else one or two levels darker."""
        if not self.beard.any():
            return self.base
        light, *color = np.median(self.scene.bare_lab[self.beard], 0)
        lighter = float(light - self.scene.skin_lab[0])
        gray = float(np.hypot(*color)) < 0.65 * float(np.hypot(*self.scene.skin_lab[1:]))
        if gray and light > 36:
            return max(self.base - 1, LIGHT)
        return min(self.base + (1 if lighter > -16 else 2), DARK)

    @cached_property
    def darkest_modeled(self) -> Levels:
        """How dark a shadow at a feature may be: what is darker in eyes, nostrils and mouth is drawn."""
        scene = self.scene
        darkest = np.where(np.maximum(scene.eyes, scene.lids) > 0.3, DARK, STRONG)
        return np.maximum(darkest, min(self.base + 1, DARK)).astype(np.uint8)

    @cached_property
    def hair_levels(self) -> Levels:
        """One or two tones: what the hair is as a whole, and its lights or shadows."""
        light = self.calm_within(self.scene.lightness, self.inside(self.hair), 0.025 + 0.035 * self.coarse)
        values = light[self.hair]
        if len(values) < 50:
            return np.full((SIZE, SIZE), DARK, np.uint8)
        low, middle, high = np.quantile(values, [0.2, 0.5, 0.82 + 0.1 * self.coarse])
        whole = DARK if middle < 0.30 else STRONG if middle < 0.5 else MIDDLE
        if whole == self.base:  # told apart from the skin
            whole += 1 if middle < self.skin_light else -1
        levels = np.full((SIZE, SIZE), whole, np.uint8)
        inside = cv2.erode(self.hair.astype(np.uint8), disk(0.05 * self.scene.span)) > 0
        levels[inside & (light > max(float(high), middle + 0.06))] = max(whole - 1, LIGHT)
        if whole < DARK:
            levels[light < min(float(low), middle - 0.06)] = whole + 1
        return levels

    @cached_property
    def cloth_levels(self) -> Levels:
        # A median: between two colors of a dress there is no third.
        side = 2 * round((0.05 + 0.05 * self.coarse) * self.scene.span) + 1
        calm_light = self.calm_within(self.scene.lightness, self.inside(self.cloth), 0.02)
        light = cv2.medianBlur(np.round(255 * np.clip(calm_light, 0, 1)).astype(np.uint8), side)
        return np.sum([light < 255 * limit for limit in (0.28, 0.50, 0.76)], 0).astype(np.uint8)

    @cached_property
    def levels(self) -> Levels:
        """Levels of everything, eyes, brows and mouth included; lines are `ink`."""
        scene = self.scene
        levels = self.areas.copy()
        darker = np.minimum(levels + 1, STRONG if self.base < STRONG else DARK).astype(np.uint8)
        for region, level in self.brows:
            levels[region] = level
        upper = scene.polygon(UPPER_LIP + MOUTH_TOP[::-1]) > 0.5
        lips = scene.polygon(LIPS) > 0.5
        lower = lips & ~upper
        upper_level, lower_level = self.lip_levels
        levels[lower] = lower_level
        if lower_level == STRONG:
            levels[lower & self.lip_light] = MIDDLE
        levels[upper] = upper_level
        shadow = (self.below(LOWER_LIP, 0.012, 0.05) > 0.5) & ~lips
        levels[shadow] = darker[shadow]
        for opening in self.eyes:
            levels[opening] = LIGHT
        levels[self.teeth] = LIGHT
        return levels

    @cached_property
    def lip_levels(self) -> tuple[int, int]:
        """Of the upper and the lower lip: the upper is in its own shadow, the lower as red as this person's."""
        scene = self.scene
        lower = scene.polygon([*LOWER_LIP, *MOUTH_BOTTOM[::-1]]) > 0.5
        if not lower.any():
            return STRONG, STRONG
        away = np.median(scene.bare_lab[lower], 0) - scene.skin_lab
        red = bool(away[1] > 4 or away[0] < -4)
        if self.base < STRONG:
            return STRONG, STRONG if red else self.base
        return DARK, STRONG if red else MIDDLE

    @cached_property
    def lip_light(self) -> Mask:
        """The light on the lower lip."""
        mesh = self.scene.mesh
        middle = 0.5 * (mesh[[87, 14, 317]] + mesh[[84, 17, 314]])
        light = np.zeros((SIZE, SIZE), np.float32)
        widths = self.scene.span * np.array([0.006, 0.028, 0.03, 0.012])
        stroke(light, curve(middle), widths)
        return light > 0.5

    @cached_property
    def openings(self) -> list[NDArray[np.float32]]:
        """Outlines of the open eyes, (n, 2) pixels."""
        mesh = self.scene.mesh
        pairs = zip(UPPER_LIDS, LOWER_LIDS, strict=True)
        return [np.concatenate([curve(mesh[upper]), curve(mesh[lower])[::-1]]) for upper, lower in pairs]

    @cached_property
    def eyes(self) -> list[Mask]:
        """The opening of each eye."""
        found = []
        for outline in self.openings:
            opening = np.zeros((SIZE, SIZE), np.float32)
            fill(opening, outline)
            found.append(opening > 0.5)
        return found

    @cached_property
    def teeth(self) -> Mask:
        """One light shape between the lips."""
        teeth = self.scene.teeth > 0.45
        if teeth.sum() < 0.006 * self.scene.span**2:
            return np.zeros((SIZE, SIZE), bool)
        return without_crumbs(smoothed(teeth, 0.012 * self.scene.span), 0.004 * self.scene.span**2)

    @cached_property
    def brows(self) -> list[tuple[Mask, int]]:
        """The shape of each brow, as thick as this person's, and its level."""
        scene = self.scene
        light = blur(scene.lightness, 0.008 * scene.span)
        found = []
        contrasts = []
        for brow in BROWS:
            region = scene.polygon(brow, grow=0.035) > 0.5
            around = cv2.dilate(region.astype(np.uint8), disk(0.06 * scene.span)) > 0
            around &= ~region & self.skin
            if region.sum() < 12 or not around.any():
                continue
            skin = float(np.median(light[around]))
            dark = float(np.quantile(light[region], 0.15))
            contrasts.append(skin - dark)
            core = np.zeros((SIZE, SIZE), np.float32)
            line = 0.5 * (curve(scene.mesh[brow[:5]]) + curve(scene.mesh[brow[:4:-1]]))
            stroke(core, line, np.array([0.01, 0.03, 0.035, 0.03]) * scene.span)
            shape = (region & (light < skin - 0.42 * max(skin - dark, 0.05))) | (core > 0.5)
            found.append(without_crumbs(smoothed(shape, 0.012 * scene.span), 0.01 * scene.span**2))
        if not found:
            return []
        contrast = min(contrasts)  # light from one side must not blacken one brow
        level = self.base + (1 if contrast < 0.09 else 2 if contrast < 0.2 else 3)
        return [(shape, min(level, DARK)) for shape in found]

    @cached_property
    def ink(self) -> Plane:
        """Lines of a fine brush: lashes, irises with their light, creases, nostrils, the line of the mouth; in [0, 1]."""
        scene = self.scene
        span = scene.span
        weight = 1 + 0.5 * self.coarse
        ink = np.zeros((SIZE, SIZE), np.float32)
        for upper, lower, crease, outline in zip(UPPER_LIDS, LOWER_LIDS, CREASES, self.openings, strict=True):
            lash = np.array([0.014, 0.022, 0.026, 0.030, 0.022])  # from the left
            inner_first = upper[0] == UPPER_LIDS[1][0]
            width = float(np.linalg.norm(scene.mesh[upper[0]] - scene.mesh[upper[-1]]))
            open_wide = cv2.contourArea(outline) / max(0.2 * width**2, 1)
            heavy = weight * float(np.clip(open_wide, 0.55, 1))  # a heavy line would close a narrow eye
            stroke(ink, curve(scene.mesh[upper]), heavy * span * (lash if inner_first else lash[::-1]))
            stroke(ink, curve(scene.mesh[lower[2:-2]]), weight * span * 0.011, 0.7)
            if self.is_folded(crease):
                stroke(ink, curve(scene.mesh[crease[1:-1]]), weight * span * np.array([0.008, 0.015, 0.008]), 0.8)
            opening = np.zeros((SIZE, SIZE), np.float32)
            fill(opening, outline)
            ink = np.maximum(ink, opening * self.irises)
        for shape in self.nostrils:
            ink = np.maximum(ink, shape)
        ink = np.maximum(ink, self.mouth_line(weight))
        ink = np.maximum(ink, self.jaw_line(weight))
        return np.asarray(np.maximum(ink * (1 - self.catchlights), self.folds), np.float32)

    @cached_property
    def irises(self) -> Plane:
        """Dark rings and pupils; light eyes leave the iris itself open."""
        scene = self.scene
        whole = scene.discs(1.0)
        body = (scene.discs(0.85) > 0.5) & (scene.discs(0.5) < 0.5) & (scene.openings > 0.5)
        if body.any() and float(np.median(scene.bare_lab[body][:, 0])) > max(38.0, 0.62 * float(scene.skin_lab[0])):
            return np.asarray(whole * (1 - scene.discs(0.74)) + scene.discs(0.46), np.float32)
        return whole

    @cached_property
    def catchlights(self) -> Plane:
        return self.scene.discs(0.36, (-0.30, -0.30))

    def is_folded(self, chain: list[int]) -> bool:
        """Whether the photo is darker along a chain of mesh points than above it."""
        scene = self.scene
        line = curve(scene.mesh[chain[1:-1]])
        light = blur(scene.bare_lab[..., 0], 0.008 * scene.span)

        def along(shift: float) -> float:
            x, y = np.clip(np.round(line + shift * scene.span * self.down).astype(int), 0, SIZE - 1).T
            return float(light[y, x].mean())

        return min(along(shift) for shift in (-0.015, 0.0, 0.015)) < along(-0.06) - 1.5

    @cached_property
    def nostrils(self) -> list[Plane]:
        """The holes where the photo has them, and the wings' lines."""
        scene = self.scene
        span = scene.span
        light = blur(scene.bare_lab[..., 0] / np.float32(100), 0.006 * span)
        shapes = []
        for chain, base in zip(NOSTRILS, ((98, 97), (327, 326)), strict=True):
            wing = np.zeros((SIZE, SIZE), np.float32)
            stroke(wing, curve(scene.mesh[chain]), span * np.array([0.006, 0.016, 0.010]), 0.8)
            hole = np.zeros((SIZE, SIZE), np.float32)
            outer, inner = scene.mesh[list(base)]
            stroke(hole, curve(np.stack([outer, 0.5 * (outer + inner) - 0.02 * span * self.down, inner])),
                   span * np.array([0.008, 0.035, 0.012]))  # fmt: skip
            zone = cv2.dilate(hole, disk(0.035 * span)) > 0.5
            if zone.any():
                dark, usual = np.quantile(light[zone], [0.05, 0.75])
                own = zone & (light < dark + 0.3 * (usual - dark)) & (usual - dark > 0.1)
                hole = np.maximum(0.9 * hole, blur(own.astype(np.float32), 0.8))
            shapes += [wing, hole]
        return shapes

    def mouth_line(self, weight: float) -> Plane:
        """Between the lips: one line if they are closed, the dark of an open mouth around the teeth."""
        scene = self.scene
        span = scene.span
        ink = np.zeros((SIZE, SIZE), np.float32)
        top, bottom = curve(scene.mesh[MOUTH_TOP]), curve(scene.mesh[MOUTH_BOTTOM])
        widths = weight * span * np.array([0.018, 0.014, 0.020, 0.014, 0.018])
        gap = float(np.linalg.norm(scene.mesh[13] - scene.mesh[14])) / span
        if gap < 0.07:
            stroke(ink, 0.5 * (top + bottom), widths)
            return ink
        fill(ink, np.concatenate([top, bottom[::-1]]))
        dark = scene.lightness < 0.55 * float(scene.skin_lab[0]) / 100
        ink *= blur((dark & ~self.teeth).astype(np.float32), 0.8)
        stroke(ink, top, 0.8 * widths)
        stroke(ink, bottom, 0.5 * widths)
        return ink

    def jaw_line(self, weight: float) -> Plane:
        """The line of the jaw where face and neck have the same tone."""
        scene = self.scene
        line = np.zeros((SIZE, SIZE), np.float32)
        stroke(line, curve(scene.mesh[JAW[3:-3]]), weight * scene.span * np.array([0.0, 0.012, 0.018, 0.012, 0.0]), 0.9)
        levels = self.areas.astype(np.float32)
        face, neck = (self.calm_within(levels, region, 0.03) for region in (self.head, self.skin & ~self.head))
        here = blur((self.skin & ~self.head).astype(np.float32), 0.03 * scene.span) > 0.2
        return line * (here & (np.abs(face - neck) < 0.5))

    @cached_property
    def folds(self) -> Plane:
        """The boldest lines of age and expression, and the rims of glasses."""
        scene = self.scene
        span = scene.span
        light = blur(scene.lightness, 0.008 * span)
        closed = np.asarray(cv2.morphologyEx(light, cv2.MORPH_CLOSE, disk(0.035 * span)), np.float32)
        depth = closed - light
        quiet = union([scene.brows, scene.mouth, scene.nose, scene.eyes])
        limit = (0.035 + 0.045 * self.coarse) + 0.10 * scene.below_eyes
        lines = (depth > limit) & self.skin & self.face & (np.maximum(quiet, scene.muzzle) < 0.15)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(lines.astype(np.uint8), connectivity=8)
        length = np.hypot(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
        keep = length > (0.22 + 0.2 * self.coarse) * span
        keep[0] = False
        return blur(keep[labels].astype(np.float32), 0.7) * smoothstep(depth, 0.03, 0.09)
