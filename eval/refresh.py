"""Run all measurements again, in the right order: what to run after new weights.

    python eval/refresh.py --data FACES --jobs 2         # the same as `make figures`; resumable
    python eval/refresh.py --list                        # the steps: minutes, what each reads and writes, which are done
    python eval/refresh.py --data FACES --only dial held-out
    python eval/refresh.py --data FACES --quick          # a trial of every script with few people: writes below work/quick

FACES is the folder of the CC0 portraits (`python weights/training/faces.py --out work/faces` fetches them; work/faces is
the default). The steps run in order of importance, so that a run that ends early has done the most important ones; --minutes
starts none after that time. A step is skipped if its result names the current weights and, if it has run here, nothing that
it reads has changed since; --again measures it anyway. With --jobs 2, two steps run in parallel, each on its share of the
cores; those that need all cores run alone. If a step fails, only the steps that read its result are not run. At the end the
tables are written into README.md, docs/ and the model card. The output of each step is in work/refresh-.../NAME.log.

Minutes are estimates: the number of pictures to draw and judge, times --pace, the processor seconds of one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from held_out_people import FACES, HELD_OUT, ROOT, WORK, journal_of, spread, weights_today
from processes import last_line, shares, start

from portrait.files import write_json
from portrait.recipes.load import load_recipe

RECIPES = "portrait/recipes"
CURVES, THRESHOLDS = f"{RECIPES}/mini.curves.json", f"{RECIPES}/mini.thresholds.json"
PACE = 0.7
"""Processor seconds to draw a picture and judge it by ArcFace and dlib, at 512 px on one core with AVX-512."""
QUICK_PEOPLE, QUICK_STRANGERS = 8, 72


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One script and its requirements.

    `command` and `quick` may contain {data}, {work} and {curve_people}. `quick` is appended for a trial with few people; if it
    is None, a trial leaves the step out. `pictures` are drawn per style, `further` once. A step that is `alone` gets all cores,
    because it divides them itself or measures seconds.
    """

    name: str
    command: tuple[str, ...]
    writes: tuple[str, ...]
    reads: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    pictures: float = 0
    further: float = 0
    quick: tuple[str, ...] | None = None
    alone: bool = False


def _script(name: str, *args: str) -> tuple[str, ...]:
    return (sys.executable, f"eval/{name}.py", *args)


def _people(name: str, *args: str) -> tuple[str, ...]:
    return _script(name, "--data", "{data}", *args)


def _trial(file: str, *args: str) -> tuple[str, ...]:
    return ("--output", "{work}/" + file, *args)


