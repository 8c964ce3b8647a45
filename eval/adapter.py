"""Does the identity adapter help? Likeness with it, without it, and with another person's embedding.

    python eval/adapter.py --data FACES [--people 24]     # writes eval/adapter.json

At the stylized end of the dial, where the photo's structure reveals least about the person, for held-out people and the
same seeds: adapter off, at half, at the default scale, above it, and at the default with *another* person's embedding.
Likeness to the person in the photo is measured by every installed judge. ArcFace conditions the pictures and is part of the
training loss; dlib and SFace do neither, so their results are the ones that count (`portrait weights fetch sface` installs
SFace). Differences are paired; intervals resample people. --structure sets `controlnet_conditioning_scale` below the dial's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from held_out_people import data_argument, held_out, progress, spread, subjects
from measures import bootstrap_mean

from portrait.files import write_json
from portrait.generate.framing import frame_portrait
from portrait.judge.verification import similarity
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.load import load_loop
from portrait.loop.types import Subject
from portrait.records import Knobs
from portrait.settings import Settings

MIN_PEOPLE = 20
DIFFERENCES = (("default", "off"), ("default", "swapped"), ("swapped", "off"))


def scales(default: float) -> dict[str, float]:
    """Condition -> `ip_adapter_scale`."""
    return {"off": 0.0, "half": default / 2, "default": default, "above": 1.4 * default, "swapped": default}


def summary(scores: dict[str, dict[str, list[float]]], owners: list[int]) -> dict[str, dict[str, object]]:
    """Mean likeness of each condition, and paired differences with their 95 % intervals, by every judge.

    Args:
        scores: Condition -> judge -> N likenesses, in the same order in each condition.
        owners: (N,) index of the person of each portrait.
    """
    whose = np.array(owners)
    likeness = {name: {j: round(float(np.mean(v)), 4) for j, v in judges.items()} for name, judges in scores.items()}
    difference: dict[str, object] = {}
    for a, b in DIFFERENCES:
        for judge in scores[a]:
            gap = np.array(scores[a][judge]) - np.array(scores[b][judge])
            values = (float(gap.mean()), *bootstrap_mean(gap, whose))
            difference[f"{a} - {b}, {judge}"] = [round(value, 4) for value in values]
    return {"likeness": dict(likeness), "difference": difference}


def measured(
    loop: AttemptLoop, people: Sequence[Subject], dial: Mapping[str, Knobs]
) -> tuple[dict[str, dict[str, list[float]]], list[int]]:
    """Draw everybody in every style, given as style -> knobs; return `scores` and `owners` as `summary` takes them."""
    scores: dict[str, dict[str, list[float]]] = {name: {j: [] for j in loop.judges.names} for name in scales(1.0)}
    owners: list[int] = []
    for i, person in enumerate(progress(people, "people")):
        framed = frame_portrait(person.photo.pixels, person.face, "bust", loop.recipe.resolution)
        other = people[(i + len(people) // 2) % len(people)]
        for style, knobs in dial.items():
            owners.append(i)
            for name, scale in scales(knobs.ip_adapter_scale).items():
                fed = other if name == "swapped" else person
                picture = loop.draw(framed, fed.identity, style, replace(knobs, ip_adapter_scale=scale), 1)
                _, embeddings = loop.judges.detect_and_embed(picture, framed.face)
                for judge, vector in embeddings.items():
                    scores[name][judge].append(similarity(person.identity.embeddings[judge], vector))
    return scores, owners


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--people", type=int, default=36)
    parser.add_argument("--balance", type=float, default=1.0)
    parser.add_argument("--structure", type=float, help="controlnet_conditioning_scale (default: the dial's)")
    parser.add_argument("--styles", default="watercolor,oil,comic", help="such as oil,comic, or all")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    loop = load_loop(Settings(), every_judge=True)
    people = subjects(loop, spread(held_out(args.data), args.people))
    if len(people) < MIN_PEOPLE:
        raise SystemExit(f"{len(people)} people are too few; it takes {MIN_PEOPLE} or more")
    styles = list(loop.recipe.styles) if args.styles == "all" else args.styles.split(",")
    dial = {style: loop.knobs_for_balance(style, args.balance) for style in styles}
    if args.structure is not None:
        dial = {style: replace(k, controlnet_conditioning_scale=args.structure) for style, k in dial.items()}
    scores, owners = measured(loop, people, dial)
    result: dict[str, object] = {"people": len(people), "styles": styles, "balance": args.balance}
    result |= {"structure": {style: knobs.controlnet_conditioning_scale for style, knobs in dial.items()}}
    result |= {"scale": {style: knobs.ip_adapter_scale for style, knobs in dial.items()}}
    result |= {"judges": loop.judges.names, **summary(scores, owners)}
    print(json.dumps(result, indent=1))
    print(write_json(args.output, result | {"weights": loop.generator.digests}))


if __name__ == "__main__":
    main()
