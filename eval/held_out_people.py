"""The held-out people, their photos as subjects, limits that exclude each of them, and how one picture is judged.

python eval/held_out_people.py --data FACES     # measures the limits without each person, once for all scripts
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import os
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from portrait.calibrate import degrade, gate, sample, statistics
from portrait.calibrate import thresholds as calibration
from portrait.calibrate.sample import Sample, SampleOptions, StylePictures, measure_sample
from portrait.calibrate.statistics import MIN_EXPECTED_ACCEPTS
from portrait.calibrate.thresholds import thresholds_from
from portrait.files import write_bytes, write_json
from portrait.generate.framing import Framed
from portrait.hub.files import mini_folder
from portrait.images import read_photo
from portrait.judge import checks, thresholds
from portrait.judge.thresholds import Thresholds, calibration_table
from portrait.judge.verdict import decide
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.load import load_loop
from portrait.loop.types import Subject
from portrait.records import Embedding, Knobs, RgbImage
from portrait.settings import Settings

ROOT = Path(__file__).parents[1]
HELD_OUT = Path(os.environ.get("PORTRAIT_HELD_OUT", ROOT / "weights" / "training" / "held_out.txt"))
"""The list of people; the environment variable names a shorter one for a trial."""
WORK = ROOT / "work"
FACES = WORK / "faces"
JUDGES = ("arcface", "dlib")
"""The judges of a fresh installation, by whose gate the scripts judge."""
Item = TypeVar("Item")


def held_out(data: Path) -> list[Path]:
    """The people excluded from training: 36 of the 180, 18 women and 18 men."""
    names = [line for line in HELD_OUT.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    missing = [name for name in names if not (data / name).is_file()]
    if missing:
        raise SystemExit(
            f"{data} lacks {missing[0]} and {len(missing) - 1} more; python weights/training/faces.py --out {data} fetches them"
        )
    return [data / name for name in names]


def everyone(data: Path) -> list[Path]:
    return sorted(data.glob("*/*.jpg"))


def name_of(path: Path) -> str:
    """A person's name in lists and tables, such as female/5.jpg."""
    return f"{path.parent.name}/{path.name}"


def file_of(person: str, suffix: str) -> str:
    """The name of the file about a person, named as by `name_of`, in a folder of such files."""
    return person.replace("/", "-").replace(".jpg", suffix)


def subjects(loop: AttemptLoop, paths: list[Path]) -> list[Subject]:
    return [loop.subjects(read_photo(path), "largest")[0] for path in paths]


def spread(paths: list[Path], count: int) -> list[Path]:
    """`count` of the paths, spread evenly over the list: nobody is chosen by a result."""
    picks = np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)
    return [paths[i] for i in picks]


def limits_of_each_judge(file: Path | None, style: str, far: float) -> dict[str, float]:
    """Each judge's own limit at the rate, apart from the joint gate; None: from the shipped table."""
    table = calibration_table("mini", file)
    assert table is not None  # either it was named or it is part of the package
    return {judge: entry.thresholds[far] for judge, entry in table.styles[style].recognizers.items()}


def judged(
    loop: AttemptLoop, framed: Framed, subject: Subject, picture: RgbImage, limits: Thresholds
) -> tuple[dict[str, float | bool | list[str]], dict[str, Embedding]]:
    """A picture's likeness to the subject by each judge, its style, and the verdict that the loop would give.

    The second value is each judge's embedding of the picture.
    """
    limits = loop.judges.with_drawing(limits)
    score = loop.judges.score_picture(framed, subject.identity, picture, limits)
    measured = score.measurement
    verdict = decide(measured, limits)
    row: dict[str, float | bool | list[str]] = {name: round(v, 4) for name, v in measured.similarity.items()}
    row |= {"style_on_face": round(measured.style_on_face, 4), "face_found": measured.face_found}
    return row | {"accepted": verdict.accepted, "reasons": list(verdict.reasons)}, score.embeddings


def data_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, default=FACES, help="folder with female/*.jpg and male/*.jpg (default: work/faces)"
    )


