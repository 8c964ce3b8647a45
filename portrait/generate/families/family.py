"""The interface of a model family, and loading the family of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, Protocol

import torch
from torch import Tensor

from portrait.generate.precision import Precision
from portrait.recipes.recipe import Recipe
from portrait.records import Embedding, Face, Knobs, RgbImage

OnStep = Callable[[int, Tensor, Callable[[], Tensor | None]], None]
"""Called after each denoising step with the number of steps done, the latents, (B, ...), and a function that decodes the
estimate of the finished pictures, (B, 3, S, S) about [-1, 1], or returns None if there is none yet."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """One person in one style.

    `image` is the framed photo, (S, S, 3) uint8, and `face` the face in it; `embedding` is by the recipe's recognizer;
    `pictures` show the person's head, (P, P, 3) uint8 each, for families that use them. Guidance steers away from
    `negative_prompt`.
    """

    image: RgbImage
    embedding: Embedding
    prompt: str
    negative_prompt: str = ""
    face: Face | None = None
    pictures: tuple[RgbImage, ...] = ()


class Family(Protocol):
    """The networks of one recipe: how they are placed on a device, fed, run and previewed.

    `pipe` is diffusers' pipeline; `loras` are the active LoRAs by name with their weights; `digests` maps every file of the
    model to its SHA-256; `notes` say which parts of the files are not used.
    """

    pipe: Any
    loras: Mapping[str, float]
    digests: Mapping[str, str]
    notes: tuple[str, ...]

    def place(self, tier: str, device: torch.device) -> None:
        """Put the networks on the device as a tier of `generate.memory` says.

        Called again with a smaller tier if memory runs out.
        """

    def prepare(self, request: Request) -> Any:
        """Compute once what does not change between the attempts at one portrait.

        Raises:
            SettingsError: the request lacks something that the family needs.
        """

    def text_warnings(self, prompt: str, negative_prompt: str) -> list[str]:
        """A sentence for each prompt that is too long for the text encoders, quoting the words that are lost."""

    def draw(self, conditions: Any, knobs: Knobs, seeds: Sequence[int], on_step: OnStep) -> Tensor:
        """Draw one picture per seed, (B, 3, S, S) in [0, 1]; each seed has its own CPU generator."""

    def reconstruct(self, image: RgbImage) -> Tensor:
        """Pass a photo at the recipe's resolution through the autoencoder alone, (1, 3, S, S) about [-1, 1]."""

    def passes(self, knobs: Knobs) -> int:
        """How many forward passes of the denoising network these knobs cost per picture."""

    def clear_cache(self) -> None:
        """Forget everything cached for the last photo."""


def load_family(recipe: Recipe, precision: Precision) -> Family:
    """Load a recipe's networks, still on the CPU.

    Args:
        recipe: Public models have their paths filled in (`recipes.locate.resolve_files`).
        precision: The number types in which they compute.

    Raises:
        WeightsMissingError, WeightsCorruptError: a file is missing, differs from the manifest, or is not what the recipe
        says.
        SettingsError: the recipe's resolution does not fit its autoencoder.
        MemoryLimitError: memory ran out.
    """
    family: Family = resolve_name(recipe.family_facts.networks)(recipe, precision)
    return family
