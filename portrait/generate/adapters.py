"""Load an IP-Adapter-FaceID file into a pipeline, and set its scale for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.embeddings import IPAdapterFaceIDImageProjection
from safetensors import safe_open
from torch import Tensor

from portrait.errors import WeightsCorruptError, WeightsMissingError

EMBEDDING = 512
"""Length of the recogniser's embedding."""


def load_faceid(pipe: Any, path: Path) -> None:
    """Load a FaceID adapter (`.safetensors`, or `.bin` read with `weights_only`) into a diffusers pipeline.

    A failed load leaves the pipeline without any adapter: diffusers would otherwise run on with half of one.

    Raises:
        WeightsMissingError: no such file.
        WeightsCorruptError: not a FaceID adapter, or one for another cross-attention width.
    """
    if not path.is_file():
        raise WeightsMissingError(f"no IP-Adapter file at {path}")
    try:
        width, wanted = _width(path), pipe.unet.config.cross_attention_dim
        if width is not None and width != wanted:
            raise WeightsCorruptError(f"{path} is made for a cross-attention width of {width}, the model has {wanted}")
        pipe.load_ip_adapter(
            str(path.parent), subfolder="", weight_name=path.name, image_encoder_folder=None, local_files_only=True
        )
        projection = pipe.unet.encoder_hid_proj.image_projection_layers[0]
        if not isinstance(projection, IPAdapterFaceIDImageProjection):
            raise WeightsCorruptError(f"{path} is a {type(projection).__name__}, not a plain FaceID adapter")
        if (ids := projection.ff.net[0].proj.in_features) != EMBEDDING:
            raise WeightsCorruptError(f"{path} takes identities of {ids} numbers, the recogniser gives {EMBEDDING}")
    except WeightsCorruptError:
        _unload(pipe)
        raise
    except Exception as error:  # diffusers raises KeyError, OSError, ValueError, RuntimeError here
        _unload(pipe)
        raise WeightsCorruptError(f"{path} is not an IP-Adapter-FaceID file: {error!r}") from error


def _width(path: Path) -> int | None:
    """The cross-attention width that a `.safetensors` adapter was made for, read from its header."""
    if path.suffix != ".safetensors":
        return None
    with safe_open(path, "pt") as file:
        name = "image_proj.norm.weight"
        return int(file.get_slice(name).get_shape()[0]) if name in file.keys() else None  # noqa: SIM118


def _unload(pipe: Any) -> None:
    pipe.unload_ip_adapter()
    if pipe.get_list_adapters():
        pipe.unload_lora_weights()


def identity_embeds(embedding: np.ndarray, count: int, guided: bool) -> list[Tensor]:
    """What `ip_adapter_image_embeds` wants for `count` pictures of one person.

    Returns:
        One (2 * count, 1, D) float32 tensor, negatives (zeros) first; (count, 1, D) without guidance,
        where a zero half would be taken for a second face.
    """
    positive = torch.from_numpy(np.ascontiguousarray(embedding, np.float32)).view(1, 1, -1).repeat(count, 1, 1)
    return [torch.cat([torch.zeros_like(positive), positive]) if guided else positive]


@contextmanager
def identity_adapter(pipe: Any, scale: float) -> Iterator[Any]:
    """Within the block the adapter works at `scale`, its LoRA included at 0; afterwards as it was before."""
    processors = [p for p in pipe.unet.attn_processors.values() if hasattr(p, "scale")]
    before = [list(p.scale) for p in processors]
    silent = scale == 0 and bool(pipe.get_list_adapters())  # a FaceID LoRA would stay on at scale 0
    pipe.set_ip_adapter_scale(scale)
    if silent:
        pipe.disable_lora()
    try:
        yield pipe
    finally:
        if silent:
            pipe.enable_lora()
        for processor, old in zip(processors, before, strict=True):
            processor.scale = old
