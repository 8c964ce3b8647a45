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
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from held_out_people import (
    JUDGES,
    RUNTIME,
    calibrated_rates,
    data_argument,
    for_verdicts,
    left_out,
    limits_of_each_judge,
    name_of,
)
from measures import bootstrap_mean

from portrait.files import write_json
from portrait.generate.framing import frame_portrait
from portrait.images import read_photo
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
from portrait.settings import Settings

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
_GAPS = {  # quantity compared in pairs -> its title, and its format
    "accepted": ("accepted", "+.0%"),
    "style": ("style, rejected as 0", "+.3f"),
    "passes": ("UNet passes", "+.1f"),
    "seconds": ("seconds", "+.2f"),
    "others_accept": ("accepted by the judge that did not decide", "+.0%"),
}


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
        self.loop = load_loop(Settings(threads=threads))
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


Try = tuple[MeasuredAttempt, Verdict]


def run(cache: AttemptCache, cell: Cell, arm: str) -> dict[str, Any]:
    """Run one arm on one cell: whether a picture was accepted, its style and likeness, and the cost."""
    balance, far, judges = SETTINGS[cell.setting]
    gate = cache.limits(cell.photo, cell.style, far, judges)
    shipped_gate = replace(thresholds_for("mini", cell.style, far, judges=judges), drawing=gate.drawing)
    tries = tries_of(cache, cell, arm, cache.loop.knobs_for_balance(cell.style, balance), gate)
    passed = [attempt for attempt, verdict in tries if verdict.accepted]
    best = max(passed, key=lambda attempt: attempt.measured.style_on_face) if passed else None
    result: dict[str, Any] = {
        "accepted": best is not None,
        "style": best.measured.style_on_face if best else 0.0,
        "first_by_shipped_limits": judged(tries[0][0], shipped_gate).accepted,
        "passes": sum(attempt.passes for attempt, _ in tries),
        "seconds": sum(attempt.seconds for attempt, _ in tries),
        "attempts": len(tries),
    }
    result |= {name: best.measured.similarity[name] if best else None for name in JUDGES}
    return result | {"others_accept": others_accept(cache, cell, best)}


def tries_of(cache: AttemptCache, cell: Cell, arm: str, knobs: Knobs, gate: Thresholds) -> list[Try]:
    """The attempts that an arm makes on a cell, beginning with the dial's knobs."""
    tries: list[Try] = []

    def attempt(knobs: Knobs) -> Try:
        made = cache.attempt(cell.photo, cell.style, knobs, cell.seed + len(tries))
        tries.append((made, judged(made, gate)))
        return tries[-1]

    if arm == "one shot":
        attempt(knobs)
    elif arm == "one long shot":
        attempt(replace(knobs, num_inference_steps=cell.budget * knobs.num_inference_steps))
    elif arm in LOOPS:
        follow_policy(cache, cell, arm, knobs, gate, attempt)
    else:
        while len(tries) < cell.budget:
            if attempt(knobs)[1].accepted and arm == "naive retry":
                break
    return tries


def follow_policy(
    cache: AttemptCache, cell: Cell, arm: str, knobs: Knobs, gate: Thresholds, attempt: Callable[[Knobs], Try]
) -> None:
    """Make the attempts of portrait's policy, as long as it proposes any that do not exceed the budget."""
    generator = cache.loop.generator
    policy = Policy(
        cache.loop.curves(cell.style).for_judges(SETTINGS[cell.setting][2]),
        knobs,
        gate,
        until=arm.rpartition(" ")[2],
        with_enough_steps=cache.loop.recipe.with_enough_steps,
    )
    chosen, passes_left = knobs, cell.budget * passes_of(generator, knobs)
    for attempts_left in reversed(range(cell.budget)):
        made, verdict = attempt(chosen)
        policy.learn(chosen, made.measured.similarity | {STYLE: made.measured.style_on_face}, verdict.reasons)
        passes_left -= made.passes
        proposed = policy.choose(attempts_left) if attempts_left else None
        if proposed is None or passes_of(generator, proposed[0]) > passes_left:
            return
        chosen = proposed[0]


