"""Find the person in a photo: `mini`'s own matte network, and the guided filter that refines its edges at full size."""

from __future__ import annotations

import cv2
import numpy as np

from portrait.generate.framing import paste_back
from portrait.generate.inputs import as_planes
from portrait.generate.onnx_network import listed_sha256, load_listed
from portrait.hub.files import mini_folder
from portrait.records.arrays import RgbImage
from portrait.records.face import Face

SIDE = 256
"""The network sees every photo as SIDE x SIDE pixels, whatever its aspect ratio."""
SOFT_RADIUS = 6
"""Pixels, at SIDE, within which a soft edge must reach the certain person on one side and background on the other."""
REFINED_SIDE = 2048
"""Larger photos get the enlarged matte of a copy with this longer side."""
FILTER_RADIUS, FILTER_EPSILON = 1 / 128, 1e-4
"""Guided filter: half width of the window as a share of the longer side; variance below which a window counts as flat."""


def matte_sha256() -> str:
    """SHA-256 of the shipped matte network, from `weights/mini/manifest.json`."""
    return listed_sha256(mini_folder(), "matte.safetensors")


def person_matte(photo: RgbImage) -> np.ndarray:
    """How much of each pixel belongs to a person.

    Everybody in the photo counts as a person. Edges, including hair, follow the photo at its full size.

    Args:
        photo: (H, W, 3) uint8, RGB.

    Returns:
        (H, W) float32 in [0, 1].

    Raises:
        WeightsMissingError, WeightsCorruptError: the shipped network is missing or damaged.

    Reference:
        He et al. 2010, "Guided image filtering", for the refinement.
    """
    height, width = photo.shape[:2]
    small = RgbImage(np.asarray(cv2.resize(photo, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8))
    coarse = settled(load_listed(mini_folder(), "matte")(photo=as_planes(small))[0])
    return refined_matte(photo, coarse) if max(height, width) > SIDE else _fitted(coarse, width, height)


def settled(matte: np.ndarray) -> np.ndarray:
    """Keep a matte (h, w) float32 soft only between certain person and certain background.

    Otherwise a whole region that the network is unsure of, say a helmet under an arm, would be half transparent.
    """
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * SOFT_RADIUS + 1, 2 * SOFT_RADIUS + 1))
    person_near, background_near = cv2.dilate(matte, disk), 1 - cv2.erode(matte, disk)
    share, rest = (
        cv2.blur(np.clip((near - 0.5) / 0.35, 0, 1), (5, 5), borderType=cv2.BORDER_REFLECT)
        for near in (person_near, background_near)
    )
    return np.asarray(1 - (1 - matte * share) * rest, np.float32)


def subject_matte(photo: RgbImage, face: Face, box: tuple[int, int, int] | None = None) -> np.ndarray:
    """`person_matte` of one person: the owner of the face, and anybody who touches them.

    Args:
        photo: (H, W, 3) uint8.
        face: The person's face in `photo`; its inner part always counts as the person.
        box: (left, top, side) of a square around the person, which is then processed separately: in a large photo
            they are too small for the network.
    """
    matte = person_matte(photo)
    height, width = matte.shape
    if box is not None and box[2] < 0.75 * max(height, width):
        left, top, side = box
        closer = person_matte(RgbImage(photo[top : top + side, left : left + side]))
        far, close = (RgbImage(np.repeat((m[..., None] * 255 + 0.5).astype(np.uint8), 3, 2)) for m in (matte, closer))
        matte = (paste_back(far, close, box)[..., 0] / 255).astype(np.float32)
    x, y = face.center
    inner = np.zeros((height, width), np.uint8)
    cv2.ellipse(inner, ((x, y), (0.84 * face.width, 0.9 * face.height), 0.0), 1, -1)
    matte[inner > 0] = 1
    scale = min(1.0, 2 * SIDE / max(height, width))
    small = cv2.resize(
        matte, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    _, labels = cv2.connectedComponents((small > 0.1).astype(np.uint8))
    figure = labels == labels[min(int(y * scale), labels.shape[0] - 1), min(int(x * scale), labels.shape[1] - 1)]
    near = cv2.dilate(figure.astype(np.uint8), np.ones((3, 3), np.uint8))  # the outermost pixels are the least certain
    matte[cv2.resize(near, (width, height), interpolation=cv2.INTER_NEAREST) == 0] = 0
    return matte


def refined_matte(photo: RgbImage, coarse: np.ndarray) -> np.ndarray:
    """Enlarge a coarse matte (h, w) float32 to the photo's (H, W), with its edges moved to the photo's edges."""
    height, width = photo.shape[:2]
    scale = min(1.0, REFINED_SIDE / max(height, width))
    w, h = round(width * scale), round(height * scale)
    guide = cv2.resize(photo, (w, h), interpolation=cv2.INTER_AREA) if scale < 1 else photo
    radius = max(1, round(FILTER_RADIUS * max(w, h)))
    filtered = guided_filter(guide.astype(np.float32) / 255, _fitted(coarse, w, h), radius, FILTER_EPSILON)
    return _fitted(np.clip((filtered - 0.04) / 0.92, 0, 1), width, height)  # nearly certain values become certain


def _fitted(matte: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.clip(cv2.resize(matte, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1).astype(np.float32)


def guided_filter(guide: np.ndarray, values: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """Approximate `values` by a locally linear function of the guide's colors.

    Args:
        guide: (H, W, 3) float32 in [0, 1].
        values: (H, W) float32.
        radius: Half width of the square windows, pixels.
        epsilon: Variance of color below which a window counts as flat.

    Reference:
        He et al. 2010, "Guided image filtering", section 3.4 (color guides).
    """

    def mean(x: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.blur(x, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REFLECT))

    colors, level = mean(guide), mean(values)
    r, g, b = (guide[..., c] for c in range(3))
    mr, mg, mb = (colors[..., c] for c in range(3))
    rr, gg, bb = (mean(x * x) - m * m + epsilon for x, m in ((r, mr), (g, mg), (b, mb)))
    rg, rb, gb = mean(r * g) - mr * mg, mean(r * b) - mr * mb, mean(g * b) - mg * mb
    cr, cg, cb = (mean(guide[..., c] * values) - colors[..., c] * level for c in range(3))
    # Solve the symmetric 3 x 3 system of each pixel by its adjugate.
    irr, igg, ibb = gg * bb - gb * gb, rr * bb - rb * rb, rr * gg - rg * rg
    irg, irb, igb = gb * rb - rg * bb, rg * gb - gg * rb, rb * rg - rr * gb
    determinant = irr * rr + irg * rg + irb * rb
    slopes = [
        (irr * cr + irg * cg + irb * cb) / determinant,
        (irg * cr + igg * cg + igb * cb) / determinant,
        (irb * cr + igb * cg + ibb * cb) / determinant,
    ]
    offset = level - slopes[0] * mr - slopes[1] * mg - slopes[2] * mb
    return np.asarray(mean(slopes[0]) * r + mean(slopes[1]) * g + mean(slopes[2]) * b + mean(offset))
