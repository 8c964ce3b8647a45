"""A drift report: identity and style in a run, and whether they differ from a baseline."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from portrait.records.portrait import LicenseLink, Score

SCHEMA: Literal[2] = 2
"""Version of the report's JSON. Keys may be added; none is renamed or removed within a version."""

Outcome = Literal["stable", "drifted", "inconclusive"]
JobState = Literal["accepted", "rejected", "failed"]
Measure = Literal["likeness", "style_on_face", "accepted"]
Interval = tuple[float, float]
"""Lower and upper end."""

_KEYS = {
    "schema_version": "schema",
    "selection_free": "quoted",
    "genuine_impostor_gap": "separation",
    "duplicate_identities": "alike",
    "appearance": "look",
    "recognized": "recognised",
    "start": "from",
    "end": "to",
}
"""Fields with a different name in the JSON."""


class Model(BaseModel):
    """Frozen; fields that were not given are not written."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        alias_generator=lambda name: _KEYS.get(name, name),
        validate_by_name=True,
        validate_by_alias=True,
        use_attribute_docstrings=True,
    )

    def dump(self) -> dict[str, object]:
        """The JSON values, with the keys of the file."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    def given(self) -> dict[str, Any]:
        """All fields that were given, by their Python names, in the order of the class."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}

    def items(self) -> list[tuple[str, Any]]:
        """The same, by the keys of the JSON."""
        return [(_KEYS.get(name, name), value) for name, value in self.given().items()]


class Rate(Model):
    """A share of pictures or people, with its 95 % interval."""

    rate: float | None
    """In [0, 1]; null if there is nothing to count."""
    interval: Interval
    count: int
    of: int


class Mean(Model):
    """A mean over pictures, with Student's 95 % interval over people; of one person it is the measure's whole range."""

    mean: float
    interval: Interval
    of: int
    """Pictures."""


class Ratio(Model):
    """A cost per accepted picture, with Fieller's 95 % interval over people, at least as wide as the accept rate makes it."""

    value: float | None
    """Null if nothing was accepted."""
    interval: tuple[float | None, float | None]
    """Null stands for an infinite end."""


class RunInfo(Model):
    """The run that was measured."""

    name: str
    people: int
    """People in the plan."""
    pictures: int
    """Finished jobs."""
    pending: int
    """Unfinished jobs; they are not part of any figure."""
    settled: bool
    """Whether every picture was judged against everybody in the run; false while another process works on it."""
    judges: tuple[str, ...]
    """Recognizers; the first also conditions the pictures."""
    conditions: dict[str, str] = {}
    """Settings, weights, versions, judges, limits and device that the pictures were made and judged with."""


class NotAcquired(Model):
    """A person whose photo could not be used."""

    subject: str
    why: str


class AcquisitionFailures(Rate):
    """People whose photo could not be used."""

    people: tuple[NotAcquired, ...]


class Likeness(Model):
    """Three views of a judge's similarity to the photo."""

    selection_free: Mean
    """Of the attempt that the other judges alone would have chosen: free of selection bias (the winner's curse)."""
    first: Mean
    """Of the first attempt."""
    delivered: Mean
    """Of the delivered picture: biased upward by its selection."""
    threshold: float | None
    """Smallest accepted similarity; null if styles differ."""


class Summary(Model):
    """Rates and means of some pictures. Fields after `failed` are absent if no picture was judged."""

    people: int
    """With at least one judged picture."""
    pictures: int
    """Judged pictures."""
    not_acquired: int
    """Jobs without a picture because of the photo; not part of any rate."""
    failed: int
    """Jobs without a picture although the photo was usable; not part of any rate."""
    accepted: Rate | None = None
    """Accepted in the end; Wilson's interval with the effective sample size over people."""
    first_attempt_accepted: Rate | None = None
    no_face_in_portrait: Rate | None = None
    """Portraits in which no face was detected."""
    attempts: int | None = None
    """For all of these pictures, in all rounds."""
    attempts_per_accepted: Ratio | None = None
    seconds_per_accepted: Ratio | None = None
    """Seconds of compute."""
    likeness: dict[str, Likeness] = {}
    """By judge."""
    style_on_face: Mean | None = None
    """How differently the delivered face is drawn, in [0, 1]."""
    reasons: dict[str, int] = {}
    """Reason code -> number of rejected pictures with it, the most frequent first."""


class _OfStyle(Model):
    recipe: str
    style: str


class StyleSummary(Summary, _OfStyle):
    """The pictures of one recipe and style."""


