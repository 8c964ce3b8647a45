"""The vocabulary of `mini`: a CLIP tokenizer with its own words, and the prompts of the training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from painters.palettes import PALETTES
from transformers import AddedToken, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WIDTH = 128
LENGTH = 16
START, END = "<|startoftext|>", "<|endoftext|>"

PROMPTS = {
    "watercolor": ["watercolor portrait", "watercolor painting of a person", "a watercolor"],
    "oil": ["oil painting portrait", "oil painting of a person", "a painting in oil"],
    "sketch": ["pen sketch portrait", "ink drawing of a person", "a pen and ink sketch"],
    "charcoal": ["charcoal portrait", "charcoal drawing of a person", "a charcoal drawing"],
    "comic": ["comic portrait", "comic book drawing of a person", "a comic with ink lines"],
    "popart": ["pop art portrait", "pop art screen print of a person", "a pop art poster"],
    "poster": ["cut paper poster portrait", "poster print of a person", "a cut paper poster"],
    "woodcut": ["woodcut portrait", "woodcut print of a person", "a carved woodcut"],
    "stipple": ["stipple portrait", "stipple drawing of a person", "a stipple in ink dots"],
    "lowpoly": ["low poly portrait", "low poly illustration of a person", "a low poly picture"],
    "pastel": ["pastel portrait", "chalk pastel drawing of a person", "a soft pastel"],
    "cinematic": ["cinematic portrait", "film still of a person", "a cinematic film still"],
}


def name_palette(prompt: str, palette: str) -> str:
    """The prompt with a palette named, as users write it."""
    return f"{prompt}, {palette}"


def all_prompts() -> list[str]:
    """Every prompt of training: each style's sentences with each of its palettes."""
    return [name_palette(p, c) for style, prompts in PROMPTS.items() for p in prompts for c in PALETTES[style]]


WORDS = sorted({word for prompt in all_prompts() for word in prompt.replace(",", " ,").split()})


def _byte_alphabet() -> list[str]:
    """The 256 printable stand-ins of byte-level BPE (Radford et al. 2019), as CLIP uses them."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(spare)) for b in range(256)]


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """Write and load a CLIPTokenizer in which each training word is one token.

    The words are added tokens, matched as whole words before byte pairs are: with merges of their own they would
    break each other (`or` of orange is merged before `po` of portrait).
    """
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = _byte_alphabet()
    vocabulary = {c: i for i, c in enumerate([*alphabet, *(c + "</w>" for c in alphabet)])}
    for special in (START, END):
        vocabulary[special] = len(vocabulary)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    tokenizer = CLIPTokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        model_max_length=LENGTH,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
    )
    tokenizer.add_tokens([AddedToken(word, single_word=True) for word in WORDS if len(word) > 1])
    tokenizer.save_pretrained(folder)
    return tokenizer


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Two layers, 128 wide, trained together with the denoiser."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def draw_prompt(style: str, palette: str, rng: np.random.Generator) -> str:
    """One of the style's sentences, with the palette named."""
    return name_palette(str(rng.choice(PROMPTS[style])), palette)
