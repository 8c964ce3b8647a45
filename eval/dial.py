"""How much the dial and the seed change a face: mean CIEDE2000 between pictures of the same photo.

    python eval/dial.py [--seeds 3]     # writes eval/dial.json, and a sheet to look at: work/dial.jpg

Every style is drawn at balance 0, 0.5 and 1 with the first seed, and at 0.5 with the others. `dial` is the difference
between balance 0 and 1, `seeds` the mean over pairs of seeds, both over the aligned face. `accepted` is the verdict on the
first attempt at balance 0.5, at a false accept rate of 0.01. The photo is scikit-image's astronaut, who is not in the
training data, unless --photo names another.
"""

from __future__ import annotations

import argparse
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from held_out_people import JUDGES, WORK, judged, progress
from measures import color_change
from skimage.data import astronaut

from portrait.files import write_json
from portrait.generate.framing import frame_portrait
from portrait.images import Photo, read_photo, thumbnail, write_picture
from portrait.judge.thresholds import thresholds_for
from portrait.loop.load import load_loop
from portrait.records import RgbImage
from portrait.report.sheet import contact_sheet
from portrait.settings import Settings

NAMED = ("oil", "comic", "watercolor")
"""The styles that have a goal: a difference of 13 for the dial and of 8 for seeds."""


def summary(styles: dict[str, dict[str, Any]]) -> dict[str, float]:
    """The means over some styles."""
    return {key: round(float(np.mean([row[key] for row in styles.values()])), 2) for key in ("dial", "seeds")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--sheet", type=Path, default=WORK / "dial.jpg")
    args = parser.parse_args()
    if args.seeds < 2:
        parser.error("--seeds must be 2 or more: they are compared with each other")
    loop = load_loop(Settings())
    default_photo = Photo(path=Path("astronaut.png"), pixels=RgbImage(astronaut()), sha256="astronaut")
    photo = default_photo if args.photo is None else read_photo(args.photo)
    (who,) = loop.subjects(photo, "largest")
    framed = frame_portrait(photo.pixels, who.face, "bust", loop.recipe.resolution)
    styles: dict[str, dict[str, Any]] = {}
    cells: list[tuple[RgbImage, str, bool | None]] = []
    for style in progress(loop.recipe.styles, "styles"):

        def drawn(balance: float, seed: int, style: str = style) -> RgbImage:
            return loop.draw(framed, who.identity, style, loop.knobs_for_balance(style, balance), seed)

        fine, bold = drawn(0.0, 1), drawn(1.0, 1)
        middle = [drawn(0.5, seed) for seed in range(1, args.seeds + 1)]
        row, _ = judged(loop, framed, who, middle[0], thresholds_for("mini", style, 0.01, judges=JUDGES))
        pairs = [color_change(a, b, framed.face.kps) for a, b in combinations(middle, 2)]
        changes = {"dial": color_change(fine, bold, framed.face.kps), "seeds": float(np.mean(pairs))}
        styles[style] = {name: round(value, 2) for name, value in changes.items()} | row
        words = [f"{style}, balance 0", *(f"0.5, seed {seed + 1}" for seed in range(args.seeds)), "balance 1"]
        cells += [(thumbnail(p, 256), w, None) for p, w in zip([fine, *middle, bold], words, strict=True)]
    named = {style: row for style, row in styles.items() if style in NAMED}
    result = {
        "photo": photo.path.name,
        "seeds": args.seeds,
        "far": 0.01,
        "named": summary(named),
        "all": summary(styles),
    }
    print(json.dumps(result | {"styles": styles}, indent=1))
    print(write_picture(args.sheet, contact_sheet(cells, columns=args.seeds + 2, side=256), quality=85))
    print(write_json(args.output, result | {"styles": styles, "weights": loop.generator.digests}))


if __name__ == "__main__":
    main()
