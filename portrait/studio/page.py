"""The photo and the frame of the page as HTML, derived from a session; every text is escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from html import escape
from importlib import resources
from urllib.parse import quote

from PIL import Image

from portrait.images import thumbnail
from portrait.provenance.mark import xmp_mark
from portrait.records import RgbImage
from portrait.studio import strings
from portrait.studio.controls import STRENGTHS, CropView
from portrait.studio.session import Session
from portrait.studio.session_registry import GRACE_SECONDS
from portrait.studio.uploads import ACCEPTED, MAX_UPLOAD_MB

SHOWN = 1100
"""The longer side of photos on the page, in pixels; files for download have full size."""
CROP = 128
"""Side of a face beside the photo, in pixels."""
CROP_STAGE = 512
"""The longer side of the photo on which the crop is moved, in pixels."""


def data_uri(image: RgbImage, *, quality: int = 90, generated: bool = False) -> str:
    """A picture embedded in the page, without a file on disk. Generated pictures are marked as such."""
    buffer = io.BytesIO()
    xmp = xmp_mark().encode() if generated else b""
    Image.fromarray(image).save(buffer, "WEBP", quality=quality, method=2, xmp=xmp)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def asset(name: str) -> str:
    """The text of frame.css, page.css or page.js."""
    return (resources.files("portrait.studio") / name).read_text("utf-8")


def head() -> str:
    """The content of the page's head: colors and frame, the script, the icon."""
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
    """The photo's area: a drop zone, or the small photo with its faces beside it."""
    if looking:
        return (  # with an input, for visitors who notice that it is the wrong photo
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
    chosen = "" if count < 2 or session.face is None else crops_html(session)
    advice = advice_html(session.advice)
    height, width = session.photo.pixels.shape[:2]
    return (
        f'{alert(problem)}<div class="photo"{ready}><img src="{shown_uri(session.photo.pixels)}" data-width="{width}" '
        f'data-height="{height}" alt="{escape(strings.PHOTO_ALT.format(faces=faces))}" draggable="false">'
        f'<div><strong class="name">{escape(session.photo.path.name)}</strong><p class="note" data-hint>{escape(hint)}</p>'
        f'<label class="plain button">{_file_input("photo")}{strings.OTHER_PHOTO}</label></div></div>{advice}{chosen}{_references(session)}'
    )


def advice_html(texts: Iterable[str]) -> str:
    """A small line for each."""
    return "".join(f'<p class="note advice">{escape(text)}</p>' for text in texts)


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


def shown_uri(pixels: RgbImage) -> str:
    """A picture in the size that the page shows, as a data URI."""
    return data_uri(thumbnail(pixels, SHOWN), quality=85)


def _file_input(what: str) -> str:
    return (
        f'<input type="file" class="sr" data-file="{what}" data-key="{what}" accept="{ACCEPTED}" '
        f'data-limit="{MAX_UPLOAD_MB}" data-too-large="{escape(strings.TOO_LARGE_UPLOAD)}" '
        f'data-failed="{escape(strings.UPLOAD_FAILED)}" data-nothing="{escape(strings.NOT_A_PICTURE)}" '
        f'data-many="{escape(strings.ONE_PHOTO)}">'
    )


def _camera() -> str:
    return (
        f'<div class="camera" data-none="{escape(strings.NO_CAMERA)}" hidden><video playsinline muted></video>'
        f'<div class="row"><button type="button" class="plain" data-act="shoot" data-key="shoot">{strings.CAMERA_SHOOT}</button>'
        f'<button type="button" class="plain" data-act="camera-off" data-key="camera-off">{strings.CAMERA_STOP}</button></div></div>'
    )


def _references(session: Session) -> str:
    """Further photos of the same person, which improve the likeness."""
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


def crops_html(session: Session) -> str:
    """Each face, large enough to see and to click."""
    return f'<div class="faces">{"".join(_crop_button(session, index) for index in range(len(session.faces)))}</div>'


def _crop_button(session: Session, index: int) -> str:
    return (
        f'<button type="button" data-face="{index}" data-key="face-{index}" {_face_state(session, index)}>'
        f'<img src="{data_uri(session.face_crop(index), quality=80)}" alt="" width="{CROP}" height="{CROP}"><span>{index}</span></button>'
    )


def crop_view(session: Session) -> CropView | None:
    """The photo, small, and the square of each frame; None while no face is chosen."""
    squares = {frame: square for frame in strings.FRAMES if (square := session.square(frame))}
    if session.photo is None or not squares:
        return None
    height, width = session.photo.pixels.shape[:2]
    uri = data_uri(thumbnail(session.photo.pixels, CROP_STAGE), quality=75)
    return CropView(uri=uri, width=width, height=height, squares=squares)


def _face_state(session: Session, index: int) -> str:
    label = escape(strings.FACE_LABEL.format(n=index, total=len(session.faces)))
    pressed = "true" if session.face == index else "false"
    return f'aria-pressed="{pressed}" aria-label="{label}" title="{label}"'


def dialogs_html() -> str:
    """The page's dialogs: a question, the picture alone, and the photo to draw on."""
    return (
        f'<dialog id="ask" data-reset="{escape(strings.ASK_RESET_UNSAVED)}" data-saved="{escape(strings.ASK_RESET)}" data-reset-yes="{strings.ASK_YES_RESET}" '
        f'data-replace="{escape(strings.ASK_REPLACE)}" data-replace-yes="{strings.ASK_YES_REPLACE}"><form method="dialog"><p></p><div class="row"><a class="button plain" hidden>{strings.ASK_SAVE}</a>'
        f'<button class="plain" value="">{strings.ASK_NO}</button><button class="primary" value="yes"></button></div></form></dialog>'
        f'<dialog id="zoom"><form method="dialog"><button class="plain">{strings.ZOOM_CLOSE}</button></form><img alt=""></dialog>'
        f'<dialog id="draw"><p class="note">{strings.DRAW_HELP}</p><div class="stage drawing"><img alt="" draggable="false">'
        f'<div class="region" hidden></div></div><form method="dialog"><button class="primary">{strings.DRAW_CLOSE}</button></form></dialog>'
        f"{_keys_html()}"
    )


def _keys_html() -> str:
    """What the keyboard does."""
    rows = "".join(f"<dt>{escape(keys)}</dt><dd>{escape(does)}</dd>" for keys, does in strings.KEYS.items())
    return (
        f'<dialog id="keys" aria-label="{strings.KEYS_TITLE}"><h2>{strings.KEYS_TITLE}</h2><dl>{rows}</dl>'
        f'<form method="dialog"><div class="row"><button class="primary">{strings.ZOOM_CLOSE}</button></div></form></dialog>'
    )


def footer_html() -> str:
    """What is below the controls."""
    keys = f'<button type="button" class="quiet mouse" data-act="keys">{strings.KEYS_TITLE}</button>'
    return f"<footer>{strings.FOOTER} {keys}</footer>"


def key_html(session: Session) -> str:
    """The key by which a reloaded tab is recognized."""
    return f'<i data-session="{session.key}"></i>'


def look_html(toml: str, style: str) -> str:
    """A look as a file, which the page downloads at once."""
    return f'<a data-look download="look-{escape(style)}.toml" href="data:application/toml;charset=utf-8,{quote(toml)}"></a>'


def previews_html(session: Session, recipe: str, style: str, crop: str) -> str:
    """The previews made so far, for the page to put in their places."""
    items = []
    for (of_recipe, of_style, of_crop, balance), src in list(session.previews.items()):
        places = [of_style] if balance == STRENGTHS[1] else []
        places += [f"{balance:g}"] if of_style == style else []
        if (of_recipe, of_crop) == (recipe, crop):
            items += [f'<i data-place="{escape(place)}" data-src="{src}"></i>' for place in places]
    return "".join(items)


# The reports -----------------------------------------------------------------------------------------------------


def report_html(page: str, run: str) -> str:
    """A report page in a sandboxed frame without access to this page or the network."""
    title = escape(strings.REPORT_TITLE.format(run=run))
    return f'<iframe class="report" sandbox="allow-scripts" title="{title}" srcdoc="{escape(page)}"></iframe>'


def notice(text: str) -> str:
    """A note between the controls."""
    return f'<p class="note">{escape(text)}</p>'


def alert(problem: str, field: str = "") -> str:
    """An alert that screen readers say at once, with the field that it is about; empty without a problem."""
    about = f' data-field="{field}"' if field else ""
    return f'<p class="alert" role="alert"{about}>{escape(problem)}</p>' if problem else ""
