"""Ink from a brush: a person's features, contours that swell, and lines that run along strands and folds."""

from __future__ import annotations

import cv2
import numpy as np

from painters.design import Mask, curve, disk, smoothed, stroke, without_crumbs
from painters.likeness import Likeness
from painters.scene import Scene
from portrait.generate.families.mini.sitter import JAW, LOWER_LIP, SIZE, Plane, blur, smoothstep


def ink_lines(likeness: Likeness) -> Plane:
    """All lines of a drawing in ink but the outline, (512, 512) in [0, 1]."""
    scene = likeness.scene
    lines = [features(likeness), own_darks(likeness), jaw(likeness), brushed(likeness)]
    whites = scene.openings * (1 - scene.discs(0.95))  # bare, or eyes become holes
    return np.maximum.reduce(lines) * (1 - 0.9 * whites) * ~likeness.teeth


def own_light(scene: Scene) -> Plane:
    """Lightness halfway from the kind light to the photo's own: no blemish, but the sockets and folds that make a person."""
    return np.asarray(0.5 * scene.lightness + 0.005 * scene.bare_lab[..., 0], np.float32)


def own_darks(likeness: Likeness) -> Plane:
    """What is darker than its surroundings in this face: lids, sockets, nostrils, corners of the mouth, folds of age.

    Likeness lives in these; the mesh alone draws nobody in particular.
    """
    scene, coarse = likeness.scene, likeness.coarse
    span = scene.span
    light = own_light(scene)
    dark = blur(light, 0.075 * span) - blur(light, (0.008 + 0.008 * coarse) * span)
    dark = along_flow(dark, scene.direction(2.5), 3)
    near = np.clip(1.5 * blur(scene.features, 0.03 * span), 0, 1)
    contrast = float(np.clip((scene.quantiles[6] - scene.quantiles[0]) / 0.4, 0.6, 1.3))
    # Bags below the eyes and the shadow around the lips are drawn by a kind hand, if at all.
    shaven = scene.muzzle * (1 - scene.mouth) * ~likeness.beard
    lips = blur(scene.polygon_lips(), 1.0)
    kind = 0.02 * (1 - near) + 0.015 * scene.below_eyes + 0.02 * shaven + 0.012 * scene.nose + 0.05 * lips
    limit = contrast * (0.030 + kind + 0.010 * coarse)
    lines = smoothstep(dark - limit, -0.012, 0.02) * likeness.face * (1 - scene.openings)
    return without_spots(lines, near > 0.3, (0.25 + 0.1 * coarse) * span)


def without_spots(lines: Plane, keep: Mask, length: float) -> Plane:
    """Lines without those that are short or broad, length in pixels; what touches `keep` stays."""
    drawn = (lines > 0.3).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(drawn, connectivity=8)
    long = np.hypot(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
    line = (long > length) & (stats[:, cv2.CC_STAT_AREA] < 0.2 * long**2)
    spots = ~line & (np.bincount(labels[keep], minlength=count) == 0)
    spots[0] = False
    return lines * ~(cv2.dilate(spots[labels].astype(np.uint8), np.ones((5, 5), np.uint8)) > 0)


def skin_area(likeness: Likeness) -> Mask:
    """Skin, and its shine below dark hair, which has hardly a color of its own."""
    hair = likeness.hair & likeness.near_face(0.25)
    if not hair.any():
        return likeness.skin
    light = blur(likeness.scene.bare_lab[..., 0], 1.5)
    dark, skin = float(np.median(light[likeness.hair])), float(likeness.scene.skin_lab[0])
    if dark > skin - 18:
        return likeness.skin
    area = smoothed(likeness.skin | (hair & (light > 0.35 * dark + 0.65 * skin)), 0.02 * likeness.scene.span)
    return without_crumbs(area, 0.03 * likeness.scene.span**2) & likeness.person


def features(likeness: Likeness) -> Plane:
    """Eyes, brows, nose and mouth, and the shadow below the lower lip."""
    scene = likeness.scene
    brows = np.zeros((SIZE, SIZE), np.float32)
    for shape, level in likeness.brows:
        if level < likeness.base + 2:  # fair or gray brows are thin ones
            shape = cv2.erode(shape.astype(np.uint8), disk(0.012 * scene.span)) > 0
        brows = np.maximum(brows, blur(shape.astype(np.float32), 0.8))
    below = np.zeros((SIZE, SIZE), np.float32)
    swell = np.array([0.002, 0.010, 0.020, 0.022, 0.020, 0.010, 0.002]) * (1 + 0.5 * likeness.coarse)
    stroke(below, curve(scene.mesh[LOWER_LIP[1:-1]] + 0.01 * scene.span * likeness.down), swell * scene.span)
    return np.maximum.reduce([likeness.ink, brows, blur(below, 0.6)])


def jaw(likeness: Likeness) -> Plane:
    """The jaw against the neck, heaviest at the chin; a beard has none."""
    scene = likeness.scene
    line = np.zeros((SIZE, SIZE), np.float32)
    swell = np.array([0.0, 0.012, 0.016, 0.020, 0.024, 0.020, 0.016, 0.012, 0.0]) * (1 + 0.6 * likeness.coarse)
    stroke(line, curve(scene.mesh[JAW[2:-2]]), swell * scene.span)
    neck = blur((likeness.skin & ~likeness.beard).astype(np.float32), 0.05 * scene.span)
    return blur(line, 0.6) * smoothstep(neck, 0.5, 0.8)


def contour(likeness: Likeness) -> Plane:
    """The person's outline as a brush draws it: heavy on the shadow's side and below."""
    scene = likeness.scene
    mask = (blur(scene.matte, 2.5 + 2.0 * likeness.coarse) > 0.5).astype(np.uint8)
    distance = np.where(
        mask > 0, cv2.distanceTransform(mask, cv2.DIST_L2, 5), cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5)
    )
    width = (0.9 + 2.5 * likeness.coarse) * (0.5 + 1.1 * scene.pressure(0.35))
    return np.clip(width - distance + 1, 0, 1).astype(np.float32)


