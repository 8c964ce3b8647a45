"""How fast portrait is: cold and warm, on a quiet machine and beside busy processes, compared with diffusers.

    python eval/latency.py --data FACES -o eval/latency.json       # all parts; on an otherwise idle machine
    python eval/latency.py --parts cold,warm --busy 0,1 --runs 3
    python eval/latency.py --parts accepted,campaign --photos PHOTOS --styles oil,comic

| part | what is measured |
|---|---|
| cold | `portrait stylize` from the shell to the written picture, one attempt: seconds, processor seconds, memory |
| warm | one attempt with the models loaded: networks, rasterizer, judging; the networks' rate relative to the processor's |
| torch | `portrait stylize` as in cold, in torch (`--dtype bfloat16`) and in onnxruntime in turn |
| diffusers | the same networks, knobs and seeds in diffusers' img2img pipeline in torch, alternating with portrait's |
| at-once | what portrait does in turn, done at once: embedding faces, judging while drawing, loading judges beside networks |
| batches | seconds per picture and memory as the batch grows, and memory after many pictures |
| accepted | seconds per accepted portrait: one shot, one shot by diffusers, best of N, naive retry, and portrait's loop |
| campaign | where the time of a campaign with one attempt per picture goes, and its memory, once its models are loaded |

Cold and warm are repeated beside each number of busy processes in `--busy`; each of these occupies one core. Things
to be compared are measured in the same run: on a machine that is not idle, look at ratios and processor time. Parts that are
not measured this time are kept from an existing file if they are of the same weights, runtime and machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any
from unittest import mock

from processes import run_measured

PARTS = ("cold", "warm", "torch", "diffusers", "at-once", "batches", "accepted", "campaign")
ATTEMPTS = 4
"""The number of pictures of best of N, and the maximum attempts of naive retry and of the loop."""
SEVERAL = 8
"""The number of faces or pictures that are handled at once."""
_MATRIX = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Wall-clock seconds (minimum and median of the runs) and processor seconds (median)."""

    least: float
    median: float
    processor: float


def timed(work: Callable[[], object], runs: int) -> Timing:
    """Run `work` `runs` times, after one run to warm up."""
    work()
    seconds, processor = [], []
    for _ in range(runs):
        clock, spent = time.perf_counter(), time.process_time()
        work()
        seconds.append(time.perf_counter() - clock)
        processor.append(time.process_time() - spent)
    return Timing(
        least=round(min(seconds), 3),
        median=round(statistics.median(seconds), 3),
        processor=round(statistics.median(processor), 3),
    )


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Within the block, this many processes keep a core busy each."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def cold(photo: Path, style: str, threads: int, dtype: str, runs: int) -> dict[str, Any]:
    """`portrait stylize` as a process: seconds, processor seconds, and peak memory in megabytes."""
    return cold_in_turn(photo, style, threads, [dtype], runs)[dtype]


def cold_in_turn(photo: Path, style: str, threads: int, dtypes: Sequence[str], runs: int) -> dict[str, dict[str, Any]]:
    """`cold` with each of these values of `--dtype`, in turn."""
    ended: dict[str, list[Any]] = {dtype: [] for dtype in dtypes}
    for _ in range(1 + runs):  # the first reads the files from disk
        for dtype, processes in ended.items():
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, "-m", "portrait", "stylize", str(photo), "--style", style]
                command += ["--max-attempts", "1", "--threads", str(threads), "--dtype", dtype, "--quiet", "-o", folder]
                processes.append(run_measured(command))
                if processes[-1].code not in (0, 1) or not list(Path(folder).glob("*.png")):
                    raise SystemExit(f"portrait stylize did not write a picture (exit code {processes[-1].code})")
    return {dtype: _cold_row(processes[1:]) for dtype, processes in ended.items()}


def _cold_row(ended: Sequence[Any]) -> dict[str, Any]:
    seconds = [process.seconds for process in ended]
    return asdict(
        Timing(
            least=round(min(seconds), 3),
            median=round(statistics.median(seconds), 3),
            processor=round(statistics.median(process.processor for process in ended), 3),
        )
    ) | {"megabytes": max(process.megabytes for process in ended)}


