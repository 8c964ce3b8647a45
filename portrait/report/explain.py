"""Explain a record in sentences: what was tried, what the judges said, what was changed and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from portrait.hub.judges import SECOND_DETECTOR
from portrait.judge.checks import format_confusable
from portrait.judge.verdict import FEATURES, TOGETHER, describe_reason, describe_strangers
from portrait.records import Knobs
from portrait.records.portrait import (
    AttemptRecord,
    FailureRecord,
    InputRecord,
    LicenseLink,
    Limits,
    PolicyRecord,
    PortraitRecord,
)
from portrait.records.reasons import Reason

_KNOBS = {
    "strength": "strength",
    "guidance_scale": "guidance",
    "ip_adapter_scale": "identity adapter",
    "controlnet_conditioning_scale": "structure of the photo",
}
_ENDINGS = {
    "accepted": "it ended with the first accepted picture, as requested",
    "attempts": "it ended with the last attempt of the budget",
    "seconds": "it ended when the time was used up",
    "no more style to be expected": "it ended when no knobs promised a more stylized picture that passes",
}


def explain(record: PortraitRecord | FailureRecord, *, verbose: bool = False) -> str:
    """Explain a record as text, one fact per line, without terminal control characters; `verbose` adds cosine similarities."""
    if isinstance(record, FailureRecord):
        lines = [f"{record.input.path}: nothing was made.", *(f"  {reason}" for reason in record.reasons)]
    else:
        lines = _lines(record, verbose=verbose)
    return "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in lines)


def _lines(record: PortraitRecord, *, verbose: bool) -> list[str]:
    lines = [_request(record), _outcome(record)]
    lines += [f"Note: {note}." for note in (*record.warnings, *_photo_notes(record.input))]
    if record.campaign and (swapped := record.campaign.swapped):
        lines.append(
            f"Both judges find it more like {swapped.subject}, another person of the campaign, by {swapped.margin:.3f}."
        )
    for number, attempt in enumerate(record.attempts):
        lines += ["", _headline(number, record), *_scores(record, attempt, verbose=verbose), *_change(record, number)]
    return [
        *lines,
        "",
        _ending(record.policy),
        "",
        f"Made on {record.device}, memory tier {record.memory_tier}, in {record.dtype} by {record.sampler} in {record.runtime}.",
        _detectors(record),
        "",
        chain_in_words(record.recipe, record.licenses),
        *(f"  {link.part}: {link.license}" for link in record.licenses),
    ]


def _request(record: PortraitRecord) -> str:
    who = f"face {record.input.face.index} of {Path(record.input.path).name}"
    if references := record.input.references:
        who += f" and {len(references)} more of the same person"
    whom = "each judge" if record.gate is None else "all judges together"
    moved = "" if record.settings.shifted() == (0, 0) else f" shifted by {record.settings.shift}"
    return (
        f"{record.style} portrait of {who}; recipe {record.recipe}, balance {record.balance:g}, "
        f"frame {record.frame}{moved}, false accept rate {record.far:g} for {whom}."
    )


def _photo_notes(photo: InputRecord) -> list[str]:
    """What was done to the photo, and what may make its face hard to keep."""
    notes = list(photo.notes)
    if photo.turned:
        notes.append(f"the photo was turned by {photo.turned} degrees clockwise to put its faces upright")
    if photo.warnings:
        notes.append(f"the face may be hard to keep: {', '.join(photo.warnings)}")
    return notes


def _detectors(record: PortraitRecord) -> str:
    """Whether there was a second detector: without it, pictures in which only it finds a face are rejected."""
    if any(link.part == SECOND_DETECTOR for link in record.licenses):
        return f"Where the first detector found no face, {SECOND_DETECTOR} looked again."
    return "Only one detector looked for faces; there was no second opinion."


def chain_in_words(recipe: str, chain: Sequence[LicenseLink]) -> str:
    """A sentence on whether every part of a chain of licenses allows commercial use, naming those that do not."""
    refused = [link.part for link in chain if link.commercial != "yes"]
    if not refused:
        return f"Recipe {recipe}: every part is licensed for commercial use."
    return f"Recipe {recipe}: not for commercial use, or not known to be: {', '.join(refused)}."


def _outcome(record: PortraitRecord) -> str:
    attempts, number = record.attempts, record.chosen + 1
    tried = f"{len(attempts)} of at most {record.settings.max_attempts} attempts, {record.seconds:.1f} s"
    if record.accepted:
        several = sum(attempt.accepted for attempt in attempts) > 1
        remark = " It is the most stylized one of those that passed." if several else ""
        return f"Accepted: attempt {number} ({tried}).{remark}"
    why = "; ".join(describe_reason(reason) for reason in record.reasons)
    return f"Rejected ({tried}). The closest one is attempt {number}: {why}."


def _ending(policy: PolicyRecord) -> str:
    ending = _ENDINGS.get(policy.ended, f"it ended with: {policy.ended}")
    return f"The knobs were chosen by {policy.prior} and what each attempt showed; {ending}."


def _headline(number: int, record: PortraitRecord) -> str:
    attempt = record.attempts[number]
    verdict = "accepted" if attempt.accepted else "rejected"
    mark = " <- this is the picture" if number == record.chosen and record.accepted else ""
    return f"Attempt {number + 1} (seed {attempt.seed}, {attempt.seconds:.1f} s): {verdict}{mark}"


def _change(record: PortraitRecord, number: int) -> list[str]:
    """What was changed before an attempt, and why: the reasons of the whole previous batch."""
    if number == 0:
        return []
    attempt, previous = record.attempts[number], record.attempts[number - 1]
    if attempt.batch == previous.batch:
        return ["  made together with the previous one, from another seed"]
    batch = [other for other in record.attempts if other.batch == previous.batch]
    reasons = dict.fromkeys(reason for other in batch for reason in other.reasons)
    return [_moved(batch[0].knobs, attempt.knobs, list(reasons))]


def _moved(before: Knobs, after: Knobs, reasons: Sequence[Reason]) -> str:
    old, new = asdict(before), asdict(after)
    changes = [f"{words} {old[name]:g} -> {new[name]:g}" for name, words in _KNOBS.items() if old[name] != new[name]]
    what = ", ".join(changes) or "only another seed"
    why = "; ".join(describe_reason(reason) for reason in reasons)
    return f"  changed because {why}: {what}" if why else f"  changed: {what}"


def _scores(record: PortraitRecord, attempt: AttemptRecord, *, verbose: bool) -> list[str]:
    limits = record.limits
    lines = [
        f"  predicted: a chance of {attempt.forecast.accepted:.0%} to pass on likeness and style, "
        f"style on the face {attempt.forecast.style_on_face:.3f}"
    ]
    for judge in attempt.similarity:
        lines.append(f"  likeness by {judge}: {_likeness(record, attempt, judge, verbose=verbose)}")
    if record.gate is not None and attempt.evidence is not None:
        low = f"identity_low:{TOGETHER}" in attempt.reasons
        lines.append(
            f"  all judges together: {attempt.evidence:.3f}, {_against(attempt.evidence, record.gate.least, low)}"
        )
    if not attempt.face_found:
        lines.append("  no face was detected in it; likeness was measured at the place of the photo's face")
    if limits.features_shown is not None and attempt.features_shown is not None:
        low = f"no_face:{FEATURES}" in attempt.reasons
        lines.append(
            f"  eyes and mouth of the photo: {attempt.features_shown:.3f}, "
            f"{_against(attempt.features_shown, limits.features_shown, low)}"
        )
    lines += _style(record.style, limits, attempt)
    lines += _changed(record.style, limits, attempt)
    if "burned" in attempt.reasons:
        lines.append(f"  burned: {attempt.burned:.1%} of the pixels, at most {limits.burned:.1%} is allowed")
    if "swapped" in attempt.reasons and attempt.swap is not None:
        lines.append(f"  it looks more like another person in the photo to both judges, by {attempt.swap:.3f}")
    for name, value in attempt.kept.items():
        verdict = "BROKEN" if f"broken_keep:{name}" in attempt.reasons else "kept"
        lines.append(f"  to stay, {name}: {value:g}, limit {limits.kept[name]:g}: {verdict}")
    return lines


def _likeness(record: PortraitRecord, attempt: AttemptRecord, judge: str, *, verbose: bool) -> str:
    """A judge's result: how many strangers would look as similar if that is known, else its cosine."""
    low = f"identity_low:{judge}" in attempt.reasons
    value = attempt.similarity[judge]
    cosine = f"{value:.3f}, {_against(value, record.thresholds[judge].value, low)}"
    share = attempt.strangers.get(judge)
    if share is None:
        return cosine
    return describe_strangers(share) + (", TOO MANY" if low else "") + (f" (cosine {cosine})" if verbose else "")


