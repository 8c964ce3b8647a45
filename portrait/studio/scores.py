"""The verdict and the measurements of a picture as HTML, each with its limit."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from portrait.judge.verdict import KEEP_LIMITS, describe_reason, describe_strangers
from portrait.records.portrait import PortraitRecord
from portrait.studio import strings
from portrait.studio.controls import title_of


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


def measurements_html(record: PortraitRecord) -> str:
    """Likeness by each judge, style, burned-out colors and keeps, each with its limit."""
    attempt = record.chosen_attempt
    rows = [*_likeness_meters(record), *_style_meters(record)]
    features_shown, least_shown = attempt.features_shown, record.limits.features_shown
    if features_shown is not None and least_shown is not None:
        rows.append(
            _meter(strings.FEATURES, strings.FEATURES_WORDS[features_shown >= least_shown], features_shown, least_shown)
        )
    for what, change in attempt.changed.items():
        if what in record.limits.changed:
            limit = record.limits.changed[what]
            words = strings.CHANGED_WORDS[abs(change) <= limit]
            label = strings.CHANGED.get(what, what)
            rows.append(_meter(label, words, abs(change), limit, at_most=True, form=".3g"))
    max_burned = record.limits.burned
    words = strings.BURNED_WORDS[attempt.burned <= max_burned]
    rows.append(_meter(strings.BURNED, words, attempt.burned, max_burned, at_most=True, form=".1%"))
    rows += [_kept(name, value, f"broken_keep:{name}" in attempt.reasons) for name, value in attempt.kept.items()]
    return "".join(rows)


def _likeness_meters(record: PortraitRecord) -> Iterator[str]:
    attempt = record.chosen_attempt
    for judge, similarity in attempt.similarity.items():
        threshold = record.thresholds[judge].value
        words = likeness(similarity - threshold)
        if judge in attempt.strangers:
            words += f": {describe_strangers(attempt.strangers[judge])}"
        yield _meter(strings.JUDGES.get(judge, judge), words, similarity, threshold)


def _style_meters(record: PortraitRecord) -> Iterator[str]:
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


def _kept(name: str, value: float, broken: bool) -> str:
    """What had to be kept, and whether it was."""
    side, limit = KEEP_LIMITS[name.partition(":")[0]]
    label = escape(strings.KEPT_LABEL.format(name=name))
    tone = "bad" if broken else "good"
    words = strings.BROKEN if broken else strings.KEPT
    numbers = _numbers(value, limit, side == "at most", "g")
    return f'<div class="meter"><dt>{label}<span>{numbers}</span></dt><dd><b class="{tone}">{words}</b></dd></div>'


def _meter(name: str, words: str, value: float, limit: float, *, at_most: bool = False, form: str = ".2f") -> str:
    """A measurement and its limit: in words, in numbers, and as a bar with a mark."""
    top = max(2 * limit, value) if at_most else max(1.0, value, limit)
    tone = "good" if (value <= limit if at_most else value >= limit) else "bad"
    return (
        f'<div class="meter"><dt>{escape(name)}<span>{_numbers(value, limit, at_most, form)}</span></dt>'
        f'<dd><b class="{tone}">{escape(words)}</b><span class="bar {tone}" aria-hidden="true"><i style="width:{100 * max(value, 0.0) / top:.1f}%"></i>'
        f'<u style="left:{100 * max(limit, 0.0) / top:.1f}%"></u></span></dd></div>'
    )


def _numbers(value: float, limit: float, at_most: bool, form: str) -> str:
    text = strings.METER_MOST if at_most else strings.METER
    return text.format(value=format(value, form), limit=format(limit, form))
