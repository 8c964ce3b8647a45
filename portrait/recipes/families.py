"""The one list of model families: what each can be told, and where its networks are.

A family is an entry here and a folder of `portrait/generate/families/` with its loading, its steps and a README. Checks of
recipes, refusals of knobs that a model lacks and the choice of the networks follow from the entry.
"""

from __future__ import annotations

from dataclasses import dataclass

from portrait.settings import KNOB_SETTINGS

_FAMILIES = "portrait.generate.families"
_ADAPTERS = ("faceid", "faceid-plusv2", "plus-face", "instantid")


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyFacts:
    """What the models of one architecture can do.

    Args:
        title: What messages call it.
        networks: MODULE:CLASS of its `generate.families.family.Family`.
        structures: How its recipes may hold the photo's structure.
        adapter_kinds: How its recipes may be told who the person is.
        knobs: Of `Knobs`, those that it has.
        negative_prompt: Whether there is something that guidance moves away from.
        pictures: At how many pictures of the person it looks besides the framed photo: heads, cut out of the photos.
        exact_strength: Whether it starts exactly where the strength says; others start at a whole step.
        least_strength: Below it its pictures fall apart; no retry goes there.
        whole_checkpoints: Whether a checkpoint in one file holds all networks; otherwise the denoising one alone.
        loras: Whether it takes LoRAs.
        gpu_dtype: In which numbers it computes on a GPU.
    """

    title: str
    networks: str
    structures: tuple[str, ...]
    adapter_kinds: tuple[str, ...]
    knobs: tuple[str, ...] = KNOB_SETTINGS
    negative_prompt: bool = True
    pictures: int = 0
    exact_strength: bool = False
    least_strength: float = 0.0
    whole_checkpoints: bool = True
    loras: bool = True
    gpu_dtype: str = "float16"


FAMILIES = {
    "mini": FamilyFacts(
        title="mini",
        networks=f"{_FAMILIES}.mini.family:Mini",
        structures=("source_latents",),
        adapter_kinds=("faceid",),
        least_strength=0.5,
        loras=False,
    ),
    "sd15": FamilyFacts(
        title="Stable Diffusion 1.5",
        networks=f"{_FAMILIES}.stable_diffusion.family:StableDiffusion",
        structures=("none", "controlnet"),
        adapter_kinds=_ADAPTERS,
    ),
    "sdxl": FamilyFacts(
        title="Stable Diffusion XL",
        networks=f"{_FAMILIES}.stable_diffusion.family:StableDiffusion",
        structures=("none", "controlnet"),
        adapter_kinds=_ADAPTERS,
    ),
    "flux2": FamilyFacts(
        title="FLUX.2 klein",
        networks=f"{_FAMILIES}.flux2.family:Flux2Klein",
        structures=("reference",),
        adapter_kinds=("reference",),
        knobs=tuple(name for name in KNOB_SETTINGS if name != "guidance_scale"),
        negative_prompt=False,
        exact_strength=True,
        pictures=3,  # four with the framed photo, the most that its makers offer
        whole_checkpoints=False,
        gpu_dtype="bfloat16",
    ),
    "z_image": FamilyFacts(
        title="Z-Image",
        networks=f"{_FAMILIES}.z_image.family:ZImage",
        structures=("none", "controlnet"),
        adapter_kinds=("none",),
        knobs=("strength", "controlnet_conditioning_scale", "num_inference_steps"),
        negative_prompt=False,
        exact_strength=True,
        whole_checkpoints=False,
        gpu_dtype="bfloat16",
    ),
}
"""Name, as in a recipe's `family` -> what it can do."""
