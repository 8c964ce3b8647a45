"""The viewer and the history as HTML: the portrait, its verdict and the actions on it; every text is escaped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from portrait.images import thumbnail
from portrait.recipes.recipe import Recipe
from portrait.report.explain import explain
from portrait.studio import strings
from portrait.studio.controls import sample_of, title_of
from portrait.studio.downloads import Link, Links, SizeLink, link_to_all, links
from portrait.studio.jobs import JobEvent
from portrait.studio.page import advice_html, alert, crops_html, data_uri, shown_uri
from portrait.studio.scores import measurements_html, verdict_line
from portrait.studio.session import HistoryEntry, Session

SMALL = 96
"""Side of a picture in the history, in pixels."""
MAX_CHOICES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """An additional text: a problem, perhaps about one field of the form, or a message."""

    problem: str = ""
    field: str = ""
    message: str = ""


NOTHING = Notice()


def empty_html(recipe: Recipe, notice: Notice = NOTHING) -> str:
    """The portrait's area before there is one: examples of the styles."""
    samples = [(name, sample) for name in recipe.styles if (sample := sample_of(recipe.name, name))]
    cells = "".join(
        f'<figure><img src="{sample}" alt=""><figcaption>{escape(title_of(name))}</figcaption></figure>'
        for name, sample in samples
    )
    across = next((n for n in (4, 3) if len(samples) % n == 0), 4)
    shape = f"--across:{across};--down:{-(-len(samples) // across)}"
    gallery = f'<div class="gallery" style="{shape}" role="img" aria-label="{strings.EXAMPLES}">{cells}</div>'
    caption = _say(strings.EMPTY, strings.EMPTY_HOW, notice)
    return _viewer("empty", gallery, f'<div class="bar">{caption}</div>')


def _viewer(state: str, canvas: str, bar: str) -> str:
    """The viewer's HTML, with the time, so that the page notices every answer, even an identical one."""
    return f'<div class="viewer" data-state="{state}" data-at="{time.monotonic_ns()}"><div class="canvas">{canvas}</div>{bar}</div>'


def _say(
    verdict: str,
    note: str,
    notice: Notice,
    *,
    tone: str = "",
    announced: str = "",
    warnings: Sequence[str] = (),
) -> str:
    """The line below the picture, and smaller ones; a problem replaces them all."""
    if notice.problem:
        return f'<div class="say">{alert(notice.problem, notice.field)}</div>'
    key = f' data-announce="{escape(announced)}"' if announced and not notice.message else ""
    message = f'<p class="note" data-announce>{escape(notice.message)}</p>' if notice.message else ""
    small = message or f'<p class="note">{escape(note)}</p>'
    small += advice_html(warnings)
    return f'<div class="say"{key}><p class="verdict {tone}">{escape(verdict)}</p>{small}</div>'


def choose_html(session: Session, notice: Notice = NOTHING) -> str:
    """Choosing a face: the photo with its faces marked, and each face enlarged."""
    assert session.photo is not None
    height, width = session.photo.pixels.shape[:2]
    marks = "".join(_mark(session, index, width, height) for index in range(len(session.faces)))
    canvas = (
        f'<div class="choose"><div class="stage" style="--w:{width};--h:{height}"><img src="{shown_uri(session.photo.pixels)}" alt="">{marks}</div>'
        f"{crops_html(session)}</div>"
    )
    caption = _say(strings.CHOOSE_FACE, strings.CHOOSE_FACE_NEXT, notice, announced=strings.CHOOSE_FACE)
    return _viewer("choose", canvas, f'<div class="bar">{caption}</div>')


def _mark(session: Session, index: int, width: int, height: int) -> str:
    """A frame around a face in the photo, for pointers; its number is beside the face, not on it."""
    x1, y1, x2, y2 = (float(v) for v in session.faces[index].bbox)
    place = (
        f"left:{100 * x1 / width:.2f}%;top:{100 * y1 / height:.2f}%;"
        f"width:{100 * (x2 - x1) / width:.2f}%;height:{100 * (y2 - y1) / height:.2f}%"
    )
    return (
        f'<button type="button" class="face" tabindex="-1" aria-hidden="true" data-face="{index}" style="{place}">'
        f"<span>{index}</span></button>"
    )


