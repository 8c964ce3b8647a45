"""Checks on pixels: is the face stylized, is it in the right style, is the picture burned, did the kept parts stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from portrait.errors import ShapeError
from portrait.images import COARSE_CHROMA
from portrait.records import Points, RgbImage

_WINDOW = 3.0  # sigma of the Gaussian window, pixels at 224
_CHROMA = 3.0  # chroma is compared at this smoothness, as eyes and codecs do
_FLAT = 9.0  # 3 units of CIE Lab, squared: windows of less contrast do not count
_ALIGN_SIDE = 112  # pixels, the size at which crops are registered
_EDGE_SIDE = 96  # pixels, the size at which edges are compared
_ALIGN_CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)


def style_on_face(photo: RgbImage, picture: RgbImage) -> float:
    """How differently from the photo the face is drawn, in [0, 1]; 0 for a copy, even a recolored or moved one.

    The picture is compared both as it is and registered to the photo, and the smaller value counts: a photo that was
    shifted, turned, zoomed, sheared or mirrored is still a copy. First the photo's CIE Lab colors are mapped to the
    picture's by the best affine map (least squares over the crop), so exposure, contrast, tint and fading count for nothing.
    The rest is compared by the contrast-structure term of SSIM, with variances and covariances summed over L, a and b; the
    result is one minus its mean. So it measures redrawn edges and shading, and colors that no affine map of the photo's
    produces: a palette. `portrait calibrate` measures the values of copies and sets the limit above them. Pixels that are
    black in both crops, outside of a picture, do not count.

    Args:
        photo: (S, S, 3) uint8 aligned crop of the framed photo, S = 224.
        picture: The crop of the picture at the same points.

    Raises:
        ShapeError: the crops differ in shape.

    Reference:
        Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity".
    """
    if photo.shape != picture.shape:
        raise ShapeError(f"crops differ: {photo.shape} and {picture.shape}")
    share = _redrawn_share(photo, picture)
    overlay = _overlay(photo, picture)
    return share if overlay is None else min(share, _redrawn_share(*overlay))


def _overlay(photo: RgbImage, picture: RgbImage) -> tuple[RgbImage, RgbImage] | None:
    """The photo, and the picture registered to it by an affine map, mirrored if that matches better.

    Both are black where one of them shows nothing. None if no such map is found.

    Reference:
        Evangelidis & Psarakis 2008, "Parametric image alignment using enhanced correlation coefficient maximization".
    """

    def coarse(image: RgbImage) -> NDArray[Any]:
        small = cv2.resize(
            cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (_ALIGN_SIDE, _ALIGN_SIDE), interpolation=cv2.INTER_AREA
        )
        return cv2.GaussianBlur(small.astype(np.float32), (0, 0), 1.5)

    target = coarse(photo)
    moving = coarse(picture)
    # Mirroring changes neither mean nor deviation, so the larger sum is the larger correlation.
    if (target * moving[:, ::-1]).sum() > (target * moving).sum():
        picture = RgbImage(np.ascontiguousarray(picture[:, ::-1]))
        moving = np.ascontiguousarray(moving[:, ::-1])
    try:
        _, affine = cv2.findTransformECC(
            target, moving, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, _ALIGN_CRITERIA
        )
    except cv2.error:  # nothing in common, or no contrast
        return None
    height, width = photo.shape[:2]
    scale = np.array([width, height], np.float32) / _ALIGN_SIDE
    linear = affine[:, :2] * scale[:, None] / scale  # pixel centers are at half pixels in both sizes
    offset = scale * (affine[:, 2] + 0.5) - 0.5 + linear @ (0.5 - scale / 2)
    affine = np.concatenate([linear, offset[:, None]], 1)
    flags = cv2.WARP_INVERSE_MAP
    covered = cv2.warpAffine(np.ones((height, width), np.uint8), affine, (width, height), flags=flags) > 0
    if covered.mean() < 0.5:
        return None
    moved = cv2.warpAffine(picture, affine, (width, height), flags=flags | cv2.INTER_LINEAR)
    inside = covered[..., None]
    return RgbImage(np.where(inside, photo, 0).astype(np.uint8)), RgbImage(np.where(inside, moved, 0).astype(np.uint8))


def _redrawn_share(photo: RgbImage, picture: RgbImage) -> float:
    """One minus the mean contrast-structure term of SSIM, see `style_on_face`, of two crops without registration."""
    counted = photo | picture
    inside = (counted[..., 0] | counted[..., 1] | counted[..., 2]) > 0
    if not inside.any():
        return 0.0
    a = _soft_lab(photo)
    b = _soft_lab(picture)
    terms = np.concatenate([a, np.full_like(a[..., :1], 100.0)], -1)
    affine, *_ = np.linalg.lstsq(terms[inside], b[inside], rcond=None)
    a = (terms @ affine).astype(np.float32)
    mean_a = _window(a)
    mean_b = _window(b)
    covariance = (_window(a * b) - mean_a * mean_b).sum(-1)
    variances = (_window(a * a) - mean_a * mean_a + _window(b * b) - mean_b * mean_b).sum(-1)
    structure = (2 * covariance + _FLAT) / (variances + _FLAT)
    return float(np.clip(1 - structure[inside].mean(), 0, 1))


def _soft_lab(image: RgbImage) -> NDArray[Any]:
    """CIE Lab, float32, with smoothed chroma."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lab[..., 1:] = cv2.GaussianBlur(lab, (0, 0), _CHROMA)[..., 1:]
    return lab


