"""The parts of the page as HTML: what is shown follows from a session, and every text is escaped."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from urllib.parse import quote

from PIL import Image

from portrait.judge.verdict import KEEP_LIMITS, describe_reason, describe_strangers
from portrait.provenance.mark import xmp_mark
from portrait.recipes.recipe import Recipe
from portrait.records import RgbImage
from portrait.records.portrait import PortraitRecord
from portrait.report.explain import explain
from portrait.report.sheet import thumbnail
from portrait.studio import strings
from portrait.studio.controls import STRENGTHS, sample_of, title_of
from portrait.studio.downloads import Link, Links, SizeLink, links
from portrait.studio.jobs import JobEvent
from portrait.studio.session import HistoryEntry, Session
from portrait.studio.session_registry import GRACE_SECONDS
from portrait.studio.uploads import MAX_UPLOAD_MB

SHOWN = 1100
"""The longer side of photos on the page, pixels; the files for download are whole."""
SMALL = 96
"""Side of a picture in the history, pixels."""
CROP = 128
"""Side of a face beside the photo, pixels."""
MAX_CHOICES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What is to be said besides: a problem, perhaps about one field of the form, or a message."""

    problem: str = ""
    field: str = ""
    message: str = ""


NOTHING = Notice()


def data_uri(image: RgbImage, *, quality: int = 90, generated: bool = False) -> str:
    """A picture inside of the page: nothing of it is written to disk. A generated one is marked as such."""
    buffer = io.BytesIO()
    xmp = xmp_mark().encode() if generated else b""
    Image.fromarray(image).save(buffer, "WEBP", quality=quality, method=2, xmp=xmp)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def asset(name: str) -> str:
    """The text of frame.css, page.css or page.js."""
    return (resources.files("portrait.studio") / name).read_text("utf-8")


def head() -> str:
    """What stands in the page's head: colors and frame, the script, the icon."""
    icon = f'<link rel="icon" href="{_favicon()}"><meta name="viewport" content="width=device-width, initial-scale=1">'
    return f"{icon}<style>{asset('frame.css')}</style><script>{asset('page.js')}</script>"


def _favicon() -> str:
    """The page's icon as a data URI: a head in a frame."""
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="#0f766e"/>'
        '<circle cx="16" cy="13" r="5.5" fill="#fff"/><path d="M5 29c1-7 5-9 11-9s10 2 11 9" fill="#fff"/></svg>'
    )
    return f"data:image/svg+xml,{quote(svg)}"


# The photo -------------------------------------------------------------------------------------------------------


def photo_html(session: Session | None, *, problem: str = "", looking: bool = False, local: bool = True) -> str:
    """The place for the photo: a drop zone, or the photo, small, with its faces beside it."""
    if looking:
        return (  # with an input, for whoever sees that it is the wrong photo
            f'<label class="drop busy">{_file_input("photo")}<strong data-announce>{strings.LOOKING}</strong></label>'
        )
    if session is None or session.photo is None:
        return _drop_zone(problem, local)
    count = len(session.faces)
    faces = strings.FACES.get(count) or strings.FACES_MANY.format(n=count)
    ready = " data-ready" if session.face is not None else ""
    hint = f"{faces.capitalize()}."
    if count > 1:
        hint = strings.CHOOSE_FACE if session.face is None else strings.CHOSEN_FACE.format(n=session.face)
    chosen = "" if count < 2 or session.face is None else _crops(session)
    advice = "".join(f'<p class="note advice">{escape(text)}</p>' for text in session.advice)
    height, width = session.photo.pixels.shape[:2]
    return (
        f'{alert(problem)}<div class="photo"{ready}><img src="{_shown(session.photo.pixels)}" data-width="{width}" '
        f'data-height="{height}" alt="{escape(strings.PHOTO_ALT.format(faces=faces))}" draggable="false">'
        f'<div><strong class="name">{escape(session.photo.path.name)}</strong><p class="note" data-hint>{escape(hint)}</p>'
        f'<label class="plain button">{_file_input("photo")}{strings.OTHER_PHOTO}</label></div></div>{advice}{chosen}{_references(session)}'
    )


