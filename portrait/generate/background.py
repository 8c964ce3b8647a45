"""Replace the background behind the person (`--background`), after a picture was made and judged."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from portrait.generate.framing import STRIP
from portrait.generate.matte import REFINED_SIDE, matte_sha256, subject_matte
from portrait.images import read_photo, resized
from portrait.records.arrays import RgbImage
from portrait.records.background import Background, Color
from portrait.records.face import Face
from portrait.records.portrait import BackgroundRecord

BLUR_FUSION = (0.18, 0.012)
"""Windows of the two passes of blur fusion, as shares of the longer side: 90 and 6 pixels at 512, as in the paper."""
BLUR = 0.025
"""Sigma of the blurred background, as a share of the longer side."""
FILLED_SIDE = 512
"""Side of the copy from which unknown parts are filled; they are smooth anyway."""
PAPER = (250, 247, 239)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Backdrop:
    """A background, prepared once for all pictures of a photo.

    `photo` is the part of the photo that the pictures show, (H, W, 3) uint8; `matte` the person's share of each pixel, (H,
    W) uint8; `picture` and `sha256` the pixels and hash of the background's file, if it is one.
    """

    background: Background
    photo: RgbImage
    matte: np.ndarray
    picture: RgbImage | None = None
    sha256: str = ""

    def behind(self, picture: RgbImage) -> tuple[RgbImage, np.ndarray | None]:
        """Put the background behind the person of a stylized `photo`, cleaning its edges of the old background's colors.

        Returns:
            (H, W, 3) uint8 and, for a transparent background, the person's own colors with alpha, (H, W, 4) uint8; the first
            picture then has white behind the person.
        """
        height, width = picture.shape[:2]
        matte = cv2.resize(self.matte, (width, height), interpolation=cv2.INTER_LINEAR)
        person = _own_colors(picture, matte)
        if self.background.kind == "transparent":
            person[matte == 0] = 255
            white = gradient((255, 255, 255), (255, 255, 255), width, height)
            return _over(person, matte, white), np.dstack([person, matte])
        return _over(person, matte, self._pixels(picture, matte)), None

    def as_record(self) -> BackgroundRecord:
        """The background as recorded, sufficient to apply the same one again."""
        return BackgroundRecord(
            kind=self.background.kind, value=self.background.value, sha256=self.sha256, matte=matte_sha256()
        )

    def same_as(self, record: BackgroundRecord | None) -> bool:
        """Whether it is the same as in the record, wherever a file may be now."""
        return record is not None and self.as_record() == record.model_copy(update={"value": self.background.value})

    def _pixels(self, picture: RgbImage, matte: np.ndarray) -> RgbImage:
        """The background alone, (H, W, 3) uint8."""
        height, width = matte.shape
        match self.background.kind:
            case "keep":
                return filled_in(resized(self.photo, width, height), matte <= 4)
            case "blur":
                radius = max(1, round(BLUR * max(height, width) / 2))
                near = cv2.dilate(matte, np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)) > 4
                blurred = cv2.GaussianBlur(filled_in(picture, ~near), (0, 0), BLUR * max(height, width))
                return RgbImage(np.asarray(blurred, np.uint8))
            case "paper":
                return paper(width, height)
            case "picture" if self.picture is not None:
                return covering(self.picture, width, height)
        return gradient(self.background.colors[0], self.background.colors[-1], width, height)


def prepare_background(
    background: Background, photo: RgbImage, face: Face, box: tuple[int, int, int] | None = None
) -> Backdrop:
    """Find the person in the part of the photo that the pictures will show, and read the background's file if there is one.

    Everybody but the person with this face counts as background, unless they touch the person. `box` is (left, top, side) of
    the part that was drawn, if that is not all of `photo`.

    Raises:
        ImageReadError: the file cannot be read.
    """
    file = None if background.file is None else read_photo(background.file)
    return Backdrop(
        background=background,
        photo=photo,
        matte=(subject_matte(photo, face, box) * 255 + 0.5).astype(np.uint8),
        picture=None if file is None else file.pixels,
        sha256="" if file is None else file.sha256,
    )


def paper(width: int, height: int) -> RgbImage:
    """Warm white paper, (height, width, 3) uint8, whose grain scales with the picture; always the same sheet."""
    side = max(width, height)
    draw = np.random.default_rng(0)
    grain = np.zeros((height, width), np.float32)
    for cells, weight in ((512, 1.6), (256, 1.4), (96, 1.0), (8, 1.2)):
        noise = draw.standard_normal((cells, cells)).astype(np.float32)
        grain += weight * cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)[:height, :width]
    sheet = np.empty((height, width, 3), np.uint8)
    for channel, value in enumerate(PAPER):
        sheet[..., channel] = np.clip(value + grain + 0.5, 0, 255)
    return RgbImage(sheet)


def gradient(top: Color, bottom: Color, width: int, height: int) -> RgbImage:
    """(height, width, 3) uint8 from one color at the top to another at the bottom."""
    t = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    column = (np.array(top, np.float32) * (1 - t) + np.array(bottom, np.float32) * t + 0.5).astype(np.uint8)
    return RgbImage(np.repeat(column[:, None], width, axis=1))


def covering(picture: RgbImage, width: int, height: int) -> RgbImage:
    """Crop the middle of a picture to a shape, as large as possible, and resize it."""
    scale = max(width / picture.shape[1], height / picture.shape[0])
    w, h = min(picture.shape[1], round(width / scale)), min(picture.shape[0], round(height / scale))
    left, top = (picture.shape[1] - w) // 2, (picture.shape[0] - h) // 2
    return resized(RgbImage(picture[top : top + h, left : left + w]), width, height)


def _over(person: RgbImage, matte: np.ndarray, behind: RgbImage) -> RgbImage:
    mixed = np.empty_like(person)
    for first in range(0, len(person), STRIP):
        rows = slice(first, first + STRIP)
        share = matte[rows, :, None].astype(np.float32) / 255
        mixed[rows] = person[rows] * share + behind[rows] * (1 - share) + 0.5
    return mixed


def _own_colors(picture: RgbImage, matte: np.ndarray) -> RgbImage:
    """The first result of `unmixed`, from a copy of at most `REFINED_SIDE` pixels: its changes have no fine detail."""
    height, width = picture.shape[:2]
    scale = min(1.0, REFINED_SIDE / max(height, width))
    w, h = round(width * scale), round(height * scale)
    small = resized(picture, w, h)
    alpha = cv2.resize(matte, (w, h), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    change = unmixed(small, alpha)[0].astype(np.int16) - small
    if scale < 1:
        change = np.asarray(cv2.resize(change, (width, height), interpolation=cv2.INTER_LINEAR), np.int16)
    return RgbImage(np.clip(picture + change, 0, 255).astype(np.uint8))


def unmixed(picture: RgbImage, alpha: np.ndarray) -> tuple[RgbImage, RgbImage]:
    """Separate the colors of the person and of the background where the picture shows a mixture of both.

    `alpha`, (H, W) float32 in [0, 1], is the person's share. The results are (H, W, 3) uint8, each extended beyond the edge.

    Reference:
        Forte 2021, "Approximate fast foreground colour estimation" (blur fusion, two passes).
    """
    observed, share = picture.astype(np.float32), alpha[..., None]
    person = background = observed
    for width in BLUR_FUSION:
        radius = max(1, round(width * max(picture.shape[:2]) / 2))
        person_mean = _share_mean(person, alpha, radius)
        background = _share_mean(background, 1 - alpha, radius)
        person = person_mean + share * (observed - share * person_mean - (1 - share) * background)
        person = np.clip(person, 0, 255)
    return RgbImage((person + 0.5).astype(np.uint8)), RgbImage((np.clip(background, 0, 255) + 0.5).astype(np.uint8))


def _share_mean(values: np.ndarray, share: np.ndarray, radius: int) -> np.ndarray:
    window = (2 * radius + 1, 2 * radius + 1)
    total = cv2.blur(values * share[..., None], window, borderType=cv2.BORDER_REFLECT)
    weight = cv2.blur(share, window, borderType=cv2.BORDER_REFLECT)
    return np.asarray(total / (weight[..., None] + 1e-5), np.float32)


def filled_in(picture: RgbImage, known: np.ndarray) -> RgbImage:
    """The picture, (H, W, 3) uint8: exact where `known`, (H, W) bool, and filled smoothly from its surroundings elsewhere.

    Reference:
        Gortler et al. 1996, "The lumigraph" (pull-push).
    """
    height, width = known.shape
    scale = min(1.0, FILLED_SIDE / max(height, width))
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    weight = cv2.resize(known.astype(np.float32), (w, h), interpolation=cv2.INTER_AREA)
    small = cv2.resize(np.where(known[..., None], picture, 0), (w, h), interpolation=cv2.INTER_AREA)
    smooth = (np.clip(_pulled(small.astype(np.float32), weight), 0, 255) + 0.5).astype(np.uint8)
    smooth = cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR)
    return RgbImage(np.where(known[..., None], picture, smooth).astype(np.uint8))


def _pulled(weighted: np.ndarray, weight: np.ndarray) -> np.ndarray:
    height, width = weight.shape
    if min(height, width) <= 2:
        mean = weighted.sum((0, 1)) / max(float(weight.sum()), 1e-6)
        return np.broadcast_to(mean, weighted.shape).astype(np.float32)
    half = ((width + 1) // 2, (height + 1) // 2)
    small = [cv2.resize(x, half, interpolation=cv2.INTER_AREA) for x in (weighted, weight)]
    gain = np.minimum(1, 2 * small[1]) / np.maximum(small[1], 1e-6)  # a half known pixel counts as known
    below = cv2.resize(_pulled(small[0] * gain[..., None], small[1] * gain), (width, height))
    return np.asarray(weighted + (1 - weight[..., None]) * below, np.float32)