class Warm:
    """A loaded recipe with one photo, ready to draw."""

    def __init__(self, photo: Path, style: str, threads: int, dtype: str) -> None:
        from portrait.generate.framing import frame_portrait
        from portrait.images import read_photo
        from portrait.loop.load import load_loop
        from portrait.settings import Settings

        self.loop = load_loop(Settings(threads=threads, dtype=dtype))
        self.generator: Any = self.loop.generator
        self.style, self.threads = style, self.generator.threads
        self.settings = Settings(style=(style,), max_attempts=1, threads=threads)
        (self.subject,) = self.loop.subjects(read_photo(photo), "largest")
        self.knobs = self.loop.knobs_for_balance(style, 0.5)
        recipe = self.loop.recipe
        self.framed = frame_portrait(self.subject.photo.pixels, self.subject.face, "bust", recipe.resolution)
        embedding = self.subject.identity.embeddings["arcface"]
        self.conditions = self.generator.prepare(
            self.framed.image, embedding, recipe.style(style).prompt, "", self.framed.face
        )

    def by_diffusers(self) -> tuple[Any, Any]:
        """The same weights in diffusers' pipeline, in float32, and the conditions that it draws from."""
        from portrait.generate.diffusion import DiffusionGenerator

        generator = DiffusionGenerator(self.loop.recipe, threads=self.threads, dtype="float32")
        embedding, prompt = self.subject.identity.embeddings["arcface"], self.loop.recipe.style(self.style).prompt
        return generator, generator.prepare(self.framed.image, embedding, prompt, "", self.framed.face)

    def draw(self, seeds: Sequence[int] = (1,)) -> list[Any]:
        """Pictures of these seeds, as one batch."""
        pictures: list[Any] = self.generator.generate(self.conditions, self.knobs, seeds)
        return pictures

    def judge(self, picture: Any) -> object:
        """Measure a picture that was drawn."""
        return self.loop.judges.score_picture(self.framed, self.subject.identity, picture)

    def stylize(self) -> object:
        """One attempt, judged, with its record."""
        return self.loop.stylize(self.subject, self.style, self.settings)


def warm(warmed: Warm, runs: int) -> dict[str, Any]:
    """One attempt and its parts, and how close drawing comes to the processor's limit."""
    picture = warmed.draw()[0]
    drawing = timed(warmed.draw, runs)
    judging = timed(lambda: warmed.judge(picture), max(runs, 3))
    marks = rasterizing(warmed, runs)
    rate, flops = matmul_rate(warmed.generator.dtype), operations(warmed)
    networks = max(drawing.processor - marks.processor, 1e-3)
    return {
        "dtype": warmed.generator.dtype,
        "threads": warmed.threads,
        "attempt": asdict(timed(warmed.stylize, runs)),
        "drawing": asdict(drawing),
        "rasterizer": asdict(marks),
        "judging": asdict(judging),
        "gigaflops_of_networks": round(flops / 1e9, 2),
        "processor_seconds_of_networks": round(networks, 3),
        "matmul_gigaflops_a_processor_second": round(rate / 1e9, 1),
        "share_of_matmul_rate": round(flops / networks / rate, 3),
    }


def rasterizing(warmed: Warm, runs: int) -> Timing:
    """The part of drawing that is not done by networks: marks to pixels."""
    from portrait.generate.families.mini import generator

    with mock.patch.object(generator, "draw", wraps=generator.draw) as draw:
        warmed.draw()
    marks = draw.call_args.args
    return timed(lambda: generator.draw(*marks), runs)


def operations(warmed: Warm) -> float:
    """Floating point operations of the networks for one picture, counted in torch."""
    from torch.utils.flop_counter import FlopCounterMode

    in_torch, conditions = warmed.by_diffusers()
    with FlopCounterMode(display=False) as counter:
        in_torch.generate(conditions, warmed.knobs, [1])
    return float(counter.get_total_flops())


def matmul_rate(dtype: str) -> float:
    """Operations per processor second of a large matrix product in this number type: the processor's practical limit."""
    import torch

    a = torch.randn(_MATRIX, _MATRIX).to(getattr(torch, dtype))
    with torch.inference_mode():
        took = timed(lambda: [a @ a for _ in range(16)], 5).processor
    return 16 * 2 * _MATRIX**3 / max(took, 1e-3)


