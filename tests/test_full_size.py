"""The manifest compared with the real architectures: the tensors of a file determine its length to the byte.

Nothing is downloaded. If a pinned length equals the computed one, the file names, key names, shapes and types that the
loaders expect are those of the real file; if a pinned hash equals that of a configuration written out in `eval/full_size.py`,
it is the real configuration.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from portrait.hub.manifest import PartFile, find_part
from portrait.recipes.load import load_recipe, recipe_names
from tests.scripts import script


@pytest.fixture(scope="module")
def full() -> ModuleType:
    return script("full_size")


def file_of(part: str, path: str) -> PartFile:
    return next(file for file in find_part(part).files if file.path == path)


def test_configurations_written_out_here_have_the_pinned_hashes(full: ModuleType) -> None:
    texts = {
        ("sd15", "unet/config.json"): full.config_text("sd15-unet"),
        ("sd15", "vae/config.json"): full.config_text("vae"),
        ("sd15", "text_encoder/config.json"): full.config_text("text"),
        ("sd15", "scheduler/scheduler_config.json"): full.scheduler_text("sd15"),
        ("sd15", "model_index.json"): full.index_text("sd15"),
        ("sd-vae-ft-mse", "config.json"): full.config_text("vae", _diffusers_version="0.4.2", sample_size=256),
        ("clip-vit-h", "models/image_encoder/config.json"): full.config_text("clip"),
        ("klein4b", "model_index.json"): full.index_text("flux2"),
        ("klein4b", "scheduler/scheduler_config.json"): full.scheduler_text("flux2"),
        ("klein4b", "text_encoder/config.json"): full.config_text("klein-text"),
        ("klein4b", "text_encoder/model.safetensors.index.json"): full.shard_index(
            full.shards(full.tensors("klein-text", dtype="BF16"))
        ),
        ("z-image-turbo", "model_index.json"): full.index_text("z_image"),
        ("z-image-turbo", "scheduler/scheduler_config.json"): full.scheduler_text("z_image"),
        ("z-image-turbo", "text_encoder/config.json"): full.config_text("z-image-text"),
        ("z-image-turbo", "transformer/config.json"): full.config_text("z-image-transformer"),
        ("z-image-turbo", "vae/config.json"): full.config_text("z-image-vae"),
        ("z-image-turbo", "text_encoder/model.safetensors.index.json"): full.shard_index(
            full.shards(full.tensors("z-image-text", dtype="BF16"), full.Z_TEXT_SHARD_BYTES), parameters=False
        ),
        ("z-image-turbo", "transformer/diffusion_pytorch_model.safetensors.index.json"): full.shard_index(
            full.shards(full.tensors("z-image-transformer", dtype="F32"), full.Z_SHARD_BYTES),
            "diffusion_pytorch_model",
            parameters=False,
        ),
        ("qwen-edit-2511", "text_encoder/config.json"): full.config_text("qwen-edit-text"),
        ("qwen-edit-2511", "transformer/config.json"): full.config_text("qwen-edit-transformer"),
        ("qwen-edit-2511", "vae/config.json"): full.config_text("qwen-edit-vae"),
    }
    for (part, path), text in texts.items():
        pinned = file_of(part, path)
        assert len(text) == pinned.bytes, path
        assert hashlib.sha256(text.encode()).hexdigest() == pinned.sha256, f"{part} {path}"


PT = {"format": "pt"}
IDS = {"text": "text_model.embeddings.position_ids", "clip": "vision_model.embeddings.position_ids"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "path", "name", "dtype"),
    [
        ("sd15", "unet/diffusion_pytorch_model.fp16.safetensors", "sd15-unet", "F16"),
        ("sd15", "vae/diffusion_pytorch_model.fp16.safetensors", "vae", "F16"),
        ("sd15", "text_encoder/model.fp16.safetensors", "text", "F16"),
        ("sd-vae-ft-mse", "diffusion_pytorch_model.safetensors", "vae", "F32"),
        ("sdxl", "unet/diffusion_pytorch_model.fp16.safetensors", "sdxl-unet", "F16"),
        ("sdxl", "text_encoder/model.fp16.safetensors", "text", "F16"),
        ("sdxl", "text_encoder_2/model.fp16.safetensors", "text-2", "F16"),
        ("clip-vit-h", "models/image_encoder/model.safetensors", "clip", "F32"),
        ("control-sdxl-canny", "diffusion_pytorch_model.fp16.safetensors", "sdxl-controlnet", "F16"),
        ("instantid-identitynet", "ControlNetModel/diffusion_pytorch_model.safetensors", "sdxl-controlnet", "F16"),
        ("klein4b", "transformer/diffusion_pytorch_model.safetensors", "klein-transformer", "BF16"),
        ("klein4b", "vae/diffusion_pytorch_model.safetensors", "klein-vae", "BF16"),
        ("z-image-turbo", "vae/diffusion_pytorch_model.safetensors", "z-image-vae", "BF16"),
        ("qwen-edit-2511", "vae/diffusion_pytorch_model.safetensors", "qwen-edit-vae", "BF16"),
    ],
)
def test_the_pinned_length_is_that_of_the_tensors_we_load(
    full: ModuleType, part: str, path: str, name: str, dtype: str
) -> None:
    shapes = full.tensors(name, dtype=dtype)
    if part in ("sd15", "clip-vit-h") and name in IDS:  # saved by a transformers that kept the positions
        shapes[IDS[name]] = ((1, 77 if name == "text" else 257), "I64")
    if part == "sd-vae-ft-mse":  # the names that attention had until diffusers 0.17, which diffusers still reads
        old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
        for new, before in old.items():
            shapes = {key.replace(new, before): value for key, value in shapes.items()}
    assert full.file_bytes(shapes, metadata=PT) == file_of(part, path).bytes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "name", "dtype", "limit", "stem"),
    [
        ("klein4b", "klein-text", "BF16", "SHARD_BYTES", "text_encoder/model"),
        ("z-image-turbo", "z-image-text", "BF16", "Z_TEXT_SHARD_BYTES", "text_encoder/model"),
        ("z-image-turbo", "z-image-transformer", "F32", "Z_SHARD_BYTES", "transformer/diffusion_pytorch_model"),
        ("qwen-edit-2511", "qwen-edit-text", "BF16", "SHARD_BYTES", "text_encoder/model"),
        ("qwen-edit-2511", "qwen-edit-transformer", "BF16", "Z_SHARD_BYTES", "transformer/diffusion_pytorch_model"),
    ],
)
def test_the_pinned_lengths_of_a_model_in_several_files_are_those_of_its_tensors(
    full: ModuleType, part: str, name: str, dtype: str, limit: str, stem: str
) -> None:
    files = full.shards(full.tensors(name, dtype=dtype), getattr(full, limit))
    assert [full.file_bytes(shapes, metadata=PT) for shapes in files] == [
        file_of(part, full.shard_name(i, len(files), stem)).bytes for i in range(len(files))
    ]


@pytest.mark.slow
def test_the_pinned_length_of_z_images_transformer_in_one_file_is_that_of_its_tensors(full: ModuleType) -> None:
    (file,) = find_part("z-image-turbo-bf16").files
    assert full.file_bytes(full.z_image_bf16()) == file.bytes


def test_the_pinned_length_of_z_images_controlnet_is_that_of_three_layers_and_two_refiners(full: ModuleType) -> None:
    (file,) = find_part("z-image-turbo-control-lite").files
    assert full.file_bytes(full.tensors("z-image-control", dtype="BF16")) == file.bytes


@pytest.mark.slow
def test_the_pinned_length_of_lightnings_lora_is_that_of_twelve_layers_of_each_block(full: ModuleType) -> None:
    (file,) = find_part("qwen-edit-2511-lightning-4steps").files
    shapes = full.edit_lora()
    assert len(shapes) == 60 * 12 * 3
    assert full.file_bytes(shapes) == file.bytes


@pytest.mark.slow
def test_the_pinned_length_of_kleins_8_bit_file_is_that_of_its_layers_and_their_scales(full: ModuleType) -> None:
    shapes, header = full.klein_fp8()
    assert full.file_bytes(shapes, metadata=header) == file_of("klein4b-fp8", "flux-2-klein-4b-fp8.safetensors").bytes


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_the_pinned_length_of_plus_face_is_that_of_its_resampler_and_its_layers(full: ModuleType, family: str) -> None:
    part = find_part({"sd15": "ip-adapter-plus-face_sd15", "sdxl": "ip-adapter-plus-face_sdxl_vit-h"}[family])
    assert full.file_bytes(full.adapter("plus-face", family)) == part.files[0].bytes


@pytest.mark.parametrize(
    ("part", "kind", "family", "dtype"),
    [
        ("faceid_sd15", "faceid", "sd15", "F16"),
        ("faceid-plusv2_sd15", "faceid-plusv2", "sd15", "F16"),
        ("faceid-plusv2_sdxl", "faceid-plusv2", "sdxl", "F16"),
        ("instantid", "instantid", "sdxl", "F32"),
    ],
)
def test_the_pinned_length_of_a_pickle_is_that_of_its_tensors_and_little_more(
    full: ModuleType, part: str, kind: str, family: str, dtype: str
) -> None:
    shapes = full.adapter(kind, family, dtype=dtype)
    more = find_part(part).files[0].bytes - full.data_bytes(shapes)
    assert 0 < more < 400 * len(shapes), "a name, a shape and a place in the archive for each tensor, and no more"


@pytest.mark.slow
def test_what_a_recipe_says_it_needs_is_more_than_its_weights(full: ModuleType) -> None:
    for name in (name for name in recipe_names() if name.startswith(("sd15-", "sdxl-"))):
        recipe = load_recipe(name)
        text = ["text"] if recipe.family == "sd15" else ["text", "text-2"]
        models = [f"{recipe.family}-unet", "vae", *text]
        models += ["clip"] * bool(recipe.parts.image_encoder) + [f"{recipe.family}-controlnet"]
        weights = sum(full.data_bytes(full.tensors(model)) for model in models)
        weights += full.data_bytes(full.adapter(recipe.adapter_kind, recipe.family))
        assert recipe.memory[0] > weights / 2**30, name
        assert recipe.memory[1] > full.data_bytes(full.tensors(f"{recipe.family}-unet")) / 2**30, name
    text = full.data_bytes(full.tensors("klein-text", dtype="BF16")) * 28 / 36  # of its layers; the embedding is more
    vae = full.data_bytes(full.tensors("klein-vae", dtype="BF16"))
    z_image = {
        part: full.data_bytes(full.tensors(f"z-image-{part}", dtype="BF16"))
        for part in ("transformer", "control", "vae", "text")
    }
    needs = load_recipe("z-image-turbo").memory
    assert needs[0] > sum(z_image.values()) / 2**30
    assert needs[1] > (sum(z_image.values()) - z_image["text"]) / 2**30 > z_image["text"] / 2**30
    edit = {
        part: full.data_bytes(full.tensors(f"qwen-edit-{part}", dtype="BF16"))
        for part in ("transformer", "vae", "text")
    }
    edit |= {"lora": full.data_bytes(full.edit_lora())}
    needs = load_recipe("qwen-edit-2511-lightning").memory
    assert needs[0] > sum(edit.values()) / 2**30
    assert needs[1] > (sum(edit.values()) - edit["text"]) / 2**30 > edit["text"] / 2**30
    transformers = {"klein4b": full.tensors("klein-transformer", dtype="BF16"), "klein4b-fp8": full.klein_fp8()[0]}
    for name, shapes in transformers.items():
        needs, resident = load_recipe(name).memory, full.data_bytes(shapes) + vae
        assert needs[0] > (resident + text) / 2**30
        assert needs[1] > max(resident, text) / 2**30


@pytest.mark.slow
def test_the_memory_benchmark_runs_at_small_size(full: ModuleType, tmp_path: Path) -> None:
    script, out = Path(__file__).parents[1] / "eval" / "memory.py", tmp_path / "memory.json"
    argv = [
        sys.executable,
        str(script),
        "--tiny",
        "--device",
        "cpu",
        "--recipes",
        "sd15-plus-face-fast,sdxl-instantid-fast,klein4b,klein4b-fp8,z-image-turbo,qwen-edit-2511-lightning",
        "--diffusers",
    ]
    argv += ["--batch", "1", "--pictures", "1", "--threads", "1", "--folder", str(tmp_path / "files"), "-o", str(out)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    assert [row["recipe"] for row in rows] == [
        "sd15-plus-face-fast", "sdxl-instantid-fast", "klein4b", "klein4b", "klein4b-fp8", "z-image-turbo", "z-image-turbo",
        "qwen-edit-2511-lightning", "qwen-edit-2511-lightning",
    ]  # fmt: skip
    assert all(row["peak_gib"] > 0 and row["seconds_per_picture"] > 0 for row in rows)
    assert all(row["stated_gib"] > 1 for row in rows[:3])
    assert rows[3]["tier"] == "diffusers, full"
    unet = tmp_path / "files/tiny/sd15/unet/diffusion_pytorch_model.fp16.safetensors"
    assert unet.stat().st_size == full.file_bytes(full.tensors("sd15-unet", tiny=True), metadata=PT)
