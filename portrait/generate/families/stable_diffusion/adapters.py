"""Load an IP-Adapter of any kind into a pipeline, feed it, and set its scale within a block.

| kind | input | tokens from |
|---|---|---|
| faceid | the recognizer's embedding | a small network; a LoRA is in the file |
| faceid-plusv2 | embedding and CLIP's view of the aligned face | a resampler with a shortcut; a LoRA is in the file |
| plus-face | CLIP's view of the face | a resampler |
| instantid | the recognizer's raw embedding | a resampler; IdentityNet reads the same tokens |

Reference:
    Ye et al. 2023, "IP-Adapter"; Wang et al. 2024, "InstantID"; the projections are diffusers'.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.embeddings import (
    IPAdapterFaceIDImageProjection,
    IPAdapterFaceIDPlusImageProjection,
    IPAdapterPlusImageProjection,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from portrait.errors import MemoryLimitError, WeightsCorruptError, WeightsError, WeightsMissingError, one_line
from portrait.generate import memory
from portrait.generate.families.loading import loaded_loras
from portrait.hub.files import sha256_of
from portrait.paths import cache_dir

EMBEDDING = 512
"""Length of the recognizer's embedding."""
FACEID_LORA = "faceid_0"
"""The name that diffusers gives to the LoRA inside a FaceID file."""
_TITLES = {
    "faceid": "IP-Adapter-FaceID",
    "faceid-plusv2": "IP-Adapter-FaceID-PlusV2",
    "plus-face": "IP-Adapter plus-face",
    "instantid": "InstantID adapter",
}
_PROJECTIONS = {
    "faceid": IPAdapterFaceIDImageProjection,
    "faceid-plusv2": IPAdapterFaceIDPlusImageProjection,
    "plus-face": IPAdapterPlusImageProjection,
    "instantid": IPAdapterPlusImageProjection,
}


def load_adapter(pipe: Any, path: Path, kind: str, lora_weight: float, clip_width: int) -> dict[str, float]:
    """Load an adapter (`.safetensors`, or `.bin` read with `weights_only`) into a diffusers pipeline.

    A failed load leaves the pipeline without any adapter: diffusers would otherwise keep half of one.

    Args:
        pipe: A diffusers pipeline that takes IP-Adapters.
        path: The adapter's file.
        kind: A kind of the table above.
        lora_weight: Weight of the LoRA inside the file, if there is one.
        clip_width: Width of the image encoder's hidden states, for the kinds that use CLIP; 0 if unknown.

    Returns:
        The active LoRAs by name with their weights: the one inside the file, or none.

    Raises:
        WeightsMissingError: there is no such file.
        WeightsCorruptError: the file is not an adapter of this kind, or is for another model.
    """
    if not path.is_file():
        raise WeightsMissingError(f"no IP-Adapter file at {path}")
    try:
        safe = as_safetensors(path)
        _check_width(path, safe, int(pipe.unet.config.cross_attention_dim))
        pipe.load_ip_adapter(
            str(safe.parent), subfolder="", weight_name=safe.name, image_encoder_folder=None, local_files_only=True
        )
        projection = pipe.unet.encoder_hid_proj.image_projection_layers[0]
        _check_kind(path, projection, kind, clip_width)
        if FACEID_LORA not in loaded_loras(pipe):
            return {}
        pipe.set_adapters([FACEID_LORA], [lora_weight])
        return {FACEID_LORA: lora_weight}
    except (WeightsError, MemoryLimitError):
        _unload(pipe)
        raise
    except Exception as error:  # diffusers raises KeyError, OSError, ValueError or RuntimeError here
        _unload(pipe)
        memory.raise_if_oom(error, path.name)
        raise WeightsCorruptError(f"{path} is not an {_TITLES[kind]} file: {error!r}") from error


def as_safetensors(path: Path) -> Path:
    """The adapter as a `.safetensors` file: the file itself, or for a pickle a converted copy in our cache.

    The pickle is read with `weights_only`, so no code in it is run. The copy is made once per content, and only used while
    its hash is the recorded one.

    Raises:
        WeightsCorruptError: the file is not a pickle of two tables of tensors.
        WeightsError: the copy cannot be written; no part of it is left.
    """
    if path.suffix == ".safetensors":
        return path
    target = cache_dir() / "adapters" / f"{path.stem}-{sha256_of(path)[:16]}.safetensors"
    note = target.with_suffix(".json")
    try:
        if note.read_text("utf-8") == _note(path, target):
            return target
    except (OSError, ValueError):
        pass  # there is no copy, or it is damaged
    tensors = _read_pickle(path)
    staging = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, staging = tempfile.mkstemp(prefix=f".{path.stem}-", dir=target.parent)
        os.close(handle)
        save_file(tensors, staging)
        os.replace(staging, target)
        note.write_text(_note(path, target), "utf-8")
    except (OSError, SafetensorError) as error:
        if staging is not None:
            Path(staging).unlink(missing_ok=True)
        size = sum(tensor.nbytes for tensor in tensors.values()) / 2**30
        raise WeightsError(
            f"cannot save {path.name} as safetensors in {target.parent} ({size:.1f} GiB): {one_line(error)}; "
            "free some space, or set PORTRAIT_CACHE to another disk"
        ) from None
    return target


