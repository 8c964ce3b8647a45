"""Pictures, landmarks and embeddings: arrays that the type checker tells apart."""

from __future__ import annotations

from typing import NewType

import numpy as np
from numpy.typing import NDArray

RgbImage = NewType("RgbImage", NDArray[np.uint8])
"""(H, W, 3) uint8, RGB."""

Points = NewType("Points", NDArray[np.float32])
"""(5, 2) float32 pixels (x, y): left eye, right eye, nose, left and right mouth corner; left in the picture."""

Embedding = NewType("Embedding", NDArray[np.float32])
"""(D,) float32, unit length."""
