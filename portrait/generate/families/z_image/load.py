"""Load Z-Image: transformer, autoencoder and ControlNet as a pipeline, and the text encoder beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImageControlNetModel, ZImageTransformer2DModel
from diffusers.loaders.single_file_utils import convert_z_image_transformer_checkpoint_to_diffusers
from safetensors.torch import load_file
from torch import Tensor

from portrait.errors import WeightsCorruptError, one_line
from portrait.generate.families.z_image.pipeline import ZImagePipeline, share_layers
from portrait.recipes.recipe import Recipe


def load_pipeline(recipe: Recipe, weights: torch.dtype) -> ZImagePipeline:
    """Load a recipe's pipeline, without LoRAs and text encoder.

    Its base is a diffusers folder of `ZImagePipeline`; a `single_file` holds another transformer for it.
    """
    base = recipe.base
    options: dict[str, object] = {"local_files_only": True, "dtype": weights, "use_safetensors": True}
    if recipe.single_file is not None:
        transformer = _load_transformer(recipe.single_file, base / "transformer", weights)
    else:
        transformer = ZImageTransformer2DModel.from_pretrained(str(base / "transformer"), **options)
    vae = AutoencoderKL.from_pretrained(str(base / "vae"), **options)
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(str(base / "scheduler"), local_files_only=True)
    controlnet = None if recipe.controlnet is None else load_controlnet(recipe.controlnet, transformer, weights)
    return ZImagePipeline(scheduler, vae, None, None, transformer, controlnet)


def _load_transformer(file: Path, folder: Path, weights: torch.dtype) -> ZImageTransformer2DModel:
    """Load a transformer from one file with the publisher's layer names; `folder` holds its config.json."""
    tensors = convert_z_image_transformer_checkpoint_to_diffusers(load_file(file))
    with torch.device("meta"):
        transformer = ZImageTransformer2DModel.from_config(ZImageTransformer2DModel.load_config(str(folder)))
    transformer.load_state_dict({name: tensor.to(weights) for name, tensor in tensors.items()}, assign=True)
    return transformer


def load_controlnet(file: Path, transformer: ZImageTransformer2DModel, weights: torch.dtype) -> ZImageControlNetModel:
    """Read a ControlNet-Union 2.1 from a file, whole or lite; it is mapped into memory.

    The number of layers is read from the file. They are evenly spread over those of the transformer, as in the publisher's
    configurations: 3 at layers 0, 10 and 20 of 30, or 15 at every second layer.

    Raises:
        WeightsCorruptError: the file holds something else.
    """
    tensors = load_file(file)
    try:
        controlnet = controlnet_for(tensors, transformer)
        controlnet.load_state_dict({name: tensor.to(weights) for name, tensor in tensors.items()}, assign=True)
    except (KeyError, RuntimeError, ZeroDivisionError) as error:
        raise WeightsCorruptError(
            f"{file} is not a ControlNet-Union 2.1 for Z-Image: {one_line(error, 200)}"
        ) from error
    share_layers(controlnet, transformer)
    return controlnet


def controlnet_for(tensors: Mapping[str, Tensor], transformer: ZImageTransformer2DModel) -> ZImageControlNetModel:
    """The ControlNet for a file's tensors, on the meta device."""
    about = transformer.config
    layers = len({name.split(".")[1] for name in tensors if name.startswith("control_layers.")})
    channels = tensors["control_all_x_embedder.2-1.weight"].shape[1] // 4
    with torch.device("meta"):
        return ZImageControlNetModel(
            control_layers_places=list(range(0, about.n_layers, about.n_layers // layers)),
            control_refiner_layers_places=list(range(about.n_refiner_layers)),
            control_in_dim=channels,
            add_control_noise_refiner="control_noise_refiner",
            dim=about.dim,
            n_refiner_layers=about.n_refiner_layers,
            n_heads=about.n_heads,
            n_kv_heads=about.n_kv_heads,
            norm_eps=about.norm_eps,
            qk_norm=about.qk_norm,
        )
