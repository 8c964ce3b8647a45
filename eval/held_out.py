"""Results of the shipped model: every held-out person in every style, through the whole loop.

    python eval/held_out.py --data FACES [--attempts 3]     # writes eval/held_out.json, weights/mini/failures.jpg

Per style: how many are accepted at the first attempt and within the budget (both judges at FAR 0.01, style on the face,
nothing burned), with Wilson intervals over people; likeness, style and seconds per accepted portrait. Everybody is judged by
limits that exclude their own pictures (`held_out_people.left_out`). `rows` has each person and style, with the likeness of
the first attempt for `eval/groups.py`, and the lightness of the face in the photo and in the delivered portrait for
`eval/skin.py`. The picture shows the worst results: rejected pictures first, then the smallest margins above the thresholds.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from held_out_people import RUNTIME, data_argument, held_out, left_out, name_of, progress, spread, subjects
from measures import face_lightness

from portrait.files import write_json
from portrait.generate.framing import frame_portrait
from portrait.images import write_picture
from portrait.intervals import wilson_people
from portrait.loop.load import load_loop
from portrait.loop.types import StylizedPortrait
from portrait.paths import cpu_threads
from portrait.provenance.mark import xmp_mark
from portrait.records import RgbImage
from portrait.records.portrait import PortraitRecord
from portrait.report.sheet import contact_sheet, thumbnail
from portrait.settings import Settings

SIDE = 288


def margin(portrait: StylizedPortrait) -> float:
    """The smallest margin of the chosen picture above a threshold; 10 less if it was rejected, so that those come first."""
    record = portrait.record
    similarity = record.chosen_attempt.similarity
    smallest = min(similarity[judge] - threshold.value for judge, threshold in record.thresholds.items())
    if record.gate is not None and record.chosen_attempt.evidence is not None:
        smallest = min(smallest, record.chosen_attempt.evidence - record.gate.least)
    return smallest - (0.0 if portrait.accepted else 10.0)


def summary(records: list[PortraitRecord]) -> dict[str, object]:
    whose = np.array([r.input.sha256 for r in records])
    first = np.array([r.attempts[0].accepted for r in records])
    passed = np.array([r.accepted for r in records])
    accepted = int(passed.sum())
    attempts = [attempt for r in records for attempt in r.attempts]
    chosen = [r.chosen_attempt for r in records]
    return {
        "people": len(set(whose)),
        "portraits": len(records),
        "first attempt": int(first.sum()),
        "first attempt, wilson": [round(v, 4) for v in wilson_people(first, whose)],
        "accepted": accepted,
        "accepted, wilson": [round(v, 4) for v in wilson_people(passed, whose)],
        "attempts": round(len(attempts) / len(records), 3),
        "seconds per accepted": round(sum(r.seconds for r in records) / max(1, accepted), 2),
        "arcface": round(float(np.mean([c.similarity["arcface"] for c in chosen])), 4),
        "dlib": round(float(np.mean([c.similarity["dlib"] for c in chosen])), 4),
        "style_on_face, median": round(float(np.median([c.style_on_face for c in chosen])), 4),
        "reasons of rejected attempts": dict(Counter(reason for attempt in attempts for reason in attempt.reasons)),
    }


def row_of(person: str, record: PortraitRecord) -> dict[str, object]:
    """One person in one style: the result of the first attempt, and that of all attempts."""
    first = record.attempts[0]
    row = {"person": person, "style": record.style, "first_accepted": first.accepted}
    row |= {"first_reasons": first.reasons, "accepted": record.accepted, "reasons": record.reasons}
    return row | first.similarity


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--attempts", type=int, default=3)
    parser.add_argument("--balance", type=float, default=0.5)
    parser.add_argument("--people", type=int, default=36)
    parser.add_argument("--worst", type=int, default=8, help="number of the worst pictures to show")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "held_out.json")
    parser.add_argument("--sheet", type=Path, default=Path(__file__).parents[1] / "weights" / "mini" / "failures.jpg")
    args = parser.parse_args()
    loop = load_loop(Settings())
    settings = Settings(balance=args.balance, max_attempts=args.attempts)
    files, rows = left_out(loop, args.data), []
    records: dict[str, list[PortraitRecord]] = {style: [] for style in loop.recipe.styles}
    worst: list[tuple[float, StylizedPortrait]] = []
    for who in progress(subjects(loop, spread(held_out(args.data), args.people)), "people"):
        framed = frame_portrait(who.photo.pixels, who.face, settings.frame, loop.recipe.size_for(settings.size))
        for style in loop.recipe.styles:
            person = name_of(who.photo.path)
            portrait = loop.stylize(who, style, replace(settings, thresholds=str(files[person])))
            records[style].append(portrait.record)
            lightness = [round(face_lightness(p, framed.face.kps), 2) for p in (framed.image, portrait.picture)]
            rows.append(row_of(person, portrait.record) | {"lightness": lightness})
            worst.append((margin(portrait), portrait))
        worst = sorted(worst, key=lambda item: item[0])[: args.worst]
    every = [record for some in records.values() for record in some]
    result = {"balance": args.balance, "attempts": args.attempts, "far": 0.01, "weights": loop.generator.digests}
    result |= {"cores": cpu_threads(), "runtime": RUNTIME}
    result |= {"all": summary(every), "styles": {style: summary(some) for style, some in records.items()}}
    for style, row in {**result["styles"], "all": result["all"]}.items():
        print(style, json.dumps(row))
    sheet = sheet_of([portrait for _, portrait in worst])
    print(write_picture(args.sheet, sheet, xmp=xmp_mark(), quality=85))
    print(write_json(args.output, result | {"rows": rows}))


def sheet_of(portraits: list[StylizedPortrait]) -> RgbImage:
    """Each portrait beside its photo, with its scores."""
    cells: list[tuple[RgbImage, str, bool | None]] = []
    for portrait in portraits:
        record = portrait.record
        similarity = record.chosen_attempt.similarity
        scores = "  ".join(f"{j} {v:.2f} ({record.thresholds[j].value:.2f})" for j, v in similarity.items())
        cells.append((thumbnail(portrait.before, SIDE), "the photo", None))
        remark = record.reasons[0] if record.reasons else record.status
        cells.append((thumbnail(portrait.picture, SIDE), f"{record.style}: {remark}\n{scores}", portrait.accepted))
    return contact_sheet(cells, columns=4, side=SIDE)


if __name__ == "__main__":
    main()
