"""How `mini` preserves the photo's structure: source latents beside the noise.

`MarkUNet` sees the source latents as extra input channels (as in InstructPix2Pix, Brooks et al. 2022), which a small model
learns far faster than a ControlNet copy. How much it sees is set by a signal level: noise covers the rest, so fine detail
vanishes first and coarse layout last (noise conditioning
augmentation, Ho et al. 2022, "Cascaded Diffusion Models").

In training the level also stands for the boldness of the marks: 1 for the finest, 0.5 for the boldest. When drawing, the
model is shown more of the photo than the level it is told (`signal_of`): marks stay bold, yet the likeness is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor

from portrait.generate.families.mini.marks.autoencoder import MarkAutoencoder
from portrait.generate.families.mini.sampling import PHOTO_NOISE


def noise_augment(source: Tensor, level: Tensor | float, noise: Tensor) -> Tensor:
    """Mix noise into unit-variance source latents, keeping the variance at one.

    Args:
        source: (B, C, h, w) scaled latents of the photo.
        level: Signal level in [0, 1], a number or anything that broadcasts; 1 leaves the source as it is.
        noise: Standard normal, like `source`.
    """
    level = torch.as_tensor(level, dtype=source.dtype, device=source.device)
    return level * source + (1 - level.square()).clamp(min=0).sqrt() * noise


Level = TypeVar("Level", float, Tensor)


def signal_of(level: Level) -> Level:
    """The share of the source that is mixed in when the model is told `level`; both in [0, 1], and 0 at 0."""
    return (0.5 + 2 * level - abs(level - 0.5)) / 2  # the smaller of (1 + level) / 2 and 1.5 level


def detail_of(level: Level) -> Level:
    """The factor of the photo's features in the decoder when the model is told `level`; both in [0, 1]."""
    return level


NOISE_SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "rescale_betas_zero_snr": True,
}
"""The schedule that `mini` is trained with: Stable Diffusion's, rescaled to zero terminal SNR."""


class MarkUNet(UNet2DConditionModel):
    """A v-prediction UNet over latents of marks that sees the photo's latents beside the noise.

    A medium changes nearly everything, so the photo is not an estimate of the painting, only a condition. `source` is the
    noisy photo, (B, C, h, w), and `level` the signal level in it, broadcastable to (B, 1, h, w). Classifier-free guidance
    doubles the batch; both are then repeated. `in_channels` of the config counts both latents and the level;
    `out_channels` only the sample.
    """

    source: Tensor | None = None
    level: Tensor | None = None

    def forward(self, sample: Tensor, timestep: Tensor, *args: Any, return_dict: bool = True, **kwargs: Any) -> Any:
        """Predict v, like `UNet2DConditionModel.forward`.

        Raises:
            ValueError: called outside of `condition_on_source`.
        """
        if self.source is None or self.level is None:
            raise ValueError("MarkUNet needs source latents: call it inside `condition_on_source`")
        copies = sample.shape[0] // self.source.shape[0]
        source = self.source.to(sample).repeat(copies, 1, 1, 1)
        level = self.level.to(sample).expand(-1, 1, *sample.shape[2:]).repeat(copies, 1, 1, 1)
        inputs = torch.cat([sample, source, level], 1).contiguous(memory_format=torch.channels_last)
        v = super().forward(inputs, timestep, *args, return_dict=False, **kwargs)[0]
        return UNet2DConditionOutput(sample=v) if return_dict else (v,)


@contextmanager
def condition_on_source(
    pipe: Any,
    latents: Tensor,
    picture: Tensor,
    level: float,
    seeds: Sequence[int],
    size: int,
    guides: Tensor | None = None,
) -> Iterator[None]:
    """Within the block, the pipeline's UNet and decoder see the photo at a signal level.

    Each picture's seed draws the noise that is mixed into its source, and places its marks, so a picture does not depend on
    the batch it was made in. Networks that take no source are left alone.

    Args:
        pipe: Its `unet` may be a `MarkUNet`, its `vae` a `MarkAutoencoder`.
        latents: (B, C, h, w) scaled latents of the photo.
        picture: (B, 3, H, W) the photo in [-1, 1].
        level: In [0, 1], as told to the model; at 1 it sees everything and draws the finest marks.
        seeds: One per picture.
        size: Side of the pictures in pixels, if the decoder draws marks.
        guides: (B, len(GUIDES), H/2, W/2) in [0, 1], for a decoder that is guided.
    """
    sees_source = isinstance(pipe.unet, MarkUNet)
    if sees_source:
        # The source's noise must not be the sample's noise, and must not depend on the batch.
        generators = [torch.Generator("cpu").manual_seed(seed ^ PHOTO_NOISE) for seed in seeds]
        noise = torch.stack([torch.randn(latents.shape[1:], generator=g) for g in generators]).to(latents)
        pipe.unet.source = noise_augment(latents, signal_of(level), noise)
        pipe.unet.level = torch.full((len(latents), 1, 1, 1), level)
    draws_marks = isinstance(pipe.vae, MarkAutoencoder)
    if draws_marks:
        pipe.vae.seeds = tuple(seeds)
        pipe.vae.size = size
        pipe.vae.source = picture
        pipe.vae.guides = guides
        pipe.vae.source_level = detail_of(level)
    try:
        yield
    finally:
        if sees_source:
            pipe.unet.source = None
            pipe.unet.level = None
        if draws_marks:
            pipe.vae.source = None
            pipe.vae.guides = None
            pipe.vae.source_level = 1.0
            pipe.vae.seeds = None
            pipe.vae.size = None
