"""The photo and the frame of the page as HTML, derived from a session; every text is escaped."""

from __future__ import annotations

from html import escape
from importlib import resources
from urllib.parse import quote

from portrait.studio import strings
from portrait.studio.controls import STRENGTHS
from portrait.studio.render import from_template
from portrait.studio.session import Session
from portrait.studio.session_registry import GRACE_SECONDS


def asset(name: str) -> str:
    """The text of frame.css, page.css, page.js or icon.svg."""
    return (resources.files("portrait.studio") / name).read_text("utf-8")


def head() -> str:
    """The content of the page's head: colors and frame, the script, the icon."""
    image = f"data:image/svg+xml,{quote(asset('icon.svg').strip())}"
    icon = f'<link rel="icon" href="{image}"><meta name="viewport" content="width=device-width, initial-scale=1">'
    return f"{icon}<style>{asset('frame.css')}</style><script>{asset('page.js')}</script>"


def photo_html(session: Session | None, *, problem: str = "", looking: bool = False, local: bool = True) -> str:
    """The photo's area: a drop zone, or the small photo with its faces beside it."""
    privacy = (strings.PHOTO_STAYS if local else strings.PHOTO_STAYS_HOST).format(n=round(GRACE_SECONDS / 60))
    return from_template("photo.html", session=session, problem=problem, looking=looking, privacy=privacy)


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


def report_html(page: str, run: str) -> str:
    """A report page in a sandboxed frame without access to this page or the network."""
    title = escape(strings.REPORT_TITLE.format(run=run))
    return f'<iframe class="report" sandbox="allow-scripts" title="{title}" srcdoc="{escape(page)}"></iframe>'


def notice(text: str) -> str:
    """A note between the controls."""
    return f'<p class="note">{escape(text)}</p>'


def alert(problem: str) -> str:
    """An alert that screen readers say at once."""
    return f'<p class="alert" role="alert">{escape(problem)}</p>'
