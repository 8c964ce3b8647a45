"""Memory and seconds of the public recipes, at full size and with random weights: what a machine can run, and how fast.

The pictures are noise, but memory and time do not depend on the values of the weights. Nothing is downloaded: files of the
real shapes are written to a folder (about 6 GB for SD 1.5, 17 GB for SDXL, 20 GB for FLUX.2 klein, 35 GB for Z-Image, 59 GB for
Qwen-Image-Edit, removed afterwards) and loaded like the real ones.

    python eval/memory.py                                  # every family, every memory tier of this machine
    python eval/memory.py --recipes klein4b --batch 1 --diffusers   # and diffusers' own pipeline in the same run
    python eval/memory.py --recipes sdxl-instantid --tiers full,offload --batch 1,4 -o memory.json
    python eval/memory.py --tiny --device cpu              # a check of this script in seconds

On CUDA the peak is what torch reserved on the device; on a CPU it is the process's largest resident size so far.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import full_size
import numpy as np
import torch
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus
from full_size import Shapes
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

import portrait
from portrait.errors import PortraitError
from portrait.files import write_json
from portrait.generate import memory
from portrait.generate.diffusion import DiffusionGenerator
from portrait.recipes.load import load_recipe
from portrait.recipes.recipe import Lora, Recipe
from portrait.records import Face, Knobs, Points

RECIPES = (
    "sd15-faceid",
    "sd15-plus-face",
    "sd15-plus-face-fast",
    "sdxl-faceid",
    "sdxl-plus-face-fast",
    "sdxl-instantid",
    "klein4b",
    "klein4b-fp8",
    "z-image-turbo",
    "qwen-edit-2511-lightning",
)
PROMPT = "oil painting, portrait of a person"
TRANSFORMERS = ("flux2", "z_image", "qwen_edit")
"""Families that are timed against diffusers' own pipelines."""
_TYPES = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "F8_E4M3": torch.float8_e4m3fn,
    "I64": torch.int64,
}