def against_diffusers(warmed: Warm, runs: int) -> dict[str, Any]:
    """Alternate portrait's and diffusers' pipelines with the same weights: seconds per picture, and how far they differ."""
    import numpy as np

    in_torch, conditions = warmed.by_diffusers()
    pictures, rows = {}, {}
    ways: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("portrait", warmed.draw),
        ("diffusers", lambda: in_torch.generate(conditions, warmed.knobs, [1])),
        ("portrait again", warmed.draw),
    )
    for name, draw in ways:
        pictures[name] = draw()[0].astype(int)
        rows[name] = asdict(timed(draw, runs))
    differences = np.abs(pictures["portrait"] - pictures["diffusers"])
    return rows | {"share_of_pixels_that_differ": round(float((differences.max(-1) > 1).mean()), 5)}


def at_once(warmed: Warm, runs: int) -> dict[str, Any]:
    """Work that portrait does in turn, and the same done at once: seconds, and processor seconds where they are told."""
    from portrait.faces.alignment import align_face
    from portrait.images import resized

    analyzer: Any = warmed.loop.analyzer
    dlib: Any = warmed.loop.judges.recognizers[0]
    crop = align_face(warmed.framed.image, warmed.framed.face.kps)
    crops, chips = [crop] * SEVERAL, [resized(crop, 150, 150)] * SEVERAL
    embed = dlib._network.compute_face_descriptor
    work: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        f"embed {SEVERAL} faces by ArcFace": (
            lambda: [analyzer.embed_crops([crop]) for crop in crops],
            lambda: analyzer.embed_crops(crops),
        ),
        f"embed {SEVERAL} faces by dlib": (lambda: [embed(chip) for chip in chips], lambda: embed(chips)),
        f"draw and judge {SEVERAL} pictures": (
            lambda: [warmed.judge(warmed.draw([seed])[0]) for seed in range(SEVERAL)],
            lambda: _judge_beside(warmed),
        ),
    }
    results: dict[str, Any] = {
        name: {"in turn": asdict(timed(in_turn, runs)), "at once": asdict(timed(together, runs))}
        for name, (in_turn, together) in work.items()
    }
    loads: dict[str, list[Any]] = {"in turn": [], "at once": []}
    for _ in range(1 + runs):
        for way, processes in loads.items():
            processes.append(_load_in_a_process(warmed, way))
    return results | {
        "load judges and networks": {
            way: {name: round(statistics.median(run[name] for run in measured[1:]), 3) for name in measured[0]}
            for way, measured in loads.items()
        }
    }


def _judge_beside(warmed: Warm) -> None:
    """Judge each picture in a thread, while the next one is drawn."""
    with ThreadPoolExecutor(1) as judge:
        judged = [judge.submit(warmed.judge, warmed.draw([seed])[0]) for seed in range(SEVERAL)]
    for future in judged:
        future.result()


def load(threads: int, dtype: str, *, beside: bool) -> dict[str, float]:
    """Import all libraries and load all models; the judges' files before the networks, or in a thread beside them."""
    begun = time.perf_counter()
    import cv2  # noqa: F401
    import dlib  # noqa: F401
    import onnxruntime  # noqa: F401

    from portrait.faces.load import load_face_tools
    from portrait.faces.without_skimage import without_skimage
    from portrait.recipes.load import load_recipe

    with without_skimage():
        import insightface.app  # noqa: F401
    with ThreadPoolExecutor(1) as judges:
        loading = judges.submit(load_face_tools, commercial=False, threads=threads)
        if not beside:
            loading.result()
        from portrait.generate.load import load_generator
        from portrait.recipes.locate import resolve_files

        load_generator(resolve_files(load_recipe("mini")), threads=threads, dtype=dtype)
        loading.result()
    return {"median": time.perf_counter() - begun, "processor": time.process_time()}


