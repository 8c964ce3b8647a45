"""Tell the story of a record in sentences: what was tried, what the judges said, what was changed and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from portrait.errors import SettingsError
from portrait.judge.checks import format_confusable
from portrait.judge.verdict import describe_reason

_KNOBS = {
    "strength": "strength",
    "guidance_scale": "guidance",
    "ip_adapter_scale": "identity adapter",
    "controlnet_conditioning_scale": "structure of the photo",
}


def explain(record: dict[str, Any]) -> str:
    """The record of one portrait as text, a line per fact.

    Args:
        record: As `Portrait.record`, or read from the JSON beside a picture.

    Raises:
        SettingsError: it is not such a record.
    """
    try:
        lines = _failed(record) if record["status"] == "failed" else _lines(record)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, StopIteration) as error:
        raise SettingsError(f"this is not the record of a portrait: {error!r}") from None
    return "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in lines)


def _failed(record: dict[str, Any]) -> list[str]:
    return [f"{record['input']['path']}: nothing was made.", *(f"  {reason}" for reason in record["reasons"])]


def _lines(record: dict[str, Any]) -> list[str]:
    attempts, chosen, settings = record["attempts"], record["chosen"], record["settings"]
    far = next(iter(record["thresholds"].values()))["far"]
    photo = Path(record["input"]["path"]).name
    who = f"face {record['input']['face']['index']} of {photo}"
    if record["input"]["references"]:
        who += f" and {len(record['input']['references'])} more of the same person"
    lines = [
        f"{record['style']} portrait of {who}; recipe {record['recipe']}, balance {record['balance']:g}, "
        f"frame {record['frame']}, false accept rate {far:g} for each judge.",
        _outcome(record, attempts, chosen, settings),
    ]
    if swapped := record.get("campaign", {}).get("swapped"):
        lines.append(
            f"Both judges find it more like {swapped['subject']}, another person of the campaign, by {swapped['margin']:.3f}."
        )
    before: list[Any] = []  # the attempts of the batch before this one
    for i, attempt in enumerate(attempts):
        lines += ["", _headline(i, attempt, chosen, record["status"]), *_scores(record, attempt)]
        if i and attempt["batch"] != attempts[i - 1]["batch"]:
            before = [a for a in attempts if a["batch"] == attempts[i - 1]["batch"]]
            reasons = [reason for a in before for reason in a["reasons"]]
            lines += _moved(before[0]["knobs"], attempt["knobs"], list(dict.fromkeys(reasons)))
        elif i:
            lines.append("  made at once with the one before, from another seed")
    if policy := record.get("policy"):
        lines += ["", _ending(policy)]
    if device := record.get("device"):
        lines += [
            "",
            f"Made on {device}, memory tier {record['memory_tier']}, in {record['dtype']} by {record['sampler']}.",
        ]
    chain = record["licenses"]
    lines += ["", chain_in_words(record["recipe"], chain)]
    return lines + [f"  {link['part']}: {link['license']}" for link in chain]


def chain_in_words(recipe: str, chain: Sequence[Mapping[str, str]]) -> str:
    """Whether every part of a chain of licences allows commercial use, in a sentence that names those that do not."""
    refused = [link["part"] for link in chain if link["commercial"] != "yes"]
    if not refused:
        return f"Recipe {recipe}: each of the {len(chain)} parts allows commercial use."
    return f"Recipe {recipe}: not for commercial use, or not known to be: {', '.join(refused)}."


def _outcome(record: dict[str, Any], attempts: list[Any], chosen: int, settings: dict[str, Any]) -> str:
    tried = f"{len(attempts)} of at most {settings['max_attempts']} attempts, {record['seconds']:.1f} s"
    if record["status"] == "accepted":
        accepted = sum(a["accepted"] for a in attempts)
        most = " It is the most stylized one of those that passed." if accepted > 1 else ""
        return f"Accepted: attempt {chosen + 1} ({tried}).{most}"
    why = "; ".join(describe_reason(reason) for reason in record["reasons"])
    return f"Rejected ({tried}). The one that came closest is attempt {chosen + 1}: {why}."


def _ending(policy: dict[str, Any]) -> str:
    ends = {
        "accepted": "it ended with the first accepted picture, as asked",
        "attempts": "it ended with the last attempt of the budget",
        "seconds": "it ended when the seconds were spent",
        "no more style to be expected": "it ended when no knobs promised a more stylized picture that passes",
    }
    return f"The knobs were chosen by {policy['prior']} and what each attempt showed; {ends[policy['ended']]}."


def _headline(i: int, attempt: dict[str, Any], chosen: int, status: str) -> str:
    verdict = "accepted" if attempt["accepted"] else "rejected"
    mark = " <- this is the picture" if i == chosen and status == "accepted" else ""
    return f"Attempt {i + 1} (seed {attempt['seed']}, {attempt['seconds']:.1f} s): {verdict}{mark}"


def _scores(record: dict[str, Any], attempt: dict[str, Any]) -> list[str]:
    lines = []
    if forecast := attempt.get("forecast"):
        lines.append(
            f"  expected before: {forecast['accepted']:.0%} to be like the person and stylized, "
            f"style on the face {forecast['style_on_face']:.3f}"
        )
    for judge, value in attempt["similarity"].items():
        least = record["thresholds"][judge]["value"]
        low = f"identity_low:{judge}" in attempt["reasons"]
        lines.append(f"  likeness by {judge}: {value:.3f}, {_against(value, least, low)}")
    if not attempt["face_found"]:
        lines.append("  no face was detected in it; it was judged where the photo's face is")
    limits, drawn = record["limits"], attempt["style_on_face"]
    least, most = limits.get("style_on_face_of_style", limits["style_on_face"]), limits["burned"]
    low = "not_stylized" in attempt["reasons"] or drawn < least
    lines.append(f"  style on the face: {drawn:.3f}, {_against(drawn, least, low)}")
    farthest = record["limits"].get("style_distance")
    if farthest is not None and (distance := attempt.get("style_distance")) is not None:
        far = distance > farthest
        lines.append(
            f"  drawn as {record['style']} is: {distance:.2f} deviations off, {'MORE' if far else 'not more'} than the "
            f"limit {farthest:.2f}"
        )
        if weak := limits.get("styles_not_told_apart"):
            lines.append(f"  that says little about which style it is: {format_confusable(weak)} would pass too")
    if "burned" in attempt["reasons"]:
        lines.append(f"  burned: {attempt['burned']:.1%} of the pixels, at most {most:.1%} may be")
    if "swapped" in attempt["reasons"]:
        lines.append(f"  another person of the photo is more alike to both judges, by {attempt['swap']:.3f}")
    for name, value in attempt.get("kept", {}).items():
        broken = f"broken_keep:{name}" in attempt["reasons"]
        limit = record["limits"]["kept"][name]
        lines.append(f"  to stay, {name}: {value:g}, limit {limit:g}: {'BROKEN' if broken else 'kept'}")
    return lines


def _against(value: float, least: float, low: bool) -> str:
    gap = abs(value - least)
    return f"{gap:.{3 if gap >= 0.001 else 4}f} {'BELOW' if low else 'above'} the limit {least:.3f}"


def _moved(before: dict[str, Any], after: dict[str, Any], reasons: list[str]) -> list[str]:
    changes = [
        f"{words} {before[name]:g} -> {after[name]:g}" for name, words in _KNOBS.items() if before[name] != after[name]
    ]
    why = "; ".join(describe_reason(reason) for reason in reasons)
    what = ", ".join(changes) if changes else "another seed only"
    return [f"  changed because {why}: {what}"] if why else [f"  changed: {what}"]
