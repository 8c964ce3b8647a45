"""All painters by style: `PAINTERS[style](scene, coarse, palette_name)` returns marks."""

from __future__ import annotations

from painters import (
    charcoal,
    cinematic,
    comic,
    lowpoly,
    oil,
    pastel,
    popart,
    poster,
    sketch,
    stipple,
    watercolor,
    woodcut,
)

PAINTERS = {
    "watercolor": watercolor.paint,
    "oil": oil.paint,
    "sketch": sketch.paint,
    "charcoal": charcoal.paint,
    "comic": comic.paint,
    "popart": popart.paint,
    "poster": poster.paint,
    "woodcut": woodcut.paint,
    "stipple": stipple.paint,
    "lowpoly": lowpoly.paint,
    "pastel": pastel.paint,
    "cinematic": cinematic.paint,
}
