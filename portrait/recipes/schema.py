"""The schema of recipe files: keys, types and ranges, and valid combinations."""

from __future__ import annotations

from math import isfinite
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from portrait.file_model import Entries, FileModel
from portrait.hub.files import is_plain_path
from portrait.hub.manifest import find_part
from portrait.paths import MAX_NAME_BYTES, is_file_name
from portrait.recipes.families import FAMILIES
from portrait.recipes.style import styles
from portrait.records import Knobs
from portrait.validation import did_you_mean

_NO_ADAPTER = ("reference", "none")
"""Kinds of adapter without a file: the model is shown pictures of the person, or nothing but the photo that it starts from."""
RECOGNIZER_PACKS = {"w600k_mbf": "buffalo_sc", "w600k_r50": "buffalo_l", "glintr100": "antelopev2"}
"""Recognizer -> the InsightFace pack that it comes from."""
TRAINED_WITH = {
    "faceid_sd15": ("w600k_r50", "unit"),
    "faceid-plusv2_sd15": ("w600k_r50", "unit"),
    "faceid_sdxl": ("w600k_r50", "unit"),
    "faceid-plusv2_sdxl": ("w600k_r50", "unit"),
    "instantid": ("glintr100", "raw"),
}
"""Adapter of the weights manifest -> the recognizer and the form of its embedding that it was trained with."""


class BalancePoint(FileModel):
    """A `[[balance]]` entry: the knobs at a position of the dial."""

    at: float
    strength: float
    guidance_scale: float
    ip_adapter_scale: float
    controlnet_conditioning_scale: float
    num_inference_steps: int = Field(ge=1, le=1000)

    @property
    def knobs(self) -> Knobs:
        return Knobs(**self.model_dump(exclude={"at"}))


class LoraEntry(FileModel):
    """A `[[loras]]` entry: a part of the weights manifest, or a file relative to the recipe's folder."""

    weight: float = Field(ge=-4, le=4)
    part: str = ""
    file: str = ""

    @model_validator(mode="after")
    def _check_source(self) -> LoraEntry:
        if bool(self.part) == bool(self.file):
            raise ValueError("has a weight and either part or file")
        if self.part:
            find_part(self.part)
        return self


_PartName = Annotated[str, AfterValidator(lambda name: find_part(name).name)]


class Parts(FileModel):
    """The `[parts]` table: for each role a part of the weights manifest, or empty."""

    base: _PartName = ""
    single_file: _PartName = ""
    vae: _PartName = ""
    adapter: _PartName = ""
    image_encoder: _PartName = ""
    controlnet: _PartName = ""
    recognizer: _PartName = ""

    @model_validator(mode="before")
    @classmethod
    def _check_roles(cls, table: object) -> object:
        roles = cls.model_fields
        for role in table if isinstance(table, dict) else ():
            if role not in roles:
                raise ValueError(f"has an unknown role {role!r}{did_you_mean(role, roles)}; roles: {', '.join(roles)}")
        return table


class LicenseEntry(FileModel):
    """A `[[licenses]]` entry: the license of one file or part."""

    part: str
    license: str
    commercial: Literal["yes", "no", "conditional", "unknown"]