def brushed(likeness: Likeness) -> Plane:
    """Lines where the photo has a strand, a fold or an edge: long and smooth, as they run along the form.

    Reference:
        Kang, Lee & Chui 2007, "Coherent line drawing": differences of Gaussians, averaged along the flow of the edges.
    """
    scene, coarse = likeness.scene, likeness.coarse
    sigma = 1.1 + 0.8 * coarse
    light = cv2.bilateralFilter(scene.lightness, 7, 0.10, 4).astype(np.float32, copy=False)
    local = np.sqrt(blur(np.square(light - blur(light, 14)), 14)) + 0.05
    ridge = blur(light, 1.6 * sigma) - 0.99 * blur(light, sigma)
    ridge = np.clip(ridge - 0.006, 0, None) / local  # the weave of a white shirt is no line
    ridge = along_flow(ridge.astype(np.float32), scene.direction(3.0 + 2.0 * coarse), 7)
    skin = blur(likeness.skin.astype(np.float32), 1.0) * (1 - 0.6 * scene.glasses)
    cloth = blur(likeness.cloth.astype(np.float32), 1.0)
    limit = 0.10 + 0.04 * coarse + (0.06 + 0.05 * coarse) * skin + (0.03 + 0.05 * coarse) * cloth
    line = smoothstep(ridge - limit, -0.02, 0.06) * smoothstep(blur(scene.matte, 2), 0.6, 0.95)
    line = line * (1 - 0.9 * np.maximum(scene.glabella, 0.8 * scene.below_eyes))
    line = line * (1 - np.clip(1.6 * scene.features, 0, 1))  # those are drawn by the mesh
    return scene.without_specks(np.clip(blur(line, 0.5 + 0.7 * coarse) * (1.1 + 0.5 * coarse), 0, 1), coarse)


def along_flow(plane: Plane, direction: Plane, steps: int) -> Plane:
    """A plane averaged along a field of directions, `direction` as in `Scene.direction`, `steps` pixels to both sides."""
    angle = 0.5 * np.arctan2(2 * direction[1] - 1, 2 * direction[0] - 1)
    dx, dy = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    rows, columns = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    total = plane.copy()
    mass = 1.0
    for sign in (1, -1):
        x, y, px, py = columns.copy(), rows.copy(), sign * dx, sign * dy
        for k in range(1, steps + 1):
            x += px
            y += py
            nx = cv2.remap(dx, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
            ny = cv2.remap(dy, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
            turn = np.where(nx * px + ny * py < 0, np.float32(-1), np.float32(1))
            px, py = nx * turn, ny * turn
            share = float(np.exp(-0.5 * (2 * k / steps) ** 2))
            total += share * cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
            mass += share
    return (total / np.float32(mass)).astype(np.float32)
