"""Every part of the weights manifest in miniature: random weights, the real file names, key names and classes.

`shelf(parts)` returns what a hub serves and the manifest that pins it. Only the widths differ from the real models,
and those are read from the configuration files and shapes, as they are for the real ones.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    ControlNetModel,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2Transformer2DModel,
    PNDMScheduler,
    QwenImageTransformer2DModel,
    UNet2DConditionModel,
    ZImageControlNetModel,
    ZImageTransformer2DModel,
)
from safetensors.torch import load_file, save, save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2TokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from portrait.hub.manifest import Part, find_part
from tests.scripts import script

full_size = script("full_size")

TEXT, TEXT_2, CLIP = 32, 48, 32  # diffusers tells SDXL's two text encoders apart by their widths
CROSS = {"sd15": TEXT, "sdxl": TEXT + TEXT_2}
BLOCKS = {"sd15": (16, 32, 32, 32), "sdxl": (16, 32, 32)}
_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def family_of(part: str) -> str:
    return "sdxl" if "sdxl" in part or part.startswith("instantid") else "sd15"


@cache
def unet(family: str) -> UNet2DConditionModel:
    """The block types of the real model, one layer a block."""
    torch.manual_seed(3)
    common = {
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": BLOCKS[family],
        "layers_per_block": 1, "cross_attention_dim": CROSS[family], "norm_num_groups": 8,
    }  # fmt: skip
    if family == "sd15":
        return UNet2DConditionModel(
            **common,
            down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
            attention_head_dim=8,
        )
    return UNet2DConditionModel(
        **common,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=(2, 4, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + TEXT_2,
    )


@cache
def vae(factor: float) -> AutoencoderKL:
    torch.manual_seed(4)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16), layers_per_block=1, latent_channels=4, norm_num_groups=8,
        sample_size=64, scaling_factor=factor, force_upcast=False,
    )  # fmt: skip


def tokenizer(folder: Path) -> CLIPTokenizer:
    letters = [chr(c) for c in range(33, 127)]
    vocabulary = {c: i for i, c in enumerate([*letters, *(c + "</w>" for c in letters)])}
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[special] = len(vocabulary)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    names = {"bos_token": "<|startoftext|>"} | dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>")
    (folder / "special_tokens_map.json").write_text(json.dumps(names))
    about = names | {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return CLIPTokenizer.from_pretrained(folder)


def text_encoder(kind: Any, width: int, words: int) -> Any:
    torch.manual_seed(5)
    return kind(
        CLIPTextConfig(
            vocab_size=words, hidden_size=width, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=77, projection_dim=width, bos_token_id=words - 2, eos_token_id=words - 1,
            pad_token_id=words - 1,
        )
    )  # fmt: skip


def base(family: str, folder: Path) -> None:
    """A diffusers folder in fp16, with the file names that the hub has."""
    words = len(tokenizer(folder / "tokenizer"))
    text_encoder(CLIPTextModel, TEXT, words).half().save_pretrained(folder / "text_encoder", variant="fp16")
    index: dict[str, Any] = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.6.0",
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    }
    scheduler: Any = PNDMScheduler(**_NOISE, skip_prk_steps=True, set_alpha_to_one=False)
    if family == "sdxl":
        tokenizer(folder / "tokenizer_2")
        second = text_encoder(CLIPTextModelWithProjection, TEXT_2, words)
        second.half().save_pretrained(folder / "text_encoder_2", variant="fp16")
        scheduler = EulerDiscreteScheduler(**_NOISE, timestep_spacing="leading")
        index = {
            "_class_name": "StableDiffusionXLPipeline",
            "_diffusers_version": "0.19.0.dev0",
            "force_zeros_for_empty_prompt": True,
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
        }
    scheduler.save_pretrained(folder / "scheduler")
    unet(family).half().save_pretrained(folder / "unet", variant="fp16")
    unet(family).float()
    vae(0.18215).half().save_pretrained(folder / "vae", variant="fp16")
    vae(0.18215).float()
    index |= {
        "scheduler": ["diffusers", type(scheduler).__name__],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))


class _Random:
    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int, scale: float = 1.0) -> torch.Tensor:
        return (torch.randn(*shape, generator=self._generator) * shape[-1] ** -0.5 * scale).half()


def resampler(random: _Random, seen: int, cross: int, queries: int, latents: bool, inner: int = 16) -> dict[str, Any]:
    """Keys of `ip_adapter.resampler.Resampler`: four layers of attention and feed-forward, one head of 64."""
    width = inner if latents else cross
    keys = {"proj_in.weight": random(width, seen), "proj_in.bias": random(width)}
    if latents:
        keys["latents"] = random(1, queries, width)
    for i in range(4):
        for norm in ("norm1", "norm2"):
            keys |= {
                f"layers.{i}.0.{norm}.weight": torch.ones(width).half(),
                f"layers.{i}.0.{norm}.bias": random(width),
            }
        keys |= {
            f"layers.{i}.0.to_q.weight": random(64, width),
            f"layers.{i}.0.to_kv.weight": random(128, width),
            f"layers.{i}.0.to_out.weight": random(width, 64),
            f"layers.{i}.1.0.weight": torch.ones(width).half(),
            f"layers.{i}.1.0.bias": random(width),
            f"layers.{i}.1.1.weight": random(width * 4, width),
            f"layers.{i}.1.3.weight": random(width, width * 4),
        }
    keys |= {"proj_out.weight": random(cross, width), "proj_out.bias": random(cross)}
    return keys | {"norm_out.weight": torch.ones(cross).half(), "norm_out.bias": random(cross)}


def adapter(part: str) -> dict[str, dict[str, torch.Tensor]]:
    """`image_proj` and `ip_adapter` with the original's keys; FaceID files hold their LoRA."""
    family = family_of(part)
    cross, random = CROSS[family], _Random(7)
    if part.startswith("instantid"):
        proj = resampler(random, 512, cross, 16, latents=True)
    elif "plus-face" in part or part.startswith("ip-adapter-plus_"):
        proj = resampler(random, CLIP, cross, 16, latents=True)
    else:
        proj = {
            "proj.0.weight": random(1024, 512, scale=8), "proj.0.bias": random(1024, scale=4),
            "proj.2.weight": random(cross * 4, 1024), "proj.2.bias": random(cross * 4, scale=4),
            "norm.weight": torch.ones(cross).half(), "norm.bias": random(cross),
        }  # fmt: skip
        if "plusv2" in part:
            inside = resampler(random, CLIP, cross, 4, latents=False)
            proj |= {f"perceiver_resampler.{key}": value for key, value in inside.items()}
    layers = {}
    net = unet(family)
    for i, name in enumerate(net.attn_processors):
        width, is_cross = _width(net, name), name.endswith("attn2.processor")
        if is_cross:
            layers[f"{i}.to_k_ip.weight"] = random(width, cross, scale=2)
            layers[f"{i}.to_v_ip.weight"] = random(width, cross, scale=2)
        if part.startswith("faceid"):
            for p in ("q", "k", "v", "out"):
                layers[f"{i}.to_{p}_lora.down.weight"] = random(4, cross if is_cross and p in "kv" else width)
                layers[f"{i}.to_{p}_lora.up.weight"] = random(width, 4)
    return {"image_proj": proj, "ip_adapter": layers}


