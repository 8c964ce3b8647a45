"""diffusers' inpainting pipeline of FLUX.2 klein as img2img with pictures of the person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import Flux2KleinInpaintPipeline
from torch import Tensor


class KleinPipeline(Flux2KleinInpaintPipeline):
    """The inpainting pipeline, in which every picture of a batch sees all reference pictures.

    With a white mask it is img2img that also sees the photo. diffusers' own shows picture i of a batch only reference i if
    their numbers are equal, and requires references of one size.

    `photo_shown` says whether the photo is seen; `pictures` are normalized latents, (1, C, h, w) each, of the person.
    """

    photo_shown: bool = True
    pictures: tuple[Tensor, ...] = ()

    def prepare_image_latents(
        self,
        images: list[Tensor],
        batch_size: int,
        generator: Any,
        device: torch.device,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        photo = images[0][:1]
        references = [photo] * self.photo_shown + list(self.pictures)
        if not references:
            nothing = photo.new_zeros(batch_size, 0, photo.shape[1]).to(device, dtype)
            return nothing, torch.zeros(batch_size, 0, 4, dtype=torch.int64, device=device)
        latents: Tensor
        ids: Tensor
        latents, ids = super().prepare_image_latents(references, batch_size, generator, device, dtype)
        return latents, ids


@contextmanager
def showing(pipe: KleinPipeline, *, photo: bool, pictures: Sequence[Tensor]) -> Iterator[None]:
    """Within the block, the pipeline sees these pictures of the person and, optionally, the photo."""
    before = pipe.photo_shown, pipe.pictures
    pipe.photo_shown, pipe.pictures = photo, tuple(pictures)
    try:
        yield
    finally:
        pipe.photo_shown, pipe.pictures = before
