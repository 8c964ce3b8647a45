"""`Settings`: the single list of all settings. Flags, TOML files and records are derived from it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from math import inf
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from portrait.errors import SettingsError
from portrait.records import Background, Keep, Knobs, parse_shift
from portrait.validation import check_names, parse_toml, read_text

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The properties of a setting besides its default.

    `kind` is the type of the value, or of each value if it may be given `many` times; without limits `low` is None and `high`
    infinite; `choices` are empty for any. A `knob` is one of `Knobs`, whose value None leaves it to the balance. `flag` is its
    name for users, and `words` maps its values' names for users to the values, if records keep older ones.
    """

    help: str
    kind: type
    many: bool
    knob: bool
    low: float | None = None
    high: float = inf
    choices: tuple[str, ...] = ()
    flag: str = ""
    words: Mapping[str, str] = field(default_factory=dict)


def _setting(default: T, text: str, *, knob: type | None = None, **rule: Any) -> T:  # noqa: ANN401 (those of `Rule`)
    """A field of `Settings`, with its `Rule`; `knob` is the type of a knob."""
    kind = knob or (str if isinstance(default, tuple) else type(default))
    many = isinstance(default, tuple)
    return field(
        default=default, metadata={"rule": Rule(help=text, kind=kind, many=many, knob=knob is not None, **rule)}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All choices of one stylization. The help texts below are its documentation.

    Raises:
        SettingsError: a value is of the wrong type or out of range; names the setting and the value.
    """

    recipe: str = _setting("mini", "the models that make the picture: a recipe's name or a .toml file")
    style: tuple[str, ...] = _setting(
        ("watercolor",),
        "the style (portrait styles lists them); may be given several times; 'all' for every style of the recipe",
    )
    balance: float = _setting(0.5, "0 stays closest to the person, 1 is the most stylized", low=0, high=1)
    variants: int = _setting(1, "pictures per photo and style, each from its own seeds", low=1, high=64)
    seed: int = _setting(
        1,
        "first seed; on the same machine the same seed gives the same pixels: of mini on a CPU with any --threads, "
        "of public models and of mini with --dtype bfloat16 with the same --threads, on a GPU in a batch of the same seeds",
        low=0,
        high=2**31,
    )
    palette: str = _setting("", "a palette of the style (portrait styles lists them); default: chosen by the seed")
    size: int = _setting(0, "side of the portrait in pixels, such as 1024; 0 for the recipe's own", low=0, high=4096)
    frame: str = _setting(
        "bust",
        "head, bust, or full (the whole photo, with the bust drawn into it)",
        choices=("head", "bust", "full"),
    )
    shift: str = _setting(
        "0,0",
        "X,Y moves the frame right and down by shares of its side, as far as photo and face allow; "
        "write negative values as --shift=-0.1,0",
    )
    face: str = _setting(
        "auto",
        "which face to use: auto (refuses to guess between faces of similar size), largest, each, "
        "an index from the left such as 0, or like:REFERENCE.jpg",
    )
    upright: str = _setting(
        "auto",
        "auto turns a photo whose faces are sideways or upside down; off leaves it as it is",
        choices=("auto", "off"),
    )
    keep: tuple[str, ...] = _setting(
        (),
        "what is preserved besides the face, may be given several times: pose, composition, colors, background, "
        "region:x,y,width,height in pixels of the photo, mask:FILE (white is preserved)",
    )
    background: str = _setting(
        "",
        "background of the finished picture: keep (the photo's own), paper, blur, transparent (png "
        "or webp), '#rrggbb', 'gradient:#rrggbb,#rrggbb' (top, bottom), or a picture file; default: as the model drew it",
    )
    far: float = _setting(0.01, "false accept rate: the share of strangers who would be accepted", low=0, high=1)
    max_attempts: int = _setting(4, "maximum number of pictures to try", low=1, high=1000)
    max_seconds: float = _setting(120.0, "start no attempt after this many seconds", low=0, high=86400)
    until: str = _setting(
        "accepted",
        "first: stop at the first accepted picture; best: use the budget for a more stylized one "
        "as long as one is likely",
        choices=("accepted", "best"),
        flag="stop",
        words=MappingProxyType({"first": "accepted", "best": "best"}),
    )
    batch: int = _setting(1, "attempts per batch", low=1, high=64)
    format: str = _setting("png", "file format: png, jpg or webp", choices=("png", "jpg", "webp"))
    no_metadata: bool = _setting(
        False,
        "leave the parameters (prompt, seed, knobs) and the tool's name out of the picture; the mark that it is "
        "generated stays, because EU law requires it; the .json file is still written too",
    )
    prompt: str = _setting("", "prompt to use instead of the style's")
    negative_prompt: str = _setting("", "prompt that guidance steers away from")
    strength: float | None = _setting(
        None, "share of the denoising that is redone, starting from the photo", low=0, high=1, knob=float
    )
    guidance_scale: float | None = _setting(None, "weight of prompt and identity", low=0, high=30, knob=float)
    ip_adapter_scale: float | None = _setting(None, "weight of the identity", low=0, high=3, knob=float)
    controlnet_conditioning_scale: float | None = _setting(
        None, "how much of the photo's structure is held", low=0, high=1, knob=float
    )
    num_inference_steps: int | None = _setting(None, "denoising steps at strength 1", low=1, high=1000, knob=int)
    thresholds: str = _setting("", "a calibration file to use instead of the recipe's")
    curves: str = _setting("", "curves measured by portrait calibrate, to use instead of the recipe's")
    threads: int = _setting(0, "CPU threads, 0 for all cores", low=0, high=1024)
    device: str = _setting(
        "auto",
        "where public models run; auto is a GPU if there is one, and the CPU for mini",
        choices=("auto", "cpu", "cuda", "mps"),
    )
    memory: str = _setting(
        "auto",
        "how much of a public model is on the GPU at once; auto decides by the free memory",
        choices=("auto", "full", "offload", "sequential"),
    )
    dtype: str = _setting(
        "auto",
        "number type that the model computes in; auto is float32 for mini, and for public models the one that they are made "
        "for on a GPU, and bfloat16 on a CPU that has instructions for it",
        choices=("auto", "float32", "bfloat16"),
    )
    base: str = _setting(
        "",
        "another base model for the recipe's family: a .safetensors checkpoint, a diffusers folder, "
        "or a part of the weights manifest",
    )
    lora: tuple[str, ...] = _setting((), "a LoRA and its weight, as FILE.safetensors:0.6; may be given several times")
    commercial: bool = _setting(
        False, "refuse a recipe unless all its parts clearly allow commercial use; judge by SFace and dlib"
    )

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = getattr(self, setting.name)
            for item in value if RULES[setting.name].many else (value,):
                _check(setting, item)
        self.shifted()
        self._check_pixels()

    def _check_pixels(self) -> None:
        """Check that the format can hold what must stay pixel for pixel, or be transparent."""
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

    def shifted(self) -> tuple[float, float]:
        """`shift`, read: (x, y) in shares of the frame's side."""
        return parse_shift(self.shift)

    def backdrop(self) -> Background | None:
        """The parsed `background`; None leaves it as the model drew it."""
        return Background.parse(self.background) if self.background else None

    def keeps(self) -> list[Keep]:
        """The parsed `keep`, without the face, which is always kept."""
        return [keep for keep in map(Keep.parse, dict.fromkeys(self.keep)) if keep.kind != "face"]

    def knobs(self, base: Knobs) -> Knobs:
        """`base` with the knobs that were set explicitly; 0 counts as set."""
        return replace(base, **{name: getattr(self, name) for name in self.fixed_knobs()})

    def chosen(self) -> set[str]:
        """Names of the settings that the caller chose and that not every model supports: knobs and the negative prompt."""
        return self.fixed_knobs() | ({"negative_prompt"} if self.negative_prompt else set())

    def fixed_knobs(self) -> set[str]:
        """Names of the knobs that were set explicitly, which retries must not change."""
        return {name for name in KNOB_SETTINGS if getattr(self, name) is not None}


RULES: dict[str, Rule] = {setting.name: setting.metadata["rule"] for setting in fields(Settings)}
KNOB_SETTINGS = tuple(name for name, rule in RULES.items() if rule.knob)

LOADING = ("recipe", "threads", "device", "memory", "dtype", "base", "lora", "commercial")
"""The settings that decide which models are loaded, and how."""


def setting_names() -> list[str]:
    """Every name that a user may give: the fields of `Settings`, and the flags with a different name."""
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
    """Whether a value is of a type; bool is not a number, and an int is a float too."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, kind) or (kind is float and isinstance(value, int))


def add_flags(parser: argparse.ArgumentParser, defaults: Mapping[str, object] = MappingProxyType({})) -> None:
    """Add a flag for each setting; a flag that is not given stays absent, so that files and defaults apply.

    `defaults` are the command's own, which the help shows instead of those of `Settings`.
    """
    common = parser.add_argument_group("what to make")
    knobs = parser.add_argument_group("knobs, under the names of diffusers (default: from --balance)")
    for setting in fields(Settings):
        rule = RULES[setting.name]
        group = knobs if rule.knob else common
        options = _flag_options(setting, defaults)
        group.add_argument(_flag(setting), **options)
        if rule.flag:  # also accept the name used in records, without showing it in the help
            hidden = {"choices": rule.choices, "help": argparse.SUPPRESS}
            group.add_argument("--" + setting.name.replace("_", "-"), **(options | hidden))


def _flag(setting: Field[Any]) -> str:
    return "--" + (RULES[setting.name].flag or setting.name).replace("_", "-")


def _flag_options(setting: Field[Any], defaults: Mapping[str, object]) -> dict[str, Any]:
    """The options of `add_argument` for a setting; its help names the default."""
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
    """The user's name for a value of a setting."""
    return next((word for word, meaning in RULES[name].words.items() if meaning == value), value)


def flags_of(settings: Settings) -> list[str]:
    """The flags that `add_flags` would read as these settings: the style, and all that differ from the defaults.

    `portrait stylize PHOTO` with these flags makes the same pictures. Join them with `shlex.join`.
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
    """Combine the flags that were given, a TOML file and the defaults, in this order of precedence.

    Raises:
        SettingsError: the file cannot be read, has an unknown key (the message suggests the one that was probably
            meant), or a bad value.
    """
    names = setting_names()
    values = {} if file is None else parse_toml(read_text(file), str(file))
    return Settings(**values_of(values | {name: value for name, value in flags.items() if name in names}, str(file)))


def values_of(table: Mapping[str, object], where: str) -> dict[str, Any]:
    """Convert a table with users' names to fields of `Settings`; `where` says in messages where it comes from.

    Raises:
        SettingsError: an unknown name, or a list of texts with an entry that is not text.
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