def others_accept(cache: AttemptCache, cell: Cell, best: MeasuredAttempt | None) -> float | None:
    """1 if the judges that did not decide accept the picture, 0 if not or if there is none; None if all decided."""
    _, far, judges = SETTINGS[cell.setting]
    limits = cache.limits_alone(cell.photo, cell.style, far)
    others = [name for name in JUDGES if name not in judges]
    if not others:
        return None
    return float(best is not None and all(best.measured.similarity[name] >= limits[name] for name in others))


def judged(attempt: MeasuredAttempt, gate: Thresholds) -> Verdict:
    """The verdict of `portrait.judge` on the measurements, by the judges of the gate."""
    measured = attempt.measured
    if gate.statistics is not None:
        measured = replace(measured, style_distance=style_distance(np.array(attempt.features), gate.statistics))
    return decide(measured, gate)


Rows = list[dict[str, Any]]


def tables(rows: Rows) -> dict[str, Any]:
    """Setting -> what `table` says of it; settings that were not run are left out."""
    results = {}
    for setting in SETTINGS:
        mine = [row for row in rows if row["setting"] == setting]
        if mine:
            results[setting] = table({arm: [row for row in mine if row["arm"] == arm] for arm in (*BASELINES, *LOOPS)})
    return results


def table(arms: dict[str, Rows]) -> dict[str, Any]:
    """Per arm: rates, means and costs; and the difference of the loop from each baseline, paired by cell."""
    whose = np.array([row["person"] for row in arms["one shot"]])
    return {
        "portraits": len(whose),
        "people": len(set(whose)),
        "arms": {arm: summary(cells, whose) for arm, cells in arms.items()},
        "loop_minus": {loop: {arm: differences(arms[loop], arms[arm], whose) for arm in BASELINES} for loop in LOOPS},
        "one_shot_by_shipped_limits": _mean(arms["one shot"], "first_by_shipped_limits", whose),
    }


def summary(cells: Rows, whose: np.ndarray) -> dict[str, Any]:
    """The rates, means and costs of one arm."""
    accepted = [row for row in cells if row["accepted"]]

    def mean(key: str) -> float | None:
        return round(float(np.mean([row[key] for row in accepted])), 4) if accepted else None

    row = {
        "accepted": _mean(cells, "accepted", whose),
        "style_of_accepted": mean("style"),
        "style_rejected_as_0": _mean(cells, "style", whose),
        "passes_per_accepted": _per(cells, "passes", len(accepted)),
        "seconds_per_accepted": _per(cells, "seconds", len(accepted)),
        "attempts": round(float(np.mean([row["attempts"] for row in cells])), 2),
        "arcface": mean("arcface"),
        "dlib": mean("dlib"),
    }
    if cells[0]["others_accept"] is not None:
        row["accepted_also_by_the_other_judge"] = _mean(cells, "others_accept", whose)
    return row


def differences(loop: Rows, baseline: Rows, whose: np.ndarray) -> dict[str, list[float]]:
    """Quantity -> mean difference of the loop from a baseline, paired by cell, and its interval."""
    found = {}
    for key in _GAPS:
        if baseline[0][key] is not None:
            gap = np.array([float(a[key]) - float(b[key]) for a, b in zip(loop, baseline, strict=True)])
            found[key] = [round(float(v), 4) for v in (gap.mean(), *bootstrap_mean(gap, whose))]
    return found


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


def _mean(cells: Rows, key: str, whose: np.ndarray) -> list[float]:
    values = np.array([float(r[key]) for r in cells])
    return [round(float(v), 4) for v in (values.mean(), *bootstrap_mean(values, whose))]


def _per(cells: Rows, key: str, accepted: int) -> float | None:
    return round(sum(r[key] for r in cells) / accepted, 2) if accepted else None