class RecipeFile(FileModel):
    """A recipe file, with what it extends filled in. `recipes.recipe.Recipe` explains the values."""

    name: str
    title: str
    base: str = ""
    adapter: str = ""
    structure: Literal["none", "source_latents", "controlnet", "reference"]
    recognizer: str
    resolution: int = Field(gt=0)
    sizes: Entries[int] = ()
    autocast: Literal["", "bfloat16"]
    negative_prompt: str
    styles: Entries[str]
    balance: Entries[BalancePoint]
    licenses: Entries[LicenseEntry] = ()
    family: str
    adapter_kind: Literal["faceid", "faceid-plusv2", "plus-face", "instantid", "reference", "none"] = "faceid"
    adapter_lora: float = 1.0
    embedding: Literal["unit", "raw"] = "unit"
    control: Literal["", "canny", "lineart", "tile", "keypoints"] = ""
    scheduler: Literal["", "DDIM", "Euler", "DPM++", "LCM"] = ""
    timestep_spacing: str = ""
    min_steps: int = 1
    thresholds: Literal["", "photo"] = ""
    prompts: Literal["short", "rich", "instruction"] = "short"
    memory: Entries[float] = ()
    parts: Parts = Parts()
    loras: Entries[LoraEntry] = ()
    judge: str = ""

    @model_validator(mode="before")
    @classmethod
    def _default_family(cls, table: dict[str, object]) -> dict[str, object]:
        """A model with source latents is `mini`, and others are SD 1.5 unless they say otherwise."""
        default = "mini" if table.get("structure") == "source_latents" else "sd15"
        return {"family": default} | table

    @field_validator("family")
    @classmethod
    def _check_family(cls, name: str) -> str:
        if name not in FAMILIES:
            raise ValueError(f"{name!r} is not one of: {', '.join(FAMILIES)}{did_you_mean(name, FAMILIES)}")
        return name

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        """Check the recipe's name, after which pictures, thresholds and curves are named."""
        if not is_file_name(name):
            raise ValueError(
                f"must be a name that a file can have, of at most {MAX_NAME_BYTES} bytes, got {name[:200]!r}"
            )
        return name

    @field_validator("styles", mode="before")
    @classmethod
    def _any_style(cls, value: object) -> object:
        return tuple(styles()) if value == "any" else value

    @field_validator("styles")
    @classmethod
    def _check_styles(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(names) - styles().keys()):
            raise ValueError(f"no such style: {', '.join(unknown)}{did_you_mean(unknown[0], styles())}")
        return names

    @field_validator("balance")
    @classmethod
    def _check_balance(cls, points: tuple[BalancePoint, ...]) -> tuple[BalancePoint, ...]:
        positions = [point.at for point in points]
        if not positions or positions != sorted(set(positions)):
            raise ValueError(f"must rise in `at`, one or more points; got {positions}")
        return points

    @field_validator("memory")
    @classmethod
    def _check_memory(cls, sizes: tuple[float, ...]) -> tuple[float, ...]:
        if len(sizes) not in (0, 3) or not all(size > 0 and isfinite(size) for size in sizes):
            raise ValueError(f"is empty, or GiB for the tiers full, offload and sequential; got {[*sizes]}")
        return sizes

    @model_validator(mode="after")
    def _check_files(self) -> RecipeFile:
        if not self.base and not self.parts.base:
            raise ValueError("lacks: base, as a file or in [parts]")
        if not self.adapter and not self.parts.adapter and self.adapter_kind not in _NO_ADAPTER:
            raise ValueError("lacks: adapter, as a file or in [parts]")
        if self.base and self.parts.base:
            raise ValueError(f"names its base twice, as the folder {self.base} and in [parts]")
        return self

    @model_validator(mode="after")
    def _check_judge(self) -> RecipeFile:
        if self.judge and (not self.base or not is_plain_path(self.judge)):
            raise ValueError(f"judge {self.judge!r} must be a folder inside that of base")
        return self

    @model_validator(mode="after")
    def _check_kinds(self) -> RecipeFile:
        """Check that the family supports the structure and the adapter."""
        facts = FAMILIES[self.family]
        for key, allowed in (("structure", facts.structures), ("adapter_kind", facts.adapter_kinds)):
            if (value := getattr(self, key)) not in allowed:
                raise ValueError(f"family {self.family} has no {key} {value}, only {', '.join(allowed)}")
        if self.negative_prompt and not facts.negative_prompt:
            raise ValueError(f"family {self.family} has no negative_prompt")
        return self

    @model_validator(mode="after")
    def _check_structure(self) -> RecipeFile:
        if self.structure == "controlnet" and not self.control:
            raise ValueError("structure controlnet needs control: canny, lineart, tile or keypoints")
        if self.structure != "controlnet" and self.control:
            raise ValueError(f"control {self.control} goes with structure controlnet, not {self.structure}")
        if self.adapter_kind == "instantid" and self.control != "keypoints":
            raise ValueError("instantid needs structure controlnet with control keypoints")
        return self

    @model_validator(mode="after")
    def _check_parts(self) -> RecipeFile:
        """Check that exactly the roles that this kind of recipe needs have a part."""
        for role, part, is_needed in (
            ("image_encoder", self.parts.image_encoder, self.adapter_kind in ("faceid-plusv2", "plus-face")),
            ("controlnet", self.parts.controlnet, self.structure == "controlnet"),
            ("recognizer", self.parts.recognizer, self.recognizer not in ("", "w600k_mbf")),
        ):
            if is_needed != bool(part):
                raise ValueError(f"[parts] {'lacks' if is_needed else 'must not name'} {role}")
        return self

    @model_validator(mode="after")
    def _check_recognizer(self) -> RecipeFile:
        """Check that the recognizer is the one that the adapter was trained with, from its own pack."""
        if self.recognizer == "":
            if self.adapter_kind not in ("plus-face", *_NO_ADAPTER):
                raise ValueError(f"adapter_kind {self.adapter_kind} needs a recognizer: {', '.join(RECOGNIZER_PACKS)}")
        elif self.recognizer not in RECOGNIZER_PACKS:
            raise ValueError(f"recognizer {self.recognizer!r} is not one of: {', '.join(RECOGNIZER_PACKS)}")
        else:
            pack = RECOGNIZER_PACKS[self.recognizer]
            if self.parts.recognizer not in ("", pack):
                raise ValueError(f"{self.recognizer} comes from the pack {pack}, not {self.parts.recognizer}")
        recognizer, embedding = TRAINED_WITH.get(self.parts.adapter, (self.recognizer, self.embedding))
        if (self.recognizer, self.embedding) != (recognizer, embedding):
            raise ValueError(
                f"{self.parts.adapter} was trained with recognizer {recognizer} and embedding {embedding}, "
                f"not {self.recognizer or 'none'} and {self.embedding}"
            )
        return self
