"""`mini` in onnxruntime: what torch draws, with any number of threads, by graphs that belong to the weights."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from diffusers import DDIMScheduler

from portrait.errors import BrokenModelError, MemoryLimitError, WeightsCorruptError, WeightsMissingError
from portrait.generate.diffusion import DiffusionGenerator
from portrait.generate.families.mini.family import Mini
from portrait.generate.families.mini.generator import Conditions, MiniGenerator
from portrait.generate.families.mini.sampling import Ddim, randn
from portrait.generate.framing import Framed, frame_portrait
from portrait.generate.load import has_graphs, load_generator
from portrait.generate.matte import SIDE
from portrait.generate.onnx_network import OnnxNetwork, read_weights
from portrait.hub.files import GRAPHS, mini_folder, verify_manifest
from portrait.images import Photo
from portrait.loop.attempt_loop import AttemptLoop
from portrait.recipes.load import load_recipe
from portrait.recipes.recipe import Lora
from portrait.records import Embedding, Preview, RgbImage

pytestmark = pytest.mark.weights

ROOT = Path(__file__).parents[1]
CONFIG = mini_folder() / "scheduler" / "scheduler_config.json"
RECIPE = load_recipe("mini")
KNOBS = RECIPE.knobs_at(0.5)


# --- noise and steps


@pytest.mark.parametrize("shape", [(16,), (1, 32, 32, 32), (2, 3, 8, 4)])
@pytest.mark.parametrize("seed", [0, 1, 3 ^ 0x5EED, 2**31 - 1, 2**32 + 7])
def test_a_seed_is_the_noise_that_it_is_in_torch(seed: int, shape: tuple[int, ...]) -> None:
    theirs = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed)).numpy()
    ours = randn(seed, shape)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-6)


@pytest.mark.parametrize("steps", [1, 3, 4, 7, 30, 1000])
def test_the_steps_are_those_of_diffusers(steps: int) -> None:
    ours = Ddim(CONFIG)
    about = json.loads(CONFIG.read_text())
    theirs = DDIMScheduler(**{name: value for name, value in about.items() if not name.startswith("_")})
    theirs.set_timesteps(steps)
    assert ours.times(steps) == theirs.timesteps.tolist()
    rng = np.random.default_rng(steps)
    sample, noise = (rng.standard_normal((1, 4, 4, 4), np.float32) for _ in range(2))
    for time in ours.times(steps)[-3:]:
        noised = theirs.add_noise(torch.from_numpy(sample), torch.from_numpy(noise), torch.tensor([time]))
        np.testing.assert_allclose(ours.noised(sample, noise, time), noised.numpy(), rtol=0, atol=1e-5)
        v = rng.standard_normal((1, 4, 4, 4), np.float32)
        after, clean = ours.step(v, time, sample, steps)
        expected = theirs.step(torch.from_numpy(v), time, torch.from_numpy(sample))
        np.testing.assert_allclose(after, expected.prev_sample.numpy(), rtol=0, atol=1e-5)
        np.testing.assert_allclose(clean, expected.pred_original_sample.numpy(), rtol=0, atol=1e-5)
        assert after.dtype == clean.dtype == np.float32
        sample = after


def test_there_are_as_many_times_as_steps_from_the_noisiest_on() -> None:
    schedule = Ddim(CONFIG)
    for steps in range(1, 1001):  # for 61 rounding would add one
        times = schedule.times(steps)
        assert len(times) == steps
        assert times[0] == 999
        assert min(times) >= 0


@pytest.mark.parametrize(
    "changed",
    [
        {"scheduler": "Euler"},
        {"timestep_spacing": "leading"},
        {"loras": (Lora(weight=1.0, path=Path("style.safetensors")),)},
        {"resolution": 768},
        {"adapter": Path("adapter.bin")},
        {"vae": Path("vae")},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_recipe_that_changes_what_was_traced_has_no_graphs(changed: dict[str, Any]) -> None:
    assert has_graphs(RECIPE)
    assert not has_graphs(replace(RECIPE, **changed))


def test_memory_that_runs_out_is_named_whoever_notices_it(
    mini: AttemptLoop, astronaut: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise MemoryError("Unable to allocate 1.00 GiB for an array")

    monkeypatch.setattr("portrait.generate.families.mini.generator.as_planes", full)
    mini.generator.clear_cache()
    with pytest.raises(MemoryLimitError, match="close other programs"):
        mini.generator.prepare(astronaut.pixels, Embedding(np.ones(512, np.float32)), "oil style")


def test_in_torch_all_of_mini_stays_on_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    tiers = []
    monkeypatch.setattr("portrait.generate.memory.place", lambda pipe, tier, device: tiers.append(tier))
    family = object.__new__(Mini)
    family.pipe, family._image_encoder = None, None
    family.place("offload", torch.device("cpu"))
    assert tiers == ["full"]


def test_another_schedule_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(CONFIG.read_text()) | {"prediction_type": "epsilon"}))
    with pytest.raises(WeightsCorruptError, match="prediction_type is 'epsilon'"):
        Ddim(file)
    file.write_text("{}")
    with pytest.raises(WeightsCorruptError, match="is not of the scheduler"):
        Ddim(file)


# --- pictures


@pytest.fixture(scope="module")
def framed(mini: AttemptLoop, astronaut: Photo) -> Framed:
    (subject,) = mini.subjects(astronaut)
    return frame_portrait(astronaut.pixels, subject.face, "bust", RECIPE.resolution)


@pytest.fixture(scope="module")
def embedding(mini: AttemptLoop, astronaut: Photo) -> Embedding:
    (subject,) = mini.subjects(astronaut)
    return subject.identity.embeddings["arcface"]


@pytest.fixture(scope="module")
def ours(mini: AttemptLoop) -> MiniGenerator:
    assert isinstance(mini.generator, MiniGenerator)
    return mini.generator


@pytest.fixture(scope="module")
def conditions(ours: MiniGenerator, framed: Framed, embedding: Embedding) -> Conditions:
    return ours.prepare(framed.image, embedding, RECIPE.style("oil").prompt, "", framed.face)


def require_alike(a: RgbImage, b: RgbImage) -> None:
    """Other sums round differently, and now and then a mark lies one pixel further; nothing more."""
    differences = np.abs(a.astype(int) - b.astype(int))
    print(f"mean {differences.mean():.5f}, over 1 level: {(differences > 1).mean():.5%}")
    assert (differences > 1).mean() < 0.001
    assert differences.mean() < 0.01


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"strength": 0.6, "num_inference_steps": 5},
        {"guidance_scale": 1.0, "ip_adapter_scale": 0.3, "controlnet_conditioning_scale": 0.2},
    ],
)
def test_it_draws_what_diffusers_own_pipeline_draws_in_torch(
    ours: MiniGenerator,
    mini_in_torch: DiffusionGenerator,
    framed: Framed,
    embedding: Embedding,
    conditions: Conditions,
    change: dict[str, Any],
) -> None:
    knobs = replace(KNOBS, **change)
    theirs = mini_in_torch.prepare(framed.image, embedding, RECIPE.style("oil").prompt, "", framed.face)
    steps: dict[str, list[tuple[int, int]]] = {"ours": [], "theirs": []}
    shown: dict[str, list[RgbImage]] = {"ours": [], "theirs": []}
    pictures = {}
    for name, generator, prepared in (("ours", ours, conditions), ("theirs", mini_in_torch, theirs)):
        preview = Preview(steps=(2,), show=lambda step, pictures, name=name: shown[name].extend(pictures))  # type: ignore[misc]
        report = lambda done, total, name=name: steps[name].append((done, total))  # noqa: E731
        (pictures[name],) = generator.generate(prepared, knobs, [3], report, preview)  # type: ignore[attr-defined]
    require_alike(pictures["ours"], pictures["theirs"])
    require_alike(shown["ours"][0], shown["theirs"][0])
    assert steps["ours"] == steps["theirs"]
    assert ours.passes(knobs) == mini_in_torch.passes(knobs)


def test_it_copies_a_photo_and_names_lost_words_as_torch_does(
    ours: MiniGenerator, mini_in_torch: DiffusionGenerator, framed: Framed
) -> None:
    require_alike(ours.reconstruct(framed.image), mini_in_torch.reconstruct(framed.image))
    long = "oil painting " * 20
    assert ours.warnings(long, "blurry") == mini_in_torch.warnings(long, "blurry") != ()
    assert ours.digests == mini_in_torch.digests
    assert (set(ours.graphs) >= {f"{GRAPHS}/unet.onnx"}, dict(mini_in_torch.graphs)) == (True, {})
    assert (ours.runtime, mini_in_torch.runtime) == ("onnxruntime", "torch")
    assert (ours.device, ours.tier, ours.dtype, ours.sampler) == ("cpu", "full", "float32", mini_in_torch.sampler)


def test_no_pixel_depends_on_threads_or_batch(ours: MiniGenerator, conditions: Conditions) -> None:
    first, *others = (MiniGenerator(ours.recipe, threads=threads) for threads in (1, 2, 3))
    for guidance in (1.0, 2.0):
        knobs = replace(KNOBS, guidance_scale=guidance, num_inference_steps=2)
        (alone,) = first.generate(conditions, knobs, [3])
        for other in others:
            np.testing.assert_array_equal(other.generate(conditions, knobs, [3])[0], alone)
    np.testing.assert_array_equal(first.generate(conditions, knobs, [1, 3, 2, 4])[1], alone)


def test_what_is_no_picture_ends_at_once(
    ours: MiniGenerator, conditions: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value, says in ((np.nan, "is not finite in 100%"), (0.0, "has the same value everywhere")):
        monkeypatch.setattr(ours, "_unet", lambda value=value, **inputs: [np.full_like(inputs["sample"], value)])
        knobs = KNOBS if value != 0 else replace(KNOBS, num_inference_steps=1)
        monkeypatch.setattr(ours._schedule, "noised", lambda clean, noise, time: np.zeros_like(clean))
        with pytest.raises(BrokenModelError, match=f"the output of recipe mini on cpu in float32 {says}"):
            ours.generate(conditions, knobs, [1])


def test_memory_that_runs_out_is_named(
    ours: MiniGenerator, conditions: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer of size 9000000")

    monkeypatch.setattr(ours._unet, "_session", SimpleNamespace(run=out_of_memory))
    with pytest.raises(MemoryLimitError, match="out of memory .*Failed to allocate"):
        ours.generate(conditions, KNOBS, [1])


# --- which runtime


@pytest.mark.parametrize(
    ("asked", "runtime"),
    [
        ({}, "onnxruntime"),
        ({"device": "cpu", "dtype": "float32", "tier": "full"}, "onnxruntime"),
        ({"device": "cuda"}, "torch"),
        ({"device": "mps"}, "torch"),
        ({"dtype": "bfloat16"}, "torch"),
        ({"tier": "offload"}, "torch"),  # which says that it needs CUDA
        ({"recipe": "another folder"}, "torch"),
        ({"recipe": "sd15-faceid"}, "torch"),
    ],
)
def test_mini_runs_in_onnxruntime_on_a_cpu_and_everything_else_in_torch(
    asked: dict[str, Any], runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in (("diffusion", "torch"), ("families.mini.generator", "onnxruntime")):
        generator = {"torch": "DiffusionGenerator", "onnxruntime": "MiniGenerator"}[name]
        monkeypatch.setattr(f"portrait.generate.{module}.{generator}", lambda *a, name=name, **k: name)
    recipe = asked.pop("recipe", "mini")
    loaded = replace(RECIPE, base=tmp_path) if recipe == "another folder" else load_recipe(recipe)
    assert load_generator(loaded, **asked) == runtime


# --- graphs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of mini without a manifest, as a user's own model."""
    shutil.copytree(
        mini_folder(), tmp_path / "mini", ignore=shutil.ignore_patterns("manifest.json", "*.jpg", "*.png", "*.md")
    )
    return tmp_path / "mini"


