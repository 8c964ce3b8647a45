"""Photo-to-photo thresholds for `portrait compare`, from all pairs of different people.

    python eval/photo_thresholds.py --data FACES     # writes portrait/recipes/photo.thresholds.json

There is one photo a person in the data, so false rejects cannot be measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from held_out_people import data_argument, everyone, subjects

from portrait.images import write_json
from portrait.judge.thresholds import round_up, threshold_at_far
from portrait.loop.load import load_loop

FAR = 0.001
OUTPUT = Path(__file__).parents[1] / "portrait" / "recipes" / "photo.thresholds.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    stylizer = load_loop("mini")
    people = subjects(stylizer, everyone(args.data))
    table = {}
    for name in stylizer.judges.names:
        vectors = np.stack([s.identity.embeddings[name] for s in people])
        scores = (vectors @ vectors.T)[np.triu_indices(len(people), 1)]
        value = round_up(threshold_at_far(scores, FAR))
        table[name] = {"threshold": value, "impostor_pairs": len(scores), "people": len(people)}
        print(name, table[name])
    note = "false rejects were not measured: one photo a person"
    print(write_json(args.output, {"far": FAR, "recognisers": table, "note": note}))


if __name__ == "__main__":
    main()