def _width(net: UNet2DConditionModel, name: str) -> int:
    blocks = net.config.block_out_channels
    if name.startswith("mid"):
        return int(blocks[-1])
    return int((blocks[::-1] if name.startswith("up") else blocks)[int(name.split(".")[1])])


def kohya_lora(family: str, seed: int = 9) -> bytes:
    """A LoRA of every attention layer in the layout of kohya's scripts, as the LCM and Lightning LoRAs have it."""
    random, state = _Random(seed), {}
    for name, module in unet(family).named_modules():
        if name.endswith(("to_q", "to_k", "to_v", "to_out.0")):
            key = "lora_unet_" + name.replace(".", "_")
            state[f"{key}.lora_down.weight"] = random(4, module.in_features)
            state[f"{key}.lora_up.weight"] = random(module.out_features, 4)
            state[f"{key}.alpha"] = torch.tensor(4.0).half()
    return save(state)


def recognizer(seed: int) -> bytes:
    """An ONNX file with the shapes of ArcFace, (N, 3, 112, 112) -> (N, 512): a random projection of a small crop."""
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(seed).normal(0, 0.4, (588, 512)).astype(np.float32)
    nodes = [
        helper.make_node("AveragePool", ["input.1"], ["pool"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["pool"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "w", "b"], ["683"]),
    ]
    init = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.zeros(512, np.float32), "b")]
    shapes = [("input.1", [None, 3, 112, 112]), ("683", [None, 512])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes]
    graph = helper.make_graph(nodes, "arcface", ends[:1], ends[1:], init)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString()


