"""The parts of the page as HTML: what is shown follows from a session, and every text is escaped."""

from __future__ import annotations

import base64
import io
from functools import lru_cache
from html import escape
from importlib import resources

from PIL import Image

from portrait.judge.verdict import KEEP_LIMITS, describe_reason, describe_strangers
from portrait.provenance.mark import xmp_mark
from portrait.recipes.recipe import Recipe
from portrait.recipes.samples import sample_file
from portrait.recipes.style import styles
from portrait.records import RgbImage
from portrait.records.portrait import PortraitRecord
from portrait.report.explain import explain
from portrait.report.sheet import thumbnail
from portrait.studio import downloads, strings
from portrait.studio.jobs import JobEvent
from portrait.studio.session import HistoryEntry, Session
from portrait.studio.uploads import MAX_UPLOAD_MB

SHOWN = 1100
"""The longer side of pictures on the page, pixels; the files for download are whole."""
SMALL = 132


def data_uri(image: RgbImage, *, quality: int = 90, generated: bool = False) -> str:
    """A picture inside of the page: nothing of it is written to disk. A generated one is marked as such."""
    buffer = io.BytesIO()
    xmp = xmp_mark().encode() if generated else b""
    Image.fromarray(image).save(buffer, "WEBP", quality=quality, method=2, xmp=xmp)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def asset(name: str) -> str:
    """The text of frame.css, page.css or page.js."""
    return (resources.files("portrait.studio") / name).read_text("utf-8")


# The photo -------------------------------------------------------------------------------------------------------


def photo_html(session: Session | None, *, problem: str = "", looking: bool = False, local: bool = True) -> str:
    """The place for the photo: a drop zone, or the photo with its faces as buttons."""
    if looking:
        return (  # with an input, for whoever sees that it is the wrong photo
            f'<label class="drop busy">{_file_input("photo")}<strong data-announce>{strings.LOOKING}</strong></label>'
        )
    if session is None or session.photo is None:
        return _drop_zone(problem, local)
    photo = session.photo
    height, width = photo.pixels.shape[:2]
    count = len(session.faces)
    faces = strings.FACES.get(count) or strings.FACES_MANY.format(n=count)
    if count < 2:
        hint = f"{faces.capitalize()}."
    elif session.face is None:
        hint = strings.CHOOSE_FACE
    else:
        hint = strings.CHOSEN_FACE.format(n=session.face + 1)
    alt = strings.PHOTO_ALT.format(faces=faces)
    buttons = "".join(_face_button(session, index, width, height) for index in range(count))
    return (
        f'{alert(problem)}<div class="stage" data-width="{width}" data-height="{height}"><img src="{_shown(photo.pixels)}" '
        f'alt="{escape(alt)}" width="{width}" height="{height}" draggable="false">{buttons}<div class="region" hidden></div>'
        f'</div><div class="row"><p class="note" data-hint data-chosen="{escape(strings.CHOSEN_FACE)}">{escape(hint)}</p>'
        f'<label class="quiet button">{_file_input("photo")}{strings.OTHER_PHOTO}</label>'
        f'<button type="button" class="quiet" data-act="draw" data-key="draw" aria-pressed="false" data-help="{escape(strings.DRAW_HELP)}" '
        f'data-done="{escape(strings.DRAW_DONE)}">'
        f"{strings.DRAW}</button></div>"
    )


def _drop_zone(problem: str, local: bool) -> str:
    privacy = strings.PHOTO_STAYS if local else strings.PHOTO_STAYS_HOST
    return (
        f'{alert(problem)}<label class="drop">{_file_input("photo")}'
        f'<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 18v1a1 1 0 0 0 1 1h14a1 1 0 0 0 1-1v-1M12 15V4m0 0L8 '
        f'8m4-4 4 4"/></svg><strong class="mouse">{strings.DROP}</strong>'
        f'<span class="mouse">{strings.DROP_HOW}</span><strong class="touch">{strings.CHOOSE}</strong></label>'
        f'<div class="row"><button type="button" class="quiet" data-act="camera" data-key="camera">{strings.CAMERA}</button></div>'
        f'<p class="note">{escape(privacy)}</p>{_camera()}'
    )