def _drop_zone(problem: str, local: bool) -> str:
    privacy = (strings.PHOTO_STAYS if local else strings.PHOTO_STAYS_HOST).format(n=round(GRACE_SECONDS / 60))
    return (
        f'{alert(problem)}<label class="drop">{_file_input("photo")}'
        f'<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 18v1a1 1 0 0 0 1 1h14a1 1 0 0 0 1-1v-1M12 15V4m0 0L8 '
        f'8m4-4 4 4"/></svg><strong class="mouse">{strings.DROP}</strong>'
        f'<span class="mouse">{strings.DROP_HOW}</span><strong class="touch">{strings.CHOOSE}</strong></label>'
        f'<div class="row"><button type="button" class="plain" data-act="camera" data-key="camera">{strings.CAMERA}</button></div>'
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
        f'<div class="row"><button type="button" class="plain" data-act="shoot">{strings.CAMERA_SHOOT}</button>'
        f'<button type="button" class="plain" data-act="camera-off">{strings.CAMERA_STOP}</button></div></div>'
    )


def _references(session: Session) -> str:
    """Further photos of the same person, which make the likeness better."""
    if session.face is None:
        return ""
    names = "".join(
        f'<li>{escape(photo.path.name)} <button type="button" class="quiet" data-act="drop-reference" data-number="{index}" '
        f'data-key="reference-{index}" aria-label="{escape(strings.REFERENCE_DROP.format(name=photo.path.name))}">✕</button></li>'
        for index, photo in enumerate(session.references)
    )
    return (
        f'<ul class="references">{names}<li><label class="quiet button" title="{strings.REFERENCE_HELP}">{_file_input("reference")}'
        f"{strings.REFERENCE}</label></li></ul>"
    )


def _crops(session: Session) -> str:
    """Each face, large enough to see and to hit."""
    return f'<div class="faces">{"".join(_crop_button(session, index) for index in range(len(session.faces)))}</div>'


def _crop_button(session: Session, index: int) -> str:
    return (
        f'<button type="button" data-face="{index}" data-key="face-{index}" {_face_state(session, index)}>'
        f'<img src="{data_uri(session.face_crop(index), quality=80)}" alt="" width="{CROP}" height="{CROP}"><span>{index}</span></button>'
    )


def crop_uris(session: Session) -> dict[str, str]:
    """What each frame takes of the photo, small; nothing while no face is chosen."""
    photo = session.photo
    crops = {}
    for frame in strings.FRAMES:
        box = session.crop(frame)
        if photo is not None and box is not None:
            left, top, side = box
            whole = frame == "full"
            pixels = photo.pixels if whole else RgbImage(photo.pixels[top : top + side, left : left + side])
            crops[frame] = data_uri(thumbnail(pixels, CROP), quality=75)
    return crops


def _face_state(session: Session, index: int) -> str:
    label = escape(strings.FACE_LABEL.format(n=index, total=len(session.faces)))
    pressed = "true" if session.face == index else "false"
    return f'aria-pressed="{pressed}" aria-label="{label}" title="{label}"'


# The viewer ------------------------------------------------------------------------------------------------------


def empty_html(recipe: Recipe, notice: Notice = NOTHING) -> str:
    """The place for the portrait before there is one: what the styles look like."""
    samples = [(name, sample) for name in recipe.styles if (sample := sample_of(recipe.name, name))]
    cells = "".join(
        f'<figure><img src="{sample}" alt=""><figcaption>{escape(title_of(name))}</figcaption></figure>'
        for name, sample in samples
    )
    across = next((n for n in (4, 3) if len(samples) % n == 0), 4)
    shape = f"--across:{across};--down:{-(-len(samples) // across)}"
    gallery = f'<div class="gallery" style="{shape}" role="img" aria-label="{strings.EXAMPLES}">{cells}</div>'
    said = _say(strings.EMPTY, strings.EMPTY_HOW, notice)
    return _viewer("empty", gallery, f'<div class="bar">{said}</div>')


