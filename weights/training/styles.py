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


def _open_shadows(image: Picture, target: float = 0.52, least: float = 0.78) -> Picture:
    """Lift (or hold) the exposure so that very dark and very light skin both keep their modelling.

    Gamma goes no lower than `least`: a style in the photo's own colours must not turn dark skin into light.
    """
    luma = _luma(image)
    height, width = luma.shape
    centre = luma[height // 5 : 4 * height // 5, width // 5 : 4 * width // 5]
    middle = float(np.clip(np.median(centre), 0.08, 0.92))
    gamma = float(np.clip(np.log(target) / np.log(middle), least, 1.35))
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


def _paper(size: int, rng: np.random.Generator) -> Picture:
    """The tooth of a rough sheet, (size, size) float32 about 0, deviation 1."""
    grain = _blur(rng.random((size, size), dtype=np.float32), 0.8) + 0.6 * _blur(
        rng.random((size, size), dtype=np.float32), 2.0
    )
    return (grain - grain.mean()) / grain.std()


def _wave(size: int, period: int, bend: Picture | float = 0.0) -> Picture:
    """Horizontal ridges, a triangle wave in [0, 1] with `period` pixels, moved down by `bend` pixels."""
    y = np.arange(size, dtype=np.float32)[:, None] - bend + 0.5
    phase = np.broadcast_to(y / period, (size, size)) % 1.0
    return (1 - np.abs(2 * phase - 1)).astype(np.float32)


def _dots(size: int, period: int) -> Picture:
    """A screen of round dots turned by 45 degrees: the share of ink in [0, 1] at which each pixel turns dark."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) + 0.5
    a = 2 * np.pi / period
    return (0.5 + 0.25 * (np.cos(a * x) + np.cos(a * y))).astype(np.float32)


def watercolor(image: Picture, rng: np.random.Generator) -> Picture:
    """Luminous washes with dark drying edges over a loose pencil drawing, on white paper that shows at the rim."""
    size = image.shape[0]
    image = _open_shadows(image, 0.6)
    wobble = [(_noise(size, rng, 8, 3) - 0.5) * 6 for _ in range(2)]
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    moved = cv2.remap(image, x + wobble[0], y + wobble[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    wash = cv2.bilateralFilter((0.85 * _kuwahara(moved, 5) + 0.15 * moved).astype(np.float32), 9, 0.09, 7)
    lab = _to_lab(wash)
    light = lab[..., 0] / 100
    lab[..., 0] = 100 * (0.12 + 0.9 * (0.8 * _steps(light, 5, 14) + 0.2 * light))
    shade = np.clip(0.62 - light, 0, 0.62) / 0.62
    lab[..., 1] += 3 * shade
    lab[..., 2] -= 9 * shade  # shadows are glazed with blue and violet, as painters do
    wash = _chroma(_from_lab(lab), 1.75)
    luma = _luma(wash)
    edge = np.clip(5 * np.abs(luma - _blur(luma, 3)), 0, 0.45)
    density = 1 + 0.6 * (_noise(size, rng, 3, 4) - 0.5) + 0.05 * _paper(size, rng) + 1.4 * edge
    paint = 1 - (1 - wash) * 0.9
    paint = paint - (paint - paint * paint) * (density[..., None] - 1)
    lines = _lines(cv2.bilateralFilter(_luma(image), 7, 0.1, 5), 1.0, 15, 0.44, 8)
    paint = paint * (1 - 0.5 * (1 - lines[..., None]) * np.array([0.9, 1.0, 0.8], np.float32))
    radius = np.maximum(np.abs(x / size - 0.5), np.abs(y / size - 0.5)) + 0.16 * (_noise(size, rng, 5, 4) - 0.5)
    cover = (1 / (1 + np.exp((radius - 0.44) * 60)))[..., None].astype(np.float32)
    paper = np.array([0.985, 0.975, 0.95], np.float32)
    return np.clip(paper * (1 - cover) + paint * paper * cover, 0, 1)


def oil(image: Picture, rng: np.random.Generator) -> Picture:
    """An old master's panel: thick strokes that follow the form over an umber ground, under warm varnish."""
    size = image.shape[0]
    image = _open_shadows(image, 0.45)
    paint = 0.85 * _kuwahara(image, 5) + 0.15 * image
    tx, ty, _ = _flow(_blur(_luma(paint), 1.0), 5)
    paint = _along(paint, tx, ty, 6)
    paint = np.clip(paint + 0.9 * (paint - _blur(paint, 2.5)), 0, 1)  # strokes end crisply
    bristle = _along(rng.random((size, size), dtype=np.float32), tx, ty, 14)
    bristle = _blur((bristle - bristle.mean()) / (bristle.std() + 1e-6), 0.9)
    relief = _luma(paint) * 1.2 + 0.055 * bristle
    light = cv2.Sobel(relief, cv2.CV_32F, 1, 0) + cv2.Sobel(relief, cv2.CV_32F, 0, 1)
    lab = _to_lab(paint)
    tone = np.clip(1.15 * (lab[..., 0] / 100 - 0.5) + 0.47, 0.02, 1)
    dark = np.clip(1 - tone / 0.55, 0, 1)
    lab[..., 0] = 100 * tone
    lab[..., 1:] *= (1.25 - 0.75 * dark)[..., None]
    lab[..., 1] += 4 + 7 * dark
    lab[..., 2] += 15 + 8 * dark - 4 * tone
    picture = np.maximum(_from_lab(lab), np.array([0.075, 0.045, 0.03], np.float32))
    return np.clip(picture + 0.17 * light[..., None], 0, 1)


def sketch(image: Picture, rng: np.random.Generator) -> Picture:
    """Graphite: lines where the form turns, slanted hatching in the shadows, much white paper."""
    size = image.shape[0]
    luma = cv2.bilateralFilter(_luma(_open_shadows(image, 0.64, 0.5)), 7, 0.1, 5)
    local = cv2.createCLAHE(1.6, (4, 4)).apply((luma * 255).astype(np.uint8)).astype(np.float32) / 255
    line = _lines(local, 1.0, 17, 0.6, 8)
    dodge = np.clip(local / (1.004 - _blur(1 - local, 9)), 0, 1)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    stroke = 0.5 + 0.5 * np.cos(2 * np.pi * (x + y) / 8)  # 45 degrees, in step with the latents' grid
    grain = _along(
        rng.random((size, size), dtype=np.float32), *(np.full((size, size), v, np.float32) for v in (0.7, -0.7)), 9
    )
    stroke = stroke + 0.28 * (grain - grain.mean()) / grain.std()
    shade = _blur(local, 2.0)
    depth = np.clip((0.72 - shade) / 0.6, 0, 1)
    hatch = 1 - np.clip(0.95 * depth - 0.05, 0, 0.8) * np.clip(0.45 + 0.75 * (stroke - 0.35), 0, 1)
    value = np.minimum(0.2 + 0.8 * line, np.clip(dodge, 0, 1) ** 1.2) * hatch
    value = value - 0.035 * (_noise(size, rng, 96, 2) - 0.5)
    paper, lead = np.array([0.975, 0.965, 0.94], np.float32), np.array([0.15, 0.15, 0.18], np.float32)
    return lead + (paper - lead) * np.clip(value, 0, 1)[..., None]


def comic(image: Picture, rng: np.random.Generator) -> Picture:
    """Bright flat cel colours in three tones, bold ink outlines."""
    image = _open_shadows(image, 0.6)
    flat = image
    for _ in range(3):
        flat = cv2.bilateralFilter(flat, 9, 0.11, 9)
    flat = _kuwahara(flat, 5)
    lab = _to_lab(flat)
    lab[..., 0] = 100 * (0.2 + 0.8 * _steps(lab[..., 0] / 100, 4, 26))
    lab[..., 1:] = _blur(lab[..., 1:], 3.0)
    flat = _chroma(_from_lab(lab), 1.65)
    luma = cv2.bilateralFilter(_luma(image), 9, 0.13, 9)
    tx, ty, _ = _flow(luma, 3)
    ink = _along(_lines(luma, 1.4, 16, 0.3, 12), tx, ty, 3)
    ink = np.clip((ink - 0.35) / 0.45, 0, 1)[..., None]
    return np.clip(flat * ink + np.array([0.05, 0.04, 0.11], np.float32) * (1 - ink), 0, 1)


_POP = np.array(  # from shadow to light; lightness rises monotonically, so the face keeps its modelling
    [[0.13, 0.05, 0.32], [0.75, 0.07, 0.48], [0.99, 0.42, 0.26], [1.0, 0.8, 0.2], [1.0, 0.97, 0.78]], np.float32
)


def popart(image: Picture, rng: np.random.Generator) -> Picture:
    """Screen print: five inks by lightness with dots where one passes into the next, dark key lines."""
    size = image.shape[0]
    luma = _luma(_open_shadows(image, 0.58, 0.5))
    local = cv2.createCLAHE(1.8, (3, 3)).apply((luma * 255).astype(np.uint8)).astype(np.float32) / 255
    smooth = local
    for _ in range(3):
        smooth = cv2.bilateralFilter(smooth, 9, 0.14, 8)
    smooth = np.clip((smooth - 0.08) / 0.84, 0, 1) * (len(_POP) - 1)
    index = np.clip(np.floor(smooth).astype(int), 0, len(_POP) - 2)
    part = smooth - index
    screen = 1 / (1 + np.exp(-(part - (0.22 + 0.56 * (1 - _dots(size, 8)))) * 14))
    part = screen[..., None].astype(np.float32)
    print_ = _POP[index] * (1 - part) + _POP[index + 1] * part
    ink = _lines(local, 1.2, 14, 0.33, 10)[..., None]
    return np.clip(print_ * ink + _POP[0] * (1 - ink), 0, 1)


_PASTEL = np.array(  # the sheet, then chalks from shadow to light
    [[0.27, 0.26, 0.46], [0.47, 0.4, 0.62], [0.86, 0.55, 0.58], [0.98, 0.8, 0.68], [1.0, 0.95, 0.86]], np.float32
)


def pastel(image: Picture, rng: np.random.Generator) -> Picture:
    """Soft chalk on violet paper: rose and cream lights over the sheet, which stays bare in the shadows."""
    size = image.shape[0]
    image = _open_shadows(image, 0.56)
    soft = 0.85 * _kuwahara(image, 4) + 0.15 * image
    tx, ty, _ = _flow(_blur(_luma(soft), 1.5), 6)
    soft = _along(soft, tx, ty, 4)
    light = np.clip((_luma(soft) - 0.06) / 0.86, 0, 1)
    place = light * (len(_PASTEL) - 1)
    index = np.clip(np.floor(place).astype(int), 0, len(_PASTEL) - 2)
    part = (place - index)[..., None]
    ramp = _PASTEL[index] * (1 - part) + _PASTEL[index + 1] * part
    lab, own = _to_lab(ramp), _to_lab(soft)
    lab[..., 1:] = 0.55 * lab[..., 1:] + 0.85 * own[..., 1:]
    chalk = _from_lab(lab)
    slant = np.full((size, size), np.float32(0.7)), np.full((size, size), np.float32(-0.7))
    tooth = _along(_blur(rng.random((size, size), dtype=np.float32), 0.7), *slant, 8)
    tooth = (tooth - tooth.mean()) / tooth.std()
    cover = (1 / (1 + np.exp(-(7 * (light - 0.28) + 1.0 * tooth))))[..., None]
    picture = _PASTEL[0] * (1 - cover) + chalk * cover + 0.02 * tooth[..., None]
    line = _lines(cv2.bilateralFilter(_luma(image), 7, 0.1, 5), 1.2, 14, 0.42, 7)[..., None]
    contour = np.array([0.2, 0.16, 0.36], np.float32)
    return np.clip(picture * line + (0.35 * picture + 0.65 * contour) * (1 - line), 0, 1)


def cinematic(image: Picture, rng: np.random.Generator) -> Picture:
    """A still of a night film: hard key light, teal shadows against amber lights, halation and grain."""
    size = image.shape[0]
    image = _open_shadows(image, 0.44)
    image = 0.6 * cv2.bilateralFilter(image, 7, 0.08, 5) + 0.4 * image
    luma = _luma(image)
    detail = np.clip(luma + 1.3 * (luma - _blur(luma, 7)), 0, 1)
    curve = 1 / (1 + np.exp(-9 * (detail - 0.4)))
    low, high = 1 / (1 + np.exp(9 * 0.4)), 1 / (1 + np.exp(-9 * 0.6))
    tone = (curve - low) / (high - low)
    lab = _to_lab(image)
    lab[..., 0] = 100 * (0.1 + 0.88 * tone)
    warm = np.clip((tone - 0.45) / 0.3, 0, 1) * np.clip((1.08 - tone) / 0.3, 0, 1)
    cold = np.clip((0.55 - tone) / 0.4, 0, 1)
    lab[..., 1] = 0.8 * lab[..., 1] + 7 * warm - 20 * cold
    lab[..., 2] = 0.75 * lab[..., 2] + 9 * warm - 26 * cold
    still = _from_lab(lab)
    glow = _blur(np.clip(still - 0.62, 0, 1), 9) * np.array([1.0, 0.55, 0.3], np.float32)
    still = 1 - (1 - still) * (1 - 0.9 * glow)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
    still = still * (1 - 0.34 * np.clip(x * x + y * y - 0.35, 0, 1.2))[..., None]
    return np.clip(still + 0.012 * _paper(size, rng)[..., None], 0, 1)


_INK, _TINT, _SHEET = (np.array(c, np.float32) for c in ((0.06, 0.09, 0.14), (0.1, 0.49, 0.5), (0.97, 0.93, 0.83)))


def woodcut(image: Picture, rng: np.random.Generator) -> Picture:
    """Two blocks on cream paper: a teal one for the half tones, and ink whose carved grooves swell with the light."""
    size = image.shape[0]
    luma = _luma(_open_shadows(image, 0.58, 0.5))
    local = cv2.createCLAHE(2.0, (3, 3)).apply((luma * 255).astype(np.uint8)).astype(np.float32) / 255
    smooth = local
    for _ in range(2):
        smooth = cv2.bilateralFilter(smooth, 9, 0.12, 6)
    soft = _blur(smooth, 2.0)
    grooves = _wave(size, 8, 5.0 * soft)  # the lines climb where the form is light, as an engraver's do
    ink = 1 / (1 + np.exp(-((0.56 - smooth) / 0.46 - grooves) * 9))
    tint = 1 / (1 + np.exp(-(0.66 - smooth) * 34))
    lines = _lines(local, 1.2, 15, 0.4, 12)
    ink = np.maximum(ink, 1 - lines)[..., None].astype(np.float32)
    tint = tint[..., None].astype(np.float32)
    picture = _SHEET * (1 - tint) + _TINT * tint
    return np.clip(picture * (1 - ink) + _INK * ink, 0, 1)


PAINTERS: dict[str, Painter] = {
    "watercolor": watercolor,
    "oil": oil,
    "sketch": sketch,
    "comic": comic,
    "popart": popart,
    "pastel": pastel,
    "cinematic": cinematic,
    "woodcut": woodcut,
}
