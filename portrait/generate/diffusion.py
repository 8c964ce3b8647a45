"""The one engine: img2img over a diffusers pipeline with an identity adapter, driven by a recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import TypedDict, TypeVar

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessor

from portrait.errors import BrokenModelError, SettingsError
from portrait.faces.alignment import align_face
from portrait.generate import memory
from portrait.generate.families.mini.structure import condition_on_source
from portrait.generate.families.stable_diffusion.adapters import adapter_inputs, identity_adapter
from portrait.generate.families.stable_diffusion.control import IdentityNet, control_image
from portrait.generate.families.stable_diffusion.load import Precision, load_model
from portrait.generate.preview import Estimates, clean_estimates
from portrait.generate.prompts import prompt_warnings
from portrait.images import pixels_sha256
from portrait.paths import cpu_threads
from portrait.recipes.recipe import Recipe
from portrait.records import Embedding, Face, Knobs, Preview, RgbImage
from portrait.settings import Settings

T = TypeVar("T")

MAX_PROMPTS = 64
"""How many encoded prompts are kept."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conditions:
    """All that does not change between the attempts at one portrait, computed once.

    `picture` is the photo at the recipe's resolution, (1, 3, S, S) in [-1, 1]; `size` is the side of the pictures to
    be made, which is larger where the decoder draws marks; `latents` are (1, C, h, w), scaled; `prompt` and
    `negative` (1, T, D) text embeddings, `pooled` the (1, P) ones of SDXL, (positive, negative). `clip` are the image
    encoder's (2, T, W) hidden states of an empty picture and of the face, `control` is what the ControlNet sees,
    (1, 3, S, S) in [0, 1].
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


class FamilyInputs(TypedDict, total=False):
    """What only the pipelines of a ControlNet or of SDXL take, under diffusers' names."""

    control_image: Tensor
    controlnet_conditioning_scale: float
    pooled_prompt_embeds: Tensor
    negative_pooled_prompt_embeds: Tensor | None


