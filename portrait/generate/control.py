"""What a ControlNet sees of the photo: edges, lines, the photo itself, or the five points of the face."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from portrait.errors import SettingsError
from portrait.records import Face, Points, RgbImage

_LIMBS = ((0, 2), (1, 2), (3, 2), (4, 2))
_COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255))


def control_image(kind: str, image: RgbImage, face: Face | None) -> RgbImage:
    """Draw what the ControlNet of this kind was trained to see of a (H, W, 3) uint8 RGB picture, in the same shape.

    The kinds are canny (white edges on black), lineart (white lines on black), tile (the photo), and keypoints (the five points
    of its face as InstantID draws them).

    Raises:
        SettingsError: keypoints without a face.
    """
    if kind == "canny":
        # At 100 and 200, as in the training of control_v11p_sd15_canny and controlnet-canny-sdxl.
        return _gray(np.asarray(cv2.Canny(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 100, 200), np.uint8))
    if kind == "lineart":
        return _gray(_lines(image))
    if kind == "tile":
        return image.copy()
    if face is None:
        raise SettingsError("this recipe draws the face's points, so it needs the face of the photo")
    return draw_keypoints(face.kps, image.shape[0], image.shape[1])


def _gray(lines: NDArray[np.uint8]) -> RgbImage:
    return RgbImage(np.repeat(lines[..., None], 3, -1))


def _lines(image: RgbImage) -> NDArray[np.uint8]:
    """Lines without a network: where a pixel is darker than its blurred surroundings.

    Reference:
        "lineart standard" of controlnet_aux (Gaussian of sigma 6, contrast by the median of what is above 8).
    """
    x = image.astype(np.float32)
    dark = np.asarray(cv2.GaussianBlur(x, (0, 0), 6.0) - x).min(-1).clip(0, 255)
    strong = dark[dark > 8]
    contrast = max(16.0, float(np.median(strong))) if strong.size else 16.0
    return np.asarray((dark / contrast * 127).clip(0, 255), np.uint8)


def draw_keypoints(kps: Points, height: int, width: int) -> RgbImage:
    """Five colored points and the limbs that join them to the nose, on black.

    Reference:
        Wang et al. 2024, InstantID, `draw_kps`; sizes are for about 1024 px there and scaled here.
    """
    out = np.zeros((height, width, 3), np.uint8)
    unit = min(height, width) / 1024
    for a, b in _LIMBS:
        (x1, y1), (x2, y2) = kps[a], kps[b]
        length = float(np.hypot(x1 - x2, y1 - y2))
        angle = int(np.degrees(np.arctan2(y1 - y2, x1 - x2)))
        center = (int((x1 + x2) / 2), int((y1 + y2) / 2))
        axes = (int(length / 2), max(1, round(4 * unit)))
        cv2.fillConvexPoly(out, np.array(cv2.ellipse2Poly(center, axes, angle, 0, 360, 1)), _COLORS[a])
    out = (out * 0.6).astype(np.uint8)
    radius = max(1, round(10 * unit))
    for (x, y), color in zip(kps, _COLORS, strict=True):
        cv2.circle(out, (int(x), int(y)), radius, color, -1)
    return RgbImage(out)