def _load_in_a_process(warmed: Warm, way: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", f"load {way}", "--threads", str(warmed.threads)]
    process = run_measured([*command, "--dtype", warmed.generator.dtype])
    if process.code:
        raise SystemExit(f"the models did not load (exit code {process.code})")
    seconds: dict[str, float] = json.loads(process.output)
    return seconds


def batches(warmed: Warm, runs: int) -> dict[str, Any]:
    """Seconds per picture and peak megabytes as the batch grows; megabytes in use before and after 30 pictures."""
    results: dict[str, Any] = {}
    for size in (1, 2, 4, 8):
        took = timed(lambda size=size: warmed.draw(range(size)), runs)  # type: ignore[misc]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        results[str(size)] = {
            "seconds_a_picture": round(took.least / size, 3),
            "processor_seconds_a_picture": round(took.processor / size, 3),
            "megabytes": peak,
        }
    before = _resident()
    for seed in range(30):
        warmed.draw([seed])
    return results | {"megabytes_before_30_pictures": before, "megabytes_after_30_pictures": _resident()}


def _resident() -> int:
    """Megabytes that this process uses now; 0 where the system does not report it."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20
    except OSError:
        return 0


@dataclass(frozen=True, slots=True)
class Tried:
    """The cost of a method for one portrait, in wall-clock and processor seconds, and its style on the face (0 if rejected)."""

    seconds: float
    processor: float
    style: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A photo in a style: single shots with successive seeds, the first one also by diffusers, and portrait's loop."""

    shots: Sequence[Tried]
    by_diffusers: Tried
    loop: Tried


def accepted(photos: Sequence[Path], styles: Sequence[str], threads: int, dtype: str) -> dict[str, Any]:
    """Seconds per accepted portrait of each method, with the same gate and the same seeds."""
    from portrait.errors import FaceError
    from portrait.generate.diffusion import DiffusionGenerator
    from portrait.images import read_photo
    from portrait.loop.load import load_loop
    from portrait.settings import Settings

    loop = load_loop(Settings(threads=threads, dtype=dtype))
    by_diffusers = DiffusionGenerator(loop.recipe, threads=threads, dtype="float32")

    def tried(subject: Any, style: str, seed: int, attempts: int) -> Tried:
        settings = Settings(style=(style,), max_attempts=attempts, seed=seed)
        spent = time.process_time()
        record = loop.stylize(subject, style, settings).record
        drawn = record.attempts[record.chosen].style_on_face if record.accepted else 0.0
        return Tried(record.seconds, time.process_time() - spent, drawn)

    cells: list[Cell] = []
    for photo in photos:
        try:
            (subject,) = loop.subjects(read_photo(photo), "largest")
        except FaceError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        tried(subject, styles[0], 1, 1)  # the first picture includes what is prepared once
        for style in styles:
            shots = [tried(subject, style, seed, 1) for seed in range(1, 1 + ATTEMPTS)]
            with mock.patch.object(loop, "generator", by_diffusers):
                shot = tried(subject, style, 1, 1)
            cells.append(Cell(shots=shots, by_diffusers=shot, loop=tried(subject, style, 1, ATTEMPTS)))
    return {"portraits": len(cells), "attempts_at_most": ATTEMPTS} | per_accepted(cells)


def per_accepted(cells: Sequence[Cell]) -> dict[str, Any]:
    """The cost of each method per accepted portrait."""
    ways: dict[str, list[Tried]] = {
        "one shot": [cell.shots[0] for cell in cells],
        "one shot by diffusers": [cell.by_diffusers for cell in cells],
        f"best of {ATTEMPTS}": [_together(cell.shots) for cell in cells],
        "naive retry": [_together(_until_accepted(cell.shots)) for cell in cells],
        "loop": [cell.loop for cell in cells],
    }
    return {name: _summary(results) for name, results in ways.items()}


def _until_accepted(shots: Sequence[Tried]) -> Sequence[Tried]:
    """The shots up to the first accepted one; all of them if none was."""
    first = next((i for i, shot in enumerate(shots) if shot.style > 0), len(shots) - 1)
    return shots[: first + 1]


def _together(shots: Sequence[Tried]) -> Tried:
    """The cost of all of them, with the most style of an accepted one."""
    return Tried(sum(s.seconds for s in shots), sum(s.processor for s in shots), max(s.style for s in shots))


