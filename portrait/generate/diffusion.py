"""The one engine: img2img over a diffusers pipeline with an identity adapter, driven by a recipe."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    ControlNetModel,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLImg2ImgPipeline,
    UNet2DConditionModel,
)
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils import logging as diffusers_logging
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection
from transformers.utils import logging as transformers_logging

from portrait.errors import MemoryLimitError, SettingsError, WeightsCorruptError
from portrait.faces.alignment import align_face
from portrait.generate import memory
from portrait.generate.adapters import adapter_inputs, identity_adapter, load_adapter, load_loras
from portrait.generate.autoencoder import PatchAutoencoder
from portrait.generate.control import IdentityNet, control_image
from portrait.generate.preview import clean_estimates
from portrait.generate.structure import SourceUNet, condition_on_source
from portrait.hub.files import sha256_of, verify_manifest
from portrait.images import pixels_sha256
from portrait.paths import cpu_threads
from portrait.recipes.recipe import Recipe
from portrait.records import Embedding, Face, Knobs, Preview, RgbImage

_UNETS: dict[str, Any] = {"UNet2DConditionModel": UNet2DConditionModel, "SourceUNet": SourceUNet}
_VAES: dict[str, Any] = {
    "AutoencoderKL": AutoencoderKL,
    "AutoencoderTiny": AutoencoderTiny,
    "PatchAutoencoder": PatchAutoencoder,
}
SCHEDULERS: dict[str, Any] = {
    "DDIM": DDIMScheduler,
    "Euler": EulerDiscreteScheduler,
    "DPM++": DPMSolverMultistepScheduler,
    "LCM": LCMScheduler,
}

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_PROMPTS = 64
"""So many encoded prompts are kept."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conditions:
    """All that does not change between the attempts at one portrait, computed once.

    `picture` is the photo, (1, 3, S, S) in [-1, 1]; `latents` are (1, C, h, w), scaled; `prompt` and
    `negative` (1, T, D) text embeddings, `pooled` the (1, P) ones of SDXL, (positive, negative). `clip` are the image
    encoder's (2, T, W) hidden states of an empty picture and of the face, `control` is what the ControlNet sees,
    (1, 3, S, S) in [0, 1].
    """

    picture: Tensor
    latents: Tensor
    prompt: Tensor
    negative: Tensor
    embedding: Embedding
    pooled: tuple[Tensor, Tensor] | None = None
    clip: Tensor | None = None
    control: Tensor | None = None


class _GivenConditions:
    """diffusers' img2img, with two of its steps replaced.

    `image` is always latents (the original knows latents by having 4 channels, and would encode ours
    again); and identity embeddings are taken per picture, as given (the original repeats all of them
    for every picture, which mixes people in a batch).
    """

    scheduler: Any

    def prepare_latents(
        self,
        image: Tensor,
        timestep: Tensor,
        batch_size: int,
        num_images_per_prompt: int,
        dtype: torch.dtype,
        device: torch.device,
        generator: Any = None,
        add_noise: bool = True,
    ) -> Tensor:
        image = image.to(device=device, dtype=dtype)
        noise = randn_tensor(image.shape, generator=generator, device=device, dtype=dtype)
        return self.scheduler.add_noise(image, noise, timestep)

    def prepare_ip_adapter_image_embeds(
        self,
        ip_adapter_image: object,
        ip_adapter_image_embeds: list[Tensor],
        device: torch.device,
        num_images_per_prompt: int,
        do_classifier_free_guidance: bool,
    ) -> list[Tensor]:
        return [e.to(device) for e in ip_adapter_image_embeds]


class PortraitPipeline(_GivenConditions, StableDiffusionImg2ImgPipeline):
    """SD 1.5 and `mini`."""


class PortraitControlPipeline(_GivenConditions, StableDiffusionControlNetImg2ImgPipeline):
    """SD 1.5 with a ControlNet."""


class PortraitXLPipeline(_GivenConditions, StableDiffusionXLImg2ImgPipeline):
    """SDXL."""


class PortraitXLControlPipeline(_GivenConditions, StableDiffusionXLControlNetImg2ImgPipeline):
    """SDXL with a ControlNet."""


_PIPELINES: dict[tuple[str, bool], Any] = {
    ("sd15", False): PortraitPipeline,
    ("sd15", True): PortraitControlPipeline,
    ("sdxl", False): PortraitXLPipeline,
    ("sdxl", True): PortraitXLControlPipeline,
}


