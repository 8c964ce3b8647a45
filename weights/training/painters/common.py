"""What several painters share: flat planes of a color, ink, hatching by tone."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from painters.scene import SIZE, Plane, Scene, blur, smoothstep, to_lab
from painters.tones import without_small

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


def contours(scene: Scene, coarse: float) -> Plane:
    """A draftsman's lines but those at the features: outlines, hair, folds of cloth, and where cloth begins on the skin."""
    rows = np.arange(SIZE, dtype=np.float32)[:, None]
    below = smoothstep(rows, float(scene.mesh[152, 1]), float(scene.mesh[152, 1]) + 0.2 * scene.span)
    skin = (blur(scene.skin, 3) > 0.5).astype(np.float32)
    border = cv2.morphologyEx(skin, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) * below
    border *= color_steps(scene.bare, 1.5) > 5  # cloth differs in color; the end of a shadow is no neckline
    neckline = without_small(border > 0.5, 0.8 * scene.span) * smoothstep(scene.matte, 0.9, 1.0)
    lines = np.maximum(scene.ink_lines(coarse), (1.3 + coarse) * blur(neckline.astype(np.float32), 0.8 + 0.8 * coarse))
    return np.clip(lines * (1 - scene.features), 0, 1).astype(np.float32)


def hair_mask(scene: Scene) -> Plane:
    """Hair in whole areas that begin on the head: patches of shadow on skin are none, nor is dark cloth."""
    side = 2 * round(0.05 * scene.span) + 1
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    lab = to_lab(blur(scene.bare, 3))
    beside_skin = lab - scene.skin_lab
    bare_skin = (np.hypot(beside_skin[..., 1], beside_skin[..., 2]) < 11) & (beside_skin[..., 0] > -26)
    other = scene.matte * (1 - np.clip(blur(scene.skin, 2), 0, 1)) * ~bare_skin
    whole = cv2.morphologyEx(other.astype(np.float32), cv2.MORPH_OPEN, disk) > 0.5
    rows = np.arange(SIZE)[:, None]
    on_head = whole & (rows < scene.mesh[[33, 263], 1].max())
    if on_head.sum() < 50:
        return np.zeros((SIZE, SIZE), np.float32)
    far = np.linalg.norm((lab - np.median(lab[on_head], 0)) * np.array([0.7, 1, 1], np.float32), axis=-1) > 20
    whole &= (rows < scene.mesh[[132, 361], 1].min()) | ~far
    _, labels = cv2.connectedComponents(whole.astype(np.uint8))
    rooted = np.bincount(labels[on_head & whole], minlength=labels.max() + 1) > 0.2 * scene.span**2
    rooted[0] = False
    return smoothstep(blur(rooted[labels].astype(np.float32), 1.5) * (1 - scene.features), 0.3, 0.7)


def strands(scene: Scene, shade: Plane, darkest: float = 0.85) -> Plane:
    """Hair as strands along its form, map `groove`: dark where `shade` is, single strands lighter."""
    shine = scene.lightness - blur(scene.lightness, 6)
    return (np.clip(0.1 + 0.7 * shade - 3.0 * shine, 0.02, darkest) * hair_mask(scene)).astype(np.float32)


def color_steps(color: NDArray[np.float32], sigma: float) -> Plane:
    """How steep the colors of a smoothed picture are, in CIELAB units a pixel."""
    lab = to_lab(blur(color, sigma))
    across, down = (cv2.Sobel(lab, cv2.CV_32F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1)))
    return np.asarray(np.hypot(across, down).max(-1), np.float32)


def evenness(color: NDArray[np.float32], reach: float) -> Plane:
    """Where a stroke of the given reach, in pixels, crosses no border between colors: 1 there, 0 at such borders."""
    lab = to_lab(blur(color, 1.5))
    steps = np.hypot(cv2.Sobel(lab, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(lab, cv2.CV_32F, 0, 1, scale=1 / 8)).max(
        -1
    )
    side = 2 * round(reach / 2) + 1
    return 1 - smoothstep(blur(cv2.dilate(steps, np.ones((side, side), np.uint8)).astype(np.float32), 1.5), 2.5, 6.0)


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
