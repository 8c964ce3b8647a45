"""What a run did to identity and style, in numbers; and whether that differs from a baseline."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import portrait
from portrait.calibration import equal_error_rate
from portrait.campaign.export import plain_cell
from portrait.campaign.ledger import Job, Ledger
from portrait.campaign.settle import finalize_run
from portrait.errors import EvaluationError, SettingsError, TooFewPairsError
from portrait.images import write_bytes, write_json
from portrait.intervals import (
    Difference,
    bootstrap_mean,
    bootstrap_ratio,
    bootstrap_share_of_pairs,
    simultaneous_differences,
    wilson,
    wilson_people,
)
from portrait.judge.gallery import Crowd, separation
from portrait.judge.thresholds import threshold_at_far
from portrait.records import Embedding

log = logging.getLogger(__name__)

SCHEMA = 1
TOLERANCE = 0.05
"""A difference that matters: of likeness, this share of the way from the person to a stranger (genuine mean minus
impostor mean); of the accept rate, so much outright."""
STYLE_TOLERANCE = 0.1
"""The same for style on the face: this share of the baseline's mean."""
MIN_PEOPLE = 6
"""With fewer people in both runs nothing is said."""
SMALLEST_GROUP = 5
"""Groups of fewer people are put together: too few for a rate, and nobody shall be found out by their row."""
MOST_GROUPS = 12
ODD = 3.5
"""A picture is odd in its style when its distance from the style's middle is so many robust deviations above the usual."""


