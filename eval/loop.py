"""The closed loop compared with one shot, best of N and naive retry, at equal denoising cost.

    python eval/loop.py --data FACES --output out/loop [--people 12] [--minutes 25]     # resumable
    python eval/loop.py --output out/loop --table                                       # the tables, as Markdown

Cost is counted in UNet passes (NFE): the steps that run, twice with guidance. Each arm may spend N times the passes of a
default picture on one portrait (a cell: person x style x seed), in at most N attempts:

- one shot: one picture with the dial's knobs (it spends 1/N; it is the baseline of all others)
- one long shot: one picture with N times the steps
- naive retry: the dial's knobs, new seeds, until one is accepted
- best of N: N seeds with the dial's knobs; of the accepted pictures, the most stylized
- loop, until accepted / until best: portrait's policy, as `portrait stylize --until ...` runs it; an attempt that would
  exceed the passes is not made

The gate is both judges at FAR 0.01 and 0.001 at balance 0.5, and at 0.001 at balance 0.8; and, at FAR 0.001, a single
judge, so that the other one, which did not decide, gives an unbiased likeness (best of N by a judge inflates that judge's
scores). A portrait that is not accepted counts as zero style and as not recognized; nothing is left out of a mean.
Differences are paired by cell; intervals resample people.

Neither training nor the curves have seen the people. Each is judged by limits calibrated on all other held-out people
(`held_out_people.left_out`), which exclude their own photo and portraits; the verdict of the shipped limits on the first
shots is reported as well. To fit all people into half an hour, each pair of them gets every second style, alternating.

An attempt is identified by person, style, knobs and seed. Its measurements are written to attempts.jsonl as soon as it ends,
and every arm, gate and rate that needs the same attempt reads them there: the retry and best-of-N arms share all their
pictures at all rates, the seeds of a cell overlap (cell r starts at seed r), and the loop's first attempt is the one
shot. Verdicts are computed from the measurements by `portrait.judge`, at no cost.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from held_out_people import (
    JUDGES,
    calibrated_rates,
    data_argument,
    for_verdicts,
    left_out,
    limits_of_each_judge,
    name_of,
)

from portrait.files import write_json
from portrait.generate.framing import frame_portrait
from portrait.images import read_photo
from portrait.intervals import bootstrap_mean
from portrait.judge.checks import style_distance
from portrait.judge.thresholds import Thresholds, thresholds_for
from portrait.judge.verdict import Measurement, Verdict, decide
from portrait.loop.load import load_loop
from portrait.loop.policy import Policy
from portrait.loop.response import STYLE
from portrait.loop.scoring import face_features
from portrait.loop.types import PortraitGenerator
from portrait.paths import cpu_threads
from portrait.records import Knobs

if TYPE_CHECKING:
    from portrait.generate.diffusion import DiffusionGenerator

SETTINGS = {  # name -> balance, FAR, judges that decide
    "balance 0.5, FAR 0.01": (0.5, 0.01, ("arcface", "dlib")),
    "balance 0.5, FAR 0.001": (0.5, 0.001, ("arcface", "dlib")),
    "balance 0.8, FAR 0.001": (0.8, 0.001, ("arcface", "dlib")),
    "balance 0.8, FAR 0.001, ArcFace decides": (0.8, 0.001, ("arcface",)),
    "balance 0.8, FAR 0.001, dlib decides": (0.8, 0.001, ("dlib",)),
}
BASELINES = ("one shot", "one long shot", "naive retry", "best of N")
LOOPS = ("loop, until accepted", "loop, until best")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredAttempt:
    """The measurements and the cost of one attempt."""

    measured: Measurement
    features: list[float]
    passes: int
    seconds: float


def passes_of(generator: PortraitGenerator, knobs: Knobs) -> int:
    """UNet passes of a picture; the only recipe that is measured here, `mini`, draws by diffusion."""
    return cast("DiffusionGenerator", generator).passes(knobs)


class AttemptCache:
    """Makes each attempt once, and keeps its measurements in a file."""

    def __init__(self, folder: Path, data: Path, threads: int) -> None:
        self.loop = load_loop("mini", threads=threads)
        self.files = left_out(self.loop, data)
        self._limits: dict[tuple[Path, str, float, tuple[str, ...]], Thresholds] = {}
        self.file = folder / "attempts.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        digests = json.dumps(self.loop.generator.digests, sort_keys=True)
        digest = hashlib.sha256(digests.encode()).hexdigest()
        self.rows: dict[str, dict[str, Any]] = {}
        for line in self.file.read_text("utf-8").splitlines() if self.file.exists() else []:
            try:
                row = json.loads(line)
            except ValueError:
                continue  # the last run was stopped in the middle of a line
            if row["weights"] == digest:
                self.rows[row["key"]] = row
        if self.file.exists() and not self.file.read_bytes().endswith(b"\n"):
            with self.file.open("a", encoding="utf-8") as file:
                file.write("\n")
        self._digest = digest
        self._ready: tuple[Path | None, Any] = (None, None)
        self.new = 0

    def attempt(self, photo: Path, style: str, knobs: Knobs, seed: int) -> MeasuredAttempt:
        key = json.dumps([name_of(photo), style, *asdict(knobs).values(), seed])
        if key not in self.rows:
            row = {"key": key, "weights": self._digest} | self._make(photo, style, knobs, seed)
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            self.rows[key] = row
            self.new += 1
        row = self.rows[key]
        return MeasuredAttempt(
            measured=Measurement(**row["measured"]),
            features=row["features"],
            passes=passes_of(self.loop.generator, knobs),
            seconds=row["seconds"],
        )

    def limits(self, photo: Path, style: str, far: float, judges: tuple[str, ...] = JUDGES) -> Thresholds:
        """The thresholds for a portrait of the person, from which the person is excluded."""
        file = self.files[name_of(photo)]
        key = file, style, far, judges
        if key not in self._limits:
            self._limits[key] = self.loop.judges.with_drawing(thresholds_for("mini", style, far, file, judges=judges))
        return self._limits[key]

    def limits_alone(self, photo: Path, style: str, far: float) -> dict[str, float]:
        """Each judge's limit if it decides alone, from which the person is excluded."""
        return limits_of_each_judge(self.files[name_of(photo)], style, far)

    def _make(self, photo: Path, style: str, knobs: Knobs, seed: int) -> dict[str, Any]:
        s = self.loop
        if self._ready[0] != photo:
            (subject,) = s.subjects(read_photo(photo), "largest")
            framed = frame_portrait(subject.photo.pixels, subject.face, "bust", s.recipe.resolution)
            self._ready = photo, (subject.identity, framed)
        identity, framed = self._ready[1]
        start = time.perf_counter()
        picture = s.draw(framed, identity, style, knobs, seed)
        limits = self.limits(photo, style, 0.01)  # what does not depend on the rate is measured with any of them
        measured = s.judges.score_picture(framed, identity, picture, limits).measurement
        features = [round(float(v), 4) for v in face_features(framed, picture)]
        return {"measured": asdict(measured), "features": features, "seconds": round(time.perf_counter() - start, 3)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One portrait to be made: the person, style, first seed, setting, and maximum number of attempts."""

    photo: Path
    style: str
    seed: int
    setting: str
    budget: int


def run(cache: AttemptCache, cell: Cell, arm: str) -> dict[str, Any]:
    """Run one arm on one cell: whether a picture was accepted, its style and likeness, and the cost."""
    balance, far, judges = SETTINGS[cell.setting]
    gate = cache.limits(cell.photo, cell.style, far, judges)
    shipped_gate = replace(thresholds_for("mini", cell.style, far, judges=judges), drawing=gate.drawing)
    knobs, generator = cache.loop.knobs_for_balance(cell.style, balance), cache.loop.generator
    tries: list[tuple[MeasuredAttempt, Verdict]] = []

    def attempt(knobs: Knobs) -> tuple[MeasuredAttempt, Verdict]:
        picture_attempt = cache.attempt(cell.photo, cell.style, knobs, cell.seed + len(tries))
        tries.append((picture_attempt, judged(picture_attempt, gate)))
        return tries[-1]

    if arm == "one shot":
        attempt(knobs)
    elif arm == "one long shot":
        attempt(replace(knobs, num_inference_steps=cell.budget * knobs.num_inference_steps))
    elif arm in ("naive retry", "best of N"):
        while len(tries) < cell.budget:
            if attempt(knobs)[1].accepted and arm == "naive retry":
                break
    else:
        curves = cache.loop.curves(cell.style).for_judges(judges)
        policy = Policy(
            curves,
            knobs,
            gate,
            until=arm.rpartition(" ")[2],
            with_enough_steps=cache.loop.recipe.with_enough_steps,
        )
        chosen: Knobs | None = knobs
        while chosen is not None:
            picture_attempt, verdict = attempt(chosen)
            policy.learn(
                chosen,
                picture_attempt.measured.similarity | {STYLE: picture_attempt.measured.style_on_face},
                verdict.reasons,
            )
            proposed = policy.choose(cell.budget - len(tries)) if len(tries) < cell.budget else None
            passes_left = cell.budget * passes_of(generator, knobs) - sum(m.passes for m, _ in tries)
            chosen = proposed[0] if proposed and passes_of(generator, proposed[0]) <= passes_left else None
    passed = [(picture_attempt, verdict) for picture_attempt, verdict in tries if verdict.accepted]
    best = max(passed, key=lambda t: t[0].measured.style_on_face)[0] if passed else None
    cost = {
        "passes": sum(m.passes for m, _ in tries),
        "seconds": sum(m.seconds for m, _ in tries),
        "attempts": len(tries),
    }
    each = cache.limits_alone(cell.photo, cell.style, far)
    alone = {name: each[name] for name in JUDGES if name not in judges}
    result: dict[str, Any] = {
        "accepted": best is not None,
        "style": best.measured.style_on_face if best else 0.0,
        "first_by_shipped_limits": judged(tries[0][0], shipped_gate).accepted,
    } | cost
    for name in JUDGES:
        result[name] = best.measured.similarity[name] if best else None
    result["others_accept"] = (
        float(best is not None and all(best.measured.similarity[n] >= limit for n, limit in alone.items()))
        if alone
        else None
    )
    return result


def judged(attempt: MeasuredAttempt, gate: Thresholds) -> Verdict:
    """The verdict of `portrait.judge` on the measurements, by the judges of the gate."""
    measured = attempt.measured
    if gate.statistics is not None:
        measured = replace(measured, style_distance=style_distance(np.array(attempt.features), gate.statistics))
    return decide(measured, gate)


def tables(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Per setting and arm: rates, means and costs; and the difference of the loop from each baseline, paired by cell."""
    results: dict[str, Any] = {}
    for setting in SETTINGS:
        mine = [r for r in rows if r["setting"] == setting]
        if not mine:
            continue
        arms = {arm: [r for r in mine if r["arm"] == arm] for arm in (*BASELINES, *LOOPS)}
        whose = np.array([r["person"] for r in arms["one shot"]])
        entry: dict[str, Any] = {"portraits": len(whose), "people": len(set(whose)), "arms": {}, "loop_minus": {}}
        for arm, cells in arms.items():
            accepted = sum(r["accepted"] for r in cells)
            styles = [r["style"] for r in cells if r["accepted"]]
            row = {
                "accepted": _mean(cells, "accepted", whose),
                "style_of_accepted": round(float(np.mean(styles)), 4) if styles else None,
                "style_rejected_as_0": _mean(cells, "style", whose),
                "passes_per_accepted": _per(cells, "passes", accepted),
                "seconds_per_accepted": _per(cells, "seconds", accepted),
                "attempts": round(float(np.mean([r["attempts"] for r in cells])), 2),
            }
            for judge in ("arcface", "dlib"):
                values = [r[judge] for r in cells if r["accepted"]]
                row[judge] = round(float(np.mean(values)), 4) if values else None
            if cells[0]["others_accept"] is not None:
                row["accepted_also_by_the_other_judge"] = _mean(cells, "others_accept", whose)
            entry["arms"][arm] = row
        for loop in LOOPS:
            for arm in BASELINES:
                has_other_judge = arms[arm][0]["others_accept"] is not None
                for key in ("accepted", "style", "passes", "seconds", *(["others_accept"] if has_other_judge else [])):
                    pairs = zip(arms[loop], arms[arm], strict=True)
                    gap = np.array([float(a[key]) - float(b[key]) for a, b in pairs])
                    low, high = bootstrap_mean(gap, whose)
                    values = [round(float(v), 4) for v in (gap.mean(), low, high)]
                    entry["loop_minus"].setdefault(loop, {}).setdefault(arm, {})[key] = values
        entry["one_shot_by_shipped_limits"] = _mean(arms["one shot"], "first_by_shipped_limits", whose)
        results[setting] = entry
    return results


def against_shipped(files: dict[str, Path], people: list[str], styles: list[str]) -> dict[str, Any]:
    """Judge -> FAR -> mean and maximum difference of the people's individual limits from the shipped ones, over styles."""
    results: dict[str, Any] = {}
    for far in calibrated_rates():
        gaps: dict[str, list[float]] = {}
        for style in styles:
            shipped = limits_of_each_judge(None, style, far)
            for person in people:
                limits_of_person = limits_of_each_judge(files[person], style, far)
                for judge, value in limits_of_person.items():
                    gaps.setdefault(judge, []).append(value - shipped[judge])
        for judge, values in gaps.items():
            largest = max(values, key=abs)
            results.setdefault(judge, {})[f"{far:g}"] = [round(float(np.mean(values)), 5), round(largest, 4)]
    return results


def _mean(cells: list[dict[str, Any]], key: str, whose: np.ndarray) -> list[float]:
    values = np.array([float(r[key]) for r in cells])
    return [round(float(v), 4) for v in (values.mean(), *bootstrap_mean(values, whose))]


def _per(cells: list[dict[str, Any]], key: str, accepted: int) -> float | None:
    return round(sum(r[key] for r in cells) / accepted, 2) if accepted else None


_GAPS = {  # quantity compared in pairs -> its title, and its format
    "accepted": ("accepted", "+.0%"),
    "style": ("style, rejected as 0", "+.3f"),
    "passes": ("UNet passes", "+.1f"),
    "seconds": ("seconds", "+.2f"),
    "others_accept": ("accepted by the judge that did not decide", "+.0%"),
}


def markdown(found: dict[str, Any]) -> str:
    """The tables for the README."""
    lines = []
    for setting, entry in found.items():
        lines += [f"**{setting}** ({entry['portraits']} portraits, {entry['people']} people)", ""]
        lines += [
            "| | accepted | style of accepted | style, rejected as 0 | UNet passes (NFE) per accepted | s per accepted |"
        ]
        lines += ["|---|---|---|---|---|---|"]
        for arm, row in entry["arms"].items():
            rate, low, high = (f"{v:.0%}" for v in row["accepted"])
            cells = [f"{rate} ({low} to {high})", row["style_of_accepted"], row["style_rejected_as_0"][0]]
            cells += [row["passes_per_accepted"], row["seconds_per_accepted"]]
            lines.append(f"| {arm} | " + " | ".join("-" if c is None else str(c) for c in cells) + " |")
        if "accepted_also_by_the_other_judge" in entry["arms"]["one shot"]:
            also = {arm: row["accepted_also_by_the_other_judge"][0] for arm, row in entry["arms"].items()}
            lines += ["", "By the judge that did not decide: " + ", ".join(f"{a} {v:.0%}" for a, v in also.items())]
        for loop, gaps in entry["loop_minus"].items():
            lines += ["", f"| {loop}, minus | " + " | ".join(_GAPS[key][0] for key in next(iter(gaps.values()))) + " |"]
            lines.append("|---" * (1 + len(next(iter(gaps.values())))) + "|")
            for arm, gap in gaps.items():
                cells = ["{:{f}} ({:{f}} to {:{f}})".format(*values, f=_GAPS[key][1]) for key, values in gap.items()]
                lines.append(f"| {arm} | " + " | ".join(cells) + " |")
        rate, low, high = (f"{v:.0%}" for v in entry["one_shot_by_shipped_limits"])
        lines += [
            "",
            f"One shot, accepted by the shipped limits, which were set with these people: {rate} ({low} to {high})",
        ]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--people", type=int, help="number of people, women and men alternating (default: all)")
    parser.add_argument("--styles", default="", help="such as oil,comic (default: all styles of the recipe)")
    parser.add_argument(
        "--every", type=int, default=2, help="each pair of people gets only every n-th style, alternating"
    )
    parser.add_argument("--seeds", type=int, default=1, help="portraits per person and style")
    parser.add_argument("--settings", default="", help="numbers of the settings, such as 1,2 (default: all)")
    parser.add_argument(
        "--budget", type=int, default=4, help="N: maximum attempts, and budget in passes of a default picture"
    )
    parser.add_argument("--minutes", type=float, default=1e9, help="start no further person after this many minutes")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("out/loop"), help="folder of attempts.jsonl and loop.json")
    parser.add_argument("--accept", action="store_true", help="also write the result to eval/loop.json")
    parser.add_argument("--table", action="store_true", help="print the tables of loop.json and exit")
    args = parser.parse_args()
    if args.table:
        print(markdown(json.loads((args.output / "loop.json").read_text("utf-8"))["settings"]))
        return
    start, cache = time.perf_counter(), AttemptCache(args.output, args.data, args.threads)
    photos = for_verdicts(args.data)[: args.people]
    names = [list(SETTINGS)[int(i) - 1] for i in args.settings.split(",")] if args.settings else list(SETTINGS)
    styles = args.styles.split(",") if args.styles else list(cache.loop.recipe.styles)
    rows: list[dict[str, Any]] = []
    for n, photo in enumerate(photos):
        if time.perf_counter() - start > 60 * args.minutes:
            break
        person: list[dict[str, Any]] = []
        for style in styles[n // 2 % args.every :: args.every]:  # a woman and a man each time
            for setting in names:
                for seed in range(1, 1 + args.seeds):
                    cell = Cell(photo=photo, style=style, seed=seed, setting=setting, budget=args.budget)
                    key = {"person": name_of(photo), "style": style, "seed": seed}
                    person += [key | {"setting": setting, "arm": a} | run(cache, cell, a) for a in (*BASELINES, *LOOPS)]
        rows += person
        minutes = (time.perf_counter() - start) / 60
        print(f"{n + 1} of {len(photos)} people, {cache.new} new pictures, {minutes:.1f} min", flush=True)
    people = sorted({r["person"] for r in rows})
    results = {
        "budget": args.budget,
        "seeds": args.seeds,
        "every": args.every,
        "cores": args.threads or cpu_threads(),
        "people": people,
        "limits_minus_shipped_mean_and_largest": against_shipped(cache.files, people, styles),
        "weights": cache.loop.generator.digests,
        "settings": tables(rows),
    }
    for path in [args.output / "loop.json", *([Path(__file__).parent / "loop.json"] if args.accept else [])]:
        print(write_json(path, results))
    print(markdown(results["settings"]))


if __name__ == "__main__":
    main()
