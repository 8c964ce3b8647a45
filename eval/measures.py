"""Measurements that the library does not make: color and lightness of a face, grids, and an interval of a mean."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000

from portrait.faces.alignment import align_face
from portrait.records import Points, RgbImage

CROP = 112
PERIOD = 16
"""Pixels of a picture per cell of `mini`'s latents."""
HARMONICS = (1, 2, 3, 4)
_TILE = 64
_NEAR = 2
"""Distance in bins between a frequency and those that it is compared with; a Hann window smears by one bin."""


def _lab(picture: RgbImage) -> NDArray[np.float32]:
    """(H, W, 3) CIE Lab, L in [0, 100]."""
    return np.asarray(cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)


def color_change(a: RgbImage, b: RgbImage, kps: Points) -> float:
    """Mean CIEDE2000 between two pictures of one framed photo, on the aligned face; 2.3 is just noticeable in a swatch."""
    return float(deltaE_ciede2000(_lab(align_face(a, kps, CROP)), _lab(align_face(b, kps, CROP))).mean())


def face_lightness(picture: RgbImage, kps: Points) -> float:
    """Mean CIE L, 0 to 100, inside the face: an ellipse on the aligned crop that leaves out hair and background."""
    inside = cv2.ellipse(np.zeros((CROP, CROP), np.uint8), (56, 64), (29, 37), 0, 0, 360, 1, -1) > 0
    return float(_lab(align_face(picture, kps, CROP))[..., 0][inside].mean())


def grid_energy(picture: RgbImage) -> dict[str, float]:
    """How much the frequencies of the latents' cells stand out from neighboring ones, in the flattest quarter of a picture.

    The power spectra of the tiles of 64 px whose smoothed lightness varies least are averaged.

    Args:
        picture: (H, W, 3) uint8, RGB, 128 px or more.

    Returns:
        Cycles per pixel, such as "1/16", and its harmonics -> power along rows and columns over that of the frequencies
        around it; 1 where there is no grid, 4 where the grid has twice the amplitude.
    """
    light = _lab(picture)[..., 0]
    smooth = cv2.GaussianBlur(light, (0, 0), 4)
    places = [
        (y, x)
        for y in range(0, light.shape[0] - _TILE + 1, _TILE // 2)
        for x in range(0, light.shape[1] - _TILE + 1, _TILE // 2)
    ]
    places.sort(key=lambda at: float(smooth[at[0] : at[0] + _TILE, at[1] : at[1] + _TILE].std()))
    window = np.outer(np.hanning(_TILE), np.hanning(_TILE))
    power = np.zeros((_TILE, _TILE))
    for y, x in places[: max(1, len(places) // 4)]:
        tile = light[y : y + _TILE, x : x + _TILE]
        power += np.abs(np.fft.fft2((tile - tile.mean()) * window)) ** 2
    results = {}
    for harmonic in HARMONICS:
        bin_ = harmonic * _TILE // PERIOD
        logs = [_above_neighbors(power, 0, bin_), _above_neighbors(power, bin_, 0)]
        results[_fraction(harmonic)] = float(np.exp(np.mean(logs)))
    return results


def _above_neighbors(power: NDArray[np.float64], row: int, column: int) -> float:
    """The logarithm of a frequency's power over the mean of those `_NEAR` bins around it."""
    ring = [
        power[(row + dy) % _TILE, (column + dx) % _TILE]
        for dy in range(-_NEAR, _NEAR + 1)
        for dx in range(-_NEAR, _NEAR + 1)
        if max(abs(dy), abs(dx)) == _NEAR
    ]
    floor = 1e-3  # so that nothing stands out in a flat picture
    return float(np.log(power[row, column] + floor) - np.mean(np.log(np.array(ring) + floor)))


def _fraction(harmonic: int) -> str:
    """The frequency of a harmonic in cycles per pixel, such as 1/8 for the second one of cells of 16 px."""
    divisor = int(np.gcd(harmonic, PERIOD))
    return f"{harmonic // divisor}/{PERIOD // divisor}"


def bootstrap_mean(values: np.ndarray, people: np.ndarray) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a mean, resampling people with all their pictures.

    It is too narrow below about 20 people.

    Args:
        values: (N,) one per picture.
        people: (N,) the person of each picture.

    Returns:
        (low, high); both the mean itself when there is only one person.

    Reference:
        Efron 1979; the cluster bootstrap as in Davison & Hinkley 1997, section 3.8.
    """
    _, whose = np.unique(people, return_inverse=True)
    sums, counts = np.bincount(whose, weights=values), np.bincount(whose)
    picks = np.random.default_rng(0).integers(len(sums), size=(2000, len(sums)))
    low, high = np.quantile(sums[picks].sum(1) / counts[picks].sum(1), (0.025, 0.975))
    return float(low), float(high)