_LIMITS = (CURVES, THRESHOLDS)
STEPS = (
    Step(
        name="calibrate",
        command=_people("calibrate", "--work", "{work}", "--curve-people", "{curve_people}"),
        writes=_LIMITS,
        alone=True,
        pictures=20 * 8 + 72,
        further=430,
        quick=("--output", "{work}", "--far", "0.05", "--styles", "oil,comic"),
    ),
    Step(
        name="samples",
        command=_script("style_samples"),
        writes=("portrait/studio/samples/mini/weights.json",),
        reads=_LIMITS,
        after=("calibrate",),
        pictures=1.3,
    ),
    Step(
        name="dial",
        command=_script("dial"),
        writes=("eval/dial.json",),
        reads=_LIMITS,
        after=("calibrate",),
        pictures=5,
        quick=_trial("dial.json", "--seeds", "2", "--sheet", "{work}/dial.jpg"),
    ),
    Step(
        name="left-out",
        command=_people("held_out_people"),
        writes=(),
        reads=_LIMITS,
        after=("calibrate",),
        further=150,
        quick=(),
    ),
    Step(
        name="held-out",
        command=_people("held_out"),
        writes=("eval/held_out.json", "weights/mini/failures.jpg"),
        alone=True,
        reads=_LIMITS,
        after=("left-out",),
        pictures=36 * 1.3,
        quick=_trial("held_out.json", "--people", "2", "--sheet", "{work}/failures.jpg"),
    ),
    Step(
        name="adapter",
        command=_people("adapter", "--people", "36"),
        writes=("eval/adapter.json",),
        reads=_LIMITS,
        after=("calibrate",),
        further=540,
    ),
    Step(
        name="examples",
        command=_people("examples"),
        writes=("weights/mini/examples.jpg",),
        reads=_LIMITS,
        after=("calibrate",),
        pictures=6 * 1.3,
        quick=_trial("examples.jpg", "--people", "1"),
    ),
    Step(
        name="knobs",
        command=_script("knobs"),
        writes=("weights/mini/knobs.png",),
        reads=(CURVES,),
        after=("calibrate",),
        quick=_trial("knobs.png"),
    ),
    Step(
        name="grid",
        command=_people("grid"),
        writes=("eval/grid.json",),
        reads=_LIMITS,
        after=("calibrate",),
        pictures=6,
        quick=_trial("grid.json", "--people", "2"),
    ),
    Step(
        name="standing-small",
        command=_script("standing", "--accept"),
        writes=("eval/accepted/small.json",),
        reads=_LIMITS,
        after=("calibrate",),
        further=20,
    ),
    Step(
        name="thresholds",
        command=_people("thresholds"),
        writes=("eval/thresholds.json",),
        reads=_LIMITS,
        after=("left-out",),
        further=100,
    ),
    Step(
        name="keep",
        command=_people("keep"),
        writes=("eval/keep.json",),
        reads=_LIMITS,
        after=("calibrate",),
        pictures=12,
        quick=_trial("keep.json", "--people", "2"),
    ),
    Step(
        name="ablation",
        command=_people("ablation", "--people", "8", "--seeds", "1"),
        writes=("eval/ablation.json",),
        reads=_LIMITS,
        after=("left-out",),
        pictures=40,
        quick=_trial("ablation.json", "--people", "2", "--styles", "oil"),
    ),
    Step(
        name="robustness",
        command=_people("robustness", "--people", "8", "--styles", "watercolor,oil,comic,sketch"),
        writes=("eval/robustness.json",),
        reads=_LIMITS,
        after=("left-out",),
        further=8 * 14 * 4,
        quick=_trial("robustness.json", "--people", "2", "--styles", "oil"),
    ),
    Step(
        name="speed",
        command=_script("speed"),
        writes=("eval/speed.json",),
        alone=True,
        further=40,
        quick=_trial("speed.json", "--pictures", "1"),
    ),
    Step(
        name="latency",
        command=_people("latency", "--styles", "oil,comic", "--output", "eval/latency.json"),
        writes=("eval/latency.json",),
        alone=True,
        reads=_LIMITS,
        after=("calibrate",),
        further=900,
        quick=_trial("latency.json", "--parts", "warm,campaign", "--busy", "0", "--runs", "1", "--jobs", "8"),
    ),
    Step(
        name="styles",
        command=_people("styles", "--pictures", "{work}/styles", "--draw"),
        writes=("eval/styles.json",),
        reads=_LIMITS,
        after=("calibrate",),
        pictures=36 * 0.8,
        further=400,
    ),
    Step(
        name="standing-full",
        command=_people("standing", "--accept"),
        writes=("eval/accepted/full.json",),
        reads=_LIMITS,
        after=("calibrate",),
        pictures=36 * 1.3,
    ),
    Step(
        name="loop",
        command=_people("loop", "--output", "{work}/loop", "--every", "6", "--accept"),
        writes=("eval/loop.json",),
        reads=_LIMITS,
        after=("left-out",),
        pictures=28 / 6 * 24,
    ),
    Step(
        name="campaign",
        command=_people("campaign", "--work", "{work}/campaign"),
        writes=("eval/campaign.json",),
        reads=_LIMITS,
        after=("calibrate",),
        further=600,
    ),
    Step(
        name="studio",
        command=_script("studio"),
        writes=("eval/studio.json",),
        alone=True,
        reads=_LIMITS,
        after=("calibrate",),
        further=20,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Where a run reads and writes."""

    data: Path
    work: Path
    held_out: Path
    curve_people: int = 8
    painted: Path | None = None
    quick: bool = False

    def command(self, step: Step) -> list[str]:
        """The step's command line."""
        words = [*step.command, *((step.quick or ()) if self.quick else ())]
        if step.name == "grid" and self.painted is not None:
            words += ["--painted", str(self.painted)]
        return [word.format(data=self.data, work=self.work, curve_people=self.curve_people) for word in words]

    def stamp(self, step: Step) -> Path:
        """The file that is written when a step has ended."""
        return self.work / f"{step.name}.done.json"


def state(step: Step, command: Sequence[str]) -> dict[str, object]:
    """What a step's result depends on: weights, command line, and the contents of the files that it reads."""
    reads = {name: _sha256(ROOT / name) for name in step.reads}
    return {"weights": weights_today(), "command": list(command[1:]), "reads": reads}


def is_done(step: Step, run: Run) -> bool:
    """Whether a step's results are of the current weights and of the files that it reads."""
    if not run.quick and not all((ROOT / name).is_file() for name in step.writes):
        return False
    stamp = run.stamp(step)
    if stamp.is_file():
        stamped = json.loads(stamp.read_text("utf-8"))
        return {key: stamped.get(key) for key in ("weights", "command", "reads")} == state(step, run.command(step))
    results = [ROOT / name for name in step.writes if name.endswith(".json")]
    return bool(results) and not run.quick and all(map(_names_weights, results))


def _names_weights(path: Path) -> bool:
    """Whether a result names the current weights."""
    content = json.loads(path.read_text("utf-8"))
    measured = content if path.name == "weights.json" else content.get("weights")
    return isinstance(measured, dict) and measured.items() >= weights_today().items()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def execute(step: Step, run: Run, cores: Sequence[int]) -> str:
    """Run one step on these cores; return an empty text, or the error."""
    begun = time.perf_counter()
    log = run.work / f"{step.name}.log"
    command = run.command(step)
    if code := start(command, cores, log, ROOT, {"PORTRAIT_HELD_OUT": str(run.held_out)}).wait():
        return f"exit {code}: {last_line(log)} ({log})"
    seconds = round(time.perf_counter() - begun, 1)
    write_json(run.stamp(step), {"seconds": seconds, "cores": len(cores), **state(step, command)})
    return ""


class Schedule:
    """Runs steps in order, `jobs` at a time on shares of the cores; `failed` is name -> error, or why it was not started."""

    def __init__(self, steps: Sequence[Step], run: Run, jobs: int, minutes: float) -> None:
        self.failed: dict[str, str] = {}
        self._run, self._minutes = run, minutes
        self._jobs, self._free = jobs, shares(jobs)
        self._waiting = list(steps)
        self._running: dict[Future[str], tuple[Step, list[list[int]]]] = {}
        self._begun = time.perf_counter()

    def finish(self) -> None:
        """Run all of them."""
        with ThreadPoolExecutor(self._jobs) as pool:
            while self._waiting or self._running:
                self._drop_blocked()
                self._drop_late()
                self._start(pool)
                self._collect()

    def _drop_blocked(self) -> None:
        for step in list(self._waiting):
            if lacking := [name for name in step.after if name in self.failed]:
                self._waiting.remove(step)
                self.failed[step.name] = f"not begun: it needs {', '.join(lacking)}"

    def _drop_late(self) -> None:
        if time.perf_counter() - self._begun > 60 * self._minutes:
            self.failed |= {step.name: f"not begun within {self._minutes:g} minutes" for step in self._waiting}
            self._waiting.clear()

    def _start(self, pool: ThreadPoolExecutor) -> None:
        """Start the first steps that need nothing unfinished, until one has to wait for cores."""
        unfinished = {step.name for step in self._waiting} | {step.name for step, _ in self._running.values()}
        for step in [step for step in self._waiting if not unfinished & set(step.after)]:
            if len(self._free) < (self._jobs if step.alone else 1):
                return
            its_shares = [self._free.pop(0) for _ in range(self._jobs if step.alone else 1)]
            cores = sorted({core for share in its_shares for core in share})
            self._waiting.remove(step)
            self._say(f"{step.name}: begins")
            self._running[pool.submit(execute, step, self._run, cores)] = (step, its_shares)

    def _collect(self) -> None:
        for future in wait(self._running, return_when=FIRST_COMPLETED).done:
            step, its_shares = self._running.pop(future)
            self._free += its_shares
            if error := future.result():
                self.failed[step.name] = error
            self._say(f"{step.name}: {error or 'done'}")

    def _say(self, text: str) -> None:
        minutes, seconds = divmod(int(time.perf_counter() - self._begun), 60)
        print(f"{minutes:3d}:{seconds:02d} {text}", flush=True)


def to_run(steps: Sequence[Step], run: Run, *, again: bool) -> list[Step]:
    """The steps that are not done, and those that depend on them, whose results will be out of date."""
    pending: dict[str, Step] = {}
    for step in steps:
        if again or pending.keys() & set(step.after) or not is_done(step, run):
            pending[step.name] = step
    return list(pending.values())


def listing(steps: Sequence[Step], run: Run, pace: float) -> str:
    """A line per step, and the sum of the remaining minutes."""
    styles = len(load_recipe("mini").styles)
    lines = [f"{'step':15} {'done':5} {'pictures':>8} {'min':>5} {'last':>5}  reads -> writes"]
    remaining, pending = 0.0, to_run(steps, run, again=False)
    for step in steps:
        pictures = round(step.pictures * styles + step.further)
        if step.name == "calibrate":
            pictures += (run.curve_people - 8) * 20 * styles
        done, minutes = step not in pending, pictures * pace / 60
        remaining += 0 if done else minutes
        stamp = run.stamp(step)
        last = f"{json.loads(stamp.read_text('utf-8'))['seconds'] / 60:.1f}" if stamp.is_file() else "-"
        files = f"{', '.join(map(_short, step.reads)) or '-'} -> {', '.join(map(_short, step.writes)) or 'work/'}"
        lines.append(f"{step.name:15} {'yes' if done else 'no':5} {pictures:8d} {minutes:5.1f} {last:>5}  {files}")
    return "\n".join([*lines, f"left: {remaining:.0f} processor minutes at {pace:g} s per picture"])


def _short(name: str) -> str:
    return name.removeprefix(f"{RECIPES}/").removeprefix("eval/")


def trial(data: Path, work: Path) -> Run:
    """A folder with few people and few strangers, spread evenly over all of them."""
    names = [line for line in HELD_OUT.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    people = [data / name for name in names]
    others = [path for path in sorted(data.glob("*/*.jpg")) if path not in people]
    chosen = spread(people, QUICK_PEOPLE)
    for path in [*chosen, *spread(others, QUICK_STRANGERS)]:
        place = work / "faces" / path.parent.name / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.is_file():
            shutil.copyfile(path, place)
    listed = work / "held_out.txt"
    listed.write_text("\n".join(f"{path.parent.name}/{path.name}" for path in chosen), "utf-8")
    return Run(data=work / "faces", work=work, held_out=listed, curve_people=4, quick=True)


def main() -> int:
    """Run the steps that are not done; return 1 if any failed or was not started."""
    args = _arguments()
    work = WORK / journal_of().stem.replace("measured", "refresh")
    run = Run(
        data=args.data.resolve(),
        work=work,
        held_out=HELD_OUT,
        curve_people=args.curve_people,
        painted=args.painted and args.painted.resolve(),
    )
    steps = [step for step in STEPS if step.name in (args.only or _NAMES) and step.name not in args.without]
    if args.list:
        print(listing(steps, run, args.pace))
        return 0
    if args.quick:
        run = trial(args.data.resolve(), WORK / "quick")
        steps = [step for step in steps if step.quick is not None]
    failed = finish(steps, run, args)
    if not run.quick:
        subprocess.run([sys.executable, "eval/tables.py"], cwd=ROOT, check=True)
    for name, wrong in failed.items():
        print(f"{name}: {wrong}", file=sys.stderr)
    return 1 if failed else 0


def finish(steps: Sequence[Step], run: Run, args: argparse.Namespace) -> dict[str, str]:
    """Run the steps that are not done; return what is wrong with those that failed or were not started, by name."""
    run.work.mkdir(parents=True, exist_ok=True)
    pending = to_run(steps, run, again=args.again)
    for step in steps:
        if step not in pending:
            print(f"{step.name}: as measured before")
    schedule = Schedule(pending, run, args.jobs, args.minutes)
    schedule.finish()
    return schedule.failed


_NAMES = [step.name for step in STEPS]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=FACES, help="folder of the CC0 portraits (default: work/faces)")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=_NAMES, help="these steps")
    parser.add_argument(
        "--without", nargs="+", metavar="NAME", choices=_NAMES, default=[], help="leave these steps out"
    )
    parser.add_argument("--again", action="store_true", help="also run the steps that are done")
    parser.add_argument("--quick", action="store_true", help="a trial with few people; results go below work/quick")
    parser.add_argument("--jobs", type=int, default=1, help="steps to run in parallel, each on its share of the cores")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no step after this time")
    parser.add_argument(
        "--curve-people", type=int, default=8, help="people that the curves are measured on (default: 8)"
    )
    parser.add_argument(
        "--painted", type=Path, metavar="WORK", help="work folder of the training, to compare grids with the painters'"
    )
    parser.add_argument("--pace", type=float, default=PACE, help=f"processor seconds of a picture (default: {PACE})")
    parser.add_argument("--list", action="store_true", help="print the steps and exit")
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error(f"--jobs {args.jobs} is below 1")
    if not args.list and not (args.data / "female").is_dir():
        parser.error(f"{args.data} holds no portraits; python weights/training/faces.py --out {args.data} fetches them")
    return args


if __name__ == "__main__":
    raise SystemExit(main())
