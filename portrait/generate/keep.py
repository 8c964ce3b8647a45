"""Preserve what must stay (`--keep`); `judge.checks` measures whether it did.

Background, regions and masks are the photo's own pixels, with a feathered rim outside of them. Colors are the photo's coarse
chroma, under the picture's own lightness. Pose and composition are only measured, the latter on the figure, for styles may
leave the background out: the structure that conditions the generator preserves them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from portrait.errors import InputError
from portrait.generate.framing import STRIP
from portrait.generate.matte import subject_matte
from portrait.images import COARSE_CHROMA, Photo, read_photo, resized, turned
from portrait.records import Face, Keep, RgbImage

PERSON_SHARE = 0.25
"""Pixels that show more of the person than this do not count as background."""
RIM = 0.025
"""Width of the feathered rim, as a share of the side of the portrait's square."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kept:
    """What must stay in a portrait's square, at the size of the finished portrait.

    `before` is that square of the photo, (S, S, 3) uint8; `masks` maps a keep's name to (S, S) bool, True where pixels stay
    unchanged; `alpha` is the share of the photo, (S, S, 1) float32, 1 on all masks, or None without masks. `colors` says
    whether chroma is preserved. `figure` is the person, (S, S) bool, for composition, which is compared there; else None.
    `files` holds path and SHA-256 of each mask file.
    """

    before: RgbImage
    masks: dict[str, NDArray[np.bool_]]
    alpha: NDArray[np.float32] | None = None
    colors: bool = False
    figure: NDArray[np.bool_] | None = None
    files: tuple[tuple[str, str], ...] = ()

    def hold(self, square: RgbImage) -> RgbImage:
        """Put back into the square everything that must stay pixel for pixel."""
        if self.alpha is None:
            return square
        held = RgbImage(np.empty_like(self.before))
        for first in range(0, len(held), STRIP):
            rows = slice(first, first + STRIP)
            before, alpha = self.before[rows], self.alpha[rows]
            mixed = (before * alpha + square[rows] * (1 - alpha) + 0.5).astype(np.uint8)
            held[rows] = np.where(alpha == 1, before, mixed)
        return held


def prepare_keeps(
    keeps: Sequence[Keep],
    photo: RgbImage,
    face: Face,
    box: tuple[int, int, int],
    size: int,
    *,
    whole: bool,
    photo_turned: int = 0,
) -> Kept:
    """Determine which pixels must stay.

    Args:
        keeps: What must stay.
        photo: (H, W, 3) uint8, the whole photo.
        face: The person's face in it.
        box: (left, top, side) of the portrait's square in the photo.
        size: Side of the square in the finished portrait.
        whole: Whether the finished picture includes the rest of the photo, untouched, so that a region may lie there.
        photo_turned: Degrees clockwise by which the photo was turned; mask files are for the photo before that.

    Raises:
        InputError: a region or mask does not fit this photo, or covers nothing or all of what is shown.
        ImageReadError: a mask cannot be read.
    """
    height, width = photo.shape[:2]
    left, top, side = box
    masks: dict[str, NDArray[np.bool_]] = {}
    files: list[tuple[str, str]] = []
    kinds = {keep.kind for keep in keeps}
    person = _person_near(photo, face, box) if kinds & {"background", "composition"} else None
    for keep in keeps:
        stays = _stays(keep, photo, person, files, photo_turned)
        if stays is None:
            continue
        visible = stays[top : top + side, left : left + side]
        if not visible.any() and keep.kind != "background" and not (whole and stays.any()):
            raise InputError(
                f"keep {keep.name} lies outside the frame: {side} x {side} pixels from ({left}, {top}) of a photo "
                f"of {width} x {height}; --frame full shows all of it"
            )
        if not visible.any() and not whole:
            log.warning("keep %s: no background was found around the person, so nothing is preserved", keep.name)
        if size != side:  # a pixel on the mask's border counts as masked
            visible = cv2.resize(visible.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA) > 0
        masks[keep.name] = visible
    square = RgbImage(photo[top : top + side, left : left + side])
    figure = None
    if person is not None and "composition" in kinds:
        near = person[top : top + side, left : left + side].astype(np.uint8)
        figure = cv2.resize(near, (size, size), interpolation=cv2.INTER_NEAREST) > 0
    return Kept(
        before=square if size == side else resized(square, size, size),
        masks=masks,
        alpha=_feathered(np.any(list(masks.values()), axis=0)) if masks else None,
        colors="colors" in kinds,
        figure=figure,
        files=tuple(files),
    )