_LOOK_WORDS = {
    "lightness": ("darker", "lighter"),
    "contrast": ("flatter light", "harder light"),
    "green_red": ("greener", "redder"),
    "blue_yellow": ("bluer", "yellower"),
    "chroma": ("less colour", "more colour"),
    "chroma_spread": ("more even colour", "less even colour"),
    "detail_256": ("less fine detail", "more fine detail"),
    "detail_128": ("less detail", "more detail"),
    "detail_64": ("less coarse detail", "more coarse detail"),
    "detail_32": ("weaker shapes", "stronger shapes"),
    "flat": ("fewer flat areas", "more flat areas"),
    "coherence": ("looser strokes", "stricter strokes"),
}
"""How a picture differs from its style when a statistic of `judge.appearance` is low, or high."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """A run as the report sees it: a dictionary per job (`jobs` of the JSON), and what is not written into reports."""

    name: str
    jobs: list[dict[str, Any]]
    people: list[dict[str, Any]]
    separation: dict[str, float] = field(default_factory=dict)
    looks: list[dict[str, float]] = field(default_factory=list)
    embeddings: list[dict[str, Embedding]] = field(default_factory=list)
    identities: dict[str, dict[str, Embedding]] = field(default_factory=dict)
    licenses: list[dict[str, str]] = field(default_factory=list)
    far: float | None = None
    pending: int = 0
    settled: bool = True


def read_run(folder: Path) -> Run:
    """Read a campaign's ledger. A run that was killed before its end is judged first, if no other process works on it.

    Raises:
        CampaignError: the folder is no run.
        EvaluationError: nothing was made yet.
    """
    settled = finalize_run(folder)
    with Ledger.open(folder) as ledger:
        people = list(ledger.subjects())
        photos = {p["name"]: p["photos"][0]["sha256"] for p in people}
        jobs, looks, embeddings = [], [], []
        licenses: dict[str, dict[str, str]] = {}
        rates: set[float] = set()
        for job in ledger.jobs("accepted", "rejected", "failed"):
            done = ledger.result(job.id)
            jobs.append(_entry(job, photos[job.slot.subject], done[0] if done else None, ledger.attempts(job.id)))
            if done:
                licenses |= {part["part"]: part for part in done[0]["licenses"]}
                rates |= {limit["far"] for limit in done[0]["thresholds"].values()}
            looks.append(done[1] if done else {})
            embeddings.append(done[2] if done else {})
        name, pending = str(ledger.get("name") or folder.name), ledger.counts().pending
        kept = ledger.get("separation") or {}  # of before the embeddings were pruned
    if not jobs:
        raise EvaluationError(f"{folder}: nothing was made yet; run it first")
    listed = [{"subject": p["name"], "columns": p["columns"], "failure": p["failure"]} for p in people]
    run = Run(
        name=name,
        jobs=jobs,
        people=listed,
        looks=looks,
        embeddings=embeddings,
        identities={p["name"]: p["embeddings"] for p in people if p["embeddings"]},
        licenses=list(licenses.values()),
        far=rates.pop() if len(rates) == 1 else None,
        pending=pending,
        settled=settled,
    )
    made = ((jobs[i]["subject"], embeddings[i]) for i in _with_pictures(run))
    run.separation.update(separation(run.identities, made) or kept)
    return run


def read_baseline(path: Path) -> Run:
    """A run's folder, or the JSON of a report about one.

    Raises:
        SettingsError: it is neither.
    """
    if path.is_dir():
        return read_run(path)
    try:
        report = json.loads(path.read_text("utf-8"))
        if report["schema"] != SCHEMA:
            raise SettingsError(f"{path} has schema {report['schema']}; this version of portrait reads {SCHEMA}")
        jobs, people = list(report["jobs"]), list(report["people"])
        return Run(
            name=report["run"]["name"],
            jobs=jobs,
            people=people,
            separation=dict(report["separation"]),
            pending=report["run"].get("pending", 0),
            settled=report["run"].get("settled", True),
        )
    except OSError as error:
        raise SettingsError(f"cannot read baseline {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"baseline {path} is neither a run's folder nor the JSON of a report: {error!r}") from None


def _entry(job: Job, photo: str, record: dict[str, Any] | None, attempts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    slot = job.slot
    entry: dict[str, Any] = {
        "subject": slot.subject, "recipe": slot.recipe, "style": slot.style, "axes": dict(slot.axes),
        "variant": slot.variant, "photo": photo, "state": job.state, "reasons": list(job.reasons),
        "attempts": len(attempts), "seconds": round(sum(float(a["seconds"]) for a in attempts), 3), "output": job.output,
        "first": None, "quoted": {}, "delivered": None, "thresholds": {}, "seed": None,
    }  # fmt: skip
    if record is None or not attempts or job.state == "failed":
        return entry
    limits = {name: float(limit["value"]) for name, limit in record["thresholds"].items()}
    chosen = record["attempts"][record["chosen"]]
    entry["thresholds"], entry["seed"] = limits, record["seed"]
    entry["first"], entry["delivered"] = _measures(attempts[0]), _measures(chosen)
    if attempts[0]["seed"] == chosen["seed"]:  # what the run as a whole said of it, `swapped`, is said of this attempt
        entry["first"]["accepted"] = job.state == "accepted"
    entry["quoted"] = {judge: quoted(attempts, limits, judge) for judge in limits}
    return entry


def _measures(attempt: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("accepted", "face_found", "similarity", "style_on_face", "burned", "reasons")
    return {key: attempt[key] for key in keys if key in attempt}


def quoted(attempts: Sequence[Mapping[str, Any]], limits: Mapping[str, float], judge: str) -> float:
    """What `judge` says of the attempt that the *other* judges alone would have chosen: free of the winner's curse.

    A picture that is taken because a judge likes it has, on average, too high a score with that judge. So here the
    others choose (the first attempt that passes with them and has no other fault, or else the one that comes nearest),
    and `judge` is asked. Where there is no other judge, it is the first attempt, which nobody chose.
    """
    others = [name for name in limits if name != judge]
    finished = [attempt for attempt in attempts if attempt.get("stopped_at_step") is None]
    attempts = finished or attempts  # one that was given up part-way was never a picture to choose
    if not others:
        return float(attempts[0]["similarity"][judge])

    def margin(attempt: Mapping[str, Any]) -> float:
        return min(attempt["similarity"][name] - limits[name] for name in others)

    for attempt in attempts:
        if margin(attempt) >= 0 and all(reason == f"identity_low:{judge}" for reason in attempt["reasons"]):
            return float(attempt["similarity"][judge])
    return float(max(attempts, key=margin)["similarity"][judge])


def measure(run: Run, baseline: Run | None = None) -> dict[str, Any]:
    """The whole report as JSON values; `drift.schema.json` beside this file says what is what."""
    judged = [job for job in run.jobs if job["delivered"]]
    if not judged:
        raise EvaluationError("not one portrait of this run could be judged; portrait campaign status says why")
    unseen = [p for p in run.people if p["failure"]]
    photos = _rate(np.array([bool(p["failure"]) for p in run.people]), np.array([p["subject"] for p in run.people]))
    styles = list(dict.fromkeys((job["recipe"], job["style"]) for job in run.jobs))
    consistency = _consistency(run)
    groups, not_shown = _groups(run)
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "portrait": portrait.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": {
            "name": run.name,
            "people": len(run.people),
            "pictures": len(run.jobs),
            "pending": run.pending,
            "settled": run.settled,
            "judges": list(judged[0]["thresholds"]),
        },
        "far": run.far,
        "licenses": run.licenses,
        "failure_to_acquire": photos | {"people": [{"subject": p["subject"], "why": p["failure"]} for p in unseen]},
        "overall": _summary(run, run.jobs),
        "styles": [
            {"recipe": recipe, "style": style}
            | _summary(run, [j for j in run.jobs if (j["recipe"], j["style"]) == (recipe, style)])
            for recipe, style in styles
        ],
        "groups": groups,
        "columns_not_shown": not_shown,
        "verification": _verification(run),
        "separation": run.separation,
        "alike": _note_confusion(run),
        "consistency": consistency,
        "same_person": _same_person(run),
        "comparison": None,
        "verdict": None,
        "people": run.people,
        "jobs": run.jobs,
    }
    if baseline is not None:
        report |= compare(run, baseline)
    return report


def _rate(passed: np.ndarray, people: np.ndarray) -> dict[str, Any]:
    low, high = wilson_people(passed, people)
    share = float(np.mean(passed)) if len(passed) else None
    return {
        "rate": None if share is None else round(share, 4),
        "interval": [round(low, 4), round(high, 4)],
        "count": int(np.sum(passed)),
        "of": len(passed),
    }


def _mean(values: Sequence[float], people: Sequence[str]) -> dict[str, Any]:
    low, high = bootstrap_mean(np.array(values), np.array(people))
    return {"mean": round(float(np.mean(values)), 4), "interval": [round(low, 4), round(high, 4)], "of": len(values)}


def _summary(run: Run, jobs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rates and means of some jobs. Failed inputs are counted in `not_acquired`, other failures in `failed`, and neither
    in any rate; portraits without a face are rejections and in every rate."""
    judged = [job for job in jobs if job["delivered"]]
    unseen = _unseen(run)
    nothing = [job["subject"] in unseen for job in jobs if not job["delivered"]]
    people = np.array([job["subject"] for job in judged])
    found: dict[str, Any] = {
        "people": len(set(people)),
        "pictures": len(judged),
        "not_acquired": sum(nothing),
        "failed": len(nothing) - sum(nothing),
    }
    if not judged:
        return found
    accepted = np.array([job["state"] == "accepted" for job in judged])
    attempts = np.array([job["attempts"] for job in judged])
    seconds = np.array([job["seconds"] for job in judged])
    first = np.array([bool(job["first"]["accepted"]) for job in judged])
    faceless = np.array([not job["delivered"]["face_found"] for job in judged])
    judges = list(judged[0]["thresholds"])
    reasons: dict[str, int] = {}
    for job in judged:
        for reason in job["reasons"] if job["state"] == "rejected" else ():
            reasons[reason] = reasons.get(reason, 0) + 1
    names = people.tolist()
    return found | {
        "accepted": _rate(accepted, people),
        "first_attempt_accepted": _rate(first, people),
        "no_face_in_portrait": _rate(faceless, people),
        "attempts": int(attempts.sum()),
        "attempts_per_accepted": _ratio(attempts, accepted, people),
        "seconds_per_accepted": _ratio(seconds, accepted, people),
        "likeness": {
            judge: {
                "quoted": _mean([job["quoted"][judge] for job in judged], names),
                "first": _mean([job["first"]["similarity"][judge] for job in judged], names),
                "delivered": _mean([job["delivered"]["similarity"][judge] for job in judged], names),
                "threshold": judged[0]["thresholds"][judge]
                if len({j["thresholds"][judge] for j in judged}) == 1
                else None,
            }
            for judge in judges
        },
        "style_on_face": _mean([job["delivered"]["style_on_face"] for job in judged], names),
        "reasons": dict(sorted(reasons.items(), key=lambda item: -item[1])),
    }


