"""Qwen-Image-Edit in miniature: the same pixels as diffusers' own pipeline, and knobs that do what they say.

What this proves: classes, file layout, key names, conditioning, noise levels, the LoRA, memory tiers. What it cannot: how the
real weights draw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditPlusPipeline,
    QwenImageTransformer2DModel,
)
from diffusers.models.transformers.transformer_qwenimage import QwenDoubleStreamAttnProcessor2_0
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2TokenizerFast
from transformers.feature_extraction_utils import BatchFeature

from portrait.errors import SettingsError, WeightsCorruptError
from portrait.generate.diffusion import DiffusionGenerator
from portrait.generate.families.loading import read_shards
from portrait.generate.families.qwen_edit.family import Conditions, QwenEdit
from portrait.generate.families.qwen_edit.text import PictureReader, token_positions
from portrait.generate.families.qwen_family import QwenFamily
from portrait.hub.files import sha256_of
from portrait.loop.load import load_loop
from portrait.recipes.load import load_recipe
from portrait.recipes.override import with_overrides
from portrait.recipes.recipe import Lora, Recipe
from portrait.records import Knobs, RgbImage
from portrait.settings import Settings
from portrait.studio.web_settings import choices_for
from tests import public
from tests.qwen_contract import ANNA, BO, PHOTO, PROMPT, SIZE, WHO, QwenFamilyContract, distance, widest

pytestmark = pytest.mark.slow

NAME = "qwen-edit-2511-lightning"
KNOBS = Knobs(
    strength=0.5, guidance_scale=1.0, ip_adapter_scale=1.0, controlnet_conditioning_scale=1.0, num_inference_steps=8
)
WHOLE = replace(KNOBS, strength=1.0, num_inference_steps=4)


@pytest.fixture(scope="module", autouse=True)
def small_pictures() -> Iterator[None]:
    """The model sees pictures at 1024 px; here at 64."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_qwenimage_edit_plus, "VAE_IMAGE_SIZE", SIZE * SIZE)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("qwen_edit")
    public.qwen_edit(place / "base")
    (place / "lightning.safetensors").write_bytes(public.lightning_lora())
    return place


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Recipe:
    """The shipped recipe on the miniature, in float32."""
    shipped = load_recipe(NAME)
    return replace(
        shipped,
        base=folder / "base",
        loras=tuple(replace(lora, path=folder / "lightning.safetensors") for lora in shipped.loras),
        resolution=SIZE,
        memory=(),
        autocast="",
        digests={"x": "0" * 64},
    )


@pytest.fixture(scope="module")
def generator(recipe: Recipe) -> DiffusionGenerator:
    return DiffusionGenerator(recipe, threads=1)


def prepared(generator: DiffusionGenerator, *heads: RgbImage, prompt: str = PROMPT) -> Conditions:
    conditions: Conditions = generator.prepare(PHOTO, WHO, prompt, pictures=heads)
    return conditions


class TestQwenEdit(QwenFamilyContract):
    family = QwenEdit
    networks = frozenset({"transformer", "vae"})
    knobs = KNOBS
    queries = "attn.to_q"

    def prepared(self, generator: DiffusionGenerator) -> Conditions:
        return prepared(generator, ANNA)

    def encode_text(self, family: QwenFamily[Any, Any]) -> None:
        family.text.encode("a", [ANNA])


# ---- against diffusers and transformers


