"""A text encoder beside a pipeline: if memory is scarce they take turns on the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from portrait.generate import memory
from portrait.generate.inputs import MAX_PROMPTS, Cache


class TextEncoder:
    """A network and its tokenizer, apart from the pipeline that takes what they encode.

    | tier | on the device |
    |---|---|
    | full | text encoder and pipeline |
    | offload | the pipeline; the text encoder replaces it while a new prompt is encoded |
    | sequential | one layer at a time |

    The tokenizer's `model_max_length` is how many tokens of a user's prompt are read.
    """

    def __init__(self, network: Any, tokenizer: Any) -> None:
        self.network, self.tokenizer = network, tokenizer
        self._prompts = Cache[tuple[torch.Tensor, ...]](MAX_PROMPTS)
        self._pipe: Any = None
        self._tier = "full"
        self._device = torch.device("cpu")

    @property
    def width(self) -> int:
        """The number of values per token of a prompt."""
        return int(self.network.config.get_text_config().hidden_size)

    def place(self, pipe: Any, tier: str, device: torch.device) -> None:
        """Put the text encoder and the pipeline on the device as the table above says."""
        if tier == self._tier == "sequential":
            return
        self._pipe, self._tier, self._device = pipe, tier, device
        if tier == "sequential":
            from accelerate import cpu_offload

            self.network.to("cpu")
            cpu_offload(self.network, device)
            memory.place(pipe, tier, device)
            return
        self.network.to(device if tier == "full" else "cpu")
        pipe.to(device)
        if tier == "offload":
            memory.save_vae_memory(pipe.vae, tiles=False)

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        """Within the block, the text encoder is on the device; in the tier `offload` it replaces the pipeline."""
        if self._tier != "offload":
            yield
            return
        self._pipe.to("cpu")
        self.network.to(self._device)
        try:
            yield
        finally:
            self.network.to("cpu")
            memory.release(self._device)
            self._pipe.to(self._device)
