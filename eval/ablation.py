"""Ablation: what each part of `mini` contributes, for the same people, styles and seeds.

    python eval/ablation.py --data FACES [--people 8]     # writes eval/ablation.json, prints the table

Conditions, one attempt per picture, everything else at the defaults of balance 0.5:

    default        as shipped
    no adapter     ip_adapter_scale 0: nothing of the person but the photo's structure
    no structure   controlnet_conditioning_scale 0: nothing of the photo but the person's embedding
    no guidance    guidance_scale 1
    plain img2img  no adapter, no structure: noise over the photo's latents at strength 0.5, and style words

Reports likeness by both judges, style on the face, seconds, and the share accepted at FAR 0.01 by limits that exclude the
person's own pictures (`held_out_people.left_out`). Held-out people, three seeds. Differences from the default are paired;
intervals resample people.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from held_out_people import JUDGES, RUNTIME, data_argument, held_out, judged, left_out, name_of, spread, subjects
from measures import bootstrap_mean

from portrait.files import write_json
from portrait.generate.framing import Framed, frame_portrait
from portrait.judge.thresholds import thresholds_for
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.load import load_loop
from portrait.loop.types import Subject
from portrait.paths import cpu_threads
from portrait.records import Knobs, RgbImage
from portrait.settings import Settings

PARTS: dict[str, dict[str, Any]] = {
    "default": {},
    "no adapter": {"ip_adapter_scale": 0.0},
    "no structure": {"controlnet_conditioning_scale": 0.0},
    "no guidance": {"guidance_scale": 1.0},
    "plain img2img": {
        "ip_adapter_scale": 0.0,
        "controlnet_conditioning_scale": 0.0,
        "strength": 0.5,
        "num_inference_steps": 8,
    },
}
SCORES = ("arcface", "dlib", "style_on_face", "accepted", "seconds")


def draw(loop: AttemptLoop, who: Subject, framed: Framed, style: str, base: Knobs, part: str, seed: int) -> RgbImage:
    return loop.draw(framed, who.identity, style, replace(base, **PARTS[part]), seed)


def summary(rows: list[dict], part: str) -> dict[str, object]:
    mine = [row for row in rows if row["part"] == part]
    normal = {(row["person"], row["style"], row["seed"]): row for row in rows if row["part"] == "default"}
    people = np.array([row["person"] for row in mine])
    results: dict[str, object] = {"pictures": len(mine)}
    for score in SCORES:
        values = np.array([float(row[score]) for row in mine])
        gaps = values - [float(normal[row["person"], row["style"], row["seed"]][score]) for row in mine]
        low, high = bootstrap_mean(gaps, people)
        results[score] = {
            "mean": round(float(values.mean()), 4),
            "against default": [round(v, 4) for v in (float(gaps.mean()), low, high)],
        }
    return results


def means_of_default(rows: list[dict], style: str) -> dict[str, float]:
    """Score -> its mean in a style, with all parts."""
    mine = [row for row in rows if row["part"] == "default" and row["style"] == style]
    return {score: round(float(np.mean([row[score] for row in mine])), 4) for score in SCORES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--styles", default="", help="such as oil,comic (default: all styles of the recipe)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "ablation.json")
    args = parser.parse_args()
    loop = load_loop(Settings())
    people = subjects(loop, spread(held_out(args.data), args.people))
    files, base = left_out(loop, args.data), loop.recipe.knobs_at(0.5)
    styles = args.styles.split(",") if args.styles else list(loop.recipe.styles)
    rows: list[dict] = []
    for i, who in enumerate(people):
        framed = frame_portrait(who.photo.pixels, who.face, "bust", loop.recipe.resolution)
        for style in styles:
            thresholds = thresholds_for("mini", style, 0.01, files[name_of(who.photo.path)], judges=JUDGES)
            for part in PARTS:
                for seed in range(1, args.seeds + 1):
                    start = time.perf_counter()
                    picture = draw(loop, who, framed, style, base, part, seed)
                    seconds = round(time.perf_counter() - start, 3)
                    row, _ = judged(loop, framed, who, picture, thresholds)
                    key = {"person": i, "style": style, "part": part, "seed": seed, "seconds": seconds}
                    rows.append(key | row)
        print(f"{i + 1}/{len(people)} people", flush=True)
    result = {"people": len(people), "styles": styles, "seeds": args.seeds, "far": 0.01}
    result |= {"cores": cpu_threads(), "runtime": RUNTIME}
    result |= {
        "weights": loop.generator.digests,
        "parts": {part: summary(rows, part) for part in PARTS},
    }
    result["styles of the default"] = {style: means_of_default(rows, style) for style in styles}
    print("| | " + " | ".join(SCORES) + " |\n|---|" + "---|" * len(SCORES))
    for part, scores in result["parts"].items():
        print(f"| {part} | " + " | ".join(f"{scores[s]['mean']:.3f}" for s in SCORES) + " |")
    print(json.dumps(result["styles of the default"], indent=1))
    print(write_json(args.output, result))


if __name__ == "__main__":
    main()