def markdown(found: dict[str, Any]) -> str:
    """The tables for the README."""
    return "\n".join(line for setting, entry in found.items() for line in lines_of(setting, entry))


def lines_of(setting: str, entry: dict[str, Any]) -> list[str]:
    """The tables of one setting."""
    lines = [
        f"**{setting}** ({entry['portraits']} portraits, {entry['people']} people)",
        "",
        "| | accepted | style of accepted | style, rejected as 0 | UNet passes (NFE) per accepted | s per accepted |",
        "|---|---|---|---|---|---|",
    ]
    for arm, row in entry["arms"].items():
        cells = [row["style_of_accepted"], row["style_rejected_as_0"][0]]
        cells += [row["passes_per_accepted"], row["seconds_per_accepted"]]
        texts = [_percent(row["accepted"]), *("-" if cell is None else str(cell) for cell in cells)]
        lines.append(f"| {arm} | " + " | ".join(texts) + " |")
    if "accepted_also_by_the_other_judge" in entry["arms"]["one shot"]:
        also = {arm: row["accepted_also_by_the_other_judge"][0] for arm, row in entry["arms"].items()}
        lines += ["", "By the judge that did not decide: " + ", ".join(f"{a} {v:.0%}" for a, v in also.items())]
    for loop, gaps in entry["loop_minus"].items():
        lines += ["", *difference_lines(loop, gaps)]
    return [
        *lines,
        "",
        "One shot, accepted by the shipped limits, which were set with these people: "
        + _percent(entry["one_shot_by_shipped_limits"]),
        "",
    ]


def difference_lines(loop: str, gaps: dict[str, dict[str, list[float]]]) -> list[str]:
    """The table of what a loop has more or less than each baseline."""
    keys = list(next(iter(gaps.values())))
    lines = [f"| {loop}, minus | " + " | ".join(_GAPS[key][0] for key in keys) + " |", "|---" * (1 + len(keys)) + "|"]
    for arm, gap in gaps.items():
        cells = ["{:{f}} ({:{f}} to {:{f}})".format(*values, f=_GAPS[key][1]) for key, values in gap.items()]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return lines


def _percent(values: list[float]) -> str:
    rate, low, high = (f"{value:.0%}" for value in values)
    return f"{rate} ({low} to {high})"


def rows_of(
    cache: AttemptCache, styles: list[str], settings: list[str], args: argparse.Namespace, start: float
) -> Rows:
    """Run every arm on each person's cells; a row each. No person is begun `--minutes` after the start."""
    photos = for_verdicts(args.data)[: args.people]
    rows: Rows = []
    for n, photo in enumerate(photos):
        if time.perf_counter() - start > 60 * args.minutes:
            break
        for style in styles[n // 2 % args.every :: args.every]:  # a woman and a man each time
            for setting, seed in itertools.product(settings, range(1, 1 + args.seeds)):
                cell = Cell(photo=photo, style=style, seed=seed, setting=setting, budget=args.budget)
                key = {"person": name_of(photo), "style": style, "seed": seed, "setting": setting}
                rows += [key | {"arm": arm} | run(cache, cell, arm) for arm in (*BASELINES, *LOOPS)]
        minutes = (time.perf_counter() - start) / 60
        print(f"{n + 1} of {len(photos)} people, {cache.new} new pictures, {minutes:.1f} min", flush=True)
    return rows


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
    settings = [list(SETTINGS)[int(i) - 1] for i in args.settings.split(",")] if args.settings else list(SETTINGS)
    styles = args.styles.split(",") if args.styles else list(cache.loop.recipe.styles)
    rows = rows_of(cache, styles, settings, args, start)
    people = sorted({r["person"] for r in rows})
    results = {
        "budget": args.budget,
        "seeds": args.seeds,
        "every": args.every,
        "cores": args.threads or cpu_threads(),
        "runtime": RUNTIME,
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