def _pickle(state: Any) -> bytes:
    out = io.BytesIO()
    torch.save(state, out)
    return out.getvalue()


def _controlnet(part: str, folder: Path) -> None:
    torch.manual_seed(11)
    net = ControlNetModel.from_unet(unet(family_of(part)))
    for block in (*net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out):
        torch.nn.init.normal_(block.weight, std=0.3)  # real ones start at zero and are trained away from it
    half = part in ("control-sdxl-canny", "instantid-identitynet")
    net = net.half() if half else net
    pickled = part == "control-sd15-tile"
    net.save_pretrained(
        folder, variant="fp16" if part == "control-sdxl-canny" else None, safe_serialization=not pickled
    )


KLEIN_TEXT = 16
"""Width of the miniature text encoder; the transformer is given three of its layers."""
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)


MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
EDIT_MARKS = (*MARKS, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")


def qwen_tokenizer(folder: Path, marks: tuple[str, ...] = MARKS) -> int:
    """The files of Qwen's tokenizer, which reads bytes; returns how many words it knows."""
    from tokenizers.pre_tokenizers import ByteLevel

    vocabulary = {letter: i for i, letter in enumerate(sorted(ByteLevel.alphabet()))}
    special = {name: 256 + i for i, name in enumerate(marks)}
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "added_tokens.json").write_text(json.dumps(special))
    names = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(names))
    added = {str(i): {"content": name, "special": True} for name, i in special.items()}
    about: dict[str, Any] = {"tokenizer_class": "Qwen2Tokenizer", "model_max_length": 131072}
    (folder / "tokenizer_config.json").write_text(json.dumps(about | names | {"added_tokens_decoder": added}))
    (folder / "chat_template.jinja").write_text(CHAT)
    return len(vocabulary) + len(special)


def klein(folder: Path) -> None:
    """A diffusers folder of FLUX.2 klein in bfloat16, with the classes, file names and key names that the hub has."""
    words = qwen_tokenizer(folder / "tokenizer")
    torch.manual_seed(12)
    encoder = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=words, hidden_size=KLEIN_TEXT, intermediate_size=32, num_hidden_layers=30, num_attention_heads=2,
            num_key_value_heads=1, head_dim=8, tie_word_embeddings=True, bos_token_id=256, eos_token_id=258,
            initializer_range=0.3,
        )
    )  # fmt: skip
    encoder.bfloat16().save_pretrained(folder / "text_encoder", max_shard_size="80KB")
    transformer = Flux2Transformer2DModel(
        in_channels=128, num_layers=1, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=3 * KLEIN_TEXT, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False,
        timestep_guidance_channels=16,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter.mul_(3)  # so that what is shown and said moves the picture by more than rounding
    transformer.bfloat16().save_pretrained(folder / "transformer")
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 8, 16, 16), layers_per_block=1, latent_channels=32, norm_num_groups=8
    )
    vae.bn.running_mean.normal_(std=0.1)
    vae.bn.running_var.uniform_(0.01, 0.1)
    vae.bfloat16().save_pretrained(folder / "vae")
    FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(full_size.index_text("flux2"))


