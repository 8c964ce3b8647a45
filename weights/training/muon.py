"""Muon: momentum whose update is orthogonalised, for weight matrices; it needs about half of AdamW's steps.

Reference: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks" (the
Newton-Schulz coefficients are theirs); the update is scaled to AdamW's size as in Liu et al. 2025,
arXiv 2502.16982.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from device import FAST_BF16
from torch import Tensor


def orthogonalise(update: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix to a (rows, columns) one, roughly, by Newton-Schulz.

    In bfloat16 where that is fast. The Gram matrix is taken anew in each step: one that is carried along in bfloat16 loses
    its positive eigenvalues to rounding, and the iteration diverges on matrices of low rank.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = update.shape[0] > update.shape[1]
    x = update.T if tall else update
    x = (x / (x.norm() + 1e-7)).to(torch.bfloat16 if FAST_BF16 else x.dtype)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    x = x.to(update.dtype)
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """For parameters of two or more dimensions; convolutions are taken as (out, in * h * w) matrices."""

    def __init__(self, params: Iterable[Tensor], lr: float = 1e-3, momentum: float = 0.95, steps: int = 5) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "steps": steps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(buffer, group["momentum"]).reshape(p.shape[0], -1)
                update = orthogonalise(update, group["steps"]) * (0.2 * max(update.shape) ** 0.5)
                p.add_(update.view(p.shape), alpha=-group["lr"])