def _unseen(run: Run) -> set[str]:
    """The people whose photo could not be used."""
    return {person["subject"] for person in run.people if person["failure"]}


def _ratio(above: np.ndarray, below: np.ndarray, people: np.ndarray) -> dict[str, Any]:
    if not below.sum():
        return {"value": None, "interval": [None, None]}
    ends = bootstrap_ratio(above, below, people)
    return {
        "value": round(float(above.sum() / below.sum()), 3),
        "interval": [round(e, 3) if np.isfinite(e) else None for e in ends],
    }


def _groups(run: Run) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Per column of the subjects' table and group in it: rates and likeness; and the columns without two groups that can
    be shown, names say."""
    own = {p["subject"]: p["columns"] for p in run.people}
    found: dict[str, list[dict[str, Any]]] = {}
    not_shown = []
    for column in dict.fromkeys(c for columns in own.values() for c in columns):
        values = {subject: columns.get(column) or "(empty)" for subject, columns in own.items()}
        named = protected_groups(values)
        if len(set(named.values())) < 2:
            not_shown.append(column)
            continue
        rows = []
        for group in sorted(set(named.values()), key=lambda g: (g.startswith("("), g)):
            inside = [job for job in run.jobs if named[job["subject"]] == group]
            size = sum(v == group for v in named.values())
            rows.append({"group": group, "acquired_of": size} | _summary(run, inside))
        found[column] = rows
    return found, not_shown


def protected_groups(values: Mapping[str, str]) -> dict[str, str]:
    """Person -> group, with groups of fewer than `SMALLEST_GROUP` people put together; if together they are still too
    few, the smallest of the others joins them, or they could be found by subtraction. So do the smallest of more than
    `MOST_GROUPS`."""
    sizes: dict[str, int] = {}
    for value in values.values():
        sizes[value] = sizes.get(value, 0) + 1
    by_size = sorted(sizes, key=lambda group: (sizes[group], group))
    small = [group for group in by_size if sizes[group] < SMALLEST_GROUP]
    if len(sizes) - len(small) + bool(small) > MOST_GROUPS:
        small = by_size[: len(sizes) - MOST_GROUPS + 1]
    for group in by_size[len(small) :]:
        if not small or sum(sizes[g] for g in small) >= SMALLEST_GROUP:
            break
        small.append(group)
    name = f"(others: {len(small)} groups)" if len(small) > 1 else f"({small[0]})" if small else ""
    return {person: name if value in small else value for person, value in values.items()}


def _matrices(run: Run, judge: str, chosen: Sequence[int]) -> tuple[list[str], np.ndarray] | None:
    """Everyone's name, and (people, pictures) similarities of their photos to the pictures; None without embeddings."""
    people = [name for name, known in run.identities.items() if judge in known]
    if len(people) < 2 or not all(judge in run.embeddings[i] for i in chosen) or not chosen:
        return None
    references = np.stack([run.identities[name][judge] for name in people])
    return people, references @ np.stack([run.embeddings[i][judge] for i in chosen]).T