def klein_single_file(transformer: Path, *, scaled: bool) -> bytes:
    """The one file of a transformer's weights in the layout of its makers, as theirs in 8 bits where it is `scaled`."""
    state = load_file(transformer / "diffusion_pytorch_model.safetensors")
    tensors: dict[str, torch.Tensor] = {}
    for name, inside in full_size.makers_tensors(state).items():
        tensors[name] = torch.cat([state[part] for part in inside])
        if (
            name == "final_layer.adaLN_modulation.1.weight"
        ):  # theirs is shift and scale, that of diffusers scale and shift
            tensors[name] = torch.cat(tensors[name].chunk(2)[::-1])
        if scaled and full_size.is_8_bit(name):
            scale = tensors[name].abs().max().float() / 448
            tensors[name] = (tensors[name] / scale).to(torch.float8_e4m3fn)
            layer = name.removesuffix("weight")
            tensors |= {f"{layer}weight_scale": scale, f"{layer}input_scale": torch.tensor(1.0)}
    return save(tensors)


def z_image(folder: Path) -> None:
    """A diffusers folder of Z-Image-Turbo with the classes, file names, key names and types that the hub has."""
    _z_tokenizer(folder / "tokenizer")
    torch.manual_seed(13)
    small = full_size.config("z-image-text", tiny=True) | {
        "initializer_range": 0.3,
        "bos_token_id": 256,
        "eos_token_id": 258,
    }
    encoder = Qwen3ForCausalLM(Qwen3Config(**small))
    encoder.bfloat16().save_pretrained(folder / "text_encoder", max_shard_size="10KB")
    for name, place in (("z-image-transformer", "transformer"), ("z-image-vae", "vae")):
        about = {k: v for k, v in full_size.config(name, tiny=True).items() if not k.startswith("_")}
        network = (ZImageTransformer2DModel if place == "transformer" else AutoencoderKL)(**about)
        with torch.no_grad():
            for key, parameter in network.named_parameters():
                if key.endswith("pad_token"):
                    parameter.normal_()  # as they come they are whatever the memory held
                elif place == "transformer":
                    parameter.mul_(2)  # so that what is said moves the picture by more than rounding
        if place == "vae":
            network.bfloat16()
        network.save_pretrained(folder / place, max_shard_size="1060KB")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(full_size.scheduler_text("z_image"))
    (folder / "model_index.json").write_text(full_size.index_text("z_image"))


def _z_tokenizer(folder: Path) -> None:
    """Qwen's tokenizer as Z-Image has it: in one file as well, and with the conversation in its configuration."""
    qwen_tokenizer(folder)
    Qwen2TokenizerFast.from_pretrained(str(folder)).backend_tokenizer.save(str(folder / "tokenizer.json"))
    about = json.loads((folder / "tokenizer_config.json").read_text()) | {"chat_template": CHAT}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    for name in ("added_tokens.json", "special_tokens_map.json", "chat_template.jinja"):
        (folder / name).unlink()


def z_image_controlnet() -> ZImageControlNetModel:
    """ControlNet-Union in miniature: two layers, and two refiners."""
    torch.manual_seed(14)
    net = ZImageControlNetModel(**full_size.config("z-image-control", tiny=True))
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "_proj." in name:
                parameter.normal_(std=0.3)  # real ones start at zero and are trained away from it
    return net.bfloat16()


def z_image_single_file(transformer: Path) -> bytes:
    """The one file of a transformer's weights under its makers' names, in bfloat16, as programs of others read it."""
    state = {key: value for file in transformer.glob("*.safetensors") for key, value in load_file(file).items()}
    inside = full_size.z_image_makers_tensors(state)
    return save({name: torch.cat([state[part] for part in parts]).bfloat16() for name, parts in inside.items()})


