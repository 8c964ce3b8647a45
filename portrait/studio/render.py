"""Fill in the page's templates: every value is escaped."""

from __future__ import annotations

import base64
import io
import re
from functools import lru_cache

from jinja2 import Environment, PackageLoader
from PIL import Image

from portrait.images import thumbnail
from portrait.provenance.mark import xmp_mark
from portrait.recipes.samples import sample_file
from portrait.recipes.style import styles
from portrait.records import RgbImage
from portrait.studio import strings
from portrait.studio.uploads import ACCEPTED, MAX_UPLOAD_MB

SHOWN = 1100
"""The longer side of photos on the page, in pixels; files for download have full size."""
_BETWEEN_TAGS = re.compile(r"(?<=>)\n\s*|\n\s*(?=<)")
"""The line breaks and indents of templates, which a browser would show as spaces."""


def from_template(template: str, **values: object) -> str:
    """The HTML of a template in `templates/`."""
    return _BETWEEN_TAGS.sub("", _environment().get_template(template).render(values)).strip()


@lru_cache(maxsize=1)
def _environment() -> Environment:
    loader = PackageLoader("portrait.studio", "templates")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["g"] = "{:g}".format
    environment.globals |= {
        "strings": strings,
        "accepted": ACCEPTED,
        "max_upload_mb": MAX_UPLOAD_MB,
        "data_uri": data_uri,
        "shown_uri": shown_uri,
        "sample_of": sample_of,
        "title_of": title_of,
    }
    return environment


def data_uri(image: RgbImage, *, side: int | None = None, quality: int = 90, generated: bool = False) -> str:
    """A picture embedded in the page, without a file on disk, reduced to `side` pixels. Generated ones are marked as such."""
    buffer = io.BytesIO()
    xmp = xmp_mark().encode() if generated else b""
    shown = image if side is None else thumbnail(image, side)
    Image.fromarray(shown).save(buffer, "WEBP", quality=quality, method=2, xmp=xmp)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def shown_uri(pixels: RgbImage) -> str:
    """A picture in the size that the page shows, as a data URI."""
    return data_uri(pixels, side=SHOWN, quality=85)


def title_of(style: str) -> str:
    """The title of a style on the page."""
    return styles()[style].title if style in styles() else style


@lru_cache(maxsize=64)
def sample_of(recipe: str, style: str) -> str:
    """The sample of a style as a data URI; empty if there is none."""
    file = sample_file(recipe, style)
    return "" if file is None else "data:image/webp;base64," + base64.b64encode(file.read_bytes()).decode()
