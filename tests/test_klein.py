"""FLUX.2 klein in miniature: the same pixels as diffusers' own pipeline, and knobs that do what they say.

What this proves: classes, file layout, key names, conditioning, noise levels, memory tiers. What it cannot: how the real
weights draw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Flux2KleinInpaintPipeline
from PIL import Image

from portrait.campaign.enter import load_recipes
from portrait.campaign.plan import plan_from
from portrait.errors import SettingsError, WeightsCorruptError
from portrait.generate.diffusion import DiffusionGenerator
from portrait.generate.families.flow_matching import attention_bias, noise_levels
from portrait.generate.families.flux2.family import Conditions, Flux2Klein
from portrait.generate.families.flux2.single_file import ScaledLinear, load_transformer
from portrait.hub.files import sha256_of
from portrait.images import Photo
from portrait.loop.attempt_loop import HEAD_SIDE
from portrait.loop.load import load_loop
from portrait.loop.response import curves_for
from portrait.recipes.load import load_recipe
from portrait.recipes.override import with_overrides
from portrait.recipes.recipe import Lora, Recipe
from portrait.records import Knobs, RgbImage
from portrait.settings import Settings
from portrait.studio.web_settings import choices_for
from tests import public
from tests.fakes import FakeGenerator, a_photo, fake_loop
from tests.qwen_contract import ANNA, BO, PHOTO, SIZE, WHO, QwenFamilyContract, distance, picture

pytestmark = pytest.mark.slow

KNOBS = Knobs(
    strength=0.5, guidance_scale=1.0, ip_adapter_scale=1.0, controlnet_conditioning_scale=1.0, num_inference_steps=8
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("klein") / "klein4b"
    public.klein(place)
    return place


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Recipe:
    """The shipped recipe on the miniature, in float32."""
    return replace(
        load_recipe("klein4b"), base=folder, resolution=SIZE, memory=(), autocast="", digests={"x": "0" * 64}
    )


@pytest.fixture(scope="module")
def generator(recipe: Recipe) -> DiffusionGenerator:
    return DiffusionGenerator(recipe, threads=1)


def prepared(generator: DiffusionGenerator, *heads: RgbImage, prompt: str = "an oil painting") -> Conditions:
    conditions: Conditions = generator.prepare(PHOTO, WHO, prompt, pictures=heads)
    return conditions


class TestKlein(QwenFamilyContract):
    family = Flux2Klein
    networks = frozenset({"transformer", "vae"})
    knobs = KNOBS
    queries = "attn.to_q"

    def prepared(self, generator: DiffusionGenerator) -> Conditions:
        return prepared(generator, ANNA)


@pytest.fixture(scope="module")
def diffusers_own(folder: Path) -> Callable[..., RgbImage]:
    """diffusers' pipeline as its documentation calls it, the whole text encoder in it, on the same folder."""
    pipe = Flux2KleinInpaintPipeline.from_pretrained(str(folder), dtype=torch.float32, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)

    def call(references: list[RgbImage] | None, knobs: Knobs, seed: int) -> RgbImage:
        drawn = pipe(
            prompt="an oil painting",
            image=Image.fromarray(PHOTO),
            mask_image=Image.new("L", (SIZE, SIZE), 255),
            image_reference=None if references is None else [Image.fromarray(one) for one in references],
            strength=knobs.strength,
            num_inference_steps=knobs.num_inference_steps,
            guidance_scale=1.0,
            generator=torch.Generator("cpu").manual_seed(seed),
        ).images[0]
        return RgbImage(np.asarray(drawn))

    return call


