"""Random fields of a seed. They are drawn on grids that do not depend on the picture's size, so a seed is one drawing at any size."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]


def smooth_noise(size: int, rng: np.random.Generator, base: int, octaves: int) -> Field:
    """Fractal value noise, (size, size), mean 0, deviation 1; `base` cells across at the first octave."""
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        cells = base * 2**octave
        grid = rng.standard_normal((cells, cells), dtype=np.float32)
        total += 0.6**octave * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    return _standardized(total)


def grain_noise(size: int, rng: np.random.Generator, cells: int = 330) -> Field:
    """The grain of a sheet, (size, size), mean 0, deviation 1: two octaves of fine noise."""
    fine = cv2.resize(
        rng.standard_normal((cells, cells), dtype=np.float32), (size, size), interpolation=cv2.INTER_CUBIC
    )
    half = cells // 2
    broad = cv2.resize(rng.standard_normal((half, half), dtype=np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    total = fine + 0.8 * broad
    return _standardized(total)


def streak_tile(rng: np.random.Generator, side: int = 256, stretch: float = 24.0) -> Field:
    """A periodic tile of noise drawn out along its second axis, (side, side), mean 0, deviation 1: bristles."""
    noise = rng.standard_normal((side, side))
    frequency = np.fft.fftfreq(side)[:, None] ** 2 * 2.0 + (np.fft.fftfreq(side)[None] * stretch) ** 2
    spectrum = np.fft.fft2(noise) * np.exp(-40.0 * frequency * 0.25)
    tile = np.fft.ifft2(spectrum).real
    return np.asarray((tile - tile.mean()) / tile.std(), np.float32)


def follow(field: Field, dx: Field, dy: Field, steps: int, step: float) -> Field:
    """Average a field along the lines of a direction field: line integral convolution, deviation brought back to 1.

    Args:
        field: (S, S) noise.
        dx: (S, S) unit tangent, across; its sign does not matter.
        dy: The same, down.
        steps: Steps to either side.
        step: Their length in pixels.

    Reference:
        Cabral & Leedom 1993, "Imaging vector fields using line integral convolution".
    """
    size = field.shape[0]
    y0, x0 = np.mgrid[0:size, 0:size].astype(np.float32)
    total = field.copy()
    for sign in (1.0, -1.0):
        x, y = x0.copy(), y0.copy()
        px, py = sign * step * dx, sign * step * dy
        for _ in range(steps):
            x += px
            y += py
            nx = cv2.remap(dx, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
            ny = cv2.remap(dy, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
            turn = np.where(nx * px + ny * py < 0, -step, step).astype(np.float32)
            px, py = nx * turn, ny * turn
            total += cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return _standardized(total)


def _standardized(total: Field) -> Field:
    result: Field = (total - total.mean()) / (total.std() + 1e-6)
    return result
