"""diffusers' img2img pipeline of Z-Image with a ControlNet beside the transformer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from diffusers import ZImageControlNetModel, ZImageImg2ImgPipeline
from diffusers.image_processor import VaeImageProcessor
from torch import Tensor, nn

_SHARED = (
    "t_scale", "t_embedder", "all_x_embedder", "cap_embedder", "rope_embedder", "noise_refiner", "context_refiner",
)  # fmt: skip
"""The modules of the transformer that a ControlNet of Z-Image shares, as in diffusers'
`ZImageControlNetModel.from_transformer`."""
_COPIED = ("x_pad_token", "cap_pad_token")


class ZImagePipeline(ZImageImg2ImgPipeline):
    """img2img that takes the photo's latents, (B, C, h, w), and a ControlNet, which diffusers only offers for text-to-image.

    The text encoder is separate.
    """

    _optional_components: ClassVar = ["text_encoder", "tokenizer", "controlnet"]

    def __init__(
        self, scheduler: Any, vae: Any, text_encoder: Any, tokenizer: Any, transformer: Any, controlnet: Any = None
    ) -> None:
        super().__init__(scheduler, vae, text_encoder, tokenizer, transformer)
        self.register_modules(controlnet=controlnet)
        self.image_processor = VaeImageProcessor(
            vae_scale_factor=self.vae_scale_factor * 2, vae_latent_channels=vae.config.latent_channels
        )


def share_layers(controlnet: ZImageControlNetModel, transformer: nn.Module) -> None:
    """Let a ControlNet use the transformer's first layers.

    Unlike in diffusers, they do not become part of it, so that moving both to a device, layer by layer or as a whole, moves
    each layer once.
    """
    for name in _SHARED:
        vars(controlnet)[name] = getattr(transformer, name)
    for name in _COPIED:
        setattr(controlnet, name, nn.Parameter(getattr(transformer, name).clone(), requires_grad=False))


@contextmanager
def controlled(pipe: ZImagePipeline, control: Tensor | None, scale: float) -> Iterator[None]:
    """Within the block, the pipe's ControlNet adds its output, times `scale`, to the transformer's layers; at 0 it does not run.

    `control` is its input as latents, (1, C, h, w).
    """
    if control is None or scale == 0:
        yield
        return
    net = pipe.controlnet
    padded = nn.functional.pad(control, (0, 0, 0, 0, 0, net.config.control_in_dim - control.shape[1]))

    def ask(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        latents, timestep, prompts = args
        condition = padded.to(latents[0]).repeat(len(latents), 1, 1, 1).unsqueeze(2)
        hints = net(latents, timestep, prompts, condition, conditioning_scale=scale)
        return args, kwargs | {"controlnet_block_samples": hints}

    handle = pipe.transformer.register_forward_pre_hook(ask, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