def _with_pictures(run: Run) -> list[int]:
    return [i for i, job in enumerate(run.jobs) if job["delivered"] and run.embeddings and run.embeddings[i]]


def _comparable(run: Run) -> list[int]:
    """The pictures of people whose photo is known too."""
    return [i for i in _with_pictures(run) if run.identities.get(run.jobs[i]["subject"])]


def _verification(run: Run) -> list[dict[str, Any]]:
    """Per recipe, style and judge: portraits against the photos of their own people and of all others."""
    found = []
    ready = _comparable(run)
    for recipe, style in dict.fromkeys((run.jobs[i]["recipe"], run.jobs[i]["style"]) for i in ready):
        chosen = [i for i in ready if (run.jobs[i]["recipe"], run.jobs[i]["style"]) == (recipe, style)]
        for judge in run.jobs[chosen[0]]["thresholds"]:
            if (made := _matrices(run, judge, chosen)) is None:
                continue
            people, scores = made
            own = np.array([[name == run.jobs[i]["subject"] for i in chosen] for name in people])
            genuine, impostor = scores[own], scores[~own]
            limit = run.jobs[chosen[0]]["thresholds"][judge]
            ends = float(scores.min()) - 1e-3, float(scores.max()) + 1e-3
            found.append(
                {
                    "recipe": recipe,
                    "style": style,
                    "judge": judge,
                    "threshold": limit,
                    "genuine_pairs": int(genuine.size),
                    "impostor_pairs": int(impostor.size),
                    "genuine_mean": round(float(genuine.mean()), 4),
                    "impostor_mean": round(float(impostor.mean()), 4),
                    "eer": round(equal_error_rate(genuine, impostor), 4),
                    "far_at_threshold": round(float((impostor >= limit).mean()), 5),
                    "far_interval": _far_interval(people, [run.jobs[i]["subject"] for i in chosen], scores >= limit),
                    "det": error_curve(genuine, impostor),
                    "genuine": _histogram(genuine, *ends),
                    "impostor": _histogram(impostor, *ends),
                }
            )
    return found


