"""Load a transformer of FLUX.2 klein from one file with the publisher's layer names, in 16 or 8 bits.

The publisher's 8-bit file has the large layers as float8_e4m3 with one scale each. They stay so in memory, which halves it,
and are expanded when a layer runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import Flux2Transformer2DModel
from diffusers.loaders.single_file_utils import convert_flux2_transformer_checkpoint_to_diffusers
from safetensors.torch import load_file
from torch import Tensor, nn

_SCALE = ".weight_scale"
_PREFIX = "model.diffusion_model."
"""A prefix of every name in files of some programs."""


class ScaledLinear(nn.Module):
    """A linear layer without bias, with 8-bit weights, (out, in), and a scale for each row, (out,)."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns, dtype=torch.float8_e4m3fn), requires_grad=False)
        self.scale = nn.Parameter(torch.empty(rows), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        weight = self.weight.float() * self.scale[:, None]
        return nn.functional.linear(x, weight.to(x.dtype))


def load_transformer(file: Path, folder: Path, weights: torch.dtype) -> Flux2Transformer2DModel:
    """Read a transformer from a `.safetensors` file, which is mapped into memory, and the config.json of a folder.

    `weights` is the dtype of weights that are not 8-bit numbers.

    Raises:
        KeyError, RuntimeError: the file holds another model.
    """
    tensors, scales = (convert_flux2_transformer_checkpoint_to_diffusers(part) for part in _split(load_file(file)))
    with torch.device("meta"):
        transformer = Flux2Transformer2DModel.from_config(Flux2Transformer2DModel.load_config(str(folder)))
        for name in scales:
            transformer.set_submodule(name.removesuffix(".weight"), ScaledLinear(*tensors[name].shape))
    state = {name: tensor if name in scales else tensor.to(weights) for name, tensor in tensors.items()}
    state |= {name.removesuffix("weight") + "scale": scale for name, scale in scales.items()}
    transformer.load_state_dict(state, assign=True)
    return transformer


def has_scaled_layers(transformer: nn.Module) -> bool:
    """Whether the transformer has 8-bit weights."""
    return any(isinstance(module, ScaledLinear) for module in transformer.modules())


def _split(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Split a file into weights and their scales, by the weights' names, one for each row so that they can be sliced likewise.

    `input_scale`, with which other programs convert activations to 8 bits, is not needed.
    """
    named = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}
    scales = {name.removesuffix(_SCALE) + ".weight": named.pop(name) for name in list(named) if name.endswith(_SCALE)}
    rows = {name: scale.float().expand(len(named[name])).contiguous() for name, scale in scales.items()}
    return {name: tensor for name, tensor in named.items() if not name.endswith(".input_scale")}, rows