class Processor:
    """`Qwen2VLProcessor`, which wants torchvision for videos, of the same parts without them."""

    def __init__(self, folder: Path) -> None:
        size = {"shortest_edge": 3136, "longest_edge": 12845056}  # of the publisher's preprocessor_config.json
        module = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")  # not in 5.0
        self.pictures = module.Qwen2VLImageProcessorPil(size=size)
        self.tokenizer = Qwen2TokenizerFast.from_pretrained(str(folder))

    def __call__(self, text: list[str], images: list[Image.Image], **_: object) -> BatchFeature:
        seen = self.pictures(images=images, return_tensors="pt")
        (words,) = text
        first, *others = words.split("<|image_pad|>")
        counts = (seen["image_grid_thw"].prod(-1) // 4).tolist()
        words = first + "".join("<|image_pad|>" * count + other for count, other in zip(counts, others, strict=True))
        return BatchFeature({**self.tokenizer([words], return_tensors="pt"), **seen})


def told(encoder: Qwen2_5_VLForConditionalGeneration) -> Qwen2_5_VLForConditionalGeneration:
    """The text encoder, told which tokens are pictures, which diffusers forgets (huggingface/diffusers, issue 14194)."""
    forward = encoder.forward

    def with_kinds(input_ids: torch.Tensor, **more: Any) -> Any:
        kinds = (input_ids == encoder.config.image_token_id).int()
        return forward(input_ids=input_ids, mm_token_type_ids=kinds, **more)

    encoder.forward = with_kinds
    return encoder


@pytest.fixture(scope="module")
def theirs(folder: Path) -> QwenImageEditPlusPipeline:
    """diffusers' pipeline with the libraries' own loaders, and Lightning as its publisher's example runs it."""
    base, options = folder / "base", {"dtype": torch.float32, "local_files_only": True}
    pipe = QwenImageEditPlusPipeline(
        FlowMatchEulerDiscreteScheduler.from_config(
            {
                "base_image_seq_len": 256, "base_shift": 1.0986122886681098, "invert_sigmas": False,
                "max_image_seq_len": 8192, "max_shift": 1.0986122886681098, "num_train_timesteps": 1000, "shift": 1.0,
                "shift_terminal": None, "stochastic_sampling": False, "time_shift_type": "exponential",
                "use_beta_sigmas": False, "use_dynamic_shifting": True, "use_exponential_sigmas": False,
                "use_karras_sigmas": False,
            }
        ),
        AutoencoderKLQwenImage.from_pretrained(str(base / "vae"), **options),
        told(Qwen2_5_VLForConditionalGeneration.from_pretrained(str(base / "text_encoder"), **options)),
        Qwen2TokenizerFast.from_pretrained(str(base / "processor")),
        None,
        QwenImageTransformer2DModel.from_pretrained(str(base / "transformer"), **options),
    )  # fmt: skip
    pipe.processor = Processor(base / "processor")
    pipe.load_lora_weights(str(folder), weight_name="lightning.safetensors")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def drawn_by(pipe: QwenImageEditPlusPipeline, pictures: tuple[RgbImage, ...], seed: int, **more: Any) -> RgbImage:
    image = pipe(
        image=[Image.fromarray(one) for one in pictures],
        prompt=PROMPT,
        true_cfg_scale=1.0,
        height=SIZE,
        width=SIZE,
        generator=torch.Generator("cpu").manual_seed(seed),
        **more,
    ).images[0]
    return RgbImage(np.asarray(image))


@pytest.mark.parametrize("heads", [(), (ANNA,), (ANNA, BO)], ids=["photo", "one head", "two heads"])
def test_it_draws_what_diffusers_own_pipeline_draws(
    generator: DiffusionGenerator, theirs: QwenImageEditPlusPipeline, heads: tuple[RgbImage, ...]
) -> None:
    (ours,) = generator.generate(prepared(generator, *heads), WHOLE, [7])
    other = drawn_by(theirs, (PHOTO, *heads), 7, num_inference_steps=4)
    assert other.std() > 5, "a flat picture"
    print("differs by at most", widest(ours, other))
    assert widest(ours, other) <= 1


def test_below_full_strength_it_draws_what_diffusers_draws_from_the_noised_photo(
    generator: DiffusionGenerator, theirs: QwenImageEditPlusPipeline
) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(theirs.scheduler.config)
    scheduler.set_timesteps(sigmas=[0.5], mu=scheduler.config.max_shift)
    pixels = theirs.image_processor.preprocess(Image.fromarray(PHOTO), SIZE, SIZE).unsqueeze(2)
    with torch.inference_mode():
        photo = theirs._encode_vae_image(pixels, None)
    noise = torch.randn(1, 1, 16, SIZE // 8, SIZE // 8, generator=torch.Generator("cpu").manual_seed(7))
    mixed = scheduler.scale_noise(photo.transpose(1, 2), scheduler.timesteps[:1], noise)
    start = theirs._pack_latents(mixed, 1, 16, SIZE // 8, SIZE // 8)
    levels = [0.5, 0.375, 0.25, 0.125]  # of eight steps, those of strength 0.5
    other = drawn_by(theirs, (PHOTO, ANNA), 7, latents=start, sigmas=levels)
    (ours,) = generator.generate(prepared(generator, ANNA), KNOBS, [7])
    print("differs by at most", widest(ours, other))
    assert widest(ours, other) <= 1
    (whole,) = generator.generate(prepared(generator, ANNA), WHOLE, [7])
    assert distance(ours, whole) > 1


def test_the_text_encoder_knows_where_in_a_picture_a_token_is(generator: DiffusionGenerator) -> None:
    reader = generator.family.text  # type: ignore[attr-defined]
    assert isinstance(reader, PictureReader)
    kinds = torch.tensor([0, 0, *[1] * 9, 0, *[1] * 4, 0, 0], dtype=torch.int)
    grids = torch.tensor([[1, 6, 6], [1, 4, 4]])
    known, _ = reader.network.get_rope_index(kinds[None], mm_token_type_ids=kinds[None], image_grid_thw=grids)
    assert torch.equal(token_positions(kinds == 1), known[:, 0])
    assert not torch.equal(known[1], known[2])


def test_it_weighs_no_picture_just_as_diffusers_attends(generator: DiffusionGenerator) -> None:
    attention = next(iter(generator.pipe.transformer.attn_processors.values()))
    net = generator.pipe.transformer.transformer_blocks[0].attn
    noise = torch.Generator().manual_seed(1)
    pixels, words = torch.randn(1, 20, 32, generator=noise), torch.randn(1, 6, 32, generator=noise)
    angles = tuple(torch.polar(torch.ones(n, 8), torch.randn(n, 8, generator=noise)) for n in (20, 6))
    with torch.inference_mode():
        known = QwenDoubleStreamAttnProcessor2_0()(net, pixels, words, image_rotary_emb=angles)
        attention.bias = torch.zeros(1, 1, 1, 26)
        try:
            ours = attention(net, pixels, words, image_rotary_emb=angles)
        finally:
            attention.bias = None
    for mine, other in zip(ours, known, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


# ---- the knobs


def test_more_strength_leaves_less_of_the_photo_and_is_not_rounded_to_steps(generator: DiffusionGenerator) -> None:
    conditions, copy = prepared(generator), generator.reconstruct(PHOTO)
    little, little_more, much = (
        generator.generate(conditions, replace(KNOBS, strength=s, num_inference_steps=40), [1])[0]
        for s in (0.1, 0.11, 0.5)
    )
    print([distance(made, copy) for made in (little, little_more, much)])
    assert distance(little, copy) < distance(much, copy)
    assert distance(little, little_more) > 0.1  # of 40 steps, four run for both


def test_what_is_shown_and_what_is_said_move_the_picture(generator: DiffusionGenerator) -> None:
    def made(*heads: RgbImage, prompt: str = PROMPT, **knobs: float) -> RgbImage:
        return generator.generate(prepared(generator, *heads, prompt=prompt), replace(WHOLE, **knobs), [1])[0]  # type: ignore[arg-type]

    anna = made(ANNA)
    moved = {
        "another person": made(BO),
        "a second picture": made(ANNA, BO),
        "nobody": made(ANNA, ip_adapter_scale=0.0),
        "less of her": made(ANNA, ip_adapter_scale=0.5),
        "less of the photo": made(ANNA, controlnet_conditioning_scale=0.5),
        "nothing of the photo": made(ANNA, controlnet_conditioning_scale=0.0),
        "nothing at all": made(ANNA, controlnet_conditioning_scale=0.0, ip_adapter_scale=0.0),
        "another instruction": made(ANNA, prompt="a woodcut"),
    }
    gaps = {name: distance(anna, other) for name, other in moved.items()}
    print(gaps)
    assert min(gaps.values()) > 0.1
    np.testing.assert_array_equal(moved["nobody"], made(BO, ip_adapter_scale=0.0))
    np.testing.assert_array_equal(moved["nobody"], made())


def test_the_publishers_lora_is_loaded_whole_and_moves_the_picture(
    recipe: Recipe, generator: DiffusionGenerator
) -> None:
    assert generator.warnings(PROMPT) == ()  # no layer of it is left out
    assert generator.loras == {"lora_0": 1.0}
    plain = DiffusionGenerator(replace(recipe, loras=()), threads=1)
    (with_it,), (without,) = (one.generate(prepared(one, ANNA), KNOBS, [1]) for one in (generator, plain))
    assert distance(with_it, without) > 0.1


def test_a_picture_does_not_depend_on_its_batch(generator: DiffusionGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    conditions = prepared(generator, ANNA, BO)
    monkeypatch.setattr(generator, "draws_together", True)  # as on a GPU
    for knobs in (KNOBS, replace(KNOBS, ip_adapter_scale=0.5)):
        batch = generator.generate(conditions, knobs, [5, 6])
        (alone,) = generator.generate(conditions, knobs, [6])
        assert widest(batch[1], alone) <= 1
        assert distance(batch[0], batch[1]) > 1


def test_layer_by_layer_it_draws_the_same(recipe: Recipe, generator: DiffusionGenerator) -> None:
    from accelerate import cpu_offload

    (whole,) = generator.generate(prepared(generator, ANNA), KNOBS, [3])
    layers = DiffusionGenerator(recipe, threads=1)
    for network in (layers.pipe.transformer, layers.pipe.vae, layers.family.text.network):  # type: ignore[attr-defined]
        cpu_offload(network, torch.device("cpu"))  # as the tier `sequential` does on a GPU
    assert layers.pipe.transformer.img_in.weight.device.type == "meta"
    np.testing.assert_array_equal(whole, layers.generate(prepared(layers, ANNA), KNOBS, [3])[0])


def test_a_transformer_in_one_file_takes_the_place_of_the_other(
    recipe: Recipe, generator: DiffusionGenerator, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "edit.safetensors"
    shards = read_shards(folder / "base" / "transformer")
    save_file({f"model.diffusion_model.{name}": tensor for name, tensor in shards.items()}, file)
    custom = with_overrides(recipe, base=str(file))
    chain = {link.part: link.commercial for link in custom.licenses}
    assert chain == {"edit.safetensors": "unknown", "qwen-edit-2511": "yes", "qwen-edit-2511-lightning-4steps": "yes"}
    other = DiffusionGenerator(custom, threads=1)
    assert other.digests["edit.safetensors"] == sha256_of(file)
    (theirs,), (ours,) = (one.generate(prepared(one, ANNA), KNOBS, [3]) for one in (generator, other))
    np.testing.assert_array_equal(theirs, ours)
    wrong = next((folder / "base" / "vae").glob("*.safetensors"))
    with pytest.raises(WeightsCorruptError, match=r"is not a checkpoint of the family qwen_edit that can be loaded"):
        DiffusionGenerator(replace(recipe, single_file=wrong), threads=1)


def test_folders_of_another_model_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    public.klein(tmp_path / "klein4b")
    with pytest.raises(WeightsCorruptError, match="klein4b is not a diffusers folder that can be loaded"):
        DiffusionGenerator(replace(recipe, base=tmp_path / "klein4b"), threads=1)


def test_a_lora_of_another_model_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    file.write_bytes(public.kohya_lora("sd15"))
    with pytest.raises(WeightsCorruptError, match=r"other.safetensors"):
        DiffusionGenerator(replace(recipe, loras=(Lora(path=file, weight=1.0),)), threads=1)


def test_a_lora_whose_scale_would_keep_diffusers_busy_forever_is_refused(
    recipe: Recipe, folder: Path, tmp_path: Path
) -> None:
    tensors = load_file(folder / "lightning.safetensors")
    name = next(name for name in tensors if name.endswith(".alpha"))
    save_file(tensors | {name: torch.tensor(-1.0)}, tmp_path / "endless.safetensors")
    lora = Lora(path=tmp_path / "endless.safetensors", weight=1.0)
    with pytest.raises(WeightsCorruptError, match=r"endless.safetensors is not a LoRA .*alpha is -1.0, and must not"):
        DiffusionGenerator(replace(recipe, loras=(lora,)), threads=1)


# ---- what the recipe says and refuses


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"guidance_scale": 5.0},
            rf"{NAME} \(Qwen-Image-Edit\) has no guidance_scale; it has strength, ip_adapter_scale",
        ),
        ({"negative_prompt": "blurry"}, "has no negative_prompt"),
    ],
)
def test_knobs_that_it_lacks_are_refused_by_name_before_anything_is_loaded(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        load_loop(Settings(recipe=NAME, **settings))


def test_the_studio_does_not_show_them() -> None:
    choices = choices_for(load_recipe(NAME), "oil")
    assert not {"guidance_scale", "negative_prompt"} & set(choices.advanced)
    assert {"prompt", "strength"} <= set(choices.advanced)


def test_four_steps_run_at_every_strength() -> None:
    recipe = load_recipe(NAME)
    for balance in np.linspace(0, 1, 21):
        assert recipe.with_enough_steps(recipe.knobs_at(float(balance))).steps >= 4