def error_curve(genuine: np.ndarray, impostor: np.ndarray) -> list[list[float]]:
    """Threshold, false accept and false reject rate, from one end of the scores to the other.

    The thresholds are where one of the rates changes: quantiles of the genuine scores alone, since these are few among
    all pairs, and just above those of the impostors, where their last ones are taken as finely as the first: a false
    accept rate of 1 in `impostor.size` is always among them.
    """
    own, others = np.sort(genuine.astype(np.float64)), np.sort(impostor.astype(np.float64))
    shares, tail = np.linspace(0, 1, 80), 1 - np.geomspace(1 / others.size, 1, 40)
    passed = np.nextafter(np.quantile(others, np.concatenate([shares, tail]), method="lower"), np.inf)
    kept = np.quantile(own, shares, method="lower")
    ends = min(own[0], others[0]), np.nextafter(max(own[-1], others[-1]), np.inf)
    points = np.unique(np.concatenate([kept, passed, ends]))
    far = 1 - np.searchsorted(others, points) / others.size
    frr = np.searchsorted(own, points) / own.size
    return np.stack([points.round(4), far.round(5), frr.round(5)], 1).tolist()


def _histogram(values: np.ndarray, low: float, high: float) -> dict[str, Any]:
    """Counts in 60 equal bins from `low` to `high`."""
    counts = np.histogram(values, bins=60, range=(low, high))[0].tolist()
    return {"from": round(low, 4), "to": round(high, 4), "counts": counts}


def _far_interval(people: list[str], whose: list[str], passed: np.ndarray) -> list[float] | None:
    """Of the share of impostors that pass, drawing people with all their pictures; where none passes, up to Wilson's end
    for as many trials as there are people with pictures, since a bootstrap would be certain of 0.

    Args:
        people: Whose photos are the rows.
        whose: Whose portraits are the columns.
        passed: (people, portraits) bool.
    """
    place = {name: row for row, name in enumerate(people)}
    portraits = np.zeros((len(whose), len(people)))
    portraits[np.arange(len(whose)), [place[name] for name in whose]] = 1
    if len(set(whose)) < 3:
        return None
    above, pairs = passed @ portraits, np.tile(portraits.sum(0), (len(people), 1))
    for table in (above, pairs):
        np.fill_diagonal(table, 0)
    low, high = bootstrap_share_of_pairs(above, pairs)
    if not above.any():
        high = wilson(0, len(set(whose)))[1]
    return [round(low, 5), round(high, 5)]


def _note_confusion(run: Run) -> list[dict[str, Any]]:
    """Put into each job who else of the run is nearest (`nearest`, as `judge.gallery.Nearest`); returns who are alike as
    photos and so are not put against each other."""
    crowd, chosen = Crowd(run.identities), _comparable(run)
    found = crowd.nearest([(run.jobs[i]["subject"], run.embeddings[i]) for i in chosen])
    for i, nearest in zip(chosen, found, strict=True):
        if nearest is not None:
            run.jobs[i]["nearest"] = {"subject": nearest.subject, "margin": nearest.margin}
    return [{"subjects": list(pair.subjects), "similarity": pair.similarity} for pair in crowd.alike()]


