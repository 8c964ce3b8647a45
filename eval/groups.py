"""The held-out results, broken down by group of people.

    python eval/held_out.py --data FACES                   # first: writes eval/held_out.json
    python eval/groups.py [--output groups.md]             # the table, as Markdown
    python eval/groups.py --data FACES                     # also work/held_out_groups.jpg: the photos with their labels

`eval/held_out_groups.csv` has one annotator's labels of the 36 pictures. `glasses`; `head_covering`: scarf, hat or cap;
`beard`: hair on the chin or jaw, or clear stubble; `child`: looks younger than 14; `old`: looks 65 or older; `skin`: the
skin tone in the picture, including the light, in three coarse classes. None of this is a fact about a person, and nobody in
the pictures exists.

Intervals are Wilson's at 95 %, for people with several portraits each (`intervals.wilson_people`); likeness is that of
first attempts, which are free of selection. The second table has the share accepted at the first attempt minus that of
everybody outside of the group, with an interval that resamples the people of both. A group whose interval lies below 0 is
called worse; among ten groups, one may be by chance. Groups of fewer than five people are marked as too few to conclude
anything from.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from held_out_people import WORK, held_out, name_of

from portrait.files import write_bytes
from portrait.images import read_photo, write_picture
from portrait.intervals import wilson_people
from portrait.report.sheet import contact_sheet, thumbnail

HERE = Path(__file__).parent
MIN_PEOPLE = 5
KINDS = ("glasses", "head_covering", "beard", "child", "old")
TONES = ("light", "medium", "dark")


def labels() -> dict[str, dict[str, str]]:
    """Person -> label -> value."""
    with (HERE / "held_out_groups.csv").open(encoding="utf-8", newline="") as file:
        return {row.pop("person"): row for row in csv.DictReader(file)}


def groups(read: dict[str, dict[str, str]]) -> dict[str, set[str]]:
    """Group -> its people; a person may be in several."""
    results = {"everybody": set(read)}
    results |= {
        word: {p for p in read if p.startswith(folder)} for word, folder in (("women", "female"), ("men", "male"))
    }
    results |= {kind.replace("_", " "): {p for p in read if read[p][kind] == "yes"} for kind in KINDS}
    return results | {f"skin {tone}": {p for p in read if read[p]["skin"] == tone} for tone in TONES}


def against_others(rows: list[dict[str, Any]], people: set[str]) -> tuple[float, float, float] | None:
    """The share of first attempts accepted in a group minus that of all others, with its 95 % interval over people.

    None if one side has nobody.
    """
    rng = np.random.default_rng(0)
    drawn, shares = [], []
    for inside in (True, False):
        passed: dict[str, list[bool]] = {}
        for row in rows:
            if (row["person"] in people) is inside:
                passed.setdefault(row["person"], []).append(row["first_accepted"])
        if not passed:
            return None
        sums, counts = (np.array([f(values) for values in passed.values()]) for f in (sum, len))
        picks = rng.integers(len(passed), size=(2000, len(passed)))
        drawn.append(sums[picks].sum(1) / counts[picks].sum(1))
        shares.append(sums.sum() / counts.sum())
    low, high = np.quantile(drawn[0] - drawn[1], [0.025, 0.975])
    return float(shares[0] - shares[1]), float(low), float(high)


def table(rows: list[dict[str, Any]], read: dict[str, dict[str, str]]) -> str:
    """The Markdown table.

    Args:
        rows: One per person and style, as `eval/held_out.py` writes them.
        read: Person -> labels.

    Raises:
        SystemExit: a row is of a person without labels.
    """
    if unknown := {row["person"] for row in rows} - read.keys():
        raise SystemExit(f"held_out_groups.csv lacks {sorted(unknown)[0]}; look at the photo and add a line")
    lines = ["| group | people | portraits | accepted at first | within three | arcface | dlib | rejected first |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for group, people in groups(read).items():
        mine = [row for row in rows if row["person"] in people]
        cells = [group, str(len({row["person"] for row in mine})), str(len(mine)), *results_of(mine)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def results_of(rows: list[dict[str, Any]]) -> list[str]:
    """The results of one group: rates of acceptance, likeness, and why pictures were rejected."""
    if not rows:
        return ["too few", "too few", "-", "-", "-"]
    whose = np.array([row["person"] for row in rows])
    few = "" if len(set(whose)) >= MIN_PEOPLE else ", too few"
    cells = []
    for key in ("first_accepted", "accepted"):
        passed = np.array([row[key] for row in rows])
        low, high = wilson_people(passed, whose)
        cells.append(f"{passed.mean():.1%} ({low:.0%} to {high:.0%}{few})")
    cells += [f"{np.mean([row[judge] for row in rows]):.3f}" for judge in ("arcface", "dlib")]
    reasons = Counter(reason for row in rows for reason in row["first_reasons"])
    return [*cells, ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(3)) or "-"]


def gaps(rows: list[dict[str, Any]], read: dict[str, dict[str, str]]) -> str:
    """Each group of at least `MIN_PEOPLE` compared with everybody else, as a Markdown table; arguments as in `table`."""
    lines = ["| group | people | accepted at first, minus all others |", "|---|---|---|"]
    for group, people in groups(read).items():
        count = len({row["person"] for row in rows} & people)
        gap = against_others(rows, people)
        if gap is None or count < MIN_PEOPLE:
            continue
        difference, low, high = gap
        remark = ", **worse**" if high < 0 else ""
        lines.append(f"| {group} | {count} | {difference:+.1%} ({low:+.1%} to {high:+.1%}){remark} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with female/*.jpg and male/*.jpg (the CC0 portraits)")
    parser.add_argument("--results", type=Path, default=HERE / "held_out.json", help="what eval/held_out.py wrote")
    parser.add_argument("--output", type=Path, help="also write the table here")
    args = parser.parse_args()
    results, read = json.loads(args.results.read_text("utf-8")), labels()
    if "rows" not in results:
        raise SystemExit(f"{args.results} has no rows per person; run eval/held_out.py once more")
    text = table(results["rows"], read) + "\n" + gaps(results["rows"], read)
    print(text)
    if args.output is not None:
        print(write_bytes(args.output, text.encode()))
    if args.data is not None:
        cells = []
        for path in held_out(args.data):
            labels_of_person = read[name_of(path)]
            words = [kind.replace("_", " ") for kind in KINDS if labels_of_person[kind] == "yes"] + [
                f"skin {labels_of_person['skin']}"
            ]
            cells.append((thumbnail(read_photo(path).pixels, 240), f"{name_of(path)}\n{', '.join(words)}", None))
        print(write_picture(WORK / "held_out_groups.jpg", contact_sheet(cells, columns=6, side=240), quality=85))


if __name__ == "__main__":
    main()