def _viewer(state: str, canvas: str, bar: str) -> str:
    """The part as it is sent; with the time, so that the page hears of every answer, also of one that it has already."""
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
    """The line below the picture, and smaller ones; a problem takes the place of all."""
    if notice.problem:
        return f'<div class="say">{alert(notice.problem, notice.field)}</div>'
    key = f' data-announce="{escape(announced)}"' if announced and not notice.message else ""
    said = f'<p class="note" data-announce>{escape(notice.message)}</p>' if notice.message else ""
    small = said or f'<p class="note">{escape(note)}</p>'
    small += "".join(f'<p class="note advice">{escape(warning)}</p>' for warning in warnings)
    return f'<div class="say"{key}><p class="verdict {tone}">{escape(verdict)}</p>{small}</div>'


def choose_html(session: Session, notice: Notice = NOTHING) -> str:
    """Which face is meant: the photo with its faces marked, and each of them large."""
    assert session.photo is not None
    height, width = session.photo.pixels.shape[:2]
    marks = "".join(_mark(session, index, width, height) for index in range(len(session.faces)))
    canvas = (
        f'<div class="choose"><div class="stage" style="--w:{width};--h:{height}"><img src="{_shown(session.photo.pixels)}" alt="">{marks}</div>'
        f"{_crops(session)}</div>"
    )
    said = _say(strings.CHOOSE_FACE, strings.CHOOSE_FACE_NEXT, notice, announced=strings.CHOOSE_FACE)
    return _viewer("choose", canvas, f'<div class="bar">{said}</div>')


def _mark(session: Session, index: int, width: int, height: int) -> str:
    """A frame around a face in the photo, for pointers; its number stands beside the face, not on it."""
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
    """What is shown while a job works: how far it is, and the picture as it forms.

    Args:
        session: Whose job it is.
        event: What happened last; None before anything did.
        variants: How many pictures the job makes.
        preview: The picture as it forms, as a data URI; empty before there is one.
        before: What is shown until then.
    """
    text, progress, announced = strings.NEXT, "", ""
    if event is not None:
        text, progress = _progress(event, variants)
        announced = (
            f"{event.kind} {event.position} {event.variant} {event.attempt}"  # not every step, to screen readers
        )
    forming = (
        f'<img class="forming{"" if preview else " waits"}" src="{preview or before}" alt="{strings.FORMING_ALT}">'
    )
    if variants > 1:
        made = [entry for number in session.choices if (entry := session.find(number))]
        rest = "<span></span>" * max(0, min(variants, MAX_CHOICES) - len(made) - 1)
        picture = f'<div class="choices">{"".join(_choice(session, entry) for entry in made)}<span>{forming}</span>{rest}</div>'
    else:
        picture = f'<div class="pair" style="--w:1;--h:1">{forming}</div>'
    said = (
        f'<div class="say"><p class="verdict" data-announce="{escape(announced)}">{escape(text)}</p>'
        f'<progress aria-label="{escape(text)}"{progress}></progress></div>'
    )
    return _viewer("working", f'<div class="working">{picture}</div>', f'<div class="bar">{said}{_no_download()}</div>')