class DiffusionGenerator:
    """Makes pictures by a recipe.

    Args:
        recipe: Which models, which knobs; public models with their paths filled in (`recipes.locate.resolve_files`).
        threads: torch threads; the bits of a picture depend on it, so the record names it.
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
        # Without AVX-512 torch computes bfloat16 convolutions far slower than float32.
        has_bf16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        on_cpu = "bfloat16" if recipe.autocast == "bfloat16" and has_bf16 else "float32"
        self.dtype = on_cpu if self.device.type == "cpu" else "float16" if recipe.memory else "float32"
        self._weights = torch.float16 if self.dtype == "float16" else torch.float32
        self.digests = dict(recipe.digests) or verify_manifest(recipe.base)
        self._encoded: tuple[str, Tensor] | None = None
        self._prompts: dict[tuple[str, str], Any] = {}
        diffusers_logging.set_verbosity_error()
        transformers_logging.set_verbosity_error()
        diffusers_logging.disable_progress_bar()
        transformers_logging.disable_progress_bar()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.pipe = self._load_pipeline()
                self._image_encoder = self._load_image_encoder()
        except WeightsCorruptError:
            raise
        except Exception as error:  # json, safetensors, transformers and diffusers each raise their own
            memory.raise_if_oom(error, f"the model of recipe {recipe.name}")
            why = " ".join(str(error).split())[:300]
            where = recipe.single_file or recipe.base
            what = f"a checkpoint of the family {recipe.family}" if recipe.single_file else "a diffusers folder"
            raise WeightsCorruptError(f"{where} is not {what} that loads: {why}") from error
        clip_width = int(self._image_encoder.config.hidden_size) if self._image_encoder is not None else 0
        self.loras = load_adapter(self.pipe, recipe.adapter, recipe.adapter_kind, recipe.adapter_lora, clip_width)
        self.loras = load_loras(self.pipe, [(lora.path, lora.weight) for lora in recipe.loras], self.loras)
        self._name_files()
        if recipe.scheduler:
            more: dict[str, Any] = {"timestep_spacing": recipe.timestep_spacing} if recipe.timestep_spacing else {}
            if recipe.scheduler in ("DDIM", "LCM"):
                more["clip_sample"] = False  # latents are no pixels; DDIM clips them unless it is told
            self.pipe.scheduler = SCHEDULERS[recipe.scheduler].from_config(self.pipe.scheduler.config, **more)
        self.sampler = type(self.pipe.scheduler).__name__.removesuffix("Scheduler")
        factor = self.pipe.vae_scale_factor
        if recipe.resolution < 64 or recipe.resolution % factor:
            raise SettingsError(f"recipe {recipe.name}: resolution {recipe.resolution} is not a multiple of {factor}")
        if recipe.structure == "source_latents" and not isinstance(self.pipe.unet, SourceUNet):
            raise WeightsCorruptError(f"recipe {recipe.name} holds source latents, but its unet takes none")
        self.pipe.set_progress_bar_config(disable=True)
        for part in (self.pipe.unet, self.pipe.vae):
            part.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        if isinstance(net := getattr(self.pipe, "controlnet", None), IdentityNet):
            net.read_identity(self.pipe.unet.encoder_hid_proj.image_projection_layers[0])
        self.pipe.image_processor = VaeImageProcessor(
            vae_scale_factor=self.pipe.vae_scale_factor, vae_latent_channels=self._latent_channels
        )
        self._with_less_if_needed(lambda: memory.place(self.pipe, self.tier, self.device), lambda: None)

    def _load_pipeline(self) -> Any:
        recipe = self.recipe
        _check_libraries(recipe.base)
        variant = "fp16" if any((recipe.base / "unet").glob("*.fp16.safetensors")) else None
        pipeline = _PIPELINES[recipe.family, recipe.structure == "controlnet"]
        common = {"dtype": self._weights, "local_files_only": True, "feature_extractor": None, "image_encoder": None}
        if recipe.family == "sd15":
            common |= {"safety_checker": None, "requires_safety_checker": False}
        else:
            common |= {"add_watermarker": False}
        if recipe.controlnet is not None:
            net = IdentityNet if recipe.adapter_kind == "instantid" else ControlNetModel
            common["controlnet"] = _load_part(recipe.controlnet, {"ControlNetModel": net}, self._weights)
        if recipe.vae is not None:
            common["vae"] = _load_part(recipe.vae, _VAES, self._weights)
        if recipe.single_file is not None:
            return pipeline.from_single_file(str(recipe.single_file), config=str(recipe.base), **common)
        if recipe.vae is None:
            common["vae"] = _load_part(recipe.base / "vae", _VAES, self._weights)
        common["unet"] = _load_part(recipe.base / "unet", _UNETS, self._weights)
        return pipeline.from_pretrained(str(recipe.base), variant=variant, use_safetensors=True, **common)

    def _load_image_encoder(self) -> Any:
        if self.recipe.image_encoder is None:
            return None
        encoder = CLIPVisionModelWithProjection.from_pretrained(
            str(self.recipe.image_encoder), local_files_only=True, dtype=self._weights, use_safetensors=True
        )
        return encoder.eval().requires_grad_(False)

    def _name_files(self) -> None:
        """Add the files that no manifest lists, the user's own, to the digests."""
        recipe = self.recipe
        if "adapter" not in recipe.parts:
            inside = recipe.adapter.is_relative_to(recipe.base)
            name = recipe.adapter.relative_to(recipe.base).as_posix() if inside else recipe.adapter.name
            self.digests.setdefault(name, sha256_of(recipe.adapter))
        own = [lora.path for lora in recipe.loras if not lora.part]
        if recipe.single_file is not None and "single_file" not in recipe.parts:
            own.append(recipe.single_file)
        self.digests |= {path.name: sha256_of(path) for path in own if path.is_file()}
        if recipe.parts and "base" not in recipe.parts:
            self.digests |= {f"{recipe.base.name}/{name}": d for name, d in verify_manifest(recipe.base).items()}

    @property
    def _latent_channels(self) -> int:
        return int(self.pipe.unet.config.out_channels)

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
            image: (S, S, 3) uint8 RGB at the recipe's resolution.
            embedding: Embedding by the recipe's recogniser, unit or raw as the recipe says.
            prompt: What the style says.
            negative_prompt: What guidance moves away from.
            face: The face of `image`; adapters that look at the face, and keypoints, need it.

        Raises:
            SettingsError: the embedding is not finite, or the face is missing.
        """
        if not np.isfinite(embedding).all():
            raise SettingsError("the identity embedding is not finite; the photo's face cannot be used")
        return self._with_less_if_needed(lambda: self._prepare(image, embedding, prompt, negative_prompt, face))

    def _prepare(
        self, image: RgbImage, embedding: Embedding, prompt: str, negative_prompt: str, face: Face | None
    ) -> Conditions:
        device = self.pipe._execution_device
        picture = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        picture = picture.to(device).contiguous(memory_format=torch.channels_last)
        control = None
        if self.recipe.structure == "controlnet":
            drawn = control_image(self.recipe.control, image, face)
            control = torch.from_numpy(drawn.copy()).permute(2, 0, 1)[None].float() / 255
        with self._autocast():
            digest = pixels_sha256(image)
            known = self._encoded
            if known is None or known[0] != digest:  # the styles of a photo share its latents
                encoded = self.pipe.vae.encode(picture.to(self._weights))
                latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
                self._encoded = known = digest, latents
            latents = known[1]
            texts = self._texts(prompt, negative_prompt or self.recipe.negative_prompt, device)
            clip = self._look_at_face(image, face) if self._image_encoder is not None else None
        return Conditions(
            picture=picture,
            latents=latents.float() * self.pipe.vae.config.scaling_factor,
            prompt=texts[0].float(),
            negative=texts[1].float(),
            embedding=embedding,
            pooled=(texts[2].float(), texts[3].float()) if len(texts) == 4 else None,
            clip=clip,
            control=control,
        )

    def _texts(self, prompt: str, negative_prompt: str, device: torch.device) -> tuple[Any, ...]:
        """What the text encoders make of a prompt; of the last prompts, so that the people of a style share it."""
        key = (prompt, negative_prompt)
        if key not in self._prompts:
            if len(self._prompts) >= MAX_PROMPTS:
                self._prompts.pop(next(iter(self._prompts)))
            if self.recipe.family == "sdxl":
                self._prompts[key] = self.pipe.encode_prompt(
                    prompt,
                    device=device,
                    num_images_per_prompt=1,
                    do_classifier_free_guidance=True,
                    negative_prompt=negative_prompt,
                )
            else:
                self._prompts[key] = self.pipe.encode_prompt(prompt, device, 1, True, negative_prompt)
        return self._prompts[key]

    def _look_at_face(self, image: RgbImage, face: Face | None) -> Tensor:
        """The image encoder's last but one hidden states, (2, T, W): of an empty picture, and of the face.

        FaceID-Plus was trained on the face on the ArcFace template at 224 px, plus-face on crops of the head.
        """
        if face is None:
            raise SettingsError(f"recipe {self.recipe.name} looks at the face, so it needs the face of the photo")
        seen = face_crop(self.recipe.adapter_kind, image, face)
        device = self.pipe._execution_device
        encoder = self._image_encoder.to(device)
        size = int(encoder.config.image_size)
        pixels = CLIPImageProcessor(size=size, crop_size=size)(Image.fromarray(seen), return_tensors="pt").pixel_values
        batch = torch.cat([torch.zeros_like(pixels), pixels]).to(device, self._weights)
        states = encoder(batch, output_hidden_states=True).hidden_states[-2].float()
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
        """Make one picture per seed, as a batch; each seed has its own CPU generator.

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
        """
        self.recipe.check_steps(knobs)
        check_knobs(knobs)
        return self._with_less_if_needed(
            lambda: self._generate(conditions, knobs, seeds, on_step, preview),
            lambda: [self._generate(conditions, knobs, [seed], on_step, preview)[0] for seed in seeds],
        )

    def _with_less_if_needed(self, work: Callable[[], T], again: Callable[[], T] | None = None) -> T:
        """Do `work`; when memory runs out, go a tier lower and do it (or `again`, which asks for less) once more.

        Raises:
            MemoryLimitError: memory runs out the second time too.
        """
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not memory.is_out_of_memory(error):
                raise
            why = " ".join(str(error).split())[:120]
        smaller = memory.smaller_tier(self.tier, self.device.type)
        log.warning("out of memory (%s); once more, one picture at a time, memory tier %s", why, smaller)
        if self._image_encoder is not None:
            self._image_encoder.to("cpu")  # it is no part of the pipeline, and comes when it is needed
        memory.release(self.device)
        try:
            if smaller != self.tier:
                self.tier = smaller
                memory.place(self.pipe, smaller, self.device)
            memory.save_vae_memory(self.pipe.vae, tiles=True)
            return (again or work)()
        except (RuntimeError, MemoryError) as error:
            if not memory.is_out_of_memory(error):
                raise
            raise MemoryLimitError(
                f"out of memory on {self.device.type}, also one picture at a time with the memory tier {self.tier}; close "
                "other programs, use --batch 1, --memory sequential, or a smaller recipe (portrait doctor lists them)"
            ) from None

    def _generate(
        self,
        conditions: Conditions,
        knobs: Knobs,
        seeds: Sequence[int],
        on_step: Callable[[int, int], None] | None,
        preview: Preview | None = None,
    ) -> list[RgbImage]:
        count = len(seeds)
        guided = self._guided(knobs)
        latents = conditions.latents.repeat(count, 1, 1, 1)

        def report(pipe: object, step: int, timestep: object, kwargs: dict[str, Any]) -> dict[str, Any]:
            if on_step is not None:
                on_step(step + 1, knobs.steps)
            if preview is not None and step + 1 in preview.steps and estimates.latest is not None:
                estimate = self._decoded(estimates.latest)
                if estimate.isfinite().all():
                    preview.show(step + 1, _as_pictures(estimate / 2 + 0.5))
            return kwargs

        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        covers = [torch.Generator("cpu").manual_seed(seed ^ 0x5EED) for seed in seeds]
        photos, level = conditions.picture.repeat(count, 1, 1, 1), knobs.controlnet_conditioning_scale
        with (
            self._autocast(),
            identity_adapter(self.pipe, knobs.ip_adapter_scale, self.loras) as pipe,
            condition_on_source(pipe, latents, photos, level, covers),
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
                callback_on_step_end=report,
                **self._more_inputs(conditions, knobs, count, guided),
            ).images
        return _as_pictures(output)

    def passes(self, knobs: Knobs) -> int:
        """How often the UNet sees a picture with these knobs: once a step, twice where guidance is on."""
        return knobs.steps * (2 if self._guided(knobs) else 1)

    def _guided(self, knobs: Knobs) -> bool:
        """As the pipeline decides."""
        return knobs.guidance_scale > 1 and self.pipe.unet.config.time_cond_proj_dim is None

    def forget(self) -> None:
        """Let go of the last photo's latents."""
        self._encoded = None

    def _decoded(self, latents: Tensor) -> Tensor:
        """Scaled latents -> (B, 3, S, S), about [-1, 1], as the pipeline decodes its last ones."""
        vae = self.pipe.vae
        return vae.decode(latents.to(self._weights) / vae.config.scaling_factor, return_dict=False)[0]

    def _batch(self, embeds: Tensor, count: int) -> Tensor:
        return embeds.repeat(count, *[1] * (embeds.ndim - 1)).to(self._weights)

    def _feed_identity(self, conditions: Conditions, count: int, guided: bool) -> Tensor:
        """What the adapter is fed; FaceID-Plus and IdentityNet take their share as attributes."""
        kind = self.recipe.adapter_kind
        embeds, seen = adapter_inputs(kind, conditions.embedding, conditions.clip, count, guided)
        embeds = embeds.to(self.pipe._execution_device, self._weights)
        if kind == "faceid-plusv2" and seen is not None:
            self.pipe.unet.encoder_hid_proj.image_projection_layers[0].clip_embeds = seen.to(embeds)
        if isinstance(net := getattr(self.pipe, "controlnet", None), IdentityNet):
            net.identity = embeds
        return embeds

    def _more_inputs(self, conditions: Conditions, knobs: Knobs, count: int, guided: bool) -> Mapping[str, Any]:
        """What only a ControlNet or SDXL takes."""
        more: dict[str, Any] = {}
        if conditions.control is not None:
            more["control_image"] = conditions.control
            more["controlnet_conditioning_scale"] = knobs.controlnet_conditioning_scale
        if conditions.pooled is not None:
            more["pooled_prompt_embeds"] = self._batch(conditions.pooled[0], count)
            more["negative_pooled_prompt_embeds"] = self._batch(conditions.pooled[1], count) if guided else None
        return more

    @torch.inference_mode()
    def reconstruct(self, image: RgbImage) -> RgbImage:
        """The photo through the autoencoder alone, (S, S, 3) uint8: a copy, never a style."""
        picture = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        picture = picture.to(self.pipe._execution_device, self._weights)
        with self._autocast():
            encoded = self.pipe.vae.encode(picture.contiguous(memory_format=torch.channels_last))
            latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
            out = self.pipe.vae.decode(latents, return_dict=False)[0]
        return ((out.float().clamp(-1, 1) + 1) * 127.5).round().byte()[0].permute(1, 2, 0).cpu().numpy()

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.dtype != "bfloat16":
            return contextlib.nullcontext()
        return torch.autocast("cpu", torch.bfloat16)