def _consistency(run: Run) -> list[dict[str, Any]]:
    """How alike the pictures of each style are, and which are odd; a distance is also put into each job (`look`).

    Features are measured in robust deviations within their style; the distance of a picture is the root mean square over
    the features. `recognised` is the share of pictures that lie nearer to the middle of their own style than to that of
    any other, each left out of its own middle; `spread` is the mean distance in a style over that between styles.
    """
    ready = [i for i, job in enumerate(run.jobs) if job["delivered"] and run.looks and run.looks[i]]
    if not ready:
        return []
    names = list(run.looks[ready[0]])
    values = np.array([[run.looks[i][name] for name in names] for i in ready])
    labels = [(run.jobs[i]["recipe"], run.jobs[i]["style"]) for i in ready]
    kinds = list(dict.fromkeys(labels))
    index = np.array([kinds.index(label) for label in labels])
    middles = np.stack([np.median(values[index == k], 0) for k in range(len(kinds))])
    scale = np.maximum(1.4826 * np.median(np.abs(values - middles[index]), 0), 1e-3 + 0.02 * values.std(0))
    apart = np.sqrt((((values[:, None] - middles[None]) / scale) ** 2).mean(-1))  # (pictures, styles)
    found = []
    for k, (recipe, style) in enumerate(kinds):
        mine = np.flatnonzero(index == k)
        own = apart[mine, k]
        usual, deviation = float(np.median(own)), 1.4826 * float(np.median(np.abs(own - np.median(own))))
        limit = usual + ODD * max(deviation, 0.1 * usual)
        for n, distance in zip(mine, own, strict=True):
            run.jobs[ready[n]]["look"] = {
                "distance": round(float(distance), 3),
                "odd": bool(distance > limit and len(mine) >= 5),
            }
            if run.jobs[ready[n]]["look"]["odd"]:
                off = (values[n] - middles[k]) / scale
                worst = int(np.abs(off).argmax())
                run.jobs[ready[n]]["look"]["why"] = _LOOK_WORDS[names[worst]][int(off[worst] > 0)]
        entry: dict[str, Any] = {"recipe": recipe, "style": style, "pictures": len(mine), "limit": round(limit, 3)}
        entry["odd"] = int(sum(run.jobs[ready[n]]["look"]["odd"] for n in mine))
        entry["recognised"] = entry["spread"] = None
        if len(kinds) > 1 and len(mine) > 1:
            nearest = np.delete(apart[mine], k, 1).min(1)
            left_out = own * len(mine) / (len(mine) - 1)  # its own part in its middle taken away
            people = np.array([run.jobs[ready[n]]["subject"] for n in mine])
            entry["recognised"] = _rate(left_out < nearest, people)
            entry["spread"] = round(float(own.mean() / np.delete(apart[mine], k, 1).mean()), 3)
        found.append(entry)
    return found


def _same_person(run: Run) -> dict[str, Any] | None:
    """Is it the same person in all of their portraits, whatever the style: portraits compared with portraits.

    The limit per judge is where 1 in 100 pairs of *different* people's portraits would pass, in this run. `people` lists
    everyone, the least alike first, with the portrait that fits the others and the photo least.
    """
    ready = _with_pictures(run)
    by_person: dict[str, list[int]] = {}
    for i in ready:
        by_person.setdefault(run.jobs[i]["subject"], []).append(i)
    by_person = {name: own for name, own in by_person.items() if len(own) > 1}
    judges = list(next((run.jobs[i]["thresholds"] for i in ready), {}))
    if not by_person or not judges:
        return None
    limits: dict[str, float | None] = {}
    sample = ready if len(ready) <= 1500 else np.random.default_rng(0).choice(ready, 1500, replace=False).tolist()
    whose = np.array([run.jobs[i]["subject"] for i in sample])
    for judge in judges:
        vectors = np.stack([run.embeddings[i][judge] for i in sample])
        pairs = (vectors @ vectors.T)[np.triu(whose[:, None] != whose[None], 1)]
        try:
            limits[judge] = round(threshold_at_far(pairs, 0.01), 4)
        except TooFewPairsError:
            limits[judge] = None
    people = []
    for name, own in by_person.items():
        entry: dict[str, Any] = {"subject": name, "pictures": len(own), "likeness": {}}
        total = np.zeros((len(own), len(own)))
        same = True
        for judge in judges:
            vectors = np.stack([run.embeddings[i][judge] for i in own])
            scores = vectors @ vectors.T
            pairs = scores[np.triu_indices(len(own), 1)]
            entry["likeness"][judge] = {"mean": round(float(pairs.mean()), 4), "least": round(float(pairs.min()), 4)}
            limit = limits[judge]
            same &= limit is None or bool(pairs.min() >= limit)
            total += scores
            if judge in run.identities.get(name, {}):
                total += (vectors @ run.identities[name][judge])[:, None] / len(own)
        worst = int(total.sum(1).argmin())
        entry["same"] = same
        entry["odd_one_out"] = {key: run.jobs[own[worst]][key] for key in ("recipe", "style", "variant", "output")}
        people.append(entry)
    first = judges[0]
    people.sort(key=lambda p: (p["same"], p["likeness"][first]["least"]))
    flags = np.array([p["same"] for p in people])
    known = any(limit is not None for limit in limits.values())
    return {"limits": limits, "same": _rate(flags, np.arange(len(flags))) if known else None, "people": people}


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