def _no_download() -> str:
    """The button at its place, while there is nothing to take away."""
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
    """What the session has to show: the picture with its verdict, pictures to choose from, faces to choose from, or samples."""
    if session.photo is not None and session.face is None:
        return choose_html(session, notice)
    entry = session.find(session.current)
    if entry is None:
        return empty_html(recipe, notice)
    choices = [one for number in session.choices if (one := session.find(number))]
    if session.is_choosing and len(choices) > 1:
        said = _say(strings.CHOICES, "", notice, announced=strings.CHOICES)
        canvas = f'<div class="choices">{"".join(_choice(session, one) for one in choices)}</div>'
        return _viewer("choices", canvas, f'<div class="bar">{said}{_no_download()}</div>')
    alt = _alt(entry)
    verdict, tone = _verdict(entry.portrait.record)
    said = _say(verdict, _about(entry), notice, tone=tone, announced=alt, warnings=entry.portrait.record.warnings)
    back = ""
    if entry in choices and len(choices) > 1:
        text = strings.SHOW_CHOICES.format(n=len(choices))
        back = f'<button type="button" class="plain back" data-act="choices" data-key="choices">{text}</button>'
    return _viewer(
        "done", _compare(session, entry, alt) + back, f'<div class="bar">{said}{_tools(session, entry)}</div>'
    )


def _picture_url(session: Session, entry: HistoryEntry) -> str:
    return escape(links(session, entry).picture.href)


def _until_loaded(entry: HistoryEntry) -> str:
    """What stands at the picture's place until its file is there; nothing behind one that is transparent."""
    if entry.portrait.cutout is not None:
        return ""
    return (
        f"background:url({data_uri(thumbnail(entry.portrait.picture, 256), quality=70, generated=True)}) 0 0/100% 100%"
    )


def _choice(session: Session, entry: HistoryEntry) -> str:
    return (
        f'<button type="button" data-show="{entry.number}" data-key="choice-{entry.number}" aria-label="{escape(_alt(entry))}">'
        f'<img src="{_picture_url(session, entry)}" alt="">{_badge(entry)}</button>'
    )


def _badge(entry: HistoryEntry) -> str:
    tone, mark = ("good", "✓") if entry.portrait.accepted else ("bad", "✕")
    return f'<span class="badge {tone}" aria-hidden="true">{mark}</span>'


def _alt(entry: HistoryEntry) -> str:
    verdict = strings.VERDICTS[entry.portrait.accepted]
    return strings.RESULT_ALT.format(n=entry.number, style=title_of(entry.portrait.record.style), verdict=verdict)


def _compare(session: Session, entry: HistoryEntry, alt: str) -> str:
    """The picture; under it, for whoever wants to compare, the photo or another picture."""
    other = session.find(session.compared)
    before = entry.portrait.before if other is None else other.portrait.picture
    left = strings.BEFORE if other is None else strings.PICTURE_N.format(n=other.number).capitalize()
    right = strings.AFTER if other is None else strings.PICTURE_N.format(n=entry.number).capitalize()
    height, width = entry.portrait.picture.shape[:2]
    options = "".join(
        f'<option value="{one.number}"{" selected" if other is one else ""}>{strings.PICTURE_N.format(n=one.number)}</option>'
        for one in session.history
        if one is not entry
    )
    return (
        f'<figure class="pair" style="--cut:50%;--w:{width};--h:{height};{_until_loaded(entry)}">'
        f'<img class="after" src="{_picture_url(session, entry)}" alt="{escape(alt)}" data-zoom>'
        f'<img class="before" src="{_shown(before)}" alt="{escape(left)}">'
        f'<span class="tag left" aria-hidden="true">{escape(left)}</span>'
        f'<span class="tag right" aria-hidden="true">{escape(right)}</span><i data-handle aria-hidden="true"></i>'
        f'<input type="range" class="cut" min="0" max="100" value="50" data-key="cut" aria-label="{strings.COMPARE_SLIDER}" '
        f'data-value="{strings.COMPARE_VALUE}"></figure>'
        f'<div class="with"><label>{strings.COMPARE_WITH} <select data-compare data-key="compare"><option value="">'
        f"{strings.THE_PHOTO}</option>{options}</select></label>"
        f'<label class="tick"><input type="checkbox" data-side data-key="side">{strings.SIDE_BY_SIDE}</label></div>'
    )