def _as_pictures(output: Tensor) -> list[RgbImage]:
    """(B, 3, S, S) in [0, 1] -> (S, S, 3) uint8 each."""
    pixels = (output.float().clamp(0, 1) * 255).round().to(torch.uint8)
    return list(pixels.permute(0, 2, 3, 1).cpu().numpy())


def check_knobs(knobs: Knobs) -> None:
    """Raises SettingsError when a knob is out of range, or strength leaves no step to run."""
    for name, low, high in (
        ("strength", 0.0, 1.0),
        ("guidance_scale", 0.0, 30.0),
        ("ip_adapter_scale", 0.0, 3.0),
        ("controlnet_conditioning_scale", 0.0, 1.0),
        ("num_inference_steps", 1, 1000),
    ):
        value = getattr(knobs, name)
        if not low <= value <= high:
            raise SettingsError(f"{name} {value} is outside {low} to {high}")
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


def _check_libraries(folder: Path) -> None:
    """Raises ValueError if a diffusers folder names a library to be imported that is none of a model's usual ones."""
    for name, value in json.loads((folder / "model_index.json").read_text("utf-8")).items():
        if (
            isinstance(value, list)
            and value
            and value[0] not in (None, "diffusers", "transformers", "stable_diffusion")
        ):
            raise ValueError(f"its model_index.json wants {name} from the library {str(value[0])[:60]!r}")


def _load_part(folder: Path, classes: dict[str, Any], dtype: torch.dtype) -> Any:
    name = json.loads((folder / "config.json").read_text("utf-8"))["_class_name"]
    if name not in classes:
        raise ValueError(f"{folder} holds a {name}; known are {', '.join(classes)}")
    variant = "fp16" if any(folder.glob("*.fp16.safetensors")) else None
    safe = any(folder.glob("*.safetensors"))  # else a pickle, which diffusers reads with `weights_only`
    return classes[name].from_pretrained(
        str(folder), local_files_only=True, dtype=dtype, variant=variant, use_safetensors=safe
    )
