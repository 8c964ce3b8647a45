"""Load Qwen-Image-Edit: transformer and autoencoder as a pipeline, and the text encoder beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler, QwenImageTransformer2DModel
from safetensors.torch import load_file
from torch import Tensor

from portrait.generate.families.loading import read_shards
from portrait.generate.families.qwen_edit.pipeline import EditPipeline, WeighedAttention
from portrait.recipes.recipe import Recipe

SHIFT = math.log(3)
"""How far the noise levels are shifted: the number with which Lightning was distilled, whatever the picture's size."""


def lightning_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """The scheduler with which Lightning's publisher runs it."""
    return FlowMatchEulerDiscreteScheduler(
        base_shift=SHIFT, max_shift=SHIFT, max_image_seq_len=8192, use_dynamic_shifting=True
    )


def load_pipeline(recipe: Recipe, weights: torch.dtype) -> EditPipeline:
    """Load a recipe's pipeline, without LoRAs and text encoder.

    Its base is a diffusers folder of `QwenImageEditPlusPipeline`; a `single_file` holds another transformer for it.
    """
    folder = recipe.base / "transformer"
    tensors = read_shards(folder) if recipe.single_file is None else load_file(recipe.single_file)
    transformer = _load_transformer(folder, tensors, weights)
    transformer.set_attn_processor(WeighedAttention())
    vae = AutoencoderKLQwenImage.from_pretrained(
        str(recipe.base / "vae"), local_files_only=True, dtype=weights, use_safetensors=True
    )
    return EditPipeline(lightning_scheduler(), vae, None, None, None, transformer)


def _load_transformer(folder: Path, tensors: Mapping[str, Tensor], weights: torch.dtype) -> QwenImageTransformer2DModel:
    """A transformer of these tensors; `folder` holds its config.json. Files of some programs put a prefix before each name."""
    with init_empty_weights():  # parameters only: torch's meta device would also take the angles of its positions
        transformer = QwenImageTransformer2DModel.from_config(QwenImageTransformer2DModel.load_config(str(folder)))
    state = {name.removeprefix("model.diffusion_model."): tensor.to(weights) for name, tensor in tensors.items()}
    transformer.load_state_dict(state, assign=True)
    return transformer
