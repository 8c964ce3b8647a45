"""`Settings`: the one list of what a caller may choose. Flags, TOML files and records are made from it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from math import inf
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from portrait.errors import SettingsError
from portrait.records import Background, Keep, Knobs
from portrait.validation import check_names, parse_toml, read_text

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is said of a setting besides its default.

    Args:
        help: Of its flag.
        kind: Type of the value, or of each one of `many`.
        low: Least value; None for any.
        high: Largest value.
        choices: Values that it may have; empty for any.
        many: Whether it may be given several times.
        knob: Whether it is one of `Knobs`; None then leaves it to the balance.
        flag: What a user calls it, where records keep an older name; empty for the field's name.
        words: What a user says -> the value, where records keep older words.
    """

    help: str
    kind: type
    low: float | None
    high: float
    choices: tuple[str, ...]
    many: bool
    knob: bool
    flag: str
    words: Mapping[str, str]


def _setting(
    default: T,
    text: str,
    kind: type,
    *,
    low: float | None = None,
    high: float = inf,
    choices: tuple[str, ...] = (),
    many: bool = False,
    knob: bool = False,
    flag: str = "",
    words: Mapping[str, str] = MappingProxyType({}),
) -> T:
    """A field of `Settings`, with its `Rule`."""
    rule = Rule(help=text, kind=kind, low=low, high=high, choices=choices, many=many, knob=knob, flag=flag, words=words)
    return field(default=default, metadata={"rule": rule})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All choices of one stylization. The help texts below are its documentation.

    Raises:
        SettingsError: a value is of the wrong type or out of range; names the setting and the value.
    """

    recipe: str = _setting("mini", "which models make the picture: a recipe's name or a .toml file", str)
    style: tuple[str, ...] = _setting(
        ("watercolor",), "style, may be given several times; 'all' for every style of the recipe", str, many=True
    )
    balance: float = _setting(0.5, "0 stays closest to the person, 1 is the most stylized", float, low=0, high=1)
    variants: int = _setting(1, "pictures per photo and style, each from its own seeds", int, low=1, high=64)
    seed: int = _setting(
        1,
        "first seed; on one machine the same seed gives the same pixels, on a CPU in any batch and with any number of "
        "threads (in one --dtype: auto may choose another for other threads), on a GPU in a batch of the same seeds",
        int,
        low=0,
        high=2**31,
    )
    palette: str = _setting("", "a palette of the style (portrait styles lists them); by seed where none is named", str)
    size: int = _setting(
        0, "side of the portrait in pixels, such as 1024; 0 for the recipe's own", int, low=0, high=4096
    )
    frame: str = _setting(
        "bust",
        "what is shown: head, bust, or full, the whole photo with the bust drawn into it",
        str,
        choices=("head", "bust", "full"),
    )
    face: str = _setting(
        "auto",
        "which face is meant: auto (refuses to guess between faces of similar size), largest, each, "
        "an index from the left such as 0, or like:REFERENCE.jpg",
        str,
    )
    upright: str = _setting(
        "auto",
        "auto turns a photo whose faces lie on their side or stand on their head; off leaves it as it is",
        str,
        choices=("auto", "off"),
    )
    keep: tuple[str, ...] = _setting(
        (),
        "what is preserved besides the face, may be given several times: pose, composition, colors, background, "
        "region:x,y,width,height in pixels of the photo, mask:FILE (white stays)",
        str,
        many=True,
    )
    background: str = _setting(
        "",
        "what stands behind the person in the finished picture: keep (the photo's own), paper, blur, transparent (png "
        "or webp), '#rrggbb', 'gradient:#rrggbb,#rrggbb' (top, bottom), or a picture's file; without it, what the model drew",
        str,
    )
    far: float = _setting(0.01, "accept a picture at this false accept rate of other people", float, low=0, high=1)
    max_attempts: int = _setting(4, "the most pictures to try", int, low=1, high=1000)
    max_seconds: float = _setting(120.0, "start no attempt after this many seconds", float, low=0, high=86400)
    until: str = _setting(
        "accepted",
        "first: stop at the first accepted picture; best: use the budget for a more stylized one "
        "for as long as one is to be expected",
        str,
        choices=("accepted", "best"),
        flag="stop",
        words=MappingProxyType({"first": "accepted", "best": "best"}),
    )
    batch: int = _setting(1, "attempts per batch", int, low=1, high=64)
    format: str = _setting("png", "png, jpg or webp", str, choices=("png", "jpg", "webp"))
    no_metadata: bool = _setting(
        False,
        "leave the parameters (prompt, seed, knobs) and the tool's name out of the picture; the mark that it is "
        "generated stays, because the law of the EU requires one; the .json beside it stays too",
        bool,
    )
    prompt: str = _setting("", "text in place of the style's own", str)
    negative_prompt: str = _setting("", "text that guidance moves away from", str)
    strength: float | None = _setting(None, "share of the denoising that is redone", float, low=0, high=1, knob=True)
    guidance_scale: float | None = _setting(None, "weight of prompt and identity", float, low=0, high=30, knob=True)
    ip_adapter_scale: float | None = _setting(None, "weight of the identity", float, low=0, high=3, knob=True)
    controlnet_conditioning_scale: float | None = _setting(
        None, "how much of the photo's structure is held", float, low=0, high=1, knob=True
    )
    num_inference_steps: int | None = _setting(None, "denoising steps at strength 1", int, low=1, high=1000, knob=True)
    thresholds: str = _setting("", "a calibration file in place of the recipe's own", str)
    curves: str = _setting("", "curves that portrait calibrate measured, in place of the recipe's own", str)
    threads: int = _setting(0, "processor threads, 0 for all cores", int, low=0, high=1024)
    device: str = _setting(
        "auto",
        "where public models run; auto is a GPU if there is one, and the CPU for mini",
        str,
        choices=("auto", "cpu", "cuda", "mps"),
    )
    memory: str = _setting(
        "auto",
        "how much of a public model lies on the GPU at once; auto goes by the memory that is free",
        str,
        choices=("auto", "full", "offload", "sequential"),
    )
    dtype: str = _setting(
        "auto",
        "numbers that the model computes in; auto is float16 for public models on a GPU and, for mini on a processor, "
        "whichever of the two a short measurement finds faster (portrait doctor shows it)",
        str,
        choices=("auto", "float32", "bfloat16"),
    )
    base: str = _setting(
        "",
        "another base model of the recipe's family: a .safetensors checkpoint, a diffusers folder, "
        "or a part of the weights manifest",
        str,
    )
    lora: tuple[str, ...] = _setting(
        (), "a LoRA and its weight, as FILE.safetensors:0.6; may be given several times", str, many=True
    )
    commercial: bool = _setting(
        False, "refuse a recipe unless all its parts plainly allow commercial use; judge by SFace and dlib", bool
    )

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = getattr(self, setting.name)
            for item in value if RULES[setting.name].many else (value,):
                _check(setting, item)
        self._check_pixels()

    def _check_pixels(self) -> None:
        """What must stay to the last bit, or be transparent, fits the format."""
        exact = [keep.kind for keep in self.keeps() if keep.kind in ("background", "region", "mask")]
        if exact and self.format != "png":
            raise SettingsError(f"keep {exact[0]} needs format png: {self.format} changes every pixel")

        if self.background:
            background = Background.parse(self.background)
            if background.kind == "transparent" and self.format == "jpg":
                raise SettingsError("background transparent needs format png or webp: jpg has no transparency")
            if exact:
                raise SettingsError(
                    f"background {self.background} and keep {exact[0]} contradict each other: leave out one"
                )

    def backdrop(self) -> Background | None:
        """`background`, read; None leaves what the model drew."""
        return Background.parse(self.background) if self.background else None

    def keeps(self) -> list[Keep]:
        """`keep`, read; without the face, which always stays."""
        return [keep for keep in map(Keep.parse, dict.fromkeys(self.keep)) if keep.kind != "face"]

    def knobs(self, base: Knobs) -> Knobs:
        """`base` with the knobs that were set explicitly; 0 counts as set."""
        return replace(base, **{name: getattr(self, name) for name in self.fixed_knobs()})

    def chosen(self) -> set[str]:
        """Names of what the caller set of that which not every model has: knobs, and the negative prompt."""
        return self.fixed_knobs() | ({"negative_prompt"} if self.negative_prompt else set())

    def fixed_knobs(self) -> set[str]:
        """Names of the knobs that were set explicitly, which no retry may move."""
        return {name for name in KNOB_SETTINGS if getattr(self, name) is not None}


RULES: dict[str, Rule] = {setting.name: setting.metadata["rule"] for setting in fields(Settings)}
KNOB_SETTINGS = tuple(name for name, rule in RULES.items() if rule.knob)

LOADING = ("recipe", "threads", "device", "memory", "dtype", "base", "lora", "commercial")
"""The settings that say which models are loaded, and how."""


def setting_names() -> list[str]:
    """Every name that a user may give: the fields of `Settings`, and the flags that are called otherwise."""
    return [*RULES, *(rule.flag for rule in RULES.values() if rule.flag)]


def _check(setting: Field[Any], value: object) -> None:
    rule = RULES[setting.name]
    if value is None and rule.knob:
        return
    name, kind = rule.flag or setting.name, rule.kind
    if not _is_of_kind(value, kind):
        raise SettingsError(f"{name} must be {kind.__name__}, got {value!r}")
    if rule.low is not None and isinstance(value, int | float) and not rule.low <= value <= rule.high:
        raise SettingsError(f"{name} {value} is outside {rule.low} to {rule.high}")
    if rule.choices and value not in rule.choices:
        raise SettingsError(f"{name} {value!r} is not one of: {', '.join(rule.words or rule.choices)}")


def _is_of_kind(value: object, kind: type) -> bool:
    """Whether a value is of a type; True is no number, and a whole number is a float too."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, kind) or (kind is float and isinstance(value, int))


