"""Turn a framed photo and a prompt into arrays and tensors, in the same way for every family."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from portrait.records import RgbImage

if TYPE_CHECKING:
    import torch

MAX_PROMPTS = 64
"""How many encoded prompts are cached."""
T = TypeVar("T")


def at_side(image: RgbImage, side: int) -> RgbImage:
    """Resize a square picture; it is returned as it is if it already has that side."""
    if image.shape[0] == side:
        return image
    return RgbImage(np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), np.uint8))


def as_planes(image: RgbImage) -> NDArray[np.float32]:
    """(S, S, 3) uint8 -> (1, 3, S, S) float32 in [-1, 1]."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32) / np.float32(127.5) - 1


def as_batch(image: RgbImage, device: torch.device) -> torch.Tensor:
    """`as_planes` as a tensor on the device, channels last."""
    import torch

    return torch.from_numpy(as_planes(image)).to(device).contiguous(memory_format=torch.channels_last)


class Cache(Generic[T]):
    """Caches the latest results, such as encoded prompts: all people in a style share them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._results: dict[Hashable, T] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the cached result for a key, or call `make`."""
        try:
            return self._results[key]
        except KeyError:
            result = make()
        if len(self._results) >= self._size:
            self._results.pop(next(iter(self._results), None), None)
        self._results[key] = result
        return result

    def __len__(self) -> int:
        return len(self._results)

    def clear(self) -> None:
        """Forget all results."""
        self._results.clear()
