"""Does it pay to look at a picture part-way and to give up a hopeless one? Measured, and the cut chosen by cost.

    python eval/preview.py --data FACES [--people 8]     # writes portrait/recipes/mini.preview.json

People that training and curves did not see, stylized from the middle of the dial to beyond its end, so that some
fail: the lines are fitted on all of them, the costs are counted on the dial's own settings alone, as in use. After each
denoising step the scheduler's estimate of the finished picture is decoded and judged. Per step: the correlation of the
preview's likeness with the final one, and the line that predicts the latter, fitted on half of the people; on the other
half, for each least chance, the share of attempts that are stopped, the share of good ones among these, and the seconds
per accepted picture. A cut is chosen if it lowers these by more than 2 %; of fewer than 20 good attempts nothing is
concluded.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from people import data_argument, for_verdicts, spread, subjects

from portrait.generate.framing import frame_portrait
from portrait.images import write_json
from portrait.judge.thresholds import thresholds_for
from portrait.judge.verification import similarities
from portrait.loop.foresight import Foresight
from portrait.loop.stylizer import Stylizer, Subject, face_style
from portrait.records import Knobs, Preview, RgbImage

OUTPUT = Path(__file__).parents[1] / "portrait" / "recipes" / "mini.preview.json"
CHANCES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
LEAST_SAVING = 0.02
LEAST_GOOD = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--styles", default="", help="such as oil,comic (default: all of the recipe)")
    parser.add_argument("--far", type=float, default=0.001)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    stylizer = Stylizer.from_recipe("mini", threads=args.threads)
    rows: list[dict[str, Any]] = []
    costs: dict[str, list[float]] = {"step": [], "look": []}
    for i, person in enumerate(subjects(stylizer, spread(for_verdicts(args.data), args.people))):
        for style in args.styles.split(",") if args.styles else stylizer.recipe.styles:
            limits = thresholds_for("mini", style, args.far)
            sitting = Sitting(stylizer, person, style)
            for n, knobs in enumerate(_range(stylizer, style)):
                start = time.perf_counter()
                seen, final, total = sitting.attempt(knobs)
                spent = time.perf_counter() - start
                if n == 0:  # the same without looking: what a step and a look cost
                    start = time.perf_counter()
                    sitting.plain(knobs)
                    plain = time.perf_counter() - start
                    costs["step"].append(plain / total)
                    costs["look"].append(max(0.0, spent - plain) / total)  # total - 1 previews and the final one
                good = all(final[name] >= least for name, least in limits.identity.items())
                good = good and final["style_on_face"] >= limits.style_on_face
                rows.append({"person": i, "style": style, "total": total, "seen": seen, "final": final, "good": good})
                rows[-1]["usual"] = n < 2  # the dial's own
            print(i, style, sum(r["good"] for r in rows), "of", len(rows), flush=True)
    result = decide(rows, {k: float(np.median(v)) for k, v in costs.items()}, args.far)
    result |= {"recipe": "mini", "people": args.people, "weights": stylizer.generator.digests}
    print(json.dumps(result["chosen"]), result["why"])
    print(write_json(args.output, result))


class Sitting:
    """One person in one style, ready to be drawn with any knobs."""

    def __init__(self, stylizer: Stylizer, person: Subject, style: str) -> None:
        self.stylizer, self.person = stylizer, person
        self.framed = frame_portrait(person.photo.pixels, person.face, "bust", stylizer.recipe.resolution)
        prompt = stylizer.recipe.prompt_of(stylizer.recipe.style(style))
        who = stylizer.conditioning(person.identity)
        self.conditions = stylizer.generator.prepare(self.framed.image, who, prompt, "", self.framed.face)

    def judged(self, picture: RgbImage) -> dict[str, float]:
        values = similarities(self.person.identity, self.stylizer.look(picture, self.framed.face)[1])
        return values | {"style_on_face": face_style(self.framed, picture)}

    def attempt(self, knobs: Knobs) -> tuple[dict[int, dict[str, float]], dict[str, float], int]:
        """What is seen after each step but the last, what the finished picture shows, and the number of steps."""
        total, seen = knobs.steps, dict[int, dict[str, float]]()

        def look(step: int, pictures: list[RgbImage]) -> bool:
            seen[step] = self.judged(pictures[0])
            return False

        preview = Preview(steps=tuple(range(1, total)), hopeless=look)
        (picture,) = self.stylizer.generator.generate(self.conditions, knobs, [1], preview=preview)
        return seen, self.judged(picture), total

    def plain(self, knobs: Knobs) -> None:
        self.stylizer.generator.generate(self.conditions, knobs, [1])


def _range(stylizer: Stylizer, style: str) -> list[Knobs]:
    """The dial's middle and end, and two settings beyond it where likeness falls."""
    end = stylizer.dialled(style, 1.0)
    beyond = [replace(end, controlnet_conditioning_scale=level, guidance_scale=3.0) for level in (0.57, 0.53)]
    return [stylizer.dialled(style, 0.5), end, *beyond]


