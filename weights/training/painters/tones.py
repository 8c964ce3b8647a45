"""Tone in a few calm steps, features kept: what cut paper, screen prints and cels are cut from."""

from __future__ import annotations

import cv2
import numpy as np

from painters.scene import MOUTH_TOP, UPPER_LIP, Plane, Scene, blur, outline_map, to_lab


def poster_tone(scene: Scene, coarse: float) -> Plane:
    """Lightness on the face's own scale, smoothed strongly on skin, hair and cloth and lightly at the features.

    Smoothing is by medians: an edge stays one edge, and no ring of middle tones runs along it.
    """
    lightness = to_lab(scene.simplified(0.6 + 0.4 * coarse))[..., 0] / 100 + (scene.light - scene.lightness)
    calm = blur(_median(lightness, 9 + 16 * coarse), 1.0 + 1.0 * coarse)
    crisp = blur(scene.light, 1.0 + 0.8 * coarse)
    # At the features the local contrast is what makes eyes and mouth readable on any skin.
    crisp = np.clip(crisp + 0.5 * (crisp - blur(scene.lightness, 0.16 * scene.span)), 0, 1)
    wide = np.clip(blur(scene.features, 0.03 * scene.span) * 1.2, 0, 1) * (1 - 0.45 * coarse)
    tone = scene.relative(calm * (1 - wide) + crisp * wide, 0.32)
    return with_drawn_features(scene, tone)


def with_drawn_features(scene: Scene, tone: Plane) -> Plane:
    """Tone in which lips are lips and eyes have whites, whatever the light: the upper lip darker than the lower, teeth bright."""
    lips = blur(scene.polygon_lips(), 1.0)
    upper = blur(scene.polygon(UPPER_LIP + MOUTH_TOP[::-1]), 1.0)
    around = float(np.median(tone[(scene.face > 0.9) & (scene.features < 0.1)])) if scene.face.max() > 0.9 else 0.6
    open_skin = blur(scene.skin, 3) * (1 - np.clip(blur(scene.features, 2), 0, 1))
    tone = tone + 0.25 * open_skin * (around - tone) + 0.6 * scene.shaven * np.clip(around - tone, 0, 1)
    tone = tone * (1 - lips) + lips * np.minimum(tone, max(around - 0.16, 0.12))
    tone = tone * (1 - upper) + upper * np.minimum(tone, max(around - 0.28, 0.08))
    tone = tone + scene.whites * np.clip(min(around + 0.18, 0.92) - tone, 0, 0.5)
    tone = tone + scene.teeth * np.clip(0.95 - tone, 0, 1)
    return np.clip(tone - 0.75 * blur(scene.feature_ink, 0.8), 0, 1)


def cuts(scene: Scene, darkness: Plane, limits: tuple[float, ...], coarse: float) -> list[Plane]:
    """The outlines of the areas where `darkness` passes each of the rising limits, as a knife would cut them.

    No crumbs, no pinholes, and no slivers between two limits. They go on a little beyond the person, whose own outline ends them.
    """
    smooth = blur(darkness, 0.9 + 0.6 * coarse)
    fine = blur(scene.features, 3) > 0.25
    least = (0.0035 + 0.012 * coarse) * scene.span**2 * np.pi
    side = 2 * round((0.03 + 0.05 * coarse) * scene.span) + 1
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    near = cv2.dilate((scene.matte > 0.5).astype(np.uint8), np.ones((13, 13), np.uint8))
    areas: list[np.ndarray] = []
    for number, limit in enumerate(limits):
        dark = (smooth > limit).astype(np.uint8)
        if areas:
            band = areas[-1] * (1 - dark)
            dark = dark | ((band > cv2.morphologyEx(band, cv2.MORPH_OPEN, disk)) & ~fine & (cv2.dilate(dark, disk) > 0))
        for value in (1, 0):
            dark = _without_crumbs(dark.astype(np.uint8), value, fine, least * (1 + number))
        areas.append(dark)
    return [outline_map((dark * near).astype(np.float32)) for dark in areas]


def without_small(area: np.ndarray, least: float) -> np.ndarray:
    """An area, (H, W) bool, without its connected parts that have fewer pixels than `least`."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(area.astype(np.uint8), connectivity=4)
    large = stats[:, cv2.CC_STAT_AREA] >= least
    large[0] = False
    return np.asarray(large[labels])


def _without_crumbs(mask: np.ndarray, value: int, fine: np.ndarray, least: float) -> np.ndarray:
    """A mask, (H, W) uint8, in which connected areas of `value` are flipped that are too small; at the features far smaller ones stay."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((mask == value).astype(np.uint8), connectivity=4)
    at_features = np.bincount(labels[fine], minlength=count) > 0.5 * stats[:, cv2.CC_STAT_AREA]
    small = stats[:, cv2.CC_STAT_AREA] < np.where(at_features, 0.12 * least, least)
    small[0] = False
    return np.where(small[labels], 1 - value, mask).astype(np.uint8)


def _median(plane: Plane, size: float) -> Plane:
    """The median over a square of about `size` pixels."""
    side = 2 * int(size / 2) + 1
    eight_bit = np.round(np.clip(plane, 0, 1) * 255).astype(np.uint8)
    return cv2.medianBlur(eight_bit, side).astype(np.float32) / np.float32(255)
