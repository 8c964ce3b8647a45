"""The tokenizer of `mini`: CLIP's, without importing transformers, which takes longer than drawing a portrait."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from pydantic import BaseModel
from tokenizers import Tokenizer


class _Config(BaseModel, frozen=True):
    """What is read of tokenizer_config.json."""

    model_max_length: int
    pad_token: str


class PromptTokenizer:
    """Turns texts into tokens, called like transformers' tokenizers.

    Args:
        folder: Holds tokenizer.json and tokenizer_config.json.

    Raises:
        Exception: the files cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = _Config.model_validate_json((folder / "tokenizer_config.json").read_bytes())
        self.model_max_length = config.model_max_length
        padding = self._tokenizer.token_to_id(config.pad_token)
        if padding is None:
            raise ValueError(f"the tokenizer has no {config.pad_token!r}, with which it pads")
        self._padding = padding

    def __call__(self, text: str) -> SimpleNamespace:
        """`input_ids` of the whole text."""
        return SimpleNamespace(input_ids=self._tokenizer.encode(text).ids)

    def fitted(self, text: str) -> list[int]:
        """Exactly as many tokens as the encoder reads; a text that is too long is cut before its end token."""
        tokens, length = self(text).input_ids, self.model_max_length
        if len(tokens) > length:
            return [*tokens[: length - 1], tokens[-1]]
        return [*tokens, *[self._padding] * (length - len(tokens))]
