"""What other runtimes would gain for `mini`: torch, torch.compile, and onnxruntime without torch, each from a cold start.

    python eval/runtimes.py        # writes eval/runtimes.json; on an otherwise idle machine
    python eval/runtimes.py --rounds 1 --without-compile -o work/trial.json

Processes draw the same picture, in turn: each imports what it needs, checks and loads the weights, encodes photo and prompts,
denoises, decodes and draws the marks, and then draws it again several times. Nothing is judged. In torch they use portrait's
own generator. For onnxruntime `eval/export_onnx.py` exports the networks first; that process never imports torch. It is given
what a complete program would have to make without torch as well: tokens, noise and the scheduler's coefficients.

torch.compile compiles the UNet and the decoder, for which it needs a C++ compiler. Its second process finds in torch's cache
what the first one compiled.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from processes import run_measured

from portrait.records import RgbImage

IN_TURN = ("torch float32", "torch bfloat16", "onnxruntime float32")
COMPILED = tuple(f"torch.compile {dtype}{again}" for dtype in ("float32", "bfloat16") for again in ("", ", again"))
_FAR = 8
"""Levels of 255: a pixel looks different if a channel differs by more."""


# --- in a process: draw with one runtime ---


class Drawer(Protocol):
    """A runtime with `mini` loaded; `imports` and `loading` are the seconds that this took.

    `rasterizer` is the module whose `draw` draws the marks.
    """

    imports: float
    loading: float
    rasterizer: ModuleType

    def prepare(self) -> None:
        """Encode photo and prompts."""
        ...

    def draw(self) -> RgbImage:
        """Draw the picture."""
        ...


class Stopwatch:
    """Measures laps; it starts when it is made."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap."""
        before, self._since = self._since, time.perf_counter()
        return self._since - before


class InTorch:
    """Portrait's own generator."""

    def __init__(self, folder: Path, threads: int, dtype: str, *, compiled: bool) -> None:
        watch = Stopwatch()
        from portrait.generate.diffusion import DiffusionGenerator
        from portrait.generate.families.mini.family import Mini  # noqa: F401  (otherwise loading would import it)
        from portrait.generate.families.mini.marks import autoencoder
        from portrait.recipes.load import load_recipe
        from portrait.recipes.locate import resolve_files
        from portrait.records import Knobs

        self.imports = watch.lap()
        self.rasterizer: ModuleType = autoencoder
        recipe = resolve_files(load_recipe("mini"))
        self._generator: Any = DiffusionGenerator(recipe, threads=threads, dtype=dtype)
        if compiled:
            import torch

            pipe = self._generator.pipe
            pipe.unet.forward = torch.compile(pipe.unet.forward)
            pipe.vae.decode_marks = torch.compile(pipe.vae.decode_marks)
        self.loading = watch.lap()
        self._given, self._about = _inputs(folder)
        self._knobs = Knobs(**self._about["knobs"])

    def prepare(self) -> None:
        """Encode photo and prompts."""
        given = self._given
        self._conditions = self._generator.prepare(given["image"], given["embedding"], self._about["prompt"])

    def draw(self) -> RgbImage:
        """Draw the picture."""
        picture: RgbImage = self._generator.generate(self._conditions, self._knobs, [self._about["seed"]])[0]
        return picture


