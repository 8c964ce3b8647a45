"""The face mesh network: `face_mesh.py` trains it, `graphs.py` writes the graph that `families/mini/face_mesh.py` runs."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from portrait.generate.families.mini.face_mesh import MESH_POINTS, SIDE
from portrait.generate.families.mini.marks.autoencoder import ResidualBlock

WIDTHS = (32, 48, 80, 96)
"""Channels at 1/2, 1/4, 1/8 and 1/16 of the crop's side."""
BLOCKS = (0, 2, 2, 1)
"""Residual blocks at each."""
NARROW, HIDDEN = 16, 96


class FaceMeshNet(nn.Module):
    """(B, 3, SIDE, SIDE) aligned faces in [-1, 1] -> (B, MESH_POINTS, 2) float32 points.

    They are relative to the middle of the crop, in units of the eyes' distance in an aligned face.
    """

    def __init__(self) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        for (fewer, more), count in zip(pairwise((3, *WIDTHS)), BLOCKS, strict=True):
            blocks = (ResidualBlock(more) for _ in range(count))
            stages += [nn.Conv2d(fewer, more, 3, stride=2, padding=1), *blocks, nn.SiLU()]
        self.features = nn.Sequential(*stages, nn.Conv2d(WIDTHS[-1], NARROW, 1))
        cells = (SIDE >> len(WIDTHS)) ** 2
        self.hidden = nn.Linear(NARROW * cells, HIDDEN)
        self.points = nn.Linear(HIDDEN, 2 * MESH_POINTS)
        nn.init.zeros_(self.points.weight)

    def forward(self, face: Tensor) -> Tensor:
        """Return the points."""
        features = self.features(face)
        with torch.autocast(face.device.type, enabled=False):  # bfloat16 would round them to half a pixel
            points: Tensor = self.points(nn.functional.silu(self.hidden(features.float().flatten(1))))
        return points.unflatten(1, (MESH_POINTS, 2))
