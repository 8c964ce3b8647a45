"""Z-Image in miniature: the same pixels as diffusers' own pipelines, and knobs that do what they say.

What this proves: classes, file layout, key names, conditioning, noise levels, memory tiers. What it cannot: how the real
weights draw.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ZImageControlNetModel,
    ZImageControlNetPipeline,
    ZImageImg2ImgPipeline,
    ZImageTransformer2DModel,
)
from PIL import Image
from safetensors.torch import load_file, save_file

from portrait.errors import SettingsError, WeightsCorruptError
from portrait.generate.control import control_image
from portrait.generate.diffusion import DiffusionGenerator
from portrait.generate.families.z_image.family import Conditions, ZImage
from portrait.generate.families.z_image.load import controlnet_for
from portrait.generate.families.z_image.pipeline import share_layers
from portrait.hub.files import sha256_of
from portrait.loop.load import load_loop
from portrait.recipes.load import load_recipe
from portrait.recipes.override import with_overrides
from portrait.recipes.recipe import Recipe
from portrait.records import Knobs, RgbImage
from portrait.settings import Settings
from portrait.studio.web_settings import choices_for
from tests import public
from tests.qwen_contract import PROMPT, SIZE, WHO, QwenFamilyContract, distance, widest

pytestmark = pytest.mark.slow

KNOBS = Knobs(
    strength=0.5, guidance_scale=0.0, ip_adapter_scale=0.0, controlnet_conditioning_scale=0.75, num_inference_steps=8
)
FREE = replace(KNOBS, controlnet_conditioning_scale=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("z_image")
    public.z_image(place / "base")
    save_file(public.z_image_controlnet().state_dict(), place / "union.safetensors")
    return place


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Recipe:
    """The shipped recipe on the miniature, in float32."""
    return replace(
        load_recipe("z-image-turbo"),
        base=folder / "base",
        controlnet=folder / "union.safetensors",
        resolution=SIZE,
        memory=(),
        autocast="",
        digests={"x": "0" * 64},
    )


@pytest.fixture(scope="module")
def generator(recipe: Recipe) -> DiffusionGenerator:
    return DiffusionGenerator(recipe, threads=1)


def picture(seed: int) -> RgbImage:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 6, 3), np.uint8)
    return RgbImage(np.asarray(Image.fromarray(small).resize((SIZE, SIZE), Image.Resampling.NEAREST)))


PHOTO = picture(1)


def prepared(generator: DiffusionGenerator, photo: RgbImage = PHOTO, prompt: str = PROMPT) -> Conditions:
    conditions: Conditions = generator.prepare(photo, WHO, prompt)
    return conditions


class TestZImage(QwenFamilyContract):
    family = ZImage
    networks = frozenset({"transformer", "vae", "controlnet"})
    knobs = KNOBS
    queries = "attention.to_q"

    def prepared(self, generator: DiffusionGenerator) -> Conditions:
        return prepared(generator)


@pytest.mark.parametrize(("strength", "steps"), [(0.5, 8), (1.0, 4)])
def test_it_draws_what_diffusers_own_img2img_draws(
    generator: DiffusionGenerator, folder: Path, strength: float, steps: int
) -> None:
    pipe = ZImageImg2ImgPipeline.from_pretrained(str(folder / "base"), dtype=torch.float32, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        prompt=PROMPT,
        image=Image.fromarray(PHOTO),
        strength=strength,
        num_inference_steps=steps,
        guidance_scale=0.0,
        generator=torch.Generator("cpu").manual_seed(7),
    ).images[0]
    knobs = replace(FREE, strength=strength, num_inference_steps=steps)
    (ours,) = generator.generate(prepared(generator), knobs, [7])
    theirs = RgbImage(np.asarray(theirs))
    assert theirs.std() > 5, "a flat picture"
    print("differs by at most", widest(ours, theirs))
    assert widest(ours, theirs) <= 1


def test_it_draws_what_diffusers_own_controlnet_draws_from_the_same_noise(
    generator: DiffusionGenerator, folder: Path
) -> None:
    about = public.full_size.config("z-image-control", tiny=True)
    net = ZImageControlNetModel(**about)
    net.load_state_dict(load_file(folder / "union.safetensors"))
    pipe = ZImageControlNetPipeline.from_pretrained(
        str(folder / "base"), controlnet=net.float(), dtype=torch.float32, local_files_only=True
    )
    pipe.set_progress_bar_config(disable=True)
    conditions = prepared(generator)
    noise = torch.Generator("cpu").manual_seed(7)
    conditions.photo.sample(noise)  # of img2img, which draws these numbers first
    theirs = pipe(
        prompt=PROMPT,
        control_image=Image.fromarray(control_image("canny", PHOTO, None)),
        controlnet_conditioning_scale=0.75,
        height=SIZE,
        width=SIZE,
        num_inference_steps=4,
        guidance_scale=0.0,
        latents=torch.randn(1, 16, SIZE // 8, SIZE // 8, generator=noise),
    ).images[0]
    (ours,) = generator.generate(conditions, replace(KNOBS, strength=1.0, num_inference_steps=4), [7])
    theirs = RgbImage(np.asarray(theirs))
    print("differs by at most", widest(ours, theirs))
    assert widest(ours, theirs) <= 1
    (free,) = generator.generate(conditions, replace(FREE, strength=1.0, num_inference_steps=4), [7])
    assert distance(ours, free) > 1


def test_more_strength_leaves_less_of_the_photo_and_is_not_rounded_to_steps(generator: DiffusionGenerator) -> None:
    conditions, copy = prepared(generator), generator.reconstruct(PHOTO)
    gaps = [
        distance(generator.generate(conditions, replace(FREE, strength=s, num_inference_steps=40), [1])[0], copy)
        for s in (0.1, 0.11, 0.5)
    ]
    print(gaps)
    assert gaps[0] < gaps[1] < gaps[2]


def test_what_is_said_and_how_much_the_outlines_hold_move_the_picture(generator: DiffusionGenerator) -> None:
    def made(photo: RgbImage = PHOTO, prompt: str = PROMPT, **knobs: float) -> RgbImage:
        return generator.generate(prepared(generator, photo, prompt), replace(KNOBS, **knobs), [1])[0]  # type: ignore[arg-type]

    plain = made()
    moved = {
        "another prompt": made(prompt="a woodcut"),
        "another photo": made(picture(2)),
        "looser outlines": made(controlnet_conditioning_scale=0.4),
        "no outlines": made(controlnet_conditioning_scale=0.0),
    }
    gaps = {name: distance(plain, other) for name, other in moved.items()}
    print(gaps)
    assert min(gaps.values()) > 0.1


def test_a_picture_does_not_depend_on_its_batch(generator: DiffusionGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    conditions = prepared(generator)
    monkeypatch.setattr(generator, "draws_together", True)  # as on a GPU
    batch = generator.generate(conditions, KNOBS, [5, 6])
    (alone,) = generator.generate(conditions, KNOBS, [6])
    assert widest(batch[1], alone) <= 1
    assert distance(batch[0], batch[1]) > 1
    assert not generator.pipe.transformer._forward_pre_hooks  # given back


def test_without_a_controlnet_it_is_plain_img2img(recipe: Recipe, generator: DiffusionGenerator) -> None:
    plain = DiffusionGenerator(replace(recipe, structure="none", control="", controlnet=None), threads=1)
    (theirs,), (ours,) = (one.generate(prepared(one), FREE, [3]) for one in (generator, plain))
    np.testing.assert_array_equal(theirs, ours)


def test_layer_by_layer_it_draws_the_same(recipe: Recipe, generator: DiffusionGenerator) -> None:
    from accelerate import cpu_offload

    (whole,) = generator.generate(prepared(generator), KNOBS, [3])
    layers = DiffusionGenerator(recipe, threads=1)
    for network in (layers.pipe.transformer, layers.pipe.controlnet, layers.pipe.vae):
        cpu_offload(network, torch.device("cpu"))  # as the tier `sequential` does on a GPU
    assert layers.pipe.transformer.x_pad_token.device.type == "meta"
    np.testing.assert_array_equal(whole, layers.generate(prepared(layers), KNOBS, [3])[0])


def test_a_transformer_in_one_file_takes_the_place_of_the_other(
    recipe: Recipe, generator: DiffusionGenerator, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "z-bf16.safetensors"
    file.write_bytes(public.z_image_single_file(folder / "base" / "transformer"))
    custom = with_overrides(recipe, base=str(file))
    chain = {link.part: link.commercial for link in custom.licenses}
    assert chain == {"z-bf16.safetensors": "unknown", "z-image-turbo": "yes", "z-image-turbo-control-lite": "yes"}
    other = DiffusionGenerator(custom, threads=1)
    assert other.digests["z-bf16.safetensors"] == sha256_of(file)
    rounded = DiffusionGenerator(recipe, threads=1)
    share_layers(rounded.pipe.controlnet, rounded.pipe.transformer.bfloat16().float())
    (theirs,), (ours,) = (one.generate(prepared(one), KNOBS, [3]) for one in (rounded, other))
    np.testing.assert_array_equal(theirs, ours)


@pytest.mark.parametrize(("count", "places"), [(3, [0, 10, 20]), (15, list(range(0, 30, 2)))])
def test_the_makers_files_stand_beside_the_layers_of_their_configurations(count: int, places: list[int]) -> None:
    full = public.full_size
    with torch.device("meta"):
        about = {key: value for key, value in full.config("z-image-transformer").items() if not key.startswith("_")}
        transformer = ZImageTransformer2DModel(**about)
        whole = ZImageControlNetModel(**full.config("z-image-control") | {"control_layers_places": places})
    made = controlnet_for(whole.state_dict(), transformer)
    assert len(made.control_layers) == count
    assert made.config.control_layers_places == places
    assert {name: value.shape for name, value in made.state_dict().items()} == {
        name: value.shape for name, value in whole.state_dict().items()
    }


def test_files_of_another_model_are_refused(recipe: Recipe, folder: Path) -> None:
    other = next((folder / "base" / "vae").glob("*.safetensors"))
    with pytest.raises(
        WeightsCorruptError, match=r"safetensors is not a checkpoint of the family z_image that can be loaded"
    ):
        DiffusionGenerator(replace(recipe, single_file=other), threads=1)
    with pytest.raises(WeightsCorruptError, match=r"safetensors is not a ControlNet-Union 2.1 for Z-Image"):
        DiffusionGenerator(replace(recipe, controlnet=other), threads=1)


# ---- what the recipe says and refuses


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"guidance_scale": 5.0},
            r"z-image-turbo \(Z-Image\) has no guidance_scale; it has strength, controlnet_conditioning_scale",
        ),
        ({"ip_adapter_scale": 1.0}, "has no ip_adapter_scale"),
        ({"negative_prompt": "blurry"}, "has no negative_prompt"),
    ],
)
def test_knobs_that_it_lacks_are_refused_by_name_before_anything_is_loaded(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        load_loop(Settings(recipe="z-image-turbo", **settings))


def test_the_studio_does_not_show_them() -> None:
    choices = choices_for(load_recipe("z-image-turbo"), "oil")
    assert not {"guidance_scale", "ip_adapter_scale", "negative_prompt"} & set(choices.advanced)
    assert {"prompt", "strength", "controlnet_conditioning_scale"} <= set(choices.advanced)


def test_doctor_has_no_identity_input_to_switch_off(capsys: pytest.CaptureFixture[str]) -> None:
    from portrait.cli.main import main

    assert main(["doctor", "--recipe", "z-image-turbo"]) != 0
    assert "recipe z-image-turbo has no identity input to switch off" in capsys.readouterr().err


def test_four_steps_run_at_every_strength() -> None:
    recipe = load_recipe("z-image-turbo")
    for balance in np.linspace(0, 1, 21):
        assert recipe.with_enough_steps(recipe.knobs_at(float(balance))).steps >= 4
