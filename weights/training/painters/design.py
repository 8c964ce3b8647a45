"""Calm shapes for flat styles: what is cut from paper has no crumbs, no pinholes and no slivers, and a smooth border."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from painters.scene import Plane, blur

Mask = NDArray[np.bool_]
Levels = NDArray[np.uint8]


def disk(radius: float) -> NDArray[np.uint8]:
    """A round structuring element; `radius` in pixels."""
    side = 2 * max(1, round(radius)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def without_crumbs(mask: Mask, least: float) -> Mask:
    """A mask without connected parts, and without holes, of fewer pixels than `least`."""
    for value in (True, False):
        _, labels, stats, _ = cv2.connectedComponentsWithStats((mask == value).astype(np.uint8), connectivity=4)
        small = stats[:, cv2.CC_STAT_AREA] < least
        small[0] = False
        mask = np.where(small[labels], not value, mask)
    return mask


def smoothed(mask: Mask, sigma: float) -> Mask:
    """A mask with its border rounded as by a knife; `sigma` in pixels."""
    return np.asarray(blur(mask.astype(np.float32), sigma) > 0.5)


def calm(levels: Levels, region: Mask, least: float, sigma: float) -> Levels:
    """Levels of tone within a region, each level's area rounded, large enough and without slivers.

    Args:
        levels: (H, W); those outside the region are kept.
        region: Where to work.
        least: Pixels that an area has at least.
        sigma: How far corners are rounded, pixels.
    """
    result = np.zeros_like(levels)
    top = int(levels[region].max()) if region.any() else 0
    for level in range(1, top + 1):
        # Outside the region the levels go on as they are at its border, so that no rim appears along it.
        mask = _carried(levels >= level, region, sigma)
        result += without_crumbs(smoothed(mask, sigma), least).astype(np.uint8)
    return np.where(region, result, levels)


def _carried(mask: Mask, region: Mask, sigma: float) -> Mask:
    weight = region.astype(np.float32)
    inside = blur(weight * mask, 2 * sigma + 2)
    known = blur(weight, 2 * sigma + 2)
    return np.where(region, mask, inside > 0.5 * known)


def outline_maps(levels: Levels, person: Mask, count: int = 3, reach: float = 8.0) -> list[Plane]:
    """The outlines of the areas of level 1 and more, 2 and more, ...: each lies within the one before."""
    near = cv2.dilate(person.astype(np.uint8), disk(6)) > 0  # a little beyond the person, whose own outline ends them
    maps = []
    for level in range(1, count + 1):
        inside = ((levels >= level) & near).astype(np.uint8)
        if not inside.any():
            maps.append(np.zeros(levels.shape, np.float32))
            continue
        distance = cv2.distanceTransform(inside, cv2.DIST_L2, 5) - cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)
        maps.append(np.clip(0.5 + blur(distance.astype(np.float32), 0.7) / (2 * reach), 0, 1))
    return maps


def curve(points: NDArray[np.float32], steps: int = 8) -> NDArray[np.float32]:
    """A smooth line through points, (n, 2) -> ((n - 1) * steps + 1, 2).

    Reference:
        Catmull and Rom 1974.
    """
    ends = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.linspace(0, 1, steps, endpoint=False, dtype=np.float32)[:, None]
    pieces = [
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False)
    ]
    return np.concatenate([*pieces, points[-1:]]).astype(np.float32)


def stroke(canvas: Plane, line: NDArray[np.float32], width: NDArray[np.floating] | float, value: float = 1.0) -> None:
    """Draw a pen's line of changing width.

    Args:
        canvas: (H, W), drawn on.
        line: (n, 2) pixels.
        width: (m,) pixels at equal steps along the line, or one for all of it.
        value: Coverage.
    """
    along = np.gradient(line, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], 1) / np.maximum(np.hypot(*along.T), 1e-3)[:, None]
    widths = np.atleast_1d(np.asarray(width, np.float32))
    half = 0.5 * np.interp(np.linspace(0, 1, len(line)), np.linspace(0, 1, len(widths)), widths)[:, None]
    fill(canvas, np.concatenate([line + normal * half, (line - normal * half)[::-1]]), value)


def fill(canvas: Plane, outline: NDArray[np.floating], value: float = 1.0) -> None:
    """Fill a closed outline, (n, 2) pixels."""
    cv2.fillPoly(canvas, [np.round(outline * 16).astype(np.int32)], value, cv2.LINE_AA, 4)
