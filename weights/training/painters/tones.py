"""Tone in a few calm steps, features kept: what cut paper and screen prints are cut from."""

from __future__ import annotations

import numpy as np

from painters.scene import Plane, Scene, blur, to_lab


def poster_tone(scene: Scene, coarse: float) -> Plane:
    """Lightness on the face's own scale, smoothed strongly on skin, hair and cloth and lightly at the features."""
    lightness = to_lab(scene.simplified(0.6 + 0.4 * coarse))[..., 0] / 100 + (scene.light - scene.lightness)
    calm = blur(lightness, 2.4 + 7.0 * coarse)
    crisp = blur(scene.light, 1.0 + 0.8 * coarse)
    # At the features the local contrast is what makes eyes and mouth readable on any skin.
    crisp = np.clip(crisp + 0.5 * (crisp - blur(scene.lightness, 0.16 * scene.span)), 0, 1)
    wide = np.clip(blur(scene.features, 0.03 * scene.span) * 1.2, 0, 1) * (1 - 0.45 * coarse)
    tone = scene.relative(calm * (1 - wide) + crisp * wide, 0.22)
    return np.clip(tone - 0.75 * blur(scene.feature_ink, 0.8), 0, 1)
