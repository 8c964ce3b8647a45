"""The record of one portrait: what was requested, what was tried, what the judges measured, and the result.

`portrait stylize --json` prints one record per line, and the same JSON is written beside each picture. Later versions may
add keys but never rename one: `read_record` accepts unknown keys, and only keys listed here are written.
"""

from __future__ import annotations

import json
from enum import StrEnum
from operator import not_
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    WrapSerializer,
    model_validator,
)

from portrait.errors import SettingsError
from portrait.file_model import first_problem
from portrait.records.knobs import Knobs
from portrait.records.reasons import Reason
from portrait.settings import RULES, Settings


def _rounded(digits: int) -> AfterValidator:
    """Rounds on construction, so that a record in memory equals the written one."""
    return AfterValidator(lambda value: round(value, digits))


def _absent(value: object) -> bool:
    """Whether a key is left out of the JSON because there is no value."""
    return value is None or value in ("", (), {})


def _is_torch(runtime: str) -> bool:
    """Whether a key is left out of the JSON because torch is what is meant without it."""
    return runtime == "torch"


def _known_settings(value: object) -> object:
    """Drop the settings of later versions."""
    return {key: value[key] for key in value if key in RULES} if isinstance(value, dict) else value


_LATER = {"dtype": "auto", "shift": "0,0"}
"""Later settings and their defaults, which are not written, so that older records are written as they were."""