@pytest.mark.parametrize("heads", [(), (ANNA,), (ANNA, picture(4, 48))], ids=["photo", "one head", "two heads"])
@pytest.mark.parametrize(("strength", "steps"), [(0.5, 8), (1.0, 4)])
def test_it_draws_what_diffusers_own_pipeline_draws(
    generator: DiffusionGenerator,
    diffusers_own: Callable[..., RgbImage],
    heads: tuple[RgbImage, ...],
    strength: float,
    steps: int,
) -> None:
    knobs = replace(KNOBS, strength=strength, num_inference_steps=steps)
    (ours,) = generator.generate(prepared(generator, *heads), knobs, [7])
    theirs = diffusers_own(list(heads) or None, knobs, 7)
    assert theirs.std() > 5, "a flat picture"
    print("differs by at most", np.abs(ours.astype(int) - theirs).max())
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_strength_is_not_rounded_to_steps() -> None:
    assert noise_levels(KNOBS) == [0.5, 0.375, 0.25, 0.125]  # what diffusers runs of eight steps
    assert noise_levels(replace(KNOBS, strength=0.6))[0] == 0.6
    assert len(noise_levels(replace(KNOBS, strength=0.6))) == KNOBS.steps


def test_the_policy_distinguishes_strengths_with_the_same_number_of_steps() -> None:
    recipe = load_recipe("klein4b")
    curves = curves_for(recipe, "oil", ["sface", "dlib"], {})
    strengths = [recipe.with_enough_steps(replace(KNOBS, strength=s)) for s in (0.52, 0.56)]
    assert len({knobs.steps / knobs.num_inference_steps for knobs in strengths}) == 1
    first, second = curves.changes(strengths).sum(1)
    assert (first != second).all()


def test_more_strength_leaves_less_of_the_photo(generator: DiffusionGenerator) -> None:
    conditions = prepared(generator)
    copy = generator.reconstruct(PHOTO)
    gaps = [
        distance(generator.generate(conditions, replace(KNOBS, strength=s, num_inference_steps=40), [1])[0], copy)
        for s in (0.1, 0.11, 0.5)
    ]
    print(gaps)
    assert gaps[0] < gaps[1] < gaps[2]


def test_what_is_shown_and_what_is_said_move_the_picture(generator: DiffusionGenerator) -> None:
    def made(*heads: RgbImage, prompt: str = "an oil painting", **knobs: float) -> RgbImage:
        return generator.generate(prepared(generator, *heads, prompt=prompt), replace(KNOBS, **knobs), [1])[0]  # type: ignore[arg-type]

    anna = made(ANNA)
    moved = {
        "another person": made(BO),
        "a second picture": made(ANNA, BO),
        "nobody": made(ANNA, ip_adapter_scale=0.0),
        "less of her": made(ANNA, ip_adapter_scale=0.5),
        "less of the photo": made(ANNA, controlnet_conditioning_scale=0.5),
        "nothing of the photo": made(ANNA, controlnet_conditioning_scale=0.0),
        "another instruction": made(ANNA, prompt="a woodcut"),
    }
    gaps = {name: distance(anna, other) for name, other in moved.items()}
    print(gaps)
    assert min(gaps.values()) > 0.1
    np.testing.assert_array_equal(moved["nobody"], made(BO, ip_adapter_scale=0.0))
    np.testing.assert_array_equal(moved["nobody"], made())


def test_a_scale_near_0_is_nearly_not_shown_and_1_is_as_trained(generator: DiffusionGenerator) -> None:
    conditions = prepared(generator, ANNA)
    off, faint, full = (
        generator.generate(conditions, replace(KNOBS, ip_adapter_scale=scale), [1])[0] for scale in (0.0, 1e-12, 1.0)
    )
    print("faint", distance(off, faint), "full", distance(off, full))
    assert distance(off, faint) < 0.2 * distance(off, full)
    assert attention_bias((4, 2, 2), (1.0, 1.0, 1.0), torch.zeros(1)) is None
    bias = attention_bias((1, 2), (1.0, 0.5), torch.zeros(1))
    assert bias is not None
    torch.testing.assert_close(bias.exp().flatten(), torch.tensor([1.0, 0.5, 0.5]))