def _shown(pixels: RgbImage, *, generated: bool = False) -> str:
    return data_uri(thumbnail(pixels, SHOWN), quality=85, generated=generated)


def _file_input(what: str) -> str:
    return (
        f'<input type="file" class="sr" data-file="{what}" data-key="{what}" accept="image/*,.heic,.heif,.hif,.avif,.tif,.tiff,.jfif,.mpo" '
        f'data-limit="{MAX_UPLOAD_MB}" data-too-large="{escape(strings.TOO_LARGE_UPLOAD)}" '
        f'data-failed="{escape(strings.UPLOAD_FAILED)}" data-nothing="{escape(strings.NOT_A_PICTURE)}">'
    )


def _camera() -> str:
    return (
        f'<div class="camera" data-none="{escape(strings.NO_CAMERA)}" hidden><video playsinline muted></video>'
        f'<div class="row"><button type="button" data-act="shoot">{strings.CAMERA_SHOOT}</button>'
        f'<button type="button" class="quiet" data-act="camera-off">{strings.CAMERA_STOP}</button></div></div>'
    )


def _face_button(session: Session, index: int, width: int, height: int) -> str:
    x1, y1, x2, y2 = (float(v) for v in session.faces[index].bbox)
    place = (
        f"left:{100 * x1 / width:.2f}%;top:{100 * y1 / height:.2f}%;"
        f"width:{100 * (x2 - x1) / width:.2f}%;height:{100 * (y2 - y1) / height:.2f}%"
    )
    label = strings.FACE_LABEL.format(n=index + 1, total=len(session.faces))
    number = f"<span>{index + 1}</span>" if len(session.faces) > 1 else ""
    pressed = "true" if session.face == index else "false"
    return (
        f'<button type="button" class="face" data-face="{index}" data-key="face-{index}" aria-pressed="{pressed}" aria-label="{escape(label)}" '
        f'title="{escape(label)}" style="{place}">{number}</button>'
    )


# The styles ------------------------------------------------------------------------------------------------------


def styles_html(recipe: Recipe, chosen: str) -> str:
    """A card per style with a sample that the model made; a group of radio buttons to the keyboard."""
    cards = []
    for name in recipe.styles:
        title = _title(name)
        sample = sample_of(recipe.name, name)
        alt = escape(strings.SAMPLE_ALT.format(title=title))
        shown = (
            f'<img src="{sample}" alt="{alt}" width="256" height="256">'
            if sample
            else f'<span class="none">{strings.NO_SAMPLE}</span>'
        )
        checked = " checked" if name == chosen else ""
        cards.append(
            f'<label class="style"><input type="radio" class="sr" name="style" value="{escape(name)}"{checked}>'
            f"{shown}<span>{escape(title)}</span></label>"
        )
    return (
        f'<fieldset class="styles"><legend>{strings.STYLE}</legend><div class="cards">{"".join(cards)}</div></fieldset>'
    )


@lru_cache(maxsize=64)
def sample_of(recipe: str, style: str) -> str:
    """The sample of a style as a data URI; empty if there is none."""
    file = sample_file(recipe, style)
    return "" if file is None else "data:image/webp;base64," + base64.b64encode(file.read_bytes()).decode()


# The result ------------------------------------------------------------------------------------------------------


def empty_html(problem: str = "", message: str = "") -> str:
    """The place for the portrait, before there is one."""
    note = f'<p class="note" data-announce>{escape(message)}</p>' if message else ""
    return (
        f'{alert(problem)}{note}<div class="empty"><svg viewBox="0 0 48 48" aria-hidden="true"><circle cx="24" cy="18" r="8"/>'
        f'<path d="M8 44c1-10 7-15 16-15s15 5 16 15"/></svg><strong>{strings.EMPTY}</strong>'
        f"<span>{strings.EMPTY_HOW}</span></div>"
    )


