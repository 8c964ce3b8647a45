"""A worker of a campaign: takes batches of one person and recipe, returns pictures with their records."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, astuple, dataclass, field, fields
from pathlib import Path

from portrait.campaign.keys import Fingerprint
from portrait.campaign.plan import PlannedPicture
from portrait.errors import CampaignError, FaceError, InputError, PortraitError, one_line
from portrait.files import json_sha256
from portrait.images import encode_picture, thumbnail
from portrait.images.decoder_process import DecoderProcess
from portrait.judge.appearance import appearance_features
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.load import LatestLoop, load_loop
from portrait.loop.record import library_versions
from portrait.loop.response import as_table
from portrait.loop.types import StylizedPortrait
from portrait.provenance.files import encode_portrait
from portrait.recipes.recipe import Recipe
from portrait.records import Embedding
from portrait.records.portrait import PortraitRecord
from portrait.settings import Settings

log = logging.getLogger(__name__)

MAX_BEFORE_SIDE = 640
"""For the reports, the framed photo is stored beside the pictures with at most this many pixels per side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItem:
    """One job for a worker. `settings` are complete: they include recipe, style, prompt and seed of this job."""

    id: int
    key: str
    picture: PlannedPicture
    settings: Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoFile:
    """A photo's bytes, so that workers need no access to the driver's disk."""

    path: str
    sha256: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Jobs of one recipe and one person. `weights` are those that the worker's models must have: file -> SHA-256."""

    items: tuple[WorkItem, ...]
    photos: tuple[PhotoFile, ...]
    weights: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorkResult:
    """The result of one item. If `record` is None, nothing could be made, and `failure` says why.

    `fault` is the kind of an error that may be due to the machine or the models, not the photo; `no_face` says that the
    photo could not be used. `encoded` is the picture's file, `before` the framed photo as JPEG, `look` the picture's
    `appearance_features`, `embeddings` and `identity` the judges' embeddings of the picture and of the photos.
    """

    item: WorkItem
    record: PortraitRecord | None = None
    encoded: bytes = b""
    before: bytes = b""
    look: dict[str, float] = field(default_factory=dict)
    embeddings: dict[str, Embedding] = field(default_factory=dict)
    identity: dict[str, Embedding] = field(default_factory=dict)
    failure: str = ""
    fault: str = ""
    no_face: bool = False

    @property
    def attempts(self) -> int:
        return 0 if self.record is None else len(self.record.attempts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """A portrait that is drawn and judged but not encoded yet; `result` can run while the next one is drawn.

    `identity` is what the judges see in the photos; `is_first` marks the first portrait of its batch.
    """

    item: WorkItem
    portrait: StylizedPortrait
    identity: dict[str, Embedding]
    is_first: bool

    @property
    def attempts(self) -> int:
        return len(self.portrait.record.attempts)

    def result(self) -> WorkResult:
        """Encode the portrait and measure its look; an error becomes the item's failure."""
        portrait = self.portrait
        try:
            return WorkResult(
                item=self.item,
                record=portrait.record,
                encoded=encode_portrait(portrait.pixels, self.item.settings.format, portrait.record),
                before=self._before() if self.is_first else b"",
                look=appearance_features(portrait.picture),
                embeddings=portrait.embeddings,
                identity=self.identity,
            )
        except Exception as error:
            return _failed(self.item, error, identity=self.identity)

    def _before(self) -> bytes:
        return encode_picture(thumbnail(self.portrait.before, MAX_BEFORE_SIDE), "jpg", quality=88)


class Worker:
    """Makes pictures; keeps the models of one recipe at a time loaded.

    The decoder of the photos is a process, so that none of them ends or stops the worker; None starts one.
    """

    def __init__(
        self, load: Callable[[Settings], AttemptLoop] = load_loop, decoder: DecoderProcess | None = None
    ) -> None:
        self._models = LatestLoop(load)
        self._decoder = decoder or DecoderProcess()

    def describe(self, settings: Settings, styles: tuple[str, ...]) -> Fingerprint:
        """Load a recipe and return its fingerprint, with the thresholds of these styles."""
        self._decoder.start()
        loop = self._models.get(settings)
        generator = loop.generator
        return Fingerprint(
            values=_fingerprint_values(loop.recipe),
            weights=dict(sorted(loop.digests.items())),
            judges=sorted(loop.judges.names),
            styles={style: _fingerprint_of_style(loop, style, settings) for style in styles},
            environment={
                "threads": generator.threads,
                "dtype": generator.dtype,
                "runtime": generator.runtime,
                "graphs": generator.graphs,
                "machine": platform.machine(),
                "versions": library_versions(),
            },
        )

    def work(self, batch: Batch) -> Iterator[Drawn | WorkResult]:
        """Make a batch, one portrait per item, in order; any error of a photo or portrait is a result.

        Raises:
            CampaignError: this machine's models are not those of the run, or cannot be loaded.
        """
        settings = batch.items[0].settings
        loop = self._checked_loop(settings, batch.weights)
        try:
            photos = [self._decoder.decode(file.data, file.path, name=Path(file.path).name) for file in batch.photos]
            (subject,) = loop.subjects(photos[0], settings.face, photos[1:], upright=settings.upright)
        except Exception as error:
            for item in batch.items:
                yield _failed(item, error, before_any_picture=True)
            return
        identity, is_first = subject.identity.embeddings, True
        for item in batch.items:
            try:
                portrait = loop.stylize(subject, item.picture.style, item.settings)
            except Exception as error:
                yield _failed(item, error, identity=identity)
                continue
            yield Drawn(item=item, portrait=portrait, identity=identity, is_first=is_first)
            is_first = False

    def close(self) -> None:
        self._decoder.stop()

    def _checked_loop(self, settings: Settings, weights: Mapping[str, str]) -> AttemptLoop:
        """The loop, after checking that its models are those of the run."""
        node = platform.node()
        try:
            loop = self._models.get(settings)
        except PortraitError:
            raise
        except Exception as error:
            raise CampaignError(f"{node} cannot load {settings.recipe}: {type(error).__name__}: {error}") from error
        if different := [name for name, digest in weights.items() if loop.digests.get(name) != digest]:
            raise CampaignError(f"{node} has other weights than the run was started with: {', '.join(different)}")
        return loop


def _failed(
    item: WorkItem,
    error: Exception,
    *,
    before_any_picture: bool = False,
    identity: Mapping[str, Embedding] | None = None,
) -> WorkResult:
    """The result of an item that ended with an error."""
    is_photos = isinstance(error, InputError | FaceError)
    if not is_photos:
        log.info("%s: %s", item.picture.stem, error, exc_info=error)
    why = str(error) if isinstance(error, PortraitError) else f"{type(error).__name__}: {one_line(error, 200)}"
    return WorkResult(
        item=item,
        failure=why,
        fault="" if is_photos else type(error).__name__,
        no_face=before_any_picture and is_photos,
        identity=dict(identity or {}),
    )


def _fingerprint_of_style(loop: AttemptLoop, style: str, settings: Settings) -> dict[str, object]:
    """What affects the pictures of one style: its prompt, thresholds and curves."""
    limits, _ = loop.calibrated_thresholds(style, settings)
    drawn = limits.statistics
    return {
        "prompt": loop.recipe.prompt_of(loop.recipe.style(style)),
        "identity": limits.identity,
        **({} if limits.gate is None else {"gate": asdict(limits.gate)}),
        "style_on_face": limits.style_on_face,
        "burned": limits.burned,
        "statistics": ""
        if drawn is None
        else json_sha256([drawn.mean.tolist(), drawn.precision.tolist(), drawn.limit]),
        "curves": json_sha256(as_table(loop.curves(style, settings.curves)).model_dump()),
    }


def _fingerprint_values(recipe: Recipe) -> dict[str, object]:
    """The recipe's values that affect pictures; its files are covered by their digests elsewhere."""
    values: dict[str, object] = {}
    for entry in fields(recipe):
        value = getattr(recipe, entry.name)
        if entry.name == "balance":
            values[entry.name] = [[at, list(astuple(knobs))] for at, knobs in value]
        elif entry.name == "loras":
            values[entry.name] = [[lora.part or Path(lora.path).name, lora.weight] for lora in value]
        elif entry.name == "family":
            values[entry.name] = "sd15" if value == "mini" else value  # the name in keys made by earlier versions
        elif entry.name == "recognizer":
            values["recogniser"] = value  # the same
        elif entry.name not in ("title", "judge") and isinstance(value, str | int | float):
            values[entry.name] = value
    return values
