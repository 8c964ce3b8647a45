"""A report as the rows of a CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from portrait.records.report import (
    ComparisonRow,
    CsvRow,
    DriftReport,
    Histogram,
    Mean,
    Model,
    PowerRow,
    Rate,
    Ratio,
    ReportJob,
    Unpaired,
    VerificationEntry,
)


def csv_rows(report: DriftReport) -> list[CsvRow]:
    """Every number of the report, except points of curves and bins of histograms, and the verdicts."""
    return list(_sections(report))


def _sections(report: DriftReport) -> Iterator[CsvRow]:
    yield from _walk(CsvRow(section="run"), report.run)
    yield from _walk(CsvRow(section="run", measure="far"), report.far)
    yield from _walk(CsvRow(section="failure_to_acquire", measure="failure_to_acquire"), report.failure_to_acquire)
    yield from _walk(CsvRow(section="overall", measure="pending"), report.run.pending)
    yield from _walk(CsvRow(section="overall"), report.overall)
    for style in report.styles:
        yield from _walk(CsvRow(section="style", recipe=style.recipe, style=style.style), style)
    for column, groups in report.groups.items():
        for group in groups:
            yield from _walk(CsvRow(section="group", column=column, group=group.group), group)
    for entry in report.verification:
        yield from _verification(entry)
    yield from _walk(CsvRow(section="separation"), report.genuine_impostor_gap)
    for pair in report.duplicate_identities:
        place = CsvRow(section="alike", column="subject", group=" and ".join(pair.subjects), measure="similarity")
        yield from _walk(place, pair.similarity)
    for consistency in report.consistency:
        place = CsvRow(section="consistency", recipe=consistency.recipe, style=consistency.style)
        yield from _walk(place, consistency)
    yield from _walk(CsvRow(section="same_person"), report.same_person)
    for person in report.same_person.people if report.same_person else ():
        yield from _walk(CsvRow(section="same_person", column="subject", group=person.subject), person)
    yield from _comparison(report)
    for job in report.jobs:
        yield from _picture(job)


def _walk(place: CsvRow, value: object, suffix: str = "") -> Iterator[CsvRow]:
    """One row for every number in `value`, named by the path of keys to it; lists and texts are left out."""
    if isinstance(value, Rate | Mean | Ratio | ComparisonRow):
        low, high = value.interval
        numbers: dict[str, object] = {"value": _number(value), "low": low, "high": high}
        people = value.people if isinstance(value, ComparisonRow) else getattr(value, "of", None)
        numbers |= {"count": getattr(value, "count", None), "of": people}
        yield place.model_copy(update=numbers | {"measure": place.measure + suffix})
    elif isinstance(value, Model | Mapping) and not isinstance(value, Histogram):
        for key, inner in value.items():
            if isinstance(value, Unpaired) and isinstance(inner, tuple):
                inner = len(inner)
            measure = f"{place.measure}.{key}" if place.measure else key
            yield from _walk(place.model_copy(update={"measure": measure}), inner, suffix)
    elif isinstance(value, int | float):
        yield place.model_copy(update={"value": value + 0, "measure": place.measure + suffix})


def _number(value: Rate | Mean | Ratio | ComparisonRow) -> float | None:
    """The value that the interval is for."""
    if isinstance(value, Rate):
        return value.rate
    if isinstance(value, Mean):
        return value.mean
    return value.value if isinstance(value, Ratio) else value.difference


def _verification(entry: VerificationEntry) -> Iterator[CsvRow]:
    place = CsvRow(section="verification", recipe=entry.recipe, style=entry.style, measure=entry.judge)
    for row in _walk(place, entry):
        if row.measure == f"{entry.judge}.far_at_threshold" and entry.far_interval:
            low, high = entry.far_interval
            yield row.model_copy(update={"low": low, "high": high})
        else:
            yield row


def _comparison(report: DriftReport) -> Iterator[CsvRow]:
    yield from _walk(CsvRow(section="comparison"), report.comparison)
    for row in report.comparison.rows if report.comparison else ():
        name = _measure_name(row)
        place = CsvRow(section="comparison", style=row.style or "", measure=name)
        yield from _walk(place, row)
        numbers = {key: getattr(row, key) for key in ("baseline", "current", "tolerance", "detectable")}
        yield from _walk(place, numbers)
        yield place.model_copy(update={"measure": f"{name}.verdict", "value": row.verdict, "of": row.people})
    if not report.verdict:
        return
    yield CsvRow(section="verdict", measure="verdict", value=report.verdict.verdict)
    yield from _walk(CsvRow(section="verdict", measure="power"), report.verdict.power)
    for power in report.verdict.power.rows if report.verdict.power else ():
        place = CsvRow(section="verdict", style=power.style or "", measure=f"power.{_measure_name(power)}")
        yield from _walk(place, power)


def _measure_name(row: ComparisonRow | PowerRow) -> str:
    return f"{row.measure}.{row.judge}" if row.judge else row.measure


def _picture(job: ReportJob) -> Iterator[CsvRow]:
    place = CsvRow(section="picture", recipe=job.recipe, style=job.style, column="subject", group=job.subject)
    suffix = "".join(f"/{text}" for text in job.axes.values()) + f"/{job.variant + 1}"
    values = dict(job.items())
    numbers: dict[str, object] = {"accepted": job.state == "accepted"}
    numbers |= {
        key: values.get(key) for key in ("attempts", "seconds", "seed", "quoted", "thresholds", "look", "nearest")
    }
    for key, scores in (("first", job.first), ("delivered", job.delivered)):
        if scores:
            others = {name: value for name, value in scores.items() if name not in ("similarity", "style_on_face")}
            numbers[key] = scores.similarity | others
            numbers["style_on_face" if key == "delivered" else f"{key}.style_on_face"] = scores.style_on_face
    yield from _walk(place, numbers, suffix)
