"""Qwen3 as a text encoder: it lies beside a pipeline, and where memory is scarce they take turns on the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2TokenizerFast, Qwen3Config, Qwen3Model

from portrait.generate import memory
from portrait.generate.inputs import PromptCache
from portrait.generate.prompts import prompt_warnings

MAX_TOKENS = 512
"""Of a prompt, with the words of a conversation around it, as in diffusers."""


class QwenTextEncoder:
    """Qwen3 and its tokenizer, as far as a model reads them.

    | tier | on the device |
    |---|---|
    | full | text encoder and pipeline |
    | offload | the pipeline; it makes room for the text encoder while a new prompt is read |
    | sequential | one layer at a time |

    Args:
        folder: A diffusers folder with `text_encoder` and `tokenizer`.
        weights: The type in which weights are kept.
        states: Which of the hidden states are the prompt, rising, counted as transformers does; negative from the end.
        thinking: Whether the model was trained with room for thoughts in the conversation around a prompt.
        padded: Whether it was trained with prompts that are filled up to `MAX_TOKENS`.

    Raises:
        ValueError: the text encoder has too few layers.
    """

    def __init__(
        self, folder: Path, weights: torch.dtype, *, states: tuple[int, ...], thinking: bool, padded: bool
    ) -> None:
        self._states, self._thinking, self._padded = states, thinking, padded
        self.network = _load_network(folder / "text_encoder", weights, states[-1])
        self.tokenizer = Qwen2TokenizerFast.from_pretrained(str(folder / "tokenizer"), local_files_only=True)
        self.tokenizer.model_max_length = MAX_TOKENS - len(self.tokenizer(self._conversation("")).input_ids)
        self._prompts = PromptCache()
        self._pipe: Any = None
        self._tier = "full"
        self._device = torch.device("cpu")

    @property
    def width(self) -> int:
        """How many numbers a token of a prompt is."""
        return len(self._states) * int(self.network.config.hidden_size)

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

    def read(self, prompt: str) -> Tensor:
        """(1, T, `width`), on the CPU: the last prompts are kept, and 64 of them are half a GiB."""
        return self._prompts.get((prompt, ""), lambda: (self.encode(prompt).cpu(),))[0]

    def encode(self, prompt: str) -> Tensor:
        """(1, T, `width`) of a prompt that is not kept."""
        padding = "max_length" if self._padded else False
        tokens = self.tokenizer(
            self._conversation(prompt), return_tensors="pt", padding=padding, truncation=True, max_length=MAX_TOKENS
        )
        with self._on_device():
            hidden = self.network(**tokens.to(self._device), output_hidden_states=True, use_cache=False).hidden_states
            return torch.cat([hidden[i] for i in self._states], -1)

    def warnings(self, prompt: str) -> list[str]:
        """A sentence if the prompt is too long, with the words that are lost."""
        return prompt_warnings([self.tokenizer], prompt, "")

    def _conversation(self, prompt: str) -> str:
        """The words around a prompt, as the model was trained with them."""
        text: str = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=self._thinking,
        )
        return text

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        """Within the block the text encoder is on the device, in the tier `offload` in the place of the pipeline."""
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


def _load_network(folder: Path, weights: torch.dtype, last: int) -> Any:
    """Qwen3 up to what is read of it; `last` is the last hidden state."""
    config = Qwen3Config.from_pretrained(str(folder), local_files_only=True)
    needed = last + 1 if last >= 0 else -last - 1  # the last one's output is normalized, so it is never read
    if config.num_hidden_layers < needed:
        raise ValueError(f"its text encoder has {config.num_hidden_layers} layers; {needed} are read")
    if last >= 0:
        config.num_hidden_layers = needed
        if config.layer_types is not None:
            config.layer_types = config.layer_types[:needed]
    network = Qwen3Model.from_pretrained(
        str(folder), config=config, local_files_only=True, dtype=weights, use_safetensors=True
    )
    return network.eval().requires_grad_(False)