def _style(style: str, limits: Limits, attempt: AttemptRecord) -> list[str]:
    limit, value = limits.style_on_face_of_style, attempt.style_on_face
    low = "not_stylized" in attempt.reasons or value < limit
    lines = [f"  style on the face: {value:.3f}, {_against(value, limit, low)}"]
    if limits.style_probability is not None and attempt.style_probability is not None:
        low = attempt.style_probability < limits.style_probability
        lines.append(
            f"  drawn as {style} is, says the style judge: {attempt.style_probability:.1%} sure, "
            f"{'BELOW' if low else 'not below'} the limit {limits.style_probability:.1%}"
        )
    if limits.style_distance is None or attempt.style_distance is None:
        return lines
    comparison = "MORE" if attempt.style_distance > limits.style_distance else "not more"
    lines.append(
        f"  drawn as {style} is: {attempt.style_distance:.2f} deviations off, {comparison} than the "
        f"limit {limits.style_distance:.2f}"
    )
    if limits.style_lead is not None and attempt.style_lead is not None:
        side = "BELOW" if attempt.style_lead < limits.style_lead else "not below"
        lines.append(
            f"  more probable than any other style by {attempt.style_lead:.1f} nats, {side} the limit {limits.style_lead:.1f}"
        )
    if weak := limits.styles_not_told_apart:
        lines.append(f"  that does not tell it from every style: {format_confusable(weak)} would pass too")
    return lines


def _changed(style: str, limits: Limits, attempt: AttemptRecord) -> list[str]:
    """What was changed about the person, each with its limit."""
    lines = []
    for what, limit in limits.changed.items():
        change = attempt.changed.get(what, 0.0)
        if what == "skin":
            words = f"skin {'lighter' if change > 0 else 'darker'} than {style} would make it by {abs(change):.1f} of 100 (CIE L)"
        else:
            words = f"{what} changed by {abs(change):.3f}"
        lines.append(f"  {words}, at most {limit:g} is allowed: {'TOO MUCH' if abs(change) > limit else 'fine'}")
    return lines


def _against(value: float, least: float, low: bool) -> str:
    gap = abs(value - least)
    return f"{gap:.{3 if gap >= 0.001 else 4}f} {'BELOW' if low else 'above'} the limit {least:.3f}"