def qwen_edit(folder: Path) -> None:
    """A diffusers folder of Qwen-Image-Edit-2511 with the classes, file names, key names and types that the hub has."""
    qwen_tokenizer(folder / "processor", EDIT_MARKS)
    reader = Qwen2TokenizerFast.from_pretrained(str(folder / "processor"))
    reader.backend_tokenizer.save(str(folder / "processor" / "tokenizer.json"))
    torch.manual_seed(15)
    about = full_size.config("qwen-edit-text", tiny=True)
    for inner in ("text_config", "vision_config"):
        about = about | {inner: about[inner] | {"initializer_range": 0.3}}
    encoder = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**about))
    state = {full_size.edit_text_name(name): value for name, value in encoder.bfloat16().state_dict().items()}
    _save_shards(folder / "text_encoder", "model", state, 4)
    (folder / "text_encoder" / "config.json").write_text(json.dumps(about, indent=2))
    transformer = QwenImageTransformer2DModel(**_plain(full_size.config("qwen-edit-transformer", tiny=True)))
    with torch.no_grad():
        for (
            name,
            parameter,
        ) in transformer.named_parameters():  # what is shown and said moves the picture by more than rounding
            parameter.mul_(4 if "attn" in name else 2)
    transformer.save_config(folder / "transformer")
    _save_shards(folder / "transformer", "diffusion_pytorch_model", transformer.bfloat16().state_dict(), 5)
    vae = AutoencoderKLQwenImage(**_plain(full_size.config("qwen-edit-vae", tiny=True)))
    vae.bfloat16().save_pretrained(folder / "vae")


def _plain(about: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in about.items() if not key.startswith("_")}


def _save_shards(folder: Path, stem: str, state: dict[str, torch.Tensor], count: int) -> None:
    """Tensors in so many files, with the index that the libraries' own loaders read."""
    folder.mkdir(exist_ok=True)
    names, each = list(state), -(-len(state) // count)
    places: dict[str, str] = {}
    for i in range(count):
        file = full_size.shard_name(i, count, stem)
        inside = names[i * each : (i + 1) * each]
        save_file({name: state[name].contiguous() for name in inside}, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(inside, file)
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def lightning_lora() -> bytes:
    """Lightning's LoRA in miniature, with its publisher's key names."""
    noise = torch.Generator().manual_seed(16)
    state = {}
    for name, (shape, _) in full_size.edit_lora(rank=4, tiny=True).items():
        value = torch.tensor(2.0) if name.endswith("alpha") else torch.randn(shape, generator=noise) / 4
        state[name] = value.bfloat16()
    return save(state)


def _folder_files(part: str, folder: Path) -> None:
    if part in ("sd15", "sdxl"):
        base(part, folder)
    elif part in ("klein4b", "klein4b-text-vae"):
        klein(folder)
    elif part in ("z-image-turbo", "z-image-turbo-text-vae"):
        z_image(folder)
    elif part == "qwen-edit-2511":
        qwen_edit(folder)
    elif part in ("sd-vae-ft-mse", "sdxl-vae-fp16-fix"):
        vae(0.13025 if "sdxl" in part else 0.18215).save_pretrained(folder)
    elif part == "clip-vit-h":
        torch.manual_seed(6)
        CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=CLIP, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, image_size=224,
                patch_size=14, projection_dim=32,
            )
        ).save_pretrained(folder / "models/image_encoder")  # fmt: skip
    else:
        _controlnet(part, folder / "ControlNetModel" if part == "instantid-identitynet" else folder)