def working_html(session: Session, event: JobEvent | None, variants: int, preview: str, before: str) -> str:
    """The view while a job makes `variants` pictures: its progress by its last event, and the forming picture.

    `preview` is that picture as a data URI, empty before there is one; `before` is shown until then.
    """
    text, progress, announced = strings.NEXT, "", ""
    if event is not None:
        text, progress = _progress(event, variants)
        announced = f"{event.kind} {event.position} {event.variant} {event.attempt}"  # screen readers do not announce every step
    forming = (
        f'<img class="forming{"" if preview else " waits"}" src="{preview or before}" alt="{strings.FORMING_ALT}">'
    )
    if variants > 1:
        finished = [entry for number in session.choices if (entry := session.find(number))]
        rest = "<span></span>" * max(0, min(variants, MAX_CHOICES) - len(finished) - 1)
        picture = f'<div class="choices">{"".join(_choice(session, entry, "data-act=zoom") for entry in finished)}<span>{forming}</span>{rest}</div>'
    else:
        picture = f'<div class="pair" style="--w:1;--h:1">{forming}</div>'
    caption = (
        f'<div class="say"><p class="verdict" data-announce="{escape(announced)}">{escape(text)}</p>'
        f'<progress aria-label="{escape(text)}"{progress}></progress></div>'
    )
    return _viewer(
        "working", f'<div class="working">{picture}</div>', f'<div class="bar">{caption}{_no_download()}</div>'
    )


def _no_download() -> str:
    """The disabled download button, while there is nothing to download."""
    return (
        f'<div class="tools"><button type="button" class="primary" disabled>{strings.DOWNLOAD_PICTURE}</button></div>'
    )


def _progress(event: JobEvent, variants: int) -> tuple[str, str]:
    """What is happening, and the attributes of the progress bar."""
    if event.kind == "waiting":
        ahead = {"place": event.position, "ahead": event.position - 1}
        if event.position < 2:
            return strings.NEXT, ""
        return (strings.IN_LINE.get(event.position) or strings.IN_LINE_MANY).format(**ahead), ""
    if event.kind != "step":
        return strings.LOADING, ""
    form = strings.WORKING_VARIANT if variants > 1 else strings.WORKING_AGAIN if event.attempt > 1 else strings.WORKING
    numbers = {"attempt": event.attempt, "step": event.step, "total": event.total, "variant": event.variant}
    return form.format(**numbers, variants=variants), f' value="{event.step}" max="{event.total}"'


def result_html(session: Session, recipe: Recipe, notice: Notice = NOTHING) -> str:
    """The content of the viewer: the picture with its verdict, pictures or faces to choose from, or samples."""
    if session.photo is not None and session.face is None:
        return choose_html(session, notice)
    entry = session.find(session.current)
    if entry is None:
        return empty_html(recipe, notice)
    choices = [choice for number in session.choices if (choice := session.find(number))]
    if session.is_choosing and len(choices) > 1:
        caption = _say(strings.CHOICES, "", notice, announced=strings.CHOICES)
        canvas = f'<div class="choices">{"".join(_choice(session, choice, f"data-show={choice.number}") for choice in choices)}</div>'
        return _viewer("choices", canvas, f'<div class="bar">{caption}{_no_download()}</div>')
    alt = _alt(entry)
    verdict, tone = verdict_line(entry.portrait.record)
    caption = _say(verdict, _about(entry), notice, tone=tone, announced=alt, warnings=entry.portrait.record.warnings)
    back = ""
    if entry in choices and len(choices) > 1:
        text = strings.SHOW_CHOICES.format(n=len(choices))
        back = f'<button type="button" class="plain back" data-act="choices" data-key="choices">{text}</button>'
    return _viewer(
        "done", _compare(session, entry, alt) + back, f'<div class="bar">{caption}{_tools(session, entry)}</div>'
    )


def _picture_url(session: Session, entry: HistoryEntry) -> str:
    return escape(links(session, entry).picture.href)


def _until_loaded(entry: HistoryEntry) -> str:
    """A placeholder until the picture's file is loaded; none for transparent pictures."""
    if entry.portrait.cutout is not None:
        return ""
    return (
        f"background:url({data_uri(thumbnail(entry.portrait.picture, 256), quality=70, generated=True)}) 0 0/100% 100%"
    )


def _choice(session: Session, entry: HistoryEntry, act: str) -> str:
    """One of several pictures; `act` is the attribute that says what a click does."""
    return (
        f'<button type="button" {act} data-key="choice-{entry.number}" aria-label="{escape(_alt(entry))}">'
        f'<img src="{_picture_url(session, entry)}" alt="">{_badge(entry)}</button>'
    )


def _badge(entry: HistoryEntry) -> str:
    tone, mark = ("good", "✓") if entry.portrait.accepted else ("bad", "✕")
    return f'<span class="badge {tone}" aria-hidden="true">{mark}</span>'


def _alt(entry: HistoryEntry) -> str:
    verdict = strings.VERDICTS[entry.portrait.accepted]
    return strings.RESULT_ALT.format(n=entry.number, style=title_of(entry.portrait.record.style), verdict=verdict)


