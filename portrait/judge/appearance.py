"""Describe a picture's color and texture in numbers, so that pictures of one style can be compared."""

from __future__ import annotations

import cv2
import numpy as np

from portrait.records import RgbImage

_SIDE = 256
_SCALES = 4


def appearance_features(picture: RgbImage) -> dict[str, float]:
    """Statistics of color and texture, of the picture at 256 pixels; name -> value.

    In CIE Lab: mean and spread of lightness, mean of a and b, mean and spread of chroma. Texture: the logarithm of the
    energy in four octaves of lightness (a Laplacian pyramid), which tells washes from lines and dots; the share of the
    picture that is flat; how much neighboring strokes share a direction (coherence of the structure tensor).

    Reference:
        Burt & Adelson 1983, "The Laplacian pyramid as a compact image code"; Bigun & Granlund 1987 (structure tensor).
    """
    small = cv2.resize(picture, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB)
    light = lab[..., 0]
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    features = {
        "lightness": float(light.mean()),
        "contrast": float(light.std()),
        "green_red": float(lab[..., 1].mean()),
        "blue_yellow": float(lab[..., 2].mean()),
        "chroma": float(chroma.mean()),
        "chroma_spread": float(chroma.std()),
    }
    level = light
    for octave in range(_SCALES):
        below = cv2.pyrDown(level)
        detail = level - cv2.pyrUp(below, dstsize=level.shape[::-1])
        features[f"detail_{_SIDE >> octave}"] = float(np.log(0.1 + np.sqrt(np.mean(detail * detail))))
        level = below
    dx = cv2.Sobel(light, cv2.CV_32F, 1, 0)
    dy = cv2.Sobel(light, cv2.CV_32F, 0, 1)
    features["flat"] = float((np.hypot(dx, dy) < 4).mean())
    xx = cv2.GaussianBlur(dx * dx, (0, 0), 3.0)
    yy = cv2.GaussianBlur(dy * dy, (0, 0), 3.0)
    xy = cv2.GaussianBlur(dx * dy, (0, 0), 3.0)
    coherence = np.sqrt((xx - yy) ** 2 + 4 * xy * xy) / (xx + yy + 1.0)
    features["coherence"] = float(coherence.mean())
    return {name: round(value, 4) for name, value in features.items()}
