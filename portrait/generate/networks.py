"""The parts of diffusers that portrait builds on, imported without their unused dependencies.

diffusers mentions classes of transformers, peft and accelerate in annotations and in branches that few recipes take, and its
packages import all their models. These bring in torch's compiler, sympy and scipy: 2100 modules, two thirds of the CPU time
of all imports. Here they are only imported when they are used (`portrait.deferred`). diffusers' own pipelines do need them;
they are in the `pipelines` module of each family.
"""

from __future__ import annotations

import inspect

import torch
from torch import nn

from portrait.deferred import deferred, hidden, without_siblings

with (
    deferred("transformers", "peft", "accelerate", "scipy", "diffusers.hooks"),
    hidden("torch._dynamo"),  # diffusers can do without it
    without_siblings(
        "diffusers.models.autoencoders",
        "diffusers.models.controlnets",
        "diffusers.models.transformers",
        "diffusers.models.unets",
    ),
):
    from diffusers.configuration_utils import ConfigMixin, register_to_config
    from diffusers.image_processor import VaeImageProcessor
    from diffusers.models.attention_processor import AttnProcessor2_0
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny, AutoencoderTinyOutput
    from diffusers.models.autoencoders.vae import DecoderOutput
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.models.embeddings import (
        IPAdapterFaceIDImageProjection,
        IPAdapterFaceIDPlusImageProjection,
        IPAdapterPlusImageProjection,
    )
    from diffusers.models.modeling_utils import ModelMixin
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel, UNet2DConditionOutput
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
    from diffusers.utils import logging
    from diffusers.utils.torch_utils import randn_tensor

__all__ = [
    "AttnProcessor2_0",
    "AutoencoderKL",
    "AutoencoderTiny",
    "AutoencoderTinyOutput",
    "ConfigMixin",
    "ControlNetModel",
    "DDIMScheduler",
    "DecoderOutput",
    "FlowMatchEulerDiscreteScheduler",
    "IPAdapterFaceIDImageProjection",
    "IPAdapterFaceIDPlusImageProjection",
    "IPAdapterPlusImageProjection",
    "InOnePlace",
    "ModelMixin",
    "UNet2DConditionModel",
    "UNet2DConditionOutput",
    "VaeImageProcessor",
    "logging",
    "randn_tensor",
    "register_to_config",
    "unet_forward",
]

unet_forward = inspect.unwrap(UNet2DConditionModel.forward)
"""A UNet's forward pass without diffusers' LoRA wrapper, which imports peft."""


class InOnePlace(ModelMixin):
    """A network on one device in one dtype, which needs none of diffusers' hooks: they import transformers."""

    to = nn.Module.to

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return next(self.parameters()).dtype