def _window(x: NDArray[Any]) -> NDArray[Any]:
    return cv2.GaussianBlur(x, (0, 0), _WINDOW)


FACE_STYLE_FEATURES = (
    "edges", "fine detail", "middle detail", "strong edges", "flat areas", "contrast", "lightness", "chroma",
    "chroma spread", "shift of a", "shift of b", "number of colours",
)  # fmt: skip
_SHRINK = 0.2
"""How much the covariance's off-diagonal part is reduced, as there are few pictures for many features."""
MIN_PICTURES_FOR_STATISTICS = 20
"""Fewer pictures say nothing about a style."""


def face_style_features(photo: RgbImage, picture: RgbImage) -> NDArray[Any]:
    """How a face is drawn, in the order of `FACE_STYLE_FEATURES`; mostly relative to the photo, so that the person matters little.

    On CIE Lab: logarithms of the ratios, picture over photo, of mean gradient, of the energy finer than 1.5 px and
    between 1.5 and 5 px, and of the deviation of lightness; the shares of pixels with a strong (above 8 units a
    pixel) and with hardly any gradient (below 0.8), each minus the photo's; differences of mean lightness, mean
    chroma, deviation of chroma, mean a and mean b, in units of Lab / 10; and the logarithm of the number of colors
    in use, exp of the entropy over cells of 12 units.

    Args:
        photo: (S, S, 3) uint8 aligned crop of the framed photo, S = 224.
        picture: The crop of the picture at the same points.

    Returns:
        (12,) float64.

    Raises:
        ShapeError: the crops differ in shape.
    """
    if photo.shape != picture.shape:
        raise ShapeError(f"crops differ: {photo.shape} and {picture.shape}")
    a = _drawing(photo)
    b = _drawing(picture)
    ratios = np.log((b[:4] + 0.05) / (a[:4] + 0.05))
    edges, fine, middle, contrast = ratios
    strong, flat = b[4:6] - a[4:6]
    lightness, chroma, spread, shift_a, shift_b = (b[6:11] - a[6:11]) / 10
    return np.array(
        [edges, fine, middle, 5 * strong, flat, contrast, lightness, chroma, spread, shift_a, shift_b, b[11]]
    )


