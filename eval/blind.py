"""A blind test: pictures of held-out people under random names, for a reader who does not have the key.

    python eval/blind.py --data FACES --out work/blind [--count 64] [--seed 1]     # pictures/, answers.csv, key.json
    python eval/blind.py --photos DIR --out work/blind                             # ordinary photographs instead
    python eval/blind.py --out work/blind --score                                  # after answers.csv has been filled in

The reader opens each picture at full size, picks its style from the list, scores it from 1 (a photo filter) to 5 (made by
hand), and lists faults: age, skin, invented, broken, grid, halo. `--score` prints the share of styles that were recognized,
the mean score and the share of pictures with a fault, each by style, and writes them to OUT/score.json.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from held_out_people import data_argument, held_out, name_of, progress

from portrait import PortraitStylizer
from portrait.errors import FaceError, SettingsError
from portrait.files import write_json
from portrait.images import photos_below

FAULTS = ("age", "skin", "invented", "broken", "grid", "halo")
COLUMNS = ("picture", "style", "score", "faults")


class Answer(NamedTuple):
    """What the reader said about a picture."""

    style: str
    score: float
    faults: list[str]


def make(people: list[Path], out: Path, count: int, seed: int) -> None:
    """Draw `count` portraits of the people in turn, every style equally often, at random balances."""
    rng = np.random.default_rng(seed)
    stylizer = PortraitStylizer.from_recipe("mini")
    styles = list(stylizer.loop.recipe.styles)
    order = [people[i] for i in rng.permutation(len(people))]
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    numbers = rng.permutation(count)
    key = {}
    for i in progress(range(count), "pictures"):
        style = styles[i % len(styles)]
        person = order[i % len(order)]
        balance = round(float(rng.uniform(0.1, 0.9)), 2)
        name = f"{numbers[i]:03d}.png"
        try:
            result = stylizer.stylize(
                person, style=style, balance=balance, seed=int(rng.integers(1000)), max_attempts=1
            )
        except FaceError as error:
            print(f"{name_of(person)}: {error}")
            continue
        result.image.save(out / "pictures" / name)
        key[name] = {"style": style, "person": name_of(person), "balance": balance, "accepted": result.accepted}
    write_json(out / "key.json", {"styles": styles, "pictures": key})
    with (out / "answers.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([name, "", "", ""] for name in sorted(key))
    print(f"{len(key)} pictures in {out / 'pictures'}; styles: {', '.join(styles)}; faults: {', '.join(FAULTS)}")


def score(out: Path) -> dict[str, object]:
    """Evaluate the answers.

    Raises:
        SystemExit: an answer is missing or invalid.
    """
    key = json.loads((out / "key.json").read_text("utf-8"))
    with (out / "answers.csv").open(newline="", encoding="utf-8") as file:
        answers = {row["picture"]: row for row in csv.DictReader(file)}
    if missing := sorted(set(key["pictures"]) - set(answers)):
        raise SystemExit(f"answers.csv lacks {missing[0]} and {len(missing) - 1} more")
    rows: dict[str, list[Answer]] = {}
    confusions: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    for name, truth in key["pictures"].items():
        answer = answer_of(name, answers[name], key["styles"])
        if answer.style != truth["style"]:
            confusions[f"{truth['style']} as {answer.style}"] += 1
        faults.update(answer.faults)
        rows.setdefault(truth["style"], []).append(answer)
    everything = [(style, answer) for style, some in rows.items() for answer in some]
    return {
        "all": summary(everything),
        "styles": {style: summary([(style, answer) for answer in some]) for style, some in sorted(rows.items())},
        "confusions": dict(confusions.most_common()),
        "faults": dict(faults.most_common()),
    }


def answer_of(name: str, row: dict[str, str], styles: list[str]) -> Answer:
    """The answer in a row of answers.csv.

    Raises:
        SystemExit: it is missing or invalid.
    """
    style = row["style"].strip()
    if style not in styles or row["score"].strip() not in set("12345"):
        raise SystemExit(f"{name}: style {style!r}, score {row['score']!r}; a style of the list and 1 to 5 are wanted")
    faults = row["faults"].replace(";", " ").split()
    if unknown := [fault for fault in faults if fault not in FAULTS]:
        raise SystemExit(f"{name}: no fault is called {unknown[0]!r}; {', '.join(FAULTS)}")
    return Answer(style, float(row["score"]), faults)


def summary(answers: list[tuple[str, Answer]]) -> dict[str, float | int]:
    """The figures of some answers, each behind the true style."""
    return {
        "pictures": len(answers),
        "named_right": round(float(np.mean([answer.style == style for style, answer in answers])), 3),
        "mean": round(float(np.mean([answer.score for _, answer in answers])), 2),
        "with_fault": round(float(np.mean([bool(answer.faults) for _, answer in answers])), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--photos", type=Path, metavar="DIR", help="photos of people, one each, instead of --data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--score", action="store_true", help="read OUT/answers.csv")
    args = parser.parse_args()
    if args.score:
        result = score(args.out)
        write_json(args.out / "score.json", result)
        print(json.dumps(result, indent=1))
        return
    try:
        people = held_out(args.data) if args.photos is None else photos_below(args.photos)[0]
    except SettingsError as error:
        parser.error(str(error))
    make(people, args.out, args.count, args.seed)


if __name__ == "__main__":
    main()