def working_html(event: JobEvent, variants: int, preview: str, before: str) -> str:
    """What is shown while a job works: how far it is, and the picture as it forms.

    Args:
        event: What happened last.
        variants: How many pictures the job makes.
        preview: The picture as it forms, as a data URI; empty before there is one.
        before: What is shown until then.
    """
    progress = ""
    if event.kind == "waiting":
        text = strings.IN_LINE.format(place=event.position) if event.position > 1 else strings.NEXT
    elif event.kind == "step":
        form = strings.WORKING_VARIANT if variants > 1 else strings.WORKING
        text = form.format(
            attempt=event.attempt, step=event.step, total=event.total, variant=event.variant, variants=variants
        )
        progress = f' value="{event.step}" max="{event.total}"'
    else:
        text = strings.LOADING
    announced = f"{event.kind} {event.position} {event.variant} {event.attempt}"  # not every step, to screen readers
    image = ""
    if preview or before:
        waits = "" if preview else " waits"
        image = f'<img class="forming{waits}" src="{preview or before}" alt="{strings.FORMING_ALT}">'
    return (
        f'<div class="working">{image}<p data-announce="{escape(announced)}">{escape(text)}</p>'
        f'<progress aria-label="{escape(text)}"{progress}></progress></div>'
    )


def result_html(session: Session, *, problem: str = "", message: str = "") -> str:
    """The picture that is shown, before and after, with its verdict, what to do next, and the history."""
    entry = session.find(session.current)
    if entry is None:
        return empty_html(problem, message)
    record = entry.portrait.record
    verdict = strings.VERDICTS[entry.portrait.accepted]
    note = f'<p class="note" data-announce>{escape(message)}</p>' if message else ""
    alt = strings.RESULT_ALT.format(n=entry.number, style=_title(record.style), verdict=verdict)
    announced = "" if message or problem else f' data-announce="{escape(alt)}"'
    return (
        f'{alert(problem)}{note}<div class="result"{announced}>{_compare(session, entry, alt)}'
        f'<div class="facts">{_verdict(entry)}{_next()}</div></div>{_history(session)}{_takeaway(session, entry)}'
    )


def _compare(session: Session, entry: HistoryEntry, alt: str) -> str:
    other = session.find(session.compared)
    before = entry.portrait.before if other is None else other.portrait.picture
    left = strings.BEFORE if other is None else strings.PICTURE_N.format(n=other.number).capitalize()
    height, width = entry.portrait.picture.shape[:2]
    options = "".join(
        f'<option value="{one.number}"{" selected" if other is one else ""}>{strings.PICTURE_N.format(n=one.number)}</option>'
        for one in session.history
        if one is not entry
    )
    return (
        f'<figure class="compare"><div class="pair" style="--cut:50%;aspect-ratio:{width}/{height}">'
        f'<img class="before" src="{_shown(before)}" alt="{escape(left)}">'
        f'<img class="after" src="{_shown(entry.portrait.picture, generated=True)}" alt="{escape(alt)}">'
        f'<span class="tag left" aria-hidden="true">{escape(left)}</span>'
        f'<span class="tag right" aria-hidden="true">{strings.AFTER}</span><i aria-hidden="true"></i>'
        f'<input type="range" min="0" max="100" value="50" data-key="cut" aria-label="{strings.COMPARE}"></div>'
        f'<figcaption><label>{strings.COMPARE_WITH} <select data-compare data-key="compare"><option value="">'
        f"{strings.THE_PHOTO}</option>{options}</select></label>"
        f'<label class="tick"><input type="checkbox" data-side data-key="side">{strings.SIDE_BY_SIDE}</label>'
        f"</figcaption></figure>"
    )


