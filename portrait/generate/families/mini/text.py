"""The text encoder of `mini`: CLIP's text transformer and tokenizer, read from the files that transformers writes.

It computes what `transformers.CLIPTextModel` computes, bit for bit (tests/test_speed.py), without importing transformers,
which takes longer than drawing a portrait.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F


class PromptTokenizer:
    """Turns texts into tokens, called like transformers' tokenizers.

    Args:
        folder: Holds tokenizer.json and tokenizer_config.json.
        length: Number of tokens that the encoder reads.
    """

    def __init__(self, folder: Path, length: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        about = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
        padding = self._tokenizer.token_to_id(about["pad_token"])
        if padding is None:
            raise ValueError(f"the tokenizer has no {about['pad_token']!r}, with which it pads")
        self._padding = padding
        self.model_max_length = length

    def __call__(self, text: str) -> SimpleNamespace:
        """`input_ids` of the whole text."""
        return SimpleNamespace(input_ids=self._tokenizer.encode(text).ids)

    def fitted(self, text: str) -> list[int]:
        """Exactly as many tokens as the encoder reads; a text that is too long is cut before its end token."""
        tokens, length = self(text).input_ids, self.model_max_length
        if len(tokens) > length:
            return [*tokens[: length - 1], tokens[-1]]
        return [*tokens, *[self._padding] * (length - len(tokens))]


class TextLayer(nn.Module):
    """Causal self-attention and a feed-forward network with CLIP's quick GELU, each behind a layer norm."""

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.layer_norm1 = nn.LayerNorm(width)
        self.layer_norm2 = nn.LayerNorm(width)
        self.self_attn = nn.ModuleDict({f"{name}_proj": nn.Linear(width, width) for name in ("q", "k", "v", "out")})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, inner), "fc2": nn.Linear(inner, width)})

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer_norm1(x)
        q, k, v = (self.self_attn[name](y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for name in _QKV)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.self_attn["out_proj"](y)
        y = self.mlp["fc1"](self.layer_norm2(x))
        return x + self.mlp["fc2"](y * torch.sigmoid(1.702 * y))


_QKV = ("q_proj", "k_proj", "v_proj")


class TextEncoder(nn.Module):
    """Encodes prompts.

    Args:
        folder: A diffusers folder with `text_encoder` (`CLIPTextModel`) and `tokenizer` (`tokenizer.json`).
        dtype: The dtype of the weights.

    Raises:
        ValueError: the files are of another kind of model.
        OSError, KeyError, RuntimeError: the files cannot be read, or do not belong together.
    """

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        about = json.loads((folder / "text_encoder" / "config.json").read_text("utf-8"))
        if (about["model_type"], about["hidden_act"]) != ("clip_text_model", "quick_gelu"):
            raise ValueError(f"a text encoder of the kind {about['model_type']} with {about['hidden_act']}")
        width, length = about["hidden_size"], about["max_position_embeddings"]
        self.token_embedding = nn.Embedding(about["vocab_size"], width)
        self.position_embedding = nn.Embedding(length, width)
        self.layers = nn.ModuleList(
            TextLayer(width, about["intermediate_size"], about["num_attention_heads"])
            for _ in range(about["num_hidden_layers"])
        )
        self.final_layer_norm = nn.LayerNorm(width, eps=about["layer_norm_eps"])
        state = load_file(folder / "text_encoder" / "model.safetensors")
        self.load_state_dict({_own_name(name): tensor.to(dtype) for name, tensor in state.items()}, assign=True)
        self.eval().requires_grad_(False)
        self.tokenizer = PromptTokenizer(folder / "tokenizer", length)

    def forward(self, text: str) -> Tensor:
        """The (1, T, D) hidden states of a text, which is cut after T tokens."""
        tokens = torch.tensor([self.tokenizer.fitted(text)], device=self.token_embedding.weight.device)
        x = self.token_embedding(tokens) + self.position_embedding.weight
        for layer in self.layers:
            x = layer(x)
        embedding: Tensor = self.final_layer_norm(x)
        return embedding


def _own_name(name: str) -> str:
    """A weight's name without the prefixes that transformers gives it; older files begin with `text_model.`."""
    for prefix in ("text_model.", "embeddings.", "encoder."):
        name = name.removeprefix(prefix)
    return name
