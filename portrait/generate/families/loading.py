"""What all families need to load models: quiet libraries, readable errors, LoRAs, digests of the user's own files."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging
from huggingface_hub.utils.tqdm import disable_progress_bars
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from portrait.errors import SettingsError, WeightsCorruptError, WeightsMissingError, one_line
from portrait.generate import memory
from portrait.hub.files import sha256_of, verify_manifest
from portrait.recipes.recipe import Lora, Recipe


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Within the block, diffusers and transformers print only errors and no progress bars."""
    disable_progress_bars()  # asked by transformers when it is imported
    loggers = [diffusers_logging]
    if "transformers" in sys.modules:  # a later import is quiet by TRANSFORMERS_VERBOSITY (portrait/__init__.py)
        from transformers.utils import logging as transformers_logging

        loggers.append(transformers_logging)
    for logger in loggers:
        logger.set_verbosity_error()
        logger.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def readable_errors(recipe: Recipe) -> Iterator[None]:
    """Turn any error while reading a model's files into one sentence that names them."""
    try:
        yield
    except (WeightsCorruptError, SettingsError):
        raise
    except Exception as error:  # json, safetensors, transformers and diffusers each raise their own errors
        memory.raise_if_oom(error, f"the model of recipe {recipe.name}")
        where = recipe.single_file or recipe.base
        what = f"a checkpoint of the family {recipe.family}" if recipe.single_file else "a diffusers folder"
        raise WeightsCorruptError(f"{where} is not {what} that can be loaded: {one_line(error, 300)}") from error


def read_shards(folder: Path) -> dict[str, Tensor]:
    """All tensors in the `.safetensors` files of a folder, by name; they are mapped into memory.

    Unlike the loaders of diffusers and transformers it needs no index of them.

    Raises:
        ValueError: there is no such file.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder} has no .safetensors files")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def check_resolution(recipe: Recipe, factor: int) -> None:
    """Raises SettingsError if the recipe's resolution is below 64 or not a multiple of `factor`."""
    if recipe.resolution < 64 or recipe.resolution % factor:
        raise SettingsError(f"recipe {recipe.name}: resolution {recipe.resolution} is not a multiple of {factor}")


def load_loras(pipe: Any, loras: Sequence[Lora], active: Mapping[str, float]) -> tuple[dict[str, float], list[str]]:
    """Load LoRAs in addition to the `active` ones, and set all weights.

    diffusers leaves only the last one active, so the weights of all are set at the end.

    Returns:
        The weights of all by name, and a sentence for each file that is not used completely.

    Raises:
        WeightsMissingError: there is no such file.
        WeightsCorruptError: the file is not a LoRA, or changes nothing in this model.
    """
    weights = dict(active)
    notes = []
    for number, lora in enumerate(loras):
        path = lora.path
        if not path.is_file():
            raise WeightsMissingError(f"no LoRA file at {path}")
        name = f"lora_{number}"
        try:
            if path.suffix != ".safetensors":
                raise ValueError("only .safetensors files are read")
            _check_alphas(path)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # peft warns about a second adapter, which is intended
                pipe.load_lora_weights(
                    str(path.parent), weight_name=path.name, adapter_name=name, local_files_only=True
                )
        except Exception as error:  # diffusers and peft raise many kinds of errors here
            memory.raise_if_oom(error, path.name)
            raise WeightsCorruptError(f"{path} is not a LoRA for this model: {one_line(error, 200)}") from error
        if name not in loaded_loras(pipe):
            raise WeightsCorruptError(f"{path} changes nothing in this model; is it a LoRA for another one?")
        weights[name] = lora.weight
        notes += _unused_parts(pipe, path, name)
    if weights:
        pipe.set_adapters(list(weights), list(weights.values()))
    return weights, notes


def _check_alphas(path: Path) -> None:
    """Raises ValueError for a negative scale, with which diffusers' converters never end."""
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118 (not a mapping)
            if name.endswith(".alpha") and (alpha := float(file.get_tensor(name))) < 0:
                raise ValueError(f"{name} is {alpha}, and must not be below 0")


def _unused_parts(pipe: Any, path: Path, name: str) -> list[str]:
    """A sentence about layers that a LoRA changes but the model lacks; diffusers ignores them."""
    options: dict[str, object] = {"weight_name": path.name, "local_files_only": True}
    if (unet := getattr(pipe, "unet", None)) is not None:
        options["unet_config"] = unet.config
    tensors = pipe.lora_state_dict(str(path.parent), **options)
    tensors = tensors[0] if isinstance(tensors, tuple) else tensors
    parts = {key.partition(".lora")[0] for key in tensors if ".lora" in key}
    networks = [network for network in pipe.components.values() if isinstance(network, torch.nn.Module)]
    modules = [module for network in networks for module in network.modules()]
    used = sum(
        name in getattr(module, "lora_A", ()) or name in getattr(module, "lora_embedding_A", ()) for module in modules
    )
    if used >= len(parts):
        return []
    return [
        f"{len(parts) - used} of the {len(parts)} layers that {path.name} changes do not exist in this model and are ignored; "
        "the LoRA may have been made for another one"
    ]


def loaded_loras(pipe: Any) -> set[str]:
    """Names of the LoRAs loaded into any part of the pipeline."""
    return {name for names in pipe.get_list_adapters().values() for name in names}


def unlisted_digests(recipe: Recipe) -> dict[str, str]:
    """The SHA-256 of files that are not in the manifest: the user's own LoRAs, checkpoint or base folder."""
    files = [lora.path for lora in recipe.loras if not lora.part]
    if recipe.single_file is not None and not recipe.parts.single_file:
        files.append(recipe.single_file)
    digests = {file.name: sha256_of(file) for file in files if file.is_file()}
    if any(part for _, part in recipe.parts) and not recipe.parts.base:
        for name, digest in verify_manifest(recipe.base).items():
            digests[f"{recipe.base.name}/{name}"] = digest
    return digests
