"""Qwen-Image-Edit: preparing its inputs, and drawing a batch of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

import numpy as np
import torch
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus
from PIL import Image
from torch import Tensor

from portrait.generate.families.family import OnStep, Request
from portrait.generate.families.flow_matching import attention_bias, noise_levels
from portrait.generate.families.qwen_edit.load import SHIFT, load_pipeline
from portrait.generate.families.qwen_edit.pipeline import Inputs, drawing_from
from portrait.generate.families.qwen_edit.text import PictureReader
from portrait.generate.families.qwen_family import QwenFamily
from portrait.generate.precision import Precision
from portrait.generate.preview import clean_estimates, step_callback
from portrait.recipes.recipe import Recipe
from portrait.records import Knobs, RgbImage


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """A square picture that the model sees, and its normalized latents, (1, C, 1, h, w)."""

    image: RgbImage
    latents: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conditions:
    """Everything that does not change between the attempts at one portrait, computed once.

    `start` are the photo's normalized latents at the portrait's size, (1, C, 1, h, w); `photo` and `heads` are the pictures
    that are shown.
    """

    prompt: str
    start: Tensor
    photo: Picture
    heads: tuple[Picture, ...]


class QwenEdit(QwenFamily[PictureReader, tuple[Tensor, ...]]):
    """Qwen-Image-Edit with Lightning: img2img that sees the photo and pictures of the person beside it, in few steps."""

    def __init__(self, recipe: Recipe, precision: Precision) -> None:
        super().__init__(
            recipe,
            precision.weights,
            load_pipeline=load_pipeline,
            load_text=PictureReader,
            prompt_width="joint_attention_dim",
        )

    def prepare(self, request: Request) -> Conditions:
        """Encode the photo, the pictures of the person, and the instruction as read beside them; it has no negative prompt."""
        images = (request.image, *request.pictures)
        start, *latents = self._cached(images, lambda: self._encode_all(images))
        photo, *heads = (Picture(image=image, latents=one) for image, one in zip(images, latents, strict=True))
        self.text.read(request.prompt, images)
        return Conditions(prompt=request.prompt, start=start, photo=photo, heads=tuple(heads))

    def _encode_all(self, images: Sequence[RgbImage]) -> tuple[Tensor, ...]:
        """The photo's latents at its own size, then those of each picture at the size at which the model sees it."""
        return (self._encode(images[0], len(images[0])), *(self._encode(image, _seen_side()) for image in images))

    def _encode(self, image: RgbImage, side: int) -> Tensor:
        pixels = self.pipe.image_processor.preprocess(Image.fromarray(image), side, side).unsqueeze(2).contiguous()
        latents: Tensor = self.pipe._encode_vae_image(pixels.to(self.pipe._execution_device, self._weights), None)
        return latents

    def draw(self, conditions: Conditions, knobs: Knobs, seeds: Sequence[int], on_step: OnStep) -> Tensor:
        """See `Family.draw`.

        `controlnet_conditioning_scale` is how much attention the photo gets, `ip_adapter_scale` how much the pictures of the
        person get; at 0 they are not shown. The model needs a picture: if none is shown, it sees a gray one.
        """
        photo_scale, person_scale = knobs.controlnet_conditioning_scale, knobs.ip_adapter_scale
        photo = (conditions.photo,) if photo_scale > 0 else ()
        heads = conditions.heads if person_scale > 0 else ()
        shown = (*photo, *heads) or (self._gray(),)
        prompt = self.text.read(conditions.prompt, [picture.image for picture in shown]).to(conditions.start)
        lengths = [prompt.shape[1] + _tokens(conditions.start), *map(_tokens, (picture.latents for picture in shown))]
        scales = [1.0, *[photo_scale] * len(photo), *[person_scale] * len(heads)]
        scales += [1.0] * (len(lengths) - len(scales))
        levels = noise_levels(knobs)
        inputs = Inputs(
            photo=conditions.start,
            level=float(self.pipe.scheduler.time_shift(SHIFT, 1.0, np.array(levels[0]))),
            pictures=tuple(picture.latents for picture in shown),
            bias=attention_bias(lengths, scales, prompt),
        )
        side = conditions.start.shape[-1] * self.pipe.vae_scale_factor
        with drawing_from(self.pipe, inputs), clean_estimates(self.pipe) as estimates:
            pictures: Tensor = self.pipe(
                image=[Image.new("RGB", (32, 32))] * len(shown),  # of which it takes the shape: they are all square
                prompt_embeds=prompt,
                prompt_embeds_mask=torch.ones(prompt.shape[:2], device=prompt.device),
                num_images_per_prompt=len(seeds),
                height=side,
                width=side,
                sigmas=levels,
                num_inference_steps=knobs.num_inference_steps,
                true_cfg_scale=1.0,
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
                output_type="pt",
                callback_on_step_end=step_callback(
                    on_step, estimates, lambda packed: self._decode_packed(packed, side)
                ),
            ).images
        return pictures

    def _gray(self) -> Picture:
        side = _seen_side()
        image = RgbImage(np.full((side, side, 3), 128, np.uint8))
        return Picture(image=image, latents=self._encode(image, side))

    def reconstruct(self, image: RgbImage) -> Tensor:
        return self._decode(self._encode(image, len(image)))

    def _decode_packed(self, packed: Tensor, side: int) -> Tensor:
        """Decode the transformer's latents, (B, h * w / 4, 4 * C), to (B, 3, S, S), about [-1, 1]."""
        return self._decode(self.pipe._unpack_latents(packed, side, side, self.pipe.vae_scale_factor))

    def _decode(self, latents: Tensor) -> Tensor:
        """Decode normalized latents, (B, C, 1, h, w), to (B, 3, S, S), about [-1, 1]."""
        about = self.pipe.vae.config
        mean, deviation = (
            torch.tensor(values).view(1, -1, 1, 1, 1).to(latents) for values in (about.latents_mean, about.latents_std)
        )
        return self._decode_latents((latents * deviation + mean).to(self._weights))[:, :, 0]


def _seen_side() -> int:
    """The side at which the model sees a square picture, whatever its own is, as in diffusers."""
    area: int = pipeline_qwenimage_edit_plus.VAE_IMAGE_SIZE
    return isqrt(area)


def _tokens(latents: Tensor) -> int:
    """How many tokens of the transformer a picture's latents are: 2 x 2 each."""
    pixels: int = latents[0, 0].numel()
    return pixels // 4