def write_tensors(path: Path, shapes: Shapes) -> None:
    """A safetensors file of these tensors, filled with small random numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = torch.randn(2**20, generator=torch.Generator().manual_seed(0)) * 0.02
    state = {}
    for name, (shape, dtype) in shapes.items():
        size = int(np.prod(shape))
        block = noise.to(_TYPES[dtype])
        state[name] = block.repeat(size // len(block) + 1)[:size].reshape(shape).contiguous()
        if name.endswith(
            ("norm.weight", "norm1.weight", "norm2.weight", "norm3.weight", "norm_out.weight", "_var", ".alpha")
        ):
            state[name] = torch.ones(shape, dtype=_TYPES[dtype])
        if name.endswith("decoder.conv_out.weight"):
            state[name] *= 1000  # else a picture has one color everywhere, which is refused as a broken model's
    save_file(state, path, metadata={"format": "pt"})


def write_model(folder: Path, name: str, file: str, *, tiny: bool, class_name: str = "") -> None:
    write_tensors(folder / file, full_size.tensors(name, tiny=tiny))
    about = full_size.config(name.replace("controlnet", "unet"), tiny=tiny)
    if name == "vae":
        about |= {"force_upcast": False}  # as in sdxl-vae-fp16-fix
    if class_name:
        keep = {k: v for k, v in about.items() if k not in ("up_block_types", "out_channels", "center_input_sample")}
        keep.pop("sample_size", None)
        about = keep | {"_class_name": class_name, "conditioning_embedding_out_channels": [16, 32, 96, 256]}
    (folder / "config.json").write_text(json.dumps(about, indent=2), "utf-8")


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of single letters; its vocabulary does not affect memory or time."""
    letters = [chr(c) for c in range(33, 127)]
    words = [*letters, *(c + "</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    names = {"bos_token": "<|startoftext|>"} | dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    about = names | {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(about), "utf-8")


def write_qwen_tokenizer(folder: Path) -> None:
    """A tokenizer of single bytes, with the special tokens of a chat."""
    folder.mkdir(parents=True)
    words = {letter: i for i, letter in enumerate(sorted(ByteLevel.alphabet()))}
    special = {name: 256 + i for i, name in enumerate(("<|endoftext|>", "<|im_start|>", "<|im_end|>"))}
    (folder / "vocab.json").write_text(json.dumps(words), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    added = {str(i): {"content": name, "special": True} for name, i in special.items()}
    about = {"tokenizer_class": "Qwen2Tokenizer", "model_max_length": 131072, "added_tokens_decoder": added}
    about |= {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(about), "utf-8")
    chat = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    (folder / "chat_template.jinja").write_text(chat, "utf-8")


def write_edit_tokenizer(folder: Path) -> None:
    """The same in one file, with the marks of pictures as well."""
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(BPE({letter: i for i, letter in enumerate(sorted(ByteLevel.alphabet()))}, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    marks = ("endoftext", "im_start", "im_end", "vision_start", "vision_end")
    image = full_size.config("qwen-edit-text", tiny=True)["image_token_id"]
    tokenizer.add_special_tokens([f"<|{mark}|>" for mark in marks])
    assert tokenizer.get_vocab_size() == image
    tokenizer.add_special_tokens(["<|image_pad|>"])
    tokenizer.save(str(folder / "tokenizer.json"))


def write_shards(folder: Path, stem: str, files: list[Shapes]) -> None:
    """A model's tensors in one file or, with an index, in several."""
    if len(files) == 1:
        write_tensors(folder / f"{stem}.safetensors", files[0])
        return
    for i, shapes in enumerate(files):
        write_tensors(folder / full_size.shard_name(i, len(files), stem), shapes)
    (folder / f"{stem}.safetensors.index.json").write_text(full_size.shard_index(files, stem), "utf-8")


def built_transformer(recipe: Recipe, folder: Path, *, tiny: bool) -> Recipe:
    """As `built_diffusion`, for the families with a transformer and a Qwen model: FLUX.2 klein, Z-Image, Qwen-Image-Edit."""
    names = {"flux2": ("klein", "BF16"), "z_image": ("z-image", "F32"), "qwen_edit": ("qwen-edit", "BF16")}
    name, dtype = names[recipe.family]
    base = folder / name
    if not base.exists():
        stem, limit = "diffusion_pytorch_model", full_size.Z_SHARD_BYTES
        for place, part, kind, file in (
            ("transformer", "transformer", dtype, stem),
            ("vae", "vae", "BF16", stem),
            ("text_encoder", "text", "BF16", "model"),
        ):
            shapes = full_size.tensors(f"{name}-{part}", dtype=kind, tiny=tiny)
            write_shards(base / place, file, full_size.shards(shapes, limit if file == stem else full_size.SHARD_BYTES))
            about = full_size.config(f"{name}-{part}", tiny=tiny)
            (base / place / "config.json").write_text(json.dumps(about, indent=2), "utf-8")
        if recipe.family == "qwen_edit":
            write_edit_tokenizer(base / "processor")
        else:
            write_qwen_tokenizer(base / "tokenizer")
            (base / "scheduler").mkdir()
            (base / "scheduler" / "scheduler_config.json").write_text(full_size.scheduler_text(recipe.family), "utf-8")
            (base / "model_index.json").write_text(full_size.index_text(recipe.family), "utf-8")
    more: dict[str, Any] = {"resolution": 64} if tiny else {}
    for role, path, shapes in _further_files(recipe, folder, tiny=tiny):
        if not path.exists():
            write_tensors(path, shapes)
        more[role] = path if role != "loras" else tuple(replace(lora, path=path) for lora in recipe.loras)
    return replace(recipe, base=base, digests={"random": "0"}, **more)


def _further_files(recipe: Recipe, folder: Path, *, tiny: bool) -> list[tuple[str, Path, Shapes]]:
    """The files of a recipe beside its diffusers folder: what of a recipe they are, where they go, and their tensors."""
    files = []
    if recipe.parts.single_file:
        is_klein = recipe.family == "flux2"
        shapes = full_size.klein_fp8(tiny=tiny)[0] if is_klein else full_size.z_image_bf16(tiny=tiny)
        files.append(("single_file", folder / f"{recipe.family}-single.safetensors", shapes))
    if recipe.parts.controlnet:
        shapes = full_size.tensors("z-image-control", dtype="BF16", tiny=tiny)
        files.append(("controlnet", folder / "z-image-control.safetensors", shapes))
    if recipe.loras:
        shapes = full_size.edit_lora(rank=4 if tiny else 64, tiny=tiny)
        files.append(("loras", folder / "lightning.safetensors", shapes))
    return files


def built_diffusion(recipe: Recipe, folder: Path, *, tiny: bool) -> Recipe:
    """The recipe, with each of its files written below `folder` unless it exists."""
    family, base = recipe.family, folder / recipe.family
    if not base.exists():
        write_model(base / "unet", f"{family}-unet", "diffusion_pytorch_model.fp16.safetensors", tiny=tiny)
        for place, name in (("text_encoder", "text"), ("text_encoder_2", "text-2"))[: 1 if family == "sd15" else 2]:
            write_model(base / place, name, "model.fp16.safetensors", tiny=tiny)
            write_tokenizer(base / place.replace("text_encoder", "tokenizer"))
        (base / "scheduler").mkdir()
        (base / "scheduler" / "scheduler_config.json").write_text(full_size.scheduler_text(family), "utf-8")
        (base / "model_index.json").write_text(full_size.index_text(family), "utf-8")
    places: dict[str, Any] = {"vae": folder / "vae", "controlnet": folder / f"{family}-controlnet"}
    if not places["vae"].exists():
        write_model(places["vae"], "vae", "diffusion_pytorch_model.safetensors", tiny=tiny)
    if not places["controlnet"].exists():
        name = "diffusion_pytorch_model.safetensors"
        write_model(places["controlnet"], places["controlnet"].name, name, tiny=tiny, class_name="ControlNetModel")
    if recipe.parts.image_encoder:
        places["image_encoder"] = folder / "clip"
        if not places["image_encoder"].exists():
            write_model(places["image_encoder"], "clip", "model.safetensors", tiny=tiny)
    adapter, lora = folder / f"{recipe.adapter_kind}-{family}.safetensors", folder / f"lora-{family}.safetensors"
    if not adapter.exists():
        write_tensors(adapter, full_size.adapter(recipe.adapter_kind, family, tiny=tiny))
    if recipe.loras and not lora.exists():
        write_tensors(lora, full_size.lora(family, rank=4 if tiny else 64, tiny=tiny))
    loras = [Lora(path=lora, weight=entry.weight) for entry in recipe.loras]
    more: dict[str, Any] = {"resolution": 64} if tiny else {}
    return replace(recipe, base=base, adapter=adapter, loras=tuple(loras), digests={"random": "0"}, **places, **more)


def measured(
    recipe: Recipe, device: torch.device, tier: str, batches: list[int], pictures: int, threads: int
) -> list[dict[str, Any]]:
    """Load the recipe in a tier and draw in batches; a row per batch size, up to the first that does not fit."""
    _reset(device)
    start = time.perf_counter()
    generator = DiffusionGenerator(recipe, threads=threads or None, device=device.type, tier=tier)
    size, rng = recipe.resolution, np.random.default_rng(0)
    photo = rng.integers(0, 256, (size, size, 3), np.uint8)
    eye = size * 0.08
    kps = np.array([[-1, -1], [1, -1], [0, 0], [-0.8, 1.2], [0.8, 1.2]], np.float32) * eye + size / 2
    box = np.array([-2, -2.5, 2, 2.5], np.float32) * eye + size / 2
    face = Face(bbox=box, kps=Points(kps.astype(np.float32)), det_score=0.9)
    who = rng.normal(size=512).astype(np.float32)
    knobs = recipe.with_enough_steps(recipe.knobs_at(0.5))
    heads = [photo[: size // 2, : size // 2]] * min(1, recipe.family_facts.pictures)
    conditions = generator.prepare(photo, who / np.linalg.norm(who), PROMPT, "", face, heads)
    loaded = time.perf_counter() - start
    rows = []
    for batch in batches:
        row = {"recipe": recipe.name, "tier": tier, "batch": batch, "resolution": size, "dtype": generator.dtype}
        row |= {"steps": knobs.steps, "load_seconds": round(loaded, 2)}
        try:
            generator.generate(conditions, knobs, [0] * batch)  # to warm up
            _reset(device)
            start = time.perf_counter()
            for first in range(0, pictures, batch):
                generator.generate(conditions, knobs, list(range(first, first + batch)))
            _wait(device)
        except PortraitError as error:
            rows.append(row | {"error": str(error)})
            break
        pictures_made = -(-pictures // batch) * batch
        seconds = (time.perf_counter() - start) / pictures_made
        fell = {} if generator.tier == tier else {"fell_back_to": generator.tier}  # memory ran out and was retried
        rows.append(
            row | fell
            | {"peak_gib": round(_peak(device), 2), "seconds_per_picture": round(seconds, 3),
               "pictures_per_second": round(1 / seconds, 3), "pictures": pictures_made}
        )  # fmt: skip
        if fell:
            break
    del generator, conditions
    return rows


def measured_tier(
    recipe: Recipe, device: torch.device, tier: str, batches: list[int], pictures: int, threads: int
) -> list[dict[str, Any]]:
    """The rows of `measured`, or one with the error, beside the memory that the recipe states; each is printed."""
    try:
        rows = measured(recipe, device, tier, batches, pictures, threads)
    except PortraitError as error:
        rows = [{"recipe": recipe.name, "tier": tier, "batch": 0, "error": str(error)}]
    stated = dict(zip(memory.TIERS, recipe.memory, strict=False))
    rows = [row | {"stated_gib": stated[tier]} for row in rows]
    for row in rows:
        print(json.dumps(row), flush=True)
    return rows


def measured_diffusers(recipe: Recipe, device: torch.device, pictures: int) -> dict[str, Any]:
    """Seconds of diffusers' own pipeline, used as in its documentation, with the whole text encoder on the device.

    For Z-Image it is the pipeline of the ControlNet, which starts from pure noise, with the same number of steps. That of
    Qwen-Image-Edit is without its text encoder, whose processor would need torchvision, and gets random words.
    """
    _reset(device)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    size, rng = recipe.resolution, np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8))
    knobs = recipe.with_enough_steps(recipe.knobs_at(0.5))
    theirs = {"flux2": _their_klein, "z_image": _their_z_image, "qwen_edit": _their_edit}[recipe.family]
    pipe, arguments = theirs(recipe, dtype, photo, knobs)
    pipe.to(device)
    pipe.set_progress_bar_config(disable=True)
    on_device = {
        name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in arguments.items()
    }

    def draw(seed: int) -> None:
        pipe(generator=torch.Generator("cpu").manual_seed(seed), **on_device)

    draw(0)  # to warm up
    _reset(device)
    start = time.perf_counter()
    for seed in range(pictures):
        draw(seed)
    _wait(device)
    seconds = (time.perf_counter() - start) / pictures
    row = {"recipe": recipe.name, "tier": "diffusers, full", "batch": 1, "resolution": size, "steps": knobs.steps}
    return row | {"peak_gib": round(_peak(device), 2), "seconds_per_picture": round(seconds, 3), "pictures": pictures}


def _their_klein(recipe: Recipe, dtype: torch.dtype, photo: Image.Image, knobs: Knobs) -> tuple[Any, dict[str, Any]]:
    from diffusers import Flux2KleinInpaintPipeline

    pipe = Flux2KleinInpaintPipeline.from_pretrained(str(recipe.base), local_files_only=True, dtype=dtype)
    return pipe, {
        "prompt": PROMPT,
        "image": photo,
        "mask_image": Image.new("L", photo.size, 255),
        "image_reference": _head(photo),
        "strength": knobs.steps / knobs.num_inference_steps,
        "num_inference_steps": knobs.num_inference_steps,
        "guidance_scale": 1.0,
    }


def _their_z_image(recipe: Recipe, dtype: torch.dtype, photo: Image.Image, knobs: Knobs) -> tuple[Any, dict[str, Any]]:
    from diffusers import ZImageControlNetPipeline

    assert recipe.controlnet is not None
    controlnet = _their_controlnet(recipe.base, recipe.controlnet, dtype)
    pipe = ZImageControlNetPipeline.from_pretrained(
        str(recipe.base), local_files_only=True, dtype=dtype, controlnet=controlnet
    )
    return pipe, {
        "prompt": PROMPT,
        "control_image": photo,
        "height": photo.height,
        "width": photo.width,
        "num_inference_steps": knobs.steps,
        "guidance_scale": 0.0,
    }


def _their_edit(recipe: Recipe, dtype: torch.dtype, photo: Image.Image, knobs: Knobs) -> tuple[Any, dict[str, Any]]:
    from diffusers import AutoencoderKLQwenImage, QwenImageEditPlusPipeline, QwenImageTransformer2DModel

    from portrait.generate.families.qwen_edit.load import lightning_scheduler

    options: dict[str, Any] = {"dtype": dtype, "local_files_only": True}
    vae = AutoencoderKLQwenImage.from_pretrained(str(recipe.base / "vae"), **options)
    transformer = QwenImageTransformer2DModel.from_pretrained(str(recipe.base / "transformer"), **options)
    pipe = QwenImageEditPlusPipeline(lightning_scheduler(), vae, None, None, None, transformer)
    for lora in recipe.loras:
        pipe.load_lora_weights(str(lora.path.parent), weight_name=lora.path.name)
    words = torch.randn(1, 500, transformer.config.joint_attention_dim, dtype=dtype)
    return pipe, {
        "prompt_embeds": words,
        "prompt_embeds_mask": torch.ones(1, 500),
        "image": [photo, _head(photo)],
        "height": photo.height,
        "width": photo.width,
        "num_inference_steps": knobs.steps,
        "true_cfg_scale": 1.0,
    }


def _head(photo: Image.Image) -> Image.Image:
    return photo.crop((0, 0, photo.width // 2, photo.height // 2))


def _their_controlnet(base: Path, file: Path, dtype: torch.dtype) -> Any:
    """The ControlNet of diffusers, loaded by us, because diffusers has no configuration for the lite file."""
    from diffusers import ZImageTransformer2DModel

    from portrait.generate.families.z_image.load import load_controlnet

    transformer = ZImageTransformer2DModel.from_pretrained(
        str(base / "transformer"), dtype=dtype, local_files_only=True
    )
    return load_controlnet(file, transformer, dtype)


def _reset(device: torch.device) -> None:
    gc.collect()
    memory.release(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _peak(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 2**30
    if device.type == "mps":
        return torch.mps.driver_allocated_memory() / 2**30
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", default=",".join(RECIPES), help="names, with commas (default: %(default)s)")
    parser.add_argument("--tiers", default="full,offload,sequential", help="default: %(default)s, those the device has")
    parser.add_argument("--batch", default="1,2,4", help="pictures at once (default: %(default)s)")
    parser.add_argument("--pictures", type=int, default=4, help="timed pictures per row (default: %(default)s)")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--threads", type=int, default=0, help="processor threads, 0 for all cores")
    parser.add_argument(
        "--diffusers",
        action="store_true",
        help="time diffusers' own pipelines of FLUX.2 klein, Z-Image and Qwen-Image-Edit as well",
    )
    parser.add_argument("--folder", type=Path, help="keep the files here (default: a temporary folder)")
    parser.add_argument("--tiny", action="store_true", help="small widths and 64 px, to check this script")
    parser.add_argument("-o", "--output", type=Path, default=Path("memory.json"))
    args = parser.parse_args()
    device = memory.choose_device(args.device)
    if args.tiny:
        pipeline_qwenimage_edit_plus.VAE_IMAGE_SIZE = 64 * 64  # of the pictures that Qwen-Image-Edit sees
    tiers = [tier for tier in args.tiers.split(",") if tier == "full" or device.type == "cuda"]
    batches = [int(text) for text in args.batch.split(",")]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)) / ("tiny" if args.tiny else "full")
        for name in args.recipes.split(","):
            recipe = load_recipe(name)
            build = built_transformer if recipe.family in TRANSFORMERS else built_diffusion
            model = build(recipe, folder, tiny=args.tiny)
            for tier in tiers:
                rows += measured_tier(model, device, tier, batches, args.pictures, args.threads)
            if args.diffusers and recipe.family in TRANSFORMERS and not recipe.parts.single_file:
                rows.append(measured_diffusers(model, device, args.pictures))
                print(json.dumps(rows[-1]), flush=True)
    about = {"tiny": args.tiny, "device": device.type, "machine": platform.machine(), "torch": torch.__version__}
    if device.type == "cuda":
        about["gpu"] = torch.cuda.get_device_name(device)
        about["gpu_gib"] = f"{torch.cuda.get_device_properties(device).total_memory / 2**30:.1f}"
    write_json(args.output, {"version": 1, "portrait": portrait.__version__, **about, "rows": rows})
    print(f"written to {args.output}")
    return 1 if any("error" in row for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
