"""A stage's clock and checkpoint, alike in all stages that train, and the moving average of a network's weights.

`--minutes` is the whole time of a stage, however many runs it takes: the checkpoint keeps the time spent, and the
learning rate falls along the whole.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from device import DEVICE
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def arguments(description: str | None, minutes: float) -> argparse.ArgumentParser:
    """The options that every stage has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="work folder")
    parser.add_argument(
        "--minutes", type=float, default=minutes, help=f"wall time of the whole stage (default {minutes})"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint of a run that was stopped")
    return parser


def learning_rate(step: int, progress: float, warmup: int = 60) -> float:
    """The share of the full learning rate: a rise over the first steps, then half a cosine down to 0.03."""
    return float(min(1, (step + 1) / warmup) * (0.5 * (1 + np.cos(np.pi * progress)) * 0.97 + 0.03))


class Stage:
    """Time, steps and checkpoints of one stage.

    Args:
        path: The checkpoint. Written whole, then renamed.
        minutes: Wall time of the stage, over all its runs.
        tensors: All that training changes, by name; a resumed run fills them in place.
        optimizers: Their state is kept too.
    """

    def __init__(
        self,
        path: Path,
        minutes: float,
        tensors: Mapping[str, Tensor],
        optimizers: Sequence[torch.optim.Optimizer],
        resume: bool = False,
    ) -> None:
        self._path, self._minutes, self._tensors, self._optimizers = path, minutes, tensors, optimizers
        self.step, self._before, self._start = 0, 0.0, time.time()
        if resume:
            state = torch.load(path, weights_only=True, map_location=DEVICE)
            with torch.no_grad():
                for name, tensor in tensors.items():
                    tensor.copy_(state["tensors"][name])
            for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.step, self._before = state["step"], state["seconds"]

    @property
    def seconds(self) -> float:
        """Wall time of all runs."""
        return self._before + time.time() - self._start

    @property
    def progress(self) -> float:
        """How much of the stage's time is spent; 1 or more: it is over."""
        return self.seconds / 60 / self._minutes

    def rng(self, seed: int) -> np.random.Generator:
        """The draws of this run, torch's too: the seed's own from the start, others after each resumption."""
        torch.manual_seed(seed + self.step)
        return np.random.default_rng([seed, self.step] if self.step else seed)

    def save(self) -> None:
        state = {
            "tensors": dict(self._tensors),
            "optimizers": [o.state_dict() for o in self._optimizers],
            "step": self.step,
            "seconds": self.seconds,
        }
        partial = self._path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self._path)


class Average(Generic[Network]):
    """The moving average of a network's weights, which is what is saved.

    Args:
        net: The network that is trained.
        keep: The share of the average that each update keeps; less in the first ones.
    """

    def __init__(self, net: Network, keep: float) -> None:
        self.net, self.keep, self.steps = net, keep, torch.zeros(())
        self.mean = {name: value.detach().float().clone() for name, value in net.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        share = 1 - min(self.keep, float(self.steps / (self.steps + 10)))
        for name, value in self.net.state_dict().items():
            self.mean[name].lerp_(value.float(), share)

    def averaged(self) -> Network:
        """A copy of the network with the averaged weights."""
        net = copy.deepcopy(self.net).eval()
        net.load_state_dict(self.mean)
        return net.requires_grad_(False)
