"""The description of a picture made of marks: maps at a quarter of the picture's side, and global values.

All values lie in [0, 1]. Maps that need more than a quarter of the resolution have 2 x 2 pixels per cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CELL = 4
"""Pixels per cell of the maps at 512 px."""

FULL_SIZE = 512
"""The side at which the rasterizer's unit of length is one pixel."""

GLAZES = 4

FINE_MAPS = {"shape": GLAZES, "line": 1}
"""Maps with 2 x 2 pixels per cell: the outlines of the glazes, and ink lines."""

COARSE_MAPS = {
    "paper": 3,  # RGB of the sheet, or whatever else is behind everything
    "glaze": 3 * GLAZES,  # RGB of each glaze
    "color": 3,  # RGB that strokes and facets sample at their center
    "direction": 2,  # 0.5 + 0.5 (cos 2a, sin 2a) of the form's direction a
    "stroke": 3,  # share of the places that have a large, medium, small brush stroke
    "facet": 1,  # coverage of flat facets
    "hatch": 4,  # darkness of hatching in four directions
    "groove": 1,  # darkness of cuts along the form
    "grain": 1,  # darkness of a dry medium, broken by the sheet's grain
    "dot": 1,  # size of dots, as the share of the sheet that they cover
    "dot_color": 3,
    "light": 1,  # coverage of white chalk, or of gouache
    "detail": 1,  # 1: the finest marks; 0: the boldest
}

LAYERS = ("shape", "facet", "stroke", "grain", "hatch", "groove", "dot", "line", "light")
"""The layers of a picture; each medium uses a few of them. The rasterizer says which lies on which."""

GLOBALS = (
    *(f"use_{layer}" for layer in LAYERS),  # 1: the medium uses this layer, 0: ignore the layer's maps
    "soft",  # width of a glaze's edge
    "wobble",  # how far its edge wanders
    "wet",  # darkening along the edge
    "multiply",  # 1: glazes are transparent, 0: opaque
    "pigment",  # granulation
    "shift",  # misregistration of the glazes
    "bristle",  # streaks within a brush stroke
    "relief",  # thickness of paint, lit from the upper left
    "dry",  # how far the sheet's grain breaks a stroke
    "length",  # of strokes, over their width
    "width",  # of strokes, of a brush or of charcoal
    "hatch_period",
    "hatch_dark",
    "groove_period",
    "dot_pitch",
    "dot_jitter",
    "dot_dark",
    "line_dark",
    "line_rough",  # how far the sheet's grain breaks lines
    "tooth",  # visible grain of the sheet
    "facet_size",
    "splash",
    "grain_dark",
    "grain_stroke",  # 0: the grain is the sheet's alone; 1: it comes in strokes
    "ink_r",
    "ink_g",
    "ink_b",
    "light_r",
    "light_g",
    "light_b",
    "cel",  # 1: the colors of the glazes come in a few flat areas with crisp borders
)


COVERAGES = ("line", "stroke", "facet", "hatch", "groove", "grain", "dot", "light")
"""Maps that say how much of a mark there is; a network's faint haze in them does not count."""

AREA_COLORS = ("paper", "glaze", "dot_color")
"""Maps of colors bounded by outlines: each is flat or changes slowly."""

RIPPLE = 0.08
"""Colors that differ by less than this are treated as the same."""

NEGLIGIBLE = 0.02
"""A layer is empty if no cell reaches this."""

HAZE = (0.05, 0.14)
"""Coverage below the first is zero; above the second it is taken as it is."""


def _slices() -> dict[str, slice]:
    table: dict[str, slice] = {}
    start = 0
    for name, channels in FINE_MAPS.items():
        table[name] = slice(start, start + 4 * channels)
        start += 4 * channels
    for name, channels in COARSE_MAPS.items():
        table[name] = slice(start, start + channels)
        start += channels
    return table


SLICES = _slices()
"""The channels of each map."""

CHANNELS = max(s.stop for s in SLICES.values())

PHOTO_MAPS = ("shape", "line", "paper", "color", "direction")
"""The maps that a photo is read as."""

GUIDE_MAPS = tuple(name for name in SLICES if name not in PHOTO_MAPS)
"""The other maps: where a photo is shown, they have room for guides."""