def in_words(row: Mapping[str, Any]) -> str:
    """A row of the comparison as a sentence would say it."""
    names = {"likeness": f"likeness by {row['judge']}", "style_on_face": "style on the face", "accepted": "accept rate"}
    where = f" in {row['style']}" if row["style"] else ""
    low, high = row["interval"]
    return f"{names[row['measure']]}{where}: {row['difference']:+.3f} ({low:+.3f} to {high:+.3f})"


def reason_label(code: str) -> str:
    """A reason code as a short label: `identity_low:dlib` is "not like the person (dlib)"."""
    name, _, rest = code.partition(":")
    short = {
        "identity_low": "not like the person",
        "broken_keep": "changed what was to stay",
        "swapped": "more like somebody else",
    }
    text = short.get(name, name.replace("_", " "))
    return f"{text} ({rest})" if rest else text


def flat(report: Mapping[str, Any]) -> list[list[Any]]:
    """Every number of the report as rows of the CSV, but for the points of curves and histograms, and the verdicts.

    `$defs` of `drift.schema.json` says what the columns are. yes and no are 1 and 0.
    """
    rows: list[list[Any]] = [
        ["section", "recipe", "style", "column", "group", "measure", "value", "low", "high", "count", "of"]
    ]
    nowhere = ("", "", "", "")

    def add(section: str, place: Sequence[Any], name: str, value: Any, end: str = "") -> None:
        if isinstance(value, Mapping) and "interval" in value:
            number = next((value[k] for k in ("rate", "mean", "value", "difference") if k in value), None)
            ends = value["interval"] or (None, None)
            rows.append([section, *place, name + end, number, *ends, value.get("count"), value.get("of")])
        elif isinstance(value, Mapping):
            for key, inner in value.items():
                add(section, place, f"{name}.{key}" if name else key, inner, end)
        elif isinstance(value, int | float):
            rows.append([section, *place, name + end, value + 0, None, None, None, None])

    add("run", nowhere, "", report["run"] | {"far": report["far"]})
    add("failure_to_acquire", nowhere, "failure_to_acquire", report["failure_to_acquire"])
    add("overall", nowhere, "pending", report["run"]["pending"])
    add("overall", nowhere, "", report["overall"])
    for entry in report["styles"]:
        add("style", (entry["recipe"], entry["style"], "", ""), "", entry)
    for column, groups in report["groups"].items():
        for entry in groups:
            add("group", ("", "", column, entry["group"]), "", entry)
    for entry in report["verification"]:
        share = {"rate": entry["far_at_threshold"], "interval": entry["far_interval"]}
        said = {key: value for key, value in entry.items() if key not in ("genuine", "impostor")}
        add(
            "verification",
            (entry["recipe"], entry["style"], "", ""),
            entry["judge"],
            said | {"far_at_threshold": share},
        )
    add("separation", nowhere, "", report["separation"])
    for pair in report["alike"]:
        add("alike", ("", "", "subject", " and ".join(pair["subjects"])), "similarity", pair["similarity"])
    for entry in report["consistency"]:
        add("consistency", (entry["recipe"], entry["style"], "", ""), "", entry)
    if same := report["same_person"]:
        add("same_person", nowhere, "", same)
        for person in same["people"]:
            add("same_person", ("", "", "subject", person["subject"]), "", person)
    compared, said = report["comparison"] or {}, report["verdict"] or {}
    left_out = {k: len(v) if isinstance(v, list) else v for k, v in compared.get("not_paired", {}).items()}
    add("comparison", nowhere, "", compared | {"not_paired": left_out})
    for row in compared.get("rows", ()):
        add("comparison", *_where(row), row | {"of": row["people"]})
        place, name = _where(row)
        for key in ("baseline", "current", "tolerance", "detectable"):
            add("comparison", place, f"{name}.{key}", row[key])
        rows.append(["comparison", *place, f"{name}.verdict", row["verdict"], None, None, None, row["people"]])
    if said:
        rows.append(["verdict", *nowhere, "verdict", said["verdict"], None, None, None, None])
    add("verdict", nowhere, "power", said.get("power"))
    for row in (said.get("power") or {}).get("rows", ()):
        place, name = _where(row)
        add("verdict", place, f"power.{name}", {key: row[key] for key in ("detectable", "tolerance")})
    for job in report["jobs"]:
        where = (job["recipe"], job["style"], "subject", job["subject"])
        end = "".join(f"/{text}" for text in job["axes"].values()) + f"/{job['variant'] + 1}"
        add("picture", where, "accepted", job["state"] == "accepted", end)
        for key in ("attempts", "seconds", "seed", "quoted", "thresholds", "look", "nearest"):
            add("picture", where, key, job.get(key), end)
        for name in ("first", "delivered"):
            if attempt := job[name]:
                others = {key: value for key, value in attempt.items() if key not in ("similarity", "style_on_face")}
                add("picture", where, name, attempt["similarity"] | others, end)
                style = "style_on_face" if name == "delivered" else f"{name}.style_on_face"
                add("picture", where, style, attempt["style_on_face"], end)
    return rows


