"""Areas of tone as a knife would cut them, features kept: for washes and cels."""

from __future__ import annotations

import cv2
import numpy as np

from painters.scene import Plane, Scene, blur, outline_map


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