def _without_later(settings: Settings, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
    """Drop the settings of `_LATER` that nobody chose."""
    values: dict[str, Any] = write(settings)
    return {name: value for name, value in values.items() if (name, value) not in _LATER.items()}


Rounded2 = Annotated[float, _rounded(2)]
Rounded3 = Annotated[float, _rounded(3)]
Rounded4 = Annotated[float, _rounded(4)]
Rounded5 = Annotated[float, _rounded(5)]
Score = Annotated[float, Field(ge=-10, le=10)]
"""A cosine, a share or a difference of them, which are about 1 at most: a larger number is none."""
Point = tuple[Rounded2, Rounded2]
"""(x, y) in pixels of the photo."""


Seed = Annotated[int, Field(ge=0, lt=2**40)]


class Status(StrEnum):
    """The outcome of a portrait."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    FAILED = "failed"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FaceRecord(_Record):
    """The face that was chosen: `index` from the left, `bbox` (x1, y1, x2, y2) and five `kps` in pixels of the photo."""

    index: int
    bbox: tuple[Rounded2, Rounded2, Rounded2, Rounded2]
    kps: tuple[Point, ...]
    det_score: Rounded4


class FileRecord(_Record):
    """A file that was read, and the SHA-256 of its bytes, or of the pixels if there was no file."""

    path: str
    sha256: str


class InputRecord(FileRecord):
    """The photo, and the other files that were read."""

    face: FaceRecord
    """In the photo after it was turned."""
    references: tuple[FileRecord, ...] = ()
    """Further photos of the same person."""
    masks: tuple[FileRecord, ...] = ()
    """The mask files of keeps."""
    notes: tuple[str, ...] = Field(default=(), exclude_if=_absent)
    """What decoding did beyond the usual, such as tone-mapping HDR, and by which method."""
    turned: int = Field(default=0, ge=0, le=270, multiple_of=90, exclude_if=not_)
    """Degrees clockwise by which the photo was turned to put its faces upright."""
    warnings: tuple[str, ...] = Field(default=(), exclude_if=_absent)
    """What may make the face hard to keep."""


class JudgeThreshold(_Record):
    """The smallest cosine similarity that a judge accepts, and the corresponding false accept rate."""

    value: Rounded4
    far: float


class GateRecord(_Record):
    """The joint limit of all judges; their own thresholds are then its floors."""

    weights: dict[str, float]
    """Judge -> weight of its similarity."""
    offset: float
    """Added to the weighted sum, which is then a log-likelihood ratio in nats."""
    least: float
    """The smallest accepted ratio."""
    far: float
    """False accept rate of the whole gate."""


class Limits(_Record):
    """The limits of the other checks."""

    style_on_face: float
    """Minimum, as a share: above the values of copies of the photo."""
    style_on_face_of_style: Rounded4
    """Minimum, as a share: reached by the style's own pictures."""
    burned: float
    """Maximum, as a share of the pixels."""
    style_distance: Rounded3 | None
    """Maximum, in deviations of the style's own faces; None if the style was not calibrated."""
    style_lead: Rounded3 | None = Field(default=None, exclude_if=_absent)
    """Minimum, in nats, by which the style must be more probable than any other; None if not calibrated."""
    style_probability: Rounded4 | None = Field(default=None, exclude_if=_absent)
    """Minimum probability of the style by the style judge; None for weights without one."""
    features_shown: Rounded4 | None = Field(default=None, exclude_if=_absent)
    """Minimum correlation with the photo's eyes and mouth; None if not calibrated."""
    changed: dict[str, Rounded4] = Field(default_factory=dict, exclude_if=_absent)
    """Maximum, either way: `skin` in units of CIE L, `expression` in inter-eye distances."""
    styles_not_told_apart: dict[str, float]
    """Other style -> the share of its pictures that this style's check lets through."""
    kept: dict[str, float]
    """Name of a keep -> its limit, as in `judge.verdict.KEEP_LIMITS`."""


class Forecast(_Record):
    """The policy's expectation for an attempt: the chance to be accepted, and `style_on_face`."""

    accepted: float
    style_on_face: float


class AttemptRecord(_Record):
    """One generated picture and its measurements."""

    knobs: Knobs
    seed: int
    similarity: dict[str, Annotated[Score, _rounded(4)]]
    """Judge -> cosine similarity to the person."""
    style_on_face: Annotated[Score, _rounded(4)]
    """Share of the face's structure that is redrawn."""
    face_found: bool
    accepted: bool
    reasons: tuple[Reason, ...]
    """Why it was rejected."""
    seconds: Annotated[float, Field(ge=0, le=1e9), _rounded(3)]
    kept: dict[str, Rounded4]
    """Name of a keep -> its measure, in the unit of its limit."""
    forecast: Forecast
    burned: Rounded5
    """Share of the pixels that are clipped."""
    swap: Rounded4 | None = Field(default=None, exclude_if=_absent)
    """How much more similar another person is, in cosine similarity; None if nobody else is known."""
    style_distance: Rounded3 | None = Field(default=None, exclude_if=_absent)
    """How far the face is from the style's own, in deviations; None if the style was not calibrated."""
    style_lead: Rounded3 | None = Field(default=None, exclude_if=_absent)
    """How many nats the style is more probable than any other; None if not calibrated."""
    style_probability: Rounded4 | None = Field(default=None, exclude_if=_absent)
    """The style judge's probability of the style; None for weights without one."""
    features_shown: Rounded4 | None = Field(default=None, exclude_if=_absent)
    """Correlation with the photo's eyes and mouth."""
    changed: dict[str, Rounded4] = Field(default_factory=dict, exclude_if=_absent)
    """`skin`: units of CIE L by which it is lighter than the style would make it; `expression`: inter-eye distances by which the
    lower lip is lower."""
    evidence: Rounded4 | None = Field(default=None, exclude_if=_absent)
    """The evidence of all judges together, in nats; None if they were not calibrated together."""
    strangers: dict[str, Rounded5] = Field(default_factory=dict, exclude_if=_absent)
    """Judge -> share of strangers who would be as similar, for judges for which it was measured."""
    batch: tuple[Seed, ...] = Field(min_length=1, max_length=64)
    """The seeds of the batch, including this one."""


class LicenseLink(_Record):
    """The license of one part of the chain; `commercial` is yes, no, conditional or unknown."""

    part: str
    license: str
    commercial: str


class PolicyRecord(_Record):
    """How the knobs were chosen: `until` as in `Settings`, from measured curves or guesses, and why no more was tried."""

    until: str
    prior: str
    ended: str


class PictureRecord(_Record):
    """The delivered picture: SHA-256 of its pixels, and (width, height)."""

    pixels_sha256: str
    size: tuple[int, int]


class BackgroundRecord(_Record):
    """The background that was applied: `kind` and `value` as in `Background`, SHA-256 of the file and of the matte network."""

    kind: str
    value: str
    sha256: str = Field(default="", exclude_if=_absent)
    matte: str


class SwappedRecord(_Record):
    """Another person of the campaign whom every judge finds more alike, by `margin` of cosine similarity."""

    subject: str
    margin: float


class CampaignInfo(_Record):
    """The job of a campaign that a portrait belongs to.

    `round` counts the retries.
    `swapped` is set at the end of the whole run, if the portrait resembles another person of the campaign more.
    """

    key: str
    subject: str
    variant: int
    axes: dict[str, str]
    round: int
    swapped: SwappedRecord | None = Field(default=None, exclude_if=_absent)


class _AnyRecord(_Record):
    """The common base of portraits' and failures' records: both are written as JSON in the same way."""

    version: Literal[1] = 1

    def to_json(self, indent: int | None = None) -> str:
        """The JSON text, byte for byte as Python's `json.dumps` writes it."""
        return json.dumps(self.model_dump(mode="json"), indent=indent)

    def file_bytes(self) -> bytes:
        """The content of the file beside the picture."""
        return (self.to_json(indent=1) + "\n").encode()


class FailedInput(_Record):
    """The photo of a failure."""

    path: str


class FailureRecord(_AnyRecord):
    """A photo that could not be stylized: `reasons` holds the error's message."""

    status: Literal[Status.FAILED] = Status.FAILED
    reasons: tuple[str, ...]
    output: None = None
    input: FailedInput
    recipe: str = Field(default="", exclude_if=_absent)
    licenses: tuple[LicenseLink, ...] = Field(default=(), exclude_if=_absent)


class PortraitRecord(_AnyRecord):
    """One portrait, accepted or rejected: everything known about the picture, and enough to make it again."""

    status: Literal[Status.ACCEPTED, Status.REJECTED]
    reasons: tuple[Reason, ...]
    """Why it was rejected."""
    output: str | None = None
    """Where the picture was written."""
    input: InputRecord
    recipe: str
    style: str
    prompt: str
    negative_prompt: str
    balance: float = Field(ge=0, le=1)
    seed: int
    """The seed of the delivered attempt; the requested one is in `settings`."""
    variant: int
    frame: str
    box: tuple[int, int, int]
    """(left, top, side) of the square that was drawn, in pixels of the photo."""
    size: tuple[int, int]
    """(width, height) of the drawn square."""
    thresholds: dict[str, JudgeThreshold]
    gate: GateRecord | None = Field(default=None, exclude_if=_absent)
    limits: Limits
    kept_share: dict[str, Rounded4]
    """Name of a keep -> the share of the square that it preserves."""
    attempts: tuple[AttemptRecord, ...] = Field(min_length=1)
    chosen: int
    """Index of the delivered attempt."""
    seconds: Rounded3
    settings: Annotated[Settings, BeforeValidator(_known_settings), WrapSerializer(_without_later)]
    weights: dict[str, str]
    """File -> SHA-256 of every model involved."""
    licenses: tuple[LicenseLink, ...]
    threads: int
    device: str
    memory_tier: str
    dtype: str
    runtime: str = Field(default="torch", exclude_if=_is_torch)
    """torch or onnxruntime; older records, all made in torch, have no such key."""
    sampler: str
    versions: dict[str, str]
    policy: PolicyRecord
    provisional_thresholds: str = Field(default="", exclude_if=_absent)
    """Why the thresholds are not the recipe's own."""
    warnings: tuple[str, ...] = Field(default=(), exclude_if=_absent)
    """Warnings about unused parts of the prompts and of the model's files."""
    unwritten: tuple[str, ...] = Field(default=(), exclude_if=_absent)
    """Why files beside the picture could not be written; only in what `--json` prints."""
    picture: PictureRecord
    background: BackgroundRecord | None = Field(default=None, exclude_if=_absent)
    campaign: CampaignInfo | None = Field(default=None, exclude_if=_absent)

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        """Check that all references within the record exist, so that readers can rely on them."""
        if not 0 <= self.chosen < len(self.attempts):
            raise ValueError(f"chosen {self.chosen} is none of {len(self.attempts)} attempts")
        for attempt in self.attempts:
            if attempt.similarity.keys() != self.thresholds.keys():
                raise ValueError(f"judges {list(attempt.similarity)} are not those of the thresholds")
            if attempt.seed not in attempt.batch:
                raise ValueError(f"seed {attempt.seed} is not in its batch")
            if not attempt.kept.keys() <= self.limits.kept.keys():
                raise ValueError(f"kept {list(attempt.kept)} has no limits")
        return self

    @property
    def accepted(self) -> bool:
        """Whether the delivered picture passed every check."""
        return self.status == Status.ACCEPTED

    @property
    def chosen_attempt(self) -> AttemptRecord:
        """The attempt that was delivered."""
        return self.attempts[self.chosen]

    @property
    def far(self) -> float:
        """The requested false accept rate: of the gate if there is one, else of each judge."""
        return next(iter(self.thresholds.values())).far

    def with_input_path(self, path: str) -> Self:
        """The same record with another name for the photo."""
        return self.model_copy(update={"input": self.input.model_copy(update={"path": path})})

    def parameters_text(self) -> str:
        """The `parameters` text in the format of AUTOMATIC1111's web UI, which other tools read."""
        attempt = self.chosen_attempt
        lines = [self.prompt]
        if self.negative_prompt:
            lines.append(f"Negative prompt: {self.negative_prompt}")
        values = {
            "Steps": attempt.knobs.num_inference_steps,
            "Sampler": self.sampler,
            "CFG scale": attempt.knobs.guidance_scale,
            "Seed": attempt.seed,
            "Size": "x".join(map(str, self.picture.size)),
            "Model": self.recipe,
            "Denoising strength": attempt.knobs.strength,
            "IP-Adapter scale": attempt.knobs.ip_adapter_scale,
            "Style": self.style,
            "Version": f"portrait {self.versions['portrait']}",
        }
        return "\n".join([*lines, ", ".join(f"{key}: {value}" for key, value in values.items())])


_RECORD: TypeAdapter[PortraitRecord | FailureRecord] = TypeAdapter(
    Annotated[PortraitRecord | FailureRecord, Field(discriminator="status")]
)


def read_record(text: str | bytes, source: object = "this") -> PortraitRecord | FailureRecord:
    """Read a record's JSON, called `source` in errors. Keys of later versions are accepted, but not written again.

    Raises:
        SettingsError: it is not a record; the message says where it deviates.
    """
    try:
        return _RECORD.validate_json(text, extra="allow")
    except ValidationError as error:
        why = first_problem(error, set(Status))
    except SettingsError as error:  # a setting is out of range
        why = str(error)
    raise SettingsError(f"{source} is not a record of portrait: {why[:200]}")


def read_portrait(text: str | bytes, source: object = "this") -> PortraitRecord:
    """Read the record of a picture, see `read_record`.

    Raises:
        SettingsError: it is not a record, or is that of a failure.
    """
    record = read_record(text, source)
    if isinstance(record, FailureRecord):
        raise SettingsError(f"{source} is the record of a failure; nothing was made")
    return record