class DiffusionGenerator:
    """Makes pictures by a recipe.

    Args:
        recipe: Which models, which knobs; public models with their paths filled in (`recipes.locate.resolve_files`).
        threads: torch threads; no pixel depends on them.
        device: `auto`, cpu, cuda or mps. A recipe that states no memory needs (`mini`) stays on the CPU with auto.
        tier: `auto`, or a tier of `generate.memory`.

    Raises:
        WeightsMissingError, WeightsCorruptError: a file is gone, differs from the manifest, or is not
            what the recipe says.
        SettingsError: the device is not here, or its memory is too small.
        MemoryLimitError: memory ran out while the model was loaded.
    """

    def __init__(self, recipe: Recipe, *, threads: int | None = None, device: str = "auto", tier: str = "auto") -> None:
        self.recipe = recipe
        self.threads = threads or cpu_threads()
        torch.set_num_threads(self.threads)
        self.device = memory.choose_device("cpu" if device == "auto" and not recipe.memory else device)
        free = memory.free_memory(self.device) if recipe.memory else float("inf")
        self.tier = memory.choose_tier(tier, recipe.memory, free, self.device.type)
        self.max_batch_size = memory.max_batch_size(self.tier, recipe.memory, free, recipe.resolution, self.device.type)
        self._precision = Precision.choose(recipe, self.device)
        self.dtype = self._precision.dtype
        self._weights = self._precision.weights
        self._encoded: tuple[str, Tensor] | None = None
        self._prompts: dict[tuple[str, str], tuple[Tensor, ...]] = {}
        model = load_model(recipe, self._weights)
        self.pipe = model.pipe
        self.loras = dict(model.loras)
        self.digests = dict(model.digests)
        self.draws_together = self.device.type != "cpu"
        """Whether the pictures of a batch are computed at once; a CPU may round them otherwise than one alone."""
        self._notes = model.notes
        self.sampler = type(self.pipe.scheduler).__name__.removesuffix("Scheduler")
        self._image_encoder = model.image_encoder
        memory.retry_on_oom(self, lambda: memory.place(self.pipe, self.tier, self.device), lambda: None)

    @torch.inference_mode()
    def prepare(
        self,
        image: RgbImage,
        embedding: Embedding,
        prompt: str,
        negative_prompt: str = "",
        face: Face | None = None,
    ) -> Conditions:
        """Encode photo, prompt and identity once.

        Args:
            image: (S, S, 3) uint8 RGB; S is the recipe's resolution, or another of its sizes.
            embedding: Embedding by the recipe's recogniser, unit or raw as the recipe says.
            prompt: What the style says.
            negative_prompt: What guidance moves away from.
            face: The face of `image`; adapters that look at the face, and keypoints, need it.

        Raises:
            SettingsError: the embedding is not finite, or the face is missing.
        """
        if not np.isfinite(embedding).all():
            raise SettingsError("the identity embedding is not finite; the photo's face cannot be used")
        return memory.retry_on_oom(self, lambda: self._prepare(image, embedding, prompt, negative_prompt, face))

    def warnings(self, prompt: str, negative_prompt: str = "") -> tuple[str, ...]:
        """What is not used of these texts, which are too long, and of the model's files, which do not fit; a sentence each."""
        tokenizers = [
            tokenizer for name in ("tokenizer", "tokenizer_2") if (tokenizer := getattr(self.pipe, name, None))
        ]
        return (*self._notes, *prompt_warnings(tokenizers, prompt, negative_prompt or self.recipe.negative_prompt))

    def _prepare(
        self, image: RgbImage, embedding: Embedding, prompt: str, negative_prompt: str, face: Face | None
    ) -> Conditions:
        size = image.shape[0]
        if size != self.recipe.resolution:
            side = self.recipe.resolution
            image = RgbImage(np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), np.uint8))
        picture = self._as_batch(image)
        control = None
        if self.recipe.structure == "controlnet":
            drawn = control_image(self.recipe.control, image, face)
            control = torch.from_numpy(drawn.copy()).permute(2, 0, 1)[None].float() / 255
        with self._precision.autocast():
            latents = self._photo_latents(image, picture)
            texts = self._encode_texts(prompt, negative_prompt or self.recipe.negative_prompt)
            clip = None if self._image_encoder is None else self._encode_face_crop(image, face)
        return Conditions(
            picture=picture,
            size=size,
            latents=latents.float() * self.pipe.vae.config.scaling_factor,
            prompt=texts[0].float(),
            negative=texts[1].float(),
            embedding=embedding,
            pooled=(texts[2].float(), texts[3].float()) if len(texts) == 4 else None,
            clip=clip,
            control=control,
        )

    def _as_batch(self, image: RgbImage) -> Tensor:
        """(S, S, 3) uint8 -> (1, 3, S, S) float32 in [-1, 1] on the pipeline's device."""
        picture = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        return picture.to(self.pipe._execution_device).contiguous(memory_format=torch.channels_last)

    def _photo_latents(self, image: RgbImage, picture: Tensor) -> Tensor:
        """The photo's unscaled latents; those of the last photo are kept, because its styles share them."""
        digest = pixels_sha256(image)
        if self._encoded is None or self._encoded[0] != digest:
            self._encoded = (digest, self._encode(picture))
        return self._encoded[1]

    def _encode(self, picture: Tensor) -> Tensor:
        encoded = self.pipe.vae.encode(picture.to(self._weights))
        latents: Tensor = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        return latents

    def _encode_texts(self, prompt: str, negative_prompt: str) -> tuple[Tensor, ...]:
        """What the text encoders make of a prompt; the last prompts are kept, because the people of a style share them."""
        key = (prompt, negative_prompt)
        if key not in self._prompts:
            if len(self._prompts) >= MAX_PROMPTS:
                self._prompts.pop(next(iter(self._prompts)))
            self._prompts[key] = self.pipe.encode_prompt(
                prompt,
                device=self.pipe._execution_device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=True,
                negative_prompt=negative_prompt,
            )
        return self._prompts[key]

    def _encode_face_crop(self, image: RgbImage, face: Face | None) -> Tensor:
        """The image encoder's last but one hidden states, (2, T, W): of an empty picture, and of the face.

        FaceID-Plus was trained on the face on the ArcFace template at 224 px, plus-face on crops of the head.
        """
        if face is None:
            raise SettingsError(f"recipe {self.recipe.name} looks at the face, so it needs the face of the photo")
        crop = face_crop(self.recipe.adapter_kind, image, face)
        device = self.pipe._execution_device
        encoder = self._image_encoder.to(device)
        size = int(encoder.config.image_size)
        pixels = CLIPImageProcessor(size=size, crop_size=size)(Image.fromarray(crop), return_tensors="pt").pixel_values
        batch = torch.cat([torch.zeros_like(pixels), pixels]).to(device, self._weights)
        states: Tensor = encoder(batch, output_hidden_states=True).hidden_states[-2].float()
        if self.tier != "full":
            self._image_encoder.to("cpu")
        return states

    @torch.inference_mode()
    def generate(
        self,
        conditions: Conditions,
        knobs: Knobs,
        seeds: Sequence[int],
        on_step: Callable[[int, int], None] | None = None,
        preview: Preview | None = None,
    ) -> list[RgbImage]:
        """Make one picture per seed; each seed has its own CPU generator.

        On a CPU they are computed one after the other, so that no pixel depends on the batch; elsewhere at once.

        Args:
            conditions: From `prepare`.
            knobs: The knobs of this batch.
            seeds: One per picture.
            on_step: Called with (steps done, steps in all).
            preview: When to look at the estimates of the finished pictures, and who is shown them.

        Returns:
            (S, S, 3) uint8 RGB pictures, in the order of the seeds.

        Raises:
            SettingsError: the knobs leave no denoising step, are out of range, or not what the model was made for.
            BrokenModelError: what comes out is no picture.
        """
        self.recipe.check_steps(knobs)
        check_knobs(knobs)

        def one_by_one() -> list[RgbImage]:
            pictures = []
            for number, seed in enumerate(seeds):
                report = None if on_step is None else _part_of(on_step, number, len(seeds))
                pictures += self._generate(conditions, knobs, [seed], report, None if number else preview)
            return pictures

        def together() -> list[RgbImage]:
            return self._generate(conditions, knobs, seeds, on_step, preview)

        return memory.retry_on_oom(self, together if self.draws_together else one_by_one, one_by_one)

    def shrink(self, tier: str) -> None:
        """Go down to `tier`, and decode one part of a picture at a time, because memory ran out."""
        if self._image_encoder is not None:
            self._image_encoder.to("cpu")  # it is not part of the pipeline, and comes back when it is needed
        memory.release(self.device)
        if tier != self.tier:
            self.tier = tier
            memory.place(self.pipe, tier, self.device)
        memory.save_vae_memory(self.pipe.vae, tiles=True)

    def _generate(
        self,
        conditions: Conditions,
        knobs: Knobs,
        seeds: Sequence[int],
        on_step: Callable[[int, int], None] | None,
        preview: Preview | None,
    ) -> list[RgbImage]:
        count = len(seeds)
        guided = self._guided(knobs)
        latents = conditions.latents.repeat(count, 1, 1, 1)
        photos = conditions.picture.repeat(count, 1, 1, 1)
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        with (
            self._precision.autocast(),
            identity_adapter(self.pipe, knobs.ip_adapter_scale, self.loras) as pipe,
            condition_on_source(pipe, latents, photos, knobs.controlnet_conditioning_scale, seeds, conditions.size),
            clean_estimates(pipe) as estimates,
        ):
            output = pipe(
                image=latents,
                prompt_embeds=self._batch(conditions.prompt, count),
                negative_prompt_embeds=self._batch(conditions.negative, count) if guided else None,
                ip_adapter_image_embeds=[self._feed_identity(conditions, count, guided)],
                strength=knobs.strength,
                guidance_scale=knobs.guidance_scale,
                num_inference_steps=knobs.num_inference_steps,
                generator=generators,
                output_type="pt",
                callback_on_step_end=self._step_callback(knobs.steps, on_step, preview, estimates),
                **self._family_inputs(conditions, knobs, count, guided),
            ).images
        self._require_picture(output)
        return _as_pictures(output)

    def _require_picture(self, values: Tensor) -> None:
        """Raises BrokenModelError where one of a batch is not finite, or has one value everywhere."""
        of_each = values.flatten(1)
        finite = of_each.isfinite()
        if not finite.all():
            what = f"is not a number in {1 - float(finite.float().mean()):.0%} of its values"
        elif (of_each.amax(1) == of_each.amin(1)).any():
            what = "has one value everywhere"
        else:
            return
        half = self.dtype != "float32" and self.device.type != "cpu"
        advice = [
            *(["leave out the LoRAs, one at a time"] if self.recipe.loras else []),
            *(["compute in float32 with --device cpu"] if half else []),
            "check the files with portrait weights verify",
            "use another --base or --recipe",
        ]
        raise BrokenModelError(
            f"broken_model: what recipe {self.recipe.name} computes on {self.device} in {self.dtype} {what}, so it is no "
            f"picture. Try: {'; '.join(advice)}"
        )

    def _step_callback(
        self,
        total: int,
        on_step: Callable[[int, int], None] | None,
        preview: Preview | None,
        estimates: Estimates,
    ) -> Callable[[object, int, object, dict[str, Tensor]], dict[str, Tensor]]:
        """What diffusers calls after each denoising step."""

        def report(pipe: object, step: int, timestep: object, kwargs: dict[str, Tensor]) -> dict[str, Tensor]:
            done = step + 1
            self._require_picture(kwargs["latents"])
            if on_step is not None:
                on_step(done, total)
            if preview is not None and done in preview.steps and estimates.latest is not None:
                estimate = self._decode(estimates.latest)
                if estimate.isfinite().all():
                    preview.show(done, _as_pictures(estimate / 2 + 0.5))
            return kwargs

        return report

    def passes(self, knobs: Knobs) -> int:
        """How often the UNet sees a picture with these knobs: once a step, twice where guidance is on."""
        return knobs.steps * (2 if self._guided(knobs) else 1)

    def _guided(self, knobs: Knobs) -> bool:
        """Whether classifier-free guidance is on, as the pipeline decides it."""
        return knobs.guidance_scale > 1 and self.pipe.unet.config.time_cond_proj_dim is None

    def clear_cache(self) -> None:
        """Drop the last photo's latents."""
        self._encoded = None

    def _decode(self, latents: Tensor) -> Tensor:
        """Scaled latents -> (B, 3, S, S), about [-1, 1], as the pipeline decodes its last ones."""
        vae = self.pipe.vae
        decoded: Tensor = vae.decode(latents.to(self._weights) / vae.config.scaling_factor, return_dict=False)[0]
        return decoded

    def _batch(self, embeds: Tensor, count: int) -> Tensor:
        return embeds.repeat(count, *[1] * (embeds.ndim - 1)).to(self._weights)

    def _feed_identity(self, conditions: Conditions, count: int, guided: bool) -> Tensor:
        """What the adapter is fed; FaceID-Plus and IdentityNet take their share as attributes."""
        kind = self.recipe.adapter_kind
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

    @torch.inference_mode()
    def reconstruct(self, image: RgbImage) -> RgbImage:
        """The photo through the autoencoder alone, (S, S, 3) uint8: a copy, never a style."""
        with self._precision.autocast():
            latents = self._encode(self._as_batch(image))
            decoded = self.pipe.vae.decode(latents, return_dict=False)[0]
        pixels = ((decoded.float().clamp(-1, 1) + 1) * 127.5).round().byte()
        return RgbImage(pixels[0].permute(1, 2, 0).cpu().numpy())


