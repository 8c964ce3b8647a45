"""The loop's inputs and results: the generator's interface, a person in a photo, and the finished portrait."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from portrait.generate.background import Backdrop
from portrait.generate.framing import Framed
from portrait.generate.keep import Kept
from portrait.images import Photo
from portrait.judge.thresholds import Thresholds
from portrait.judge.verdict import Verdict
from portrait.records import Embedding, Face, Identity, Knobs, Preview, RgbImage
from portrait.records.portrait import AttemptRecord, PortraitRecord
from portrait.settings import Settings


class PortraitGenerator(Protocol):
    """Identity and photo -> pictures.

    By default `generate.families.mini.generator.MiniGenerator`; for public models, and `mini` in torch,
    `generate.diffusion.DiffusionGenerator`.

    `str(device)` is cpu, cuda or the like; `tier` is one of `generate.memory`, smaller after memory ran out;
    `runtime` is torch or onnxruntime. `digests` maps the files of weights to SHA-256, and `graphs` those of the graphs they run in.
    """

    digests: dict[str, str]
    graphs: dict[str, str]
    threads: int
    device: Any
    tier: str
    dtype: str
    runtime: str
    sampler: str
    max_batch_size: int

    def prepare(
        self,
        image: RgbImage,
        embedding: Embedding,
        prompt: str,
        negative_prompt: str = "",
        face: Face | None = None,
        pictures: Sequence[RgbImage] = (),
    ) -> Any:
        """Compute everything that the pictures of one person in one style share, to pass to `generate`."""
        ...

    def warnings(self, prompt: str, negative_prompt: str = "") -> tuple[str, ...]:
        """Sentences about unused parts of these prompts and of the model's files."""
        ...

    def generate(
        self,
        conditions: Any,
        knobs: Knobs,
        seeds: Sequence[int],
        on_step: Callable[[int, int], None] | None = None,
        preview: Preview | None = None,
    ) -> list[RgbImage]:
        """Make one picture per seed, (S, S, 3) uint8; `on_step` is called with (steps done, total steps)."""
        ...

    def reconstruct(self, image: RgbImage) -> RgbImage | None:
        """Pass the photo through the autoencoder alone, (S, S, 3) uint8; None if the generator has none."""
        return None

    def clear_cache(self) -> None:
        """Forget everything cached for the last photo."""
        return


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """One person in one photo: the face, the identity by every recognizer, and the other people in the photo.

    `warnings` say what may make the face hard to keep.
    """

    photo: Photo
    index: int
    face: Face
    identity: Identity
    references: tuple[Photo, ...] = ()
    bystanders: tuple[Identity, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StylizedPortrait:
    """The result of one stylization: the best picture, the framed photo, and the record.

    `picture` is the accepted picture with the most style, or the closest rejected one; `cutout`, (H, W, 4) uint8 with alpha,
    exists if its background is transparent (`picture` has white there). `embeddings` are those of the picture by each
    recognizer, for comparisons with other people. They are biometric data and stay out of the record.
    """

    picture: RgbImage
    before: RgbImage
    record: PortraitRecord
    embeddings: dict[str, Embedding] = field(default_factory=dict)
    cutout: np.ndarray | None = None

    @property
    def pixels(self) -> np.ndarray:
        """The pixels to write: the picture, (H, W, 3) uint8, or (H, W, 4) if its background is transparent."""
        return self.picture if self.cutout is None else self.cutout

    @property
    def accepted(self) -> bool:
        """Whether the picture passed every check."""
        return self.record.accepted


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StylizeContext:
    """Everything that does not change between the attempts at one portrait.

    `others` are the people whom the portrait must not resemble; `uncalibrated` is the note on thresholds that are not the
    recipe's own, else empty; `warnings` say which parts of prompts and model are not used; `conditions` are whatever the
    generator prepared; `backdrop` is the background that is applied after judging, or None to leave it as drawn.
    """

    subject: Subject
    style: str
    settings: Settings
    variant: int
    others: tuple[Identity, ...]
    thresholds: Thresholds
    uncalibrated: str
    framed: Framed
    kept: Kept
    backdrop: Backdrop | None
    prompt: str
    negative_prompt: str
    warnings: tuple[str, ...]
    conditions: Any


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """One picture that was made and judged.

    `image` is the picture for the user, `embeddings` are those of the picture by each recognizer, and `outputs` are what the
    policy learns from: each judge's likeness and `style_on_face`, not rounded.
    """

    attempt: AttemptRecord
    verdict: Verdict
    image: RgbImage
    embeddings: dict[str, Embedding]
    outputs: dict[str, float]
