"""Convert other color spaces to sRGB: ICC profiles, primaries and transfer curves, and HDR tone-mapped to SDR."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from portrait.images.signals import BT709, Chromaticities, ColorSignal
from portrait.records import RgbImage

SDR_WHITE = 203.0
"""Luminance in cd/m² that becomes white: the reference white of HDR (ITU-R BT.2408)."""
TONE_MAPPING = "ITU-R BT.2390 EETF"
_ROWS = 256  # converted at a time, so that a large photo needs little memory
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def apply_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert the picture to sRGB by its ICC profile; return it unchanged if the profile is damaged or does not fit.

    A gray picture with a color profile, as some scanners write it, is treated as color.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if space == "GRAY" and image.mode == "1":
            image = image.convert("L")
        elif space == "RGB" and image.mode in ("1", "L"):
            image = image.convert("RGB")
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image  # the profile does not fit its own picture: the plain values are the better guess
    return converted or image


def bands(shape: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Slices of a picture across its longer side, about a million values each: converted one at a time to save memory."""
    axis = int(shape[1] > shape[0])
    step = max(1, 2**20 * shape[axis] // max(1, math.prod(shape)))
    for start in range(0, shape[axis], step):
        yield (*[slice(None)] * axis, slice(start, start + step))


def deep_to_srgb(values: NDArray[np.uint16], profile: bytes | None) -> RgbImage:
    """Convert 16-bit gray, (H, W), or color, (H, W, 3), to sRGB, by its ICC profile if it has one.

    For gray the profile is sampled as a curve of 256 points and interpolated, so that 16 bits are kept.
    """
    if values.ndim == 2 and profile:
        ramp = apply_profile(Image.fromarray(np.arange(256, dtype=np.uint8)[None]), profile)
        curve = np.asarray(ramp.convert("RGB"), np.float32)[0, :, 1]
        values = np.interp(np.arange(65536) / 257, np.arange(256), curve * 257).astype(np.uint16)[values]
        profile = None
    eight = np.empty(values.shape, np.uint8)
    for band in bands(values.shape):
        eight[band] = (values[band].astype(np.uint32) + 128) // 257
    del values
    if eight.ndim == 3 and not profile:
        return RgbImage(eight)
    image = Image.fromarray(eight)
    return RgbImage(np.asarray((apply_profile(image, profile) if profile else image).convert("RGB")))


def signal_to_srgb(values: NDArray[np.uint8] | NDArray[np.uint16], signal: ColorSignal) -> tuple[RgbImage, float]:
    """Convert values in the colors of `signal` to sRGB; also return the peak in cd/m² if HDR was tone-mapped, else 0.

    Reference:
        PQ and HLG: ITU-R BT.2100; HLG shown at 1000 cd/m². Tone mapping: ITU-R BT.2390, section 5.4.1, on the
        largest of R, G and B, from the picture's own peak to `SDR_WHITE`: SDR that was stored as HDR stays as it was.
    """
    if signal.is_srgb:
        eight = values if values.dtype == np.uint8 else (values.astype(np.uint32) + 128) // 257
        return RgbImage(eight.astype(np.uint8)), 0.0
    curve, matrix = _light_curve(values.dtype, signal), _to_bt709(signal.primaries).astype(np.float32)
    is_hdr = signal.transfer in ("pq", "hlg")
    peak = _peak(values, curve, signal) if is_hdr else 1.0
    is_bright = is_hdr and peak > 1.05
    result = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), _ROWS):
        light = _displayed(curve[values[top : top + _ROWS]], signal)
        if is_bright:
            light *= _tone_mapped_share(light.max(-1, keepdims=True), peak)
        result[top : top + _ROWS] = _encoded(light @ matrix.T)
    return RgbImage(result), peak * SDR_WHITE if is_bright else 0.0