def _as_pictures(output: Tensor) -> list[RgbImage]:
    """(B, 3, S, S) in [0, 1] -> (S, S, 3) uint8 each."""
    pixels = (output.float().clamp(0, 1) * 255).round().to(torch.uint8)
    return list(pixels.permute(0, 2, 3, 1).cpu().numpy())


def _part_of(on_step: Callable[[int, int], None], number: int, count: int) -> Callable[[int, int], None]:
    """`on_step` for picture `number` of so many: it is told the steps of all."""
    return lambda step, total: on_step(number * total + step, count * total)


def check_knobs(knobs: Knobs) -> None:
    """Raises SettingsError when a knob is outside the range of its setting, or strength leaves no step to run."""
    Settings(**asdict(knobs))
    if knobs.steps < 1:
        raise SettingsError(
            f"strength {knobs.strength} of {knobs.num_inference_steps} steps leaves no denoising step; "
            f"use strength {ceil(100 / knobs.num_inference_steps) / 100} or more"
        )


def face_crop(kind: str, image: RgbImage, face: Face) -> RgbImage:
    """What the image encoder is shown: the aligned face for FaceID-Plus, a square around the head for plus-face."""
    if kind == "faceid-plusv2":
        return align_face(image, face.kps, 224)
    x, y = face.center
    half = 0.75 * max(face.width, face.height)
    height, width = image.shape[:2]
    left, right = max(0, int(x - half)), min(width, int(x + half) + 1)
    top, bottom = max(0, int(y - half)), min(height, int(y + half) + 1)
    side = min(right - left, bottom - top)
    return RgbImage(np.ascontiguousarray(image[top : top + side, left : left + side]))
