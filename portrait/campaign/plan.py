"""A campaign's plan: its people, styles and prompts."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from portrait.campaign.people import Person, read_people
from portrait.campaign.sizes import unknown_size
from portrait.errors import SettingsError, one_line
from portrait.faces.identity import FaceChoice
from portrait.file_model import Entries, FileModel
from portrait.images import PassedOver
from portrait.paths import shorten_name
from portrait.recipes.recipe import Recipe
from portrait.settings import Settings, setting_names, settings_from
from portrait.validation import check_names, parse_toml, read_text

_MAX_WORD_BYTES = 60
"""Characters of a text in a file name."""
_MAX_NAME_BYTES = 200
"""Bytes of a file name without what is appended to it; file systems allow 255."""

_ABOVE_THE_TABLES = {"style": "styles", "recipe": "recipes", "variants": "variants"}
"""Setting that belongs above the plan's tables -> its key there."""
_ELSEWHERE = {
    **dict.fromkeys(setting_names(), "it goes into the table [settings]"),
    **{setting: f"did you mean {key}?" for setting, key in _ABOVE_THE_TABLES.items()},
}
"""Top-level key that belongs somewhere else -> what to say about it."""


def _unique_texts(value: object) -> object:
    """Make a single text a list, and remove duplicates from lists."""
    values = [value] if isinstance(value, str) else value
    if isinstance(values, list) and all(isinstance(item, str) for item in values):
        return tuple(dict.fromkeys(values))
    return value


Texts = Annotated[Entries[str], BeforeValidator(_unique_texts)]


class Budget(FileModel):
    """Limits after which no further job is started: hours of this process, or attempts in the whole run. 0 is no limit."""

    hours: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    attempts: int = Field(default=0, ge=0)


