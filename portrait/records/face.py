"""A detected face, and a person's identity by the recognizers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from portrait.records.arrays import Embedding, Points, RgbImage


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Face:
    """One detected face. `bbox` is (x1, y1, x2, y2) float32 pixels, `det_score` in [0, 1]."""

    bbox: np.ndarray
    kps: Points
    det_score: float

    @property
    def width(self) -> float:
        """Of the box, pixels."""
        return float(self.bbox[2] - self.bbox[0])

    @property
    def height(self) -> float:
        """Of the box, pixels."""
        return float(self.bbox[3] - self.bbox[1])

    @property
    def size(self) -> float:
        """Geometric mean of width and height, pixels."""
        return float(np.sqrt(max(self.width, 0.0) * max(self.height, 0.0)))

    @property
    def center(self) -> tuple[float, float]:
        """(x, y) of the box, pixels."""
        return float(self.bbox[0] + self.bbox[2]) / 2, float(self.bbox[1] + self.bbox[3]) / 2

    def moved(self, scale: float, dx: float, dy: float) -> Face:
        """The same face after each point p became p * scale + (dx, dy)."""
        shift = np.array([dx, dy], np.float32)
        bbox = self.bbox.reshape(2, 2) * np.float32(scale) + shift
        kps = Points((self.kps * np.float32(scale) + shift).astype(np.float32, copy=False))
        return Face(bbox=bbox.reshape(4), kps=kps, det_score=self.det_score)

    def entry(self, index: int) -> dict[str, object]:
        """The face as JSON values for callers, as number `index` from the left; pixels are rounded to a tenth."""
        return {
            "index": index,
            "bbox": [round(float(value), 1) for value in self.bbox],
            "kps": [[round(float(x), 1), round(float(y), 1)] for x, y in self.kps],
            "det_score": round(self.det_score, 4),
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Identity:
    """One person's identity by every recognizer: recognizer name -> unit embedding.

    `photos` counts how many photographs were averaged. `conditioning` is the adapter's input if that is not a judge's
    embedding; (512,) float32, of any norm if the adapter was trained on raw embeddings. `pictures` are heads cut out of the
    photographs, (P, P, 3) uint8 RGB each, for models that are shown the person; else there are none.
    """

    embeddings: dict[str, Embedding]
    photos: int = 1
    conditioning: Embedding | None = None
    pictures: tuple[RgbImage, ...] = ()
