"""The matte network: `matte.py` trains it, `graphs.py` writes it as the graph that `portrait.generate.matte` runs."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (16, 24, 48, 80, 124)
"""Channels at 1/2, 1/4, ... 1/32 of the picture's side."""


class _Unit(nn.Sequential):
    """Convolution, batch norm, hard swish."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.Hardswish(),
        )


class _Block(nn.Module):
    """Inverted residual (MobileNetV2): widen, 5 x 5 depthwise, narrow, add."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(_Unit(width, 2 * width, 1), _Unit(2 * width, 2 * width, 5, groups=2 * width))
        self.outer = nn.Sequential(nn.Conv2d(2 * width, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = x + self.outer(self.inner(x))
        return added


class _Scene(nn.Module):
    """Global context: mean and maximum of each channel over the whole picture, through a gate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(2 * width, width // 2), nn.Hardswish(), nn.Linear(width // 2, width))

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)
        gated: Tensor = x * torch.sigmoid(self.gate(pooled))[:, :, None, None]
        return gated


class MatteNet(nn.Module):
    """A small U-Net: (B, 3, H, W) RGB in [0, 1], sides multiples of 32 -> (B, 1, H, W) logits of the matte."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_Unit(3, WIDTHS[0], 3, 2), _Unit(WIDTHS[0], WIDTHS[0], 3))
        pairs = list(pairwise(WIDTHS))
        self.down = nn.ModuleList(
            nn.Sequential(_Unit(narrow, wide, 3, 2), *(_Block(wide) for _ in range(1 + (wide > 32))))
            for narrow, wide in pairs
        )
        self.scene = _Scene(WIDTHS[-1])
        self.narrow = nn.ModuleList(_Unit(wide, narrow, 1) for narrow, wide in pairs)
        self.up = nn.ModuleList(
            _Block(narrow) if narrow > WIDTHS[0] else _Unit(narrow, narrow, 3) for narrow, _ in pairs
        )
        self.out = nn.Sequential(_Unit(WIDTHS[0] + 3, WIDTHS[0], 3), nn.Conv2d(WIDTHS[0], 1, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        image = 2 * image - 1
        levels = [self.stem(image)]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = self.scene(levels.pop())
        for narrow, up, level in zip(reversed(self.narrow), reversed(self.up), reversed(levels), strict=True):
            x = up(level + _doubled(narrow(x)))
        logits: Tensor = self.out(torch.cat([_doubled(x), image], 1))
        return logits


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