@cache
def _built(name: str) -> tuple[tuple[str, bytes], ...]:
    """Every file that the miniature of a part has, path -> bytes."""
    lora = {
        "lcm-lora-sd15": ("pytorch_lora_weights.safetensors", "sd15"),
        "lcm-lora-sdxl": ("pytorch_lora_weights.safetensors", "sdxl"),
        "sdxl-lightning-4step": ("sdxl_lightning_4step_lora.safetensors", "sdxl"),
    }
    if name in lora:
        path, family = lora[name]
        return ((path, kohya_lora(family)),)
    if name.endswith("-single"):
        path = {"sd15-single": "v1-5-pruned-emaonly.safetensors", "sdxl-single": "sd_xl_base_1.0.safetensors"}[name]
        return ((path, checkpoint(family_of(name))),)
    if name == "z-image-turbo-control-lite":
        (file,) = find_part(name).files
        return ((file.path, save(z_image_controlnet().state_dict())),)
    if name == "qwen-edit-2511-lightning-4steps":
        (file,) = find_part(name).files
        return ((file.path, lightning_lora()),)
    if name.startswith("faceid") or name == "instantid":
        stem = "ip-adapter" if name == "instantid" else f"ip-adapter-{name}"
        return ((f"{stem}.bin", _pickle(adapter(name))),)
    if name.startswith("ip-adapter"):
        flat = {f"{top}.{key}": value for top, table in adapter(name).items() for key, value in table.items()}
        return ((f"{'sdxl_models' if 'sdxl' in name else 'models'}/{name}.safetensors", save(flat)),)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if name == "klein4b-fp8":
            klein(folder)
            return (("flux-2-klein-4b-fp8.safetensors", klein_single_file(folder / "transformer", scaled=True)),)
        if name == "z-image-turbo-bf16":
            z_image(folder)
            return ((find_part(name).files[0].path, z_image_single_file(folder / "transformer")),)
        _folder_files(name, folder)
        return tuple((p.relative_to(folder).as_posix(), p.read_bytes()) for p in folder.rglob("*") if p.is_file())


def shelf(parts: Iterable[Part]) -> tuple[dict[tuple[str, str, str], bytes], dict[str, bytes], str]:
    """The hub's files, the release's archives, and a manifest with their pins.

    A file that the shipped manifest has no hash for has none here either, so it is pinned on first use. A part whose
    miniature lacks a file that the manifest lists is a mistake here, and fails.
    """
    files: dict[tuple[str, str, str], bytes] = {}
    archives: dict[str, bytes] = {}
    lines: list[str] = []
    for part in parts:
        if part.archive:
            built = {f.path: recognizer(i) for i, f in enumerate(part.files)}
            inside = f"{part.name}/" if part.name == "antelopev2" else ""
            out = io.BytesIO()
            with zipfile.ZipFile(out, "w") as opened:
                for path, data in built.items():
                    opened.writestr(inside + path, data)
            archives[f"/releases/{part.revision}/{part.archive}"] = whole = out.getvalue()
            origin = f'archive = "{part.archive}"\nsha256 = "{_sha(whole)}"\nbytes = {len(whole)}'
        else:
            built = dict(_built(part.name))
            files |= {(part.repo, part.revision, path): data for path, data in built.items()}
            origin = f'repo = "{part.repo}"'
        lines += [f'[{part.name}]\ntitle = "tiny"\n{origin}\nrevision = "{part.revision}"']
        lines += [f'license = "{part.license.replace(chr(34), "")}"\ncommercial = "{part.commercial}"\nfiles = [']
        for file in part.files:
            data = built[file.path]
            pin = f', sha256 = "{_sha(data)}", bytes = {len(data)}' if file.sha256 else ""
            lines.append(f'  {{ path = "{file.path}"{pin} }},')
        lines.append("]\n")
    return files, archives, "\n".join(lines)


def checkpoint(family: str = "sd15") -> bytes:
    """A miniature as one file with the keys of the original code bases (LDM; for SDXL Stability's generative-models)."""
    net = unet(family)
    state = {f"model.diffusion_model.{_ldm_unet(net, key)}": value for key, value in net.state_dict().items()}
    state |= {
        f"first_stage_model.{name}": value for name, value in _ldm_vae(vae(0.18215 if family == "sd15" else 0.13025))
    }
    words = 188 + 2  # of `tokenizer`: 94 characters, twice, and the two marks
    first = text_encoder(CLIPTextModel, TEXT, words)
    if family == "sd15":
        state |= {f"cond_stage_model.transformer.{_text_key(key)}": value for key, value in first.state_dict().items()}
    else:
        state |= {
            f"conditioner.embedders.0.transformer.{_text_key(key)}": value for key, value in first.state_dict().items()
        }
        second = text_encoder(CLIPTextModelWithProjection, TEXT_2, words)
        state |= {f"conditioner.embedders.1.model.{name}": value for name, value in _open_clip(second.state_dict())}
    return save({key: value.half().contiguous() for key, value in state.items()})


