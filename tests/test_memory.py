"""Memory: the tier that fits, and one retry with less after memory runs out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from portrait.errors import MemoryLimitError, SettingsError
from portrait.generate import memory
from portrait.generate.diffusion import DiffusionGenerator
from portrait.recipes.load import load_recipe
from portrait.records import Embedding, RgbImage
from portrait.report.explain import explain
from tests.fakes import FakeGenerator, run_loop
from tests.tiny import KNOBS

NEEDS = (14.0, 10.5, 3.5)


@pytest.mark.parametrize(
    ("free", "tier"), [(80, "full"), (14, "full"), (13.9, "offload"), (10.5, "offload"), (6, "sequential")]
)
def test_the_largest_tier_that_fits_is_taken(free: float, tier: str) -> None:
    assert memory.choose_tier("auto", NEEDS, free, "cuda") == tier


def test_too_little_memory_says_how_much_is_needed_and_how_to_try_all_the_same() -> None:
    with pytest.raises(SettingsError, match=r"about 3.5 GiB on cuda, but only 2.0 GiB are free.*--memory sequential"):
        memory.choose_tier("auto", NEEDS, 2, "cuda")
    with pytest.raises(SettingsError, match=r"about 28.0 GiB on cpu, but only 20.0 GiB are free.*--memory full"):
        memory.choose_tier("auto", NEEDS, 20, "cpu")
    assert memory.choose_tier("full", NEEDS, 2, "cpu") == "full"


def test_offloading_needs_a_device_to_offload_from() -> None:
    with pytest.raises(SettingsError, match="memory 'offload' needs a CUDA device; on cpu there is: full"):
        memory.choose_tier("offload", NEEDS, 99, "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_here_is_named() -> None:
    with pytest.raises(SettingsError, match="device 'cuda' is not available; this machine has: .*cpu"):
        memory.choose_device("cuda")


def test_a_recipe_without_needs_stays_on_the_cpu(tiny_recipe: Path) -> None:
    assert DiffusionGenerator(load_recipe(str(tiny_recipe)), threads=1).device.type == "cpu"


def test_the_next_smaller_tier_exists_on_cuda_only() -> None:
    assert [memory.smaller_tier(t, "cuda") for t in memory.TIERS] == ["offload", "sequential", "sequential"]
    assert memory.smaller_tier("full", "cpu") == "full"


WHO = Embedding(np.full(512, 512**-0.5, np.float32))


class _Fails:
    """Wraps the UNet and runs out of memory in the first `times` calls with more than `most` pictures."""

    def __init__(self, forward: Any, times: int, most: int = 0) -> None:
        self.forward, self.left, self.most = forward, times, most
        self.batches: list[int] = []

    def __call__(self, sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        self.batches.append(len(sample))
        if self.left > 0 and len(sample) > self.most:
            self.left -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.forward(sample, *args, **kwargs)


@pytest.mark.slow
def test_out_of_memory_is_retried_once_with_one_picture_at_a_time(
    tiny_recipe: Path,
    picture: RgbImage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = DiffusionGenerator(load_recipe(str(tiny_recipe)), threads=1)
    conditions = generator.prepare(picture, WHO, "x")
    expected = [generator.generate(conditions, KNOBS, [seed])[0] for seed in (1, 2, 3)]
    generator.draws_together = True
    gate = _Fails(generator.pipe.unet.forward, times=1)
    monkeypatch.setattr(generator.pipe.unet, "forward", gate)
    pictures = generator.generate(conditions, KNOBS, [1, 2, 3])
    assert gate.batches[0] == 6  # three, guided
    assert set(gate.batches[1:]) == {2}
    for a, b in zip(pictures, expected, strict=True):
        assert np.abs(a.astype(int) - b).max() <= 1


def test_out_of_memory_twice_is_an_error_that_says_what_to_do(
    tiny_recipe: Path,
    picture: RgbImage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = DiffusionGenerator(load_recipe(str(tiny_recipe)), threads=1)
    conditions = generator.prepare(picture, WHO, "x")
    monkeypatch.setattr(generator.pipe.unet, "forward", _Fails(generator.pipe.unet.forward, times=99))
    with pytest.raises(MemoryLimitError, match="even one picture at a time.*--memory sequential"):
        generator.generate(conditions, KNOBS, [1, 2])


def test_memory_that_runs_out_while_the_photo_is_encoded_or_the_model_placed_is_retried_too(
    tiny_recipe: Path,
    picture: RgbImage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    placed: list[str] = []

    def place(pipe: Any, tier: str, device: torch.device) -> None:
        placed.append(tier)
        if len(placed) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(memory, "place", place)
    monkeypatch.setattr(memory, "smaller_tier", lambda tier, device: "offload")
    generator = DiffusionGenerator(load_recipe(str(tiny_recipe)), threads=1)
    assert placed == ["full", "offload"]
    assert generator.tier == "offload"
    encode, calls = generator.pipe.vae.encode, []

    def fails_once(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(*args, **kwargs)

    monkeypatch.setattr(generator.pipe.vae, "encode", fails_once)
    assert generator.prepare(picture, WHO, "x").latents.isfinite().all()
    assert len(calls) == 2


@pytest.mark.parametrize("step", ["family.load_pipeline", "pipelines.PortraitPipeline.load_ip_adapter"])
def test_memory_that_runs_out_while_a_model_is_loaded_is_not_taken_for_a_damaged_file(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 5135149760 bytes.")

    monkeypatch.setattr(f"portrait.generate.families.stable_diffusion.{step}", full)
    with pytest.raises(MemoryLimitError, match=r"out of memory while loading .*not enough memory.*portrait doctor"):
        DiffusionGenerator(load_recipe(str(tiny_recipe)), threads=1)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("x"),
        MemoryError(),
        RuntimeError("MPS backend out of memory (MPS allocated: 5.00 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:116] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_each_way_to_say_that_memory_ran_out_is_understood(error: Exception) -> None:
    assert memory.is_out_of_memory(error)


@pytest.mark.parametrize(
    ("free", "tier", "resolution", "device", "most"),
    [(14, "full", 1024, "cuda", 1), (18, "full", 1024, "cuda", 2), (80, "full", 1024, "cuda", 17),
     (12, "offload", 512, "cuda", 2), (28, "full", 1024, "cpu", 1), (36, "full", 1024, "cpu", 2)],
)  # fmt: skip
def test_as_many_pictures_are_made_at_once_as_fit_beside_the_model(
    free: float, tier: str, resolution: int, device: str, most: int
) -> None:
    assert memory.max_batch_size(tier, NEEDS, free, resolution, device) == most


def test_a_batch_that_is_too_large_is_made_in_parts_and_the_record_says_which(
    limits: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FakeGenerator, "max_batch_size", 2)
    portrait, generator = run_loop(lambda photo, knobs, seed: photo, limits, batch=8, max_attempts=5)
    assert [len(seeds) for _, seeds in generator.calls] == [2, 2, 1]
    assert [attempt.batch for attempt in portrait.record.attempts] == [(1, 2), (1, 2), (3, 4), (3, 4), (5,)]


def test_the_record_names_the_device_and_the_tier_that_was_used_in_the_end(
    limits: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def paint(photo: RgbImage, knobs: Any, seed: int) -> RgbImage:
        monkeypatch.setattr(FakeGenerator, "tier", "offload")  # as after a retry
        return photo

    portrait, _ = run_loop(paint, limits, max_attempts=1)
    assert (portrait.record.device, portrait.record.memory_tier) == ("cpu", "offload")
    assert "Made on cpu, memory tier offload, in float32 by Fake in torch." in explain(portrait.record)


@pytest.mark.slow
def test_another_error_of_torch_is_not_taken_for_memory(
    tiny_recipe: Path,
    picture: RgbImage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = DiffusionGenerator(load_recipe(str(tiny_recipe)), threads=1)
    conditions = generator.prepare(picture, WHO, "x")

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(generator.pipe.unet, "forward", broken)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        generator.generate(conditions, KNOBS, [1])
