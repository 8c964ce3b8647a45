"""Every public recipe, fetched from a hub, verified, loaded and run at small size with random weights.

What this proves: file layouts, key names, shapes by configuration, classes, conditioning, LoRAs, schedulers. What it
cannot: how the real weights look.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus
from PIL import Image

from portrait.cli.main import main
from portrait.errors import SettingsError, WeightsCorruptError, WeightsError, WeightsMissingError
from portrait.faces.conditioning_recognizer import ConditioningRecognizer
from portrait.generate.control import control_image
from portrait.generate.diffusion import DiffusionGenerator
from portrait.generate.families.stable_diffusion.family import face_crop
from portrait.generate.framing import frame_portrait
from portrait.hub.download import fetch
from portrait.hub.files import sha256_of
from portrait.hub.manifest import GROUPS, find_part, manifest
from portrait.images import Photo
from portrait.recipes.load import load_recipe, recipe_names
from portrait.recipes.locate import resolve_files
from portrait.recipes.override import with_overrides
from portrait.recipes.recipe import Recipe
from portrait.records import Embedding, Knobs, RgbImage
from portrait.records.portrait import LicenseLink
from portrait.settings import Settings
from tests import public
from tests.fakes import FakeGenerator, a_face, fake_loop
from tests.hub_server import Hub, serving, use
from tests.wheel_files import wheel_file

pytestmark = pytest.mark.slow

PUBLIC = [name for name in recipe_names() if name.startswith(("sd15-", "sdxl-"))]
SIZE = 64


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with every part that a recipe names, and an empty machine."""
    folder = tmp_path_factory.mktemp("hub")
    names = {part for name in PUBLIC for part in load_recipe(name).part_names}
    names |= {
        *load_recipe("klein4b-fp8").part_names,
        *load_recipe("z-image-turbo").part_names,
        *load_recipe("z-image-turbo-bf16").part_names,
        *load_recipe("qwen-edit-2511-lightning").part_names,
        "control-sd15-lineart",
        "control-sd15-tile",
        "sd15-single",
        "sdxl-single",
    }  # for recipes of one's own
    with pytest.MonkeyPatch.context() as patch, serving() as server:
        parts = [find_part(name) for name in sorted(names)]
        server.files, server.archives, text = public.shelf(parts)
        (folder / "manifest.toml").write_text(text)
        use(patch, server, folder)
        yield server


def small(name: str) -> Recipe:
    """The recipe fetched and located, at 64 px and without a claim on memory."""
    recipe = load_recipe(name)
    fetch([find_part(part) for part in recipe.part_names])
    return replace(resolve_files(recipe), resolution=SIZE, memory=())


@pytest.fixture(scope="module")
def picture() -> RgbImage:
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    image = np.stack([x * 4, y * 4, 128 + 0 * x], -1).astype(np.uint8)
    image[20:44, 24:40] = (217, 173, 140)
    return RgbImage(image)


def person(seed: int, length: float = 1.0) -> Embedding:
    vector = np.random.default_rng(seed).normal(size=512).astype(np.float32)
    return Embedding((vector / np.linalg.norm(vector) * length).astype(np.float32))


def draw(generator: DiffusionGenerator, image: RgbImage, who: Embedding, knobs: Knobs, seed: int = 1) -> RgbImage:
    conditions = generator.prepare(image, who, "oil painting", "blurry", a_face(SIZE))
    return generator.generate(conditions, knobs, [seed])[0]


def distance(a: RgbImage, b: RgbImage) -> float:
    return float(np.abs(a.astype(int) - b).mean())


def knobs_of(recipe: Recipe, **change: Any) -> Knobs:
    steps = {} if recipe.min_steps > 1 else {"num_inference_steps": 4, "strength": 0.8}
    return recipe.with_enough_steps(replace(recipe.knobs_at(0.5), **(steps | change)))


@pytest.mark.parametrize("control", ["canny", "lineart", "tile"])
def test_a_controlnet_holds_edges_lines_or_tiles(hub: Hub, picture: RgbImage, tmp_path: Path, control: str) -> None:
    path = tmp_path / "own.toml"
    parts = f'[parts]\ncontrolnet = "control-sd15-{control}"\n'
    path.write_text(f'extends = "sd15-faceid"\nname = "own"\ncontrol = "{control}"\n{parts}')
    recipe = small(str(path))
    generator = DiffusionGenerator(recipe, threads=1)
    held = knobs_of(recipe, controlnet_conditioning_scale=1.0)
    free = replace(held, controlnet_conditioning_scale=0.0)
    moved = distance(draw(generator, picture, person(1), held), draw(generator, picture, person(1), free))
    print(control, "moves the picture by", moved)
    assert moved > 0.5