def _where(row: Mapping[str, Any]) -> tuple[tuple[str, str, str, str], str]:
    """Place and measure of a row of the comparison, as the CSV has them."""
    return ("", row["style"] or "", "", ""), row["measure"] + (f".{row['judge']}" if row["judge"] else "")


def write_report(
    folder: Path,
    baseline: Path | None = None,
    *,
    html: Path | None = None,
    json_file: Path | None = None,
    csv_file: Path | None = None,
) -> dict[str, Any]:
    """Measure a run, against a baseline if there is one, and write what is asked for; returns the report.

    Args:
        folder: A run.
        baseline: Another run, or the JSON of a report.
        html: The page.
        json_file: The numbers; also what a later run can be compared with.
        csv_file: The numbers as a table.

    Raises:
        CampaignError, EvaluationError, SettingsError: as `read_run`, `measure` and `read_baseline`.
    """
    run = read_run(folder)
    report = measure(run, read_baseline(baseline) if baseline else None)
    if json_file:
        write_json(json_file, report)
    if csv_file:
        text = io.StringIO(newline="")
        csv.writer(text).writerows([plain_cell(v) for v in row] for row in flat(report))
        write_bytes(csv_file, text.getvalue().encode("utf-8-sig"))
    if html:
        from portrait.report.page import render_page

        write_bytes(html, render_page(report, folder, baseline if baseline and baseline.is_dir() else None).encode())
    return report


def summary_lines(report: Mapping[str, Any]) -> list[str]:
    """The report in a few lines, for a terminal."""
    overall, missing = report["overall"], report["failure_to_acquire"]
    lines = []
    if report["verdict"]:
        lines.append(f"{report['verdict']['verdict'].upper()}: {report['verdict']['why']}")
    rate = overall["accepted"]
    low, high = rate["interval"]
    lines.append(
        f"accepted: {rate['count']} of {rate['of']} pictures of {overall['people']} people, {rate['rate']:.1%} "
        f"({low:.1%} to {high:.1%}); first attempts {overall['first_attempt_accepted']['rate']:.1%}"
    )
    if missing["count"]:
        lines.append(f"photos that could not be used: {missing['count']} of {missing['of']}")
    for judge, entry in overall["likeness"].items():
        lines.append(
            f"likeness by {judge}: {entry['quoted']['mean']:.3f} where the other judge chose "
            f"({entry['delivered']['mean']:.3f} in the pictures delivered)"
        )
    each = overall["attempts_per_accepted"]["value"]
    if each is not None:
        lines.append(f"per accepted picture: {each:.2f} attempts, {overall['seconds_per_accepted']['value']:.1f} s")
    odd = sum(entry["odd"] for entry in report["consistency"])
    swapped = sum(job.get("nearest", {}).get("margin", -1) > 0 for job in report["jobs"])
    if not report["run"]["settled"]:
        lines.append("another process works on this run: its pictures were not judged against everybody of it yet")
    if report["run"]["pending"]:
        lines.append(f"not made yet, and in no figure: {report['run']['pending']} pictures")
    if overall["failed"]:
        lines.append(f"failed, though the photo could be used, and in no rate: {overall['failed']} pictures")
    if odd:
        lines.append(f"odd in their style: {odd} pictures")
    if swapped:
        lines.append(f"taken for somebody else of the run by every judge: {swapped} pictures")
    for pair in report["alike"][:6]:
        lines.append(
            f"{' and '.join(pair['subjects'])} look like one person to every judge and are not put against each other"
        )
    return lines
