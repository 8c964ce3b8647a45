"""Parts of a report in words."""

from __future__ import annotations

from collections.abc import Sequence

from portrait.records.report import ComparisonRow, DriftReport, Measure

APPEARANCE_WORDS = {
    "lightness": ("darker", "lighter"),
    "contrast": ("flatter light", "harder light"),
    "green_red": ("greener", "redder"),
    "blue_yellow": ("bluer", "yellower"),
    "chroma": ("less color", "more color"),
    "chroma_spread": ("more even color", "less even color"),
    "detail_256": ("less fine detail", "more fine detail"),
    "detail_128": ("less detail", "more detail"),
    "detail_64": ("less coarse detail", "more coarse detail"),
    "detail_32": ("weaker shapes", "stronger shapes"),
    "flat": ("fewer flat areas", "more flat areas"),
    "coherence": ("looser strokes", "stricter strokes"),
}
"""How a picture differs from its style when a statistic of `judge.appearance` is low, or high."""

_REASONS = {
    "identity_low": "not like the person",
    "broken_keep": "changed what was to stay",
    "changed": "changed the person",
    "swapped": "more like somebody else",
}

_MAX_NAMED = 6
"""Maximum number of people or pairs of people listed in a line."""


def measure_label(measure: Measure, judge: str | None) -> str:
    """The label of a measure in the comparison."""
    if measure == "likeness":
        return f"likeness, {judge}"
    return "style on the face" if measure == "style_on_face" else "accept rate"


def chooser(judges: Sequence[str]) -> str:
    """Who chose the attempts by which each of the judges is quoted."""
    return {1: "nobody", 2: "the other judge"}.get(len(judges), "the other judges")


def row_sentence(row: ComparisonRow) -> str:
    """A row of the comparison as part of a sentence."""
    name = f"likeness by {row.judge}" if row.measure == "likeness" else measure_label(row.measure, row.judge)
    where = f" in {row.style}" if row.style else ""
    low, high = row.interval
    return f"{name}{where}: {row.difference:+.3f} ({low:+.3f} to {high:+.3f})"


def reason_label(code: str) -> str:
    """A reason code as a short label: `identity_low:dlib` is "not like the person (dlib)"."""
    name, _, detail = code.partition(":")
    text = _REASONS.get(name, name.replace("_", " "))
    return f"{text} ({detail})" if detail else text


def summary_lines(report: DriftReport) -> list[str]:
    """The report in a few lines, for a terminal."""
    lines = []
    if report.verdict:
        lines.append(f"{report.verdict.verdict.upper()}: {report.verdict.why}")
    if report.comparison and report.comparison.differing_conditions:
        lines.append(f"not made under the same conditions; {'; '.join(report.comparison.differing_conditions)}")
    if report.comparison and (renamed := report.comparison.not_paired.renamed):
        more = f" and {len(renamed) - _MAX_NAMED} more" if len(renamed) > _MAX_NAMED else ""
        names = ", ".join(f"{old} is {now}" for now, old in renamed[:_MAX_NAMED])
        lines.append(f"renamed since the baseline, and not compared: {names}{more}")
    return [*lines, *_figure_lines(report), *_warning_lines(report)]


def _figure_lines(report: DriftReport) -> list[str]:
    overall = report.overall
    lines = []
    if overall.accepted and overall.first_attempt_accepted:
        rate = overall.accepted
        low, high = rate.interval
        lines.append(
            f"accepted: {rate.count} of {rate.of} pictures of {overall.people} people, {rate.rate:.1%} "
            f"({low:.1%} to {high:.1%}); first attempts {overall.first_attempt_accepted.rate:.1%}"
        )
    if report.failure_to_acquire.count:
        lines.append(
            f"photos that could not be used: {report.failure_to_acquire.count} of {report.failure_to_acquire.of}"
        )
    for judge, likeness in overall.likeness.items():
        lines.append(
            f"likeness by {judge}: {likeness.selection_free.mean:.3f} where {chooser(report.run.judges)} chose "
            f"({likeness.delivered.mean:.3f} in the pictures delivered)"
        )
    attempts, seconds = overall.attempts_per_accepted, overall.seconds_per_accepted
    if attempts and seconds and attempts.value is not None:
        lines.append(f"per accepted picture: {attempts.value:.2f} attempts, {seconds.value:.1f} s")
    return lines


def _warning_lines(report: DriftReport) -> list[str]:
    odd = sum(entry.odd for entry in report.consistency)
    swapped = sum(job.nearest is not None and job.nearest.margin > 0 for job in report.jobs)
    lines = []
    if not report.run.settled:
        lines.append("another process works on this run: its pictures were not judged against everybody in it yet")
    if report.run.pending:
        lines.append(f"not made yet, and not included in any figure: {report.run.pending} pictures")
    if report.overall.failed:
        lines.append(
            f"failed although the photo was usable, and not included in any rate: {report.overall.failed} pictures"
        )
    if odd:
        lines.append(f"odd in their style: {odd} pictures")
    if swapped:
        lines.append(f"taken for somebody else in the run by every judge: {swapped} pictures")
    for pair in report.duplicate_identities[:_MAX_NAMED]:
        names = " and ".join(pair.subjects)
        lines.append(f"{names} look like one person to every judge and are not compared with each other")
    return lines