def test_controls_are_drawn_as_their_networks_were_trained() -> None:
    step = RgbImage(np.full((64, 64, 3), 230, np.uint8))
    step[:, 32:34] = 40  # a dark line on light paper
    canny, lines = control_image("canny", step, None), control_image("lineart", step, None)
    assert set(np.unique(canny)) == {0, 255}
    assert canny[:, 28:38].any()
    assert not canny[:, :24].any()
    assert lines[:, 32:34].min() > 100
    assert lines[:, :16].max() < 10
    assert control_image("lineart", RgbImage(np.full((64, 64, 3), 128, np.uint8)), None).max() == 0
    tile = control_image("tile", step, None)
    assert (tile == step).all()
    assert tile is not step
    points = control_image("keypoints", step, a_face(64))
    assert [tuple(points[int(y), int(x)]) for x, y in a_face(64).kps[:2]] == [(255, 0, 0), (0, 255, 0)]
    with pytest.raises(SettingsError, match="needs the face"):
        control_image("keypoints", step, None)


def test_the_recipes_that_were_promised_are_here() -> None:
    full = {"sd15-faceid", "sd15-faceid-plusv2", "sd15-plus-face", "sdxl-faceid", "sdxl-faceid-plusv2"}
    full |= {"sdxl-plus-face", "sdxl-instantid"}
    assert full | {f"{name}-fast" for name in full} == set(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_each_recipe_is_fetched_verified_loaded_and_run(hub: Hub, picture: RgbImage, name: str) -> None:
    recipe = small(name)
    generator = DiffusionGenerator(recipe, threads=1)
    assert {key.split("/")[0] for key in generator.digests} == set(recipe.part_names)
    who = person(1, 20.0 if recipe.embedding == "raw" else 1.0)
    knobs = knobs_of(recipe)
    drawn = draw(generator, picture, who, knobs)
    assert drawn.shape == (SIZE, SIZE, 3)
    assert drawn.std() > 1, "a flat picture"
    np.testing.assert_array_equal(drawn, draw(generator, picture, who, knobs))
    if recipe.adapter_kind == "plus-face":  # looks at the photo's face
        other = picture.copy()
        other[20:44, 24:40] = (141, 85, 36)
        conditions = generator.prepare(picture, who, "oil", "", a_face(SIZE))
        clip = generator.prepare(other, who, "oil", "", a_face(SIZE)).clip
        a, b = (generator.generate(replace(conditions, clip=c), knobs, [1])[0] for c in (conditions.clip, clip))
    else:
        a, b = (draw(generator, picture, person(seed, 20.0), knobs) for seed in (1, 2))
    off = replace(knobs, ip_adapter_scale=0.0)
    print(name, "identity moves the picture by", distance(a, b))
    assert distance(a, b) > 0.05
    if recipe.adapter_kind.startswith("faceid"):  # InstantID's IdentityNet goes on reading the identity
        c, d = (draw(generator, picture, person(seed, 20.0), off) for seed in (1, 2))
        assert distance(c, d) == 0


def diffusers_own(recipe: Recipe) -> Any:
    """diffusers' own pipeline of a recipe, loaded and told of the adapter as its documentation does."""
    import diffusers
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    options: dict[str, Any] = {"dtype": torch.float32, "local_files_only": True}
    parts: dict[str, Any] = {"feature_extractor": None, "image_encoder": None}
    if recipe.image_encoder is not None:
        parts["image_encoder"] = CLIPVisionModelWithProjection.from_pretrained(recipe.image_encoder, **options)
        parts["feature_extractor"] = CLIPImageProcessor()
    is_xl = recipe.family == "sdxl"
    variant = "fp16" if is_xl else None
    pipeline = getattr(diffusers, f"StableDiffusion{'XL' * is_xl}ControlNetImg2ImgPipeline")
    pipe = pipeline.from_pretrained(
        recipe.base,
        variant="fp16",
        controlnet=diffusers.ControlNetModel.from_pretrained(recipe.controlnet, variant=variant, **options),
        vae=diffusers.AutoencoderKL.from_pretrained(recipe.vae, **options),
        **({"add_watermarker": False} if is_xl else {"safety_checker": None, "requires_safety_checker": False}),
        **parts,
        **options,
    )
    pipe.set_progress_bar_config(disable=True)
    if recipe.scheduler:
        assert recipe.scheduler == "DDIM"
        pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    file = recipe.adapter
    pipe.load_ip_adapter(str(file.parent), subfolder="", weight_name=file.name, image_encoder_folder=None)
    return pipe


@pytest.mark.parametrize("name", ["sd15-faceid", "sd15-plus-face", "sdxl-plus-face"])
def test_it_draws_what_diffusers_own_pipeline_draws(hub: Hub, picture: RgbImage, name: str) -> None:
    recipe, knobs, who, face = small(name), knobs_of(load_recipe(name)), person(1), a_face(SIZE)
    generator = DiffusionGenerator(recipe, threads=1, dtype="float32")
    conditions = generator.prepare(picture, who, "oil painting", "blurry", face)
    (ours,) = generator.generate(conditions, knobs, [7])
    pipe = diffusers_own(recipe)
    pipe.set_ip_adapter_scale(knobs.ip_adapter_scale)
    identity: dict[str, Any]
    if recipe.adapter_kind == "faceid":
        pipe.set_adapters(["faceid_0"], [recipe.adapter_lora])
        embedding = torch.from_numpy(who)[None, None]
        identity = {"ip_adapter_image_embeds": [torch.cat([torch.zeros_like(embedding), embedding])]}
    else:
        identity = {"ip_adapter_image": Image.fromarray(face_crop("plus-face", picture, face))}
    theirs = pipe(
        prompt="oil painting",
        negative_prompt="blurry",
        image=conditions.latents,  # of the photo: theirs would add the autoencoder's noise
        control_image=Image.fromarray(control_image("canny", picture, None)),
        strength=knobs.strength,
        guidance_scale=knobs.guidance_scale,
        controlnet_conditioning_scale=knobs.controlnet_conditioning_scale,
        num_inference_steps=knobs.num_inference_steps,
        generator=torch.Generator("cpu").manual_seed(7),
        **identity,
    ).images[0]
    gap = np.abs(ours.astype(int) - np.asarray(theirs)).max()
    print(name, "differs by at most", gap)
    assert ours.std() > 1, "a flat picture"
    assert gap <= 1


def test_the_second_load_asks_the_hub_for_nothing(hub: Hub) -> None:
    small("sd15-faceid")
    hub.requests.clear()
    small("sd15-faceid")
    assert hub.requests == []


def test_a_recipe_whose_models_are_not_here_names_the_command(tmp_path: Path, hub: Hub) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_CACHE", str(tmp_path))
        patch.setenv("PORTRAIT_CACHE", str(tmp_path))
        patch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(
            WeightsMissingError, match=r"sd15-faceid needs sd15, .*run: portrait weights fetch sd15-faceid"
        ):
            resolve_files(load_recipe("sd15-faceid"))


# ---- adapters


def test_a_pickled_adapter_is_kept_as_safetensors_and_equals_it(hub: Hub) -> None:
    import torch
    from safetensors.torch import load_file

    from portrait.generate.families.stable_diffusion.adapters import as_safetensors

    recipe = small("sd15-faceid")
    assert recipe.adapter.suffix == ".bin"
    safe = as_safetensors(recipe.adapter)
    state = torch.load(recipe.adapter, weights_only=True)
    flat = {f"{top}.{key}": value for top, table in state.items() for key, value in table.items()}
    converted = load_file(safe)
    assert converted.keys() == flat.keys()
    assert all(torch.equal(converted[key], flat[key]) for key in flat)
    safe.write_bytes(safe.read_bytes()[:-1] + b"!")  # damaged in our cache: made again
    assert load_file(as_safetensors(recipe.adapter)).keys() == flat.keys()


def test_a_full_disk_while_an_adapter_is_kept_leaves_nothing_half(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from portrait.generate.families.stable_diffusion import adapters

    path = small("sd15-faceid").adapter

    def full(flat: Any, place: str) -> None:
        Path(place).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(adapters, "save_file", full)
    monkeypatch.setenv("PORTRAIT_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"cannot save .*No space left on device; free some space"):
        adapters.as_safetensors(path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_the_lora_inside_a_faceid_file_works_at_the_documented_weight(hub: Hub, picture: RgbImage) -> None:
    recipe = small("sd15-faceid")
    assert recipe.adapter_lora == 0.65
    knobs = knobs_of(recipe)
    pictures = {}
    for weight in (0.0, 0.65, 1.0):
        generator = DiffusionGenerator(replace(recipe, adapter_lora=weight), threads=1)
        assert generator.loras == {"faceid_0": weight}
        pictures[weight] = draw(generator, picture, person(1), knobs)
    assert distance(pictures[0.0], pictures[0.65]) > 0
    assert distance(pictures[0.65], pictures[1.0]) > 0


def test_at_scale_zero_the_adapters_lora_is_silent_and_the_speed_lora_stays(hub: Hub, picture: RgbImage) -> None:
    recipe = small("sd15-faceid-fast")
    generator = DiffusionGenerator(recipe, threads=1)
    assert generator.loras == {"faceid_0": 0.65, "lora_0": 1.0}
    off = knobs_of(recipe, ip_adapter_scale=0.0)
    silent = draw(generator, picture, person(1), off)
    without = DiffusionGenerator(replace(recipe, adapter_lora=0.0), threads=1)
    np.testing.assert_array_equal(silent, draw(without, picture, person(1), off))
    neither = DiffusionGenerator(replace(recipe, adapter_lora=0.0, loras=()), threads=1)
    assert distance(silent, draw(neither, picture, person(1), off)) > 0
    active = generator.pipe.get_active_adapters()
    assert set(active) == {"faceid_0", "lora_0"}  # given back


def test_plusv2_uses_its_shortcut(hub: Hub) -> None:
    generator = DiffusionGenerator(small("sd15-faceid-plusv2"), threads=1)
    assert generator.pipe.unet.encoder_hid_proj.image_projection_layers[0].shortcut is True


def test_plusv2_listens_to_the_recognizer_and_to_clip(hub: Hub, picture: RgbImage) -> None:
    recipe = small("sd15-faceid-plusv2")
    generator = DiffusionGenerator(recipe, threads=1)
    knobs = knobs_of(recipe)
    conditions = generator.prepare(picture, person(1), "oil", "", a_face(SIZE))
    assert conditions.clip is not None
    first = generator.generate(conditions, knobs, [1])[0]
    other_face = generator.generate(replace(conditions, clip=conditions.clip.flip(-1)), knobs, [1])[0]
    other_id = generator.generate(replace(conditions, embedding=person(2)), knobs, [1])[0]
    assert distance(first, other_face) > 0
    assert distance(first, other_id) > 0


def test_identitynet_reads_the_identity_and_the_points(hub: Hub, picture: RgbImage) -> None:
    recipe = small("sdxl-instantid")
    generator = DiffusionGenerator(recipe, threads=1)
    off = knobs_of(recipe, ip_adapter_scale=0.0)  # what is left of the identity goes through IdentityNet alone
    a, b = (draw(generator, picture, person(seed, 20.0), off) for seed in (1, 2))
    assert distance(a, b) > 0
    blind = replace(off, controlnet_conditioning_scale=0.0)
    c, d = (draw(generator, picture, person(seed, 20.0), blind) for seed in (1, 2))
    assert distance(c, d) == 0
    alone = replace(blind, ip_adapter_scale=0.8)  # what is left goes through the adapter alone
    e, f = (draw(generator, picture, person(seed, 20.0), alone) for seed in (1, 2))
    assert distance(e, f) > 0
    assert distance(e, c) > 0
    conditions = generator.prepare(picture, person(1, 20.0), "oil", "", a_face(SIZE))
    moved = generator.prepare(picture, person(1, 20.0), "oil", "", a_face(SIZE).moved(1, 9, 9)).control
    first, second = (
        generator.generate(replace(conditions, control=x), off, [1])[0] for x in (conditions.control, moved)
    )
    assert distance(first, second) > 0


def test_a_picture_of_a_batch_is_the_picture_alone(hub: Hub, picture: RgbImage) -> None:
    for name in ("sd15-faceid-plusv2", "sdxl-instantid"):
        recipe = small(name)
        generator = DiffusionGenerator(recipe, threads=1)
        conditions = generator.prepare(picture, person(1), "oil", "", a_face(SIZE))
        generator.draws_together = True
        batch = generator.generate(conditions, knobs_of(recipe), [5, 6])
        (alone,) = generator.generate(conditions, knobs_of(recipe), [6])
        assert np.abs(batch[1].astype(int) - alone).max() <= 1


def test_an_adapter_of_another_kind_or_family_is_refused(hub: Hub) -> None:
    faceid, plus, xl = small("sd15-faceid"), small("sd15-plus-face"), small("sdxl-faceid")
    with pytest.raises(WeightsCorruptError, match="not a plain FaceID adapter"):
        DiffusionGenerator(replace(faceid, adapter=plus.adapter), threads=1)
    with pytest.raises(WeightsCorruptError, match="not an IP-Adapter plus-face"):
        DiffusionGenerator(replace(plus, adapter=faceid.adapter), threads=1)
    with pytest.raises(WeightsCorruptError, match="cross-attention width of 80, the model has 32"):
        DiffusionGenerator(replace(faceid, adapter=xl.adapter), threads=1)


# ---- few steps


@pytest.mark.parametrize("name", [name for name in PUBLIC if name.endswith("-fast")])
def test_a_distilled_model_never_runs_fewer_steps_than_it_was_made_for(name: str) -> None:
    recipe = load_recipe(name)
    for balance in np.linspace(0, 1, 21):
        for strength in (None, 0.3, 0.35, 0.7, 1.0):
            knobs = recipe.knobs_at(float(balance))
            knobs = recipe.with_enough_steps(knobs if strength is None else replace(knobs, strength=strength))
            assert knobs.steps >= recipe.min_steps


def test_steps_that_the_user_set_too_low_are_refused_with_the_number_that_works(hub: Hub, picture: RgbImage) -> None:
    generator = DiffusionGenerator(small("sd15-faceid-fast"), threads=1)
    knobs = replace(generator.recipe.knobs_at(0.5), num_inference_steps=4, strength=0.5)
    with pytest.raises(SettingsError, match="strength 0.5 of 4 steps runs 2, recipe sd15-faceid-fast needs 4; use 8"):
        draw(generator, picture, person(1), knobs)


@pytest.mark.parametrize(("strength", "steps"), [(0.05, 8), (0.0, 8), (0.9, 60)])
def test_lcm_is_never_asked_for_more_steps_than_it_knows(
    hub: Hub, picture: RgbImage, strength: float, steps: int
) -> None:
    generator = DiffusionGenerator(small("sd15-faceid-fast"), threads=1)
    knobs = replace(generator.recipe.knobs_at(0.5), strength=strength, num_inference_steps=steps)
    knobs = generator.recipe.with_enough_steps(knobs)
    assert knobs.num_inference_steps in (50, 60)
    with pytest.raises(SettingsError, match=r"strength 0\.08"):
        draw(generator, picture, person(1), knobs)
    fewest = generator.recipe.with_enough_steps(replace(knobs, strength=0.08, num_inference_steps=8))
    assert (fewest.num_inference_steps, fewest.steps) == (50, 4)
    draw(generator, picture, person(1), fewest)


def test_each_recipe_samples_as_its_adapter_or_lora_was_documented(hub: Hub) -> None:
    expected = {"sd15-faceid": "DDIM", "sd15-faceid-fast": "LCM", "sdxl-faceid-fast": "EulerDiscrete"}
    for name, sampler in expected.items():
        generator = DiffusionGenerator(small(name), threads=1)
        assert generator.sampler == sampler
    assert generator.pipe.scheduler.config.timestep_spacing == "trailing"


# ---- recognizers


def test_each_adapter_gets_the_pack_that_it_was_trained_with() -> None:
    for name in PUBLIC:
        recipe = load_recipe(name)
        expected = {"instantid": "glintr100", "plus-face": ""}.get(recipe.adapter_kind, "w600k_r50")
        assert recipe.recognizer == expected
        assert recipe.embedding == ("raw" if recipe.adapter_kind == "instantid" else "unit")


def test_another_pack_is_refused(tmp_path: Path) -> None:
    recipe_file = tmp_path / "own.toml"
    recipe_file.write_text('extends = "sd15-faceid"\nname = "own"\n[parts]\nrecognizer = "antelopev2"\n')
    with pytest.raises(SettingsError, match="w600k_r50 comes from the pack buffalo_l, not antelopev2"):
        load_recipe(str(recipe_file))


@pytest.mark.parametrize(
    ("parent", "change", "says"),
    [
        ("sd15-faceid", ("glintr100", "antelopev2", "unit"), "recognizer w600k_r50 and embedding unit, not glintr100"),
        ("sdxl-faceid-plusv2", ("w600k_r50", "buffalo_l", "raw"), "embedding unit, not w600k_r50 and raw"),
        ("sdxl-instantid", ("w600k_r50", "buffalo_l", "unit"), "recognizer glintr100 and embedding raw, not w600k_r50"),
    ],
)
def test_another_recognizer_or_form_than_the_adapter_was_trained_with_is_refused(
    tmp_path: Path, parent: str, change: tuple[str, str, str], says: str
) -> None:
    recipe_file = tmp_path / "own.toml"
    recognizer, pack, form = change
    text = f'extends = "{parent}"\nrecognizer = "{recognizer}"\nembedding = "{form}"\n'
    recipe_file.write_text(f'{text}[parts]\nrecognizer = "{pack}"\n')
    with pytest.raises(SettingsError, match=says):
        load_recipe(str(recipe_file))


def test_the_conditioner_gives_unit_or_raw_embeddings_and_averages_photos(hub: Hub, picture: RgbImage) -> None:
    file = small("sdxl-instantid").recognizer_file
    assert file is not None
    views = [(picture, a_face(SIZE)), (RgbImage(picture[::-1].copy()), a_face(SIZE))]
    raw, unit = ConditioningRecognizer(file, "raw", threads=1), ConditioningRecognizer(file, "unit", threads=1)
    first, two = (raw.embed([view]) for view in views)
    assert np.linalg.norm(first) != pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(raw.embed(views), (first + two) / 2, rtol=1e-5)
    assert np.linalg.norm(unit.embed(views)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["sd15-faceid", "sdxl-instantid"])
def test_the_generator_is_fed_the_embedding_of_the_adapters_own_recognizer(
    hub: Hub, picture: RgbImage, tmp_path: Path, name: str
) -> None:
    recipe = small(name)
    assert recipe.recognizer_file is not None
    fed: list[Embedding] = []

    class Listening(FakeGenerator):
        def prepare(self, image: RgbImage, embedding: Embedding, *more: Any, **named: Any) -> Any:
            fed.append(embedding)
            return super().prepare(image, embedding, *more, **named)

    conditioning_recognizer = ConditioningRecognizer(recipe.recognizer_file, recipe.embedding, threads=1)
    generator = Listening(lambda photo, knobs, seed: photo)
    loop = fake_loop(generator, recipe=recipe, conditioning_recognizer=conditioning_recognizer)
    photo = Photo(pixels=picture, path=Path("anna.png"), sha256="0" * 64)
    (subject,) = loop.subjects(photo)
    portrait = loop.stylize(subject, "oil", Settings(max_attempts=1))
    loop.draw(frame_portrait(picture, subject.face, "bust", SIZE), subject.identity, "oil", recipe.knobs_at(0.5), 1)
    loop.replay(portrait.record, photo)
    expected = conditioning_recognizer.embed([(picture, subject.face)])
    assert len(fed) == 3
    for embedding in fed:
        np.testing.assert_array_equal(embedding, expected)
    is_unit = np.linalg.norm(expected) == pytest.approx(1, abs=1e-3)
    assert is_unit == (name == "sd15-faceid")


def test_every_shipped_recipe_names_parts_of_the_manifest_and_their_licences() -> None:
    for name in PUBLIC:
        recipe = load_recipe(name)
        assert [part.part for part in recipe.licenses] == recipe.part_names
        assert set(recipe.part_names) <= manifest().keys()


# ---- another base, LoRAs of one's own


@pytest.mark.parametrize("name", ["sd15-faceid", "sdxl-faceid"])
def test_a_diffusers_folder_takes_the_place_of_the_base(hub: Hub, picture: RgbImage, tmp_path: Path, name: str) -> None:
    fetched = small(name)
    folder = tmp_path / "mine"
    shutil.copytree(fetched.base, folder)
    recipe = with_overrides(load_recipe(name), base=str(folder))
    assert LicenseLink(part="mine", license="unknown", commercial="unknown") in recipe.licenses
    custom = replace(resolve_files(recipe), resolution=SIZE, memory=())
    assert custom.base == folder
    knobs = knobs_of(fetched)
    a, b = (draw(DiffusionGenerator(r, threads=1), picture, person(1), knobs) for r in (fetched, custom))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["sd15-faceid", "sdxl-faceid"])
def test_a_checkpoint_in_one_file_takes_the_place_of_the_base(
    hub: Hub, picture: RgbImage, tmp_path: Path, name: str
) -> None:
    fetched = small(name)
    file = tmp_path / "mine.safetensors"
    file.write_bytes(public.checkpoint(fetched.family))
    recipe = with_overrides(fetched, base=str(file))
    generator = DiffusionGenerator(recipe, threads=1)
    assert generator.digests["mine.safetensors"] == sha256_of(file)
    knobs = knobs_of(recipe)
    same = draw(DiffusionGenerator(fetched, threads=1), picture, person(1), knobs)
    drawn = draw(generator, picture, person(1), knobs)
    assert np.abs(drawn.astype(int) - same).max() <= 2  # the file holds the same weights


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_part_of_the_manifest_takes_the_place_of_the_base(hub: Hub, picture: RgbImage, family: str) -> None:
    fetched = small(f"{family}-plus-face")
    recipe = with_overrides(load_recipe(fetched.name), base=f"{family}-single")
    with pytest.raises(WeightsMissingError, match=f"run: portrait weights fetch {family}-single$"):
        resolve_files(recipe)
    fetch([find_part(part) for part in recipe.part_names])
    custom = replace(resolve_files(recipe), resolution=SIZE, memory=())
    assert (custom.licenses[0].part, custom.licenses[0].commercial) == (f"{family}-single", "yes")
    assert family not in [link.part for link in custom.licenses]
    knobs = knobs_of(fetched)
    a, b = (draw(DiffusionGenerator(r, threads=1), picture, person(1), knobs) for r in (fetched, custom))
    assert np.abs(a.astype(int) - b).max() <= 2


def test_a_folder_that_wants_a_strange_library_is_refused(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(small("sd15-faceid").base, folder)
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"text_encoder": ["evil", "Encoder"]}))
    (folder / "text_encoder" / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    recipe = with_overrides(load_recipe("sd15-faceid"), base=str(folder))
    with pytest.raises(WeightsCorruptError, match="requires text_encoder from the library 'evil'"):
        DiffusionGenerator(replace(resolve_files(recipe), resolution=SIZE, memory=()), threads=1)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_that_runs_code_is_refused_as_adapter_and_as_controlnet(hub: Hub, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.write_text, (tmp_path / "ran", "x")

    recipe = small("sd15-faceid")
    adapter = tmp_path / "adapter.bin"
    adapter.write_bytes(pickle.dumps({"image_proj": {"x": Evil()}, "ip_adapter": {}}))
    with pytest.raises(WeightsCorruptError, match="not an adapter of plain tensors"):
        DiffusionGenerator(replace(recipe, adapter=adapter), threads=1)
    assert recipe.controlnet is not None
    net = tmp_path / "net"
    net.mkdir()
    shutil.copyfile(recipe.controlnet / "config.json", net / "config.json")
    (net / "diffusion_pytorch_model.bin").write_bytes(adapter.read_bytes())
    with pytest.raises(WeightsCorruptError, match="is not a diffusers folder that can be loaded"):
        DiffusionGenerator(replace(recipe, controlnet=net), threads=1)
    assert not (tmp_path / "ran").exists()


def test_a_file_that_is_no_checkpoint_is_refused(hub: Hub, tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    file.write_bytes(public.kohya_lora("sd15"))
    with pytest.raises(WeightsCorruptError, match="is not a checkpoint of the family sd15"):
        DiffusionGenerator(with_overrides(small("sd15-faceid"), base=str(file)), threads=1)


def test_custom_loras_work_beside_the_adapters(hub: Hub, picture: RgbImage, tmp_path: Path) -> None:
    file = tmp_path / "style.safetensors"
    file.write_bytes(public.kohya_lora("sd15", seed=21))
    fetched = small("sd15-faceid")
    recipe = with_overrides(fetched, loras=[f"{file}:0.5"])
    generator = DiffusionGenerator(recipe, threads=1)
    assert generator.loras == {"faceid_0": 0.65, "lora_0": 0.5}
    knobs = knobs_of(recipe)
    plain = draw(DiffusionGenerator(fetched, threads=1), picture, person(1), knobs)
    assert distance(draw(generator, picture, person(1), knobs), plain) > 0
    assert generator.warnings("oil") == ()
    with pytest.raises(WeightsCorruptError, match=r"style.safetensors .*(LoRA)"):
        DiffusionGenerator(with_overrides(small("sdxl-faceid"), loras=[str(file)]), threads=1)


def test_each_text_encoder_of_sdxl_says_what_it_does_not_read(hub: Hub) -> None:
    generator = DiffusionGenerator(small("sdxl-faceid"), threads=1)
    text = "a" * 73 + " bb cc"
    assert generator.warnings(text)[0] == (
        'the prompt is longer than the 77 tokens that the model reads; not used: "cc"'
    )
    generator.pipe.tokenizer_2.model_max_length = 20
    assert generator.warnings("oil " + "b" * 18)[0] == (
        f'the prompt is longer than the 20 tokens that text encoder 2 of 2 reads; not used: "{"b" * 18}"'
    )


# ---- the whole pipeline


def test_two_commands_lead_to_a_picture_and_its_record(
    hub: Hub, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe_file = tmp_path / "small.toml"
    recipe_file.write_text('extends = "sd15-faceid"\nresolution = 128\n')
    assert main(["weights", "fetch", str(recipe_file), "--quiet"]) == 0
    argv = [
        "stylize",
        str(photos / "astronaut.png"),
        "--recipe",
        str(recipe_file),
        "--style",
        "oil",
        "-o",
        str(tmp_path),
    ]
    argv += ["--max-attempts", "1", "--num-inference-steps", "4", "--memory", "full", "--device", "cpu", "--json"]
    assert main(argv) == 1  # random weights keep nobody's likeness
    record = json.loads(capsys.readouterr().out)
    assert record["status"] == "rejected"
    assert Path(record["output"]).is_file()
    assert record["recipe"] == "sd15-faceid"
    assert record["prompt"].startswith("oil painting, portrait of a person")
    assert "photo-to-photo thresholds" in record["provisional_thresholds"]
    assert record["thresholds"]["dlib"]["far"] == 0.001
    chain = {part["part"]: part["commercial"] for part in record["licenses"]}
    assert chain["faceid_sd15"] == chain["buffalo_l"] == "no"
    assert chain["sd15"] == "yes"
    assert record["weights"]["faceid_sd15/ip-adapter-faceid_sd15.bin"]
    assert main(["replay", str(Path(record["output"]).with_suffix(".json")), "--files", str(photos)]) == 0
    assert "identical, pixel for pixel" in capsys.readouterr().out


def test_z_image_is_fetched_located_and_draws(hub: Hub, picture: RgbImage) -> None:
    recipe = small("z-image-turbo-bf16")
    generator = DiffusionGenerator(recipe, threads=1)
    parts = {name.partition("/")[0] for name in generator.digests}
    assert parts == {"z-image-turbo-text-vae", "z-image-turbo-bf16", "z-image-turbo-control-lite"}
    held, free = knobs_of(recipe), knobs_of(recipe, controlnet_conditioning_scale=0.0)
    moved = distance(draw(generator, picture, person(1), held), draw(generator, picture, person(1), free))
    assert moved > 0.5


def test_qwen_edit_is_fetched_located_and_draws(hub: Hub, picture: RgbImage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "VAE_IMAGE_SIZE", SIZE * SIZE)
    recipe = small("qwen-edit-2511-lightning")
    generator = DiffusionGenerator(recipe, threads=1)
    parts = {name.partition("/")[0] for name in generator.digests}
    assert parts == {"qwen-edit-2511", "qwen-edit-2511-lightning-4steps"}
    seen, unseen = knobs_of(recipe), knobs_of(recipe, controlnet_conditioning_scale=0.0)
    moved = distance(draw(generator, picture, person(1), seen), draw(generator, picture, person(1), unseen))
    assert moved > 0.5


@pytest.mark.parametrize("parent", ["sd15-plus-face-fast", "klein4b-fp8"])
def test_for_commercial_use_yunet_detects_and_sface_and_dlib_judge(
    hub: Hub, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], parent: str
) -> None:
    for part in map(find_part, GROUPS["judges"]):
        for file in part.files:
            hub.files[part.repo, part.revision, file.path] = wheel_file(file.path).read_bytes()
    assert main(["weights", "fetch", "judges", "--quiet"]) == 0
    recipe_file = tmp_path / "small.toml"
    recipe_file.write_text(f'extends = "{parent}"\nresolution = 128\n')
    assert main(["weights", "fetch", str(recipe_file), "--quiet"]) == 0
    argv = ["stylize", str(photos / "astronaut.png"), "--recipe", str(recipe_file), "--commercial", "-o", str(tmp_path)]
    assert main([*argv, "--max-attempts", "1", "--memory", "full", "--device", "cpu", "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert list(record["thresholds"]) == ["sface", "dlib"]
    assert all(part["commercial"] == "yes" for part in record["licenses"])
    assert {"face_detection_yunet_2023mar", "face_recognition_sface_2021dec"} <= record["weights"].keys()
    assert not {"w600k_mbf", "scrfd_500m_bnkps"} & record["weights"].keys()
    knobs = record["attempts"][0]["knobs"]
    assert int(knobs["strength"] * knobs["num_inference_steps"]) >= 4
