"""What several painters share: flat planes of a color, ink, hatching by tone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from painters.scene import SIZE, Plane, Scene, blur, smoothstep, to_lab

INK = np.array([0.09, 0.085, 0.10], np.float32)


def flat(color: NDArray[np.float32]) -> NDArray[np.float32]:
    """(3, 512, 512) of one color."""
    return np.broadcast_to(color[:, None, None], (3, SIZE, SIZE)).astype(np.float32)


def planes(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W, 3) -> (3, H, W)."""
    return np.ascontiguousarray(picture.transpose(2, 0, 1))


def channels(name: str, color: NDArray[np.float32]) -> dict[str, float]:
    """A global color (`ink`, `light`) as named values."""
    return {f"{name}_{c}": float(v) for c, v in zip("rgb", color, strict=True)}


def freedom(coarse: float) -> float:
    """How far colors may leave the photo's for the palette's, in [0, 1]: not up to the middle of the dial, wholly at its bold end."""
    return float(smoothstep(np.float32(coarse), 0.45, 1.0))


def feature_lines(scene: Scene, coarse: float) -> Plane:
    """A fine brush's last lines: lashes, irises with their light, brows, nostrils, the line of the mouth."""
    ink = np.clip((1.1 + 0.4 * coarse) * blur(scene.feature_ink, 0.6 + 0.5 * coarse), 0, 1)
    return ink * (1 - 0.9 * np.maximum(scene.teeth, scene.catchlights))


def drawn_tone(scene: Scene, coarse: float, absolute: float = 0.3) -> Plane:
    """Lightness as a draftsman sees it: summed up, on the face's own scale, the background left as paper."""
    simple = scene.simplified(coarse)
    lightness = to_lab(simple)[..., 0] / 100 + (scene.light - scene.lightness)
    tone = scene.relative(blur(lightness, 1.0 + 1.5 * coarse), absolute)
    # Local contrast, so that the form stays readable in hair and dark cloth.
    tone = np.clip(tone + 0.55 * (lightness - blur(lightness, 18)), 0, 1)
    tone = np.maximum(tone, 0.95 * np.maximum(scene.whites, scene.catchlights))
    return (1 - (1 - tone) * smoothstep(blur(scene.matte, 2.5), 0.3, 0.8)).astype(np.float32)
