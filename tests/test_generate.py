"""One engine loads both `mini` and an SD 1.5 layout; knobs have their effects; a seed determines the picture."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from portrait.errors import BrokenModelError, SettingsError, WeightsCorruptError, WeightsMissingError
from portrait.generate.diffusion import DiffusionGenerator
from portrait.generate.families.mini.structure import condition_on_source, noise_augment
from portrait.generate.families.stable_diffusion.adapters import adapter_inputs, identity_adapter
from portrait.generate.framing import FRAMES, frame_portrait, paste_back, square_around
from portrait.images import Photo
from portrait.loop.attempt_loop import AttemptLoop
from portrait.recipes.load import load_recipe
from portrait.recipes.override import with_overrides
from portrait.records import Embedding, Face, RgbImage
from tests.fakes import a_face, rgb
from tests.tiny import KNOBS, faceid_state


@pytest.fixture(scope="module")
def tiny(tiny_recipe: Path) -> DiffusionGenerator:
    return DiffusionGenerator(load_recipe(str(tiny_recipe)))


@pytest.fixture(scope="module")
def anna() -> Embedding:
    vector = np.random.default_rng(0).normal(size=512).astype(np.float32)
    return Embedding(vector / np.linalg.norm(vector))


@pytest.fixture(scope="module")
def berta() -> Embedding:
    vector = np.random.default_rng(1).normal(size=512).astype(np.float32)
    return Embedding(vector / np.linalg.norm(vector))


def distance(a: RgbImage, b: RgbImage) -> float:
    return float(np.abs(a.astype(int) - b).mean())


@pytest.mark.slow
def test_an_sd15_layout_with_a_faceid_file_loads_and_draws(
    tiny: DiffusionGenerator, picture: RgbImage, anna: Embedding
) -> None:
    assert type(tiny.pipe.unet).__name__ == "UNet2DConditionModel"
    (pictures,) = tiny.generate(tiny.prepare(picture, anna, "a portrait", "blurry"), KNOBS, [1])
    assert pictures.shape == (128, 128, 3)
    assert pictures.dtype == np.uint8


@pytest.mark.slow
def test_a_seed_is_a_picture(tiny: DiffusionGenerator, picture: RgbImage, anna: Embedding) -> None:
    conditions = tiny.prepare(picture, anna, "a portrait")
    (first,), (again,), (other,) = (tiny.generate(conditions, KNOBS, [seed]) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert distance(first, other) > 0.1


@pytest.mark.slow
def test_a_picture_does_not_depend_on_its_batch(tiny: DiffusionGenerator, picture: RgbImage, anna: Embedding) -> None:
    conditions = tiny.prepare(picture, anna, "a portrait")
    steps: list[tuple[int, int]] = []
    batch = tiny.generate(conditions, KNOBS, [5, 6, 7], lambda step, total: steps.append((step, total)))
    (alone,) = tiny.generate(conditions, KNOBS, [6])
    np.testing.assert_array_equal(batch[1], alone)
    assert steps == [(step + 1, 3 * KNOBS.steps) for step in range(3 * KNOBS.steps)]


@pytest.mark.parametrize(
    ("prompt", "lost"),
    [
        ("a" * 73 + " bb", ""),
        ("a" * 73 + " bb c", "c"),
        ("a" * 73 + "  bbb, \n Rain", "bbb, \n Rain"),
        ("a" * 80 + " b", "a" * 80 + " b"),
    ],
)
def test_words_that_a_text_encoder_does_not_read_are_quoted(tiny: DiffusionGenerator, prompt: str, lost: str) -> None:
    """The miniature has a token per letter, and reads 77, including the two that it adds."""
    warning = f'the prompt is longer than the 77 tokens that the model reads; not used: "{lost}"'
    assert tiny.warnings(prompt, "blurry") == ((warning,) if lost else ())
    assert tiny.warnings("oil", prompt) == ((warning.replace("the prompt", "the negative prompt"),) if lost else ())


def test_what_is_quoted_as_lost_moves_nothing(tiny: DiffusionGenerator, picture: RgbImage, anna: Embedding) -> None:
    start = "a" * 73 + " bb"
    one, two, other = (tiny.prepare(picture, anna, start + end).prompt for end in (" in the rain", " on the moon", ""))
    assert torch.equal(one, two)
    assert torch.equal(one, other)


def test_no_style_of_mini_is_cut(mini: AttemptLoop) -> None:
    for style in map(mini.recipe.style, mini.recipe.styles):
        for palette in mini.recipe.palettes_of(style) or [""]:
            assert mini.generator.warnings(mini.recipe.prompt_of(style, palette)) == ()


@pytest.mark.parametrize(
    ("part", "value", "says"),
    [
        ("unet", float("nan"), "is not finite in 100% of its values"),
        ("unet", float("inf"), "is not finite"),
        ("vae", float("nan"), "is not finite in 100% of its values"),
        ("vae", 0.3, "has the same value everywhere"),
        ("vae", -100.0, "has one color everywhere"),  # redder than red
    ],
)
def test_a_model_that_computes_no_picture_is_broken_and_ends_at_once(
    tiny: DiffusionGenerator, picture: RgbImage, anna: Embedding, monkeypatch: pytest.MonkeyPatch,
    part: str, value: float, says: str,
) -> None:  # fmt: skip
    conditions = tiny.prepare(picture, anna, "a portrait")
    network, name = (tiny.pipe.unet, "forward") if part == "unet" else (tiny.pipe.vae, "decode")
    compute, steps = getattr(network, name), []

    def broken(*args: Any, **kwargs: Any) -> Any:
        computed = compute(*args, **kwargs)[0]
        red = torch.tensor([-1.0, 1.0, 1.0]).view(3, 1, 1)
        return (computed + value * red if value < 0 else torch.full_like(computed, value),)

    monkeypatch.setattr(network, name, broken)
    with pytest.raises(BrokenModelError, match=f"broken_model: the output of recipe tiny on cpu in float32 {says}"):
        tiny.generate(conditions, KNOBS, [1], lambda step, total: steps.append(step))
    assert len(steps) == (0 if part == "unet" else KNOBS.steps)


def test_layers_of_a_lora_that_match_nothing_are_counted(tiny_recipe: Path, tmp_path: Path) -> None:
    network = DiffusionGenerator(load_recipe(str(tiny_recipe))).pipe.unet
    tensors = {}
    for name, module in network.named_modules():
        if name.endswith("attn1.to_q"):
            tensors[f"unet.{name}.lora_A.weight"] = torch.randn(4, module.in_features)
            tensors[f"unet.{name}.lora_B.weight"] = torch.randn(module.out_features, 4)
    whole, part = tmp_path / "whole.safetensors", tmp_path / "part.safetensors"
    save_file(tensors, whole)
    layers = len(tensors) // 2
    save_file(
        {key if i < 4 else key.replace("unet.", "unet.nowhere."): tensors[key] for i, key in enumerate(tensors)}, part
    )
    recipe = load_recipe(str(tiny_recipe))
    assert DiffusionGenerator(with_overrides(recipe, loras=[f"{whole}:0.5"])).warnings("x") == ()
    (warning,) = DiffusionGenerator(with_overrides(recipe, loras=[f"{part}:0.5"])).warnings("x")
    assert warning.startswith(
        f"{layers - 2} of the {layers} layers that part.safetensors changes do not exist in this model"
    )


@pytest.mark.slow
def test_the_identity_moves_the_picture_and_scale_zero_stops_it(
    tiny: DiffusionGenerator, picture: RgbImage, anna: Embedding, berta: Embedding
) -> None:
    a, b = (tiny.prepare(picture, who, "a portrait") for who in (anna, berta))
    (with_a,), (with_b,) = tiny.generate(a, KNOBS, [1]), tiny.generate(b, KNOBS, [1])
    off = replace(KNOBS, ip_adapter_scale=0.0)
    (off_a,), (off_b,) = tiny.generate(a, off, [1]), tiny.generate(b, off, [1])
    print("on", distance(with_a, with_b), "off", distance(off_a, off_b))
    assert distance(with_a, with_b) > 0.5
    assert distance(off_a, off_b) == 0


def test_the_prompt_and_its_negative_move_the_picture(
    tiny: DiffusionGenerator, picture: RgbImage, anna: Embedding
) -> None:
    plain = tiny.generate(tiny.prepare(picture, anna, "oil"), KNOBS, [1])[0]
    other = tiny.generate(tiny.prepare(picture, anna, "watercolor"), KNOBS, [1])[0]
    negative = tiny.generate(tiny.prepare(picture, anna, "oil", "sharp"), KNOBS, [1])[0]
    assert distance(plain, other) > 0
    assert distance(plain, negative) > 0


def test_less_strength_stays_closer_to_the_photo(tiny: DiffusionGenerator, picture: RgbImage, anna: Embedding) -> None:
    conditions = tiny.prepare(picture, anna, "a portrait")
    low, high = (tiny.generate(conditions, replace(KNOBS, strength=s), [1])[0] for s in (0.2, 1.0))
    decoded = tiny.pipe.vae.decode(conditions.latents / tiny.pipe.vae.config.scaling_factor).sample[0]
    base = ((decoded.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    assert distance(low, base) < distance(high, base)


def test_without_guidance_no_zero_face_is_fed(anna: Embedding) -> None:
    guided, _ = adapter_inputs("faceid", anna, None, 3, guided=True)
    assert guided.shape == (6, 1, 512)
    assert float(guided[:3].abs().sum()) == 0
    assert adapter_inputs("faceid", anna, None, 3, guided=False)[0].shape == (3, 1, 512)


@pytest.mark.parametrize(("guidance", "strength"), [(5.0, 0.6), (1.0, 0.6), (1.5, 1.0)])
def test_passes_are_what_the_unet_really_runs(
    tiny: DiffusionGenerator, picture: RgbImage, anna: Embedding, guidance: float, strength: float
) -> None:
    knobs, batches = replace(KNOBS, guidance_scale=guidance, strength=strength), []
    watch = tiny.pipe.unet.register_forward_pre_hook(lambda unet, inputs: batches.append(len(inputs[0])))
    try:
        tiny.generate(tiny.prepare(picture, anna, "a portrait"), knobs, [1])
    finally:
        watch.remove()
    assert sum(batches) == tiny.passes(knobs)
    assert len(batches) == int(6 * strength)


def test_without_guidance_it_still_draws(tiny: DiffusionGenerator, picture: RgbImage, anna: Embedding) -> None:
    pictures = tiny.generate(tiny.prepare(picture, anna, "x"), replace(KNOBS, guidance_scale=1.0), [1, 2])
    assert len(pictures) == 2


@pytest.mark.parametrize(
    ("knobs", "says"),
    [
        ({"strength": 0.1}, "leaves no denoising step"),
        ({"strength": 1.5}, "strength 1.5 is outside"),
        ({"num_inference_steps": 0}, "num_inference_steps 0 is outside"),
        ({"ip_adapter_scale": -1.0}, "ip_adapter_scale -1.0 is outside"),
    ],
)
def test_impossible_knobs_are_named(
    tiny: DiffusionGenerator, picture: RgbImage, anna: Embedding, knobs: dict[str, Any], says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        tiny.generate(tiny.prepare(picture, anna, "x"), replace(KNOBS, **knobs), [1])


def test_an_embedding_that_is_not_finite_is_refused(tiny: DiffusionGenerator, picture: RgbImage) -> None:
    with pytest.raises(SettingsError, match="not finite"):
        tiny.prepare(picture, Embedding(np.full(512, np.nan, np.float32)), "x")


def test_the_adapters_scale_is_given_back(tiny: DiffusionGenerator) -> None:
    def scales() -> list[list[float]]:
        return [list(p.scale) for p in tiny.pipe.unet.attn_processors.values() if hasattr(p, "scale")]

    before = scales()
    with pytest.raises(RuntimeError), identity_adapter(tiny.pipe, 0.123, tiny.loras):
        assert scales() != before
        raise RuntimeError
    assert scales() == before


def test_a_recipe_without_its_adapter_or_with_another_models_is_refused(tiny_recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_recipe.parent, folder)
    recipe = load_recipe(str(folder / "tiny.toml"))
    adapter = folder / "models" / "ip-adapter-faceid_sd15.safetensors"
    generator = DiffusionGenerator(recipe)
    save_file(faceid_state(generator.pipe.unet, cross=32), adapter)
    with pytest.raises(WeightsCorruptError, match="cross-attention width of 32, the model has 64"):
        DiffusionGenerator(recipe)
    save_file({"unrelated": torch.zeros(1)}, adapter)
    with pytest.raises(WeightsCorruptError, match="not an IP-Adapter-FaceID file"):
        DiffusionGenerator(recipe)
    adapter.unlink()
    with pytest.raises(WeightsMissingError, match="no IP-Adapter file"):
        DiffusionGenerator(recipe)


def test_a_pickle_that_runs_code_is_not_run(tiny_recipe: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "owned",)  # type: ignore[return-value]

    folder = tmp_path / "copy"
    shutil.copytree(tiny_recipe.parent, folder)
    recipe = replace(load_recipe(str(folder / "tiny.toml")), adapter=folder / "models" / "evil.bin")
    torch.save({"image_proj": Evil(), "ip_adapter": {}}, recipe.adapter)
    with pytest.raises(WeightsCorruptError):
        DiffusionGenerator(recipe)
    assert not (tmp_path / "owned").exists()


# ---- mini


def mini_conditions(mini: AttemptLoop, astronaut: Photo, style: str = "watercolor") -> tuple[Any, RgbImage]:
    (subject,) = mini.subjects(astronaut)
    framed = frame_portrait(astronaut.pixels, subject.face, "bust", mini.recipe.resolution)
    prompt = mini.recipe.style(style).prompt
    return mini.generator.prepare(framed.image, subject.identity.embeddings["arcface"], prompt), framed.image


def test_mini_draws_each_style_differently(mini: AttemptLoop, astronaut: Photo) -> None:
    pictures = {}
    for style in mini.recipe.styles:
        conditions, photo = mini_conditions(mini, astronaut, style)
        pictures[style] = mini.generator.generate(conditions, mini.recipe.knobs_at(0.5), [1])[0]
        assert distance(pictures[style], photo) > 8
    names = list(pictures)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            assert distance(pictures[a], pictures[b]) > 8, (a, b)


def test_mini_is_the_same_bit_for_bit(mini: AttemptLoop, astronaut: Photo) -> None:
    conditions, _ = mini_conditions(mini, astronaut)
    knobs = mini.recipe.knobs_at(0.5)
    first, second = (mini.generator.generate(conditions, knobs, [3])[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_minis_adapter_file_has_the_keys_of_the_original_repository(mini: AttemptLoop) -> None:
    keys = set(load_file(mini.recipe.adapter))
    assert {"image_proj.proj.0.weight", "image_proj.proj.2.bias", "image_proj.norm.weight"} <= keys
    assert {"ip_adapter.1.to_k_ip.weight", "ip_adapter.1.to_v_ip.weight"} <= keys


# ---- structure and framing


def test_weakened_latents_keep_unit_variance() -> None:
    source, noise = torch.randn(2, 4, 64, 64), torch.randn(2, 4, 64, 64)
    assert torch.equal(noise_augment(source, 1.0, noise), source)
    assert torch.equal(noise_augment(source, 0.0, noise), noise)
    assert float(noise_augment(source, 0.5, noise).std()) == pytest.approx(1, abs=0.02)


def test_the_source_is_let_go_after_the_block(mini_in_torch: DiffusionGenerator) -> None:
    pipe = mini_in_torch.pipe
    unet, latents, photo = pipe.unet, torch.zeros(1, 32, 32, 32), torch.zeros(1, 3, 512, 512)
    with pytest.raises(RuntimeError), condition_on_source(pipe, latents, photo, 1.0, [1], 64):
        assert unet.source is not None
        assert pipe.vae.source is not None
        raise RuntimeError
    assert unet.source is None
    assert pipe.vae.source is None
    with pytest.raises(ValueError, match="condition_on_source"):
        unet(torch.zeros(1, 32, 32, 32), torch.tensor([1]), encoder_hidden_states=torch.zeros(1, 16, 128))


@pytest.mark.parametrize("frame", list(FRAMES))
@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (64, 64), (1200, 1600)])
def test_a_frame_never_leaves_the_photo(frame: str, shape: tuple[int, int]) -> None:
    photo = RgbImage(np.zeros((*shape, 3), np.uint8))
    face = a_face(64).moved(1, shape[1] - 64, 0)
    framed = frame_portrait(photo, face, frame, 128)
    left, top, side = framed.box
    assert framed.image.shape == (128, 128, 3)
    assert left >= 0
    assert top >= 0
    assert left + side <= shape[1]
    assert top + side <= shape[0]
    assert 0 < framed.face.center[0] < 128


@pytest.mark.parametrize("frame", list(FRAMES))
@pytest.mark.parametrize("shift", [(1.0, -1.0), (-1.0, 1.0), (0.05, -0.02)])
def test_a_shifted_frame_stays_in_the_photo_and_holds_the_face(frame: str, shift: tuple[float, float]) -> None:
    photo = RgbImage(np.zeros((400, 600, 3), np.uint8))
    face = a_face(64).moved(1, 300, 150)
    square = square_around(photo, face, frame)
    left, top, side = frame_portrait(photo, face, frame, 128, shift).box
    assert 0 <= left <= face.bbox[0] <= face.bbox[2] <= left + side <= 600
    assert 0 <= top <= face.bbox[1] <= face.bbox[3] <= top + side <= 400
    assert np.sign(left - square.left) == np.sign(shift[0])
    assert np.sign(top - square.top) == np.sign(shift[1])
    if max(map(abs, shift)) < 0.1:  # there is room for it
        assert (left - square.left, top - square.top) == (round(0.05 * side), round(-0.02 * side))


def test_an_unknown_frame_is_named() -> None:
    face: Face = a_face()
    with pytest.raises(SettingsError, match="'knee' is not one of: head, bust, full"):
        frame_portrait(RgbImage(np.zeros((128, 128, 3), np.uint8)), face, "knee", 128)


def test_full_leaves_the_photo_outside_the_frame_untouched() -> None:
    photo = rgb(np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8))
    stylized = RgbImage(np.full((128, 128, 3), 255, np.uint8))
    result = paste_back(photo, stylized, (100, 0, 120))
    outside = np.ones((200, 300), bool)
    outside[0:120, 100:220] = False
    np.testing.assert_array_equal(result[outside], photo[outside])
    np.testing.assert_array_equal(result[50, 160], (255, 255, 255))
    np.testing.assert_array_equal(result[0, 160], (255, 255, 255))  # on the photo's border there is no rim


def test_setting_a_portrait_back_needs_little_more_memory_than_the_photo() -> None:
    import tracemalloc

    photo = rgb(np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), np.uint8))
    tracemalloc.start()
    paste_back(photo, RgbImage(np.zeros((64, 64, 3), np.uint8)), (300, 0, 1500))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print("peak in photos:", round(peak / photo.nbytes, 2))
    assert peak < 4 * photo.nbytes  # in floats the square alone would be eight
