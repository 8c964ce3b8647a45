"""The public models at their real size: configurations, and the name, shape and type of every tensor of their files.

Nothing here is downloaded or allocated. `tests/test_full_size.py` holds it against the manifest: the configurations of
SD 1.5, of CLIP, of klein's text encoder, of Z-Image and of Qwen-Image-Edit have the very bytes whose SHA-256 is pinned there, and
a file with these tensors has the very length that is stated there. `eval/memory.py` fills the same shapes with random numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    ControlNetModel,
    Flux2Transformer2DModel,
    QwenImageTransformer2DModel,
    UNet2DConditionModel,
    ZImageControlNetModel,
    ZImageTransformer2DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers import CLIPVisionModelWithProjection as ClipVision

Shapes = dict[str, tuple[tuple[int, ...], str]]
"""Tensor name -> shape, and safetensors' name of its type."""

BYTES = {"BF16": 2, "F16": 2, "F32": 4, "F8_E4M3": 1, "I64": 8}
_NOISE = {"beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "num_train_timesteps": 1000}
_SD15_UNET: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0", "act_fn": "silu", "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": False, "cross_attention_dim": 768,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], "downsample_padding": 1,
    "flip_sin_to_cos": True, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2, "mid_block_scale_factor": 1,
    "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}  # fmt: skip
_SDXL_UNET: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel", "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
    "attention_head_dim": [5, 10, 20], "block_out_channels": [320, 640, 1280], "cross_attention_dim": 2048,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"], "in_channels": 4,
    "layers_per_block": 2, "out_channels": 4, "projection_class_embeddings_input_dim": 2816, "sample_size": 128,
    "transformer_layers_per_block": [1, 2, 10], "use_linear_projection": True,
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
}  # fmt: skip
_VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKL", "_diffusers_version": "0.6.0", "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512], "down_block_types": ["DownEncoderBlock2D"] * 4, "in_channels": 3,
    "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, "out_channels": 3, "sample_size": 512,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}  # fmt: skip