def _summary(results: Sequence[Tried]) -> dict[str, float | None]:
    styles = [result.style for result in results if result.style > 0]
    seconds, processor = sum(result.seconds for result in results), sum(result.processor for result in results)
    return {
        "accepted": round(len(styles) / max(len(results), 1), 3),
        "seconds_per_accepted": round(seconds / len(styles), 2) if styles else None,
        "processor_seconds_per_accepted": round(processor / len(styles), 2) if styles else None,
        "style_of_accepted": round(statistics.mean(styles), 3) if styles else None,
    }


def campaign(photos: Sequence[Path], threads: int, dtype: str, jobs: int) -> dict[str, Any]:
    """How a campaign in all styles, with one attempt per picture, spends its seconds; `rest` is everything else."""
    from portrait.campaign.engines import LocalEngine
    from portrait.campaign.people import Person
    from portrait.campaign.plan import Plan
    from portrait.campaign.run import run_campaign
    from portrait.generate.families.mini.generator import MiniGenerator
    from portrait.loop.attempt_loop import AttemptLoop
    from portrait.loop.load import load_loop
    from portrait.loop.scoring import Judges
    from portrait.recipes.load import load_recipe
    from portrait.settings import Settings

    people = tuple(Person(name=str(n), photos=(photo,), folder=str(n)) for n, photo in enumerate(photos))
    styles = tuple(load_recipe("mini").styles)
    plan = Plan(
        name="latency",
        people=people,
        recipes=("mini",),
        styles=styles,
        variants=ceil(jobs / len(people) / len(styles)),
        settings=Settings(threads=threads, dtype=dtype, max_attempts=1),
    )
    spent = dict.fromkeys(("loading", "faces", "drawing", "judging"), 0.0)
    megabytes: list[int] = []

    def counted(work: Callable[..., Any], name: str) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                spent[name] += time.perf_counter() - begun
                megabytes.append(_resident())

        return counting

    with tempfile.TemporaryDirectory() as folder, ExitStack() as patches:
        for owner, method, name in (
            (AttemptLoop, "subjects", "faces"),
            (MiniGenerator, "prepare", "drawing"),
            (MiniGenerator, "generate", "drawing"),
            (Judges, "score_picture", "judging"),
        ):
            patches.enter_context(mock.patch.object(owner, method, counted(getattr(owner, method), name)))
        begun = time.perf_counter()
        load = counted(load_loop, "loading")
        counts = run_campaign(plan, Path(folder) / "run", lambda threads: LocalEngine(load), limit=jobs)
        seconds = time.perf_counter() - begun
    rest, running = seconds - sum(spent.values()), seconds - spent["loading"]
    rounded = {name: round(value, 2) for name, value in (spent | {"rest": rest}).items()}
    return {"people": len(people), "jobs": counts.done, "seconds": round(seconds, 2), **rounded} | {
        "share_of_rest": round(rest / running, 4),
        "megabytes_after_a_tenth": megabytes[len(megabytes) // 10],
        "megabytes_at_the_end": megabytes[-1],
    }


def main() -> None:
    """Measure the requested parts, and print or write them."""
    args = _arguments()
    if args.child.startswith("load"):
        print(json.dumps(load(args.threads, args.dtype, beside=args.child.endswith("at once"))))
        return
    if args.child:
        print(json.dumps(_in_this_process(args, args.child)))
        return
    results: dict[str, Any] = _machine() | {"threads": args.threads, "style": args.styles[0], "runs": [_run(args)]}
    shell = (args.photos[0], args.styles[0], args.threads, args.dtype, args.runs)
    for count in args.busy:
        with busy(count):
            beside: dict[str, Any] = {}
            if "cold" in args.parts:
                beside["cold"] = cold(*shell)
            if "warm" in args.parts:
                beside["warm"] = _in_a_process("warm")
        if beside:
            results[f"beside {count} busy processes" if count else "quiet"] = beside
            print(json.dumps({count: beside}), file=sys.stderr, flush=True)
    if "torch" in args.parts:
        rows = cold_in_turn(args.photos[0], args.styles[0], args.threads, ("auto", "bfloat16"), args.runs)
        results["torch"] = {"onnxruntime": rows["auto"], "torch": rows["bfloat16"]}
    results |= {part: _in_a_process(part) for part in args.parts if part not in ("cold", "warm", "torch")}
    if args.output is None:
        print(json.dumps(results, indent=1))
    else:
        _write(args.output, results, args.dtype)


def _write(file: Path, results: dict[str, Any], dtype: str) -> None:
    """Write the result with its weights and runtime, joined with the parts that the file has already."""
    from held_out_people import RUNTIME, weights_today

    from portrait.files import write_json

    before = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    measured_with = {"runtime": "torch" if dtype == "bfloat16" else RUNTIME, "weights": weights_today()}
    write_json(file, joined(before, results | measured_with))


def joined(before: dict[str, Any], results: dict[str, Any]) -> dict[str, Any]:
    """Merge new parts into an earlier result, if that is of the same weights, runtime and machine."""
    same = ("weights", "runtime", "processor", "cores", "threads", "style")
    if any(before.get(name) != results[name] for name in same):
        return results
    both = before | results | {"runs": before["runs"] + results["runs"]}
    for name in before.keys() & results.keys():
        if name.startswith(("quiet", "beside")):
            both[name] = before[name] | results[name]
    return both


def _in_a_process(part: str) -> dict[str, Any]:
    """A part in its own process, with fresh threads, and without what other parts have loaded."""
    command = [sys.executable, *sys.argv, "--child", part]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, Any] = json.loads(answer.stdout)
    return measured