def _drawing(crop: RgbImage) -> NDArray[Any]:
    lab = cv2.cvtColor(crop.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    light = lab[..., 0]
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    slope = np.hypot(cv2.Sobel(light, cv2.CV_32F, 1, 0), cv2.Sobel(light, cv2.CV_32F, 0, 1)) / 8
    soft = cv2.GaussianBlur(light, (0, 0), 1.5)
    softer = cv2.GaussianBlur(light, (0, 0), 5.0)
    cells = np.floor(lab / 12).astype(int).reshape(-1, 3) @ np.array([1, 100, 10000])
    shares = np.unique(cells, return_counts=True)[1] / cells.size
    return np.array(
        [
            slope.mean(),
            np.std(light - soft),
            np.std(soft - softer),
            light.std(),
            (slope > 8).mean(),
            (slope < 0.8).mean(),
            light.mean(),
            chroma.mean(),
            chroma.std(),
            lab[..., 1].mean(),
            lab[..., 2].mean(),
            -(shares * np.log(shares)).sum(),
        ],
        np.float64,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StyleStatistics:
    """How faces of one style are drawn: mean (F,) and inverse covariance (F, F) of `face_style_features`, and limits.

    `limit` is the largest `style_distance`. `least` is the smallest `style_on_face` for this style, which may exceed that
    for not being a copy: half a woodcut is not a copy, but not a woodcut either. `lead` is the smallest `style_lead` over
    the `rivals`, the other styles. `portrait calibrate` sets each so that a stated share of right pictures passes.
    `other_styles_rejected` is the share of each other style's right pictures that these limits reject.
    """

    mean: NDArray[Any]
    precision: NDArray[Any]
    limit: float
    least: float = 0.0
    lead: float = -np.inf
    rivals: tuple[StyleStatistics, ...] = ()
    other_styles_rejected: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, features: NDArray[Any], limit: float = np.inf, least: float = 0.0) -> StyleStatistics:
        """Compute the statistics of (N, F) pictures; the covariance is shrunk toward its diagonal."""
        covariance = np.atleast_2d(np.cov(features.T))
        diagonal = np.diag(np.diag(covariance)) + 1e-4 * np.eye(len(covariance))
        covariance = (1 - _SHRINK) * covariance + _SHRINK * diagonal
        return cls(mean=features.mean(0), precision=np.linalg.inv(covariance), limit=limit, least=least)


def style_distance(features: NDArray[Any], statistics: StyleStatistics) -> float:
    """How far a face is from the style's usual faces, in deviations: about 1 is usual, 0 is the mean face.

    The Mahalanobis distance of `face_style_features`, divided by the square root of their number.

    Reference:
        Mahalanobis 1936, "On the generalised distance in statistics".
    """
    gap = features - statistics.mean
    return float(np.sqrt(max(0.0, gap @ statistics.precision @ gap) / len(gap)))


def log_density(features: NDArray[Any], statistics: StyleStatistics) -> NDArray[Any]:
    """Log normal density, up to a constant, of faces in a style, given as (..., F) `face_style_features`."""
    gap = features - statistics.mean
    squared = np.einsum("...i,ij,...j->...", gap, statistics.precision, gap)
    return np.asarray((np.linalg.slogdet(statistics.precision)[1] - squared) / 2)


def style_lead(features: NDArray[Any], statistics: StyleStatistics) -> float:
    """How much more probable a face is in a style than in its most probable rival, in nats; infinite without rivals.

    A small distance alone only says that a picture could be of the style. It may fit another style even better.

    Reference:
        Fisher 1936; quadratic discriminant analysis as in Hastie, Tibshirani & Friedman 2009, section 4.3.
    """
    density = float(log_density(features, statistics))
    return density - max((float(log_density(features, rival)) for rival in statistics.rivals), default=-np.inf)


def confusable_styles(other_styles_rejected: Mapping[str, float]) -> dict[str, float]:
    """The other styles of which more than 5 % of the right pictures pass this style's check, with the share rejected."""
    return {other: share for other, share in other_styles_rejected.items() if share < 0.95}


def format_confusable(weak: Mapping[str, float]) -> str:
    """Format `confusable_styles`, such as "100% of watercolor, 72% of oil portraits"."""
    return ", ".join(f"{1 - share:.0%} of {other}" for other, share in weak.items()) + " portraits"


def leave_one_person_out_distances(features: NDArray[Any], people: Sequence[int]) -> NDArray[Any]:
    """(N,) distance of each picture from the statistics of all other people's pictures."""
    owners = np.asarray(people)
    distances = []
    for vector, owner in zip(features, owners, strict=True):
        others = StyleStatistics.of(features[owners != owner])
        distances.append(style_distance(vector, others))
    return np.array(distances)


def burned_share(photo: RgbImage, picture: RgbImage) -> float:
    """The share of the picture's pixels, in [0, 1], that are burned out but were not so in the photo.

    A burned pixel is white or black in all channels (above 253, below 2), or a fully saturated color (one channel above 250
    while another is below 5). The paper and ink of a style are not that extreme.
    """

    def extreme(image: RgbImage) -> NDArray[np.bool_]:
        red, green, blue = cv2.split(image)  # numpy's minimum over an axis of three takes ten times as long
        low = np.minimum(np.minimum(red, green), blue)
        high = np.maximum(np.maximum(red, green), blue)
        return np.asarray((low > 253) | (high < 2) | ((high > 250) & (low < 5)))

    return float((extreme(picture) & ~extreme(photo)).mean())


def point_displacement(photo: Points, picture: Points) -> float:
    """Mean distance of the five points between photo and picture, in inter-eye distances of the photo.

    0 is the same pose in the same place. 0.1 is the usual limit of a landmark failure (Sagonas et al. 2016,
    "300 Faces In-The-Wild Challenge").
    """
    return float(np.linalg.norm(photo - picture, axis=1).mean() / max(1e-6, float(np.linalg.norm(photo[1] - photo[0]))))


def edge_agreement(photo: RgbImage, picture: RgbImage, figure: NDArray[np.bool_] | None = None) -> float:
    """How well the edges of two (S, S, 3) uint8 pictures agree, in [-1, 1]: 1 for a copy, near 0 for another composition.

    Pearson correlation of the gradient magnitudes of CIE lightness at `_EDGE_SIDE` pixels, smoothed by one pixel, where the
    `figure`, (S, S) bool, and a rim of three pixels around it are; None for everywhere.

    Raises:
        ShapeError: the pictures differ in shape.
    """
    if photo.shape != picture.shape:
        raise ShapeError(f"pictures differ: {photo.shape} and {picture.shape}")

    def edges(image: RgbImage) -> NDArray[Any]:
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        light = cv2.cvtColor(small, cv2.COLOR_RGB2LAB)[..., 0]
        slope = np.hypot(cv2.Sobel(light, cv2.CV_32F, 1, 0), cv2.Sobel(light, cv2.CV_32F, 0, 1))
        return cv2.GaussianBlur(np.sqrt(slope), (0, 0), 1.0)[counts]

    size = (_EDGE_SIDE, _EDGE_SIDE)
    counts = np.ones(size, bool)
    if figure is not None:
        shrunk = cv2.resize(figure.astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA)
        counts = cv2.dilate(shrunk, np.ones((7, 7), np.uint8)) > 127
    a = edges(photo)
    a -= a.mean()
    b = edges(picture)
    b -= b.mean()
    return float(a @ b / max(1e-6, float(np.linalg.norm(a) * np.linalg.norm(b))))


def color_distance(photo: RgbImage, picture: RgbImage) -> float:
    """Mean distance of coarse chroma (CIE a, b; smoothed over `COARSE_CHROMA` of the side), in units of CIE Lab.

    2.3 is a just noticeable difference. Lightness is up to the style and does not count.

    Raises:
        ShapeError: the pictures differ in shape.
    """
    if photo.shape != picture.shape:
        raise ShapeError(f"pictures differ: {photo.shape} and {picture.shape}")
    sigma = COARSE_CHROMA * max(photo.shape[:2])
    a, b = (
        cv2.GaussianBlur(cv2.cvtColor(x.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 1:], (0, 0), sigma)
        for x in (photo, picture)
    )
    return float(np.linalg.norm(a - b, axis=-1).mean())


def psnr_inside(photo: RgbImage, picture: RgbImage, mask: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio of two (H, W, 3) uint8 pictures where `mask`, (H, W) bool, is True, in dB.

    It is 100 if no pixel differs, also for an empty mask.
    """
    difference = photo[mask].astype(np.float64) - picture[mask]
    error = float(np.mean(difference * difference)) if difference.size else 0.0
    return 100.0 if error == 0 else float(min(100.0, 10 * np.log10(255**2 / error)))