class InOnnxruntime:
    """The exported networks."""

    def __init__(self, folder: Path, threads: int) -> None:
        watch = Stopwatch()
        import onnxruntime

        from portrait.faces.onnx_session import session_options
        from portrait.generate.families.mini.marks import layout, rasterize
        from portrait.hub.files import sha256_of

        self.imports = watch.lap()
        self.rasterizer: ModuleType = rasterize
        self._layout: Any = layout
        self._sessions = {}
        for file in sorted(folder.glob("*.onnx")):
            sha256_of(file)
            options = session_options(threads)
            self._sessions[file.stem] = onnxruntime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
        self.loading = watch.lap()
        self._given, self._about = _inputs(folder)

    def _run(self, network: str, **inputs: Any) -> list[Any]:
        fed = {name: np.asarray(value) for name, value in inputs.items()}
        results: list[Any] = self._sessions[network].run(None, fed)
        return results

    def prepare(self) -> None:
        """Encode photo and prompts."""
        given = self._given
        (latents,) = self._run("photo", photo=given["photo"])
        signal = np.float32(self._about["signal"])
        self._source = signal * latents + np.sqrt(1 - signal**2) * given["photo_noise"]
        self._texts = np.concatenate([self._run("text", tokens=tokens[None])[0] for tokens in given["tokens"]])

    def draw(self) -> RgbImage:
        """Draw the picture: DDIM for networks that predict v, from pure noise, with classifier-free guidance."""
        given, knobs = self._given, self._about["knobs"]
        level, scale, guidance = (
            np.float32(knobs[name]) for name in ("controlnet_conditioning_scale", "ip_adapter_scale", "guidance_scale")
        )
        latents = given["noise"]
        for timestep, before, after in given["schedule"]:
            without, conditioned = self._run(
                "unet",
                sample=np.repeat(latents, 2, 0),
                source=self._source,
                level=level,
                timestep=timestep,
                texts=self._texts,
                identity=given["identity"],
                scale=scale,
            )[0]
            v = (without + guidance * (conditioned - without))[None]
            clean = np.sqrt(before) * latents - np.sqrt(1 - before) * v
            noise = np.sqrt(before) * v + np.sqrt(1 - before) * latents
            latents = np.sqrt(after) * clean + np.sqrt(1 - after) * noise
        (maps,), (values,) = self._run("decoder", latents=latents, photo=given["photo"], level=level)
        layout = self._layout
        marks = layout.Marks(maps=layout.with_calm_colors(layout.without_haze(maps)), values=values)
        picture = self.rasterizer.draw(marks, self._about["size"], self._about["seed"])
        return RgbImage(np.rint(picture * 255).astype(np.uint8))