GUIDES = ("lids", "eyes", "irises", "brows", "lips", "lines", "face")
"""Planes with 2 x 2 pixels per cell that show a decoder where the features of the face lie; they fill `GUIDE_MAPS`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Marks:
    """One picture as marks.

    Attributes:
        maps: (CHANNELS, h, w) float32 in [0, 1], in the order of `SLICES`.
        values: (len(GLOBALS),) float32 in [0, 1].
    """

    maps: NDArray[np.float32]
    values: NDArray[np.float32]

    def planes(self, name: str) -> NDArray[np.float32]:
        """A map, (channels, h, w), fine ones at twice the resolution."""
        channels = self.maps[SLICES[name]]
        if name not in FINE_MAPS:
            return channels
        quads, height, width = channels.shape
        pixels = channels.reshape(quads // 4, 2, 2, height, width)
        return pixels.transpose(0, 3, 1, 4, 2).reshape(quads // 4, 2 * height, 2 * width)

    def value(self, name: str) -> float:
        return float(self.values[GLOBALS.index(name)])

    def rgb(self, name: str) -> NDArray[np.float32]:
        """The global color `ink` or `light`, (3,)."""
        start = GLOBALS.index(f"{name}_r")
        return self.values[start : start + 3]


def without_haze(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """The maps, (CHANNELS, h, w), with faint coverage set to zero."""
    low, high = HAZE
    clean = maps.copy()
    for name in COVERAGES:
        channels = maps[SLICES[name]]
        clean[SLICES[name]] = channels * np.clip((channels - low) / (high - low), 0, 1)
    return clean


def with_calm_colors(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """The maps, (CHANNELS, h, w), with nearly flat colors made flat: a network's colors ripple with the grid of its latents.

    Outlines stay crisp, as they are separate maps; a step in a color, as in a divided background, stays too.
    """
    import cv2

    calm = maps.copy()
    for name in AREA_COLORS:
        for start in range(SLICES[name].start, SLICES[name].stop, 3):
            color = np.ascontiguousarray(np.moveaxis(maps[start : start + 3], 0, -1), np.float32)
            calm[start : start + 3] = np.moveaxis(cv2.bilateralFilter(color, 9, RIPPLE, 4), -1, 0)
    return calm


def to_draw(maps: NDArray[np.float32], values: NDArray[np.float32]) -> Marks:
    """The marks to draw of a decoder's maps and values, both in [0, 1]."""
    return Marks(maps=with_calm_colors(without_haze(maps)), values=values)


def pack(maps: dict[str, NDArray[np.float32]], values: dict[str, float], cells: int) -> Marks:
    """Build marks from maps at any resolution and named values; missing ones are 0.

    A layer is used if its map is given and not empty.

    Args:
        maps: (H, W) or (channels, H, W) in [0, 1]; shrunk by averaging to `cells` (fine maps to twice that).
        values: Global values by their names in `GLOBALS`.
        cells: Side of the resulting maps.

    Raises:
        KeyError: an unknown name.
    """
    import cv2

    stack = np.zeros((CHANNELS, cells, cells), np.float32)
    for name, values_of_map in maps.items():
        planes = values_of_map[None] if values_of_map.ndim == 2 else values_of_map
        side = 2 * cells if name in FINE_MAPS else cells
        small = [
            cv2.resize(np.ascontiguousarray(p, np.float32), (side, side), interpolation=cv2.INTER_AREA) for p in planes
        ]
        block = np.stack(small)
        if name in FINE_MAPS:
            count = len(block)
            block = block.reshape(count, cells, 2, cells, 2).transpose(0, 2, 4, 1, 3).reshape(4 * count, cells, cells)
        stack[SLICES[name]][: len(block)] = block
    vector = np.zeros(len(GLOBALS), np.float32)
    for layer in LAYERS:
        vector[GLOBALS.index(f"use_{layer}")] = float(stack[SLICES[layer]].max() > NEGLIGIBLE)
    for name, value in values.items():
        vector[GLOBALS.index(name)] = value
    return Marks(maps=np.clip(stack, 0, 1), values=np.clip(vector, 0, 1))
