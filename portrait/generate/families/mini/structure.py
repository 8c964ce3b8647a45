"""How a recipe holds the photo's structure: nothing but img2img noise, or source latents beside the noise.

`SourceUNet` sees the source latents as extra input channels (the way of InstructPix2Pix, Brooks et al.
2022), which a small model learns far faster than a ControlNet copy. How much it sees is a signal level:
noise covers the rest, so that fine detail goes first and coarse layout last (noise conditioning
augmentation, Ho et al. 2022, "Cascaded Diffusion Models").
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from portrait.generate.families.mini.autoencoder import PatchAutoencoder
from portrait.generate.families.mini.marks.autoencoder import MarkAutoencoder
from portrait.generate.networks import (
    DDIMScheduler,
    InOnePlace,
    UNet2DConditionModel,
    UNet2DConditionOutput,
    unet_forward,
)


def noise_augment(source: Tensor, level: Tensor | float, noise: Tensor) -> Tensor:
    """Mix noise into unit-variance source latents, keeping the variance at one.

    Args:
        source: (B, C, h, w) scaled latents of the photo.
        level: Signal level in [0, 1], a number or anything that broadcasts; 1 leaves the source as it is.
        noise: Standard normal, like `source`.
    """
    level = torch.as_tensor(level, dtype=source.dtype, device=source.device)
    return level * source + (1 - level.square()).clamp(min=0).sqrt() * noise


NOISE_SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "rescale_betas_zero_snr": True,
}
"""The schedule that `mini` is trained with: Stable Diffusion's, brought to zero terminal SNR."""


@functools.cache
def _alphas_cumprod() -> Tensor:
    """Signal power per timestep of `NOISE_SCHEDULE`."""
    return DDIMScheduler(**NOISE_SCHEDULE).alphas_cumprod


class SourceUNet(InOnePlace, UNet2DConditionModel):
    """A v-prediction UNet that sees source latents, and learns only what their statistics do not tell.

    Let x0 be the wanted latents and y the noisy source, y = L z + sqrt(1 - L^2) n with signal level L.
    If z has variance `source_variance` and x0 - z has `change_variance`, buffers per channel, then x0
    given y is normal with a known mean m and variance R^2, and so is v given the noisy latents x. The
    network's output, scaled to the deviation that is left, is added to that closed form: an untrained
    network already returns the source. This is the preconditioning of EDM with the source as the prior.

    `source` is y, (B, C, h, w), and `level` L, broadcastable to (B, 1, h, w). Under classifier-free
    guidance the batch is doubled; both are repeated with it. `in_channels` of the config counts x, y and
    L; `out_channels` only x.

    Reference:
        Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", section 5.
    """

    source: Tensor | None = None
    level: Tensor | None = None

    @functools.wraps(UNet2DConditionModel.__init__)  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        shape = (1, self.config.out_channels, 1, 1)
        self.register_buffer("source_variance", torch.ones(shape))
        self.register_buffer("change_variance", torch.ones(shape))

    def forward(self, sample: Tensor, timestep: Tensor, *args: Any, return_dict: bool = True, **kwargs: Any) -> Any:
        if self.source is None or self.level is None:
            raise ValueError("SourceUNet needs source latents: call it inside `condition_on_source`")
        copies = sample.shape[0] // self.source.shape[0]
        y = self.source.to(sample).repeat(copies, 1, 1, 1)
        level = self.level.to(sample).expand(-1, 1, *sample.shape[2:]).repeat(copies, 1, 1, 1)
        alpha = _alphas_cumprod().to(sample)[timestep.long()].view(-1, 1, 1, 1)
        a = alpha.sqrt()
        s = (1 - alpha).sqrt()
        y_variance = level.square() * self.source_variance + 1 - level.square()
        mean = level * self.source_variance / y_variance * y
        variance = (1 - level.square()) * self.source_variance / y_variance + self.change_variance
        total = a.square() * variance + s.square()
        expected_v = a * s * (1 - variance) / total * (sample - a * mean) - s * mean
        inputs = torch.cat([sample, y, level], 1).contiguous(memory_format=torch.channels_last)
        rest = unet_forward(self, inputs, timestep, *args, return_dict=False, **kwargs)[0]
        v = expected_v + (variance / total).sqrt() * rest
        return UNet2DConditionOutput(sample=v) if return_dict else (v,)


