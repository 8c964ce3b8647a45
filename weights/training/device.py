"""The device of the training: CUDA if available, else the CPU.

Batches are drawn on the CPU, with its random numbers, and moved at the models' door (`here`), so a run draws
the same batches on either.
"""

from __future__ import annotations

import torch
from torch import Tensor

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def here(value: Tensor) -> Tensor:
    return value.to(DEVICE, non_blocking=True)


# bfloat16 where the device is fast in it: a CPU without AVX-512 is far slower than in float32.
FAST_BF16 = DEVICE.type == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def autocast() -> torch.autocast:
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=FAST_BF16)
