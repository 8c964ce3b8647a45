"""`mini`'s pipeline: img2img for networks that see the photo's latents, without diffusers' pipelines.

It does what `stable_diffusion.pipelines.PortraitPipeline` does, bit for bit (tests/test_speed.py). diffusers' pipelines
import transformers with all its dependencies, which takes longer than drawing a portrait.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from portrait.generate.families.mini.text import TextEncoder
from portrait.generate.networks import AttnProcessor2_0, DDIMScheduler, randn_tensor

AfterStep = Callable[[object, int, object, dict[str, Tensor]], object]


def load_network(folder: Path, network: Any, weights: torch.dtype) -> Any:
    """Load a network from a diffusers folder; its file is mapped into memory.

    Args:
        folder: Holds config.json and diffusion_pytorch_model.safetensors.
        network: A `ModelMixin` class.
        weights: The dtype of the weights.
    """
    about = json.loads((folder / "config.json").read_text("utf-8"))
    model = network.from_config(about)
    state = load_file(folder / "diffusion_pytorch_model.safetensors")
    model.load_state_dict({name: tensor.to(weights) for name, tensor in state.items()}, assign=True)
    return model


class MiniPipeline:
    """The parts of a diffusers pipeline that portrait uses, under diffusers' names.

    Args:
        unet: A `MarkUNet`.
        vae: A `MarkAutoencoder`.
        text_encoder: Encodes the prompts.
        scheduler: A scheduler of diffusers.
    """

    def __init__(self, unet: Any, vae: Any, text_encoder: TextEncoder, scheduler: Any) -> None:
        self.unet, self.vae, self.text_encoder, self.scheduler = unet, vae, text_encoder, scheduler
        self.tokenizer = text_encoder.tokenizer
        self.vae_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1)

    @classmethod
    def from_folder(cls, folder: Path, unet: Any, vae: Any, weights: torch.dtype) -> MiniPipeline:
        """Load the rest of a diffusers folder, given its `unet` and `vae`."""
        about = json.loads((folder / "scheduler" / "scheduler_config.json").read_text("utf-8"))
        scheduler = DDIMScheduler(**{name: value for name, value in about.items() if not name.startswith("_")})
        return cls(unet, vae, TextEncoder(folder, weights), scheduler)

    @property
    def _execution_device(self) -> torch.device:
        device: torch.device = self.unet.device
        return device

    def to(self, device: torch.device) -> MiniPipeline:
        """Move all networks."""
        for network in (self.unet, self.vae, self.text_encoder):
            network.to(device)
        return self

    def encode_prompt(self, prompt: str, *, negative_prompt: str = "", **kwargs: object) -> tuple[Tensor, Tensor]:
        """The (1, T, D) embeddings of both prompts; diffusers' other arguments are ignored."""
        return self.text_encoder(prompt), self.text_encoder(negative_prompt)

    def load_ip_adapter(self, folder: str, *, weight_name: str, **kwargs: object) -> None:
        """Load a FaceID adapter into the UNet; files that contain a LoRA are refused."""
        tables: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
        for name, tensor in load_file(Path(folder) / weight_name).items():
            table, _, key = name.partition(".")
            tables[table][key] = tensor
        if any("lora" in key for key in tables["ip_adapter"]):
            raise ValueError("the file contains a LoRA, which this model does not support")
        self.unet._load_ip_adapter_weights([tables], low_cpu_mem_usage=False)

    def unload_ip_adapter(self) -> None:
        """Remove the adapter from the UNet."""
        self.unet.set_attn_processor(AttnProcessor2_0())
        self.unet.encoder_hid_proj = None
        self.unet.config.encoder_hid_dim_type = None

    def set_ip_adapter_scale(self, scale: float) -> None:
        """Set the adapter's scale."""
        for processor in self.unet.attn_processors.values():
            if hasattr(processor, "scale"):
                processor.scale = [scale]

    def get_list_adapters(self) -> dict[str, list[str]]:
        """The LoRAs of each part: there are none."""
        return {}

    def __call__(
        self,
        *,
        image: Tensor,
        prompt_embeds: Tensor,
        negative_prompt_embeds: Tensor | None,
        ip_adapter_image_embeds: Sequence[Tensor],
        strength: float,
        guidance_scale: float,
        num_inference_steps: int,
        generator: list[torch.Generator],
        callback_on_step_end: AfterStep,
        output_type: str = "pt",
    ) -> SimpleNamespace:
        """Noise the latents `image`, (B, C, h, w), denoise and decode them.

        Guidance is on if `negative_prompt_embeds` is not None: the identity's conditions then start with their negatives.

        Returns:
            `images`, (B, 3, S, S) in [0, 1].
        """
        scheduler, guided = self.scheduler, negative_prompt_embeds is not None
        embeds = prompt_embeds if negative_prompt_embeds is None else torch.cat([negative_prompt_embeds, prompt_embeds])
        added = {"image_embeds": list(ip_adapter_image_embeds)}
        scheduler.set_timesteps(num_inference_steps, device=image.device)
        steps = min(int(num_inference_steps * strength), num_inference_steps)
        first = (num_inference_steps - steps) * scheduler.order
        timesteps = scheduler.timesteps[first:]
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(first)
        image = image.to(embeds.dtype)
        noise = randn_tensor(image.shape, generator=generator, device=image.device, dtype=image.dtype)
        latents = scheduler.add_noise(image, noise, timesteps[:1].repeat(len(image)))
        drawn = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
        for number, timestep in enumerate(timesteps):
            inputs = scheduler.scale_model_input(torch.cat([latents] * 2) if guided else latents, timestep)
            predicted = self.unet(
                inputs, timestep, encoder_hidden_states=embeds, added_cond_kwargs=added, return_dict=False
            )[0]
            if guided:
                without, conditioned = predicted.chunk(2)
                predicted = without + guidance_scale * (conditioned - without)
            latents = scheduler.step(predicted, timestep, latents, **drawn, return_dict=False)[0]
            callback_on_step_end(self, number, timestep, {"latents": latents})
        pictures = self.vae.decode(latents / self.vae.config.scaling_factor, return_dict=False)[0]
        return SimpleNamespace(images=(pictures * 0.5 + 0.5).clamp(0, 1))
