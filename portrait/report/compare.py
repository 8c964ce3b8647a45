"""Whether a run differs from a baseline, person by person."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from portrait.intervals import Difference, simultaneous_differences
from portrait.report.runs import Run, _unseen
from portrait.report.words import in_words

TOLERANCE = 0.05
"""A difference that matters: of likeness, this share of the way from the person to a stranger (genuine mean minus
impostor mean); of the accept rate, so much outright."""

STYLE_TOLERANCE = 0.1
"""The same for style on the face: this share of the baseline's mean."""

MIN_PEOPLE = 6
"""With fewer people in both runs nothing is said."""


def pairing(
    current: Sequence[Mapping[str, Any]], baseline: Sequence[Mapping[str, Any]]
) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """A function of a job that is equal for two jobs of two runs that are put against each other, if the photo is too.

    The same subject, style, texts and variant; and the same recipe, where a run has more than one.
    """
    several = any(len({job["recipe"] for job in jobs}) > 1 for jobs in (current, baseline))

    def place(job: Mapping[str, Any]) -> tuple[Any, ...]:
        recipe = job["recipe"] if several else ""
        return job["subject"], recipe, job["style"], tuple(sorted(job["axes"].items())), job["variant"]

    return place


def compare(current: Run, baseline: Run) -> dict[str, Any]:
    """Put two runs against each other, person by person: `comparison` and `verdict` of the report.

    A pair is the same person (by name and photo), style, texts and variant, and the same recipe where there is more than
    one. Differences are averaged within each person, so that people count and not pictures; their intervals hold all
    at once. A row is drifted when its interval excludes 0 and the difference is at least the tolerance; stable when the
    interval lies within the tolerance; and otherwise there are too few people to say. The verdict is drifted when any
    row is; stable when every row of likeness and style is, and nothing that the baseline has of these people is missing
    (a style, a variant, a picture that failed or is not made yet). The accept rate alone is never asked to be stable: yes and
    no need hundreds of people for that, and they follow from the likeness.
    """
    place = pairing(current.jobs, baseline.jobs)
    before = {place(job): job for job in baseline.jobs}
    pairs, other_photo, lost = [], set[str](), {"baseline": set[str](), "current": set[str]()}
    unseen = {"baseline": _unseen(baseline), "current": _unseen(current)}
    failed = dict.fromkeys(unseen, 0)
    for job in current.jobs:
        old = before.get(place(job))
        if old is None:
            continue
        if old["photo"] != job["photo"]:
            other_photo.add(job["subject"])
        elif job["delivered"] and old["delivered"]:
            pairs.append((old, job))
        elif bool(job["delivered"]) != bool(old["delivered"]):
            side = "current" if old["delivered"] else "baseline"
            if job["subject"] in unseen[side]:
                lost[side].add(job["subject"])
            else:
                failed[side] += 1
    people = sorted({new["subject"] for _, new in pairs})
    here = {place(job) for job in current.jobs}
    gone = [job for job in baseline.jobs if job["delivered"] and job["subject"] in people and place(job) not in here]
    styles_gone = sorted({job["style"] for job in gone} - {new["style"] for _, new in pairs})
    judges = [
        j for j in (pairs[0][1]["quoted"] if pairs else {}) if all(j in job["quoted"] for p in pairs for job in p)
    ]
    apart = {judge: baseline.separation.get(judge) or current.separation.get(judge) for judge in judges}
    found: dict[str, Any] = {
        "baseline": baseline.name,
        "people": len(people),
        "pairs": len(pairs),
        "not_paired": {
            "only_current": len({j["subject"] for j in current.jobs} - {j["subject"] for j in baseline.jobs}),
            "only_baseline": len({j["subject"] for j in baseline.jobs} - {j["subject"] for j in current.jobs}),
            "other_photo": sorted(other_photo),
            "no_longer_acquired": sorted(lost["current"]),
            "newly_acquired": sorted(lost["baseline"]),
            "pictures_only_baseline": len(gone),
            "styles_only_baseline": styles_gone,
            "failed_current": failed["current"],
            "failed_baseline": failed["baseline"],
            "pending_current": current.pending,
            "pending_baseline": baseline.pending,
        },
        "tolerance": TOLERANCE,
        "rows": [],
    }
    if len(people) < MIN_PEOPLE:
        why = f"{len(people)} people are in both runs with the same photo; fewer than {MIN_PEOPLE} say nothing"
        return {"comparison": found, "verdict": {"verdict": "too few to say", "why": why, "power": None}}
    columns = _columns(pairs, judges, apart)
    table = _differences(pairs, people, columns)
    enough = [c for c in range(len(columns)) if (~np.isnan(table[:, c])).sum() >= 2]
    alone = sorted({columns[c]["style"] for c in range(len(columns)) if c not in enough})
    columns, table = [columns[c] for c in enough], table[:, enough]
    results = simultaneous_differences(table, np.array([c["measure"] == "accepted" for c in columns]))
    for column, result in zip(columns, results, strict=True):
        entry = {k: column[k] for k in ("measure", "judge", "style", "tolerance")}
        entry |= {
            "baseline": column["baseline"], "current": column["current"], "difference": round(result.mean, 5),
            "interval": [round(result.low, 5), round(result.high, 5)], "people": result.people,
            "detectable": round(_detectable(result, float(column["tolerance"])), 5),
        }  # fmt: skip
        entry["verdict"] = _row_verdict(entry)
        found["rows"].append(entry)
    unsure = [*_unsettled(current, baseline), *_not_compared(found["not_paired"], alone)]
    unsure += [
        f"how far a stranger is from the person by {judge} is known of neither run, since its embeddings were pruned, and "
        "so is no tolerance"
        for judge in judges
        if not apart[judge]
    ]
    return {"comparison": found, "verdict": _verdict(found, unsure)}