@pytest.fixture(scope="module")
def exporter() -> Iterator[ModuleType]:
    """`weights/training/graphs.py`."""
    before = sys.modules.copy()
    sys.path.insert(0, str(ROOT / "weights" / "training"))
    try:
        yield importlib.import_module("graphs")
    finally:
        sys.path.remove(str(ROOT / "weights" / "training"))
        for name in ("graphs", "face_mesh_net", "matte_net"):
            if name not in before:
                del sys.modules[name]


def read_graph(folder: Path, name: str) -> Any:
    return onnx.load(folder / GRAPHS / f"{name}.onnx", load_external_data=False).graph


@pytest.mark.slow
def test_the_graphs_are_those_of_the_networks_whatever_their_weights(exporter: ModuleType, folder: Path) -> None:
    """Else run `weights/training/graphs.py`, and write the manifest."""
    shipped = {path.stem: read_graph(folder, path.stem) for path in (folder / GRAPHS).glob("*.onnx")}
    assert sorted(shipped) == ["decoder", "face_mesh", "matte", "photo", "text", "unet"]
    exporter.write_graphs(folder)
    for name, graph in shipped.items():
        fresh = read_graph(folder, name)
        for part in ("input", "output", "initializer"):
            assert getattr(fresh, part) == getattr(graph, part), (name, part)
        nodes, expected = (
            [(node.op_type, list(node.attribute), list(node.input), list(node.output)) for node in some.node]
            for some in (fresh, graph)
        )
        assert nodes == expected, name
        assert all(len(tensor.raw_data) < 1000 for tensor in graph.initializer)