_TEXT: dict[str, Any] = {
    "_name_or_path": "openai/clip-vit-large-patch14", "architectures": ["CLIPTextModel"], "attention_dropout": 0.0,
    "bos_token_id": 0, "dropout": 0.0, "eos_token_id": 2, "hidden_act": "quick_gelu", "hidden_size": 768,
    "initializer_factor": 1.0, "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77, "model_type": "clip_text_model", "num_attention_heads": 12,
    "num_hidden_layers": 12, "pad_token_id": 1, "projection_dim": 768, "torch_dtype": "float32",
    "transformers_version": "4.22.0.dev0", "vocab_size": 49408,
}  # fmt: skip
_TEXT_2 = _TEXT | {
    "architectures": ["CLIPTextModelWithProjection"], "hidden_act": "gelu", "hidden_size": 1280,
    "intermediate_size": 5120, "num_attention_heads": 20, "num_hidden_layers": 32, "projection_dim": 1280,
}  # fmt: skip
_CLIP: dict[str, Any] = {
    "_name_or_path": "./image_encoder", "architectures": ["CLIPVisionModelWithProjection"], "attention_dropout": 0.0,
    "dropout": 0.0, "hidden_act": "gelu", "hidden_size": 1280, "image_size": 224, "initializer_factor": 1.0,
    "initializer_range": 0.02, "intermediate_size": 5120, "layer_norm_eps": 1e-05, "model_type": "clip_vision_model",
    "num_attention_heads": 16, "num_channels": 3, "num_hidden_layers": 32, "patch_size": 14, "projection_dim": 1024,
    "torch_dtype": "float16", "transformers_version": "4.28.0.dev0",
}  # fmt: skip
_KLEIN_TRANSFORMER: dict[str, Any] = {
    "_class_name": "Flux2Transformer2DModel", "attention_head_dim": 128, "axes_dims_rope": [32, 32, 32, 32],
    "eps": 1e-06, "guidance_embeds": False, "in_channels": 128, "joint_attention_dim": 7680, "mlp_ratio": 3.0,
    "num_attention_heads": 24, "num_layers": 5, "num_single_layers": 20, "out_channels": None, "patch_size": 1,
    "rope_theta": 2000, "timestep_guidance_channels": 256,
}  # fmt: skip
_KLEIN_VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKLFlux2", "act_fn": "silu", "batch_norm_eps": 0.0001, "batch_norm_momentum": 0.1,
    "block_out_channels": [128, 256, 512, 512], "down_block_types": ["DownEncoderBlock2D"] * 4, "in_channels": 3,
    "latent_channels": 32, "layers_per_block": 2, "mid_block_add_attention": True, "norm_num_groups": 32,
    "out_channels": 3, "patch_size": [2, 2], "sample_size": 1024, "up_block_types": ["UpDecoderBlock2D"] * 4,
    "use_post_quant_conv": True, "use_quant_conv": True,
}  # fmt: skip
_KLEIN_TEXT: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 151643,
    "dtype": "bfloat16", "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 2560,
    "initializer_range": 0.02, "intermediate_size": 9728, "layer_types": ["full_attention"] * 36,
    "max_position_embeddings": 40960, "max_window_layers": 36, "model_type": "qwen3", "num_attention_heads": 32,
    "num_hidden_layers": 36, "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": None,
    "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": True, "transformers_version": "4.56.1",
    "use_cache": True, "use_sliding_window": False, "vocab_size": 151936,
}  # fmt: skip
_KLEIN_SCHEDULER: dict[str, Any] = {
    "_class_name": "FlowMatchEulerDiscreteScheduler", "_diffusers_version": "0.37.0.dev0", "base_image_seq_len": 256,
    "base_shift": 0.5, "invert_sigmas": False, "max_image_seq_len": 4096, "max_shift": 1.15,
    "num_train_timesteps": 1000, "shift": 3.0, "shift_terminal": None, "stochastic_sampling": False,
    "time_shift_type": "exponential", "use_beta_sigmas": False, "use_dynamic_shifting": True,
    "use_exponential_sigmas": False, "use_karras_sigmas": False,
}  # fmt: skip
_KLEIN_INDEX: dict[str, Any] = {
    "_class_name": "Flux2KleinPipeline",
    "_diffusers_version": "0.37.0.dev0",
    "is_distilled": True,
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "Qwen3ForCausalLM"],
    "tokenizer": ["transformers", "Qwen2TokenizerFast"],
    "transformer": ["diffusers", "Flux2Transformer2DModel"],
    "vae": ["diffusers", "AutoencoderKLFlux2"],
}
_Z_TRANSFORMER: dict[str, Any] = {
    "_class_name": "ZImageTransformer2DModel", "_diffusers_version": "0.36.0.dev0", "all_f_patch_size": [1],
    "all_patch_size": [2], "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512], "cap_feat_dim": 2560, "dim": 3840,
    "in_channels": 16, "n_heads": 30, "n_kv_heads": 30, "n_layers": 30, "n_refiner_layers": 2, "norm_eps": 1e-05,
    "qk_norm": True, "rope_theta": 256.0, "t_scale": 1000.0,
}  # fmt: skip
_Z_CONTROL: dict[str, Any] = {
    "add_control_noise_refiner": "control_noise_refiner", "control_in_dim": 33, "control_layers_places": [0, 10, 20],
    "control_refiner_layers_places": [0, 1],
}  # fmt: skip
_Z_VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKL", "_diffusers_version": "0.36.0.dev0", "_name_or_path": "flux-dev", "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512], "down_block_types": ["DownEncoderBlock2D"] * 4, "force_upcast": True,
    "in_channels": 3, "latent_channels": 16, "latents_mean": None, "latents_std": None, "layers_per_block": 2,
    "mid_block_add_attention": True, "norm_num_groups": 32, "out_channels": 3, "sample_size": 1024,
    "scaling_factor": 0.3611, "shift_factor": 0.1159, "up_block_types": ["UpDecoderBlock2D"] * 4,
    "use_post_quant_conv": False, "use_quant_conv": False,
}  # fmt: skip
_Z_TEXT: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 151643,
    "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 2560, "initializer_range": 0.02,
    "intermediate_size": 9728, "max_position_embeddings": 40960, "max_window_layers": 36, "model_type": "qwen3",
    "num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
    "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": True,
    "torch_dtype": "bfloat16", "transformers_version": "4.51.0", "use_cache": True, "use_sliding_window": False,
    "vocab_size": 151936,
}  # fmt: skip
_Z_SCHEDULER: dict[str, Any] = {
    "_class_name": "FlowMatchEulerDiscreteScheduler", "_diffusers_version": "0.36.0.dev0", "num_train_timesteps": 1000,
    "use_dynamic_shifting": False, "shift": 3.0,
}  # fmt: skip
_Z_INDEX: dict[str, Any] = {
    "_class_name": "ZImagePipeline",
    "_diffusers_version": "0.36.0.dev0",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "Qwen3Model"],
    "tokenizer": ["transformers", "Qwen2Tokenizer"],
    "transformer": ["diffusers", "ZImageTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
_EDIT_TRANSFORMER: dict[str, Any] = {
    "_class_name": "QwenImageTransformer2DModel", "_diffusers_version": "0.36.0.dev0", "attention_head_dim": 128,
    "axes_dims_rope": [16, 56, 56], "guidance_embeds": False, "in_channels": 64, "joint_attention_dim": 3584,
    "num_attention_heads": 24, "num_layers": 60, "out_channels": 16, "patch_size": 2, "zero_cond_t": True,
}  # fmt: skip
_EDIT_VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKLQwenImage", "_diffusers_version": "0.36.0.dev0", "attn_scales": [], "base_dim": 96,
    "dim_mult": [1, 2, 4, 4], "dropout": 0.0,
    "latents_mean": [-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517, -0.3632,
                     -0.1922, -0.9497, 0.2503, -0.2921],
    "latents_std": [2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579,
                    1.6382, 1.1253, 2.8251, 1.916],
    "num_res_blocks": 2, "temperal_downsample": [False, True, True], "z_dim": 16,
}  # fmt: skip
_EDIT_ROPE = {"mrope_section": [16, 24, 24], "rope_type": "default", "type": "default"}
_EDIT_WORDS: dict[str, Any] = {
    "_name_or_path": "/cpfs01/haoyangzhang/pretrained_weights/Qwen2.5-VL",
    "architectures": ["Qwen2_5_VLForConditionalGeneration"], "attention_dropout": 0.0, "bos_token_id": 151643,
    "dtype": "float32", "eos_token_id": 151645, "hidden_act": "silu", "hidden_size": 3584, "initializer_range": 0.02,
    "intermediate_size": 18944, "layer_types": ["full_attention"] * 28, "max_position_embeddings": 128000,
    "max_window_layers": 28, "model_type": "qwen2_5_vl_text", "num_attention_heads": 28, "num_hidden_layers": 28,
    "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_scaling": _EDIT_ROPE, "rope_theta": 1000000.0,
    "sliding_window": None, "use_cache": True, "use_sliding_window": False, "vision_token_id": 151654,
    "vocab_size": 152064,
}  # fmt: skip
_EDIT_VISION: dict[str, Any] = {
    "depth": 32, "dtype": "float32", "fullatt_block_indexes": [7, 15, 23, 31], "hidden_act": "silu",
    "hidden_size": 1280, "in_channels": 3, "in_chans": 3, "initializer_range": 0.02, "intermediate_size": 3420,
    "model_type": "qwen2_5_vl", "num_heads": 16, "out_hidden_size": 3584, "patch_size": 14, "spatial_merge_size": 2,
    "spatial_patch_size": 14, "temporal_patch_size": 2, "tokens_per_second": 2, "window_size": 112,
}  # fmt: skip
_EDIT_TEXT: dict[str, Any] = {
    "architectures": ["Qwen2_5_VLForConditionalGeneration"], "attention_dropout": 0.0, "bos_token_id": 151643,
    "dtype": "bfloat16", "eos_token_id": 151645, "hidden_act": "silu", "hidden_size": 3584, "image_token_id": 151655,
    "initializer_range": 0.02, "intermediate_size": 18944, "max_position_embeddings": 128000, "max_window_layers": 28,
    "model_type": "qwen2_5_vl", "num_attention_heads": 28, "num_hidden_layers": 28, "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06, "rope_scaling": _EDIT_ROPE, "rope_theta": 1000000.0, "sliding_window": 32768,
    "text_config": _EDIT_WORDS, "tie_word_embeddings": False, "transformers_version": "4.57.1", "use_cache": True,
    "use_sliding_window": False, "video_token_id": 151656, "vision_config": _EDIT_VISION, "vision_end_token_id": 151653,
    "vision_start_token_id": 151652, "vision_token_id": 151654, "vocab_size": 152064,
}  # fmt: skip
_MAKERS_NAMES = (
    ("single_transformer_blocks.", "single_blocks."), ("transformer_blocks.", "double_blocks."),
    ("attn.to_qkv_mlp_proj.", "linear1."),
    *((f"attn.to_{one}.", "img_attn.qkv.") for one in "qkv"),
    *((f"attn.add_{one}_proj.", "txt_attn.qkv.") for one in "qkv"),
    ("attn.to_out.0.", "img_attn.proj."), ("attn.to_add_out.", "txt_attn.proj."), ("attn.to_out.", "linear2."),
    *((f"attn.norm_added_{one[0]}.weight", f"txt_attn.norm.{one}_norm.scale") for one in ("query", "key")),
    *((f"attn.norm_{one[0]}.weight", f"img_attn.norm.{one}_norm.scale") for one in ("query", "key")),
    ("ff_context.linear_in.", "txt_mlp.0."), ("ff_context.linear_out.", "txt_mlp.2."),
    ("ff.linear_in.", "img_mlp.0."), ("ff.linear_out.", "img_mlp.2."), ("modulation.linear.", "modulation.lin."),
    ("modulation_img.linear.", "modulation_img.lin."), ("modulation_txt.linear.", "modulation_txt.lin."),
    ("x_embedder.", "img_in."), ("context_embedder.", "txt_in."), ("proj_out.", "final_layer.linear."),
    ("norm_out.linear.", "final_layer.adaLN_modulation.1."),
    ("time_guidance_embed.timestep_embedder.linear_1.", "time_in.in_layer."),
    ("time_guidance_embed.timestep_embedder.linear_2.", "time_in.out_layer."),
)  # fmt: skip
"""What diffusers calls a part of FLUX.2's transformer, and what its makers do, in their own files."""
SHARD_BYTES = 5 * 10**9
"""Of the tensors in one file, at most, as transformers splits them; diffusers twice as many, and Qwen's makers less."""
Z_TEXT_SHARD_BYTES = 4 * 10**9
Z_SHARD_BYTES = 10 * 10**9
_CONFIGS = {
    "klein-transformer": _KLEIN_TRANSFORMER,
    "klein-vae": _KLEIN_VAE,
    "klein-text": _KLEIN_TEXT,
    "z-image-transformer": _Z_TRANSFORMER,
    "z-image-control": _Z_CONTROL,
    "z-image-vae": _Z_VAE,
    "z-image-text": _Z_TEXT,
    "qwen-edit-transformer": _EDIT_TRANSFORMER,
    "qwen-edit-vae": _EDIT_VAE,
    "qwen-edit-text": _EDIT_TEXT,
    "sd15-unet": _SD15_UNET,
    "sdxl-unet": _SDXL_UNET,
    "vae": _VAE,
    "text": _TEXT,
    "text-2": _TEXT_2,
    "clip": _CLIP,
}
_CLASSES: dict[str, Any] = {
    "klein-transformer": Flux2Transformer2DModel,
    "klein-vae": AutoencoderKLFlux2,
    "z-image-transformer": ZImageTransformer2DModel,
    "z-image-control": ZImageControlNetModel,
    "z-image-vae": AutoencoderKL,
    "qwen-edit-transformer": QwenImageTransformer2DModel,
    "qwen-edit-vae": AutoencoderKLQwenImage,
    "vae": AutoencoderKL,
}
_SMALL_TEXT = {"intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2, "vocab_size": 256}
_TINY: dict[str, dict[str, Any]] = {
    "sd15-unet": {"block_out_channels": [32, 64, 64, 64], "cross_attention_dim": 32, "layers_per_block": 1},
    "sdxl-unet": {
        "block_out_channels": [32, 64, 64], "cross_attention_dim": 80, "layers_per_block": 1, "attention_head_dim":
        [2, 4, 4], "transformer_layers_per_block": [1, 1, 2], "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 48,
    },
    "vae": {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1},
    "klein-transformer": {"attention_head_dim": 16, "axes_dims_rope": [4, 4, 4, 4], "joint_attention_dim": 48,
                          "num_attention_heads": 2, "num_layers": 1, "num_single_layers": 2,
                          "timestep_guidance_channels": 16},
    "klein-vae": {"block_out_channels": [8, 8, 16, 16], "layers_per_block": 1, "norm_num_groups": 8},
    "klein-text": {"head_dim": 8, "hidden_size": 16, "intermediate_size": 32, "layer_types": ["full_attention"] * 30,
                   "num_attention_heads": 2, "num_hidden_layers": 30, "num_key_value_heads": 1, "vocab_size": 320},
    "z-image-transformer": {"axes_dims": [4, 6, 6], "cap_feat_dim": 16, "dim": 32, "n_heads": 2, "n_kv_heads": 2,
                            "n_layers": 4},
    "z-image-control": {"control_layers_places": [0, 2], "dim": 32, "n_heads": 2, "n_kv_heads": 2},
    "z-image-vae": {"block_out_channels": [8, 8, 16, 16], "layers_per_block": 1, "norm_num_groups": 8},
    "z-image-text": {"head_dim": 8, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2,
                     "num_hidden_layers": 3, "num_key_value_heads": 1, "vocab_size": 320},
    "qwen-edit-transformer": {"attention_head_dim": 16, "axes_dims_rope": [4, 6, 6], "joint_attention_dim": 16,
                              "num_attention_heads": 2, "num_layers": 2},
    "qwen-edit-vae": {"base_dim": 8, "num_res_blocks": 1},
    "qwen-edit-text": {
        "hidden_size": 16, "image_token_id": 261, "vocab_size": 320,
        "text_config": _EDIT_WORDS | {
            "hidden_size": 16, "intermediate_size": 32, "layer_types": ["full_attention"] * 2, "num_attention_heads": 2,
            "num_hidden_layers": 2, "num_key_value_heads": 1, "vocab_size": 320, "bos_token_id": 256, "eos_token_id": 258,
            "rope_scaling": _EDIT_ROPE | {"mrope_section": [2, 1, 1]},
        },
        "vision_config": _EDIT_VISION | {"depth": 2, "fullatt_block_indexes": [1], "hidden_size": 16, "num_heads": 2,
                                         "intermediate_size": 32, "out_hidden_size": 16},
    },
    "text": _SMALL_TEXT | {"hidden_size": 32, "projection_dim": 32},
    "text-2": _SMALL_TEXT | {"hidden_size": 48, "projection_dim": 48},
    "clip": {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 3,
             "projection_dim": 32},
}  # fmt: skip
LORA_RANK = 128
"""Of the LoRA inside FaceID files."""


def config(name: str, *, tiny: bool = False) -> dict[str, Any]:
    """A model's configuration, as diffusers and transformers write it; `tiny` keeps the classes and shrinks the widths."""
    return _CONFIGS[name] | (_TINY[name] if tiny else {})


def config_text(name: str, **more: Any) -> str:
    """The configuration file of a model at full size, byte for byte."""
    end = "" if name == "z-image-text" else "\n"
    return json.dumps(config(name) | more, indent=2) + end


def scheduler_text(family: str) -> str:
    """scheduler/scheduler_config.json; those of SD 1.5, klein and Z-Image byte for byte."""
    if family == "flux2":
        return json.dumps(_KLEIN_SCHEDULER, indent=2) + "\n"
    if family == "z_image":
        return json.dumps(_Z_SCHEDULER, indent=2)
    table: dict[str, Any] = {"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0"} | _NOISE
    table |= {"set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None}
    if family == "sdxl":
        table |= {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"}
    return json.dumps(table | {"clip_sample": False}, indent=2) + "\n"


def index_text(family: str) -> str:
    """model_index.json; those of SD 1.5, klein and Z-Image byte for byte."""
    if family == "flux2":
        return json.dumps(_KLEIN_INDEX, indent=2) + "\n"
    if family == "z_image":
        return json.dumps(_Z_INDEX, indent=4)
    table: dict[str, Any] = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.6.0",
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    if family == "sdxl":
        table = {key: value for key, value in table.items() if key not in ("feature_extractor", "safety_checker")}
        table |= {
            "_class_name": "StableDiffusionXLPipeline",
            "force_zeros_for_empty_prompt": True,
            "scheduler": ["diffusers", "EulerDiscreteScheduler"],
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
        }
    return json.dumps(table, indent=2) + "\n"


def tensors(name: str, *, dtype: str = "F16", tiny: bool = False) -> Shapes:
    """Every tensor of a model's file.

    Args:
        name: sd15-unet, sdxl-unet, vae, text, text-2, clip, sd15-controlnet, sdxl-controlnet, klein-transformer,
            klein-vae, klein-text, z-image-transformer, z-image-control, z-image-vae, z-image-text,
            qwen-edit-transformer, qwen-edit-vae or qwen-edit-text.
        dtype: Of the weights; counters are I64.
        tiny: At the small widths.
    """
    with torch.device("meta"):
        state = _model(name, tiny).state_dict()
    shapes: Shapes = {}
    for key, value in state.items():
        inner = key if not name.startswith("text") or key.startswith("text_") else f"text_model.{key}"
        if name == "qwen-edit-text":
            inner = edit_text_name(key)
        elif inner == "lm_head.weight":  # the same as the embedding, and in no file
            continue
        shapes[inner] = (tuple(value.shape), "I64" if value.dtype == torch.int64 else dtype)
    return shapes


def edit_text_name(name: str) -> str:
    """What the files of Qwen-Image-Edit's text encoder call a tensor, as transformers did before version 4.52."""
    return name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")


def makers_tensors(names: Iterable[str]) -> dict[str, list[str]]:
    """Map the tensors of the FLUX.2 makers' file to diffusers' names: name there -> the names that it joins, in order."""
    made: dict[str, list[str]] = {}
    for name in names:
        theirs = name
        for ours, other in _MAKERS_NAMES:
            theirs = theirs.replace(ours, other)
        if theirs.startswith("single_blocks."):
            theirs = theirs.replace("img_attn.norm.", "norm.")
        made.setdefault(theirs, []).append(name)
    return {theirs: sorted(inside, key=_query_key_value) for theirs, inside in made.items()}


def _query_key_value(name: str) -> int:
    return next(
        (i for i, one in enumerate("qkv") if name.endswith((f".to_{one}.weight", f".add_{one}_proj.weight"))), 0
    )


def is_8_bit(name: str) -> bool:
    """Whether this tensor has 8 bits in the 8-bit file of FLUX.2's makers: the large layers of the blocks."""
    return name.startswith(("double_blocks.", "single_blocks.")) and name.endswith(".weight")


_Z_MAKERS_NAMES = (
    ("all_final_layer.2-1.", "final_layer."), ("all_x_embedder.2-1.", "x_embedder."), (".to_out.0.", ".out."),
    (".norm_q.", ".q_norm."), (".norm_k.", ".k_norm."), *((f".to_{one}.", ".qkv.") for one in "qkv"),
)  # fmt: skip
"""What diffusers calls a part of Z-Image's transformer, and what its makers do, in whose names it is shared as one file."""


def z_image_makers_tensors(names: Iterable[str]) -> dict[str, list[str]]:
    """As `makers_tensors`, for the single file of Z-Image's transformer."""
    made: dict[str, list[str]] = {}
    for name in names:
        theirs = name
        for ours, other in _Z_MAKERS_NAMES:
            theirs = theirs.replace(ours, other)
        made.setdefault(theirs, []).append(name)
    return {theirs: sorted(inside, key=_query_key_value) for theirs, inside in made.items()}


def z_image_bf16(*, tiny: bool = False) -> Shapes:
    """The tensors of the single file of Z-Image's transformer in 16 bits."""
    parts = tensors("z-image-transformer", dtype="BF16", tiny=tiny)
    return {
        name: ((sum(parts[part][0][0] for part in inside), *parts[inside[0]][0][1:]), "BF16")
        for name, inside in z_image_makers_tensors(parts).items()
    }


def klein_fp8(*, tiny: bool = False) -> tuple[Shapes, dict[str, str]]:
    """The 8-bit file of klein's makers: its tensors, and its header's metadata."""
    parts = tensors("klein-transformer", dtype="BF16", tiny=tiny)
    shapes: Shapes = {}
    for name, inside in makers_tensors(parts).items():
        rows, columns = sum(parts[part][0][0] for part in inside), parts[inside[0]][0][1:]
        shapes[name] = ((rows, *columns), "F8_E4M3" if is_8_bit(name) else "BF16")
        if is_8_bit(name):
            shapes |= {name.removesuffix("weight") + scale: ((), "F32") for scale in ("weight_scale", "input_scale")}
    layers = {name.removesuffix(".weight"): {"format": "float8_e4m3fn"} for name in shapes if is_8_bit(name)}
    return shapes, {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": layers})}


def _model(name: str, tiny: bool) -> Any:
    if name.endswith("-controlnet"):
        return ControlNetModel.from_unet(_model(name.replace("controlnet", "unet"), tiny))
    about = {key: value for key, value in config(name, tiny=tiny).items() if not key.startswith("_")}
    if name == "qwen-edit-text":
        return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**about))
    if name.endswith("-text"):
        return Qwen3ForCausalLM(Qwen3Config(**about))
    if name in _CLASSES:
        return _CLASSES[name](**about)
    if name.endswith("unet"):
        return UNet2DConditionModel(**about)
    about = {key: value for key, value in about.items() if key not in ("architectures", "model_type", "torch_dtype")}
    if name == "clip":
        return ClipVision(CLIPVisionConfig(**about))
    return (CLIPTextModelWithProjection if name == "text-2" else CLIPTextModel)(CLIPTextConfig(**about))


def shards(shapes: Shapes, limit: int = SHARD_BYTES) -> list[Shapes]:
    """The tensors of each file, in the model's order; a file ends before it would exceed `limit` bytes."""
    files: list[Shapes] = [{}]
    for name, entry in shapes.items():
        if data_bytes(files[-1]) + data_bytes({name: entry}) > limit:
            files.append({})
        files[-1][name] = entry
    return files


def shard_name(number: int, count: int, stem: str = "model") -> str:
    """The file of a shard, counted from 0; of diffusers the stem is `diffusion_pytorch_model`."""
    return f"{stem}-{number + 1:05}-of-{count:05}.safetensors"


def shard_index(files: list[Shapes], stem: str = "model", *, parameters: bool = True) -> str:
    """STEM.safetensors.index.json of these files; newer versions of transformers also count the parameters, of two bytes."""
    names = {key: shard_name(i, len(files), stem) for i, shapes in enumerate(files) for key in shapes}
    total = sum(data_bytes(shapes) for shapes in files)
    about = {"total_parameters": total // 2} if parameters else {}
    about |= {"total_size": total}
    return json.dumps({"metadata": about, "weight_map": names}, indent=2, sort_keys=True) + "\n"


def adapter(kind: str, family: str, *, dtype: str = "F16", tiny: bool = False) -> Shapes:
    """Every tensor of an adapter of `kind` (as in recipes), with the keys `image_proj.` and `ip_adapter.`."""
    with torch.device("meta"):
        net = _model(f"{family}-unet", tiny)
    cross = int(net.config.cross_attention_dim)
    proj = _projection(kind, family, cross, tiny=tiny)
    layers: dict[str, tuple[int, ...]] = {}
    for i, name in enumerate(net.attn_processors):
        width, is_cross = _width(net, name), name.endswith("attn2.processor")
        if is_cross:
            layers |= {f"{i}.to_k_ip.weight": (width, cross), f"{i}.to_v_ip.weight": (width, cross)}
        if kind.startswith("faceid"):
            for p in ("q", "k", "v", "out"):
                layers[f"{i}.to_{p}_lora.down.weight"] = (LORA_RANK, cross if is_cross and p in "kv" else width)
                layers[f"{i}.to_{p}_lora.up.weight"] = (width, LORA_RANK)
    flat = {f"image_proj.{k}": v for k, v in proj.items()} | {f"ip_adapter.{k}": v for k, v in layers.items()}
    return {key: (shape, dtype) for key, shape in flat.items()}


def _projection(kind: str, family: str, cross: int, *, tiny: bool) -> dict[str, tuple[int, ...]]:
    """The network of an adapter that turns an embedding into words of the width `cross`."""
    clip_width = int(config("clip", tiny=tiny)["hidden_size"])
    if kind == "instantid":
        return _resampler(512, cross, 16, 64 if tiny else 1280, 1 if tiny else 20)
    if kind == "plus-face":
        inner = 64 if tiny else {"sd15": 768, "sdxl": 1280}[family]
        return _resampler(clip_width, cross, 16, inner, inner // 64)
    proj = {
        "proj.0.weight": (1024, 512), "proj.0.bias": (1024,), "proj.2.weight": (cross * 4, 1024),
        "proj.2.bias": (cross * 4,), "norm.weight": (cross,), "norm.bias": (cross,),
    }  # fmt: skip
    if kind == "faceid-plusv2":
        inside = _resampler(clip_width, cross, 0, cross, max(1, cross // 64))
        proj |= {f"perceiver_resampler.{key}": shape for key, shape in inside.items()}
    return proj


def _resampler(seen: int, cross: int, queries: int, width: int, heads: int) -> dict[str, tuple[int, ...]]:
    """IP-Adapter's Resampler: four layers; without queries of its own it is the one inside FaceID-Plus."""
    shapes: dict[str, tuple[int, ...]] = {"latents": (1, queries, width)} if queries else {}
    shapes |= {"proj_in.weight": (width, seen), "proj_in.bias": (width,)}
    for i in range(4):
        shapes |= {
            f"layers.{i}.0.{norm}.{leaf}": (width,) for norm in ("norm1", "norm2") for leaf in ("weight", "bias")
        }
        shapes |= {
            f"layers.{i}.0.to_q.weight": (64 * heads, width), f"layers.{i}.0.to_kv.weight": (128 * heads, width),
            f"layers.{i}.0.to_out.weight": (width, 64 * heads), f"layers.{i}.1.0.weight": (width,),
            f"layers.{i}.1.0.bias": (width,), f"layers.{i}.1.1.weight": (width * 4, width),
            f"layers.{i}.1.3.weight": (width, width * 4),
        }  # fmt: skip
    shapes |= {"proj_out.weight": (cross, width), "proj_out.bias": (cross,)}
    return shapes | {"norm_out.weight": (cross,), "norm_out.bias": (cross,)}


def _width(net: Any, name: str) -> int:
    blocks = list(net.config.block_out_channels)
    if name.startswith("mid"):
        return int(blocks[-1])
    return int((blocks[::-1] if name.startswith("up") else blocks)[int(name.split(".")[1])])


def lora(family: str, *, rank: int = 64, tiny: bool = False) -> Shapes:
    """A LoRA of every attention layer in kohya's layout; those of LCM and Lightning change other layers, too."""
    with torch.device("meta"):
        net = _model(f"{family}-unet", tiny)
    shapes: Shapes = {}
    for name, module in net.named_modules():
        if name.endswith(("to_q", "to_k", "to_v", "to_out.0")):
            key = "lora_unet_" + name.replace(".", "_")
            shapes[f"{key}.lora_down.weight"] = ((rank, module.in_features), "F16")
            shapes[f"{key}.lora_up.weight"] = ((module.out_features, rank), "F16")
            shapes[f"{key}.alpha"] = ((), "F16")
    return shapes


def edit_lora(*, rank: int = 64, tiny: bool = False) -> Shapes:
    """Lightning's LoRA of Qwen-Image-Edit: every layer of the blocks' attention and feed-forward networks."""
    with torch.device("meta"):
        net = _model("qwen-edit-transformer", tiny)
    shapes: Shapes = {}
    for name, module in net.transformer_blocks.named_modules(prefix="transformer_blocks"):
        if isinstance(module, torch.nn.Linear) and "_mod." not in name:
            shapes[f"{name}.lora_down.weight"] = ((rank, module.in_features), "BF16")
            shapes[f"{name}.lora_up.weight"] = ((module.out_features, rank), "BF16")
            shapes[f"{name}.alpha"] = ((), "BF16")
    return shapes


def data_bytes(shapes: Shapes) -> int:
    """Bytes of the tensors, without the header."""
    return sum(math.prod(shape) * BYTES[dtype] for shape, dtype in shapes.values())


def file_bytes(shapes: Shapes, *, metadata: Mapping[str, str] | None = None, padded: bool = True) -> int:
    """Length of the safetensors file that holds these tensors: its header names each of them.

    Args:
        shapes: Every tensor.
        metadata: `__metadata__` of the header; None leaves it out, as older versions of safetensors did.
        padded: Whether the header ends on a multiple of 8, as since version 0.3.
    """
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    at = 0
    for name, (shape, dtype) in sorted(shapes.items(), key=lambda item: (-BYTES[item[1][1]], item[0])):
        size = math.prod(shape) * BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    length = len(json.dumps(header, separators=(",", ":")).encode())
    return 8 + length + (-length % 8 if padded else 0) + at