def _unsettled(current: Run, baseline: Run) -> list[str]:
    """The runs whose pictures were not judged against everybody yet, in words."""
    sides = (("this run", current), ("the baseline", baseline))
    return [f"pictures of {name} were not judged against everybody of it yet" for name, run in sides if not run.settled]


def _not_compared(left_out: Mapping[str, Any], alone: Sequence[str]) -> list[str]:
    """What keeps two runs from being called stable, whatever their pairs say. People who are in one of them alone do
    not: they are a sample, the styles are not."""
    found = []
    for side, name in (("current", "this run"), ("baseline", "the baseline")):
        if left_out[f"pending_{side}"]:
            found.append(f"{left_out[f'pending_{side}']} pictures of {name} are not made yet")
        if left_out[f"failed_{side}"]:
            found.append(f"{left_out[f'failed_{side}']} pictures of {name} failed")
    if left_out["no_longer_acquired"]:
        found.append(f"{len(left_out['no_longer_acquired'])} people of the baseline could not be acquired any more")
    if left_out["pictures_only_baseline"] and not left_out["pending_current"]:
        styles = ", ".join(left_out["styles_only_baseline"])
        where = f", all of {styles} among them" if styles else ""
        found.append(f"{left_out['pictures_only_baseline']} pictures of the baseline are not in this run{where}")
    return found + [f"only one person is in both runs in {style}" for style in alone]


def _columns(
    pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]],
    judges: Sequence[str],
    apart: Mapping[str, float | None],
) -> list[dict[str, Any]]:
    """What is compared: likeness by each judge, style on the face and acceptance; over all styles and in each. `apart` is
    the way from the person to a stranger, per judge; half of the scale stands for one that is not known."""
    styles = list(dict.fromkeys(new["style"] for _, new in pairs))
    measures: list[tuple[str, str | None]] = [
        *(("likeness", judge) for judge in judges),
        ("style_on_face", None),
        ("accepted", None),
    ]
    found = []
    for style in [None, *(styles if len(styles) > 1 else [])]:
        for measure_, judge in measures:
            chosen = [(old, new) for old, new in pairs if style in (None, new["style"])]
            before = float(np.mean([_value(old, measure_, judge) for old, _ in chosen]))
            scale = TOLERANCE * (apart[judge] or 0.5) if judge else TOLERANCE
            if measure_ == "style_on_face":
                scale = STYLE_TOLERANCE * before
            found.append(
                {
                    "measure": measure_, "judge": judge, "style": style, "tolerance": round(max(scale, 1e-5), 5),
                    "baseline": round(before, 4),
                    "current": round(float(np.mean([_value(new, measure_, judge) for _, new in chosen])), 4),
                }
            )  # fmt: skip
    return found