@pytest.mark.slow
def test_the_decoder_is_shown_where_the_features_lie(conditions: Conditions, ours: MiniGenerator) -> None:
    assert [value.name for value in read_graph(RECIPE.base, "decoder").input] == ["latents", "photo", "level", "guides"]
    assert "face_mesh.safetensors" in verify_manifest(RECIPE.base)  # whose pictures depend on it
    assert conditions.guides.any()
    unguided = replace(conditions, guides=np.zeros_like(conditions.guides))
    shown, not_shown = (ours.generate(some, KNOBS, [3])[0] for some in (conditions, unguided))
    assert np.abs(shown.astype(int) - not_shown).mean() > 0.5


def test_weights_that_do_not_fit_the_graph_are_named(folder: Path) -> None:
    graph, weights = folder / GRAPHS / "matte.onnx", read_weights(folder / "matte.safetensors")
    name, value = next(iter(weights.items()))
    OnnxNetwork(graph, weights, 1)
    for other in (
        {key: weight for key, weight in weights.items() if key != name},
        weights | {"another": value},
        weights | {name: value[:1]},
        weights | {name: value.astype(np.float16)},
    ):
        with pytest.raises(WeightsCorruptError, match=r"matte\.onnx is not the graph of the weights beside it: .+"):
            OnnxNetwork(graph, other, 1)


