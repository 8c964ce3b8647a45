"""One self-contained HTML page of a report: nothing is loaded from anywhere, and it prints."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from PIL import Image, ImageOps

from portrait.campaign.files import before_file
from portrait.report.compare import STYLE_TOLERANCE, TOLERANCE, pairing
from portrait.report.drift import measure
from portrait.report.plots import plots
from portrait.report.runs import read_baseline, read_run
from portrait.report.words import in_words, reason_label

MOST_PICTURES = 1000
"""So many pictures are shown, the worst ones; the numbers are of all."""
_BUDGET = 14e6
"""Bytes of thumbnails on a page, before base64 makes them a third larger; no thumbnail takes more than its share."""
_SIDES = ((384, 21e3), (320, 15e3), (256, 10e3), (208, 7e3), (160, 4.6e3), (128, 0.0))
"""Side of a thumbnail in pixels, and the least share of bytes at which it is chosen."""
_QUALITIES = (82, 72, 60, 45, 30, 15, 1)


def drift_page(run: Path, baseline: Path | None = None) -> str:
    """The page of a run's folder as HTML text, against a baseline (a run or a report's JSON) if there is one.

    Raises:
        CampaignError, EvaluationError, SettingsError: as `runs.read_run`, `measure` and `read_baseline`.
    """
    report = measure(read_run(run), read_baseline(baseline) if baseline else None)
    return render_page(report, run, baseline if baseline and baseline.is_dir() else None)


def render_page(report: Mapping[str, Any], run: Path, baseline: Path | None = None) -> str:
    """The page of a report that `drift.measure` made.

    Args:
        report: The numbers.
        run: The run's folder, for the pictures; those that are not there any more are shown as empty frames.
        baseline: The folder of the baseline, if it is one: its picture can be put beside each.
    """
    cards = _cards(report)
    shown = cards[:MOST_PICTURES]
    befores = {card["before"] for card in shown}
    others = len(shown) if baseline else 0
    share = _BUDGET / max(1, len(shown) + len(befores) + others)
    side = next(side for side, least in _SIDES if share >= least)
    earlier = read_run(baseline).jobs if baseline else []
    place = pairing(report["jobs"], earlier)
    old = {(*place(job), job["photo"]): job["output"] for job in earlier if job["output"]}
    for card in shown:
        before = old.get((*place(card["job"]), card["job"]["photo"]))
        card["picture"] = _thumbnail(run / card["job"]["output"], side, share) if card["job"]["output"] else ""
        card["old"] = _thumbnail(baseline / before, side, share) if baseline and before else ""
    environment = Environment(
        loader=PackageLoader("portrait.report", "templates"),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"pct": _percent, "num": _number, "words": in_words, "reason": reason_label}
    keys = sorted(befores)
    return environment.get_template("drift.html").render(
        report=report,
        cards=shown,
        hidden=len(cards) - len(shown),
        before_class={key: f"b{n}" for n, key in enumerate(keys)},
        befores={f"b{n}": _thumbnail(run / key, side, share) for n, key in enumerate(keys)},
        plots=plots(report),
        styles=list(dict.fromkeys(card["style"] for card in shown)),
        reasons=list(dict.fromkeys(reason for card in shown for reason in card["reasons"])),
        tolerance=TOLERANCE,
        style_tolerance=STYLE_TOLERANCE,
        side=side,
    )


def _cards(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A dictionary per picture, the worst first: rejected ones, then by what is missing to the judges' limits."""
    several = len({job["recipe"] for job in report["jobs"]}) > 1
    cards = []
    for job in report["jobs"]:
        if not job["delivered"]:
            continue
        scores = job["delivered"]["similarity"]
        separation = report["separation"]
        margins = {j: (scores[j] - limit) / separation.get(j, 1.0) for j, limit in job["thresholds"].items()}
        flags = []
        if job.get("look", {}).get("odd"):
            flags.append("odd in its style")
        if job.get("nearest", {}).get("margin", -1.0) > 0 and "swapped" not in job["reasons"]:
            flags.append("more like somebody else")
        cards.append(
            {
                "job": job,
                "style": f"{job['style']} · {job['recipe']}" if several else job["style"],
                "texts": ", ".join(text for text in job["axes"].values() if text),
                "reasons": [*job["reasons"], *flags],
                "margin": min(margins.values()),
                "before": before_file(job["subject"], job["recipe"]),
            }
        )
    cards.sort(key=lambda card: (card["job"]["state"] == "accepted", not card["reasons"], card["margin"]))
    return cards


def _thumbnail(path: Path, side: int, share: float) -> str:
    """A small WebP of at most `share` bytes as a data URI; empty when the picture cannot be read."""
    try:
        with Image.open(path) as image:
            image.draft("RGB", (side, side))
            small = ImageOps.contain(image.convert("RGB"), (side, side), Image.Resampling.LANCZOS)
    except OSError:
        return ""
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        small.save(buffer, "WEBP", quality=quality, method=4)
        if buffer.tell() <= share:
            break
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _percent(value: float | None, places: int = 0) -> str:
    return "–" if value is None else f"{100 * value:.{places}f} %"


def _number(value: float | None, places: int = 2) -> str:
    return "–" if value is None else f"{value:.{places}f}"
