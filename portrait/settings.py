"""`Settings`: the one list of what a caller may choose. Flags, TOML files and records are made from it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from portrait.errors import SettingsError
from portrait.records import Keep, Knobs
from portrait.validation import check_names, parse_toml, read_text


def _setting(
    default: Any, text: str, kind: type, *, low: float | None = None, high: float | None = None, **more: Any
) -> Any:
    return field(default=default, metadata={"help": text, "kind": kind, "low": low, "high": high, **more})


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
    seed: int = _setting(1, "first seed; the same seed gives the same picture", int, low=0, high=2**31)
    frame: str = _setting(
        "bust",
        "head, bust, or full: a bust that is set back into the whole photo",
        str,
        choices=("head", "bust", "full"),
    )
    face: str = _setting(
        "auto",
        "which face is meant: auto (refuses to guess between faces of similar size), largest, each, "
        "an index from the left such as 0, or like:REFERENCE.jpg",
        str,
    )
    keep: tuple[str, ...] = _setting(
        (),
        "what must stay besides the face, may be given several times: pose, composition, colors, background, "
        "region:x,y,width,height in pixels of the photo, mask:FILE (white stays)",
        str,
        many=True,
    )
    far: float = _setting(0.01, "accept a picture at this false accept rate of other people", float, low=0, high=1)
    max_attempts: int = _setting(4, "give up after so many pictures", int, low=1, high=1000)
    max_seconds: float = _setting(120.0, "start no further attempt after so many seconds", float, low=0, high=86400)
    until: str = _setting(
        "accepted",
        "accepted: stop at the first accepted picture; best: use the budget for a more stylized one "
        "for as long as one is to be expected",
        str,
        choices=("accepted", "best"),
    )
    batch: int = _setting(1, "attempts that are made at once", int, low=1, high=64)
    format: str = _setting("png", "png, jpg or webp", str, choices=("png", "jpg", "webp"))
    prompt: str = _setting("", "text in place of the style's own", str)
    negative_prompt: str = _setting("", "text that guidance moves away from", str)
    strength: float | None = _setting(None, "share of the denoising that is done anew", float, low=0, high=1, knob=True)
    guidance_scale: float | None = _setting(None, "weight of prompt and identity", float, low=0, high=30, knob=True)
    ip_adapter_scale: float | None = _setting(None, "weight of the identity", float, low=0, high=3, knob=True)
    controlnet_conditioning_scale: float | None = _setting(
        None, "how much of the photo's structure is held", float, low=0, high=1, knob=True
    )
    num_inference_steps: int | None = _setting(None, "denoising steps at strength 1", int, low=1, high=1000, knob=True)
    thresholds: str = _setting("", "a calibration file in place of the recipe's own", str)
    curves: str = _setting("", "a file of portrait curves in place of the recipe's own", str)
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
        False, "refuse a recipe of which any part does not plainly allow commercial use; judge with dlib alone", bool
    )

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            for item in value if f.metadata.get("many") else (value,):
                _check(f.name, item, f.metadata)
        exact = [k.kind for k in self.keeps() if k.kind in ("background", "region", "mask")]
        if exact and self.format != "png":
            raise SettingsError(f"keep {exact[0]} needs format png: {self.format} changes every pixel")

    def keeps(self) -> list[Keep]:
        """`keep`, read; without the face, which always stays."""
        return [keep for keep in map(Keep.parse, dict.fromkeys(self.keep)) if keep.kind != "face"]

    def knobs(self, base: Knobs) -> Knobs:
        """`base` with the knobs that were set explicitly; 0 counts as set."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.metadata.get("knob")}
        return replace(base, **{name: value for name, value in own.items() if value is not None})

    def fixed_knobs(self) -> set[str]:
        """Names of the knobs that were set explicitly, which no retry may move."""
        return {f.name for f in fields(self) if f.metadata.get("knob") and getattr(self, f.name) is not None}


def _check(name: str, value: Any, rule: Mapping[str, Any]) -> None:
    if value is None and rule.get("knob"):
        return
    kind, low, high = rule["kind"], rule["low"], rule["high"]
    fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise SettingsError(f"{name} must be {kind.__name__}, got {value!r}")
    if low is not None and not low <= value <= high:
        raise SettingsError(f"{name} {value} is outside {low} to {high}")
    if rule.get("choices") and value not in rule["choices"]:
        raise SettingsError(f"{name} {value!r} is not one of: {', '.join(rule['choices'])}")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag per setting; a flag that is not given stays absent, so that files and defaults count."""
    common = parser.add_argument_group("what to make")
    knobs = parser.add_argument_group("knobs, under the names of diffusers (default: from --balance)")
    for f in fields(Settings):
        rule = f.metadata
        if rule["kind"] is bool:
            flag = "--" + f.name.replace("_", "-")
            common.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=rule["help"])
            continue
        default: Any = f.default
        shown = " ".join(default) if rule.get("many") else default
        text = rule["help"] if rule.get("knob") or shown in ("", 0) else f"{rule['help']} (default: {shown})"
        (knobs if rule.get("knob") else common).add_argument(
            "--" + f.name.replace("_", "-"),
            dest=f.name,
            type=rule["kind"],
            action="append" if rule.get("many") else "store",
            choices=rule.get("choices"),
            default=argparse.SUPPRESS,
            help=text.replace("%", "%%"),
            metavar=None if rule.get("choices") else {int: "N", float: "X", str: "TEXT"}[rule["kind"]],
        )


def flags_of(settings: Settings) -> list[str]:
    """The flags that `add_flags` reads as these settings: style, and whatever is not the default.

    `portrait stylize PHOTO` with them makes the same pictures; for `shlex.join`.
    """
    found: list[str] = []
    for f in fields(Settings):
        value, flag = getattr(settings, f.name), "--" + f.name.replace("_", "-")
        if value == f.default and f.name != "style":
            continue
        if f.metadata["kind"] is bool:
            found.append(flag)
            continue
        for item in value if f.metadata.get("many") else (value,):
            text = repr(item) if isinstance(item, float) else str(item)
            found += [f"{flag}={text}"] if text.startswith("-") else [flag, text]
    return found


def settings_from(flags: Mapping[str, Any], file: Path | None = None) -> Settings:
    """Flag over file over default.

    Args:
        flags: Parsed flags; only those that were given.
        file: A TOML file whose keys are the settings' names.

    Raises:
        SettingsError: the file cannot be read, an unknown key (says which was probably meant), a bad value.
    """
    known = {f.name for f in fields(Settings)}
    values: dict[str, Any] = {}
    if file is not None:
        values = parse_toml(read_text(file), str(file))
    check_names(values, str(file), known)
    values |= {key: value for key, value in flags.items() if key in known}
    for name in ("style", "keep", "lora"):
        if isinstance(values.get(name), str):
            values[name] = (values[name],)
        if name in values:
            if not isinstance(values[name], list | tuple) or (name == "style" and not values[name]):
                raise SettingsError(f"{name} must be one or more texts, got {values[name]!r}")
            values[name] = tuple(values[name])
    return Settings(**values)
