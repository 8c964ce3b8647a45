"""The viewer and the history as HTML: the portrait, its verdict and the actions on it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from portrait.recipes.recipe import Recipe
from portrait.records.portrait import PortraitRecord
from portrait.report.explain import explain
from portrait.studio import strings
from portrait.studio.downloads import SizeLink, link_to_all, links
from portrait.studio.jobs import JobEvent
from portrait.studio.render import from_template, sample_of, title_of
from portrait.studio.scores import meters, verdict_line
from portrait.studio.session import HistoryEntry, Session

SMALL = 96
"""Side of a picture in the history, in pixels."""

State = Literal["empty", "choose", "working", "choices", "done"]
"""What the viewer shows: samples, faces to choose from, a picture that forms, pictures to choose from, a picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """An additional text: a problem, perhaps about one field of the form, or a message."""

    problem: str = ""
    field: str = ""
    message: str = ""


NOTHING = Notice()


def _viewer(state: State, notice: Notice = NOTHING, **values: object) -> str:
    """The viewer's HTML, with the time, so that the page notices every answer, even an identical one."""
    values |= {"alt_of": _alt, "links": links, "link_to_all": link_to_all, "size_title": size_title}
    return from_template("viewer.html", state=state, notice=notice, now=time.monotonic_ns(), **values)


def empty_html(recipe: Recipe, notice: Notice = NOTHING) -> str:
    """The portrait's area before there is one: examples of the styles."""
    samples = {name: sample for name in recipe.styles if (sample := sample_of(recipe.name, name))}
    across = next((n for n in (4, 3) if len(samples) % n == 0), 4)
    return _viewer("empty", notice, samples=samples, across=across)


def working_html(session: Session, event: JobEvent | None, variants: int, preview: str, before: str) -> str:
    """The view while a job makes `variants` pictures: its progress by its last event, and the forming picture.

    `preview` is that picture as a data URI, empty before there is one; `before` is shown until then.
    """
    return _viewer(
        "working",
        session=session,
        event=event,
        variants=variants,
        preview=preview,
        before=before,
        choices=_choices(session),
        progress=_progress(event, variants),
    )


def _progress(event: JobEvent | None, variants: int) -> str:
    """What is happening."""
    if event is None or (event.kind == "waiting" and event.position < 2):
        return strings.NEXT
    if event.kind == "waiting":
        form = strings.IN_LINE.get(event.position) or strings.IN_LINE_MANY
        return form.format(place=event.position, ahead=event.position - 1)
    if event.kind != "step":
        return strings.LOADING
    form = strings.WORKING_VARIANT if variants > 1 else strings.WORKING_AGAIN if event.attempt > 1 else strings.WORKING
    numbers = {"attempt": event.attempt, "step": event.step, "total": event.total, "variant": event.variant}
    return form.format(**numbers, variants=variants)


def _choices(session: Session) -> list[HistoryEntry]:
    """The pictures of the last job that made several."""
    return [entry for number in session.choices if (entry := session.find(number))]


def result_html(session: Session, recipe: Recipe, notice: Notice = NOTHING) -> str:
    """The content of the viewer: the picture with its verdict, pictures or faces to choose from, or samples."""
    if session.photo is not None and session.face is None:
        return _viewer("choose", notice, session=session)
    entry = session.find(session.current)
    if entry is None:
        return empty_html(recipe, notice)
    choices = _choices(session)
    if session.is_choosing and len(choices) > 1:
        return _viewer("choices", notice, session=session, choices=choices)
    record = entry.portrait.record
    verdict, tone = verdict_line(record)
    return _viewer(
        "done",
        notice,
        session=session,
        entry=entry,
        other=session.find(session.compared),
        choices=choices,
        verdict=verdict,
        tone=tone,
        notes=_notes(record),
        meters=meters(record),
        explanation=explain(record),
    )


def _alt(entry: HistoryEntry) -> str:
    verdict = strings.VERDICTS[entry.portrait.accepted]
    return strings.RESULT_ALT.format(n=entry.number, style=title_of(entry.portrait.record.style), verdict=verdict)


def size_title(size: SizeLink) -> str:
    """The title of a size on the page."""
    kind = size.size.partition("-")[0]
    return strings.SIZE_TITLES.get(kind, size.size)


def _notes(record: PortraitRecord) -> Sequence[str]:
    """What to know about the scores."""
    notes = []
    if record.accepted:
        judges = len(record.chosen_attempt.similarity)
        notes.append(strings.CHECKS_PASSED[min(2, judges)])
    if record.far:
        notes.append(strings.STRANGERS.format(n=1 / record.far))
    if record.provisional_thresholds:
        notes.append(strings.PROVISIONAL.format(note=record.provisional_thresholds))
    return notes


def history_html(session: Session) -> str:
    """The pictures of the session in a row, the newest last, and the actions on the one that is shown."""
    if not session.history and session.photo is None:
        return ""
    return from_template("history.html", session=session, shown=session.find(session.current), small=SMALL, alt_of=_alt)
