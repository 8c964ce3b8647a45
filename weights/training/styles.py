"""The painters: classical renderings of a photo, used only as training targets of `mini`.

Each painter takes a square (S, S, 3) float32 RGB picture in [0, 1] and a NumPy generator, and returns
the same shape and range. They are written for S = 512. Nothing in `portrait/` imports this file: no
filter makes or finishes a picture of the product.

References:
    Kyprianidis et al. 2009 (anisotropic Kuwahara), Winnemoeller et al. 2012 (XDoG), Kang et al. 2007
    (coherent lines), Bousseau et al. 2006 (watercolor pigment model), Cabral & Leedom 1993 (LIC).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

Picture = np.ndarray
Painter = Callable[[Picture, np.random.Generator], Picture]


def _luma(image: Picture) -> Picture:
    return cv2.cvtColor(np.ascontiguousarray(image, np.float32), cv2.COLOR_RGB2GRAY)


def _blur(image: Picture, sigma: float) -> Picture:
    return cv2.GaussianBlur(image, (0, 0), sigma)


def _to_lab(image: Picture) -> Picture:
    return cv2.cvtColor(np.clip(image, 0, 1).astype(np.float32), cv2.COLOR_RGB2LAB)


def _from_lab(lab: Picture) -> Picture:
    return np.clip(cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB), 0, 1)


def _chroma(image: Picture, factor: float) -> Picture:
    """Scale chroma in Lab, with a soft ceiling so that lips and shirts do not clip."""
    lab = _to_lab(image)
    radius = np.hypot(lab[..., 1], lab[..., 2])
    wanted = 90 * np.tanh(radius * factor / 90)
    lab[..., 1:] *= (wanted / np.maximum(radius, 1e-3))[..., None]
    return _from_lab(lab)


def _open_shadows(image: Picture, target: float = 0.52) -> Picture:
    """Lift (or hold) the exposure so that very dark and very light skin both keep their modelling."""
    luma = _luma(image)
    height, width = luma.shape
    centre = luma[height // 5 : 4 * height // 5, width // 5 : 4 * width // 5]
    middle = float(np.clip(np.median(centre), 0.08, 0.92))
    gamma = float(np.clip(np.log(target) / np.log(middle), 0.6, 1.35))
    return np.power(np.clip(image, 0, 1), gamma).astype(np.float32)


def _noise(size: int, rng: np.random.Generator, base: int, octaves: int) -> Picture:
    """Fractal value noise in [0, 1], (size, size) float32."""
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        n = min(base * 2**octave, size)
        grid = rng.random((n, n), dtype=np.float32)
        total += 0.6**octave * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    low, high = total.min(), total.max()
    return (total - low) / (high - low)


def _flow(luma: Picture, sigma: float) -> tuple[Picture, Picture, Picture]:
    """Return the unit tangent (tx, ty) of the smoothed structure tensor and its coherence in [0, 1]."""
    gx = cv2.Scharr(luma, cv2.CV_32F, 1, 0)
    gy = cv2.Scharr(luma, cv2.CV_32F, 0, 1)
    a, b, c = _blur(gx * gx, sigma), _blur(gx * gy, sigma), _blur(gy * gy, sigma)
    angle = 0.5 * np.arctan2(2 * b, a - c)
    root = np.sqrt((a - c) ** 2 + 4 * b * b)
    coherence = root / (a + c + 1e-4)
    return -np.sin(angle), np.cos(angle), coherence


def _along(image: Picture, tx: Picture, ty: Picture, length: int) -> Picture:
    """Line integral convolution: average each pixel along its streamline, `length` pixels each way."""
    height, width = tx.shape
    y0, x0 = np.mgrid[0:height, 0:width].astype(np.float32)
    total, count = image.astype(np.float32).copy(), 1
    for sign in (1.0, -1.0):
        x, y = x0.copy(), y0.copy()
        px, py = sign * tx, sign * ty
        for _ in range(length):
            x, y = x + px, y + py
            nx = cv2.remap(tx, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
            ny = cv2.remap(ty, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
            turn = np.sign(nx * px + ny * py)
            px, py = nx * turn, ny * turn
            total += cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            count += 1
    return total / count


@lru_cache(maxsize=8)
def _sectors(radius: int, count: int = 8) -> list[Picture]:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float32)
    distance, angle = np.hypot(x, y), np.arctan2(y, x)
    weight = np.exp(-(distance**2) / (2 * (radius / 2) ** 2)) * (distance <= radius)
    kernels = []
    for i in range(count):
        kernel = weight * np.clip(np.cos(angle - 2 * np.pi * i / count), 0, None) ** 3
        kernel[radius, radius] = weight[radius, radius] * 0.3
        kernels.append((kernel / kernel.sum()).astype(np.float32))
    return kernels


def _kuwahara(image: Picture, radius: int, sharpness: float = 8) -> Picture:
    """Generalised Kuwahara: each pixel takes the mean of the sectors (of eight) that are calm for their lightness."""
    total = np.zeros_like(image, np.float32)
    weights = np.zeros((*image.shape[:2], 1), np.float32)
    square = image * image
    for kernel in _sectors(radius):
        mean = cv2.filter2D(image, -1, kernel)
        spread = np.sqrt(np.clip(cv2.filter2D(square, -1, kernel) - mean * mean, 0, None))
        contrast = spread.sum(-1, keepdims=True) / (mean.mean(-1, keepdims=True) + 0.12)  # or black floods the eyes
        weight = 1 / (1 + (110 * contrast) ** sharpness * 1e-6)
        total += mean * weight
        weights += weight
    return total / np.maximum(weights, 1e-6)


def _lines(luma: Picture, sigma: float, sharpen: float, epsilon: float, phi: float) -> Picture:
    """XDoG ink: 1 on paper, towards 0 on lines and in deep shadow."""
    difference = (1 + sharpen) * _blur(luma, sigma) - sharpen * _blur(luma, 1.6 * sigma)
    soft = 1 + np.tanh(phi * (difference - epsilon))
    return np.where(difference >= epsilon, 1.0, soft).astype(np.float32)


def _steps(value: Picture, levels: int, hardness: float) -> Picture:
    """Quantise [0, 1] into `levels` with soft borders."""
    scaled = value * levels
    floor = np.floor(scaled)
    return ((floor + 1 / (1 + np.exp(-(scaled - floor - 0.5) * hardness))) / levels).astype(np.float32)


def watercolor(image: Picture, rng: np.random.Generator) -> Picture:
    """Transparent washes with dark drying edges on white paper that shows at the rim."""
    size = image.shape[0]
    image = _open_shadows(image, 0.6)
    wobble = [(_noise(size, rng, 8, 3) - 0.5) * 7 for _ in range(2)]
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    wash = cv2.remap(image, x + wobble[0], y + wobble[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    wash = cv2.bilateralFilter((0.75 * _kuwahara(wash, 4) + 0.25 * wash).astype(np.float32), 9, 0.08, 7)
    lab = _to_lab(wash)
    light = lab[..., 0] / 100
    lab[..., 0] = 100 * (0.65 * _steps(light, 6, 14) + 0.35 * light)
    wash = _chroma(_from_lab(lab), 1.45)
    luma = _luma(wash)
    edge = np.clip(4 * np.abs(luma - _blur(luma, 3)), 0, 0.35)
    density = 1 + 0.55 * (_noise(size, rng, 3, 4) - 0.5) + 0.2 * (_noise(size, rng, 64, 3) - 0.5) + 1.3 * edge
    paint = 1 - (1 - wash) * 0.82
    paint = paint - (paint - paint * paint) * (density[..., None] - 1)
    radius = np.maximum(np.abs(x / size - 0.5), np.abs(y / size - 0.5)) + 0.13 * (_noise(size, rng, 5, 4) - 0.5)
    cover = (1 / (1 + np.exp((radius - 0.455) * 70)))[..., None].astype(np.float32)
    paper = np.array([0.985, 0.975, 0.95], np.float32)
    return np.clip(paper * (1 - cover) + paint * paper * cover, 0, 1)


def oil(image: Picture, rng: np.random.Generator) -> Picture:
    """Thick strokes that follow the form, lit from the upper left."""
    size = image.shape[0]
    image = _open_shadows(image, 0.47)
    paint = 0.8 * _kuwahara(image, 4) + 0.2 * image
    tx, ty, _ = _flow(_blur(_luma(paint), 1.0), 5)
    paint = _along(paint, tx, ty, 5)
    paint = np.clip(paint + 0.9 * (paint - _blur(paint, 2.5)), 0, 1)  # strokes end crisply
    bristle = _along(rng.random((size, size), dtype=np.float32), tx, ty, 12)
    bristle = (bristle - bristle.mean()) / (bristle.std() + 1e-6)
    relief = _luma(paint) * 1.2 + 0.045 * _blur(bristle, 0.8)
    light = cv2.Sobel(relief, cv2.CV_32F, 1, 0) + cv2.Sobel(relief, cv2.CV_32F, 0, 1)
    paint = _chroma(paint, 1.5)
    lab = _to_lab(paint)
    lab[..., 0] = 100 * np.clip(1.12 * (lab[..., 0] / 100 - 0.5) + 0.5, 0.03, 1)
    lab[..., 1] += 2.0
    lab[..., 2] += 5.0
    return np.clip(_from_lab(lab) + 0.16 * light[..., None], 0, 1)


def sketch(image: Picture, rng: np.random.Generator) -> Picture:
    """Graphite: lines where the form turns, hatching along the form in the shadows, warm paper."""
    size = image.shape[0]
    luma = cv2.bilateralFilter(_luma(_open_shadows(image, 0.62)), 7, 0.1, 5)
    local = cv2.createCLAHE(1.6, (4, 4)).apply((luma * 255).astype(np.uint8)).astype(np.float32) / 255
    line = _lines(local, 0.9, 17, 0.62, 8)
    dodge = np.clip(local / (1.004 - _blur(1 - local, 9)), 0, 1)
    tx, ty, coherence = _flow(_blur(luma, 1.5), 7)
    slant = np.float32(0.55)
    blend = np.clip(coherence * 1.5, 0, 1)
    sign = np.where(tx * np.cos(slant) - ty * np.sin(slant) < 0, -1, 1).astype(np.float32)
    hx, hy = blend * tx * sign + (1 - blend) * np.cos(slant), blend * ty * sign - (1 - blend) * np.sin(slant)
    norm = np.hypot(hx, hy) + 1e-6
    grain = _along(rng.random((size, size), dtype=np.float32), hx / norm, hy / norm, 9)
    grain = (grain - grain.mean()) / (grain.std() + 1e-6)
    shade = _blur(local, 2.5)
    tone = np.clip(0.42 + 0.62 * shade, 0, 1) + 0.075 * grain * np.clip(1.15 - shade, 0, 1)
    value = np.minimum(0.3 + 0.7 * line, np.clip(dodge, 0, 1) ** 1.3) * np.clip(tone, 0, 1)
    value = value - 0.05 * (_noise(size, rng, 96, 2) - 0.5)
    paper, lead = np.array([0.975, 0.96, 0.925], np.float32), np.array([0.14, 0.13, 0.15], np.float32)
    return lead + (paper - lead) * np.clip(value, 0, 1)[..., None]


def comic(image: Picture, rng: np.random.Generator) -> Picture:
    """Flat cel colours and bold ink outlines."""
    image = _open_shadows(image, 0.56)
    flat = image
    for _ in range(3):
        flat = cv2.bilateralFilter(flat, 9, 0.11, 9)
    flat = _kuwahara(flat, 3)
    lab = _to_lab(flat)
    lab[..., 0] = 100 * _steps(lab[..., 0] / 100, 5, 22)
    for channel in (1, 2):
        lab[..., channel] = 14 * np.round(lab[..., channel] / 14 * 2) / 2
    lab[..., 1:] = _blur(lab[..., 1:], 1.2)
    flat = _chroma(np.clip(_from_lab(lab) * 1.06, 0, 1), 1.75)
    luma = cv2.bilateralFilter(_luma(image), 9, 0.13, 9)
    tx, ty, _ = _flow(luma, 3)
    ink = _along(_lines(luma, 1.2, 15, 0.36, 12), tx, ty, 3)
    ink = np.clip((ink - 0.35) / 0.45, 0, 1)[..., None]
    return np.clip(flat * ink + np.array([0.06, 0.04, 0.1], np.float32) * (1 - ink), 0, 1)


_POP = np.array(  # from shadow to light; lightness rises monotonically, so the face keeps its modelling
    [[0.13, 0.05, 0.32], [0.75, 0.07, 0.48], [0.99, 0.42, 0.26], [1.0, 0.8, 0.2], [1.0, 0.97, 0.78]], np.float32
)


def popart(image: Picture, rng: np.random.Generator) -> Picture:
    """Screen print: five inks by lightness, crisp borders, dark key lines."""
    luma = _luma(_open_shadows(image, 0.55))
    local = cv2.createCLAHE(1.8, (3, 3)).apply((luma * 255).astype(np.uint8)).astype(np.float32) / 255
    smooth = local
    for _ in range(2):
        smooth = cv2.bilateralFilter(smooth, 9, 0.13, 7)
    smooth = np.clip((smooth - 0.08) / 0.84, 0, 1)
    level = _steps(smooth, 4, 18) * (len(_POP) - 1)
    index = np.clip(np.floor(level).astype(int), 0, len(_POP) - 2)
    part = (level - index)[..., None]
    print_ = _POP[index] * (1 - part) + _POP[index + 1] * part
    ink = _lines(local, 1.1, 14, 0.33, 10)[..., None]
    return np.clip(print_ * ink + _POP[0] * (1 - ink), 0, 1)


def pastel(image: Picture, rng: np.random.Generator) -> Picture:
    """Chalk on blue-grey toned paper: light, tender colours laid in strokes; bare paper in the shadows."""
    size = image.shape[0]
    image = _open_shadows(image, 0.6)
    soft = 0.8 * _kuwahara(image, 4) + 0.2 * image
    tx, ty, _ = _flow(_blur(_luma(soft), 1.5), 6)
    lab = _to_lab(_along(soft, tx, ty, 4))
    light = lab[..., 0] / 100
    lab[..., 0] = 100 * (0.42 + 0.56 * (0.5 * light + 0.5 * _steps(light, 5, 10)))
    chalk = _chroma(_from_lab(lab), 1.35)
    slant = np.full((size, size), np.float32(np.cos(0.9))), np.full((size, size), np.float32(-np.sin(0.9)))
    tooth = _along(_blur(rng.random((size, size), dtype=np.float32), 0.7), *slant, 7)
    tooth = (tooth - tooth.mean()) / tooth.std()
    cover = 1 / (1 + np.exp(-(6.5 * (light - 0.26) + 1.1 * tooth)))
    paper = np.array([0.36, 0.42, 0.54], np.float32)
    picture = paper * (1 - cover[..., None]) + chalk * cover[..., None]
    line = _lines(cv2.bilateralFilter(_luma(image), 7, 0.1, 5), 1.2, 14, 0.42, 7)[..., None]
    contour = np.array([0.2, 0.16, 0.3], np.float32)
    return np.clip(picture * line + (0.5 * picture + 0.5 * contour) * (1 - line), 0, 1)


PAINTERS: dict[str, Painter] = {
    "watercolor": watercolor,
    "oil": oil,
    "sketch": sketch,
    "comic": comic,
    "popart": popart,
    "pastel": pastel,
}
