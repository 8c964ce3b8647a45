"""The verdict on a picture, and its measurements, each with its limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from portrait.judge.verdict import KEEP_LIMITS, describe_reason, describe_strangers
from portrait.records.portrait import PortraitRecord
from portrait.studio import strings
from portrait.studio.render import title_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """A measurement with its limit, in words and in numbers.

    `bar` is where both are on a bar, in percent of its length; None if there is none.
    """

    name: str
    words: str
    numbers: str
    is_good: bool
    bar: tuple[float, float] | None = None

    @property
    def tone(self) -> str:
        return "good" if self.is_good else "bad"


def likeness(margin: float) -> str:
    """How far above or below its threshold a judge's score is, in words."""
    return next(words for min_margin, words in strings.LIKENESS if margin >= min_margin)


def verdict_line(record: PortraitRecord) -> tuple[str, str]:
    """One line on whether it looks like the person, and how sure that is; and its tone."""
    if record.accepted:
        return f"{strings.ACCEPTED} · {how_sure(record)}", "good"
    unlike = all(reason.startswith("identity_low") for reason in record.reasons)
    why = "; ".join(describe_reason(reason) for reason in record.reasons)
    return strings.UNLIKE if unlike else strings.REJECTED.format(why=why), "bad"


def how_sure(record: PortraitRecord) -> str:
    """How sure the least certain judge of an accepted picture is, in words."""
    attempt = record.chosen_attempt
    if attempt.strangers:
        share = max(attempt.strangers.values())
        return next(words for limit, words in strings.SURE if share <= limit)
    margin = min((value - record.thresholds[judge].value for judge, value in attempt.similarity.items()), default=0.0)
    return strings.SURE[0 if margin >= strings.LIKENESS[0][0] else -1][1]


def meters(record: PortraitRecord) -> Iterator[Meter]:
    """Likeness by each judge, style, changes of the person, burned-out colors and keeps."""
    attempt, limits = record.chosen_attempt, record.limits
    yield from _likeness_meters(record)
    yield from _style_meters(record)
    shown, least_shown = attempt.features_shown, limits.features_shown
    if shown is not None and least_shown is not None:
        yield _meter(strings.FEATURES, strings.FEATURES_WORDS[shown >= least_shown], shown, least_shown)
    for what, change in attempt.changed.items():
        if what in limits.changed:
            limit = limits.changed[what]
            words = strings.CHANGED_WORDS[abs(change) <= limit]
            yield _meter(strings.CHANGED.get(what, what), words, abs(change), limit, at_most=True, form=".3g")
    words = strings.BURNED_WORDS[attempt.burned <= limits.burned]
    yield _meter(strings.BURNED, words, attempt.burned, limits.burned, at_most=True, form=".1%")
    for name, value in attempt.kept.items():
        yield _kept(name, value, f"broken_keep:{name}" in attempt.reasons)


def _likeness_meters(record: PortraitRecord) -> Iterator[Meter]:
    attempt = record.chosen_attempt
    for judge, similarity in attempt.similarity.items():
        threshold = record.thresholds[judge].value
        words = likeness(similarity - threshold)
        if judge in attempt.strangers:
            words += f": {describe_strangers(attempt.strangers[judge])}"
        yield _meter(strings.JUDGES.get(judge, judge), words, similarity, threshold)


def _style_meters(record: PortraitRecord) -> Iterator[Meter]:
    """How far the face was stylized, and how typical of the style it is, by its statistics or by the style judge."""
    attempt, limits = record.chosen_attempt, record.limits
    style = attempt.style_on_face
    min_style = limits.style_on_face_of_style
    yield _meter(strings.STYLE_ON_FACE, strings.STYLE_WORDS[style >= min_style], style, min_style)
    distance = attempt.style_distance
    max_distance = limits.style_distance
    if distance is not None and max_distance is not None:
        leads = limits.style_lead is None or attempt.style_lead is None or attempt.style_lead >= limits.style_lead
        words = strings.DISTANCE_WORDS[distance <= max_distance and leads]
        yield _meter(title_of(record.style), words, distance, max_distance, at_most=True)
    sure = attempt.style_probability
    least_sure = limits.style_probability
    if sure is not None and least_sure is not None:
        yield _meter(title_of(record.style), strings.DISTANCE_WORDS[sure >= least_sure], sure, least_sure)


def _kept(name: str, value: float, broken: bool) -> Meter:
    """What had to be kept, and whether it was."""
    side, limit = KEEP_LIMITS[name.partition(":")[0]]
    return Meter(
        name=strings.KEPT_LABEL.format(name=name),
        words=strings.BROKEN if broken else strings.KEPT,
        numbers=_numbers(value, limit, side == "at most", "g"),
        is_good=not broken,
    )


def _meter(name: str, words: str, value: float, limit: float, *, at_most: bool = False, form: str = ".2f") -> Meter:
    top = max(2 * limit, value) if at_most else max(1.0, value, limit)
    return Meter(
        name=name,
        words=words,
        numbers=_numbers(value, limit, at_most, form),
        is_good=value <= limit if at_most else value >= limit,
        bar=(100 * max(value, 0.0) / top, 100 * max(limit, 0.0) / top),
    )


def _numbers(value: float, limit: float, at_most: bool, form: str) -> str:
    text = strings.METER_MOST if at_most else strings.METER
    return text.format(value=format(value, form), limit=format(limit, form))
