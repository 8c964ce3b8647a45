"""Named palettes of every style. Prompts name them ("pop art portrait, turquoise"); without a name the seed chooses.

Colors are given dark to light where a style prints in flat inks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PALETTES: dict[str, dict[str, tuple[str, ...]]] = {
    # dark, strong, middle, light, background
    "popart": {
        "pink": ("#2b1055", "#e5287b", "#ffb02e", "#fff3d6", "#19c3d6"),
        "turquoise": ("#10263f", "#008e9b", "#ff8066", "#fff1c9", "#ffd23f"),
        "orange": ("#3a0ca3", "#f72585", "#ff9e00", "#fff8e8", "#4cc9f0"),
        "lime": ("#1b2a41", "#d7263d", "#f4d35e", "#fbffe9", "#7ac943"),
    },
    # dark, strong, middle, light
    "poster": {
        "red": ("#0d2d4b", "#c7222a", "#71a3ad", "#fae6b5"),
        "teal": ("#12263a", "#1b7f79", "#f2a65a", "#f7ebd3"),
        "violet": ("#22223b", "#6d4c8d", "#e29578", "#f8edeb"),
    },
    # background, tint of the shadows
    "comic": {
        "blue": ("#3fa7d6", "#5b5ea6"),
        "yellow": ("#f9c22e", "#8a4f9e"),
        "red": ("#ee6352", "#8c3b4a"),
        "green": ("#59cd90", "#2f6f73"),
    },
    # ink, sheet
    "woodcut": {
        "black": ("#15171c", "#f3ead6"),
        "blue": ("#13294b", "#f1ead9"),
        "brown": ("#4a2318", "#f4e7cf"),
    },
    "sketch": {
        "black": ("#212126", "#fbfaf6"),
        "sepia": ("#4b2e1e", "#f8f1e2"),
    },
    "stipple": {
        "black": ("#17161a", "#fcfbf7"),
        "blue": ("#1b2f5b", "#faf8f1"),
    },
    # sheet
    "charcoal": {
        "gray": ("#cfc8ba",),
        "sand": ("#d3bf9f",),
        "blue": ("#b9c3c9",),
    },
    "pastel": {
        "rose": ("#b9857d",),
        "blue": ("#7d8da6",),
        "sand": ("#b59e7c",),
    },
    # wash behind, tint of the shadows
    "watercolor": {
        "warm": ("#e8b27a", "#a0522d"),
        "cool": ("#9cc3de", "#3f5d8c"),
        "violet": ("#c9aee0", "#6b4a8e"),
        "green": ("#b5d3a0", "#4d6b4a"),
    },
    # ground, tint of the shadows
    "oil": {
        "umber": ("#5a4636", "#5b3a29"),
        "teal": ("#33525a", "#2b4a5e"),
        "ochre": ("#7a6236", "#6b4a2a"),
        "wine": ("#5b3038", "#4f2a44"),
    },
    # background
    "lowpoly": {
        "blue": ("#9fb8d4",),
        "sand": ("#d9c3a5",),
        "rose": ("#dcb0ad",),
    },
    # glow, room
    "cinematic": {
        "amber": ("#c98a3c", "#0f2a30"),
        "blue": ("#4f86b8", "#141a2b"),
        "red": ("#b4483a", "#1d1418"),
    },
}


def rgb(code: str) -> NDArray[np.float32]:
    """(3,) float32 in [0, 1] of a "#rrggbb"."""
    return np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)], np.float32) / np.float32(255)


def palette(style: str, name: str) -> list[NDArray[np.float32]]:
    return [rgb(code) for code in PALETTES[style][name]]
