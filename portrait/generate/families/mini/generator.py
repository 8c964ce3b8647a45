"""`mini` on a CPU: its networks in onnxruntime and everything between them in numpy, without torch.

Torch and diffusers take longer to import than a picture takes to draw, and their pixels depend on the number of threads.
What is drawn is what `generate.diffusion.DiffusionGenerator` draws in float32 (tests/test_onnx.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from portrait.errors import WeightsCorruptError, one_line
from portrait.generate.checks import (
    Report,
    as_picture,
    as_pixels,
    check_embedding,
    check_knobs,
    part_of,
    require_picture,
)
from portrait.generate.families.mini.marks.layout import GUIDES, to_draw
from portrait.generate.families.mini.marks.rasterize import Canvas, draw
from portrait.generate.families.mini.sampling import PHOTO_NOISE, Ddim, randn
from portrait.generate.families.mini.seen import LastSeen
from portrait.generate.families.mini.tokenizer import PromptTokenizer
from portrait.generate.inputs import MAX_PROMPTS, Cache, as_planes, at_side
from portrait.generate.onnx_network import OnnxNetwork, oom_is_memory_limit, read_weights
from portrait.generate.prompts import prompt_warnings
from portrait.hub.files import GRAPHS, verify_manifest
from portrait.images import pixels_sha256
from portrait.paths import cpu_threads
from portrait.recipes.locate import adapter_digest
from portrait.recipes.recipe import Recipe
from portrait.records import Embedding, Face, Knobs, Preview, RgbImage

Array = NDArray[np.float32]


class _VaeConfig(BaseModel, frozen=True):
    """What is read of vae/config.json."""

    scaling_factor: float
    guided: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conditions:
    """Everything that does not change between the attempts at one portrait.

    `size` is the side of the pictures to make; `photo` is the photo at the recipe's resolution, (1, 3, S, S) in [-1, 1], and
    `guides` show where its features lie, (1, len(GUIDES), S/2, S/2) in [0, 1]; `latents` are its scaled ones, (1, C, h, w);
    `texts` are (2, T, D) embeddings, and `identity` is (2, 1, 512), both with the negative first.
    """

    size: int
    photo: Array
    guides: Array
    latents: Array
    texts: Array
    identity: Array


class MiniGenerator:
    """Makes pictures with `mini`.

    Args:
        recipe: Its base holds graphs (`onnx/`) beside the weights.
        threads: CPU threads; no pixel depends on them.

    Raises:
        WeightsMissingError, WeightsCorruptError: a file is missing, differs from the manifest, or does not fit the others.
        MemoryLimitError: memory ran out.
    """

    device, tier, dtype, runtime, sampler = "cpu", "full", "float32", "onnxruntime", "DDIM"
    max_batch_size = 1000

    def __init__(self, recipe: Recipe, *, threads: int | None = None) -> None:
        self.recipe = recipe
        self.threads = threads or cpu_threads()
        base = recipe.base
        self.graphs, listed = verify_manifest(base, GRAPHS), verify_manifest(base)
        adapter = read_weights(recipe.adapter)
        self.digests = listed | adapter_digest(recipe, listed)
        try:
            self._tokenizer = PromptTokenizer(base / "tokenizer")
            self._vae = _VaeConfig.model_validate_json((base / "vae" / "config.json").read_bytes())
        except Exception as error:  # tokenizers raises its own errors
            raise WeightsCorruptError(f"{base} is not a folder of mini: {one_line(error, 200)}") from error
        self._schedule = Ddim(base / "scheduler" / "scheduler_config.json")
        autoencoder = read_weights(base / "vae" / "diffusion_pytorch_model.safetensors")
        encoder = {name: value for name, value in autoencoder.items() if name.startswith("encoder.")}
        decoder = {name: value for name, value in autoencoder.items() if name not in encoder}
        unet = read_weights(base / "unet" / "diffusion_pytorch_model.safetensors") | adapter
        self._text = self._network("text", read_weights(base / "text_encoder" / "model.safetensors"))
        self._encoder, self._decoder = self._network("photo", encoder), self._network("decoder", decoder)
        self._unet = self._network("unet", unet)
        self._last_seen = LastSeen(self._vae.guided)
        self._latents, self._texts = Cache[Array](1), Cache[Array](MAX_PROMPTS)

    def _network(self, name: str, weights: dict[str, Array]) -> OnnxNetwork:
        return OnnxNetwork(self.recipe.base / GRAPHS / f"{name}.onnx", weights, self.threads)

    @oom_is_memory_limit()
    def prepare(
        self,
        image: RgbImage,
        embedding: Embedding,
        prompt: str,
        negative_prompt: str = "",
        face: Face | None = None,
        pictures: Sequence[RgbImage] = (),
    ) -> Conditions:
        """Encode photo, prompt and identity once; see `DiffusionGenerator.prepare`."""
        check_embedding(embedding)
        size, side = image.shape[0], self.recipe.resolution
        seen = self._last_seen.of(at_side(image, side), None if face is None else face.moved(side / size, 0, 0))
        photo = as_planes(seen.picture)
        latents = self._latents.get(pixels_sha256(seen.picture), lambda: self._encoder(photo=photo)[0])
        texts = (negative_prompt or self.recipe.negative_prompt, prompt)
        identity = np.asarray(embedding, np.float32)
        return Conditions(
            size=size,
            photo=photo,
            guides=seen.guides[None],
            latents=latents * np.float32(self._vae.scaling_factor),
            texts=self._texts.get(texts, lambda: self._encode(texts)),
            identity=np.stack([np.zeros_like(identity), identity])[:, None],
        )

    def _encode(self, texts: Sequence[str]) -> Array:
        return self._text(tokens=np.array([self._tokenizer.fitted(text) for text in texts]))[0]

    def warnings(self, prompt: str, negative_prompt: str = "") -> tuple[str, ...]:
        """Sentences about parts of these prompts that are not used."""
        return tuple(prompt_warnings([self._tokenizer], prompt, negative_prompt or self.recipe.negative_prompt))

    @oom_is_memory_limit()
    def generate(
        self,
        conditions: Conditions,
        knobs: Knobs,
        seeds: Sequence[int],
        on_step: Report | None = None,
        preview: Preview | None = None,
    ) -> list[RgbImage]:
        """Make one picture per seed, one after the other; see `DiffusionGenerator.generate`."""
        check_knobs(self.recipe, knobs)
        return [
            self._draw(conditions, knobs, seed, part_of(on_step, number, len(seeds)), None if number else preview)
            for number, seed in enumerate(seeds)
        ]

    def _draw(
        self, conditions: Conditions, knobs: Knobs, seed: int, on_step: Report, preview: Preview | None
    ) -> RgbImage:
        latents, level, steps = conditions.latents, knobs.controlnet_conditioning_scale, knobs.num_inference_steps
        guided = self._guided(knobs)
        texts, identity = conditions.texts, conditions.identity
        if not guided:  # the negative comes first
            texts, identity = texts[1:], identity[1:]
        photo_noise = randn(seed ^ PHOTO_NOISE, latents.shape)
        times = self._schedule.times(steps)[-knobs.steps :]
        sample = self._schedule.noised(latents, randn(seed, latents.shape), times[0])
        for done, time in enumerate(times, 1):
            (predicted,) = self._unet(
                sample=np.repeat(sample, len(texts), 0),
                photo=latents,
                noise=photo_noise,
                level=level,
                timestep=time,
                texts=texts,
                identity=identity,
                scale=knobs.ip_adapter_scale,
            )
            v = predicted[-1:]
            if guided:
                v = predicted[:1] + knobs.guidance_scale * (v - predicted[:1])
            sample, clean = self._schedule.step(v, time, sample, steps)
            require_picture(sample, self)
            on_step(done, knobs.steps)
            if preview is not None and done in preview.steps:
                preview.show(done, [as_pixels(self._decode(clean, conditions, level, seed))])
        canvas = self._decode(sample, conditions, level, seed)
        require_picture(canvas[None], self)
        return as_picture(canvas, self)

    def _decode(self, latents: Array, conditions: Conditions, level: float, seed: int) -> Canvas:
        unscaled = latents / np.float32(self._vae.scaling_factor)
        maps, values = self._decoded(unscaled, conditions.photo, conditions.guides, level)
        return draw(to_draw(maps[0], values[0]), conditions.size, seed)

    def _decoded(self, latents: Array, photo: Array, guides: Array, level: float) -> tuple[Array, Array]:
        """Maps and values of unscaled latents; the graph of a decoder without guides has no input for them."""
        shown = {"guides": guides} if self._vae.guided else {}
        maps, values = self._decoder(latents=latents, photo=photo, level=level, **shown)
        return maps, values

    def passes(self, knobs: Knobs) -> int:
        """How many forward passes of the denoising network these knobs cost per picture."""
        return knobs.steps * (2 if self._guided(knobs) else 1)

    def _guided(self, knobs: Knobs) -> bool:
        """Whether classifier-free guidance is used."""
        return knobs.guidance_scale > 1

    @oom_is_memory_limit()
    def reconstruct(self, image: RgbImage) -> RgbImage:
        """Pass the photo through the autoencoder alone, (S, S, 3) uint8: a copy without any style."""
        photo = as_planes(image)
        (latents,) = self._encoder(photo=photo)
        guides = np.zeros((1, len(GUIDES), *(side // 2 for side in photo.shape[2:])), np.float32)
        maps, values = self._decoded(latents, photo, guides, 0.0)  # at 0 the photo is not shown
        return as_pixels(draw(to_draw(maps[0], values[0]), image.shape[0], 0))

    def clear_cache(self) -> None:
        """Forget everything cached for the last photo."""
        self._last_seen.clear()
        self._latents.clear()