def test_the_arrays_of_the_weights_are_not_needed_once_the_network_is_loaded() -> None:
    weights = read_weights(mini_folder() / "matte.safetensors")
    network = OnnxNetwork(mini_folder() / GRAPHS / "matte.onnx", weights, 1)
    photo = np.random.default_rng(0).uniform(-1, 1, (1, 3, SIDE, SIDE)).astype(np.float32)
    (before,) = network(photo=photo)
    for value in weights.values():
        value[...] = np.nan
    np.testing.assert_array_equal(network(photo=photo)[0], before)


def test_a_damaged_folder_is_named(folder: Path) -> None:
    recipe = replace(RECIPE, base=folder, adapter=folder / RECIPE.adapter.relative_to(RECIPE.base))
    MiniGenerator(recipe, threads=1)
    for file in (f"{GRAPHS}/unet.onnx", "vae/diffusion_pytorch_model.safetensors", "tokenizer/tokenizer.json"):
        whole = (folder / file).read_bytes()
        (folder / file).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(WeightsCorruptError, match=str(folder)):
            MiniGenerator(recipe, threads=1)
        (folder / file).write_bytes(whole)
    recipe.adapter.unlink()
    with pytest.raises(WeightsMissingError, match=f"no file {recipe.adapter}"):
        MiniGenerator(recipe, threads=1)


def test_a_graph_that_is_not_the_pinned_one_is_refused(folder: Path) -> None:
    recipe = replace(RECIPE, base=folder, adapter=folder / RECIPE.adapter.relative_to(RECIPE.base))
    shutil.copy(mini_folder() / "manifest.json", folder)
    graph = folder / GRAPHS / "unet.onnx"
    graph.write_bytes(graph.read_bytes() + b"\0")
    with pytest.raises(WeightsCorruptError, match=r"unet\.onnx has SHA-256"):
        MiniGenerator(recipe, threads=1)
    graph.unlink()
    with pytest.raises(WeightsMissingError, match=r"no file .*unet\.onnx"):
        MiniGenerator(recipe, threads=1)
