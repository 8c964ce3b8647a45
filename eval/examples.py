"""The picture in the README and the model card: held-out people in every style, with the judges' verdicts.

    python eval/examples.py --data FACES          # writes weights/mini/examples.jpg

The people are spread evenly over the held-out list; none is chosen by its result.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from held_out_people import data_argument, held_out, subjects

from portrait.images import write_picture
from portrait.loop.load import load_loop
from portrait.provenance.mark import xmp_mark
from portrait.records import RgbImage
from portrait.report.sheet import contact_sheet, thumbnail
from portrait.settings import Settings

SIDE = 288


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--people", type=int, default=6)
    parser.add_argument("--first", type=int, default=1, help="index on the list of the first person")
    parser.add_argument("--balance", type=float, default=0.5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "weights" / "mini" / "examples.jpg")
    args = parser.parse_args()
    loop = load_loop(Settings())
    paths = held_out(args.data)
    picks = np.linspace(args.first, len(paths) - 1, args.people).round().astype(int)
    cells: list[tuple[RgbImage, str, bool | None]] = []
    for subject in subjects(loop, [paths[i] for i in picks]):
        for n, style in enumerate(loop.recipe.styles):
            portrait = loop.stylize(subject, style, Settings(balance=args.balance))
            if n == 0:
                cells.append((thumbnail(portrait.before, SIDE), "the photo", None))
            attempt = portrait.record.chosen_attempt
            scores = "  ".join(f"{judge} {value:.2f}" for judge, value in attempt.similarity.items())
            cells.append(
                (thumbnail(portrait.picture, SIDE), f"{style}: {portrait.record.status}\n{scores}", portrait.accepted)
            )
            print(subject.photo.path.name, style, portrait.record.status, portrait.record.reasons, attempt, flush=True)
    write_picture(
        args.output, contact_sheet(cells, columns=1 + len(loop.recipe.styles), side=SIDE), xmp=xmp_mark(), quality=85
    )
    print(args.output)


if __name__ == "__main__":
    main()
