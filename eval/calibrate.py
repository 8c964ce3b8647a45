"""Measure `mini`'s curves and thresholds again: `portrait calibrate` with the styles in parallel on all cores.

    python eval/calibrate.py --data FACES [--curve-people 8]

Writes portrait/recipes/mini.curves.json and mini.thresholds.json, but only once everything is measured. The styles are
divided among as many runs of `portrait calibrate` as there are cores; each keeps its curves and measurements in --work, so a
stopped run can be resumed. Then curves and measurements are joined, and a final run, which draws nothing, derives the
thresholds. The measurements stay in work/ for the scripts that judge people by limits without their own pictures.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from held_out_people import HELD_OUT, ROOT, WORK, data_argument, journal_of
from processes import last_line, shares, start

from portrait.calibrate.response import merge_curves
from portrait.files import write_bytes, write_json
from portrait.loop.response import read_curves
from portrait.recipes.load import load_recipe
from portrait.records.curves import CurvesFile


def command(args: argparse.Namespace, styles: Sequence[str], curves: Path, measured: Path, output: Path) -> list[str]:
    """The command line of `portrait calibrate` for some styles."""
    words = [sys.executable, "-m", "portrait", "calibrate", "--subjects", str(args.data), "--only", str(HELD_OUT)]
    words += ["--impostors", str(args.data), "--far", args.far, "--curve-people", str(args.curve_people)]
    words += [word for style in styles for word in ("--style", style)]
    return [*words, "--curves", str(curves), "--measured", str(measured), "-o", str(output)]


def join_measurements(parts: Sequence[Path], whole: Path) -> None:
    """Join several files of measurements of the same people, weights and seed into one.

    Raises:
        SystemExit: people, weights or seed differ.
    """
    files = [part.read_text("utf-8").splitlines() for part in parts]
    if len({lines[0] for lines in files}) != 1:
        raise SystemExit(f"{', '.join(map(str, parts))} are of different people or weights; delete them to start over")
    rows = [files[0][0], *(row for lines in files for row in lines[1:])]
    write_bytes(whole, ("\n".join(rows) + "\n").encode())


def join_curves(parts: Sequence[Path], styles: Sequence[str]) -> CurvesFile:
    """The curves of all styles, in the recipe's order."""
    whole: CurvesFile | None = None
    for part in parts:
        whole = merge_curves(whole, read_curves(part))
    assert whole is not None
    return whole.model_copy(update={"styles": {style: whole.styles[style] for style in styles}})


def wait_for(running: Sequence[tuple[subprocess.Popen[bytes], Path]]) -> None:
    """Wait until all processes have ended, each beside its log.

    Raises:
        SystemExit: one failed; the message has the last line of its log.
    """
    ended = [(process.wait(), log) for process, log in running]
    for code, log in ended:
        if code:
            raise SystemExit(f"portrait calibrate ended with {code}: {last_line(log)} ({log})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument(
        "--curve-people", type=int, default=8, help="people that the curves are measured on (default: 8)"
    )
    parser.add_argument("--far", default="0.05,0.02,0.01,0.001", help="false accept rates (default: %(default)s)")
    parser.add_argument("--styles", default="", help="such as oil,comic (default: all styles of the recipe)")
    parser.add_argument(
        "--work", type=Path, help="where intermediate files are kept (default: a folder for these weights in work/)"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "portrait" / "recipes", help="folder of the two files")
    args = parser.parse_args()
    args.data = args.data.resolve()
    journal = journal_of()
    work: Path = (args.work or WORK / journal.stem.replace("measured", "refresh")).resolve()
    work.mkdir(parents=True, exist_ok=True)
    styles = args.styles.split(",") if args.styles else list(load_recipe("mini").styles)
    cores = shares(min(len(styles), len(shares(1)[0])))
    parts = [work / f"part-{number}" for number in range(len(cores))]
    curves = [part.with_suffix(".curves.json") for part in parts]
    measured = [part.with_suffix(".measured.jsonl") for part in parts]
    running = []
    for number, (part, share) in enumerate(zip(parts, cores, strict=True)):
        output = part.with_suffix(".thresholds.json")
        words = command(args, styles[number :: len(cores)], curves[number], measured[number], output)
        running.append((start(words, share, part.with_suffix(".log"), ROOT), part.with_suffix(".log")))
    wait_for(running)
    whole = work / "mini.curves.json"
    write_json(whole, join_curves(curves, styles).model_dump())
    join_measurements(measured, journal)
    log = work / "whole.log"
    words = command(args, styles, whole, journal, work / "mini.thresholds.json")
    wait_for([(start(words, [core for share in cores for core in share], log, ROOT), log)])
    for name in ("mini.curves.json", "mini.thresholds.json"):
        install(work / name, args.output / name)


def install(source: Path, place: Path) -> None:
    """Copy a file atomically."""
    if source == place.resolve():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}.part")
    shutil.copyfile(source, part)
    part.replace(place)
    print(place)


if __name__ == "__main__":
    main()
