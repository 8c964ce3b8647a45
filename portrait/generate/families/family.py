"""What the engine asks of a model family, and which family a recipe means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import torch
from torch import Tensor

from portrait.generate.precision import Precision
from portrait.recipes.recipe import Recipe
from portrait.records import Embedding, Face, Knobs, RgbImage

OnStep = Callable[[int, Tensor, Callable[[], Tensor | None]], None]
"""Called after each denoising step with the number of steps done, the latents, (B, ...), and a function that decodes the
estimate of the finished pictures, (B, 3, S, S) about [-1, 1]; None where there is none yet."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """One person in one style.

    `image` is the framed photo, (S, S, 3) uint8, and `face` the face in it; `embedding` is by the recipe's recognizer;
    `pictures` show the person's head, for families that look at it, (P, P, 3) uint8 each. `negative_prompt` is what
    guidance moves away from.
    """

    image: RgbImage
    embedding: Embedding
    prompt: str
    negative_prompt: str = ""
    face: Face | None = None
    pictures: tuple[RgbImage, ...] = ()


class Family(Protocol):
    """The networks of one recipe: how they are placed, fed, run, and looked into.

    `pipe` is diffusers' pipeline; `loras` are the active LoRAs by name with their weights; `digests` maps every file of the
    model to its SHA-256; `notes` say what of the files is not used.
    """

    pipe: Any
    loras: Mapping[str, float]
    digests: Mapping[str, str]
    notes: tuple[str, ...]

    def place(self, tier: str, device: torch.device) -> None:
        """Put the networks on the device by a tier of `generate.memory`; called again with a smaller one when memory ran out."""
        ...

    def prepare(self, request: Request) -> Any:
        """All that does not change between the attempts at one portrait, computed once.

        Raises:
            SettingsError: the request lacks what the family looks at.
        """
        ...

    def text_warnings(self, prompt: str, negative_prompt: str) -> list[str]:
        """A sentence for each text that is longer than the text encoders read, with the words that are lost."""
        ...

    def draw(self, conditions: Any, knobs: Knobs, seeds: Sequence[int], on_step: OnStep) -> Tensor:
        """One picture per seed, (B, 3, S, S) in [0, 1]; each seed has its own CPU generator."""
        ...

    def reconstruct(self, image: RgbImage) -> Tensor:
        """A photo at the recipe's resolution through the autoencoder alone, (1, 3, S, S) about [-1, 1]."""
        ...

    def passes(self, knobs: Knobs) -> int:
        """How often the denoising network sees a picture with these knobs."""
        ...

    def clear_cache(self) -> None:
        """Drop what is remembered of the last photo."""
        ...


def load_family(recipe: Recipe, precision: Precision) -> Family:
    """Load a recipe's networks, still on the CPU.

    Args:
        recipe: Public models have their paths filled in (`recipes.locate.resolve_files`).
        precision: In which numbers they compute.

    Raises:
        WeightsMissingError, WeightsCorruptError: a file is gone, differs from the manifest, or is not what the recipe says.
        SettingsError: the recipe's resolution does not fit its autoencoder.
        MemoryLimitError: memory ran out.
    """
    module, _, name = recipe.family_facts.networks.partition(":")
    family: Family = getattr(import_module(module), name)(recipe, precision)
    return family
