"""Noise and denoising steps of `mini` in numpy: what torch's `randn` and diffusers' `DDIMScheduler` compute."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from portrait.errors import WeightsCorruptError

Array = NDArray[np.float32]
PHOTO_NOISE = 0x5EED
"""The seed of the noise over the photo's latents is a picture's seed XOR this."""
_KIND = {
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "set_alpha_to_one": True,
    "thresholding": False,
    "timestep_spacing": "trailing",
    "trained_betas": None,
}
"""The settings of diffusers' scheduler that `Ddim` implements."""


def randn(seed: int, shape: tuple[int, ...]) -> Array:
    """Standard normal numbers: those of torch's `randn` with a CPU generator of this seed, within a few ulp.

    A Mersenne Twister gives 24 bits a number; Box and Muller's method makes eight pairs of each 16 numbers.

    Args:
        seed: Its lower 32 bits count.
        shape: With a multiple of 16 elements.
    """
    bits = np.random.RandomState(seed & 0xFFFFFFFF).randint(0, 2**32, prod(shape), np.uint32)
    uniform = (bits & 0xFFFFFF).reshape(-1, 2, 8) / 2**24
    radius, angle = np.sqrt(-2 * np.log(1 - uniform[:, 0])), 2 * np.pi * uniform[:, 1]
    normal = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    return normal.astype(np.float32).reshape(shape)


class Ddim:
    """DDIM without added noise, for networks that predict v, with zero terminal SNR and trailing steps.

    Args:
        config: `scheduler_config.json` of a diffusers folder.

    Raises:
        WeightsCorruptError: it is of another scheduler.

    Reference:
        Song et al. 2021, "Denoising diffusion implicit models"; Lin et al. 2024, "Common diffusion noise schedules and sample
        steps are flawed".
    """

    def __init__(self, config: Path) -> None:
        try:
            about = json.loads(config.read_text("utf-8"))
            if other := [name for name, value in _KIND.items() if about[name] != value]:
                raise ValueError(f"{other[0]} is {about[other[0]]!r}")
            self._count = int(about["num_train_timesteps"])
            first, last = (float(about[name]) ** 0.5 for name in ("beta_start", "beta_end"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WeightsCorruptError(
                f"{config} is not of the scheduler that mini is trained with: {error!r}"
            ) from None
        signal = np.sqrt(np.cumprod(1 - np.linspace(first, last, self._count) ** 2))
        signal = (signal - signal[-1]) * (signal[0] / (signal[0] - signal[-1]))
        self._signal = (signal**2).astype(np.float32)
        """The signal's share of the variance at each time."""

    def times(self, steps: int) -> list[int]:
        """The times at which the network is asked, the noisiest first."""
        return [round(float(time)) - 1 for time in np.arange(self._count, 0, -self._count / steps)[:steps]]

    def noised(self, clean: Array, noise: Array, time: int) -> Array:
        """Add noise to clean latents, as much as there is at a time."""
        signal = self._signal[time]
        return np.asarray(np.sqrt(signal) * clean + np.sqrt(1 - signal) * noise)

    def step(self, v: Array, time: int, sample: Array, steps: int) -> tuple[Array, Array]:
        """Take one of `steps` steps.

        Returns:
            The latents after it, and the estimate of the clean latents.
        """
        before, next_time = self._signal[time], time - self._count // steps
        after = self._signal[next_time] if next_time >= 0 else np.float32(1)
        clean = np.sqrt(before) * sample - np.sqrt(1 - before) * v
        noise = np.sqrt(before) * v + np.sqrt(1 - before) * sample
        return np.sqrt(after) * clean + np.sqrt(1 - after) * noise, clean
