"""One fake per seam, exact and fast, for the tests of the loop. The real parts run elsewhere in the suite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from portrait.records import Embedding, Face, Knobs, Points, Preview, RgbImage

SIZE = 128


def unit(*values: float) -> Embedding:
    vector = np.zeros(8, np.float32)
    vector[: len(values)] = values
    return vector / np.linalg.norm(vector)


def a_face(size: int = SIZE, score: float = 0.9) -> Face:
    """A frontal face in the middle of a size x size picture."""
    c = size / 2
    half = size * 0.21
    kps = np.array([[-0.2, -0.15], [0.2, -0.15], [0, 0.05], [-0.15, 0.22], [0.15, 0.22]], np.float32) * size + c
    return Face(
        bbox=np.array([c - half * 0.8, c - half, c + half * 0.8, c + half], np.float32), kps=kps, det_score=score
    )


class FakeAnalyzer:
    """Sees `faces(image)`; embeds by the picture's mean red: likeness is what the generator painted."""

    name = "arcface"
    same_person = 0.2
    licenses = ()

    def __init__(self, faces: Callable[[RgbImage], list[Face]] | None = None) -> None:
        self._faces = faces or (lambda image: [a_face(image.shape[0])])

    def candidates(self, image: RgbImage) -> list[Face]:
        return self._faces(image)

    def detect(self, image: RgbImage) -> list[Face]:
        return [f for f in self._faces(image) if f.det_score >= 0.5]

    def embed(self, image: RgbImage, kps: Points) -> Embedding:
        angle = float(image[..., 0].mean()) / 255 * np.pi / 2
        return unit(np.cos(angle), np.sin(angle))


class FakeReferee:
    """A second judge that looks at the mean green."""

    name = "dlib"
    licenses = ()

    def embed(self, image: RgbImage, face: Face) -> Embedding:
        angle = float(image[..., 1].mean()) / 255 * np.pi / 2
        return unit(np.cos(angle), np.sin(angle))


class FakeGenerator:
    """Returns what `paint(photo, knobs, seed)` says and remembers every call."""

    digests: dict[str, str] = {}  # noqa: RUF012
    threads = 1
    device = "cpu"
    tier = "full"
    dtype = "float32"
    sampler = "Fake"
    most_at_once = 1000

    def __init__(self, paint: Callable[[RgbImage, Knobs, int], RgbImage]) -> None:
        self._paint = paint
        self.prepared = 0
        self.calls: list[tuple[Knobs, tuple[int, ...]]] = []

    def prepare(
        self,
        image: RgbImage,
        embedding: Embedding,
        prompt: str,
        negative_prompt: str = "",
        face: Face | None = None,
    ) -> Any:
        self.prepared += 1
        return image

    def generate(
        self,
        conditions: Any,
        knobs: Knobs,
        seeds: Sequence[int],
        on_step: Callable[[int, int], None] | None = None,
        preview: Preview | None = None,
    ) -> list[RgbImage]:
        pictures = [self._paint(conditions, knobs, seed) for seed in seeds]
        self.calls.append((knobs, tuple(seeds)))
        self.on_the_way(pictures, on_step, preview)
        return pictures

    def on_the_way(
        self, pictures: list[RgbImage], on_step: Callable[[int, int], None] | None, preview: Preview | None
    ) -> None:
        """What happens between the steps: nothing, here."""
