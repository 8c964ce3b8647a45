"""The single list of model families: what each supports, and where its networks are.

A family is an entry here and a folder of `portrait/generate/families/` with code to load and run it and a README. Validation
of recipes, refusal of unsupported knobs and the choice of the networks in torch all follow from the entry. `mini` on a CPU is
drawn by a generator of its own in onnxruntime, which `portrait/generate/load.py` chooses first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from portrait.settings import KNOB_SETTINGS

_FAMILIES = "portrait.generate.families"
_ADAPTERS = ("faceid", "faceid-plusv2", "plus-face", "instantid")


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyFacts:
    """What the models of one architecture can do.

    Args:
        title: Its name in messages.
        networks: MODULE:CLASS of its `generate.families.family.Family`.
        structures: The ways in which its recipes may preserve the photo's structure.
        adapter_kinds: The adapters by which its recipes may be conditioned on the person.
        knobs: The fields of `Knobs` that it supports.
        negative_prompt: Whether it supports a negative prompt.
        pictures: How many pictures of the person it takes besides the framed photo: heads, cut out of the photos.
        exact_strength: Whether it starts exactly at the strength; others start at a whole step.
        least_strength: Below this strength its pictures fall apart; retries do not go there.
        whole_checkpoints: Whether a single-file checkpoint holds all networks, or only the denoising one.
        loras: Whether it takes LoRAs.
        gpu_dtype: The number type in which it computes on a GPU.
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


_SD15 = FamilyFacts(
    title="Stable Diffusion 1.5",
    networks=f"{_FAMILIES}.stable_diffusion.family:StableDiffusion",
    structures=("none", "controlnet"),
    adapter_kinds=_ADAPTERS,
)
_FLUX2 = FamilyFacts(
    title="FLUX.2 klein",
    networks=f"{_FAMILIES}.flux2.family:Flux2Klein",
    structures=("reference",),
    adapter_kinds=("reference",),
    knobs=tuple(name for name in KNOB_SETTINGS if name != "guidance_scale"),
    negative_prompt=False,
    exact_strength=True,
    pictures=3,  # four with the framed photo, the maximum that its publisher recommends
    whole_checkpoints=False,
    gpu_dtype="bfloat16",
)
FAMILIES = {
    "mini": FamilyFacts(
        title="mini",
        networks=f"{_FAMILIES}.mini.family:Mini",
        structures=("source_latents",),
        adapter_kinds=("faceid",),
        least_strength=1.0,  # begun from the photo's own colors, its pictures are faded photos
        loras=False,
    ),
    "sd15": _SD15,
    "sdxl": replace(_SD15, title="Stable Diffusion XL"),
    "flux2": _FLUX2,
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
    "qwen_edit": replace(
        _FLUX2,
        title="Qwen-Image-Edit",
        networks=f"{_FAMILIES}.qwen_edit.family:QwenEdit",
        pictures=2,  # three with the framed photo, the maximum that its publisher recommends
    ),
}
"""Name, as in a recipe's `family` -> facts."""