def add_flags(parser: argparse.ArgumentParser, defaults: Mapping[str, object] = MappingProxyType({})) -> None:
    """Add a flag per setting; a flag that is not given stays absent, so that files and defaults count.

    Args:
        parser: Of the command.
        defaults: Setting -> default, where the command has another one than `Settings`; for the help text alone.
    """
    common = parser.add_argument_group("what to make")
    knobs = parser.add_argument_group("knobs, under the names of diffusers (default: from --balance)")
    for setting in fields(Settings):
        rule = RULES[setting.name]
        group = knobs if rule.knob else common
        options = _flag_options(setting, defaults)
        group.add_argument(_flag(setting), **options)
        if rule.flag:  # under the name in records too, though help does not say so
            hidden = {"choices": rule.choices, "help": argparse.SUPPRESS}
            group.add_argument("--" + setting.name.replace("_", "-"), **(options | hidden))


def _flag(setting: Field[Any]) -> str:
    return "--" + (RULES[setting.name].flag or setting.name).replace("_", "-")


def _flag_options(setting: Field[Any], defaults: Mapping[str, object]) -> dict[str, Any]:
    """What `add_argument` is given for a setting; its help names the default."""
    rule = RULES[setting.name]
    options: dict[str, Any] = {
        "dest": setting.name,
        "default": argparse.SUPPRESS,
        "help": rule.help.replace("%", "%%"),
    }
    if rule.kind is bool:
        return options | {"action": "store_true"}
    choices = rule.words or rule.choices or None
    default: Any = word_of(setting.name, defaults.get(setting.name, setting.default))
    if rule.many:
        default = " ".join(default)
    if not rule.knob and default not in ("", 0):
        options["help"] += f" (default: {default})"
    return options | {
        "type": rule.kind,
        "action": "append" if rule.many else "store",
        "choices": choices,
        "metavar": None if choices else {int: "N", float: "X", str: "TEXT"}[rule.kind],
    }