def progress(items: Collection[Item], unit: str) -> Iterator[Item]:
    """Iterate over the items with a progress bar on a terminal, and a line per item elsewhere."""
    if sys.stderr.isatty():
        yield from tqdm(items, unit=f" {unit}")
        return
    start = time.perf_counter()
    for number, item in enumerate(items, 1):
        yield item
        print(f"{number}/{len(items)} {unit}, {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)


def measured_on(recipe: str = "mini") -> set[str]:
    """Names of the people that the recipe's curves were measured on, who must not be used for verdicts."""
    path = Path(__file__).parents[1] / "portrait" / "recipes" / f"{recipe}.curves.json"
    return set(json.loads(path.read_text("utf-8"))["people"]) if path.is_file() else set()


def for_verdicts(data: Path, recipe: str = "mini") -> list[Path]:
    """The held-out people that the curves were not measured on either; women and men alternate, for any first few of them."""
    curve_people, folders = measured_on(recipe), dict[str, list[Path]]()
    for path in held_out(data):
        if name_of(path) not in curve_people:
            folders.setdefault(path.parent.name, []).append(path)
    return [path for row in zip_longest(*folders.values()) for path in row if path is not None]


# ---- limits that exclude a person


def left_out(loop: AttemptLoop, data: Path) -> dict[str, Path]:
    """Person -> a file of thresholds that exclude that person.

    Each held-out person's limits (likeness, copies, style statistics, burned) are derived from the photos and portraits of
    all others, so nobody is judged by limits that their own pictures helped to set. 35 people with 144 further impostors
    still make 6,230 pairs per style, enough for a false accept rate of 0.001; a fixed half of the 36 would not.
    """
    measured = calibration_sample(loop, data)
    folder = _work(loop, data)
    people = len(measured.people) - 1
    rates = calibrated_rates(people * (people - 1 + len(measured.impostors)))
    files = {person: folder / file_of(person, ".json") for person in measured.people}
    for person, path in files.items():
        if not path.is_file():
            limits = thresholds_from(measured.without(person), rates, intervals=False)
            write_json(path, {"weights": loop.generator.digests, "form": loop.judges.form} | limits)
    return files


def calibration_sample(loop: AttemptLoop, data: Path) -> Sample:
    """What `portrait calibrate` measures on the held-out people, with all others as impostors; shared by the scripts."""
    path = _work(loop, data) / "sample.json"
    if not path.is_file():
        people = held_out(data)
        others = [p for p in everyone(data) if p not in people]
        print("measuring the calibration sample, once", flush=True)
        styles = list(loop.recipe.styles)
        rates = calibrated_rates(len(people) * (len(people) + len(others) - 1))
        options = SampleOptions(styles=styles, rates=rates, impostors=others, journal=journal_of())
        measured = measure_sample(loop, people, options)
        write_bytes(path, json.dumps(asdict(measured), default=np.ndarray.tolist).encode())
    return _sample(json.loads(path.read_text("utf-8")))


def _sample(table: dict[str, Any]) -> Sample:
    """A sample from its JSON."""

    def arrays(value: Any, kind: Any = None) -> Any:
        if isinstance(value, dict):
            return {name: np.array(v, kind) for name, v in value.items()}
        return np.array(value)

    styles = {}
    for style, fields in table["styles"].items():
        typed = {"knobs": Knobs(**fields.pop("knobs")), "scores": arrays(fields.pop("scores"), np.float32)}
        styles[style] = StylePictures(**typed, **{name: arrays(value) for name, value in fields.items()})
    return Sample(**table | {"copies": arrays(table["copies"]), "styles": styles})


def calibrated_rates(pairs: int | None = None) -> list[float]:
    """The false accept rates of the shipped calibration of `mini`; of these, the ones that `pairs` impostor pairs can show."""
    table = calibration_table("mini")
    assert table is not None  # it is part of the package
    rates = next(iter(table.styles.values())).recognizers["arcface"].thresholds
    return [rate for rate in rates if pairs is None or rate * pairs >= MIN_EXPECTED_ACCEPTS]


def weights_today() -> dict[str, str]:
    """File -> SHA-256 of the shipped model, by which results name the weights that they were measured with."""
    manifest = json.loads((mini_folder() / "manifest.json").read_text("utf-8"))
    return {file: entry["sha256"] for file, entry in manifest["files"].items()}


RUNTIME = "onnxruntime"
"""What `mini` draws with on a CPU: `runtime` in results that measure seconds or memory."""


def journal_of() -> Path:
    """The file in which `portrait calibrate --measured` and the scripts share measurements of the held-out people."""
    conditions = json.dumps([weights_today(), HELD_OUT.read_text("utf-8")], sort_keys=True)
    return WORK / f"measured-{hashlib.sha256(conditions.encode()).hexdigest()[:12]}.jsonl"


def _work(loop: AttemptLoop, data: Path) -> Path:
    """The folder below work/ for these photos, weights, form of faces, dial and rates, and this version of the calibration code."""
    photos = {name_of(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in everyone(data)}
    dial = {style: [asdict(loop.knobs_for_balance(style, at)) for at in sample.DIAL] for style in loop.recipe.styles}
    code = [
        inspect.getsource(module) for module in (calibration, sample, statistics, gate, degrade, checks, thresholds)
    ]
    form = loop.judges.form
    conditions = json.dumps([photos, loop.generator.digests, form, dial, calibrated_rates(), code], sort_keys=True)
    return WORK / f"calibration-{hashlib.sha256(conditions.encode()).hexdigest()[:12]}"


def main() -> None:
    """Measure everybody's limits once, before the scripts that need them run in parallel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    args = parser.parse_args()
    loop = load_loop(Settings())
    print(f"limits of {len(left_out(loop, args.data))} people in {_work(loop, args.data)}")


if __name__ == "__main__":
    main()
