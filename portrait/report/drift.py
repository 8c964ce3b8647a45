"""What a run did to identity and style, in numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

import portrait
from portrait.errors import EvaluationError
from portrait.report.compare import compare
from portrait.report.runs import SCHEMA, Run
from portrait.report.summary import _groups, _rate, _summary
from portrait.report.verification import _note_confusion, _same_person, _verification

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
