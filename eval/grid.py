"""Is there a grid in the pictures? Energy in flat areas at the frequencies of the latents' cells.

    python eval/grid.py --data FACES [--people 6] [--painted WORK]     # writes eval/grid.json

The decoder of a latent model may imprint its cells on the picture: one of 16 px for each latent, and their harmonics.
`measures.grid_energy` compares these frequencies with neighboring ones: 1 means no grid. Held-out people, balance 0.5.
With --painted, the work folder of the training, the painters' pictures of the same people are measured too, for comparison:
some techniques have a screen or a weave of their own.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from held_out_people import data_argument, held_out, progress, spread, subjects
from measures import grid_energy

from portrait.files import write_json
from portrait.generate.families.mini.marks.layout import Marks
from portrait.generate.families.mini.marks.rasterize import draw
from portrait.generate.framing import frame_portrait
from portrait.loop.load import load_loop
from portrait.records import RgbImage
from portrait.settings import Settings

SIDE = 512


def mean_energy(pictures: list[RgbImage]) -> dict[str, float]:
    """Frequency -> the geometric mean over pictures."""
    energies = [grid_energy(picture) for picture in pictures]
    return {name: round(float(np.exp(np.mean([np.log(f[name]) for f in energies]))), 2) for name in energies[0]}


def painted(work: Path, style: str, count: int) -> list[RgbImage]:
    """The painter's pictures of held-out people in a style; empty if there are none."""
    index = np.load(work / "index.npz")
    pictures: list[RgbImage] = []
    for row in np.nonzero(index["validation"])[0]:
        styles = str(index["styles"][row]).split(",")
        file = work / "marks" / f"{int(index['id'][row]):05d}-{style}.npy"
        if style in styles and file.is_file() and len(pictures) < count:
            maps = np.load(file).astype(np.float32) / 255
            marks = Marks(maps=maps, values=index["values"][row][styles.index(style)])
            canvas = np.asarray(draw(marks, SIDE, 1))
            pictures.append(RgbImage((np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)))
    return pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--people", type=int, default=6)
    parser.add_argument("--painted", type=Path, metavar="WORK", help="work folder of weights/training, for comparison")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    loop = load_loop(Settings())
    people = subjects(loop, spread(held_out(args.data), args.people))
    framed = [frame_portrait(who.photo.pixels, who.face, "bust", SIDE) for who in people]
    styles = {}
    for style in progress(loop.recipe.styles, "styles"):
        knobs = loop.knobs_for_balance(style, 0.5)
        pictures = [loop.draw(f, who.identity, style, knobs, 1) for f, who in zip(framed, people, strict=True)]
        targets = painted(args.painted, style, args.people) if args.painted else []
        styles[style] = {"pictures": mean_energy(pictures), "painters": mean_energy(targets) if targets else None}
    print(json.dumps(styles, indent=1))
    result = {"people": len(people), "balance": 0.5, "styles": styles, "weights": loop.generator.digests}
    print(write_json(args.output, result))


if __name__ == "__main__":
    main()
