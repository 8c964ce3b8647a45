"""Stable Diffusion with an identity adapter: preparing its inputs, and drawing a batch of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from portrait.errors import SettingsError
from portrait.faces.alignment import align_face
from portrait.generate import memory
from portrait.generate.control import control_image
from portrait.generate.families.family import OnStep, Request
from portrait.generate.families.loading import (
    check_resolution,
    load_loras,
    quiet_libraries,
    readable_errors,
    unlisted_digests,
)
from portrait.generate.families.stable_diffusion.adapters import adapter_inputs, identity_adapter, load_adapter
from portrait.generate.families.stable_diffusion.identity_net import IdentityNet
from portrait.generate.families.stable_diffusion.load import (
    load_image_encoder,
    load_pipeline,
    set_up,
)
from portrait.generate.inputs import MAX_PROMPTS, Cache, as_batch, at_side
from portrait.generate.precision import Precision
from portrait.generate.preview import clean_estimates, step_callback
from portrait.generate.prompts import prompt_warnings
from portrait.hub.files import verify_manifest
from portrait.images import pixels_sha256
from portrait.recipes.locate import adapter_digest
from portrait.recipes.recipe import Recipe
from portrait.records import Embedding, Face, Knobs, RgbImage


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conditions:
    """Everything that does not change between the attempts at one portrait, computed once.

    `picture` is the photo at the recipe's resolution, (1, 3, S, S) in [-1, 1]; `size` is the side of the pictures to make,
    which is larger if the decoder draws marks; `latents` are (1, C, h, w), scaled; `prompt` and
    `negative` (1, T, D) text embeddings, `pooled` the (1, P) ones of SDXL, (positive, negative). `clip` are the image
    encoder's (2, T, W) hidden states of an empty picture and of the face, `control` is the ControlNet's input,
    (1, 3, S, S) in [0, 1], and `guides` is what a decoder of `mini` is shown beside the photo, (1, G, S/2, S/2) in [0, 1].
    """

    picture: Tensor
    size: int
    latents: Tensor
    prompt: Tensor
    negative: Tensor
    embedding: Embedding
    pooled: tuple[Tensor, Tensor] | None = None
    clip: Tensor | None = None
    control: Tensor | None = None
    guides: Tensor | None = None


class FamilyInputs(TypedDict, total=False):
    """Inputs that only pipelines with a ControlNet or of SDXL take, under diffusers' names."""

    control_image: Tensor
    controlnet_conditioning_scale: float
    pooled_prompt_embeds: Tensor
    negative_pooled_prompt_embeds: Tensor | None