def likeness(margin: float) -> str:
    """How far above or below its threshold a judge's score is, in words."""
    return next(words for min_margin, words in strings.LIKENESS if margin >= min_margin)


def _verdict(entry: HistoryEntry) -> str:
    """Accepted or not and why, every measurement beside its limit, and what the thresholds stand for."""
    record = entry.portrait.record
    judges = record.chosen_attempt.similarity
    advice = ""
    if entry.portrait.accepted:
        tone = "good"
        verdict = strings.ACCEPTED if len(judges) > 1 else strings.ACCEPTED_ONE
    else:
        tone = "bad"
        verdict = strings.REJECTED.format(why="; ".join(describe_reason(reason) for reason in record.reasons))
        advice = f'<p class="note">{strings.REJECTED_HOW}</p>'
    notes = []
    if record.far:
        notes.append(strings.STRANGERS.format(n=1 / record.far))
    if record.provisional_thresholds:
        notes.append(strings.PROVISIONAL.format(note=record.provisional_thresholds))
    return (
        f'<p class="verdict {tone}">{escape(verdict)}</p>{advice}<dl>{_measurements(record)}</dl>'
        f'<p class="note">{escape(" ".join(notes))}</p>'
    )


def _measurements(record: PortraitRecord) -> str:
    """Likeness by each judge, style, burned-out colors and what had to be kept, each beside its limit."""
    attempt = record.chosen_attempt
    limits = record.limits
    rows = []
    for judge, similarity in attempt.similarity.items():
        threshold = record.thresholds[judge].value
        words = likeness(similarity - threshold)
        if judge in attempt.strangers:
            words += f": {describe_strangers(attempt.strangers[judge])}"
        rows.append(_meter(strings.JUDGES.get(judge, judge), words, similarity, threshold))
    style = attempt.style_on_face
    min_style = limits.style_on_face_of_style
    rows.append(_meter(strings.STYLE_ON_FACE, strings.STYLE_WORDS[style >= min_style], style, min_style))
    distance = attempt.style_distance
    max_distance = limits.style_distance
    if distance is not None and max_distance is not None:
        words = strings.DISTANCE_WORDS[distance <= max_distance]
        rows.append(_meter(_title(record.style), words, distance, max_distance, at_most=True))
    sure = attempt.style_probability
    least_sure = limits.style_probability
    if sure is not None and least_sure is not None:
        rows.append(_meter(_title(record.style), strings.DISTANCE_WORDS[sure >= least_sure], sure, least_sure))
    for what, change in attempt.changed.items():
        if what in limits.changed:
            words = strings.CHANGED_WORDS[abs(change) <= limits.changed[what]]
            label = strings.CHANGED.get(what, what)
            rows.append(_meter(label, words, abs(change), limits.changed[what], at_most=True, form=".1f"))
    words = strings.BURNED_WORDS[attempt.burned <= limits.burned]
    rows.append(_meter(strings.BURNED, words, attempt.burned, limits.burned, at_most=True, form=".1%"))
    rows += [_kept(name, value, f"broken_keep:{name}" in attempt.reasons) for name, value in attempt.kept.items()]
    return "".join(rows)


def _kept(name: str, value: float, broken: bool) -> str:
    """What had to be kept, and whether it was."""
    side, limit = KEEP_LIMITS[name.partition(":")[0]]
    label = escape(strings.KEPT_LABEL.format(name=name))
    tone = "bad" if broken else "good"
    words = strings.BROKEN if broken else strings.KEPT
    numbers = _numbers(value, limit, side == "at most", "g")
    return f'<div class="meter"><dt>{label}<span>{numbers}</span></dt><dd><b class="{tone}">{words}</b></dd></div>'


def _meter(name: str, words: str, value: float, limit: float, *, at_most: bool = False, form: str = ".2f") -> str:
    """A measurement beside its limit: in words, in numbers, as a bar with a mark."""
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


def _title(style: str) -> str:
    return styles()[style].title if style in styles() else style


