"""A recipe: the models that make the picture, the knobs along the balance dial, and the license of every part."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, fields, replace
from math import ceil
from pathlib import Path

import numpy as np

from portrait.errors import SettingsError
from portrait.recipes.families import FAMILIES, FamilyFacts
from portrait.recipes.instructions import instruction_for
from portrait.recipes.schema import Parts
from portrait.recipes.style import Style, styles
from portrait.records import Knobs
from portrait.records.portrait import LicenseLink
from portrait.validation import did_you_mean

LCM_STEPS = 50
"""Steps that LCM was distilled from (`original_inference_steps` of diffusers' LCMScheduler); it cannot run more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """A LoRA file and its weight; `part` is its name in the weights manifest, empty for the user's own files."""

    weight: float
    part: str = ""
    path: Path = Path()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One way to make pictures. The paths of public models are filled in by `resolve_files`.

    Args:
        name: Its name on the command line.
        title: Its name on pages.
        base: A diffusers folder.
        adapter: An IP-Adapter file.
        structure: How the photo's structure is preserved. `none` is plain img2img (strength alone), `source_latents`
            concatenates the photo's latents to the noisy ones, `controlnet` derives an image from the photo, `reference` shows
            the photo to the model beside its drawing.
        recognizer: The one whose embedding the adapter was trained with; empty if there is none.
        resolution: The side of a portrait in pixels, unless another is requested.
        autocast: `bfloat16` if pictures may be computed in it; by default those of public models are, on a CPU that is fast at it.
        negative_prompt: The negative prompt, unless another is given.
        styles: The names of its styles.
        balance: Rising points of the dial, (position in [0, 1], knobs).
        licenses: The license of every part.
        family: A key of `FAMILIES`.
        adapter_kind: How the model is conditioned on the person; `none` if by the photo alone.
        adapter_lora: The weight of the LoRA inside the adapter's file.
        embedding: Whether the adapter was trained on embeddings of unit length (`unit`) or as the network gives them (`raw`).
        control: The kind of image that a ControlNet sees.
        scheduler: The sampler's name; empty for the base's own.
        timestep_spacing: How the sampler spaces its steps; empty for the base's own way.
        min_steps: The smallest number of denoising steps that a distilled model supports.
        thresholds: `photo` for a recipe that was never calibrated.
        prompts: Which of a style's texts the model understands: `short`, `rich`, or an `instruction` for models that edit
            photos by instruction.
        memory: The GiB that the tiers full, offload and sequential need; empty for `mini`.
        parts: The parts of the weights manifest by their roles.
        loras: The LoRAs that are loaded with it.
        sizes: The sides that its decoder can draw beside `resolution`.
        judge: The folder inside `base` of the style judge for this model; if empty, styles are judged by the calibration alone.
        vae: The VAE, if it is not that of `base`.
        image_encoder: The CLIP image encoder, for adapters that see the face itself.
        controlnet: The ControlNet's file.
        recognizer_file: The file of `recognizer`, if it is one of `parts`.
        single_file: A checkpoint of all networks, or of the denoising one, to use instead of those of `base`.
        digests: File -> SHA-256 of the verified parts.
    """

    name: str
    title: str
    base: Path
    adapter: Path
    structure: str
    recognizer: str
    resolution: int
    autocast: str
    negative_prompt: str
    styles: tuple[str, ...]
    balance: tuple[tuple[float, Knobs], ...]
    licenses: tuple[LicenseLink, ...]
    family: str = "sd15"
    adapter_kind: str = "faceid"
    adapter_lora: float = 1.0
    embedding: str = "unit"
    control: str = ""
    scheduler: str = ""
    timestep_spacing: str = ""
    min_steps: int = 1
    thresholds: str = ""
    prompts: str = "short"
    memory: tuple[float, ...] = ()
    parts: Parts = field(default_factory=Parts)
    loras: tuple[Lora, ...] = ()
    sizes: tuple[int, ...] = ()
    judge: str = ""
    vae: Path | None = None
    image_encoder: Path | None = None
    controlnet: Path | None = None
    recognizer_file: Path | None = None
    single_file: Path | None = None
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def family_facts(self) -> FamilyFacts:
        """The facts about the recipe's family."""
        return FAMILIES[self.family]

    @property
    def lacks(self) -> tuple[str, ...]:
        """The settings that have no effect with this recipe: knobs, and possibly `negative_prompt`."""
        facts = self.family_facts
        missing = [knob.name for knob in fields(Knobs) if knob.name not in facts.knobs]
        if self.structure == "none":
            missing.append("controlnet_conditioning_scale")
        return (*missing, *(() if facts.negative_prompt else ("negative_prompt",)))

    def check_settings(self, chosen: Collection[str]) -> None:
        """Refuse knobs that this recipe does not have.

        Args:
            chosen: Names of the settings that a caller set.

        Raises:
            SettingsError: there are such knobs; the message names them, and those that exist.
        """
        if missing := [name for name in self.lacks if name in chosen]:
            have = [knob.name for knob in fields(Knobs) if knob.name not in self.lacks]
            raise SettingsError(
                f"recipe {self.name} ({self.family_facts.title}) has no {', '.join(missing)}; it has {', '.join(have)}"
            )

    @property
    def part_names(self) -> list[str]:
        """The parts of the weights manifest that this recipe needs, each once."""
        names = [*(part for _, part in self.parts), *(lora.part for lora in self.loras)]
        return list(dict.fromkeys(filter(None, names)))

    @property
    def max_steps(self) -> int:
        """The largest `num_inference_steps` that the sampler supports."""
        return LCM_STEPS if self.scheduler == "LCM" else 1000

    def with_enough_steps(self, knobs: Knobs) -> Knobs:
        """Raise the steps of `knobs` so that at least `min_steps` run at this strength, up to `max_steps`."""
        if self.min_steps <= 1 or knobs.steps >= self.min_steps:
            return knobs
        steps = ceil(round(self.min_steps / max(knobs.strength, 1e-3), 6))
        if int(steps * knobs.strength) < self.min_steps:  # 0.7 * 10 is 6.999...
            steps += 1
        return replace(knobs, num_inference_steps=min(steps, self.max_steps))

    def check_steps(self, knobs: Knobs) -> None:
        """Raises SettingsError if the model does not support so many or so few steps; the message names what works."""
        least_strength = f"{self.min_steps / self.max_steps:g}"
        if knobs.num_inference_steps > self.max_steps:
            raise SettingsError(
                f"recipe {self.name} takes at most {self.max_steps} num_inference_steps, got "
                f"{knobs.num_inference_steps}; the {self.min_steps} that it needs then run from strength "
                f"{least_strength} on"
            )
        if knobs.steps < self.min_steps and self.min_steps > 1:
            better = self.with_enough_steps(knobs)
            is_enough = better.steps >= self.min_steps
            use = f"{better.num_inference_steps} steps" if is_enough else f"strength {least_strength}"
            raise SettingsError(
                f"strength {knobs.strength} of {knobs.num_inference_steps} steps runs {knobs.steps}, "
                f"recipe {self.name} needs {self.min_steps}; use {use} or more"
            )

    def knobs_at(self, position: float) -> Knobs:
        """The knobs at a position on the path that the recipe's file defines, linear between its points.

        A balance equals a position only if nothing was measured: `AttemptLoop.knobs_for_balance` maps a balance to a
        position by the curves of a style.

        Raises:
            SettingsError: the position is outside [0, 1].
        """
        if not 0 <= position <= 1:
            raise SettingsError(f"balance {position} is outside 0 (like the person) to 1 (most stylized)")
        positions = [at for at, _ in self.balance]
        values = {}
        for knob in fields(Knobs):
            at_positions = [getattr(knobs, knob.name) for _, knobs in self.balance]
            values[knob.name] = round(float(np.interp(position, positions, at_positions)), 4)
        steps = round(values.pop("num_inference_steps"))
        return Knobs(**values, num_inference_steps=steps)

    def size_for(self, side: int) -> int:
        """The side of a portrait in pixels: the requested one, or `resolution` for 0.

        Raises:
            SettingsError: the recipe cannot draw at that size.
        """
        sizes = sorted({self.resolution, *self.sizes})
        if side and side not in sizes:
            raise SettingsError(f"recipe {self.name} draws at {', '.join(map(str, sizes))} px, not at {side}")
        return side or self.resolution

    def style(self, name: str) -> Style:
        """Look up a style; raises SettingsError for one that this recipe does not have, and suggests a similar one."""
        if name not in self.styles:
            hint = did_you_mean(name, self.styles, "did you mean {}? ")
            raise SettingsError(
                f"recipe {self.name} has no style {name!r}; {hint}styles: {', '.join(self.styles)}, all"
            )
        return styles()[name]

    def styles_named(self, names: Collection[str]) -> list[str]:
        """Check the names of styles; `all` stands for every style. Raises SettingsError as `style` does."""
        return list(self.styles) if "all" in names else [self.style(name).name for name in names]

    def prompt_of(self, style: Style, palette: str = "", balance: float = 0.5) -> str:
        """The style's prompt in the form that this model understands, followed by a palette's name if there is one.

        An instruction also says how much must stay, with different words for a `balance` near 0, in the middle and near 1.
        """
        if self.prompts == "instruction":
            return instruction_for(style, balance)
        if self.prompts == "rich":
            return style.rich_prompt or style.prompt
        return f"{style.prompt}, {palette}" if palette else style.prompt

    def palettes_of(self, style: Style) -> tuple[str, ...]:
        """The palettes of a style that this model knows; none for models that read sentences."""
        return style.palettes if self.prompts == "short" else ()

    def palette_for(self, style: Style, name: str, seed: int) -> str:
        """The named palette, or by default one chosen by the seed; empty if the style has none.

        Raises:
            SettingsError: the style has no palette of that name.
        """
        palettes = self.palettes_of(style)
        if not name:
            return palettes[seed % len(palettes)] if palettes else ""
        if name not in palettes:
            have = f"it has {', '.join(palettes)}" if palettes else f"recipe {self.name} has no palettes in it"
            raise SettingsError(f"style {style.name} has no palette {name!r}; {have}")
        return name

    def reads_prompts(self, style: Style) -> bool:
        """Whether the model follows a user's own prompts instead of the style's."""
        return self.prompts != "short" or not style.palettes

    def check_prompt(self, prompt: str, style: Style) -> None:
        """Refuse prompts other than those of its styles if the model was trained on nothing else.

        Raises:
            SettingsError: the message lists the prompts that it knows.
        """
        if self.reads_prompts(style):
            return
        prompts = [style.prompt, *(self.prompt_of(style, palette) for palette in style.palettes)]
        if prompt not in prompts:
            raise SettingsError(
                f"recipe {self.name} cannot follow the prompt {prompt!r}: it knows its styles and palettes only; "
                f"for {style.name}: {'; '.join(repr(text) for text in prompts)}. Other texts need a public recipe "
                "(portrait recipes)"
            )


def unknown_license(part: str) -> LicenseLink:
    """The license link for a user's own file whose license was not declared."""
    return LicenseLink(part=part, license="unknown", commercial="unknown")