def _stays(
    keep: Keep,
    photo: RgbImage,
    person: NDArray[np.bool_] | None,
    files: list[tuple[str, str]],
    photo_turned: int,
) -> NDArray[np.bool_] | None:
    """(H, W) bool, True where pixels of the photo stay; None for keeps that need no mask.

    `person` is (H, W) bool, for the background. Mask files that are read are added to `files`.
    """
    height, width = photo.shape[:2]
    if keep.box is not None:
        x, y, box_width, box_height = keep.box
        if x + box_width > width or y + box_height > height:
            raise InputError(f"keep {keep.name} reaches beyond the photo, which is {width} x {height} pixels")
        stays = np.zeros((height, width), bool)
        stays[y : y + box_height, x : x + box_width] = True
        return stays
    if keep.file is not None:
        mask = turned(read_photo(keep.file, backdrop=0), photo_turned)
        files.append((str(keep.file.resolve()), mask.sha256))
        return _white_of(mask, (width, height))
    if keep.kind == "background" and person is not None:
        return ~person
    return None


def _white_of(mask: Photo, size: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool, True where the mask of a photo of `size` (width, height) is white; transparent is not white."""
    height, width = mask.pixels.shape[:2]
    if (width, height) != size:
        raise InputError(f"mask {mask.path} is {width} x {height}; the photo is {size[0]} x {size[1]}")
    white = np.asarray(mask.pixels.min(axis=-1) > 127)
    if not white.any():
        raise InputError(f"mask {mask.path} has no white, so it keeps nothing; white is what stays")
    if white.all():
        raise InputError(f"mask {mask.path} is all white, so nothing could change; paint black what may change")
    return white


def _feathered(exact: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(S, S) bool -> (S, S, 1) float32: 1 inside, falling to 0 over the rim outside."""
    if not exact.any():
        return np.zeros((*exact.shape, 1), np.float32)
    distance = cv2.distanceTransform((~exact).astype(np.uint8), cv2.DIST_L2, 5)
    ramp = np.clip(1 - np.asarray(distance) / max(2.0, RIM * len(exact)), 0, 1)
    return np.asarray((ramp * ramp * (3 - 2 * ramp))[..., None], np.float32)


def _person_near(photo: RgbImage, face: Face, box: tuple[int, int, int]) -> NDArray[np.bool_]:
    """(H, W) bool, True on the person, within the square and a margin around it."""
    height, width = photo.shape[:2]
    left, top, side = box
    margin = side // 6
    x0, y0 = max(0, left - margin), max(0, top - margin)
    x1, y1 = min(width, left + side + margin), min(height, top + side + margin)
    person = np.zeros((height, width), bool)
    near = subject_matte(RgbImage(photo[y0:y1, x0:x1]), face.moved(1, -x0, -y0))
    person[y0:y1, x0:x1] = near > PERSON_SHARE
    return person


def hold_colors(photo: RgbImage, picture: RgbImage) -> RgbImage:
    """Give the picture the photo's coarse chroma; its own lightness and fine color differences stay."""
    a = cv2.cvtColor(photo.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    b = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    sigma = COARSE_CHROMA * max(picture.shape[:2])
    b[..., 1:] += np.asarray(cv2.GaussianBlur(a[..., 1:] - b[..., 1:], (0, 0), sigma), np.float32)
    return RgbImage((cv2.cvtColor(b, cv2.COLOR_LAB2RGB).clip(0, 1) * 255 + 0.5).astype(np.uint8))