def _tools(session: Session, entry: HistoryEntry) -> str:
    """What can be done with the picture, the download last."""
    files = links(session, entry)
    copied = f'data-saves="{entry.number}" data-copied="{strings.COPIED}" data-failed="{strings.COPY_FAILED}"'
    return (
        f'<div class="tools">{_details(entry)}{_tool("compare", strings.COMPARE, "aria-pressed=false")}'
        f"{_tool('zoom', strings.ZOOM)}{_tool('copy-picture', strings.COPY_PICTURE, copied)}"
        f"{_tool('share', strings.SHARE, f'data-saves={entry.number} hidden')}{_sizes(entry, files)}"
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
"""What is drawn on a button, as an SVG path in a square of 24."""


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


def _sizes(entry: HistoryEntry, files: Links) -> str:
    """Every size that a network wants, folded away."""
    cuts = "".join(_link(entry, size, size_title(size), about=_size_about(size)) for size in files.sizes)
    whole = _link(entry, files.archive, strings.DOWNLOAD_ALL) + _link(entry, files.record, strings.DOWNLOAD_RECORD)
    return (
        f'<details class="details" data-fold="sizes"><summary class="button plain" data-key="sizes" title="{strings.SIZES_HELP}">'
        f'{_icon("zip")}<span>{strings.SIZES}</span></summary><div class="panel"><h3>{strings.SIZES}</h3>'
        f'<div class="sizes">{whole}{cuts}</div></div></details>'
    )


def size_title(size: SizeLink) -> str:
    """What a size is called on the page."""
    kind = size.size.partition("-")[0]
    return strings.SIZE_TITLES.get(kind, size.size)


def _size_about(size: SizeLink) -> str:
    about = strings.SIZE_ENLARGED if size.is_enlarged else strings.SIZE_ABOUT
    return about.format(width=size.width, height=size.height)


def _details(entry: HistoryEntry) -> str:
    """Scores, the command and the record in words, folded away."""
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
        f'<h3>{strings.SCORES}</h3><p class="note">{escape(" ".join(notes))}</p><dl>{_measurements(record)}</dl>'
        f'<h3>{strings.COMMAND}</h3><p class="note">{strings.COMMAND_INFO}</p>{unsaved}'
        f'<pre class="command" tabindex="0"><code>{escape(entry.command())}</code></pre>'
        f'<button type="button" class="plain" data-act="copy" data-copied="{strings.COPIED}">{strings.COPY}</button>'
        f'<h3>{strings.ATTEMPTS}</h3><pre tabindex="0">{escape(explain(record))}</pre></div></details>'
    )


def likeness(margin: float) -> str:
    """How far above or below its threshold a judge's score is, in words."""
    return next(words for min_margin, words in strings.LIKENESS if margin >= min_margin)


def _verdict(record: PortraitRecord) -> tuple[str, str]:
    """One line: does it look like the person, and how sure is that; and its tone."""
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
        return next(words for most, words in strings.SURE if share <= most)
    margin = min((value - record.thresholds[judge].value for judge, value in attempt.similarity.items()), default=0.0)
    return strings.SURE[0 if margin >= strings.LIKENESS[0][0] else -1][1]


def _about(entry: HistoryEntry) -> str:
    """What the picture is; of a rejected one, what to do."""
    if not entry.portrait.accepted:
        return strings.REJECTED_HOW
    height, width = entry.portrait.picture.shape[:2]
    return f"{title_of(entry.portrait.record.style)} · {width} × {height}"


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
        rows.append(_meter(title_of(record.style), words, distance, max_distance, at_most=True))
    sure = attempt.style_probability
    least_sure = limits.style_probability
    if sure is not None and least_sure is not None:
        rows.append(_meter(title_of(record.style), strings.DISTANCE_WORDS[sure >= least_sure], sure, least_sure))
    for what, change in attempt.changed.items():
        if what in limits.changed:
            words = strings.CHANGED_WORDS[abs(change) <= limits.changed[what]]
            label = strings.CHANGED.get(what, what)
            rows.append(_meter(label, words, abs(change), limits.changed[what], at_most=True, form=".3g"))
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


# The history -----------------------------------------------------------------------------------------------------


