"""Find the parts of a prompt beyond its encoders' token limits, which diffusers cuts off silently."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def cut_words(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The end of a text that its encoder does not read, from the first word that is cut; empty if it reads everything."""

    def tokens(end: int) -> int:
        return len(tokenizer(text[:end]).input_ids)

    if tokens(len(text)) <= tokenizer.model_max_length:
        return ""
    ends = [0, *(word.end() for word in re.finditer(r"\S+", text))]
    return text[ends[bisect_right(ends, tokenizer.model_max_length, key=tokens) - 1] :].strip()


def prompt_warnings(tokenizers: Sequence[PreTrainedTokenizerBase], prompt: str, negative_prompt: str) -> list[str]:
    """A sentence for each text that is too long for some encoder, quoting the words that are lost."""
    warnings = []
    for name, text in (("prompt", prompt), ("negative prompt", negative_prompt)):
        lost = [cut_words(tokenizer, text) for tokenizer in tokenizers]
        longest = max(lost, key=len)
        if longest:
            limit = tokenizers[lost.index(longest)].model_max_length
            who = "the model" if all(lost) else f"text encoder {lost.index(longest) + 1} of {len(lost)}"
            warnings.append(f'the {name} is longer than the {limit} tokens that {who} reads; not used: "{longest}"')
    return warnings
