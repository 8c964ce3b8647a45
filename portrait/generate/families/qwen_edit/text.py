"""Qwen2.5-VL as a text encoder: it reads the instruction, and sees the pictures that the instruction is about."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import CONDITION_IMAGE_SIZE
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLModel

from portrait.generate.families.loading import read_shards
from portrait.generate.families.text_encoder import TextEncoder
from portrait.generate.prompts import cut_words
from portrait.images import pixels_sha256
from portrait.records import RgbImage

MAX_TOKENS = 1024
"""Tokens of an instruction, diffusers' limit for this model."""
_PICTURE = "Picture {}: <|vision_start|>{}<|vision_end|>"
"""How the model is told of a picture, as in diffusers."""
_MARK = "<|image_pad|>"
"""The token in whose places the vision network's output is put."""
_MEAN, _DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of the colors, as in CLIP and in the publisher's `preprocessor_config.json`."""


class PictureReader(TextEncoder):
    """Qwen2.5-VL without its output layer, and its tokenizer, from a diffusers folder with `text_encoder` and `processor`."""

    def __init__(self, folder: Path, weights: torch.dtype) -> None:
        file = folder / "processor" / "tokenizer.json"
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file), model_max_length=MAX_TOKENS)
        super().__init__(_load_network(folder / "text_encoder", weights), tokenizer)

    def read(self, prompt: str, pictures: Sequence[RgbImage]) -> Tensor:
        """The instruction as encoded beside square pictures, (1, T, `width`); the last ones are cached on the CPU."""
        key = prompt, " ".join(pixels_sha256(picture) for picture in pictures)
        return self._prompts.get(key, lambda: (self.encode(prompt, pictures).cpu(),))[0]

    def encode(self, prompt: str, pictures: Sequence[RgbImage]) -> Tensor:
        """Encode an instruction that is not cached, (1, T, `width`)."""
        about = self.network.config.vision_config
        patches = [self._patches(picture) for picture in pictures]
        marks = [_MARK * (len(each) // about.spatial_merge_size**2) for each in patches]
        shown = "".join(_PICTURE.format(number, mark) for number, mark in enumerate(marks, 1))
        read = prompt.removesuffix(cut_words(self.tokenizer, prompt))
        text = self._pipe.prompt_template_encode.format(shown + read)
        tokens = self.tokenizer(text, return_tensors="pt").input_ids
        grids = [(1, isqrt(len(each)), isqrt(len(each))) for each in patches]
        inputs = {
            "input_ids": tokens,
            "attention_mask": torch.ones_like(tokens),
            "position_ids": token_positions(tokens[0] == self.network.config.image_token_id)[:, None],
            "pixel_values": torch.cat(patches),
            "image_grid_thw": torch.tensor(grids),
        }
        with self._on_device():
            inputs = {name: value.to(self._device) for name, value in inputs.items()}
            hidden: Tensor = self.network(**inputs, use_cache=False).last_hidden_state
            return hidden[:, self._pipe.prompt_template_encode_start_idx :]

    def _patches(self, picture: RgbImage) -> Tensor:
        """A square picture in patches as the vision network takes them, (n, 3 * 2 * P * P); four in a row become one token."""
        about = self.network.config.vision_config
        patch, merge, frames = about.patch_size, about.spatial_merge_size, about.temporal_patch_size
        side = isqrt(CONDITION_IMAGE_SIZE)
        small = self._pipe.image_processor.resize(Image.fromarray(picture), side, side)
        blocks = round(side / (patch * merge))
        fitted = small.resize((blocks * patch * merge,) * 2, Image.Resampling.BICUBIC)
        pixels = (np.asarray(fitted) / 255 - _MEAN) / _DEVIATION
        parts = pixels.reshape(blocks, merge, patch, blocks, merge, patch, 3).transpose(0, 3, 1, 4, 6, 2, 5)
        repeated = np.repeat(parts[..., None, :, :], frames, -3)  # a picture is a video whose frames are alike
        return torch.from_numpy(repeated.reshape((blocks * merge) ** 2, -1)).float()


def token_positions(is_picture: Tensor) -> Tensor:
    """The positions of tokens in time, height and width, (3, T), as Qwen2.5-VL was trained.

    They are passed to the network, because diffusers does not pass what transformers needs to find them
    (huggingface/diffusers, issue 14194), and pictures would then be read as if they were text. `is_picture`, (T,), says which
    tokens belong to pictures; these are square, with text between them.
    """
    parts, start = [], 0
    for picture, run in groupby(is_picture.tolist()):
        count = len(list(run))
        if not picture:
            parts.append(torch.arange(count).expand(3, -1) + start)
            start += count
            continue
        side = isqrt(count)
        along = torch.arange(side)
        parts.append(torch.stack([torch.zeros(count), along.repeat_interleave(side), along.repeat(side)]) + start)
        start += side
    return torch.cat(parts, 1).long()


def _load_network(folder: Path, weights: torch.dtype) -> Any:
    """Raises ValueError if tensors are missing, which transformers would only replace with random numbers."""
    config = Qwen2_5_VLConfig.from_pretrained(str(folder), local_files_only=True)
    network, about = Qwen2_5_VLModel.from_pretrained(
        None, config=config, state_dict=read_shards(folder), dtype=weights, output_loading_info=True
    )
    if missing := sorted(about["missing_keys"]):
        raise ValueError(f"its text encoder lacks {len(missing)} tensors, such as {missing[0]}")
    return network.eval().requires_grad_(False)