class StableDiffusion:
    """SD 1.5 and SDXL: img2img with an identity adapter, and a ControlNet if the recipe names one.

    Raises:
        WeightsMissingError, WeightsCorruptError: a file is missing, differs from the manifest, or is not what the recipe
        says.
        SettingsError: the recipe's resolution does not fit its autoencoder.
        MemoryLimitError: memory ran out.
    """

    def __init__(self, recipe: Recipe, precision: Precision) -> None:
        self._recipe = recipe
        self._precision = precision
        self._weights = precision.weights
        self._tier = "full"
        self._encoded = Cache[Tensor](1)
        self._prompts = Cache[tuple[Tensor, ...]](MAX_PROMPTS)
        digests = dict(recipe.digests) or verify_manifest(recipe.base)
        with quiet_libraries(), readable_errors(recipe):
            self.pipe = self._load_pipeline(recipe, self._weights)
            self._image_encoder = load_image_encoder(recipe, self._weights)
        clip_width = 0 if self._image_encoder is None else int(self._image_encoder.config.hidden_size)
        inside = load_adapter(self.pipe, recipe.adapter, recipe.adapter_kind, recipe.adapter_lora, clip_width)
        loras, notes = load_loras(self.pipe, recipe.loras, inside)
        check_resolution(recipe, self.pipe.vae_scale_factor)
        set_up(self.pipe, recipe)
        self.loras: Mapping[str, float] = loras
        self.digests: Mapping[str, str] = digests | adapter_digest(recipe, digests) | unlisted_digests(recipe)
        self.notes = tuple(notes)

    def _load_pipeline(self, recipe: Recipe, weights: torch.dtype) -> Any:
        return load_pipeline(recipe, weights)

    def place(self, tier: str, device: torch.device) -> None:
        """Put the pipeline on the device; the image encoder is not part of it, and is moved when needed."""
        if self._image_encoder is not None:
            self._image_encoder.to("cpu")
        memory.place(self.pipe, tier, device)
        self._tier = tier

    def prepare(self, request: Request) -> Conditions:
        """Encode photo, prompt and identity.

        Raises:
            SettingsError: the face is missing, but the adapter or the ControlNet needs it.
        """
        size = request.image.shape[0]
        face = None if request.face is None else request.face.moved(self._recipe.resolution / size, 0, 0)
        image, guides = self._seen(at_side(request.image, self._recipe.resolution), face)
        picture = as_batch(image, self.pipe._execution_device)
        control = None
        if self._recipe.structure == "controlnet":
            drawn = control_image(self._recipe.control, image, face)
            control = torch.from_numpy(drawn.copy()).permute(2, 0, 1)[None].float() / 255
        with self._precision.autocast():
            # the last photo's are cached, because its styles share them
            latents = self._encoded.get(pixels_sha256(image), lambda: self._encode(picture))
            texts = self._encode_texts(request.prompt, request.negative_prompt)
            clip = None if self._image_encoder is None else self._encode_face_crop(image, face)
        return Conditions(
            picture=picture,
            size=size,
            latents=latents.float() * self.pipe.vae.config.scaling_factor,
            prompt=texts[0].float(),
            negative=texts[1].float(),
            embedding=request.embedding,
            pooled=(texts[2].float(), texts[3].float()) if len(texts) == 4 else None,
            clip=clip,
            control=control,
            guides=guides,
        )

    def _seen(self, image: RgbImage, face: Face | None) -> tuple[RgbImage, Tensor | None]:
        """What the model sees of a photo at its resolution, and guides to it; here all of it, and none."""
        return image, None

    def _encode(self, picture: Tensor) -> Tensor:
        """The photo's unscaled latents."""
        encoded = self.pipe.vae.encode(picture.to(self._weights))
        latents: Tensor = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        return latents

    def _encode_texts(self, prompt: str, negative_prompt: str) -> tuple[Tensor, ...]:
        return self._prompts.get(
            (prompt, negative_prompt),
            lambda: self.pipe.encode_prompt(
                prompt,
                device=self.pipe._execution_device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=True,
                negative_prompt=negative_prompt,
            ),
        )

    def _encode_face_crop(self, image: RgbImage, face: Face | None) -> Tensor:
        """The image encoder's second-to-last hidden states, (2, T, W): of an empty picture, and of the face.

        FaceID-Plus was trained on faces aligned to the ArcFace template at 224 px, plus-face on crops of the head.
        """
        if face is None:
            raise SettingsError(f"recipe {self._recipe.name} uses a crop of the face, so it needs the photo's face")
        from transformers import CLIPImageProcessor

        crop = face_crop(self._recipe.adapter_kind, image, face)
        device = self.pipe._execution_device
        encoder = self._image_encoder.to(device)
        size = int(encoder.config.image_size)
        pixels = CLIPImageProcessor(size=size, crop_size=size)(Image.fromarray(crop), return_tensors="pt").pixel_values
        batch = torch.cat([torch.zeros_like(pixels), pixels]).to(device, self._weights)
        states: Tensor = encoder(batch, output_hidden_states=True).hidden_states[-2].float()
        if self._tier != "full":
            self._image_encoder.to("cpu")
        return states

    def text_warnings(self, prompt: str, negative_prompt: str) -> list[str]:
        """A sentence for each prompt that is too long for CLIP; SDXL's two encoders have the same limit."""
        names = ("tokenizer", "tokenizer_2")
        tokenizers = [tokenizer for name in names if (tokenizer := getattr(self.pipe, name, None))]
        return prompt_warnings(tokenizers, prompt, negative_prompt)

    def draw(self, conditions: Conditions, knobs: Knobs, seeds: Sequence[int], on_step: OnStep) -> Tensor:
        count = len(seeds)
        guided = self._guided(knobs)
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        with (
            self._precision.autocast(),
            identity_adapter(self.pipe, knobs.ip_adapter_scale, self.loras) as pipe,
            self._looking_at_photo(conditions, knobs, seeds),
            clean_estimates(pipe) as estimates,
        ):
            pictures: Tensor = pipe(
                image=conditions.latents.repeat(count, 1, 1, 1),
                prompt_embeds=self._batch(conditions.prompt, count),
                negative_prompt_embeds=self._batch(conditions.negative, count) if guided else None,
                ip_adapter_image_embeds=[self._feed_identity(conditions, count, guided)],
                strength=knobs.strength,
                guidance_scale=knobs.guidance_scale,
                num_inference_steps=knobs.num_inference_steps,
                generator=generators,
                output_type="pt",
                callback_on_step_end=step_callback(on_step, estimates, self._decode),
                **self._family_inputs(conditions, knobs, count, guided),
            ).images
        return pictures

    def _looking_at_photo(
        self, conditions: Conditions, knobs: Knobs, seeds: Sequence[int]
    ) -> AbstractContextManager[None]:
        """Within the block, networks may see the photo; here only a ControlNet does, through the pipeline."""
        return nullcontext()

    def reconstruct(self, image: RgbImage) -> Tensor:
        with self._precision.autocast():
            latents = self._encode(as_batch(image, self.pipe._execution_device))
            decoded: Tensor = self.pipe.vae.decode(latents, return_dict=False)[0]
        return decoded.float()

    def passes(self, knobs: Knobs) -> int:
        """One pass per step, two with guidance."""
        return knobs.steps * (2 if self._guided(knobs) else 1)

    def _guided(self, knobs: Knobs) -> bool:
        """Whether the pipeline will use classifier-free guidance."""
        return knobs.guidance_scale > 1 and self.pipe.unet.config.time_cond_proj_dim is None

    def clear_cache(self) -> None:
        self._encoded.clear()

    def _decode(self, latents: Tensor) -> Tensor:
        """Decode scaled latents to (B, 3, S, S), about [-1, 1], as the pipeline decodes its final ones."""
        vae = self.pipe.vae
        decoded: Tensor = vae.decode(latents.to(self._weights) / vae.config.scaling_factor, return_dict=False)[0]
        return decoded

    def _batch(self, embeds: Tensor, count: int) -> Tensor:
        return embeds.repeat(count, *[1] * (embeds.ndim - 1)).to(self._weights)

    def _feed_identity(self, conditions: Conditions, count: int, guided: bool) -> Tensor:
        """The adapter's inputs; those of FaceID-Plus and IdentityNet are set as attributes."""
        kind = self._recipe.adapter_kind
        identity, clip_embeds = adapter_inputs(kind, conditions.embedding, conditions.clip, count, guided)
        embeds = identity.to(self.pipe._execution_device, self._weights)
        if kind == "faceid-plusv2" and clip_embeds is not None:
            self.pipe.unet.encoder_hid_proj.image_projection_layers[0].clip_embeds = clip_embeds.to(embeds)
        if isinstance(net := getattr(self.pipe, "controlnet", None), IdentityNet):
            net.identity = embeds
        return embeds

    def _family_inputs(self, conditions: Conditions, knobs: Knobs, count: int, guided: bool) -> FamilyInputs:
        inputs = FamilyInputs()
        if conditions.control is not None:
            inputs["control_image"] = conditions.control
            inputs["controlnet_conditioning_scale"] = knobs.controlnet_conditioning_scale
        if conditions.pooled is not None:
            positive, negative = conditions.pooled
            inputs["pooled_prompt_embeds"] = self._batch(positive, count)
            inputs["negative_pooled_prompt_embeds"] = self._batch(negative, count) if guided else None
        return inputs


def face_crop(kind: str, image: RgbImage, face: Face) -> RgbImage:
    """The image encoder's input: the aligned face for FaceID-Plus, a square around the head for plus-face."""
    if kind == "faceid-plusv2":
        return align_face(image, face.kps, 224)
    x, y = face.center
    half = 0.75 * max(face.width, face.height)
    height, width = image.shape[:2]
    left, right = max(0, int(x - half)), min(width, int(x + half) + 1)
    top, bottom = max(0, int(y - half)), min(height, int(y + half) + 1)
    side = min(right - left, bottom - top)
    return RgbImage(np.ascontiguousarray(image[top : top + side, left : left + side]))
