"""Seconds and memory of a portrait at each size of `mini`.

    python eval/speed.py [--pictures 4]     # writes eval/speed.json

Each size is measured in its own process, whose peak resident memory includes Python, libraries, models and judges. `draw` is
the time to draw one picture and `judge` the time to judge it, both the median over pictures of several styles after one to
warm up, without the loading of the models.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from held_out_people import RUNTIME, weights_today
from skimage.data import astronaut

from portrait.files import write_json
from portrait.generate.framing import frame_portrait
from portrait.images import Photo
from portrait.loop.load import load_loop
from portrait.paths import cpu_threads
from portrait.recipes.load import load_recipe
from portrait.records import RgbImage
from portrait.settings import Settings


def measured(size: int, pictures: int) -> dict[str, float]:
    """Measure one size in this process."""
    loop = load_loop(Settings())
    photo = Photo(path=Path("astronaut.png"), pixels=RgbImage(astronaut()), sha256="astronaut")
    (who,) = loop.subjects(photo, "largest")
    framed = frame_portrait(photo.pixels, who.face, "bust", size)
    styles = list(loop.recipe.styles)
    draw, judge = [], []
    for number in range(pictures + 1):
        style = styles[number % len(styles)]
        begun = time.perf_counter()
        picture = loop.draw(framed, who.identity, style, loop.knobs_for_balance(style, 0.5), number)
        drawn = time.perf_counter()
        loop.judges.score_picture(framed, who.identity, picture)
        draw.append(drawn - begun)
        judge.append(time.perf_counter() - drawn)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    times = {"draw": statistics.median(draw[1:]), "judge": statistics.median(judge[1:])}
    return {name: round(value, 2) for name, value in times.items()} | {"peak_mib": round(peak / 2**20)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--size", type=int, help="only this size, in this process: prints its measurements as JSON")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    if args.size:
        print(json.dumps(measured(args.size, args.pictures)))
        return
    recipe = load_recipe("mini")
    sizes = {}
    for size in sorted({recipe.resolution, *recipe.sizes}):
        command = [sys.executable, __file__, "--size", str(size), "--pictures", str(args.pictures)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        sizes[str(size)] = json.loads(answer.splitlines()[-1])
        print(size, sizes[str(size)], flush=True)
    measured_on = {"cores": cpu_threads(), "runtime": RUNTIME, "weights": weights_today()}
    print(write_json(args.output, measured_on | {"sizes": sizes}))


if __name__ == "__main__":
    main()
