"""The key of each picture of a campaign: a hash of everything that determines it, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import portrait
from portrait.campaign.plan import PlannedPicture
from portrait.faces.identity import FaceChoice
from portrait.files import json_sha256, read_bytes
from portrait.generate.matte import matte_sha256
from portrait.recipes.override import parse_lora
from portrait.settings import Settings

_NOT_IN_KEYS = (
    "recipe", "style", "variants", "max_seconds", "threads", "device", "memory", "dtype", "thresholds", "curves",
    "base", "background",
)  # fmt: skip
"""Settings that are not part of a job's key as such: the key has them in another form, or they only affect rounding."""
_ADDED_LATER: dict[str, object] = {"upright": "auto", "palette": "", "size": 0, "no_metadata": False}
"""Settings that are not part of a key at their default, so that plans keep the keys from before the settings existed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """The properties of a loaded recipe that affect pictures; they are stored and compared, never interpreted.

    `values` has the recipe's knobs, `weights` the digest of each of its files, and `styles` the prompt, thresholds and
    curves of each style; `environment` is what affects pictures by rounding (threads, dtype, versions).
    """

    values: dict[str, object]
    weights: dict[str, str]
    judges: list[str]
    styles: dict[str, dict[str, object]]
    environment: dict[str, object]

    def recipe(self) -> dict[str, object]:
        """The properties that affect the pictures of every style."""
        return self.values | {"weights": self.weights, "judges": self.judges}


def shared_ingredients(settings: Settings) -> dict[str, object]:
    """What all jobs of a plan share and what affects pixels or verdicts; files are represented by their contents."""
    values: dict[str, object] = {
        name: value
        for name, value in asdict(settings).items()
        if name not in _NOT_IN_KEYS and not (name in _ADDED_LATER and value == _ADDED_LATER[name])
    }
    if settings.shifted() == (0, 0):
        del values["shift"]  # added later, too; 0 can be written in several ways
    values |= _background_ingredients(settings)
    values["keep"] = [f"mask:{_sha256(keep.file)}" if keep.file else keep.name for keep in settings.keeps()]
    values["lora"] = [parse_lora(text)[1] for text in settings.lora]  # the file itself is among the weights
    choice = FaceChoice.parse(settings.face)
    if choice.kind == "like":
        values["face"] = f"like:{_sha256(Path(choice.reference))}"
    return values | {"portrait": portrait.__version__}


def _background_ingredients(settings: Settings) -> dict[str, object]:
    """The background by its content and the matte's digest; empty without a background."""
    values: dict[str, object] = {}
    background = settings.backdrop()
    if background is not None:
        values["background"] = f"file:{_sha256(background.file)}" if background.file else settings.background
    if background is not None or "background" in settings.keep:
        values["matte"] = matte_sha256()
    return values


def _sha256(path: Path) -> str:
    return hashlib.sha256(read_bytes(path)).hexdigest()


def job_key(
    picture: PlannedPicture, shared: Mapping[str, object], fingerprint: Fingerprint, photos: Sequence[str]
) -> str:
    """SHA-256 of everything that determines the picture, and nothing else.

    It includes: portrait's version, the settings, the recipe (knobs, and the digest of each file of weights, including the
    judges', since they choose among the attempts), the style's prompts, thresholds and curves, which retries follow, the
    texts of the axes, the variant, and the bytes of the photos in order. It excludes the person's name and the photo's path,
    on which no pixel depends; and device, memory tier, threads and versions of libraries, which only affect rounding. A run
    keeps the number of threads that it was started with, and warns if the libraries have changed. `photos` are the SHA-256 of
    each photo's bytes.
    """
    ingredients = {
        "shared": shared,
        "recipe": fingerprint.recipe(),
        "style": [picture.style, fingerprint.styles[picture.style]],
        "axes": picture.axes,
        "variant": picture.variant,
        "photos": list(photos),
    }
    return json_sha256(ingredients)


def seed_of(key: str, round_: int = 0) -> int:
    """The first seed of a job, from its key alone; each further round (`campaign retry`) has its own seeds."""
    digest = hashlib.sha256(f"{key}:{round_}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % (2**31 - 10_000)
