"""How much styles change what `--keep` protects, with and without it: the basis of `judge.verdict.KEEP_LIMITS`.

    python eval/keep.py --data FACES [--people 12]     # writes eval/keep.json

Per style, on held-out people: displacement of the facial landmarks (in inter-eye distances), edge agreement on the person, and distance of
chroma (CIE Lab) without and with `--keep colors`. For comparison, the edge agreement with another person's portrait.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from held_out_people import data_argument, held_out, spread, subjects

from portrait.files import write_json
from portrait.generate.framing import frame_portrait
from portrait.generate.keep import hold_colors, prepare_keeps
from portrait.judge.checks import color_distance, edge_agreement, point_displacement
from portrait.judge.verdict import KEEP_LIMITS
from portrait.loop.load import load_loop
from portrait.loop.scoring import NO_FACE_DISPLACEMENT
from portrait.records import Keep
from portrait.settings import Settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--balance", type=float, default=0.5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "keep.json")
    args = parser.parse_args()
    loop = load_loop(Settings())
    people = subjects(loop, spread(held_out(args.data), args.people))
    framed = [frame_portrait(s.photo.pixels, s.face, "bust", loop.recipe.resolution) for s in people]
    figures = [
        prepare_keeps([Keep("composition")], s.photo.pixels, s.face, f.box, len(f.image), whole=False).figure
        for s, f in zip(people, framed, strict=True)
    ]
    table: dict[str, dict[str, list[float]]] = {}
    for style in loop.recipe.styles:
        knobs = loop.knobs_for_balance(style, args.balance)
        pictures = [loop.draw(f, s.identity, style, knobs, 1) for s, f in zip(people, framed, strict=True)]
        values: dict[str, list[float]] = {}
        for i, (frame, picture) in enumerate(zip(framed, pictures, strict=True)):
            face, _ = loop.judges.detect_and_embed(picture, frame.face)
            moved = point_displacement(frame.face.kps, face.kps) if face else NO_FACE_DISPLACEMENT
            other = pictures[(i + len(pictures) // 2) % len(pictures)]
            for name, value in {
                "pose": moved,
                "composition": edge_agreement(frame.image, picture, figures[i]),
                "composition, another person": edge_agreement(frame.image, other, figures[i]),
                "colors, free": color_distance(frame.image, picture),
                "colors, held": color_distance(frame.image, hold_colors(frame.image, picture)),
            }.items():
                values.setdefault(name, []).append(value)
        table[style] = {k: [round(float(q), 3) for q in np.quantile(v, [0.05, 0.5, 0.95])] for k, v in values.items()}
        print(style, json.dumps(table[style]), flush=True)
    limits = {name: list(limit) for name, limit in KEEP_LIMITS.items()}
    result = {"people": len(people), "balance": args.balance, "percentiles_5_50_95": table, "limits": limits}
    print(write_json(args.output, result | {"weights": loop.generator.digests}))


if __name__ == "__main__":
    main()
