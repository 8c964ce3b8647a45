"""Turn a framed photo and a prompt into tensors, in the same way for every family."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

from portrait.records import RgbImage

MAX_PROMPTS = 64
"""How many encoded prompts are cached."""


def at_side(image: RgbImage, side: int) -> RgbImage:
    """Resize a square picture; it is returned as it is if it already has that side."""
    if image.shape[0] == side:
        return image
    return RgbImage(np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), np.uint8))


def as_batch(image: RgbImage, device: torch.device) -> Tensor:
    """(S, S, 3) uint8 -> (1, 3, S, S) float32 in [-1, 1], channels last, on the device."""
    picture = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    return picture.to(device).contiguous(memory_format=torch.channels_last)


class PromptCache:
    """Caches the latest encoded prompts, because all people in a style share them."""

    def __init__(self) -> None:
        self._encoded: dict[tuple[str, str], tuple[Tensor, ...]] = {}

    def get(self, key: tuple[str, str], encode: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Return the cached encoding of a prompt and its negative prompt, or call `encode`."""
        if key not in self._encoded:
            if len(self._encoded) >= MAX_PROMPTS:
                self._encoded.pop(next(iter(self._encoded)))
            self._encoded[key] = encode()
        return self._encoded[key]
