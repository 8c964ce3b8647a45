"""One fake for each interface, exact and fast, and the loop around them. The real parts run elsewhere in the suite."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portrait.calibrate.sample import OnPicture, SampleOptions
from portrait.calibrate.thresholds import calibrate_thresholds
from portrait.faces.form import PLAIN
from portrait.images import MAX_PIXELS, Photo, decode_photo
from portrait.images.decoder_process import DecoderProcess
from portrait.judge.thresholds import Thresholds
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.types import PortraitGenerator, StylizedPortrait
from portrait.recipes.recipe import Recipe
from portrait.records import Embedding, Face, Knobs, Points, Preview, RgbImage
from portrait.records.calibration import PhotoThresholds
from portrait.settings import Settings

SIZE = 128
KNOBS = Knobs(
    strength=0.6, guidance_scale=3.0, ip_adapter_scale=0.6, controlnet_conditioning_scale=0.7, num_inference_steps=10
)
RECIPE = Recipe(
    name="mini", title="", base=Path("."), adapter=Path("."), family="mini", structure="source_latents", recognizer="w600k_mbf",
    resolution=SIZE, autocast="", negative_prompt="", styles=("watercolor", "oil"), balance=((0.5, KNOBS),), licenses=(),
)  # fmt: skip
LIMITS = Thresholds(identity={"arcface": 0.4, "dlib": 0.9}, far=0.01, style_on_face=0.15, burned=0.05)


def rgb(pixels: np.ndarray) -> RgbImage:
    """The same array, typed as a picture; asserts that it is one."""
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    return RgbImage(pixels)


def unit(*values: float) -> Embedding:
    vector = np.zeros(8, np.float32)
    vector[: len(values)] = values
    return Embedding(vector / np.linalg.norm(vector))


def a_face(size: int = SIZE, score: float = 0.9) -> Face:
    """A frontal face in the middle of a size x size picture."""
    c = size / 2
    half = size * 0.21
    kps = np.array([[-0.2, -0.15], [0.2, -0.15], [0, 0.05], [-0.15, 0.22], [0.15, 0.22]], np.float32) * size + c
    return Face(
        bbox=np.array([c - half * 0.8, c - half, c + half * 0.8, c + half], np.float32),
        kps=Points(kps),
        det_score=score,
    )


class FakeAnalyzer:
    """Detects `faces(image)`; embeds by the picture's mean red, so likeness is what the generator painted."""

    name = "arcface"
    detector = ""
    form = PLAIN
    same_person_threshold = 0.2
    licenses = ()
    digests: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, faces: Callable[[RgbImage], list[Face]] | None = None) -> None:
        self._faces = faces or (lambda image: [a_face(image.shape[0])])

    def candidates(self, image: RgbImage) -> list[Face]:
        return self._faces(image)

    def detect(self, image: RgbImage) -> list[Face]:
        return [f for f in self._faces(image) if f.det_score >= 0.5]

    def embed(self, image: RgbImage, kps: Points) -> Embedding:
        angle = float(image[..., 0].mean()) / 255 * np.pi / 2
        return unit(np.cos(angle), np.sin(angle))


class FakeRecognizer:
    """A second judge, which embeds by the mean green."""

    name = "dlib"
    licenses = ()
    digests: dict[str, str] = {}  # noqa: RUF012

    def embed(self, image: RgbImage, face: Face) -> Embedding:
        angle = float(image[..., 1].mean()) / 255 * np.pi / 2
        return unit(np.cos(angle), np.sin(angle))


class FakeGenerator(PortraitGenerator):
    """Returns `paint(photo, knobs, seed)` and records every call."""

    digests: dict[str, str] = {}  # noqa: RUF012
    threads = 1
    device = "cpu"
    tier = "full"
    dtype = "float32"
    runtime = "torch"
    graphs: dict[str, str] = {}  # noqa: RUF012
    sampler = "Fake"
    max_batch_size = 1000

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
        pictures: Sequence[RgbImage] = (),
    ) -> Any:
        self.prepared += 1
        return image

    def warnings(self, prompt: str, negative_prompt: str = "") -> tuple[str, ...]:
        return ()

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
        """Hook for what happens between the steps: nothing by default."""


