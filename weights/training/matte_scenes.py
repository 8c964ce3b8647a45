"""Scenes for training the matte: the training portraits as they are, and their people on other backgrounds.

144 photographs are few, and each has one person in its middle. So people are moved, turned, scaled and relit, composited
onto other rooms, textures, gradients and shapes, sometimes two together, and degraded like bad photos. The matte is
transformed with them, so it is known exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import cv2
import numpy as np
from dataset import read, read_matte

from portrait.generate.background import filled_in, unmixed
from portrait.records import RgbImage

SIZE = 512
PICTURES = ("brick", "coffee", "chelsea", "coins", "grass", "gravel", "rocket", "motorcycle_left", "hubble_deep_field")
"""Pictures without people from `skimage.data`, as further backgrounds."""
SIDE_SHARE = 0.12
"""Share of a photo's rows: a person who touches a side along more of them is cut off there."""


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """Everything at 512 x 512 uint8: the photo, the matte, the person's own colors, and the room without the person."""

    photo: np.ndarray
    matte: np.ndarray
    colors: np.ndarray
    room: np.ndarray
    cut_left: bool
    cut_right: bool


def load_person(photo_file: Path, matte_file: Path) -> Person:
    small = cv2.resize(read(photo_file), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    photo = RgbImage(small.astype(np.uint8, copy=False))
    matte = read_matte(matte_file)
    alpha = matte.astype(np.float32) / 255
    colors, _ = unmixed(photo, alpha)
    near = cv2.dilate(matte, np.ones((13, 13), np.uint8)) > 8
    room = filled_in(photo, ~near)
    mirror = near & ~near[:, ::-1]  # the other side's wall is a better guess than a blur
    room[mirror] = photo[:, ::-1][mirror]
    return Person(
        photo, matte, colors, room, bool(alpha[:, 0].mean() > SIDE_SHARE), bool(alpha[:, -1].mean() > SIDE_SHARE)
    )


def stored_pictures() -> list[np.ndarray]:
    pictures: list[np.ndarray] = []
    for name in PICTURES:
        for suffix in (".png", ".jpg"):
            source = files("skimage.data") / f"{name}{suffix}"
            if source.is_file():
                with as_file(source) as path:
                    pictures.append(read(path))
    return pictures


def color(rng: np.random.Generator) -> np.ndarray:
    """Any color; sometimes that of skin or hair, which alone must not identify a person."""
    if rng.random() < 0.25:
        return np.array([0.85, 0.62, 0.5]) * rng.uniform(0.25, 1.1) * (1 + rng.uniform(-0.08, 0.08, 3))
    return rng.random(3) if rng.random() < 0.5 else np.full(3, rng.random()) + rng.uniform(-0.08, 0.08, 3)


class Scenes:
    """Draws pairs of picture and matte.

    Args:
        people: The training people.
        size: Side of the pictures.
    """

    def __init__(self, people: list[Person], pictures: list[np.ndarray], size: int) -> None:
        self.people, self.pictures, self.size = people, pictures, size

    def batch(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(B, S, S, 3) and (B, S, S, 1) float32 in [0, 1]."""
        pairs = [self.draw(rng) for _ in range(count)]
        return np.stack([picture for picture, _ in pairs]), np.stack([matte for _, matte in pairs])[..., None]

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        kind = rng.random()
        if kind < 0.35:
            picture, matte = self.plain(rng)
        else:
            picture, matte = self.backdrop(rng), np.zeros((self.size, self.size), np.float32)
            for _ in range(0 if kind > 0.97 else 2 if kind > 0.87 else 1):
                picture, matte = self.placed(picture, matte, rng)
        picture = lit(picture, rng)
        return (badly_taken(picture, rng) if rng.random() < 0.6 else picture), matte

    def plain(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A part of a photo as it was taken."""
        person = self.people[rng.integers(len(self.people))]
        width, height = SIZE * np.clip(rng.uniform(0.45, 1.15) * np.exp(rng.uniform(-0.2, 0.2, 2)), 0.35, 1)
        left, top = rng.uniform(0, SIZE - width), rng.uniform(0, SIZE - height)
        matrix = np.array([[self.size / width, 0, 0], [0, self.size / height, 0]])
        matrix[:, 2] = -matrix[:, :2] @ (left, top)
        return self._warped((person.photo, person.matte), matrix, rng.random() < 0.5)

    def placed(self, picture: np.ndarray, matte: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Composite a person into the picture, never floating: the cut through the body is below the border."""
        person = self.people[rng.integers(len(self.people))]
        both = person.cut_left and person.cut_right
        scale = np.exp(rng.uniform(np.log(1.0 if both else 0.45), np.log(1.9)))
        angle = rng.uniform(-0.22, 0.22) if rng.random() < 0.3 else 0.0
        stretch = np.exp(rng.uniform(-0.18, 0.18))
        zoom = self.size / SIZE * scale
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = np.zeros((2, 3))
        matrix[:, :2] = zoom * turn @ np.diag([stretch, 1 / stretch])
        rows, columns = np.nonzero(person.matte > 127)
        top, middle = float(rows.min()), float(np.median(columns))
        x = rng.uniform(0.25, 0.75) * self.size
        y = rng.uniform(-0.08, 0.4) * self.size
        matrix[:, 2] = np.array([x, y]) - matrix[:, :2] @ (middle, top)
        foot = matrix[1, :2] @ (SIZE / 2, SIZE) + matrix[1, 2]
        matrix[1, 2] += max(0.0, self.size * (1.0 + abs(angle) / 2) - foot)
        left = matrix[0, :2] @ (0, SIZE / 2) + matrix[0, 2]
        right = matrix[0, :2] @ (SIZE, SIZE / 2) + matrix[0, 2]
        if person.cut_left and left > 0:
            matrix[0, 2] -= left
        elif person.cut_right and right < self.size:
            matrix[0, 2] += self.size - right
        person_colors, alpha = self._warped((person.colors, person.matte), matrix, rng.random() < 0.5)
        if rng.random() < 0.7:
            person_colors = lit(person_colors, rng)
        if rng.random() < 0.3:  # a shadow on the wall
            shade = cv2.GaussianBlur(alpha, (0, 0), rng.uniform(2, 12) * self.size / 256)
            shift = np.array([[1, 0, rng.uniform(-0.06, 0.06)], [0, 1, rng.uniform(0, 0.05)]]) * [1, 1, self.size]
            picture = picture * (1 - rng.uniform(0.1, 0.5) * cv2.warpAffine(shade, shift, alpha.shape[::-1])[..., None])
        mixed = person_colors * alpha[..., None] + picture * (1 - alpha[..., None])
        return mixed.astype(np.float32), alpha + matte * (1 - alpha)

    def _warped(
        self, layers: tuple[np.ndarray, np.ndarray], matrix: np.ndarray, mirror: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        picture, matte = layers
        if mirror:
            matrix = np.array([[-1, 0, self.size], [0, 1, 0]]) @ np.vstack([matrix, [0, 0, 1]])
        scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
        while scale < 0.6:  # `warpAffine` does not antialias
            picture, matte = (cv2.resize(x, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for x in layers)
            layers, scale = (picture, matte), scale * 2
            matrix = matrix @ np.diag([2.0, 2.0, 1.0])
        to = (self.size, self.size)
        picture = cv2.warpAffine(picture, matrix, to, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        matte = cv2.warpAffine(matte, matrix, to, flags=cv2.INTER_LINEAR)
        return picture.astype(np.float32) / 255, matte.astype(np.float32) / 255

    def backdrop(self, rng: np.random.Generator) -> np.ndarray:
        """(S, S, 3) float32: a room, a stored picture, a gradient, or clouds of noise; often with things in it."""
        kind = rng.random()
        if kind < 0.55:
            picture = self._part_of(self.people[rng.integers(len(self.people))].room, rng)
        elif kind < 0.72:
            picture = self._part_of(self.pictures[rng.integers(len(self.pictures))], rng)
        elif kind < 0.85:
            picture = self._gradient(rng)
        else:
            picture = self._clouds(rng)
        if rng.random() < 0.4:
            picture = self._with_things(picture, rng)
        if rng.random() < 0.35:
            picture = cv2.GaussianBlur(picture, (0, 0), self.size * rng.uniform(0.002, 0.03))
        return lit(picture, rng) if rng.random() < 0.5 else picture

    def _part_of(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = picture.shape[:2]
        side = int(min(height, width) * rng.uniform(0.4, 1))
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        part = picture[top : top + side, left : left + side]
        part = np.rot90(part, int(rng.integers(4))) if rng.random() < 0.15 else part[:, :: rng.choice([-1, 1])]
        shape = (self.size, self.size)
        shrink = cv2.INTER_AREA if side > self.size else cv2.INTER_LINEAR
        return cv2.resize(np.ascontiguousarray(part), shape, interpolation=shrink).astype(np.float32) / 255

    def _gradient(self, rng: np.random.Generator) -> np.ndarray:
        y, x = np.mgrid[-1 : 1 : self.size * 1j, -1 : 1 : self.size * 1j]
        angle = rng.uniform(0, 2 * np.pi)
        t = np.clip(0.5 + 0.5 * (np.cos(angle) * x + np.sin(angle) * y) * rng.uniform(0.3, 3), 0, 1)[..., None]
        return (color(rng) * t + color(rng) * (1 - t)).astype(np.float32)

    def _clouds(self, rng: np.random.Generator) -> np.ndarray:
        total = np.zeros((self.size, self.size, 3), np.float32)
        for cells in (3, 6, 12, 24, 48, 96):
            grain = rng.normal(0, 1, (cells, cells, 3 if rng.random() < 0.5 else 1)).astype(np.float32)
            enlarged = cv2.resize(grain, (self.size, self.size), interpolation=cv2.INTER_CUBIC)
            total += rng.uniform(0, 1) * enlarged.reshape(self.size, self.size, -1)
        return (color(rng) + rng.uniform(0.03, 0.2) * total).astype(np.float32)

    def _with_things(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Plain shapes in place of furniture, frames, lamps and plants."""
        picture = np.ascontiguousarray(picture)
        for _ in range(rng.integers(1, 8)):
            paint = tuple(float(v) for v in color(rng))
            x, y = (float(v) for v in rng.uniform(0, self.size, 2))
            w, h = (float(v) for v in self.size * rng.uniform(0.03, 0.45, 2))
            kind = rng.integers(4)
            if kind == 0:
                cv2.rectangle(picture, (int(x - w / 2), int(y - h / 2)), (int(x + w / 2), int(y + h / 2)), paint, -1)
            elif kind == 1:
                cv2.ellipse(picture, ((x, y), (w, h), float(rng.uniform(0, 180))), paint, -1, cv2.LINE_AA)
            elif kind == 2:
                corners = rng.uniform(-0.5, 0.5, (rng.integers(3, 7), 2)) * (w, h) + (x, y)
                cv2.fillPoly(picture, [corners.astype(np.int32)], paint, cv2.LINE_AA)
            else:
                end = (int(x + rng.uniform(-2, 2) * w), int(y + rng.uniform(-2, 2) * h))
                cv2.line(picture, (int(x), int(y)), end, paint, int(rng.integers(1, 2 + self.size // 40)), cv2.LINE_AA)
        return picture


def lit(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vary exposure, contrast, color cast and saturation; sometimes light from a side, or no color."""
    x = np.clip(picture, 0, 1) ** rng.uniform(0.6, 1.7)
    x = (x - 0.5) * rng.uniform(0.6, 1.25) + 0.5 + rng.uniform(-0.1, 0.1)
    x = x * (1 + rng.uniform(-0.15, 0.15, 3))
    gray = x.mean(2, keepdims=True)
    x = gray + (x - gray) * (0 if rng.random() < 0.08 else rng.uniform(0.4, 1.5))
    if rng.random() < 0.2:
        y, xx = np.mgrid[-1 : 1 : len(x) * 1j, -1 : 1 : len(x) * 1j]
        angle = rng.uniform(0, 2 * np.pi)
        x = x * (1 + rng.uniform(0.1, 0.5) * (np.cos(angle) * xx + np.sin(angle) * y))[..., None]
    return np.clip(x, 0, 1).astype(np.float32)


def badly_taken(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Degrade by low resolution, blur, noise and JPEG."""
    x, size = picture, len(picture)
    if rng.random() < 0.3:
        n = int(rng.uniform(0.25, 0.8) * size)
        x = cv2.resize(
            cv2.resize(x, (n, n), interpolation=cv2.INTER_AREA), (size, size), interpolation=cv2.INTER_LINEAR
        )
    if rng.random() < 0.25:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.4, 1.6) * size / 256)
    if rng.random() < 0.4:
        x = x + rng.normal(0, rng.uniform(0.005, 0.06), x.shape)
    x = np.clip(x, 0, 1)
    if rng.random() < 0.4:
        encoded = cv2.imencode(
            ".jpg", (x * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 85))]
        )
        decoded = cv2.imdecode(encoded[1], cv2.IMREAD_COLOR)
        assert decoded is not None
        x = np.divide(decoded, 255)
    return x.astype(np.float32)
