"""A miniature SD 1.5 with a FaceID adapter, with random weights in the files of the real ones."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionImg2ImgPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from portrait.records import Knobs

CROSS, BLOCKS = 64, (32, 64, 64, 64)
KNOBS = Knobs(
    strength=0.6, guidance_scale=5.0, ip_adapter_scale=1.0, controlnet_conditioning_scale=1.0, num_inference_steps=6
)

RECIPE = """
name = "tiny"
title = "random weights, SD 1.5 layout"
base = "sd"
adapter = "../models/ip-adapter-faceid_sd15.safetensors"
structure = "none"
recognizer = "w600k_mbf"
resolution = 128
autocast = ""
negative_prompt = "blurry"
styles = ["watercolor", "oil"]

[[balance]]
at = 0.0
strength = 0.3
guidance_scale = 4.0
ip_adapter_scale = 1.0
controlnet_conditioning_scale = 1.0
num_inference_steps = 10

[[balance]]
at = 1.0
strength = 0.7
guidance_scale = 6.0
ip_adapter_scale = 0.6
controlnet_conditioning_scale = 0.5
num_inference_steps = 10
"""


def build(folder: Path) -> Path:
    """Write folder/sd, folder/models/*.safetensors and folder/tiny.toml; return the recipe's path."""
    letters = [chr(c) for c in range(33, 127)]
    vocabulary = {c: i for i, c in enumerate([*letters, *(c + "</w>" for c in letters)])}
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[special] = len(vocabulary)
    source = folder / "words"
    source.mkdir(parents=True)
    (source / "vocab.json").write_text(json.dumps(vocabulary))
    (source / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(
        source, model_max_length=77, bos_token="<|startoftext|>", eos_token="<|endoftext|>",
        unk_token="<|endoftext|>", pad_token="<|endoftext|>",
    )  # fmt: skip
    torch.manual_seed(0)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(vocabulary), hidden_size=CROSS, intermediate_size=128, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=77, projection_dim=CROSS,
            bos_token_id=len(vocabulary) - 2, eos_token_id=len(vocabulary) - 1, pad_token_id=len(vocabulary) - 1,
        )
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=BLOCKS, layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=CROSS, attention_head_dim=8, norm_num_groups=16,
    )  # fmt: skip
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 16, 32, 32), layers_per_block=1, latent_channels=4, norm_num_groups=16,
        sample_size=128, scaling_factor=0.18215,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    StableDiffusionImg2ImgPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler, safety_checker=None,
        feature_extractor=None, image_encoder=None, requires_safety_checker=False,
    ).save_pretrained(folder / "sd")  # fmt: skip
    (folder / "models").mkdir()
    save_file(faceid_state(unet), folder / "models" / "ip-adapter-faceid_sd15.safetensors")
    recipe = folder / "tiny.toml"
    recipe.write_text(RECIPE)
    return recipe


def faceid_state(unet: UNet2DConditionModel, cross: int = CROSS) -> dict[str, torch.Tensor]:
    """Flat keys of h94/IP-Adapter-FaceID: image_proj (Linear, GELU, Linear, LayerNorm) and ip_adapter.

    The biases are not zero: with zero biases an all-zero embedding would be inert, and mistakes in the
    negative half of classifier-free guidance would stay hidden.
    """
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * shape[-1] ** -0.5

    state = {
        "image_proj.proj.0.weight": random(1024, 512) * 8,
        "image_proj.proj.0.bias": random(1024) * 4,
        "image_proj.proj.2.weight": random(cross * 4, 1024),
        "image_proj.proj.2.bias": random(cross * 4) * 4,
        "image_proj.norm.weight": torch.ones(cross),
        "image_proj.norm.bias": random(cross),
    }
    for i, name in enumerate(unet.attn_processors):
        if name.endswith("attn2.processor"):
            block = -1 if name.startswith("mid") else int(name.split(".")[1])
            width = BLOCKS[::-1][block] if name.startswith("up") else BLOCKS[block]
            state[f"ip_adapter.{i}.to_k_ip.weight"] = random(width, cross)
            state[f"ip_adapter.{i}.to_v_ip.weight"] = random(width, cross)
    return state
