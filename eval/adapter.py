"""Does the identity adapter do anything? Likeness against its scale, with the structure weakened.

    python eval/adapter.py --data FACES [--people 24]     # writes eval/adapter.json

On people that training never saw, the photo's structure is covered with noise (the knob
`controlnet_conditioning_scale`) until its pixels alone no longer carry the identity. Then, with the same
seeds: adapter off, at half, at the default scale, above it, and at the default with *another* person's
embedding. Likeness to the person in the photo, by the recogniser that conditions (arcface) and by the
one that does not (dlib). Differences are paired; intervals resample people.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from held_out_people import data_argument, held_out, spread, subjects

from portrait.generate.framing import frame_portrait
from portrait.images import write_json
from portrait.intervals import bootstrap_mean
from portrait.judge.verification import similarity
from portrait.loop.load import load_loop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--people", type=int, default=24)
    parser.add_argument("--structure", type=float, default=0.5, help="controlnet_conditioning_scale")
    parser.add_argument("--styles", default="watercolor,oil")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "adapter.json")
    args = parser.parse_args()
    stylizer = load_loop("mini")
    people = subjects(stylizer, spread(held_out(args.data), args.people))
    if len(people) < 20:
        raise SystemExit(f"{len(people)} people are too few; the claim is about 20 or more")
    base = stylizer.recipe.knobs_at(0.5)
    default = base.ip_adapter_scale
    settings = {"off": 0.0, "half": default / 2, "default": default, "above": 1.4 * default, "swapped": default}
    scores: dict[str, dict[str, list[float]]] = {name: {"arcface": [], "dlib": []} for name in settings}
    owners: list[int] = []
    for style in args.styles.split(","):
        for i, person in enumerate(people):
            framed = frame_portrait(person.photo.pixels, person.face, "bust", stylizer.recipe.resolution)
            other = people[(i + len(people) // 2) % len(people)]
            owners.append(i)
            for name, scale in settings.items():
                who = other if name == "swapped" else person
                knobs = replace(
                    base, ip_adapter_scale=scale, controlnet_conditioning_scale=args.structure, strength=1.0
                )
                picture = stylizer.draw(framed, who.identity, style, knobs, 1)
                _, embeddings = stylizer.judges.detect_and_embed(picture, framed.face)
                for judge, vector in embeddings.items():
                    scores[name][judge].append(similarity(person.identity.embeddings[judge], vector))
    result: dict = {"people": len(people), "styles": args.styles, "structure": args.structure, "scales": settings}
    result |= {"likeness": {}, "difference": {}}
    whose = np.array(owners)
    for name in settings:
        result["likeness"][name] = {j: round(float(np.mean(v)), 4) for j, v in scores[name].items()}
    for title, a, b in (("default - off", "default", "off"), ("default - swapped", "default", "swapped")):
        for judge in ("arcface", "dlib"):
            gap = np.array(scores[a][judge]) - np.array(scores[b][judge])
            low, high = bootstrap_mean(gap, whose)
            result["difference"][f"{title}, {judge}"] = [round(float(gap.mean()), 4), round(low, 4), round(high, 4)]
    print(json.dumps(result, indent=1))
    print(write_json(args.output, result | {"weights": stylizer.generator.digests}))


if __name__ == "__main__":
    main()