class _OfGroup(Model):
    group: str
    acquired_of: int
    """People of the group in the plan."""


class GroupSummary(Summary, _OfGroup):
    """The pictures of one group of people; small groups are merged."""


class Histogram(Model):
    """Counts in equal bins from `start` to `end`; not in the CSV."""

    start: float
    end: float
    counts: tuple[int, ...]


class VerificationEntry(_OfStyle):
    """Portraits against photos, of one recipe and style by one judge."""

    judge: str
    threshold: float
    genuine_pairs: int
    """Portrait and photo of the same person."""
    impostor_pairs: int
    """Portrait and another person's photo."""
    genuine_mean: float
    impostor_mean: float
    eer: float
    """Equal error rate."""
    far_at_threshold: float
    """Share of impostor pairs that pass this judge."""
    far_interval: Interval | None
    """95 %, resampling people; null with fewer than three."""
    det: tuple[tuple[float, float, float], ...]
    """Threshold, false accept rate, false reject rate; not in the CSV."""
    genuine: Histogram
    impostor: Histogram


class DuplicateIdentity(Model):
    """Two names whose photos every judge takes for the same person; their portraits are not judged against each other."""

    subjects: tuple[str, str]
    similarity: dict[str, float]
    """Judge -> cosine of the photos."""


class StyleConsistency(_OfStyle):
    """How similar the pictures of one recipe and style look."""

    pictures: int
    limit: float
    """A picture further from the center of the style than this is odd."""
    odd: int
    """Odd pictures."""
    recognized: Rate | None
    """Pictures closer to the center of their own style than of any other."""
    spread: float | None
    """Ratio of the mean distances within the style and between styles."""


class PairSimilarity(Model):
    """Over the pairs of a person's portraits."""

    mean: float
    least: float


class PictureReference(_OfStyle):
    """Identifies one picture of a person."""

    variant: int
    output: str | None


class PersonConsistency(Model):
    """Whether a person's portraits show one person."""

    subject: str
    pictures: int
    likeness: dict[str, PairSimilarity]
    """By judge."""
    same: bool
    """No pair below a limit."""
    odd_one_out: PictureReference
    """The portrait that matches the others and the photo least."""


class SamePerson(Model):
    """Whether each person is recognizable as the same across all styles."""

    limits: dict[str, float | None]
    """Judge -> similarity reached by 1 in 100 pairs of different people's portraits; null with too few pairs."""
    same: Rate | None
    """People for whom no pair of portraits falls below a limit."""
    people: tuple[PersonConsistency, ...]
    """The least similar first."""


class Unpaired(Model):
    """Who and what is not compared."""

    only_current: int
    """People."""
    only_baseline: int
    """People."""
    other_photo: tuple[str, ...]
    exchanged: tuple[tuple[str, str], ...] = ()
    """Photos under another name: name in this run, name in the baseline; absent if there are none."""
    renamed: tuple[tuple[str, str], ...] = ()
    """The same for people of whom only the name differs."""
    no_longer_acquired: tuple[str, ...]
    newly_acquired: tuple[str, ...]
    pictures_only_baseline: int
    """Pictures of people in both runs that only the baseline has."""
    styles_only_baseline: tuple[str, ...]
    """Styles without pictures in both runs."""
    failed_current: int
    """Pictures that failed in this run although the photo was usable."""
    failed_baseline: int
    pending_current: int
    """Unfinished jobs of this run."""
    pending_baseline: int


class ComparisonRow(Model):
    """One measure, over all styles or in one."""

    measure: Measure
    judge: str | None
    """Of likeness."""
    style: str | None
    """Null for all styles together."""
    tolerance: float
    """In the measure's own unit."""
    baseline: float
    current: float
    difference: float
    """Current minus baseline, mean over people."""
    interval: Interval
    """95 %, simultaneous over all rows."""
    people: int
    detectable: float
    """The smallest true difference that would be called drifted with a probability of 80 %."""
    verdict: Outcome


class Comparison(Model):
    """This run against a baseline, person by person."""

    baseline: str
    people: int
    """In both runs with the same photo."""
    pairs: int
    """Pictures in each run."""
    not_paired: Unpaired
    tolerance: float
    """The smallest difference that matters, as a share."""
    rows: tuple[ComparisonRow, ...]
    differing_conditions: tuple[str, ...] = ()
    """Descriptions of differing conditions that both runs name, and of weights that only one of them has."""


class PowerRow(Model):
    """What the sample could have shown for one measure."""

    measure: Measure
    judge: str | None
    style: str | None
    detectable: float
    tolerance: float