def _text_key(key: str) -> str:
    return key if key.startswith("text_model.") else f"text_model.{key}"


def _ldm_unet(net: UNet2DConditionModel, key: str) -> str:
    layers = net.config.layers_per_block
    ends = {
        "conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2":
        "time_embed.2", "conv_norm_out": "out.0", "conv_out": "out.2", "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
    }  # fmt: skip
    inner = {
        "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
        "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
    }  # fmt: skip
    stem, leaf = key.rsplit(".", 1)
    words = key.split(".")
    if stem in ends:
        return f"{ends[stem]}.{leaf}"
    if words[0] == "mid_block":
        place = "1" if words[1] == "attentions" else str(2 * int(words[2]))
        rest = ".".join(words[3:]) if words[1] == "attentions" else f"{inner[words[3]]}.{leaf}"
        return f"middle_block.{place}.{rest}"
    down, block, kind, j = words[0] == "down_blocks", int(words[1]), words[2], int(words[3])
    side, first = ("input_blocks", 1) if down else ("output_blocks", 0)
    here = first + (layers + 1) * block + j
    if kind == "resnets":
        return f"{side}.{here}.0.{inner[words[4]]}.{leaf}"
    if kind == "attentions":
        return f"{side}.{here}.1.{'.'.join(words[4:])}"
    if kind == "downsamplers":
        return f"input_blocks.{(layers + 1) * (block + 1)}.0.op.{leaf}"
    # the upsampler of a block without attention comes one place earlier
    has_attention = net.config.up_block_types[block].startswith("CrossAttn")
    return f"output_blocks.{(layers + 1) * block + layers}.{2 if has_attention else 1}.conv.{leaf}"


def _ldm_vae(net: AutoencoderKL) -> Iterator[tuple[str, torch.Tensor]]:
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    for key, value in net.state_dict().items():
        words = key.split(".")
        name = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        if "down_blocks" in key:
            name = name.replace("down_blocks", "down").replace("resnets", "block")
            name = name.replace("downsamplers.0", "downsample")
        elif "up_blocks" in key:
            name = name.replace(f"up_blocks.{words[2]}", f"up.{3 - int(words[2])}").replace("resnets", "block")
            name = name.replace("upsamplers.0", "upsample")
        elif "mid_block.resnets" in key:
            name = name.replace(f"mid_block.resnets.{words[3]}", f"mid.block_{int(words[3]) + 1}")
        elif "mid_block.attentions" in key:
            stem = ".".join(words[4:-1])
            name = f"{words[0]}.mid.attn_1.{attention[stem]}.{words[-1]}"
            if stem != "group_norm" and words[-1] == "weight":
                value = value[..., None, None]
        yield name, value


def _open_clip(state: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """The keys of OpenCLIP: one matrix for queries, keys and values; the projection the other way round."""
    plain = {
        "embeddings.token_embedding.weight": "token_embedding.weight", "embeddings.position_embedding.weight":
        "positional_embedding", "final_layer_norm.weight": "ln_final.weight", "final_layer_norm.bias": "ln_final.bias",
    }  # fmt: skip
    inner = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    inner["self_attn.out_proj"] = "attn.out_proj"
    keys = {_text_key(key).removeprefix("text_model."): value for key, value in state.items()}
    for key, value in keys.items():
        words = key.split(".")
        stem, leaf = ".".join(words[3:-1]), words[-1]
        if key == "text_projection.weight":
            yield "text_projection", value.T
        elif key in plain:
            yield plain[key], value
        elif stem in inner:
            yield f"transformer.resblocks.{words[2]}.{inner[stem]}.{leaf}", value
        elif stem == "self_attn.q_proj":
            parts = [keys[key.replace("q_proj", f"{p}_proj")] for p in "qkv"]
            yield f"transformer.resblocks.{words[2]}.attn.in_proj_{leaf}", torch.cat(parts)
    yield "logit_scale", torch.tensor(4.6)


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