def _light_curve(dtype: np.dtype[np.uint8] | np.dtype[np.uint16], signal: ColorSignal) -> NDArray[np.float32]:
    """Light of each value; 1 is SDR white, for HLG the scene's own unit."""
    top = np.iinfo(dtype).max
    value = np.arange(top + 1) / top
    if signal.narrow:
        value = np.clip((value * 255 - 16) / 219, 0, 1)
    if signal.transfer == "pq":
        light = _pq_to_nits(value) / SDR_WHITE
    elif signal.transfer == "hlg":
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12)
    elif signal.transfer == "gamma":
        light = value**signal.gamma
    else:
        light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


def _displayed(light: NDArray[np.float32], signal: ColorSignal) -> NDArray[np.float32]:
    """Light as shown on a display: HLG's scene light on one of 1000 cd/m²; any other light is unchanged."""
    if signal.transfer != "hlg":
        return light
    luminance = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
    displayed: NDArray[np.float32] = (
        light * (np.maximum(luminance, 1e-6) ** np.float32(0.2) * 1000 / SDR_WHITE)[..., None]
    )
    return displayed


def _peak(values: NDArray[np.uint8] | NDArray[np.uint16], curve: NDArray[np.float32], signal: ColorSignal) -> float:
    """The brightest light, ignoring one pixel in 10,000, in units of SDR white."""
    step = max(1, round((values.shape[0] * values.shape[1] / 1e6) ** 0.5))
    return float(np.quantile(_displayed(curve[values[::step, ::step]], signal).max(-1), 0.9999))


def _tone_mapped_share(light: NDArray[np.float32], peak: float) -> NDArray[np.float32]:
    """The factor for `light` that maps `peak` to 1."""
    top = _nits_to_pq(peak * SDR_WHITE)
    target = _nits_to_pq(SDR_WHITE) / top
    knee = float(np.maximum(1.5 * target - 0.5, 0.0))
    x = np.minimum(_nits_to_pq(light * SDR_WHITE) / top, 1)
    t = np.clip((x - knee) / (1 - knee), 0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * target
    mapped = _pq_to_nits(np.where(x < knee, x, spline) * top) / SDR_WHITE
    share: NDArray[np.float32] = np.where(light > 1e-6, mapped / np.maximum(light, 1e-6), 1).astype(np.float32)
    return share


_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128  # SMPTE ST 2084


def _pq_to_nits(value: NDArray[np.floating]) -> NDArray[np.floating]:
    power = np.maximum(value, 0) ** (1 / _M2)
    nits: NDArray[np.floating] = 10_000 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)
    return nits


def _nits_to_pq(nits: NDArray[np.floating] | float) -> NDArray[np.floating]:
    power = (np.maximum(nits, 0) / 10_000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def _encoded(light: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Light from 0 to 1 as 8-bit sRGB."""
    light = np.clip(light, 0, 1)
    value = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** np.float32(1 / 2.4) - 0.055)
    return (value * 255 + 0.5).astype(np.uint8)


def _to_bt709(primaries: Chromaticities) -> NDArray[np.float64]:
    """The (3, 3) matrix from linear RGB of `primaries` to linear sRGB, adapted to its white point (Bradford)."""
    if primaries == BT709:
        return np.eye(3)
    white, target = _xyz(*primaries[:2]), _xyz(*BT709[:2])
    gains = (_BRADFORD @ target) / (_BRADFORD @ white)
    adapted = np.linalg.inv(_BRADFORD) @ np.diag(gains) @ _BRADFORD
    return np.asarray(np.linalg.inv(_to_xyz(BT709)) @ adapted @ _to_xyz(primaries))


def _to_xyz(primaries: Chromaticities) -> NDArray[np.float64]:
    columns = np.stack([_xyz(*primaries[i : i + 2]) for i in (2, 4, 6)], axis=1)
    return columns * np.linalg.solve(columns, _xyz(*primaries[:2]))


def _xyz(x: float, y: float) -> NDArray[np.float64]:
    return np.array([x / y, 1.0, (1 - x - y) / y])