def _compare(session: Session, entry: HistoryEntry, alt: str) -> str:
    """The picture and, for comparison, the photo or another picture under it."""
    other = session.find(session.compared)
    before = entry.portrait.before if other is None else other.portrait.picture
    left = strings.BEFORE if other is None else strings.PICTURE_N.format(n=other.number).capitalize()
    right = strings.AFTER if other is None else strings.PICTURE_N.format(n=entry.number).capitalize()
    height, width = entry.portrait.picture.shape[:2]
    options = "".join(
        f'<option value="{candidate.number}"{" selected" if other is candidate else ""}>{strings.PICTURE_N.format(n=candidate.number)}</option>'
        for candidate in session.history
        if candidate is not entry
    )
    return (
        f'<figure class="pair" style="--cut:50%;--w:{width};--h:{height};{_until_loaded(entry)}">'
        f'<img class="after" src="{_picture_url(session, entry)}" alt="{escape(alt)}" data-zoom>'
        f'<img class="before" src="{shown_uri(before)}" alt="{escape(left)}">'
        f'<span class="tag left" aria-hidden="true">{escape(left)}</span>'
        f'<span class="tag right" aria-hidden="true">{escape(right)}</span><i data-handle aria-hidden="true"></i>'
        f'<input type="range" class="cut" min="0" max="100" value="50" data-key="cut" aria-label="{strings.COMPARE_SLIDER}" '
        f'data-value="{strings.COMPARE_VALUE}"></figure>'
        f'<div class="with"><label>{strings.COMPARE_WITH} <select data-compare data-key="compare"><option value="">'
        f"{strings.THE_PHOTO}</option>{options}</select></label>"
        f'<label class="tick"><input type="checkbox" data-side data-key="side">{strings.SIDE_BY_SIDE}</label></div>'
    )


def _tools(session: Session, entry: HistoryEntry) -> str:
    """The actions on the picture, ending with the download."""
    files = links(session, entry)
    copied = f'data-saves="{entry.number}" data-copied="{strings.COPIED}" data-failed="{strings.COPY_FAILED}"'
    return (
        f'<div class="tools">{_details(entry)}{_tool("compare", strings.COMPARE, "aria-pressed=false")}'
        f"{_tool('zoom', strings.ZOOM)}{_tool('copy-picture', strings.COPY_PICTURE, copied)}"
        f"{_tool('share', strings.SHARE, f'data-saves={entry.number} hidden')}{_sizes(session, entry, files)}"
        f"{_link(entry, files.picture, strings.DOWNLOAD_PICTURE, kind='primary')}</div>"
    )


_ICONS = {
    "details": "M12 11v6M12 7.5v.01M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z",
    "compare": "M12 3v18M4 5h16v14H4z",
    "zoom": "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
    "copy-picture": "M9 9h11v11H9zM5 15H4V4h11v1",
    "share": "M12 15V3m0 0L8 7m4-4 4 4M5 12v8h14v-8",
    "zip": "M12 4v11m0 0-4-4m4 4 4-4M4 20h16",
}
"""The icon of each button, as an SVG path in a square of 24."""


def _tool(name: str, text: str, attributes: str = "") -> str:
    return (
        f'<button type="button" class="plain" data-act="{name}" data-key="{name}" title="{text}" {attributes}>'
        f"{_icon(name)}<span>{text}</span></button>"
    )


def _icon(name: str) -> str:
    return f'<svg viewBox="0 0 24 24" aria-hidden="true"><path d="{_ICONS[name]}"/></svg>'


def _link(entry: HistoryEntry, link: Link, text: str, *, kind: str = "plain", about: str = "") -> str:
    small = f"<small>{escape(about)}</small>" if about else ""
    return (
        f'<a class="button {kind}" href="{escape(link.href)}" download="{escape(link.name)}" data-saves="{entry.number}" '
        f'data-key="{escape(link.name)}" title="{escape(link.name)}"><span>{escape(text)}</span>{small}</a>'
    )


def _sizes(session: Session, entry: HistoryEntry, files: Links) -> str:
    """The sizes for social networks, collapsed."""
    cuts = "".join(_link(entry, size, size_title(size), about=_size_about(size)) for size in files.sizes)
    whole = _link(entry, files.archive, strings.DOWNLOAD_ALL) + _link(entry, files.record, strings.DOWNLOAD_RECORD)
    if len(session.history) > 1:
        link, numbers = link_to_all(session), ",".join(str(one.number) for one in session.history)
        whole += (
            f'<a class="button plain every" href="{escape(link.href)}" download="{escape(link.name)}" data-saves="{numbers}" '
            f'data-key="every">{strings.DOWNLOAD_PICTURES.format(n=len(session.history))}</a>'
        )
    return (
        f'<details class="details" data-fold="sizes"><summary class="button plain" data-key="sizes" title="{strings.SIZES_HELP}">'
        f'{_icon("zip")}<span>{strings.SIZES}</span></summary><div class="panel"><h3>{strings.SIZES}</h3>'
        f'<div class="sizes">{whole}{cuts}</div></div></details>'
    )


