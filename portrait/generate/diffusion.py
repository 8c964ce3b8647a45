"""Drawing in torch: a recipe's family of networks on a device, with memory, batches, retries and previews around it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from portrait.errors import MemoryLimitError, one_line
from portrait.generate import memory
from portrait.generate.checks import (
    Report,
    as_picture,
    as_pixels,
    check_embedding,
    check_knobs,
    part_of,
    require_picture,
)
from portrait.generate.families.family import OnStep, Request, load_family
from portrait.generate.precision import Precision
from portrait.paths import cpu_threads
from portrait.recipes.recipe import Recipe
from portrait.records import Embedding, Face, Knobs, Preview, RgbImage

T = TypeVar("T")
log = logging.getLogger(__name__)


class DiffusionGenerator:
    """Makes pictures with the models of a recipe.

    Args:
        recipe: The models and knobs; public models with their paths filled in (`recipes.locate.resolve_files`).
        threads: torch threads. On a CPU in float32 another number may change a few pixels, because oneDNN adds up some
            convolutions in another order; in bfloat16 earlier measurements found none changed.
        device: `auto`, cpu, cuda or mps. A recipe that states no memory needs (`mini`) stays on the CPU with auto.
        tier: `auto`, or a tier of `generate.memory`.
        dtype: `auto`, float32 or bfloat16, see `generate.precision`.

    Raises:
        WeightsMissingError, WeightsCorruptError: a file is missing, differs from the manifest, or is not what the recipe
        says.
        SettingsError: there is no such device, or its memory is too small.
        MemoryLimitError: memory ran out while the model was loaded.
    """

    runtime = "torch"

    def __init__(
        self,
        recipe: Recipe,
        *,
        threads: int | None = None,
        device: str = "auto",
        tier: str = "auto",
        dtype: str = "auto",
    ) -> None:
        self.recipe = recipe
        self.threads = threads or cpu_threads()
        torch.set_num_threads(self.threads)
        self.device = memory.choose_device("cpu" if device == "auto" and not recipe.memory else device)
        free = memory.free_memory(self.device) if recipe.memory else float("inf")
        self.tier = memory.choose_tier(tier, recipe.memory, free, self.device.type)
        self.max_batch_size = memory.max_batch_size(self.tier, recipe.memory, free, recipe.resolution, self.device.type)
        precision = Precision.choose(recipe, self.device, dtype)
        self.dtype = precision.dtype
        self.family = load_family(recipe, precision)
        self.pipe = self.family.pipe
        self.loras = dict(self.family.loras)
        self.digests, self.graphs = dict(self.family.digests), dict[str, str]()
        self.draws_together = self.device.type != "cpu"
        """Whether the pictures of a batch are computed together; not on a CPU, which may round them differently from single
        ones."""
        self.sampler = type(self.pipe.scheduler).__name__.removesuffix("Scheduler")
        self._retry_on_oom(lambda: self.family.place(self.tier, self.device), lambda: None)

    @torch.inference_mode()
    def prepare(
        self,
        image: RgbImage,
        embedding: Embedding,
        prompt: str,
        negative_prompt: str = "",
        face: Face | None = None,
        pictures: Sequence[RgbImage] = (),
    ) -> Any:
        """Encode photo, prompt and identity once.

        Args:
            image: (S, S, 3) uint8 RGB; S is the recipe's resolution, or another of its sizes.
            embedding: Embedding by the recipe's recognizer, unit or raw as the recipe says.
            prompt: The style's prompt.
            negative_prompt: The prompt that guidance steers away from.
            face: The face in `image`, for adapters that encode the face crop and for keypoints.
            pictures: Pictures of the person's head, (P, P, 3) uint8 RGB each, for families that use them.

        Returns:
            The family's own conditions, to pass to `generate`.

        Raises:
            SettingsError: the embedding is not finite, or the face is missing.
        """
        check_embedding(embedding)
        request = Request(
            image=image,
            embedding=embedding,
            prompt=prompt,
            negative_prompt=negative_prompt or self.recipe.negative_prompt,
            face=face,
            pictures=tuple(pictures),
        )
        return self._retry_on_oom(lambda: self.family.prepare(request))

    def warnings(self, prompt: str, negative_prompt: str = "") -> tuple[str, ...]:
        """Sentences about parts of these prompts, and of the model's files, that are not used."""
        texts = self.family.text_warnings(prompt, negative_prompt or self.recipe.negative_prompt)
        return (*self.family.notes, *texts)

    @torch.inference_mode()
    def generate(
        self,
        conditions: Any,
        knobs: Knobs,
        seeds: Sequence[int],
        on_step: Report | None = None,
        preview: Preview | None = None,
    ) -> list[RgbImage]:
        """Make one picture per seed; each seed has its own CPU generator.

        On a CPU they are computed one after the other, so that no pixel depends on the batch; elsewhere together.

        Args:
            conditions: From `prepare`.
            knobs: The knobs of this batch.
            seeds: One per picture.
            on_step: Called with (steps done, total steps).
            preview: When to decode estimates of the finished pictures, and the function that receives them.

        Returns:
            (S, S, 3) uint8 RGB pictures, in the order of the seeds.

        Raises:
            SettingsError: the knobs leave no denoising step, are out of range, or do not suit the model.
            BrokenModelError: the output is not a picture.
        """
        check_knobs(self.recipe, knobs)

        def one_by_one() -> list[RgbImage]:
            pictures = []
            for number, seed in enumerate(seeds):
                report = part_of(on_step, number, len(seeds))
                pictures += self._draw(conditions, knobs, [seed], report, None if number else preview)
            return pictures

        def together() -> list[RgbImage]:
            return self._draw(conditions, knobs, seeds, on_step, preview)

        return self._retry_on_oom(together if self.draws_together else one_by_one, one_by_one)

    def _draw(
        self,
        conditions: Any,
        knobs: Knobs,
        seeds: Sequence[int],
        on_step: Report | None,
        preview: Preview | None,
    ) -> list[RgbImage]:
        output = _as_arrays(self.family.draw(conditions, knobs, seeds, self._report(knobs.steps, on_step, preview)))
        require_picture(output, self)
        return [as_picture(picture, self) for picture in output]

    def _report(self, total: int, on_step: Report | None, preview: Preview | None) -> OnStep:
        """The callback for a family to call after each denoising step."""

        def report(done: int, latents: Tensor, estimate: Callable[[], Tensor | None]) -> None:
            require_picture(latents.float().cpu().numpy(), self)
            if on_step is not None:
                on_step(done, total)
            if preview is None or done not in preview.steps:
                return
            pictures = estimate()
            if pictures is not None and pictures.isfinite().all():
                preview.show(done, [as_pixels(picture) for picture in _as_arrays(pictures / 2 + 0.5)])

        return report

    def _retry_on_oom(self, work: Callable[[], T], again: Callable[[], T] | None = None) -> T:
        """Do `work`; if memory runs out, switch to a smaller tier and do `again`, or else `work`, once.

        `again` is the same with less memory, such as one picture at a time.

        Raises:
            MemoryLimitError: memory runs out again.
        """
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not memory.is_out_of_memory(error):
                raise
            why = one_line(error)
        tier = memory.smaller_tier(self.tier, self.device.type)
        log.warning("out of memory (%s); trying again with one picture at a time, memory tier %s", why, tier)
        try:
            self.shrink(tier)
            return (again or work)()
        except (RuntimeError, MemoryError) as error:
            if not memory.is_out_of_memory(error):
                raise
            raise MemoryLimitError(
                f"out of memory on {self.device.type}, even one picture at a time with the memory tier {self.tier}; close "
                "other programs, use --batch 1, --memory sequential, or a smaller recipe (portrait doctor lists them)"
            ) from None

    def shrink(self, tier: str) -> None:
        """Switch to `tier`, and decode pictures part by part, because memory ran out."""
        memory.release(self.device)
        self.tier = tier
        self.family.place(tier, self.device)
        memory.save_vae_memory(self.pipe.vae, tiles=True)

    def passes(self, knobs: Knobs) -> int:
        """How many forward passes of the denoising network these knobs cost per picture."""
        return self.family.passes(knobs)

    def clear_cache(self) -> None:
        """Forget everything cached for the last photo."""
        self.family.clear_cache()

    @torch.inference_mode()
    def reconstruct(self, image: RgbImage) -> RgbImage:
        """Pass the photo through the autoencoder alone, (S, S, 3) uint8: a copy without any style."""
        return as_pixels(_as_arrays(self.family.reconstruct(image) / 2 + 0.5)[0])


def _as_arrays(pictures: Tensor) -> NDArray[np.float32]:
    """(B, 3, S, S) -> (B, S, S, 3) float32."""
    return np.asarray(pictures.float().permute(0, 2, 3, 1).cpu().numpy())
