"""A stage of the training that was stopped continues as if it had not been."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from tests.scripts import stage_of_training

RATE = float(0.1 * np.cos(0.3))
"""A plain float, as in the stages: a checkpoint with a numpy float could not be read back."""


@pytest.fixture(scope="module")
def stage() -> ModuleType:
    return stage_of_training("stage")


def train(stage: ModuleType, path: Path, steps: int, resume: bool) -> tuple[torch.Tensor, Any]:
    """A line fitted by AdamW, whose next step depends on the moments of all before."""
    weight = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    running = stage.Stage(path, 10.0, {"weight": weight}, [optimizer], resume)
    target = torch.tensor([1.0, -2.0, 3.0])
    for _ in range(steps):
        optimizer.param_groups[0]["lr"] = RATE
        optimizer.zero_grad()
        (weight - target).square().sum().backward()
        optimizer.step()
        running.step += 1
    running.save()
    return weight.detach(), running


def test_two_halves_are_the_whole(stage: ModuleType, tmp_path: Path) -> None:
    whole, _ = train(stage, tmp_path / "whole.checkpoint", 20, resume=False)
    half, _ = train(stage, tmp_path / "half.checkpoint", 10, resume=False)
    assert not torch.equal(half, whole)
    rest, running = train(stage, tmp_path / "half.checkpoint", 10, resume=True)
    assert torch.equal(rest, whole)
    assert running.step == 20


def test_the_learning_rate_is_a_plain_float_so_that_checkpoints_can_be_read_back(stage: ModuleType) -> None:
    rates = [stage.learning_rate(step, progress) for step, progress in ((0, 0.0), (300, 0.5), (900, 1.0))]
    assert [type(rate) for rate in rates] == [float] * 3
    assert rates[1] > rates[2] > 0


def test_the_clock_counts_all_runs(stage: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(stage.time, "time", lambda: now[0])
    path = tmp_path / "x.checkpoint"
    first = stage.Stage(path, 10.0, {}, [])
    now[0] += 240
    assert first.progress == pytest.approx(0.4)
    first.save()
    now[0] += 5000  # nobody trained
    second = stage.Stage(path, 10.0, {}, [], resume=True)
    now[0] += 60
    assert second.progress == pytest.approx(0.5)
    assert not list(tmp_path.glob("*.partial"))


def test_a_resumed_run_draws_other_samples(stage: ModuleType, tmp_path: Path) -> None:
    first = stage.Stage(tmp_path / "x.checkpoint", 10.0, {}, [])
    first.step = 7
    again = stage.Stage(tmp_path / "y.checkpoint", 10.0, {}, [])
    draws = [s.rng(1).integers(0, 1 << 30, 4) for s in (first, again)]
    assert not np.array_equal(*draws)
    noise = [(s.rng(1), torch.rand(4))[1] for s in (first, again)]
    assert not torch.equal(*noise)
    assert np.array_equal(draws[1], again.rng(1).integers(0, 1 << 30, 4))


@pytest.mark.parametrize("rank", [2, 64])
def test_an_update_of_any_rank_becomes_nearly_orthogonal(rank: int) -> None:
    """In bfloat16 too, where the processor is fast in it."""
    generator = torch.Generator().manual_seed(1)
    update = torch.randn(64, rank, generator=generator) @ torch.randn(rank, 576, generator=generator)
    singular = torch.linalg.svdvals(stage_of_training("muon").orthogonalise(update))
    assert singular.max() < 1.35
    assert singular[: rank // 2].min() > 0.5
