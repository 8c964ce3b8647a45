"""A differentiable approximation of the rasterizer: its layers with every single mark replaced by its mean.

The identity loss uses it; the product does not.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from portrait.generate.families.mini.marks.layout import GLAZES, GLOBALS, SLICES


def from_afar(maps: Tensor, values: Tensor) -> Tensor:
    """(B, CHANNELS, h, w) and (B, len(GLOBALS)) in [0, 1] -> (B, 3, 2h, 2w) in [0, 1]."""

    def coarse(name: str) -> Tensor:
        return F.interpolate(maps[:, SLICES[name]], scale_factor=2, mode="bilinear")

    def value(name: str) -> Tensor:
        return values[:, GLOBALS.index(name)].view(-1, 1, 1, 1)

    def use(layer: str) -> Tensor:
        return (12 * (value(f"use_{layer}") - 0.5)).sigmoid()

    def color(name: str) -> Tensor:
        start = GLOBALS.index(f"{name}_r")
        return values[:, start : start + 3].view(-1, 3, 1, 1)

    picture = coarse("paper")
    facet = use("facet") * (20 * (coarse("facet") - 0.5)).sigmoid()
    painted = 1 - (1 - use("stroke") * coarse("stroke")).prod(1, keepdim=True) * (1 - facet)
    picture = picture + painted * (coarse("color") - picture)
    outlines = F.pixel_shuffle(maps[:, SLICES["shape"]], 2)
    glazes = coarse("glaze")
    transparent = (12 * (value("multiply") - 0.5)).sigmoid()
    for k in range(GLAZES):
        coverage = use("shape") * (16 * (outlines[:, k : k + 1] - 0.5)).sigmoid()
        tint = glazes[:, 3 * k : 3 * k + 3].clamp(0.02, 1)
        glazed = picture * tint.pow(coverage)
        covered = picture + coverage * (tint - picture)
        picture = transparent * glazed + (1 - transparent) * covered
    hatched = 1 - (1 - 0.5 * use("hatch") * coarse("hatch")).prod(1, keepdim=True)
    cut = use("groove") * (8 * (coarse("groove") - 0.5)).sigmoid()
    grain = use("grain") * coarse("grain") * value("grain_dark")
    for darkness in (0.9 * grain, hatched, cut):
        picture = picture + darkness * (color("ink") - picture)
    dots = 1.1 * use("dot") * coarse("dot") * (0.2 + 0.8 * value("dot_dark"))
    picture = picture + dots.clamp(max=1) * (coarse("dot_color") - picture)
    line = (14 * (F.pixel_shuffle(maps[:, SLICES["line"]], 2) - 0.38)).sigmoid() * value("line_dark") * use("line")
    picture = picture + line * (color("ink") - picture)
    light = use("light") * (12 * (coarse("light") - 0.5)).sigmoid()
    return (picture + 0.9 * light * (color("light") - picture)).clamp(0, 1)