class PlanFile(FileModel):
    """The schema of `campaign.toml`, except `[settings]`, whose keys are those of `Settings`."""

    name: str = ""
    subjects: str | tuple[str, ...]
    recipes: Texts = Field(default=("mini",), min_length=1)
    styles: Texts = Field(default=("all",), min_length=1)
    variants: int = Field(default=1, ge=1, le=64)
    sizes: Texts = ()
    axes: dict[str, Texts] = Field(default_factory=dict)
    settings: dict[str, object] = Field(default_factory=dict)
    budget: Budget = Field(default_factory=Budget)

    @field_validator("subjects", mode="plain")
    @classmethod
    def _check_subjects(cls, value: object) -> str | tuple[str, ...]:
        subjects = value if isinstance(value, str) else _unique_texts(value)
        if not isinstance(subjects, str | tuple):
            raise ValueError(f"must be a folder, a .csv or .txt file or a list of photos, got {value!r}")
        return subjects

    @field_validator("sizes")
    @classmethod
    def _check_sizes(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := unknown_size(names):
            raise ValueError(f"has {unknown}")
        return names

    @field_validator("axes")
    @classmethod
    def _check_axes(cls, axes: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for axis, texts in axes.items():
            if not texts or len({_slug(text) for text in texts}) < len(texts):
                raise ValueError(f"{axis} must be a list of different texts, got {list(texts)}")
        return axes


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPicture:
    """One picture of a plan: its person, recipe, style, texts of the axes, and variant.

    `subject` is the person's name as in the plan, `folder` the folder of their files.
    """

    subject: str
    folder: str
    recipe: str
    style: str
    axes: tuple[tuple[str, str], ...]
    variant: int

    @property
    def stem(self) -> str:
        """Path of its files below `pictures/`, without suffix. Texts of axes never contain the `_` that joins them."""
        words = "_".join([self.style, *(_slug(text) or "plain" for _, text in self.axes), str(self.variant + 1)])
        return f"{self.folder}/{self.recipe}/{shorten_name(words, _MAX_NAME_BYTES)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A validated `campaign.toml`.

    `settings` do not include recipe and style yet, see `settings_of`. `axes` are (name, texts) pairs.
    """

    name: str
    people: tuple[Person, ...]
    recipes: tuple[str, ...]
    styles: tuple[str, ...]
    variants: int = 1
    axes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    sizes: tuple[str, ...] = ()
    budget: Budget = field(default_factory=Budget)
    settings: Settings = field(default_factory=Settings)
    text: str = ""
    path: Path | None = None
    passed_over: tuple[PassedOver, ...] = ()

    def pictures(self, recipes: Mapping[str, Recipe]) -> Iterator[PlannedPicture]:
        """Every picture, recipe by recipe and person by person.

        In this order models are loaded once, and each face and photo is encoded once per recipe.
        """
        texts = [[(axis, text) for text in values] for axis, values in self.axes]
        for name, recipe in recipes.items():
            styles = recipe.styles_named(self.styles)
            for person in self.people:
                who = {"subject": person.name, "folder": person.folder}
                for style, axes, variant in itertools.product(styles, itertools.product(*texts), range(self.variants)):
                    yield PlannedPicture(**who, recipe=name, style=style, axes=axes, variant=variant)

    def settings_of(self, recipe: Recipe, style: str, axes: Sequence[tuple[str, str]]) -> Settings:
        """The settings of a style's jobs: its prompt, followed by the texts of the axes.

        Without axes a campaign has one look: the style's first palette, unless the plan names another.
        """
        texts = [text for _, text in axes if text]
        chosen = recipe.style(style)
        first = next(iter(recipe.palettes_of(chosen)), "")
        palette = "" if texts else recipe.palette_for(chosen, self.settings.palette or first, 0)
        prompt = self.settings.prompt or recipe.prompt_of(chosen, palette, self.settings.balance)
        words = ", ".join([prompt, *texts])
        recipe.check_prompt(words, chosen)
        return replace(self.settings, recipe=recipe.name, style=(style,), prompt=words)


def read_plan(path: Path) -> Plan:
    """Read a plan; paths in it are relative to the file's folder.

    Raises:
        SettingsError: the file cannot be read, or has an unknown key (the message suggests the one that was probably meant)
            or a bad value; or there are no people, or two with the same name.
    """
    text = read_text(path, f"plan {path}")
    return replace(plan_from(parse_toml(text, str(path)), path.parent, str(path)), text=text, path=path)


def plan_from(table: Mapping[str, object], folder: Path, name: str = "plan") -> Plan:
    """Like `read_plan`, from the parsed TOML."""
    file = PlanFile.from_table(table, name, _ELSEWHERE)
    try:
        people, passed_over = read_people(file.subjects, folder)
        settings = _settings_from(file.settings, folder)
    except SettingsError as error:
        raise type(error)(f"{name}: {error}") from None
    except (OSError, ValueError) as error:  # not a valid file name, because of its length or a zero byte
        raise SettingsError(f"{name}: {one_line(error)}") from None
    return Plan(
        name=file.name or folder.resolve().name,
        people=people,
        passed_over=passed_over,
        recipes=tuple(_from_folder(folder, text) if text.endswith(".toml") else text for text in file.recipes),
        styles=file.styles,
        variants=file.variants,
        axes=tuple(file.axes.items()),
        sizes=file.sizes,
        budget=file.budget,
        settings=settings,
    )


def template() -> str:
    """A commented plan, as `portrait campaign new` writes it."""
    return (resources.files("portrait.campaign") / "campaign.toml").read_text("utf-8")


def _settings_from(table: Mapping[str, object], folder: Path) -> Settings:
    """The `[settings]` of a plan, with files relative to its folder."""
    for setting, key in _ABOVE_THE_TABLES.items():
        if setting in table:
            raise SettingsError(f"[settings] {setting} belongs above the tables, as {key} = ...")
    if "max_seconds" in table:
        raise SettingsError(
            "[settings] max_seconds would make pictures depend on the speed of the machine; "
            "use max_attempts, or hours in [budget] for the whole run"
        )
    check_names(table, "[settings]", setting_names(), "key")
    settings = settings_from({**table, "max_seconds": 86400.0})
    if FaceChoice.parse(settings.face).kind == "each":
        raise SettingsError("face each selects several people; list each person in a CSV of subjects")
    background = settings.backdrop()
    return replace(
        settings,
        thresholds=_from_folder(folder, settings.thresholds),
        curves=_from_folder(folder, settings.curves),
        base=_from_folder(folder, settings.base),
        keep=tuple(_option_from_folder(folder, text, "mask:") for text in settings.keep),
        background=_from_folder(folder, background.value) if background and background.file else settings.background,
        face=_option_from_folder(folder, settings.face, "like:"),
        lora=tuple(str((folder / text).resolve()) for text in settings.lora),
    )


def _from_folder(folder: Path, text: str) -> str:
    """A file or folder relative to the plan's folder, if it exists; any other name is returned unchanged."""
    path = folder / text
    return str(path.resolve()) if text and os.path.exists(path) else text


def _option_from_folder(folder: Path, text: str, prefix: str) -> str:
    """`mask:FILE` and `like:FILE` with the file relative to the plan's folder."""
    return prefix + str((folder / text.removeprefix(prefix)).resolve()) if text.startswith(prefix) else text


def _slug(text: str) -> str:
    """Turn a text into a word for a file name.

    Different texts give different words, except for case and punctuation in short ones.
    """
    return shorten_name(re.sub(r"[\W_]+", "-", text.lower()).strip("-"), _MAX_WORD_BYTES, of=text)
