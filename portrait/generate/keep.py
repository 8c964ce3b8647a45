"""Keep what must stay: the mechanism. `judge.checks` measures whether it did.

Background, regions and masks are the photo's own pixels, with a feathered rim outside of them. Colours are
the photo's chroma, coarsely, under the picture's own lightness. Pose and composition are held by the
structure that the generator sees, and only measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from portrait.errors import SettingsError
from portrait.images import read_photo, resized
from portrait.records import Face, Keep, RgbImage

RIM = 0.025
"""Width of the feathered rim over the picture's longer side."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kept:
    """What must stay of one picture, at that picture's size.

    `before` is the photo, (H, W, 3) uint8; `masks` maps a keep's name to (H, W) bool, True where every pixel
    stays as it is; `colors` says whether chroma is held.
    """

    before: RgbImage
    masks: dict[str, np.ndarray]
    colors: bool = False

    def hold(self, picture: RgbImage) -> RgbImage:
        """The picture with everything put back that must stay; inside the masks equal to `before`."""
        if self.colors:
            picture = hold_colors(self.before, picture)
        if not self.masks:
            return picture
        exact = np.any(list(self.masks.values()), axis=0)
        distance = cv2.distanceTransform((~exact).astype(np.uint8), cv2.DIST_L2, 5)
        ramp = np.clip(1 - distance / max(2.0, RIM * max(exact.shape)), 0, 1)
        alpha = (ramp * ramp * (3 - 2 * ramp))[..., None]
        return np.where(
            exact[..., None], self.before, (self.before * alpha + picture * (1 - alpha) + 0.5).astype(np.uint8)
        )


def prepare_keeps(keeps: Sequence[Keep], photo: RgbImage, face: Face, window: tuple[int, int, int, int]) -> Kept:
    """Find out, once per photo, which pixels must stay.

    Args:
        keeps: What must stay.
        photo: (H, W, 3) uint8, the whole photo.
        face: The person's face in it.
        window: (left, top, width, height) of the part of the photo that is shown. `Kept.before` has its size.

    Raises:
        SettingsError: a region or mask keeps nothing of the window, or a mask has another size.
        ImageReadError: a mask cannot be read.
    """
    height, width = photo.shape[:2]
    left, top, w, h = window
    masks = {}
    for keep in keeps:
        whole = np.zeros((height, width), bool)
        if keep.box is not None:
            x, y, box_width, box_height = keep.box
            whole[y : y + box_height, x : x + box_width] = True
        elif keep.file is not None:
            mask = read_photo(keep.file).pixels
            if mask.shape[:2] != (height, width):
                raise SettingsError(
                    f"mask {keep.file} is {mask.shape[1]} x {mask.shape[0]}; the photo is {width} x {height}"
                )
            whole = mask.mean(-1) > 127
        elif keep.kind == "background":
            whole = ~person_mask(photo, face)
        else:
            continue
        seen = whole[top : top + h, left : left + w]
        if not seen.any() and keep.kind != "background":
            raise SettingsError(
                f"keep {keep.name} lies outside of what is shown: {w} x {h} pixels from ({left}, {top}) of a photo of "
                f"{width} x {height}; --frame full shows all of it"
            )
        masks[keep.name] = seen
    return Kept(
        before=photo[top : top + h, left : left + w], masks=masks, colors=any(k.kind == "colors" for k in keeps)
    )


def at_size(kept: Kept, size: int) -> Kept:
    """The same for the picture resized to size x size; a mask's border pixels stay whole."""
    masks = {
        name: cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA) > 0
        for name, mask in kept.masks.items()
    }
    return Kept(before=resized(kept.before, size, size), masks=masks, colors=kept.colors)


def hold_colors(photo: RgbImage, picture: RgbImage) -> RgbImage:
    """The picture with the photo's coarse chroma; its lightness, and fine differences of colour, stay its own."""
    a, b = (cv2.cvtColor(x.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for x in (photo, picture))
    sigma = max(picture.shape[:2]) / 48
    b[..., 1:] += np.asarray(cv2.GaussianBlur(a[..., 1:] - b[..., 1:], (0, 0), sigma), np.float32)
    return np.asarray((cv2.cvtColor(b, cv2.COLOR_LAB2RGB).clip(0, 1) * 255 + 0.5).astype(np.uint8))


def person_mask(photo: RgbImage, face: Face, side: int = 256) -> np.ndarray:
    """Where the person is: (H, W) bool, by GrabCut seeded from the face.

    The inner face is surely person; head, hair and the trunk below it are likely; a border of the photo
    above the shoulders is surely background. Works on a copy of at most `side` pixels.

    Reference:
        Rother et al. 2004, "GrabCut: interactive foreground extraction using iterated graph cuts".
    """
    height, width = photo.shape[:2]
    scale = min(1.0, side / max(height, width))
    h, w = max(8, round(height * scale)), max(8, round(width * scale))
    small = resized(photo, w, h)
    x, y = (v * scale for v in face.center)
    fw, fh = face.width * scale, face.height * scale
    seeds = np.full((h, w), cv2.GC_BGD, np.uint8)

    def ellipse(cx: float, cy: float, rx: float, ry: float, value: int) -> None:
        cv2.ellipse(seeds, ((cx, cy), (2 * rx, 2 * ry), 0.0), value, -1)

    ellipse(x, y + 0.1 * fh, 2.1 * fw, 2.1 * fh, cv2.GC_PR_BGD)
    seeds[int(min(h - 1, y + 0.5 * fh)) :] = cv2.GC_PR_BGD
    ellipse(x, y - 0.05 * fh, 0.8 * fw, 0.85 * fh, cv2.GC_PR_FGD)  # with hair
    trunk = np.array([[x - 0.45 * fw, y], [x + 0.45 * fw, y], [x + 1.5 * fw, h], [x - 1.5 * fw, h]]).astype(np.int32)
    cv2.fillConvexPoly(seeds, trunk, cv2.GC_PR_FGD)
    ellipse(x, y, 0.42 * fw, 0.45 * fh, cv2.GC_FGD)
    background, person_model = np.zeros((1, 65)), np.zeros((1, 65))
    bgr = np.ascontiguousarray(small[:, :, ::-1])
    cv2.setRNGSeed(0)
    cv2.grabCut(bgr, seeds, (0, 0, 0, 0), background, person_model, 4, cv2.GC_INIT_WITH_MASK)
    found = ((seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD)).astype(np.uint8)
    _, labels = cv2.connectedComponents(found)
    label = labels[int(np.clip(y, 0, h - 1)), int(np.clip(x, 0, w - 1))]
    person = ((labels == label) & (found > 0)).astype(np.float32)
    person = cv2.dilate(person, np.ones((3, 3), np.uint8))
    return cv2.resize(person, (width, height), interpolation=cv2.INTER_LINEAR) > 0.3
