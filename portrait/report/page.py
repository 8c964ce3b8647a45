"""A report as one self-contained, printable HTML page, which loads nothing from elsewhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape
from PIL import Image, ImageOps

from portrait.campaign.files import PICTURES, before_file
from portrait.images.decode import open_picture, read_file
from portrait.paths import below
from portrait.provenance.mark import xmp_mark
from portrait.records.report import DriftReport, ReportJob
from portrait.report.compare import STYLE_TOLERANCE, TOLERANCE, Place, place_function
from portrait.report.drift import compute_report
from portrait.report.plots import draw_plots
from portrait.report.runs import Run, read_baseline, read_run
from portrait.report.words import chooser, measure_label, reason_label

MAX_PICTURES = 1000
"""Maximum number of pictures shown, the worst ones; the numbers cover all."""
_BUDGET = 14e6
"""Bytes of all thumbnails on a page, before base64 makes them a third larger; each may use its share."""
_SIDES = ((384, 21e3), (320, 15e3), (256, 10e3), (208, 7e3), (160, 4.6e3), (128, 0.0))
"""Side of a thumbnail in pixels, and the smallest share of bytes for which it is chosen."""
_QUALITIES = (82, 72, 60, 45, 30, 15, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A picture on the page.

    `files` is the name of the person's files if it differs, `reasons` what is wrong with the picture, `margin` the distance
    to the judges' thresholds as a share of the gap between the person and strangers; `picture` and `old` are data URIs,
    empty if the file was removed.
    """

    job: ReportJob
    files: str
    style: str
    texts: str
    reasons: tuple[str, ...]
    margin: float
    before: str
    picture: str = ""
    old: str = ""


def drift_page(run: Path, baseline: Path | None = None) -> str:
    """The page of a run's folder as HTML text, compared with a baseline (a run or a report's JSON) if there is one.

    Raises:
        CampaignError, EvaluationError, SettingsError: as `read_run`, `read_baseline` and `compute_report`.
    """
    current = read_run(run)
    earlier = read_baseline(baseline) if baseline else None
    return render_page(compute_report(current, earlier), run, earlier)


def render_page(report: DriftReport, run: Path, baseline: Run | None = None) -> str:
    """Render the page of a report.

    Pictures that are not in the run's folder any more are shown as empty frames. Those of a baseline can be put beside them;
    the JSON of a report has none.
    """
    old_folder = baseline.folder if baseline else None
    old_file = _same_picture_in(baseline.jobs if baseline else [], report)
    all_cards = _cards(report)
    cards = all_cards[:MAX_PICTURES]
    befores = sorted({card.before for card in cards})
    share = _BUDGET / max(1, len(cards) * (2 if old_folder else 1) + len(befores))
    side = next(side for side, min_share in _SIDES if share >= min_share)
    mark = xmp_mark(tool=False).encode()
    cards = [replace(card, picture=_thumbnail(run, card.job.output, side, share, mark)) for card in cards]
    if old_folder:
        cards = [replace(card, old=_thumbnail(old_folder, old_file(card.job), side, share, mark)) for card in cards]
    environment = Environment(
        loader=PackageLoader("portrait.report", "templates"),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"pct": _percent, "num": _number, "reason": reason_label}
    return environment.get_template("drift.html").render(
        report=report,
        cards=cards,
        hidden=len(all_cards) - len(cards),
        before_class={key: f"b{n}" for n, key in enumerate(befores)},
        befores={f"b{n}": _thumbnail(run, key, side, share) for n, key in enumerate(befores)},
        plots=draw_plots(report),
        measure_label=measure_label,
        chooser=chooser(report.run.judges),
        styles=list(dict.fromkeys(card.style for card in cards)),
        reasons=list(dict.fromkeys(reason for card in cards for reason in card.reasons)),
        tolerance=TOLERANCE,
        style_tolerance=STYLE_TOLERANCE,
        side=side,
    )


def _same_picture_in(baseline: Sequence[ReportJob], report: DriftReport) -> Callable[[ReportJob], str | None]:
    """A function that maps a job of the report to the baseline's file of the same picture of the same photo."""
    place = place_function(report.jobs, baseline)
    files: dict[tuple[Place, str], str | None] = {(place(job), job.photo): job.output for job in baseline}
    return lambda job: files.get((place(job), job.photo))


def _cards(report: DriftReport) -> list[Card]:
    """One card per picture, the worst first: rejected ones, then by distance to the judges' thresholds."""
    several = len({job.recipe for job in report.jobs}) > 1
    gaps = {judge: gap for judge, gap in report.genuine_impostor_gap.items() if gap > 0}
    cards = [
        Card(
            job=job,
            files=_other_name(job),
            style=f"{job.style} · {job.recipe}" if several else job.style,
            texts=", ".join(filter(None, job.axes.values())),
            reasons=(*job.reasons, *_flags(job)),
            margin=min(
                (job.delivered.similarity[judge] - threshold) / gaps.get(judge, 1.0)
                for judge, threshold in job.thresholds.items()
            ),
            before=_before(job),
        )
        for job in report.jobs
        if job.delivered
    ]
    return sorted(cards, key=lambda card: (card.job.state == "accepted", not card.reasons, card.margin))


def _before(job: ReportJob) -> str:
    """The file of the framed photo; empty if there is no picture."""
    return before_file(job.output.removeprefix(f"{PICTURES}/")) if job.output else ""


def _other_name(job: ReportJob) -> str:
    """The name of the person's files if it differs from the person's name."""
    folder = Path(_before(job)).parent.name
    return "" if folder == job.subject else folder


def _flags(job: ReportJob) -> list[str]:
    """What is remarkable about a picture besides its verdict."""
    flags = []
    if job.appearance and job.appearance.odd:
        flags.append("odd in its style")
    if job.nearest and job.nearest.margin > 0 and "swapped" not in job.reasons:
        flags.append("more like somebody else")
    return flags


def _thumbnail(folder: Path, file: str | None, side: int, share: float, mark: bytes = b"") -> str:
    """A small WebP of at most `share` bytes as a data URI; empty if there is no readable picture.

    `mark` is the AI mark, as XMP, of a generated picture.
    """
    if not file:
        return ""
    try:
        with open_picture(read_file(below(folder, file)), file) as image:
            image.draft("RGB", (side, side))
            small = ImageOps.contain(image.convert("RGB"), (side, side), Image.Resampling.LANCZOS)
    except Exception:  # the run may be untrusted, and decoders raise OSError, SyntaxError, ValueError, ...
        return ""
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        small.save(buffer, "WEBP", quality=quality, method=4, xmp=mark)
        if buffer.tell() <= share:
            break
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _percent(value: float | None, places: int = 0) -> str:
    return "–" if value is None else f"{100 * value:.{places}f} %"


def _number(value: float | None, places: int = 2) -> str:
    return "–" if value is None else f"{value:.{places}f}"
