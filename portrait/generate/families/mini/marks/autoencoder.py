"""`mini`'s autoencoder: photos and marks to latents at 1/16 of the side, latents to marks, and marks to pixels.

Its decoder never writes a pixel. It predicts which marks lie where, and the rasterizer draws them from a seed. So every
stroke is crisp at any size, two seeds give two drawings, and the photo's own texture cannot show through.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DecoderOutput
from torch import Tensor, nn
from torch.nn import functional as F

from portrait.generate.families.mini.marks.layout import (
    CHANNELS,
    GLOBALS,
    GUIDE_MAPS,
    SLICES,
    Marks,
    to_draw,
)
from portrait.generate.families.mini.marks.rasterize import draw

CELLS_PER_LATENT = 4
FADING_GUIDES = 0.25
"""The level of the photo below which guides fade with it; above, they are shown at full strength."""
TONE_LIMITS = (0.75, 0.55, 0.38, 0.22)
"""Lightness levels at which a photo is divided into tones, whose outlines it is read as."""


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU, 3x3, SiLU, 3x3, added to the input; the last convolution starts at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(self.norm(x)))))


def read_photo(photo: Tensor, guides: Tensor | None = None) -> Tensor:
    """Represent a photo as maps of marks, so that one encoder serves both.

    Args:
        photo: (B, 3, H, W) in [-1, 1]; H and W are multiples of 4.
        guides: (B, len(GUIDES), H/2, W/2), for the decoder.

    Returns:
        (B, CHANNELS, H/4, W/4): its colors, the outlines of its tones, its dark lines and their direction. The maps that
        tell the medium hold the guides, or 0.
    """
    rgb = (photo.float() + 1) / 2
    small = F.avg_pool2d(rgb, 4)
    half = F.avg_pool2d(rgb, 2)
    gray = (half * half.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    near = _smooth(gray, 1)
    far = _smooth(near, 2)
    outlines = torch.cat([(0.5 + 3 * (limit - near)).clamp(0, 1) for limit in TONE_LIMITS], 1)
    across = F.pad(near[..., 1:] - near[..., :-1], (0, 1, 0, 0))
    down = F.pad(near[:, :, 1:] - near[:, :, :-1], (0, 0, 0, 1))
    xx, xy, yy = (F.avg_pool2d(p, 2) for p in (across * across, across * down, down * down))
    energy = xx + yy + 1e-3
    maps = {
        "paper": small,
        "color": small,
        "shape": F.pixel_unshuffle(outlines, 2),
        "line": F.pixel_unshuffle((8 * (far - near)).clamp(0, 1), 2),
        "direction": torch.cat([0.5 - 0.5 * (xx - yy) / energy, 0.5 - xy / energy], 1),
    }
    if guides is None:
        nothing = torch.zeros_like(small[:, :1])
        rest = {name: nothing.repeat(1, s.stop - s.start, 1, 1) for name, s in SLICES.items()}
    else:
        sizes = [SLICES[name].stop - SLICES[name].start for name in GUIDE_MAPS]
        shown = F.pixel_unshuffle(guides.to(small), 2).split(sizes, 1)
        rest = dict.fromkeys(SLICES, small) | dict(zip(GUIDE_MAPS, shown, strict=True))  # in the order of the maps
    return torch.cat(list((rest | maps).values()), 1)


def marks_from(map_logits: Tensor, value_logits: Tensor) -> list[Marks]:
    """Turn the result of `MarkAutoencoder.decode_marks` into marks to draw, one `Marks` per picture."""
    maps, values = (logits.float().sigmoid().cpu().numpy() for logits in (map_logits, value_logits))
    return [to_draw(m, v) for m, v in zip(maps, values, strict=True)]


def _smooth(x: Tensor, radius: int) -> Tensor:
    side = 2 * radius + 1
    return F.avg_pool2d(F.pad(x, (radius,) * 4, mode="replicate"), side, 1)


class MarkAutoencoder(ModelMixin, ConfigMixin):
    """Deterministic autoencoder with the interface of diffusers' `AutoencoderTiny`, over marks.

    Args:
        latent_channels: Channels of the latents at 1/16 of the picture's sides.
        encoder_channels: Widths at 1/8 and 1/16.
        decoder_channels: Widths at 1/16, 1/8 and 1/4.
        encoder_blocks: Residual blocks at 1/8 and 1/16.
        decoder_blocks: Residual blocks at 1/16, 1/8 and 1/4.
        map_channels: Channels of the maps; any number but the current layout's is refused.
        global_values: Values for the whole picture.
        scaling_factor: Latents times this have unit variance, as in every diffusers autoencoder.
        guided: Whether the decoder is shown guides beside the photo, and the photo under a kind light.
    """

    source: Tensor | None = None
    """(B, 3, H, W) photos in [-1, 1] from which `decode` takes fine outlines, or None."""
    guides: Tensor | None = None
    """(B, len(GUIDES), H/2, W/2) in [0, 1], shown with `source`; None: nothing is known of the face."""
    source_level: Tensor | float = 1.0
    """Factor of the skip connection's features, in [0, 1]."""
    seeds: Sequence[int] | None = None
    """One per picture, for placing the single marks; None: 0 for all."""
    size: int | None = None
    """Side of the pictures that `decode` draws; None: 16 pixels per latent."""

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 32,
        encoder_channels: tuple[int, int] = (96, 160),
        decoder_channels: tuple[int, int, int] = (208, 120, 64),
        encoder_blocks: tuple[int, int] = (1, 2),
        decoder_blocks: tuple[int, int, int] = (2, 2, 1),
        map_channels: int = CHANNELS,
        global_values: int = len(GLOBALS),
        scaling_factor: float = 1.0,
        guided: bool = False,
        block_out_channels: tuple[int, ...] = (1, 1, 1, 1, 1),  # its length tells pipelines the scale factor, 2 ** 4
    ) -> None:
        super().__init__()
        if (map_channels, global_values) != (CHANNELS, len(GLOBALS)):
            raise ValueError(
                f"these weights know {map_channels} maps and {global_values} values; this version draws "
                f"{CHANNELS} and {len(GLOBALS)}"
            )
        e8, e16 = encoder_channels
        d16, d8, d4 = decoder_channels
        self.encoder = nn.Sequential(
            nn.Conv2d(map_channels + global_values, e8, 4, stride=2, padding=1),
            *(ResidualBlock(e8) for _ in range(encoder_blocks[0])),
            nn.Conv2d(e8, e16, 4, stride=2, padding=1),
            *(ResidualBlock(e16) for _ in range(encoder_blocks[1])),
            nn.Conv2d(e16, latent_channels, 3, padding=1),
        )
        self.stage16 = nn.Sequential(
            nn.Conv2d(latent_channels, d16, 3, padding=1), *(ResidualBlock(d16) for _ in range(decoder_blocks[0]))
        )
        self.grow16 = nn.Sequential(nn.Conv2d(d16, d8 * 4, 1), nn.PixelShuffle(2))
        self.global_head = nn.Linear(d16, global_values)
        self.skip8 = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * map_channels, d8, 1))
        self.stage8 = nn.Sequential(
            *(ResidualBlock(d8) for _ in range(decoder_blocks[1])), nn.Conv2d(d8, d4 * 4, 1), nn.PixelShuffle(2)
        )
        self.skip4 = nn.Conv2d(map_channels, d4, 3, padding=1)
        self.stage4 = nn.Sequential(
            *(ResidualBlock(d4) for _ in range(decoder_blocks[2])), nn.SiLU(), nn.Conv2d(d4, map_channels, 3, padding=1)
        )

    def encode_marks(self, maps: Tensor, values: Tensor) -> Tensor:
        """(B, CHANNELS, h, w) and (B, len(GLOBALS)) in [0, 1] -> latents (B, C, h/4, w/4), unscaled."""
        planes = values[:, :, None, None].expand(-1, -1, *maps.shape[2:])
        return self.encoder(2 * torch.cat([maps, planes], 1) - 1)

    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderTinyOutput | tuple[Tensor]:
        """(B, 3, H, W) photos in [-1, 1] -> latents (B, C, H/16, W/16), unscaled. H and W are multiples of 16."""
        maps = read_photo(x).to(x.dtype)
        values = maps.new_zeros(len(x), self.config.global_values)
        latents = self.encode_marks(maps, values)
        return AutoencoderTinyOutput(latents=latents) if return_dict else (latents,)

    def decode_marks(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Unscaled latents -> logits of the maps (B, CHANNELS, 4h, 4w) and of the values (B, len(GLOBALS))."""
        x = self.stage16(z)
        values = self.global_head(x.mean((2, 3)))
        x = self.grow16(x)
        photo_maps = None if self.source is None else 2 * read_photo(self.source, self._shown_guides()).to(z.dtype) - 1
        if photo_maps is not None:
            x = x + self.source_level * self.skip8(photo_maps)
        x = self.stage8(x)
        if photo_maps is not None:
            x = x + self.source_level * self.skip4(photo_maps)
        return self.stage4(x), values

    def _shown_guides(self) -> Tensor | None:
        """The guides, as much stronger as the level makes the photo's features weaker: a bold eye lies where a fine one does."""
        if self.guides is None:
            return None
        return self.guides / torch.as_tensor(self.source_level, device=self.guides.device).clamp(min=FADING_GUIDES)

    def decode(
        self, z: Tensor, generator: torch.Generator | None = None, return_dict: bool = True
    ) -> DecoderOutput | tuple[Tensor]:
        """Latents (B, C, h, w), unscaled -> pictures (B, 3, size, size) in [-1, 1], drawn on the CPU."""
        size = self.size or 16 * z.shape[-1]
        seeds = [0] * len(z) if self.seeds is None else self.seeds
        pictures = [
            draw(marks, size, seed) for marks, seed in zip(marks_from(*self.decode_marks(z)), seeds, strict=True)
        ]
        sample = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(z) * 2 - 1
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    def forward(self, sample: Tensor) -> Tensor:
        return self.decode(self.encode(sample, return_dict=False)[0], return_dict=False)[0]