def word_of(name: str, value: T) -> T | str:
    """What a user calls a value of a setting."""
    return next((word for word, meaning in RULES[name].words.items() if meaning == value), value)


def flags_of(settings: Settings) -> list[str]:
    """The flags that `add_flags` reads as these settings: style, and whatever is not the default.

    `portrait stylize PHOTO` with them makes the same pictures; for `shlex.join`.
    """
    words: list[str] = []
    for setting in fields(Settings):
        value, flag = getattr(settings, setting.name), _flag(setting)
        if value == setting.default and setting.name != "style":
            continue
        if RULES[setting.name].kind is bool:
            words.append(flag)
            continue
        for item in value if RULES[setting.name].many else (word_of(setting.name, value),):
            text = repr(item) if isinstance(item, float) else str(item)
            words += [f"{flag}={text}"] if text.startswith("-") else [flag, text]
    return words


def settings_from(flags: Mapping[str, object], file: Path | None = None) -> Settings:
    """Flag over file over default.

    Args:
        flags: Parsed flags; only those that were given.
        file: A TOML file whose keys are the settings' names.

    Raises:
        SettingsError: the file cannot be read, an unknown key (says which was probably meant), a bad value.
    """
    names = setting_names()
    values = {} if file is None else parse_toml(read_text(file), str(file))
    return Settings(**values_of(values | {name: value for name, value in flags.items() if name in names}, str(file)))


def values_of(table: Mapping[str, object], where: str) -> dict[str, Any]:
    """The fields of `Settings` that a table of names that users give stands for; `where` it is from, for messages.

    Raises:
        SettingsError: an unknown name, or of several texts one that is none.
    """
    check_names(table, where, setting_names())
    values: dict[str, Any] = dict(table)
    for name, rule in RULES.items():
        if rule.flag in values:
            values[name] = values.pop(rule.flag)
        if name in values and rule.many:
            values[name] = _texts(name, values[name])
        if rule.words and isinstance(word := values.get(name), str):
            values[name] = rule.words.get(word, word)
    return values


def _texts(name: str, value: object) -> tuple[str, ...]:
    """One text, or a list of them, as a tuple."""
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or (name == "style" and not texts):
        raise SettingsError(f"{name} must be one or more texts, got {value!r}")
    return tuple(texts)