def test_a_picture_does_not_depend_on_its_batch_nor_on_how_many_pictures_are_shown(
    generator: DiffusionGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditions = prepared(generator, ANNA, BO)  # as many as there are pictures in the batch
    monkeypatch.setattr(generator, "draws_together", True)  # as on a GPU
    batch = generator.generate(conditions, KNOBS, [5, 6])
    (alone,) = generator.generate(conditions, KNOBS, [6])
    assert np.abs(batch[1].astype(int) - alone).max() <= 1
    assert distance(batch[0], batch[1]) > 1
    assert generator.pipe.pictures == ()  # given back


def test_the_text_encoder_ends_behind_the_last_layer_that_is_read(generator: DiffusionGenerator) -> None:
    assert isinstance(generator.family, Flux2Klein)
    assert len(generator.family.text.network.layers) == 28


def test_a_folder_of_another_model_is_refused(recipe: Recipe, folder: Path, tmp_path: Path) -> None:
    import json
    import shutil

    other = tmp_path / "other"
    shutil.copytree(folder, other)
    config = other / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_hidden_layers": 12, "layer_types": None}))
    with pytest.raises(WeightsCorruptError, match="its text encoder has 12 layers; 28 are needed"):
        DiffusionGenerator(replace(recipe, base=other), threads=1)


# ---- what the recipe says and refuses


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"guidance_scale": 5.0}, r"klein4b \(FLUX.2 klein\) has no guidance_scale; it has strength, ip_adapter_scale"),
        ({"negative_prompt": "blurry"}, "has no negative_prompt"),
    ],
)
def test_knobs_that_it_lacks_are_refused_by_name_before_anything_is_loaded(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        load_loop(Settings(recipe="klein4b", **settings))


def test_a_plan_and_the_studio_refuse_them_too(tmp_path: Path) -> None:
    (tmp_path / "anna.png").write_bytes(b"")
    table = {"recipes": ["klein4b"], "subjects": ["anna.png"], "settings": {"guidance_scale": 5.0}}
    with pytest.raises(SettingsError, match="klein4b .* has no guidance_scale"):
        load_recipes(plan_from(table, tmp_path, "plan.toml"))
    choices = choices_for(load_recipe("klein4b"), "oil")
    assert not {"guidance_scale", "negative_prompt"} & set(choices.advanced)
    assert {"prompt", "strength"} <= set(choices.advanced)


def one_file(folder: Path, place: Path, *, scaled: bool) -> Path:
    file = place / ("klein-fp8.safetensors" if scaled else "klein.safetensors")
    file.write_bytes(public.klein_single_file(folder / "transformer", scaled=scaled))
    return file


def test_a_checkpoint_in_one_file_takes_the_place_of_the_transformer(
    recipe: Recipe, generator: DiffusionGenerator, folder: Path, tmp_path: Path
) -> None:
    file = one_file(folder, tmp_path, scaled=False)
    custom = with_overrides(recipe, base=str(file))
    chain = {link.part: link.commercial for link in custom.licenses}
    assert chain == {"klein.safetensors": "unknown", "klein4b": "yes"}  # its text encoder is still that of klein4b
    other = DiffusionGenerator(custom, threads=1)
    assert other.digests["klein.safetensors"] == sha256_of(file)
    (theirs,), (ours,) = (one.generate(prepared(one, ANNA), KNOBS, [3]) for one in (generator, other))
    np.testing.assert_array_equal(theirs, ours)


def test_8_bit_weights_draw_what_they_say_times_their_scales(
    recipe: Recipe, generator: DiffusionGenerator, folder: Path, tmp_path: Path
) -> None:
    file = one_file(folder, tmp_path, scaled=True)
    small = DiffusionGenerator(replace(recipe, single_file=file), threads=1)
    plain = load_transformer(one_file(folder, tmp_path, scaled=False), folder / "transformer", torch.float32)
    plain.requires_grad_(requires_grad=False)
    networks = small.family.pipe.transformer
    layers = {name: layer for name, layer in networks.named_modules() if isinstance(layer, ScaledLinear)}
    assert len(layers) == 12 + 2 * 2  # one double block, two single ones
    for name, layer in layers.items():
        weight = plain.get_submodule(name).weight
        expanded = layer.weight.float() * layer.scale[:, None]
        torch.testing.assert_close(expanded, weight, rtol=2**-4, atol=float(weight.abs().max()) / 256)
        plain.get_submodule(name).weight.data = expanded
    (ours,) = small.generate(prepared(small, ANNA), KNOBS, [3])
    small.family.pipe.transformer = plain
    np.testing.assert_array_equal(ours, small.generate(prepared(small, ANNA), KNOBS, [3])[0])
    (whole,) = generator.generate(prepared(generator, ANNA), KNOBS, [3])
    assert 0 < distance(whole, ours) < 20


def test_a_file_of_another_model_is_refused(recipe: Recipe, folder: Path) -> None:
    other = next((folder / "vae").glob("*.safetensors"))
    with pytest.raises(
        WeightsCorruptError, match=r"safetensors is not a checkpoint of the family flux2 that can be loaded"
    ):
        DiffusionGenerator(replace(recipe, single_file=other), threads=1)


def test_8_bit_weights_take_no_lora_and_are_refused_where_the_device_does_not_know_them(
    recipe: Recipe, folder: Path, tmp_path: Path
) -> None:
    small = replace(recipe, single_file=one_file(folder, tmp_path, scaled=True))
    with pytest.raises(SettingsError, match="LoRAs do not work with 8-bit weights; use the recipe klein4b"):
        DiffusionGenerator(replace(small, loras=(Lora(path=tmp_path / "ink.safetensors", weight=0.5),)), threads=1)
    family = DiffusionGenerator(small, threads=1).family
    with pytest.raises(SettingsError, match="Apple's GPUs do not support 8-bit weights; use the recipe klein4b"):
        family.place("full", torch.device("mps"))


def test_four_steps_run_at_every_strength() -> None:
    recipe = load_recipe("klein4b")
    for balance in np.linspace(0, 1, 21):
        assert recipe.with_enough_steps(recipe.knobs_at(float(balance))).steps >= 4
    for strength in (0.3, 0.475, 0.65, 1.0):
        assert recipe.with_enough_steps(replace(KNOBS, strength=strength, num_inference_steps=4)).steps == 4


def test_every_style_has_an_instruction_whose_wording_follows_the_dial() -> None:
    recipe = load_recipe("klein4b")
    for name in recipe.styles:
        texts = [recipe.prompt_of(recipe.style(name), balance=balance) for balance in (0.0, 0.5, 1.0)]
        assert len(set(texts)) == 3
        assert all(text.endswith(".") for text in texts)
    custom = recipe.style("oil").model_copy(update={"name": "noir", "rich_prompt": "film noir, hard side light"})
    assert recipe.prompt_of(custom).startswith("Redraw this photo as: film noir, hard side light. ")
    instructed = custom.model_copy(update={"instruction": "Make it noir."})
    assert recipe.prompt_of(instructed).startswith("Make it noir. ")


def test_the_heads_of_photo_and_references_are_shown_up_to_three(recipe: Recipe, limits: str) -> None:
    shown: list[tuple[RgbImage, ...]] = []

    class Listening(FakeGenerator):
        def prepare(self, image: RgbImage, *more: Any, **named: Any) -> Any:
            shown.append(more[-1])
            return super().prepare(image, *more, **named)

    loop = fake_loop(Listening(lambda photo, knobs, seed: photo), recipe=recipe)
    base = a_photo()
    others = [
        Photo(pixels=RgbImage(np.roll(base.pixels, i, 1)), path=Path(f"{i}.png"), sha256="0" * 64) for i in (1, 2, 3)
    ]
    for count in (0, 1, 3):
        (subject,) = loop.subjects(base, references=others[:count])
        portrait = loop.stylize(subject, "oil", Settings(max_attempts=1, thresholds=limits))
    assert [len(heads) for heads in shown] == [1, 2, 3]
    assert all(head.shape == (HEAD_SIDE, HEAD_SIDE, 3) for heads in shown for head in heads)
    assert portrait.record.prompt.startswith("Repaint this photo as an oil painting")
    assert (
        subject.warnings[-1]
        == "recipe klein4b is shown only 3 of the 4 photos of the person; the rest is used for judging only"
    )
