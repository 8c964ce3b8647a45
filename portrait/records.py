"""Values that travel between the stations: faces, identities, knobs, attempts, records."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

RgbImage = np.ndarray
"""(H, W, 3) uint8, RGB."""

Points = np.ndarray
"""(5, 2) float32 pixels (x, y): left eye, right eye, nose, left and right mouth corner; left in the picture."""

Embedding = np.ndarray
"""(D,) float32, unit length."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Face:
    """One detected face. `bbox` is (x1, y1, x2, y2) float32 pixels, `det_score` in [0, 1]."""

    bbox: np.ndarray
    kps: Points
    det_score: float

    @property
    def width(self) -> float:
        return float(self.bbox[2] - self.bbox[0])

    @property
    def height(self) -> float:
        return float(self.bbox[3] - self.bbox[1])

    @property
    def size(self) -> float:
        """Geometric mean of width and height, pixels."""
        return float(np.sqrt(max(self.width, 0.0) * max(self.height, 0.0)))

    @property
    def center(self) -> tuple[float, float]:
        return float(self.bbox[0] + self.bbox[2]) / 2, float(self.bbox[1] + self.bbox[3]) / 2

    def moved(self, scale: float, dx: float, dy: float) -> Face:
        """The same face after a point p became p * scale + (dx, dy)."""
        shift = np.array([dx, dy], np.float32)
        bbox = self.bbox.reshape(2, 2) * np.float32(scale) + shift
        return Face(bbox=bbox.reshape(4), kps=self.kps * np.float32(scale) + shift, det_score=self.det_score)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Identity:
    """One person as every recogniser knows them: recogniser name -> unit embedding.

    `photos` counts how many photographs were averaged. `conditioning` is what the adapter is fed where that is not a
    judge's embedding; (512,) float32, of any length where the adapter was trained so.
    """

    embeddings: dict[str, Embedding]
    photos: int = 1
    conditioning: Embedding | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """The knobs of one attempt, under the names that diffusers gives them.

    `controlnet_conditioning_scale` in [0, 1] is how much of the source's structure the model sees: a
    ControlNet's scale where the recipe has one, the signal level of the source latents in `mini`.
    """

    strength: float
    guidance_scale: float
    ip_adapter_scale: float
    controlnet_conditioning_scale: float
    num_inference_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One generated picture and what was said of it. `similarity` and `style_on_face` as in `judge`."""

    knobs: Knobs
    seed: int
    similarity: dict[str, float]
    style_on_face: float
    face_found: bool
    accepted: bool
    reasons: tuple[str, ...] = ()
    seconds: float = 0.0
    measures: dict[str, float] = field(default_factory=dict)