def a_photo() -> Photo:
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    stripes = 90 + 60 * np.sin(x / 4) + 30 * np.sin(y / 3)
    pixels = np.stack([stripes, stripes, 0 * x + 60], -1).clip(0, 255).astype(np.uint8)
    return Photo(pixels=RgbImage(pixels), path=Path("anna.png"), sha256="0" * 64)


def restyled(photo: RgbImage, drift: int = 0) -> RgbImage:
    """Other stripes with the same mean red and green, plus `drift`: 0 is a perfect likeness."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    pattern = 60 * np.sin(y / 5)
    out = np.stack([pattern, pattern, 20 * np.sin(x / 9)], -1)
    out += photo.reshape(-1, 3).mean(0) - out.reshape(-1, 3).mean(0) + np.array([drift, drift, 0])
    return RgbImage(out.clip(0, 255).astype(np.uint8))


def photo_thresholds_of(limit: float) -> PhotoThresholds:
    """Photo thresholds of both judges: photos at least this similar are of one person."""
    judges = {judge: {"threshold": limit} for judge in ("arcface", "dlib")}
    return PhotoThresholds.model_validate({"far": 0.001, "recognisers": judges})


def fake_loop(paint: Any, analyzer: FakeAnalyzer | None = None, recipe: Recipe = RECIPE, **more: Any) -> AttemptLoop:
    """A loop of fakes.

    Args:
        paint: A `FakeGenerator`, or the function that it paints with.
        analyzer: Detects faces; by default one in the middle.
        recipe: The recipe of the pictures.
        more: Further arguments of `AttemptLoop`.
    """
    generator = paint if isinstance(paint, FakeGenerator) else FakeGenerator(paint)
    return AttemptLoop(recipe, generator, analyzer or FakeAnalyzer(), [FakeRecognizer()], **more)


needs_sigstop = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs a system that can stop a process")


def stop_answering(decoder: DecoderProcess) -> None:
    """Suspend the process, after starting it if needed, so that it does not answer, as with a photo that takes forever."""
    decoder.start()
    assert decoder.pid is not None
    os.kill(decoder.pid, signal.SIGSTOP)


class DecoderHere(DecoderProcess):
    """Decodes in the test's own process."""

    def start(self) -> None:
        """Nothing needs to be started."""

    def decode(
        self,
        data: bytes,
        path: str | Path,
        *,
        name: str = "",
        max_pixels: int = MAX_PIXELS,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Photo:
        """See `DecoderProcess`."""
        return decode_photo(data, path, name=name, max_pixels=max_pixels)


def run_loop(
    paint: Any, limits: str, analyzer: FakeAnalyzer | None = None, **settings: Any
) -> tuple[StylizedPortrait, FakeGenerator]:
    """Stylize one photo with a generator that uses `paint`; return the portrait and the generator with its calls."""
    generator = FakeGenerator(paint)
    loop = fake_loop(generator, analyzer)
    (subject,) = loop.subjects(a_photo())
    return loop.stylize(subject, "watercolor", Settings(thresholds=limits, **settings)), generator


def calibrate_people(
    paint: Any, people: list[Path], recipe: Recipe = RECIPE, on_picture: OnPicture | None = None, **options: Any
) -> tuple[dict[str, Any], FakeGenerator]:
    """Calibrate style `oil` at FAR 0.1 on these photos; return the table and the generator with its calls."""
    generator = FakeGenerator(paint)
    loop = fake_loop(generator, recipe=recipe)
    chosen = replace(SampleOptions(styles=["oil"], rates=[0.1]), **options)
    return calibrate_thresholds(loop, people, chosen, on_picture=on_picture), generator
