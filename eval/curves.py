"""What each knob does: likeness and style against its value, one knob moved at a time.

    python eval/curves.py --data FACES [--people 8]     # writes eval/curves.json

The balance points of a recipe are chosen along these curves, so they are measured on people of the
training set: the held-out people are for verdicts. Likeness by both judges, `style_on_face`, seconds.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from people import data_argument, everyone, held_out, subjects

from portrait.generate.framing import frame_portrait
from portrait.images import write_json
from portrait.judge.verification import similarity
from portrait.stylizer import Stylizer, face_style

SWEEPS = {
    "controlnet_conditioning_scale": (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    "guidance_scale": (1.0, 1.5, 2.5, 4.0),
    "ip_adapter_scale": (0.0, 0.5, 1.0, 1.4),
    "strength": (0.5, 0.75, 1.0),
    "num_inference_steps": (2, 4, 8),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--styles", default="", help="such as oil,comic (default: all of the recipe)")
    parser.add_argument("--knobs", default=",".join(SWEEPS), help="which to move")
    parser.add_argument("--balance", type=float, default=0.5, help="where the other knobs stand")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "curves.json")
    args = parser.parse_args()
    stylizer = Stylizer.from_recipe("mini")
    seen = sorted(set(everyone(args.data)) - set(held_out(args.data)))
    picks = np.linspace(0, len(seen) - 1, args.people).round().astype(int)
    people = subjects(stylizer, [seen[i] for i in picks])
    framed = [frame_portrait(s.photo.pixels, s.face, "bust", stylizer.recipe.resolution) for s in people]
    base = stylizer.recipe.knobs_at(args.balance)
    table: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for style in args.styles.split(",") if args.styles else stylizer.recipe.styles:
        for knob in args.knobs.split(","):
            for value in SWEEPS[knob]:
                scores: dict[str, list[float]] = {}
                start = time.perf_counter()
                for subject, frame in zip(people, framed, strict=True):
                    picture = stylizer.draw(frame, subject.identity, style, replace(base, **{knob: value}), 1)
                    _, embeddings = stylizer.look(picture, frame.face)
                    for judge, vector in embeddings.items():
                        scores.setdefault(judge, []).append(similarity(subject.identity.embeddings[judge], vector))
                    scores.setdefault("style_on_face", []).append(face_style(frame, picture))
                row = {name: round(float(np.mean(values)), 4) for name, values in scores.items()}
                row["seconds"] = round((time.perf_counter() - start) / len(people), 2)
                table.setdefault(style, {}).setdefault(knob, {})[f"{value:g}"] = row
                print(style, knob, value, json.dumps(row), flush=True)
    result = {"people": len(people), "balance": args.balance, "weights": stylizer.generator.digests, "curves": table}
    print(write_json(args.output, result))


if __name__ == "__main__":
    main()