def _in_this_process(args: argparse.Namespace, part: str) -> dict[str, Any]:
    if part == "accepted":
        return accepted(args.people, args.styles, args.threads, args.dtype)
    if part == "campaign":
        return campaign(args.people, args.threads, args.dtype, args.jobs)
    measures = {"warm": warm, "diffusers": against_diffusers, "at-once": at_once, "batches": batches}
    return measures[part](Warm(args.photos[0], args.styles[0], args.threads, args.dtype), args.runs)


def _machine() -> dict[str, Any]:
    from portrait.generate.precision import processor

    return {"processor": processor(), "cores": os.cpu_count(), "system": platform.system()}


def _run(args: argparse.Namespace) -> dict[str, Any]:
    """The parts that were measured together, and how busy the machine was before."""
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {"parts": args.parts, "load_before": load}


def _arguments() -> argparse.Namespace:
    from portrait.paths import cpu_threads

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--busy", default="0,1,2", help="numbers of busy processes to measure beside (default: 0,1,2)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each measurement (default: 5)")
    parser.add_argument("--threads", type=int, default=cpu_threads(), help="processor threads (default: all cores)")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument(
        "--photos",
        type=Path,
        help="a photo, or a folder that is searched recursively (default: the demo photo)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FACES",
        help="folder of the CC0 portraits; the held-out people are used for accepted and campaign",
    )
    parser.add_argument("--people", type=int, default=11, help="number of held-out people (default: 11)")
    parser.add_argument("--jobs", type=int, default=200, help="jobs of the campaign (default: 200)")
    parser.add_argument(
        "--styles", default="oil", help="all are used for accepted, the first one for the other parts (default: oil)"
    )
    parser.add_argument("-o", "--output", type=Path, help="a JSON file (default: print to the terminal)")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.parts, args.styles = args.parts.split(","), args.styles.split(",")
    args.busy = [int(count) for count in args.busy.split(",")]
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"{', '.join(sorted(unknown))} is none of: {', '.join(PARTS)}")
    if args.child.startswith("load"):  # it must not have imported anything yet
        return args
    args.photos = _photos(args.photos)
    args.people = args.photos if args.data is None else _held_out(args.data, args.people)
    return args


def demo_photo() -> Path:
    """The photo of `portrait demo`."""
    import skimage.data

    return Path(skimage.data.__file__).parent / "astronaut.png"


def _photos(given: Path | None) -> list[Path]:
    """A photo, all photos below a folder, or the demo photo."""
    if given is None:
        return [demo_photo()]
    from portrait.errors import SettingsError
    from portrait.images import photos_below

    if given.is_file():
        return [given]
    try:
        return photos_below(given)[0]
    except SettingsError as error:
        raise SystemExit(str(error)) from None


def _held_out(data: Path, count: int) -> list[Path]:
    from held_out_people import held_out, spread

    return spread(held_out(data), count)


if __name__ == "__main__":
    main()