class MarkUNet(InOnePlace, UNet2DConditionModel):
    """A v-prediction UNet over latents of marks that sees the photo's latents beside the noise.

    A medium changes nearly everything, so the photo is no estimate of the painting: it is only looked at. `source` and
    `level` are those of `SourceUNet`; `in_channels` of the config counts both latents and the level.
    """

    source: Tensor | None = None
    level: Tensor | None = None

    def forward(self, sample: Tensor, timestep: Tensor, *args: Any, return_dict: bool = True, **kwargs: Any) -> Any:
        """The predicted v, as `UNet2DConditionModel.forward`.

        Raises:
            ValueError: called outside of `condition_on_source`.
        """
        if self.source is None or self.level is None:
            raise ValueError("MarkUNet needs source latents: call it inside `condition_on_source`")
        copies = sample.shape[0] // self.source.shape[0]
        source = self.source.to(sample).repeat(copies, 1, 1, 1)
        level = self.level.to(sample).expand(-1, 1, *sample.shape[2:]).repeat(copies, 1, 1, 1)
        inputs = torch.cat([sample, source, level], 1).contiguous(memory_format=torch.channels_last)
        v = unet_forward(self, inputs, timestep, *args, return_dict=False, **kwargs)[0]
        return UNet2DConditionOutput(sample=v) if return_dict else (v,)


@contextmanager
def condition_on_source(
    pipe: Any, latents: Tensor, picture: Tensor, level: float, seeds: Sequence[int], size: int
) -> Iterator[None]:
    """Let the pipeline's unet and decoder see the photo at a signal level; afterwards they are as they were.

    Each picture's seed draws the noise that is mixed into its source, and places its marks, so a picture does not depend on
    the batch it was made in. Parts that take no source are left alone.

    Args:
        pipe: Its `unet` may be a `SourceUNet` or a `MarkUNet`, its `vae` a `PatchAutoencoder`
            or a `MarkAutoencoder`.
        latents: (B, C, h, w) scaled latents of the photo.
        picture: (B, 3, H, W) the photo in [-1, 1].
        level: In [0, 1]; 1 is full sight.
        seeds: One per picture.
        size: Side of the pictures in pixels, where the decoder draws marks.
    """
    sees_source = isinstance(pipe.unet, SourceUNet | MarkUNet)
    if sees_source:
        # The source's noise must not be the sample's noise, and must not depend on the batch.
        generators = [torch.Generator("cpu").manual_seed(seed ^ 0x5EED) for seed in seeds]
        noise = torch.stack([torch.randn(latents.shape[1:], generator=g) for g in generators]).to(latents)
        pipe.unet.source = noise_augment(latents, level, noise)
        pipe.unet.level = torch.full((len(latents), 1, 1, 1), level)
    looks_at_photo = isinstance(pipe.vae, PatchAutoencoder | MarkAutoencoder)
    detail = max(0.0, 2 * level - 1)  # none at half level: clean detail must not shine through noisy latents
    if looks_at_photo and detail > 0:
        pipe.vae.source = picture
        pipe.vae.source_level = detail
    draws_marks = isinstance(pipe.vae, MarkAutoencoder)
    if draws_marks:
        pipe.vae.seeds = tuple(seeds)
        pipe.vae.size = size
    try:
        yield
    finally:
        if sees_source:
            pipe.unet.source = None
            pipe.unet.level = None
        if looks_at_photo:
            pipe.vae.source = None
            pipe.vae.source_level = 1.0
        if draws_marks:
            pipe.vae.seeds = None
            pipe.vae.size = None
