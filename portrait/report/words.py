"""Parts of a report as a person would say them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def in_words(row: Mapping[str, Any]) -> str:
    """A row of the comparison as a sentence would say it."""
    names = {"likeness": f"likeness by {row['judge']}", "style_on_face": "style on the face", "accepted": "accept rate"}
    where = f" in {row['style']}" if row["style"] else ""
    low, high = row["interval"]
    return f"{names[row['measure']]}{where}: {row['difference']:+.3f} ({low:+.3f} to {high:+.3f})"


def reason_label(code: str) -> str:
    """A reason code as a short label: `identity_low:dlib` is "not like the person (dlib)"."""
    name, _, rest = code.partition(":")
    short = {
        "identity_low": "not like the person",
        "broken_keep": "changed what was to stay",
        "swapped": "more like somebody else",
    }
    text = short.get(name, name.replace("_", " "))
    return f"{text} ({rest})" if rest else text


def summary_lines(report: Mapping[str, Any]) -> list[str]:
    """The report in a few lines, for a terminal."""
    overall, missing = report["overall"], report["failure_to_acquire"]
    lines = []
    if report["verdict"]:
        lines.append(f"{report['verdict']['verdict'].upper()}: {report['verdict']['why']}")
    rate = overall["accepted"]
    low, high = rate["interval"]
    lines.append(
        f"accepted: {rate['count']} of {rate['of']} pictures of {overall['people']} people, {rate['rate']:.1%} "
        f"({low:.1%} to {high:.1%}); first attempts {overall['first_attempt_accepted']['rate']:.1%}"
    )
    if missing["count"]:
        lines.append(f"photos that could not be used: {missing['count']} of {missing['of']}")
    for judge, entry in overall["likeness"].items():
        lines.append(
            f"likeness by {judge}: {entry['quoted']['mean']:.3f} where the other judge chose "
            f"({entry['delivered']['mean']:.3f} in the pictures delivered)"
        )
    each = overall["attempts_per_accepted"]["value"]
    if each is not None:
        lines.append(f"per accepted picture: {each:.2f} attempts, {overall['seconds_per_accepted']['value']:.1f} s")
    odd = sum(entry["odd"] for entry in report["consistency"])
    swapped = sum(job.get("nearest", {}).get("margin", -1) > 0 for job in report["jobs"])
    if not report["run"]["settled"]:
        lines.append("another process works on this run: its pictures were not judged against everybody of it yet")
    if report["run"]["pending"]:
        lines.append(f"not made yet, and in no figure: {report['run']['pending']} pictures")
    if overall["failed"]:
        lines.append(f"failed, though the photo could be used, and in no rate: {overall['failed']} pictures")
    if odd:
        lines.append(f"odd in their style: {odd} pictures")
    if swapped:
        lines.append(f"taken for somebody else of the run by every judge: {swapped} pictures")
    for pair in report["alike"][:6]:
        lines.append(
            f"{' and '.join(pair['subjects'])} look like one person to every judge and are not put against each other"
        )
    return lines
