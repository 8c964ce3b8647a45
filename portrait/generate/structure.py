"""How a recipe holds the photo's structure: nothing but img2img noise, or source latents beside the noise.

`SourceUNet` sees the source latents as extra input channels (the way of InstructPix2Pix, Brooks et al.
2022), which a small model learns far faster than a ControlNet copy. How much it sees is a signal level:
noise covers the rest, so that fine detail goes first and coarse layout last (noise conditioning
augmentation, Ho et al. 2022, "Cascaded Diffusion Models").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from portrait.generate.autoencoder import PatchAutoencoder


def weaken(source: Tensor, level: Tensor | float, noise: Tensor) -> Tensor:
    """Cover unit-variance source latents with noise, keeping the variance at one.

    Args:
        source: (B, C, h, w) scaled latents of the photo.
        level: Signal level in [0, 1], a number or anything that broadcasts; 1 leaves the source as it is.
        noise: Standard normal, like `source`.
    """
    level = torch.as_tensor(level, dtype=source.dtype, device=source.device)
    return level * source + (1 - level.square()).clamp(min=0).sqrt() * noise


class SourceUNet(UNet2DConditionModel):
    """A UNet whose input is the noisy latents and, concatenated, the source latents that are held.

    `in_channels` of its config counts both, `out_channels` only the noisy ones. Under classifier-free
    guidance the batch is doubled; the source is repeated with it.
    """

    source: Tensor | None = None

    def forward(self, sample: Tensor, *args: object, **kwargs: object) -> object:
        if sample.shape[1] != self.config.in_channels:
            if self.source is None:
                raise ValueError("SourceUNet needs source latents: call it inside `hold_source`")
            copies = sample.shape[0] // self.source.shape[0]
            source = self.source.to(sample).repeat(copies, 1, 1, 1)
            sample = torch.cat([sample, source], 1).contiguous(memory_format=torch.channels_last)
        return super().forward(sample, *args, **kwargs)


@contextmanager
def hold_source(
    pipe: Any, latents: Tensor, picture: Tensor, level: float, generators: Sequence[torch.Generator]
) -> Iterator[None]:
    """Let the pipeline's unet and decoder see the photo at a signal level; afterwards they are as they were.

    Each picture's generator draws the noise that covers its source, so a picture does not depend on
    the batch it was made in. Parts that take no source are left alone.

    Args:
        pipe: Its `unet` may be a `SourceUNet`, its `vae` a `PatchAutoencoder`.
        latents: (B, C, h, w) scaled latents of the photo.
        picture: (B, 3, H, W) the photo in [-1, 1].
        level: In [0, 1]; 1 is full sight.
        generators: One per picture.
    """
    if isinstance(pipe.unet, SourceUNet):
        noise = torch.stack([torch.randn(latents.shape[1:], generator=g) for g in generators]).to(latents)
        pipe.unet.source = weaken(latents, level, noise)
    if isinstance(pipe.vae, PatchAutoencoder) and level > 0:
        pipe.vae.source, pipe.vae.source_level = picture, level
    try:
        yield
    finally:
        for part in (pipe.unet, pipe.vae):
            if isinstance(part, SourceUNet | PatchAutoencoder):
                part.source = None
