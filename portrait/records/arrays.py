"""Pictures, landmarks and embeddings as arrays."""

from __future__ import annotations

import numpy as np

RgbImage = np.ndarray
"""(H, W, 3) uint8, RGB."""

Points = np.ndarray
"""(5, 2) float32 pixels (x, y): left eye, right eye, nose, left and right mouth corner; left in the picture."""

Embedding = np.ndarray
"""(D,) float32, unit length."""
