"""What goes wrong with photo-to-photo thresholds: the same portraits judged by them and by calibrated ones.

    python eval/thresholds.py --data FACES      # writes eval/thresholds.json

Held-out people, each stylized once per style at balance 0.5. Per style and judge: the share of own portraits
accepted (TAR) and of other people's accepted (FAR), with the threshold that photos give at a FAR of 0.001
(`portrait compare` uses it for photos), and with the calibrated one at the same rate. Wilson intervals of
the TAR. The calibrated thresholds were measured on the same people, the photo thresholds on all of them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from people import data_argument, held_out, subjects

from portrait.generate.framing import frame_portrait
from portrait.images import write_json
from portrait.intervals import wilson
from portrait.judge.thresholds import photo_thresholds, thresholds_for
from portrait.stylizer import Stylizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--balance", type=float, default=0.5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "thresholds.json")
    args = parser.parse_args()
    stylizer = Stylizer.from_recipe("mini")
    people = subjects(stylizer, held_out(args.data))
    photo = photo_thresholds()
    table: dict[str, dict[str, dict[str, dict[str, object]]]] = {}
    for style in stylizer.recipe.styles:
        knobs = stylizer.dialled(style, args.balance)
        vectors: dict[str, list[np.ndarray]] = {}
        for person in people:
            framed = frame_portrait(person.photo.pixels, person.face, "bust", stylizer.recipe.resolution)
            picture = stylizer.draw(framed, person.identity, style, knobs, 1)
            for judge, vector in stylizer.look(picture, framed.face)[1].items():
                vectors.setdefault(judge, []).append(vector)
        calibrated = thresholds_for("mini", style, photo["far"]).identity
        for judge, made in vectors.items():
            scores = np.stack([p.identity.embeddings[judge] for p in people]) @ np.stack(made).T
            own = np.eye(len(people)) > 0
            for kind, value in (("photo", photo["recognisers"][judge]["threshold"]), ("calibrated", calibrated[judge])):
                accepted = int((scores[own] >= value).sum())
                row = {
                    "threshold": value,
                    "tar": round(accepted / len(people), 4),
                    "tar_interval": [round(v, 4) for v in wilson(accepted, len(people))],
                    "far": round(float((scores[~own] >= value).mean()), 5),
                }
                table.setdefault(style, {}).setdefault(judge, {})[kind] = row
                print(style, judge, kind, json.dumps(row), flush=True)
    result = {"people": len(people), "impostor_pairs": len(people) * (len(people) - 1), "balance": args.balance}
    print(write_json(args.output, result | {"asked_far": photo["far"], "styles": table}))


if __name__ == "__main__":
    main()