def _inputs(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What `export_onnx.py` wrote beside the networks."""
    return dict(np.load(folder / "inputs.npz")), json.loads((folder / "inputs.json").read_text("utf-8"))


def drawer(runtime: str, folder: Path, threads: int) -> Drawer:
    """Load `mini` for a runtime."""
    if runtime.startswith("onnxruntime"):
        return InOnnxruntime(folder, threads)
    dtype = "bfloat16" if "bfloat16" in runtime else "float32"
    return InTorch(folder, threads, dtype, compiled=runtime in COMPILED)


def draw(runtime: str, folder: Path, threads: int, pictures: int) -> dict[str, Any]:
    """Draw with a runtime, and write its first picture as RUNTIME.npy.

    Returns:
        Seconds: `imports`; `loading`; `first`, the first picture with photo and prompts; of each further one `later`,
        `later_processor` (processor seconds) and `marks`, the part that draws marks.
    """
    used = drawer(runtime, folder, threads)
    marks: list[float] = []
    rasterize = used.rasterizer.draw

    def timed(*args: Any) -> Any:
        watch = Stopwatch()
        canvas = rasterize(*args)
        marks.append(watch.lap())
        return canvas

    used.rasterizer.draw = timed  # type: ignore[attr-defined]
    watch = Stopwatch()
    used.prepare()
    first_picture = used.draw()
    first = watch.lap()
    np.save(folder / f"{runtime}.npy", first_picture)
    later, processor = [], []
    for _ in range(pictures):
        watch.lap()
        spent = time.process_time()
        used.draw()
        later.append(watch.lap())
        processor.append(time.process_time() - spent)
    if runtime.startswith("onnxruntime") and "torch" in sys.modules:
        raise SystemExit("torch was imported, but this process should do without it")
    seconds = {"imports": used.imports, "loading": used.loading, "first": first}
    return seconds | {"later": later, "later_processor": processor, "marks": marks[1:]}


# --- measure the processes ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Medians over the processes of a runtime, in seconds.

    `cold` is from the start of a process to its first picture, `cold_processor` its processor seconds; for the others see
    `draw`. `megabytes` is the peak memory. `mean_difference`, in levels of 255, and `differing`, the share of pixels that look
    different, compare the picture with that of torch in float32. `same_with_one_thread` says whether one thread draws the
    same pixels; None if it was not asked to.
    """

    cold: float
    cold_processor: float
    imports: float
    loading: float
    first: float
    later: float
    later_processor: float
    marks: float
    megabytes: int
    mean_difference: float
    differing: float
    same_with_one_thread: bool | None = None


def measured(runtime: str, folder: Path, threads: int, pictures: int, **environment: str) -> dict[str, Any]:
    """Draw in a process of its own; what `draw` returns, and what the process spent until its first picture."""
    command = [sys.executable, "-W", "ignore", __file__, "--child", runtime, "--folder", str(folder)]
    process = run_measured([*command, "--threads", str(threads), "--pictures", str(pictures)], environment)
    if process.code:
        raise SystemExit(f"{runtime}: exit code {process.code}")
    parts: dict[str, Any] = json.loads(process.output.splitlines()[-1])
    return parts | {
        "cold": process.seconds - sum(parts["later"]),
        "cold_processor": process.processor - sum(parts["later_processor"]),
        "megabytes": process.megabytes,
    }


def row(runs: Sequence[dict[str, Any]], picture: np.ndarray, reference: np.ndarray) -> Row:
    """Sum up the processes of a runtime, given its picture and the one to compare it with, (S, S, 3) uint8."""
    differences = np.abs(picture.astype(int) - reference.astype(int))
    values: dict[str, Any] = {}
    for name in runs[0]:
        seconds = np.concatenate([np.atleast_1d(run[name]) for run in runs])
        values[name] = round(float(statistics.median(seconds.tolist())), 3)
    values["megabytes"] = round(values["megabytes"])
    return Row(
        **values,
        mean_difference=round(float(differences.mean()), 3),
        differing=round(float((differences.max(-1) > _FAR).mean()), 4),
    )


def measure(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure all runtimes on networks that are exported to `folder`."""
    exporting = run_measured(
        [sys.executable, "-W", "ignore", str(Path(__file__).with_name("export_onnx.py")), str(folder)]
    )
    if exporting.code:
        raise SystemExit(f"export_onnx.py: exit code {exporting.code}")
    runs: dict[str, list[dict[str, Any]]] = {}
    for number in range(args.rounds + 1):
        for runtime in IN_TURN:
            run = measured(runtime, folder, args.threads, args.pictures)
            if number:  # the first round reads the files from disk
                runs.setdefault(runtime, []).append(run)
    if not args.without_compile:
        for runtime in COMPILED:
            cache = {"TORCHINDUCTOR_CACHE_DIR": str(folder / "compiled")}
            runs[runtime] = [measured(runtime, folder, args.threads, args.pictures, **cache)]
    pictures = {runtime: np.load(folder / f"{runtime}.npy") for runtime in runs}
    rows = {name: asdict(row(some, pictures[name], pictures[IN_TURN[0]])) for name, some in runs.items()}
    for runtime in IN_TURN:
        measured(runtime, folder, threads=1, pictures=0)
        rows[runtime]["same_with_one_thread"] = bool(
            np.array_equal(np.load(folder / f"{runtime}.npy"), pictures[runtime])
        )
    size = sum(file.stat().st_size for file in folder.glob("*.onnx"))
    return {"runtimes": rows, "onnx_megabytes": round(size / 1e6)}


def _about(args: argparse.Namespace) -> dict[str, Any]:
    """The machine, the versions, and how busy it was."""
    from importlib.metadata import version

    from portrait.generate.precision import processor

    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "threads": args.threads,
        "rounds": args.rounds,
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {name: version(name) for name in ("torch", "onnxruntime")},
    }


def main() -> None:
    """Measure all runtimes, and write the result."""
    args = _arguments()
    if args.child:
        print(json.dumps(draw(args.child, args.folder, args.threads, args.pictures)))
        return
    about = _about(args)
    with tempfile.TemporaryDirectory() as folder:
        result = about | measure(Path(folder), args)
    from portrait.files import write_json

    print(write_json(args.output, result))


def _arguments() -> argparse.Namespace:
    from portrait.paths import cpu_threads

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="processes of each runtime (default: 5)")
    parser.add_argument("--pictures", type=int, default=8, help="further pictures of each process (default: 8)")
    parser.add_argument("--threads", type=int, default=cpu_threads(), help="processor threads (default: all cores)")
    parser.add_argument("--without-compile", action="store_true", help="leave out torch.compile, which takes minutes")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".json"), metavar="FILE")
    parser.add_argument("--child", choices=(*IN_TURN, *COMPILED), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
