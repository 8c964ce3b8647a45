"""What goes wrong with photo-to-photo thresholds: the same portraits judged by them and by calibrated ones.

    python eval/thresholds.py --data FACES      # writes eval/thresholds.json

Held-out people, each stylized once per style at balance 0.5. Per style and judge: the share of own portraits
accepted (TAR, with Wilson's interval) and of other people's (FAR), with the threshold that photos give at a FAR of
0.001 (`portrait compare` uses it for photos), and with the calibrated one at the same rate. Each person's calibrated
threshold is read off all other people (`people.left_out`); the photo thresholds were measured on everybody.

The last column is the check of the style, which has nothing to do with likeness: of which other styles it would let
most right pictures pass (`calibration.weak_checks`). A model that drew those instead would not be noticed by it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from people import calibrated_rates, calibration_sample, data_argument, left_out

from portrait.calibration import read_off, weak_checks
from portrait.images import write_json
from portrait.intervals import wilson
from portrait.judge.checks import passing_in_words
from portrait.judge.thresholds import photo_thresholds, thresholds_for
from portrait.stylizer import Stylizer


def rates(scores: np.ndarray, limits: np.ndarray) -> dict[str, Any]:
    """Own and other people's portraits accepted; (references, P) likeness, own photos first, and (P,) a limit for each."""
    rows, count = scores.shape
    own = np.arange(rows)[:, None] == np.arange(count)
    passed = scores >= limits
    accepted = int(passed[own].sum())
    low, high = wilson(accepted, count)
    return {
        "threshold": round(float(limits.mean()), 4),
        "tar": round(accepted / count, 4),
        "tar_interval": [round(low, 4), round(high, 4)],
        "far": round(float(passed[~own].mean()), 5),
    }


def markdown(styles: dict[str, Any]) -> str:
    """A line per style and judge, with the style's check at the first of them."""
    lines = ["| style | judge | photo: own, others accepted | calibrated: own, others accepted | style check is weak |"]
    lines.append("|---|---|---|---|---|")
    for style, judges in styles.items():
        weak = judges["not_told_apart"]
        said = f"{passing_in_words(weak)} pass it" if weak else "no"
        for judge in ("arcface", "dlib"):
            cells = [
                f"{row['tar']:.0%}, {row['far']:.2%}" for row in (judges[judge][k] for k in ("photo", "calibrated"))
            ]
            lines.append(f"| {style} | {judge} | " + " | ".join([*cells, said]) + " |")
            said = ""
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "thresholds.json")
    args = parser.parse_args()
    stylizer = Stylizer.from_recipe("mini")
    sample, files, photo = calibration_sample(stylizer, args.data), left_out(stylizer, args.data), photo_thresholds()
    weak = weak_checks(read_off(sample, calibrated_rates(), intervals=False))
    table: dict[str, dict[str, Any]] = {}
    for style, seen in sample.styles.items():
        limits = [thresholds_for("mini", style, photo["far"], files[person]).identity for person in sample.people]
        table[style] = {"not_told_apart": weak.get(style, {})}
        for judge, scores in seen.scores.items():
            bare = np.full(len(limits), photo["recognisers"][judge]["threshold"])
            own = np.array([values[judge] for values in limits])
            table[style][judge] = {"photo": rates(scores, bare), "calibrated": rates(scores, own)}
    print(markdown(table))
    count = len(sample.people)
    pairs = count * (count - 1 + len(sample.impostors))
    result = {"people": count, "impostor_pairs": pairs, "balance": 0.5, "asked_far": photo["far"], "styles": table}
    print(write_json(args.output, result | {"weights": stylizer.generator.digests}))


if __name__ == "__main__":
    main()
