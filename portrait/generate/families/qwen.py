"""Qwen3 as a text encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2TokenizerFast, Qwen3Config, Qwen3Model

from portrait.generate.families.text_encoder import TextEncoder

MAX_TOKENS = 512
"""Tokens of a prompt, including the chat template around it, as in diffusers."""


class QwenTextEncoder(TextEncoder):
    """Qwen3 and its tokenizer, up to the layers that a model reads.

    Args:
        folder: A diffusers folder with `text_encoder` and `tokenizer`.
        weights: The dtype of the weights.
        states: The hidden states that make up the prompt, in rising order, counted as in transformers; negative from the
            end.
        thinking: Whether the model was trained with a thinking block in the chat template.
        padded: Whether it was trained with prompts padded to `MAX_TOKENS`.

    Raises:
        ValueError: the text encoder has too few layers.
    """

    def __init__(
        self, folder: Path, weights: torch.dtype, *, states: tuple[int, ...], thinking: bool, padded: bool
    ) -> None:
        self._states, self._thinking, self._padded = states, thinking, padded
        network = _load_network(folder / "text_encoder", weights, states[-1])
        tokenizer = Qwen2TokenizerFast.from_pretrained(str(folder / "tokenizer"), local_files_only=True)
        super().__init__(network, tokenizer)
        tokenizer.model_max_length = MAX_TOKENS - len(tokenizer(self._conversation("")).input_ids)

    @property
    def width(self) -> int:
        """The number of values per token of a prompt."""
        return len(self._states) * super().width

    def read(self, prompt: str) -> Tensor:
        """The encoded prompt, (1, T, `width`). The last ones are cached on the CPU: 64 of them take half a GiB."""
        return self._prompts.get((prompt, ""), lambda: (self.encode(prompt).cpu(),))[0]

    def encode(self, prompt: str) -> Tensor:
        """Encode a prompt that is not cached, (1, T, `width`)."""
        padding = "max_length" if self._padded else False
        tokens = self.tokenizer(
            self._conversation(prompt), return_tensors="pt", padding=padding, truncation=True, max_length=MAX_TOKENS
        )
        with self._on_device():
            hidden = self.network(**tokens.to(self._device), output_hidden_states=True, use_cache=False).hidden_states
            return torch.cat([hidden[i] for i in self._states], -1)

    def _conversation(self, prompt: str) -> str:
        """The chat template around a prompt, as in the model's training."""
        text: str = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=self._thinking,
        )
        return text


def _load_network(folder: Path, weights: torch.dtype, last: int) -> Any:
    """Load Qwen3 up to the last hidden state that is read, `last`."""
    config = Qwen3Config.from_pretrained(str(folder), local_files_only=True)
    needed = last + 1 if last >= 0 else -last - 1  # the last layer's output is normalized, so it is never read
    if config.num_hidden_layers < needed:
        raise ValueError(f"its text encoder has {config.num_hidden_layers} layers; {needed} are needed")
    if last >= 0:
        config.num_hidden_layers = needed
        if config.layer_types is not None:
            config.layer_types = config.layer_types[:needed]
    network = Qwen3Model.from_pretrained(
        str(folder), config=config, local_files_only=True, dtype=weights, use_safetensors=True
    )
    return network.eval().requires_grad_(False)
