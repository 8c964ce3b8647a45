"""The one engine: a recipe's family of networks on a device, with memory, batches, retries and previews around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor

from portrait.errors import BrokenModelError, SettingsError
from portrait.generate import memory
from portrait.generate.families.family import OnStep, Request, load_family
from portrait.generate.precision import Precision
from portrait.paths import cpu_threads
from portrait.recipes.recipe import Recipe
from portrait.records import Embedding, Face, Knobs, Preview, RgbImage
from portrait.settings import Settings


class DiffusionGenerator:
    """Makes pictures with the models of a recipe.

    Args:
        recipe: The models and knobs; public models with their paths filled in (`recipes.locate.resolve_files`).
        threads: torch threads. In bfloat16 they do not change any pixel; in float32 they change a few, because oneDNN adds up
            some convolutions in another order.
        device: `auto`, cpu, cuda or mps. A recipe that states no memory needs (`mini`) stays on the CPU with auto.
        tier: `auto`, or a tier of `generate.memory`.
        dtype: `auto`, float32 or bfloat16, see `generate.precision`.

    Raises:
        WeightsMissingError, WeightsCorruptError: a file is missing, differs from the manifest, or is not what the recipe
        says.
            SettingsError: there is no such device, or its memory is too small.
            MemoryLimitError: memory ran out while the model was loaded.
    """

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
        precision = Precision.choose(recipe, self.device, dtype, self.threads)
        self.dtype = precision.dtype
        self.family = load_family(recipe, precision)
        self.pipe = self.family.pipe
        self.loras = dict(self.family.loras)
        self.digests = dict(self.family.digests)
        self.draws_together = self.device.type != "cpu"
        """Whether the pictures of a batch are computed together; not on a CPU, which may round them differently from single
        ones."""
        self.sampler = type(self.pipe.scheduler).__name__.removesuffix("Scheduler")
        memory.retry_on_oom(self, lambda: self.family.place(self.tier, self.device), lambda: None)

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
        if not np.isfinite(embedding).all():
            raise SettingsError("the identity embedding is not finite; the photo's face cannot be used")
        request = Request(
            image=image,
            embedding=embedding,
            prompt=prompt,
            negative_prompt=negative_prompt or self.recipe.negative_prompt,
            face=face,
            pictures=tuple(pictures),
        )
        return memory.retry_on_oom(self, lambda: self.family.prepare(request))

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
        on_step: Callable[[int, int], None] | None = None,
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
        self.recipe.check_steps(knobs)
        check_knobs(knobs)

        def one_by_one() -> list[RgbImage]:
            pictures = []
            for number, seed in enumerate(seeds):
                report = None if on_step is None else _part_of(on_step, number, len(seeds))
                pictures += self._draw(conditions, knobs, [seed], report, None if number else preview)
            return pictures

        def together() -> list[RgbImage]:
            return self._draw(conditions, knobs, seeds, on_step, preview)

        return memory.retry_on_oom(self, together if self.draws_together else one_by_one, one_by_one)

    def _draw(
        self,
        conditions: Any,
        knobs: Knobs,
        seeds: Sequence[int],
        on_step: Callable[[int, int], None] | None,
        preview: Preview | None,
    ) -> list[RgbImage]:
        output = self.family.draw(conditions, knobs, seeds, self._report(knobs.steps, on_step, preview))
        self._require_picture(output)
        pictures = _as_pictures(output)
        if any((picture == picture[0, 0]).all() for picture in pictures):
            raise self._broken("has one color everywhere")
        return pictures

    def _require_picture(self, values: Tensor) -> None:
        """Raises BrokenModelError if a picture of the batch is not finite, or has the same value everywhere."""
        of_each = values.flatten(1)
        finite = of_each.isfinite()
        if not finite.all():
            raise self._broken(f"is not finite in {1 - float(finite.float().mean()):.0%} of its values")
        if (of_each.amax(1) == of_each.amin(1)).any():
            raise self._broken("has the same value everywhere")

    def _broken(self, what: str) -> BrokenModelError:
        advice = [
            *(["leave out the LoRAs one at a time"] if self.recipe.loras else []),
            *(["--dtype float32"] if self.dtype != "float32" else []),
            "check the files with portrait weights verify",
            "use another --base or --recipe",
        ]
        return BrokenModelError(
            f"broken_model: the output of recipe {self.recipe.name} on {self.device} in {self.dtype} {what}, so it is not a "
            f"picture. Try: {'; '.join(advice)}"
        )

    def _report(self, total: int, on_step: Callable[[int, int], None] | None, preview: Preview | None) -> OnStep:
        """The callback for a family to call after each denoising step."""

        def report(done: int, latents: Tensor, estimate: Callable[[], Tensor | None]) -> None:
            self._require_picture(latents)
            if on_step is not None:
                on_step(done, total)
            if preview is None or done not in preview.steps:
                return
            pictures = estimate()
            if pictures is not None and pictures.isfinite().all():
                preview.show(done, _as_pictures(pictures / 2 + 0.5))

        return report

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
        return _as_pictures(self.family.reconstruct(image).clamp(-1, 1) / 2 + 0.5)[0]


def _as_pictures(output: Tensor) -> list[RgbImage]:
    """(B, 3, S, S) in [0, 1] -> (S, S, 3) uint8 each."""
    pixels = (output.float().clamp(0, 1) * 255).round().to(torch.uint8)
    return list(pixels.permute(0, 2, 3, 1).cpu().numpy())


def _part_of(on_step: Callable[[int, int], None], number: int, count: int) -> Callable[[int, int], None]:
    """`on_step` for one picture of several, which reports the steps of all pictures together."""
    return lambda step, total: on_step(number * total + step, count * total)


def check_knobs(knobs: Knobs) -> None:
    """Raises SettingsError when a knob is outside the range of its setting, or strength leaves no step to run."""
    Settings(**asdict(knobs))
    if knobs.steps < 1:
        raise SettingsError(
            f"strength {knobs.strength} of {knobs.num_inference_steps} steps leaves no denoising step; "
            f"use strength {ceil(100 / knobs.num_inference_steps) / 100} or more"
        )