def _value(job: Mapping[str, Any], measure_: str, judge: str | None) -> float:
    if measure_ == "likeness":
        return float(job["quoted"][judge])
    return float(job["state"] == "accepted") if measure_ == "accepted" else float(job["delivered"]["style_on_face"])


def _differences(
    pairs: Iterable[tuple[dict[str, Any], dict[str, Any]]], people: Sequence[str], columns: Sequence[Mapping[str, Any]]
) -> np.ndarray:
    """(people, columns): each person's mean difference, current minus baseline; NaN where they have no pair."""
    row = {name: n for n, name in enumerate(people)}
    sums, counts = np.zeros((len(people), len(columns))), np.zeros((len(people), len(columns)))
    for old, new in pairs:
        for c, column in enumerate(columns):
            if column["style"] in (None, new["style"]):
                measure_, judge = column["measure"], column["judge"]
                sums[row[new["subject"]], c] += _value(new, measure_, judge) - _value(old, measure_, judge)
                counts[row[new["subject"]], c] += 1
    with np.errstate(invalid="ignore"):
        return np.where(counts > 0, sums / counts, np.nan)


def _detectable(result: Difference, tolerance: float) -> float:
    """The true difference that is called drifted with a chance of 80 %: it must clear its interval and the tolerance."""
    half = (result.high - result.low) / 2
    return max(half, tolerance) + result.detectable - half


def _row_verdict(row: Mapping[str, Any]) -> str:
    low, high = row["interval"]
    if row["people"] < MIN_PEOPLE:
        return "too few to say"
    if (low > 0 or high < 0) and abs(row["difference"]) >= row["tolerance"]:
        return "drifted"
    return "stable" if -row["tolerance"] < low and high < row["tolerance"] else "too few to say"


def _verdict(found: Mapping[str, Any], missing: Sequence[str]) -> dict[str, Any]:
    rows = found["rows"]
    asked = [row for row in rows if row["measure"] != "accepted"]
    pooled = next(row for row in asked if row["style"] is None)
    drifted = [row for row in rows if row["verdict"] == "drifted"]
    unclear = [row for row in asked if row["verdict"] == "too few to say"]
    power = {
        "people": found["people"],
        "rows": [{k: row[k] for k in ("measure", "judge", "style", "detectable", "tolerance")} for row in rows],
    }
    if drifted:
        worst = max(drifted, key=lambda row: abs(row["difference"]) / row["tolerance"])
        what = f"{len(drifted)} of {len(rows)} measures moved; most of all {in_words(worst)}"
        return {"verdict": "drifted", "why": what, "power": power}
    if unclear or missing:
        if missing:
            what = "; ".join(missing)
        else:
            worst = max(unclear, key=lambda row: row["detectable"] / row["tolerance"])
            more = people_needed(worst)
            what = (
                f"nothing was shown to move, but {len(unclear)} of {len(asked)} measures are not known well enough to call "
                f"them stable; least of all {in_words(worst)}. About {more} people would do"
            )
        return {"verdict": "too few to say", "why": what, "power": power}
    what = (
        f"no measure moved by as much as its tolerance; a move of {pooled['detectable']:.3f} in likeness by "
        f"{pooled['judge']} would have been seen with a probability of 80 %"
        if pooled["judge"]
        else "no measure moved by as much as its tolerance"
    )
    return {"verdict": "stable", "why": what, "power": power}


def people_needed(row: Mapping[str, Any]) -> int:
    """How many people would bring the half width of a row's interval to its tolerance, if it is at 0."""
    half = (row["interval"][1] - row["interval"][0]) / 2
    return max(row["people"] + 1, int(np.ceil(row["people"] * (half / row["tolerance"]) ** 2)))
