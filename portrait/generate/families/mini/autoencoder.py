"""The small f16 autoencoder of `mini`: 512 px become 32 x 32 x 32 latents, and back.

A strided linear transform carries the picture (it starts as the PCA of 16 x 16 patches), and residual
blocks that work at 1/4 to 1/16 of the size, where a CPU is fast, learn what is missing. The idea of a
non-parametric shortcut around the learned part is that of DC-AE (Chen et al. 2024, arXiv 2410.10733). Its way
back draws each patch over half of its neighbours, as lapped transforms do, so that no grid of patches shows.

32 numbers a patch are too few for an eyelash. So the decoder may look at the photo again, through skip
connections, and draws the latents' style with the photo's detail (img2img-turbo, Parmar et al. 2024,
arXiv 2403.12036). The skip is part of the structure that is held: it is scaled by the same knob.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from portrait.generate.families.mini.marks.autoencoder import ResidualBlock
from portrait.generate.networks import AutoencoderTinyOutput, ConfigMixin, DecoderOutput, InOnePlace, register_to_config

PATCH = 16


class PatchAutoencoder(InOnePlace, ConfigMixin):
    """Deterministic autoencoder with the interface of diffusers' `AutoencoderTiny`.

    Args:
        latent_channels: Channels of the latents at 1/16 of the picture's sides.
        encoder_channels: Widths at 1/8 and 1/16.
        decoder_channels: Widths at 1/16, 1/8 and 1/4.
        encoder_blocks: Residual blocks at 1/8 and 1/16.
        decoder_blocks: Residual blocks at 1/16, 1/8 and 1/4.
        scaling_factor: Latents times this have unit variance, as in every diffusers autoencoder.
    """

    source: Tensor | None = None
    """(B, 3, H, W) photos in [-1, 1] that `decode` looks at, or None."""
    source_level: Tensor | float = 1.0
    """What the skip's features are multiplied with, in [0, 1]."""

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 32,
        encoder_channels: tuple[int, int] = (96, 160),
        decoder_channels: tuple[int, int, int] = (224, 128, 48),
        encoder_blocks: tuple[int, int] = (1, 3),
        decoder_blocks: tuple[int, int, int] = (2, 3, 2),
        scaling_factor: float = 1.0,
        block_out_channels: tuple[int, ...] = (1, 1, 1, 1, 1),  # its length tells pipelines the factor, 2 ** 4
    ) -> None:
        super().__init__()
        e8, e16 = encoder_channels
        d16, d8, d4 = decoder_channels
        self.linear_encoder = nn.Conv2d(3, latent_channels, PATCH, stride=PATCH)
        self.linear_decoder = nn.ConvTranspose2d(latent_channels, 3, 2 * PATCH, stride=PATCH, padding=PATCH // 2)
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(8),
            nn.Conv2d(192, e8, 3, padding=1),
            *(ResidualBlock(e8) for _ in range(encoder_blocks[0])),
            nn.Conv2d(e8, e16, 3, stride=2, padding=1),
            *(ResidualBlock(e16) for _ in range(encoder_blocks[1])),
            nn.Conv2d(e16, latent_channels, 3, padding=1),
        )
        self.stage16 = nn.Sequential(
            nn.Conv2d(latent_channels, d16, 3, padding=1),
            *(ResidualBlock(d16) for _ in range(decoder_blocks[0])),
            nn.Conv2d(d16, d8 * 4, 1),
            nn.PixelShuffle(2),
        )
        self.skip8 = nn.Sequential(nn.PixelUnshuffle(8), nn.Conv2d(192, d8, 1))
        self.stage8 = nn.Sequential(
            *(ResidualBlock(d8) for _ in range(decoder_blocks[1])), nn.Conv2d(d8, d4 * 4, 1), nn.PixelShuffle(2)
        )
        self.skip4 = nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, d4, 3, padding=1))
        self.stage4 = nn.Sequential(
            *(ResidualBlock(d4) for _ in range(decoder_blocks[2])),
            nn.SiLU(),
            nn.Conv2d(d4, 48, 3, padding=1),
            nn.PixelShuffle(4),
        )

    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderTinyOutput | tuple[Tensor]:
        """(B, 3, H, W) in [-1, 1] -> latents (B, C, H/16, W/16), unscaled. H and W are multiples of 16."""
        latents = self.linear_encoder(x) + self.encoder(x)
        return AutoencoderTinyOutput(latents=latents) if return_dict else (latents,)

    def decode(
        self, z: Tensor, generator: torch.Generator | None = None, return_dict: bool = True
    ) -> DecoderOutput | tuple[Tensor]:
        """Latents (B, C, h, w), unscaled -> (B, 3, 16h, 16w), about [-1, 1]; looks at `source` if there is one."""
        x = self.stage16(z)
        if self.source is not None:
            x = x + self.source_level * self.skip8(self.source)
        x = self.stage8(x)
        if self.source is not None:
            x = x + self.source_level * self.skip4(self.source)
        sample = self.linear_decoder(z) + self.stage4(x)
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    def forward(self, sample: Tensor) -> Tensor:
        return self.decode(self.encode(sample, return_dict=False)[0], return_dict=False)[0]