def size_title(size: SizeLink) -> str:
    """The title of a size on the page."""
    kind = size.size.partition("-")[0]
    return strings.SIZE_TITLES.get(kind, size.size)


def _size_about(size: SizeLink) -> str:
    about = strings.SIZE_ENLARGED if size.is_enlarged else strings.SIZE_ABOUT
    return about.format(width=size.width, height=size.height)


def _details(entry: HistoryEntry) -> str:
    """Scores, the command and the record in words, collapsed."""
    record = entry.portrait.record
    notes = []
    if entry.portrait.accepted:
        judges = len(record.chosen_attempt.similarity)
        notes.append(strings.CHECKS_PASSED[min(2, judges)])
    if record.far:
        notes.append(strings.STRANGERS.format(n=1 / record.far))
    if record.provisional_thresholds:
        notes.append(strings.PROVISIONAL.format(note=record.provisional_thresholds))
    unsaved = "" if entry.has_file else f'<p class="note">{strings.COMMAND_PHOTO}</p>'
    return (
        f'<details class="details" data-fold="details"><summary class="button plain" data-key="details" title="{strings.DETAILS}">{_icon("details")}<span>{strings.DETAILS}</span></summary><div class="panel">'
        f'<h3>{strings.SCORES}</h3><p class="note">{escape(" ".join(notes))}</p><dl>{measurements_html(record)}</dl>'
        f'<h3>{strings.COMMAND}</h3><p class="note">{strings.COMMAND_INFO}</p>{unsaved}'
        f'<pre class="command" tabindex="0"><code>{escape(entry.command())}</code></pre>'
        f'<button type="button" class="plain" data-act="copy" data-copied="{strings.COPIED}">{strings.COPY}</button>'
        f'<h3>{strings.ATTEMPTS}</h3><pre tabindex="0">{escape(explain(record))}</pre></div></details>'
    )


def _about(entry: HistoryEntry) -> str:
    """Facts about the picture or, for a rejected one, what to do."""
    if not entry.portrait.accepted:
        return strings.REJECTED_HOW
    height, width = entry.portrait.picture.shape[:2]
    return f"{title_of(entry.portrait.record.style)} · {width} × {height}"


# The history -----------------------------------------------------------------------------------------------------


def history_html(session: Session) -> str:
    """The pictures of the session in a row, the newest last, and the actions on the one that is shown."""
    if not session.history and session.photo is None:
        return ""
    items = "".join(_history_item(entry, is_current=entry.number == session.current) for entry in session.history)
    dropped = f'<p class="note">{strings.DROPPED.format(n=session.dropped)}</p>' if session.dropped else ""
    entry = session.find(session.current)
    actions = ""
    if entry is not None:
        pressed = "true" if entry.is_starred else "false"
        actions = _way("star", strings.STAR, f'data-number={entry.number} aria-pressed="{pressed}"') + _way(
            "delete", strings.DELETE, f"data-number={entry.number}"
        )
    undo = _way("undo", strings.UNDO, "" if session.can_undo else "disabled")
    reset = _way("reset", strings.RESET, f'aria-description="{strings.RESET_HELP}" title="{strings.RESET_HELP}"')
    return (
        f'<section class="history" aria-label="{strings.HISTORY}"><ol tabindex="-1">{items}</ol>'
        f'<div class="ways">{actions}{undo}{reset}</div></section>{dropped}'
    )


def _way(act: str, text: str, attributes: str) -> str:
    return f'<button type="button" class="plain" data-act="{act}" data-key="{act}" {attributes}>{text}</button>'


def _history_item(entry: HistoryEntry, *, is_current: bool) -> str:
    record = entry.portrait.record
    label = strings.HISTORY_LABEL.format(picture=_alt(entry), balance=record.balance)
    label = escape(strings.STARRED.format(picture=label) if entry.is_starred else label)
    star = "★ " if entry.is_starred else ""
    small = data_uri(entry.thumbnail, quality=80, generated=True)
    current = ' aria-current="true"' if is_current else ""
    return (
        f'<li><button type="button" data-show="{entry.number}" data-key="show-{entry.number}"{current} aria-label="{label}" title="{label}">'
        f'<img src="{small}" alt="" width="{SMALL}" height="{SMALL}">{_badge(entry)}<span>{star}{entry.number} {escape(title_of(record.style))}</span>'
        f"</button></li>"
    )