def _note(path: Path, copy: Path) -> str:
    return json.dumps({"sha256": sha256_of(copy), "from": path.name})


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """Read the tensors of an adapter's pickle, named as in a `.safetensors` file: TABLE.KEY."""
    try:
        tables = torch.load(path, map_location="cpu", weights_only=True)
        tensors = {}
        for table, entries in tables.items():
            for key, tensor in entries.items():
                tensors[f"{table}.{key}"] = tensor.contiguous().clone()
    except Exception as error:  # pickle, zipfile and torch each raise their own errors
        memory.raise_if_oom(error, path.name)
        raise WeightsCorruptError(f"{path} is not an adapter of plain tensors: {one_line(error)}") from None
    return tensors


def _check_width(path: Path, safe: Path, expected: int) -> None:
    """Raises WeightsCorruptError if the file's header shows another cross-attention width than the model's."""
    with safe_open(safe, "pt") as file:
        names = set(file.keys())
        for name in ("image_proj.norm.weight", "image_proj.norm_out.weight"):
            if name not in names:
                continue
            width = int(file.get_slice(name).get_shape()[0])
            if width != expected:
                raise WeightsCorruptError(
                    f"{path} is made for a cross-attention width of {width}, the model has {expected}"
                )


def _check_kind(path: Path, projection: Any, kind: str, clip_width: int) -> None:
    """Check that the projection diffusers made from the file is of the right kind and fits the embeddings.

    diffusers cannot tell PlusV2 from Plus, so the PlusV2 shortcut is enabled here.
    """
    if not isinstance(projection, _PROJECTIONS[kind]):
        what = "a plain FaceID adapter" if kind == "faceid" else f"an {_TITLES[kind]}"
        raise WeightsCorruptError(f"{path} is a {type(projection).__name__}, not {what}")
    identity_width = _identity_width(projection, kind)
    if identity_width != EMBEDDING:
        raise WeightsCorruptError(
            f"{path} takes identities of {identity_width} numbers, the recognizer gives {EMBEDDING}"
        )
    if kind in ("faceid-plusv2", "plus-face") and clip_width:
        width = projection.proj_in.in_features
        if width != clip_width:
            raise WeightsCorruptError(
                f"{path} is made for an image encoder of width {width}, this one has {clip_width}"
            )
    if kind == "faceid-plusv2":
        projection.shortcut = True
        projection.shortcut_scale = 1.0


def _identity_width(projection: Any, kind: str) -> int:
    """The size of the identity embedding that the projection takes; `EMBEDDING` for plus-face, which takes none."""
    if kind == "faceid":
        return int(projection.ff.net[0].proj.in_features)
    if kind == "faceid-plusv2":
        return int(projection.proj.net[0].proj.in_features)
    if kind == "instantid":
        return int(projection.proj_in.in_features)
    return EMBEDDING


def _unload(pipe: Any) -> None:
    pipe.unload_ip_adapter()
    if pipe.get_list_adapters():
        pipe.unload_lora_weights()


def adapter_inputs(
    kind: str, embedding: np.ndarray, clip: Tensor | None, count: int, guided: bool
) -> tuple[Tensor, Tensor | None]:
    """The input of an adapter of `kind` for `count` pictures of one person, negatives first if guided.

    `embedding`, (512,) float32, is that of the adapter's recognizer; plus-face ignores it. `clip`, (2, T, W), are the hidden
    states of an empty picture and of the face, for the kinds that use CLIP.

    Returns:
        The tensor for `ip_adapter_image_embeds`, (2 * count, 1, D) float32 with negatives of zeros first, or (count, 1, D)
        without guidance, and the one for the projection's `clip_embeds` or None.
    """
    clip_embeds = None
    if clip is not None:
        halves = [clip[0], clip[1]] if guided else [clip[1]]
        clip_embeds = torch.cat([half[None, None].expand(count, -1, -1, -1) for half in halves])
    if kind == "plus-face":
        if clip_embeds is None:
            raise ValueError("plus-face needs the image encoder's output for the face")
        return clip_embeds, None
    identity = torch.from_numpy(np.ascontiguousarray(embedding, np.float32)).view(1, 1, -1).repeat(count, 1, 1)
    if guided:  # else a half of zeros would be taken for a second face
        identity = torch.cat([torch.zeros_like(identity), identity])
    if kind == "instantid":
        identity = identity[:, :, None]
    return identity, clip_embeds


@contextmanager
def identity_adapter(pipe: Any, scale: float, loras: Mapping[str, float]) -> Iterator[Any]:
    """Within the block, the adapter works at `scale`; at 0 its LoRA is off too.

    `loras` are all active LoRAs by name with their weights; any but the adapter's own stay on.
    """
    processors = [processor for processor in pipe.unet.attn_processors.values() if hasattr(processor, "scale")]
    scales = [list(processor.scale) for processor in processors]
    pipe.set_ip_adapter_scale(scale)
    try:
        with _without_faceid_lora(pipe, loras) if scale == 0 else nullcontext():
            yield pipe
    finally:
        for processor, scale_before in zip(processors, scales, strict=True):
            processor.scale = scale_before


@contextmanager
def _without_faceid_lora(pipe: Any, loras: Mapping[str, float]) -> Iterator[None]:
    """Within the block, switch off a FaceID file's LoRA, which scale 0 alone would leave on, and no other."""
    others = {name: weight for name, weight in loras.items() if name != FACEID_LORA}
    if FACEID_LORA not in loras:
        yield
        return
    if others:
        pipe.set_adapters(list(others), list(others.values()))
    else:
        pipe.disable_lora()
    try:
        yield
    finally:
        if others:
            pipe.set_adapters(list(loras), list(loras.values()))
        else:
            pipe.enable_lora()