def history_html(session: Session) -> str:
    """The pictures of the session in a row, the newest last, and what can be done with the one that is shown."""
    if not session.history and session.photo is None:
        return ""
    items = "".join(_history_item(entry, is_current=entry.number == session.current) for entry in session.history)
    dropped = f'<p class="note">{strings.DROPPED.format(n=session.dropped)}</p>' if session.dropped else ""
    entry = session.find(session.current)
    own = ""
    if entry is not None:
        pressed = "true" if entry.is_starred else "false"
        own = _way("star", strings.STAR, f'data-number={entry.number} aria-pressed="{pressed}"') + _way(
            "delete", strings.DELETE, f"data-number={entry.number}"
        )
    undo = _way("undo", strings.UNDO, "" if session.can_undo else "disabled")
    reset = _way("reset", strings.RESET, f'aria-description="{strings.RESET_HELP}" title="{strings.RESET_HELP}"')
    return (
        f'<section class="history" aria-label="{strings.HISTORY}"><ol tabindex="-1">{items}</ol>'
        f'<div class="ways">{own}{undo}{reset}</div></section>{dropped}'
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


def dialogs_html() -> str:
    """What opens above the page: a question, the picture alone, and the photo to draw on."""
    return (
        f'<dialog id="ask" data-reset="{escape(strings.ASK_RESET)}" data-reset-yes="{strings.ASK_YES_RESET}" '
        f'data-replace="{escape(strings.ASK_REPLACE)}" data-replace-yes="{strings.ASK_YES_REPLACE}"><form method="dialog"><p></p><div class="row">'
        f'<button class="plain" value="">{strings.ASK_NO}</button><button class="primary" value="yes"></button></div></form></dialog>'
        f'<dialog id="zoom"><form method="dialog"><button class="plain">{strings.ZOOM_CLOSE}</button></form><img alt=""></dialog>'
        f'<dialog id="draw"><p class="note">{strings.DRAW_HELP}</p><div class="stage drawing"><img alt="" draggable="false">'
        f'<div class="region" hidden></div></div><form method="dialog"><button class="primary">{strings.DRAW_CLOSE}</button></form></dialog>'
    )


def key_html(session: Session) -> str:
    """By what a tab that is loaded anew is known."""
    return f'<i data-session="{session.key}"></i>'


def look_html(toml: str, style: str) -> str:
    """A look as a file, which the page takes away at once."""
    return f'<a data-look download="look-{escape(style)}.toml" href="data:application/toml;charset=utf-8,{quote(toml)}"></a>'


def preview_uri(picture: RgbImage) -> str:
    """A small picture as `previews_html` sends it."""
    return data_uri(picture, quality=80, generated=True)


def previews_html(session: Session, recipe: str, style: str, frame: str) -> str:
    """The small pictures that there are so far, for the page to put in their places."""
    found = []
    for (of_recipe, of_style, of_frame, balance), src in list(session.previews.items()):
        places = [of_style] if balance == STRENGTHS[1] else []
        places += [f"{balance:g}"] if of_style == style else []
        if (of_recipe, of_frame) == (recipe, frame):
            found += [f'<i data-place="{escape(place)}" data-src="{src}"></i>' for place in places]
    return "".join(found)


# The reports -----------------------------------------------------------------------------------------------------


def report_html(page: str, run: str) -> str:
    """A report page in a frame of its own, without any right to reach this page or the network."""
    title = escape(strings.REPORT_TITLE.format(run=run))
    return f'<iframe class="report" sandbox="allow-scripts" title="{title}" srcdoc="{escape(page)}"></iframe>'


def notice(text: str) -> str:
    """A quiet sentence between the controls."""
    return f'<p class="note">{escape(text)}</p>'


def alert(problem: str, field: str = "") -> str:
    """A sentence that screen readers say at once, and the field that it is about; nothing for none."""
    about = f' data-field="{field}"' if field else ""
    return f'<p class="alert" role="alert"{about}>{escape(problem)}</p>' if problem else ""