class Power(Model):
    """What the sample could have shown."""

    people: int
    rows: tuple[PowerRow, ...]


class Verdict(Model):
    """Of the comparison."""

    verdict: Outcome
    why: str
    """A sentence."""
    power: Power | None
    """Null with too few people."""


class ReportPerson(Model):
    """A person in the plan."""

    subject: str
    columns: dict[str, str]
    """From the subjects' table."""
    failure: str | None
    """Why the photo could not be used."""


class AttemptScores(Model):
    """The judges' scores of one attempt."""

    accepted: bool
    """By every judge and check."""
    face_found: bool
    similarity: dict[str, Score]
    """Judge -> cosine."""
    style_on_face: Score
    """In [0, 1]."""
    burned: float | None = None
    """Share of pixels."""
    reasons: tuple[str, ...]


class Appearance(Model):
    """How far a picture is from the center of its style."""

    distance: float
    """In robust deviations."""
    odd: bool
    why: str | None = None
    """The most deviating statistic of an odd picture, in words."""


class NearestOther(Model):
    """The other person in the run whom a portrait resembles most."""

    subject: str
    margin: float
    """How much more than the right person, the smallest over the judges; above 0, every judge takes it for that person."""


class ReportJob(Model):
    """A finished job, with everything that a later comparison needs."""

    subject: str
    recipe: str
    style: str
    axes: dict[str, str]
    """Axis -> text."""
    variant: int
    """From 0."""
    photo: str
    """SHA-256."""
    state: JobState
    reasons: tuple[str, ...]
    attempts: int
    """Of all rounds."""
    seconds: float
    """Of compute."""
    output: str | None
    """File, below the run's folder."""
    first: AttemptScores | None
    """Null if nothing was judged, as are `delivered` and `seed`."""
    selection_free: dict[str, Score]
    """Judge -> similarity of the attempt that the other judges alone would have chosen."""
    delivered: AttemptScores | None
    thresholds: dict[str, float]
    """Judge -> smallest accepted similarity."""
    seed: int | None
    pixels_sha256: str | None = None
    """SHA-256 of the delivered picture's pixels."""
    appearance: Appearance | None = None
    nearest: NearestOther | None = None


class DriftReport(Model):
    """The measurements of `portrait drift` on a run."""

    schema_version: Literal[2]
    portrait: str
    """Version of the program."""
    created: str
    """ISO 8601, UTC."""
    run: RunInfo
    far: float | None
    """False accept rate of every threshold; null if they differ."""
    licenses: tuple[LicenseLink, ...]
    failure_to_acquire: AcquisitionFailures
    overall: Summary
    styles: tuple[StyleSummary, ...]
    groups: dict[str, tuple[GroupSummary, ...]]
    """By column of the subjects' table."""
    columns_not_shown: tuple[str, ...]
    """Columns of the subjects' table without two groups of enough people."""
    verification: tuple[VerificationEntry, ...]
    """Empty without embeddings."""
    genuine_impostor_gap: dict[str, Score]
    """Judge -> genuine mean minus impostor mean over all pictures."""
    duplicate_identities: tuple[DuplicateIdentity, ...]
    consistency: tuple[StyleConsistency, ...]
    same_person: SamePerson | None
    """Null without embeddings."""
    comparison: Comparison | None
    """Null without a baseline, as is `verdict`."""
    verdict: Verdict | None
    people: tuple[ReportPerson, ...]
    jobs: tuple[ReportJob, ...]


class CsvRow(Model):
    """A row of the CSV, which has every number of the report except points of curves and bins of histograms."""

    section: str
    """run, failure_to_acquire, overall, style, group, verification, separation, alike, consistency, same_person,
    comparison, verdict or picture: the JSON key that it comes from."""
    recipe: str = ""
    """Empty for all together."""
    style: str = ""
    """Empty for all together."""
    column: str = ""
    """The column of the subjects' table in section group; subject if `group` is a person."""
    group: str = ""
    """The value in that column, or the person's name."""
    measure: str = ""
    """Path of keys below the section, joined by dots, as in likeness.dlib.quoted. For a picture, /TEXT of each axis and
    /VARIANT from 1 follow; the measures of its delivered attempt omit `similarity`."""
    value: float | str | None = None
    """Rate, mean, number, 1 or 0 for yes and no; a word for verdicts; the number of names for lists of people."""
    low: float | None = None
    """Lower end of the interval."""
    high: float | None = None
    """Upper end of the interval."""
    count: int | None = None
    """The count of a rate."""
    of: int | None = None
    """The number of pictures or people."""