def _next() -> str:
    acts = (("like", strings.MORE_LIKE_ME), ("style", strings.MORE_STYLE), ("another", strings.ANOTHER))
    buttons = "".join(
        f'<button type="button" data-make="{act}" data-key="{act}">{escape(text)}</button>' for act, text in acts
    )
    return (
        f'<div class="next">{buttons}<label class="button">{_file_input("same-look")}{strings.SAME_LOOK}</label></div>'
    )


def _history(session: Session) -> str:
    items = []
    for entry in session.history:
        current = ' aria-current="true"' if entry.number == session.current else ""
        verdict = strings.VERDICTS[entry.portrait.accepted]
        mark = "✓" if entry.portrait.accepted else "✕"
        record = entry.portrait.record
        label = strings.RESULT_ALT.format(n=entry.number, style=_title(record.style), verdict=verdict)
        label = strings.HISTORY_LABEL.format(picture=label, balance=record.balance)
        small = data_uri(entry.thumbnail, quality=80, generated=True)
        items.append(
            f'<li><button type="button" data-show="{entry.number}" data-key="show-{entry.number}"{current} '
            f'aria-label="{escape(label)}" title="{escape(label)}"><img src="{small}" alt="" width="{SMALL}" height="{SMALL}">'
            f'<span class="{"good" if entry.portrait.accepted else "bad"}" aria-hidden="true">{mark} {entry.number}</span>'
            f"</button></li>"
        )
    earlier = any(session.current is not None and entry.number < session.current for entry in session.history)
    return (
        f'<section class="history" aria-label="{strings.HISTORY}"><h2>{strings.HISTORY}</h2><ol>{"".join(items)}</ol>'
        f'<div class="row"><button type="button" class="quiet" data-act="undo" data-key="undo"{"" if earlier else " disabled"}>'
        f'{strings.UNDO}</button><button type="button" class="quiet reset" data-act="reset" data-key="reset" '
        f'aria-description="{strings.RESET_HELP}">{strings.RESET}</button><span class="note">{strings.RESET_HELP}</span></div></section>'
    )


def _takeaway(session: Session, entry: HistoryEntry) -> str:
    files = downloads.links(session, entry)
    links = "".join(
        f'<a class="button" href="{escape(file.href)}" download="{escape(file.name)}">{text}</a>'
        for file, text in ((files.picture, strings.DOWNLOAD_PICTURE), (files.archive, strings.DOWNLOAD_ALL))
    )
    unsaved = "" if entry.has_file else f'<p class="note">{strings.COMMAND_PHOTO}</p>'
    return (
        f'<section class="takeaway" aria-label="{strings.DOWNLOADS}"><div class="row">{links}</div>'
        f"<details><summary>{strings.COMMAND}</summary><p>{strings.COMMAND_INFO}</p>{unsaved}"
        f'<pre tabindex="0"><code>{escape(entry.command())}</code></pre><button type="button" class="quiet" data-act="copy" '
        f'data-copied="{strings.COPIED}">{strings.COPY}</button></details>'
        f"<details><summary>{strings.ATTEMPTS}</summary>"
        f'<pre tabindex="0">{escape(explain(entry.portrait.record))}</pre></details></section>'
    )


# The reports -----------------------------------------------------------------------------------------------------


def report_html(page: str, run: str) -> str:
    """A report page in a frame of its own, without any right to reach this page or the network."""
    title = escape(strings.REPORT_TITLE.format(run=run))
    return f'<iframe class="report" sandbox="allow-scripts" title="{title}" srcdoc="{escape(page)}"></iframe>'


def notice(text: str) -> str:
    """A quiet sentence between the controls."""
    return f'<p class="note">{escape(text)}</p>'


def alert(problem: str) -> str:
    """A sentence that screen readers say at once; nothing for none."""
    return f'<p class="alert" role="alert">{escape(problem)}</p>' if problem else ""
