"""How long a calibration takes: a few people are measured as `portrait calibrate` does, and the time is extrapolated.

    python eval/calibration_cost.py --data FACES [--people 4] [--styles oil,comic] [--of 300] [--cores 2]

Processor time is measured, which other programs on the machine affect little. Each person is drawn twice per style and
compared with everybody. For the curves, which `portrait calibrate` measures first, see `eval/refresh.py --list`.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from held_out_people import data_argument, held_out, spread

from portrait.calibrate.gate import gates_table
from portrait.calibrate.sample import SampleOptions, measure_sample
from portrait.loop.load import load_loop
from portrait.settings import Settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--people", type=int, default=4, help="people to measure (default: 4)")
    parser.add_argument("--styles", default="oil,comic", help="styles to measure (default: oil,comic)")
    parser.add_argument("--of", type=int, default=300, metavar="N", help="people to extrapolate to (default: 300)")
    parser.add_argument("--cores", type=int, default=2, help="cores to extrapolate to (default: 2)")
    args = parser.parse_args()
    loop = load_loop(Settings(threads=1), every_judge=True)
    people, styles = spread(held_out(args.data), args.people), args.styles.split(",")
    start = time.process_time()
    measure_sample(loop, people, SampleOptions(styles=styles, rates=[0.5]))
    each = (time.process_time() - start) / (2 * len(people) * len(styles))
    judges = loop.judges.names
    rng = np.random.default_rng(0)
    start = time.process_time()
    scores = {judge: rng.normal(size=(args.of, args.of)) + 4 * np.eye(args.of) for judge in judges}
    gates_table(scores, [0.05, 0.02, 0.01], intervals=True)
    limits = time.process_time() - start
    count = len(loop.recipe.styles)
    total = count * (2 * args.of * each + limits)
    print(
        f"{each:.2f} s of processor time per picture, judged by {', '.join(judges)}; {limits:.0f} s per style for the limits"
    )
    print(
        f"{args.of} people in {count} styles: {total / 3600:.1f} h of one core, {total / 3600 / args.cores:.1f} h of {args.cores}"
    )


if __name__ == "__main__":
    main()
