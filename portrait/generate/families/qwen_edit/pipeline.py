"""diffusers' pipeline of Qwen-Image-Edit as img2img, with pictures that are encoded beforehand and weighed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers import QwenImageEditPlusPipeline
from diffusers.models.transformers.transformer_qwenimage import QwenDoubleStreamAttnProcessor2_0, apply_rotary_emb_qwen
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inputs:
    """What the pipeline draws from.

    `photo` are normalized latents, (1, C, 1, h, w), from which denoising starts at the `level` of noise in (0, 1];
    `pictures` those of the pictures that it sees; `bias` is that of `attention_bias`.
    """

    photo: Tensor
    level: float
    pictures: tuple[Tensor, ...]
    bias: Tensor | None


class EditPipeline(QwenImageEditPlusPipeline):
    """The pipeline, which takes its pictures from `inputs`, and starts from the photo instead of from noise alone."""

    _optional_components: ClassVar = ["text_encoder", "tokenizer", "processor"]
    inputs: Inputs

    def prepare_latents(
        self, images: object, batch_size: int, num_channels_latents: int, height: int, width: int, *more: Any
    ) -> tuple[Tensor, Tensor]:
        pictures, photo, level = list(self.inputs.pictures), self.inputs.photo, self.inputs.level
        noise: Tensor
        condition: Tensor
        noise, condition = super().prepare_latents(pictures, batch_size, num_channels_latents, height, width, *more)
        if level < 1:
            start = self._pack_latents(photo.to(noise), 1, num_channels_latents, *photo.shape[-2:])
            noise = level * noise + (1 - level) * start
        return noise, condition


class WeighedAttention(QwenDoubleStreamAttnProcessor2_0):  # type: ignore[misc,unused-ignore]
    """diffusers' attention, with a `bias` of the attention to each token; None for none."""

    bias: Tensor | None = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
    ) -> tuple[Tensor, Tensor]:
        """(B, L, D) of the picture, (B, T, D) of the text -> the same."""
        picture, text = hidden_states, encoder_hidden_states
        if self.bias is None:
            drawn: tuple[Tensor, Tensor] = super().__call__(
                attn, picture, text, encoder_hidden_states_mask, attention_mask, image_rotary_emb
            )
            return drawn
        of_picture, of_text = image_rotary_emb

        def joined(words: Tensor, pixels: Tensor) -> Tensor:
            return torch.cat([words, pixels], 1).transpose(1, 2)

        def turned(values: Tensor, norm: Any, angles: Tensor) -> Tensor:
            out: Tensor = apply_rotary_emb_qwen(norm(values.unflatten(-1, (attn.heads, -1))), angles, use_real=False)
            return out

        query = joined(
            turned(attn.add_q_proj(text), attn.norm_added_q, of_text),
            turned(attn.to_q(picture), attn.norm_q, of_picture),
        )
        key = joined(
            turned(attn.add_k_proj(text), attn.norm_added_k, of_text),
            turned(attn.to_k(picture), attn.norm_k, of_picture),
        )
        value = (
            torch.cat([attn.add_v_proj(text), attn.to_v(picture)], 1).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=self.bias).transpose(1, 2).flatten(2)
        length = text.shape[1]
        return attn.to_out[0](attended[:, length:].contiguous()), attn.to_add_out(attended[:, :length].contiguous())


@contextmanager
def drawing_from(pipe: EditPipeline, inputs: Inputs) -> Iterator[None]:
    """Within the block, the pipeline draws from these inputs."""
    attention = next(iter(pipe.transformer.attn_processors.values()))  # one for all layers
    pipe.inputs, attention.bias = inputs, inputs.bias
    try:
        yield
    finally:
        del pipe.inputs
        attention.bias = None