def decide(rows: list[dict[str, Any]], costs: dict[str, float], far: float) -> dict[str, Any]:
    """The table of cuts, and the one to use; `chosen` is None when none pays."""
    total = rows[0]["total"]
    judges = [name for name in rows[0]["final"] if name != "style_on_face"]
    limits = {r["style"]: thresholds_for("mini", r["style"], far).identity for r in rows}
    whole = total * costs["step"] + costs["look"]  # the finished picture is judged as well
    tested = [r for r in rows if r["person"] % 2 == 1 and r["usual"]]
    good = [r["good"] for r in tested]
    table, best, chosen = [], 1 - LEAST_SAVING, None
    for step in range(1, total):
        half = [r for r in rows if r["person"] % 2 == 0]
        lines, correlation = {}, {}
        for name in (*judges, "style_on_face"):
            x, y = (np.array(v) for v in zip(*[(r["seen"][step][name], r["final"][name]) for r in half], strict=True))
            slope, intercept = np.polyfit(x, y, 1)
            lines[name] = (float(intercept), float(slope), float(np.std(y - slope * x - intercept, ddof=2)))
            correlation[name] = round(float(np.corrcoef(x, y)[0, 1]), 3)
        for chance in CHANCES:
            foresight = Foresight(share=step / total, lines=lines, least_chance=chance)
            stopped = [bool(foresight.doubted(r["seen"][step], limits[r["style"]])) for r in tested]
            kept = sum(g and not s for g, s in zip(good, stopped, strict=True))
            spent = sum(
                step * costs["step"] + costs["look"] + (0 if s else (total - step) * costs["step"] + costs["look"])
                for s in stopped
            )
            never = whole * len(tested) / max(1, sum(good))
            seconds = spent / max(kept, 1e-9) if kept else float("inf")
            table.append(
                {
                    "step": step,
                    "of": total,
                    "least_chance": chance,
                    "correlation": correlation,
                    "stopped": round(float(np.mean(stopped)), 4),
                    "good_ones_stopped": sum(g and s for g, s in zip(good, stopped, strict=True)),
                    "good_ones": sum(good),
                    "seconds_per_accepted": round(seconds, 3),
                    "without_looking": round(never, 3),
                }
            )
            if seconds / never < best and sum(good) >= LEAST_GOOD:
                best = seconds / never
                chosen = {"share": step / total, "lines": lines, "least_chance": chance}
    why = "a cut pays" if chosen else "looking costs more than it saves: off"
    if sum(good) < LEAST_GOOD:
        why = f"{sum(good)} good attempts to test on are too few to conclude anything: off"
    return {
        "chosen": chosen,
        "why": why,
        "far": far,
        "attempts": len(rows),
        "good": sum(r["good"] for r in rows),
        "seconds_of_a_step": round(costs["step"], 4),
        "seconds_of_a_look": round(costs["look"], 4),
        "table": table,
    }


if __name__ == "__main__":
    main()
