"""What `mini` sees of a photo: the person, the colors of what is behind them, and where the features of the face lie.

The painters that it learned from simplify the background to its broad colors and draw features by a face mesh
(`weights/training/painters/scene.py`). A door frame or a branch beside the head would otherwise be drawn as part of the
person, and so would a dark wall beside dark hair; eyes and mouths would have to be guessed from a quarter of the photo's
pixels. A model that is `guided` also sees the person under the painters' kind light.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from portrait.generate.families.mini.face_mesh import find_mesh
from portrait.generate.families.mini.guides import draw_guides
from portrait.generate.families.mini.marks.layout import GUIDES
from portrait.generate.families.mini.sitter import SIZE, Sitter
from portrait.generate.inputs import Cache, at_side
from portrait.generate.matte import person_matte
from portrait.images import pixels_sha256
from portrait.records import Face, RgbImage

SIGMA = 28 / 512
"""Of the Gaussian over the background, as a share of the side."""
DARKEST = 40
"""Lightness in CIELAB that a black background is lifted to; from twice that on, nothing changes."""
COARSE_SIDE = 128
"""The background is blurred at this size."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """A photo as the model sees it.

    Attributes:
        picture: (S, S, 3) uint8.
        guides: (len(GUIDES), S/2, S/2) float32 in [0, 1]; 0 if no face mesh is found, or the model is not guided.
    """

    picture: RgbImage
    guides: NDArray[np.float32]


def look_at(photo: RgbImage, face: Face | None, guided: bool) -> Seen:
    """See a photo as the model does. Everybody in the photo counts as a person.

    Args:
        photo: (S, S, 3) uint8.
        face: The face to be drawn. Its inner part is kept whatever the matte says; None keeps what the matte finds.
        guided: Whether the model knows guides and the kind light.

    Raises:
        WeightsMissingError, WeightsCorruptError: the network of the matte or of the mesh is missing or damaged.
    """
    side = photo.shape[0]
    if guided and side != SIZE:
        seen = look_at(at_side(photo, SIZE), None if face is None else face.moved(SIZE / side, 0, 0), guided)
        guides = [cv2.resize(plane, (side // 2, side // 2), interpolation=cv2.INTER_AREA) for plane in seen.guides]
        return Seen(picture=at_side(seen.picture, side), guides=np.stack(guides))
    matte = person_matte(photo)
    if face is not None:
        inner = ((face.center[0], face.center[1]), (0.84 * face.width, 0.9 * face.height), 0.0)
        cv2.ellipse(matte, inner, 1.0, -1)
    mesh = find_mesh(photo, face.kps) if guided and face is not None else None
    if mesh is None:
        nothing = np.zeros((len(GUIDES), side // 2, side // 2), np.float32)
        return Seen(picture=without_outlines(photo, matte, photo), guides=nothing)
    sitter = Sitter(photo.astype(np.float32) / np.float32(255), matte, mesh)
    picture = without_outlines(photo, matte, 255 * sitter.photo)
    return Seen(picture=picture, guides=draw_guides(mesh, sitter.irises, side // 2))


def without_outlines(photo: RgbImage, matte: np.ndarray, person: np.ndarray) -> RgbImage:
    """Blur everything in a photo but its people, and lighten it where it is dark.

    Only background colors are blurred, so that no person bleeds into them.

    Args:
        photo: (S, S, 3) uint8.
        matte: (S, S) float32 in [0, 1], 1 on people.
        person: (S, S, 3) numbers in [0, 255]; what is shown of people.

    Returns:
        (S, S, 3) uint8.
    """
    side = photo.shape[0]
    coarse = (COARSE_SIDE, COARSE_SIDE)
    certain = np.clip((0.5 - matte) / 0.48, 0, 1)[..., None].astype(np.float32)
    colors = cv2.resize(photo * certain, coarse, interpolation=cv2.INTER_AREA)
    weight = cv2.resize(certain, coarse, interpolation=cv2.INTER_AREA)
    sigma = SIGMA * COARSE_SIDE
    colors, weight = (cv2.GaussianBlur(plane, (0, 0), sigma) for plane in (colors, weight))
    far = photo.reshape(-1, 3).mean(0) if weight.max() < 1e-3 else (colors.sum((0, 1)) / weight.sum())
    blurred = (colors + 1e-3 * far) / (weight[..., None] + 1e-3)
    behind = cv2.resize(_lifted(blurred.astype(np.float32)), (side, side), interpolation=cv2.INTER_CUBIC)
    share = np.clip(matte / 0.9, 0, 1)[..., None]
    return RgbImage(np.clip(person * share + behind * (1 - share) + 0.5, 0, 255).astype(np.uint8))


def _lifted(colors: np.ndarray) -> np.ndarray:
    """The same colors, (h, w, 3) float32 in [0, 255], none of them darker than `DARKEST`."""
    lab = cv2.cvtColor(np.clip(colors / 255, 0, 1), cv2.COLOR_RGB2LAB)
    lightness = lab[..., 0]
    lab[..., 0] = np.where(lightness < 2 * DARKEST, DARKEST + lightness**2 / (4 * DARKEST), lightness)
    return 255 * cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


class LastSeen:
    """`look_at` of the last photo, which its styles share."""

    def __init__(self, guided: bool) -> None:
        self._guided = guided
        self._last = Cache[Seen](1)

    def of(self, photo: RgbImage, face: Face | None) -> Seen:
        """The photo as the model sees it."""
        key = (pixels_sha256(photo), None if face is None else face.kps.tobytes())
        return self._last.get(key, lambda: look_at(photo, face, self._guided))

    def clear(self) -> None:
        """Forget the last photo."""
        self._last.clear()
