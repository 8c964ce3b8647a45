"""The plots of a report, as SVG that inherits colors and font from the page."""

from __future__ import annotations

import html
import io
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter
from scipy.special import ndtri

from portrait.records.report import (
    Comparison,
    DriftReport,
    Outcome,
    Rate,
    Ratio,
    StyleSummary,
    VerificationEntry,
)
from portrait.report.words import measure_label, reason_label

INK, MUTED, GRID = "#101112", "#707172", "#d0d1d2"
ACCENT, SECOND, RED, GREEN = "#0f5b63", "#c46a2b", "#b3362b", "#2d6a4f"
_VARIABLES = {
    INK: "ink", MUTED: "muted", GRID: "line", ACCENT: "accent", SECOND: "second", RED: "bad", GREEN: "good",
}  # fmt: skip
_STYLES = ("#0f5b64", "#c46a2c", "#7a4e9e", "#4f7f3a", "#b0405f", "#3a6ea5", "#8a6d1d", "#5f6b73")
_LINEAR_REACH = 8.0  # tolerances; charts that exceed this are logarithmic beyond 2
_WIDTH = 4.0  # inches; the page shows it at 340 to 460 pixels

_LOOK: Any = {
    "text.parse_math": False,  # names may contain dollar signs
    "svg.fonttype": "none",
    "svg.hashsalt": "portrait",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
}


def draw_plots(report: DriftReport) -> dict[str, str]:
    """Name -> inline SVG of every plot for which this report has the numbers."""
    styles = [style for style in report.styles if style.pictures]
    with mpl.rc_context(_LOOK):
        plots = {"accepted": _accepted(styles), "effort": _effort(styles)}
        if any(style.reasons for style in styles):
            plots["reasons"] = _reasons(styles)
        by_judge: dict[str, list[VerificationEntry]] = {}
        for entry in report.verification:
            by_judge.setdefault(entry.judge, []).append(entry)
        for judge, entries in by_judge.items():
            plots[f"likeness {judge}"] = _likeness(judge, entries)
            plots[f"roc {judge}"] = _roc(judge, entries)
            plots[f"det {judge}"] = _det(judge, entries)
        if report.comparison and report.comparison.rows:
            plots["differences"] = _differences(report.comparison)
    return plots


def _figure(height: float) -> Figure:
    return Figure(figsize=(_WIDTH, height), layout="constrained")


def _svg(figure: Figure, name: str) -> str:
    """Inline SVG: colors as the page's variables, unique ids, and no size but an aspect ratio."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    for value, variable in _VARIABLES.items():
        text = text.replace(value, f"var(--{variable})")
    key = re.sub(r"\W+", "-", name)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", text)
    text = re.sub(r'xlink:href="#([^"]+)"', rf'xlink:href="#{key}-\1"', text)
    label = html.escape(name)
    text = re.sub(
        r'<svg [^>]*?viewBox="([^"]+)"[^>]*>',
        lambda tag: f'<svg class="plot" viewBox="{tag[1]}" role="img" aria-label="{label}">',
        text,
        count=1,
    )
    return re.sub(r"\n\s*", "\n", text)


def _names(entries: Sequence[StyleSummary | VerificationEntry]) -> list[str]:
    several = len({entry.recipe for entry in entries}) > 1
    return [f"{entry.style} · {entry.recipe}" if several else entry.style for entry in entries]


def _rows(axes: Axes, names: Sequence[str]) -> np.ndarray:
    """Label rows from the top, one name each; return their positions."""
    places = np.arange(len(names))[::-1]
    axes.set_yticks(places, names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    return places


def _accepted(styles: Sequence[StyleSummary]) -> str:
    figure = _figure(0.75 + 0.3 * len(styles))
    axes = figure.subplots()
    places = _rows(axes, _names(styles))
    first = [style.first_attempt_accepted for style in styles]
    final = [style.accepted for style in styles]
    _draw_rates(axes, places - 0.16, first, MUTED, "first attempt")
    _draw_rates(axes, places + 0.16, final, ACCENT, "in the end")
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100 %"])
    figure.legend(loc="outside upper left", ncols=2, handletextpad=0.3, columnspacing=1.2)
    return _svg(figure, "accept rate by style")


def _draw_rates(axes: Axes, places: np.ndarray, rates: Sequence[Rate | None], color: str, label: str) -> None:
    for place, rate in zip(places, rates, strict=True):
        if rate and rate.rate is not None:
            axes.plot(rate.interval, [place] * 2, color=color, lw=1.4, solid_capstyle="round")
            axes.plot(rate.rate, place, "o", color=color, ms=5)
    axes.plot([], [], "o", color=color, ms=5, label=label)


def _effort(styles: Sequence[StyleSummary]) -> str:
    styles = [style for style in styles if style.attempts_per_accepted and style.attempts_per_accepted.value]
    figure = _figure(0.75 + 0.3 * max(1, len(styles)))
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_ratios(left, styles, [style.attempts_per_accepted for style in styles], ACCENT, "attempts")
    _draw_ratios(right, styles, [style.seconds_per_accepted for style in styles], SECOND, "seconds")
    return _svg(figure, "attempts and seconds per accepted picture")


def _right_end(ratios: Sequence[Ratio | None]) -> float:
    """The end of an axis that has room for every value and upper end."""
    ends = [end for ratio in ratios if ratio for end in (ratio.value, ratio.interval[1]) if end is not None]
    return 1.12 * max(ends, default=1.0)


def _draw_ratios(
    axes: Axes, styles: Sequence[StyleSummary], ratios: Sequence[Ratio | None], color: str, title: str
) -> None:
    places = _rows(axes, _names(styles))
    right_end = _right_end(ratios)
    for place, ratio in zip(places, ratios, strict=True):
        if ratio is None or ratio.value is None:
            continue
        low, high = ratio.interval
        axes.plot([low or 0.0, right_end if high is None else high], [place] * 2, color=color, lw=1.4)
        if high is None:  # the interval has no upper end: in some draws nothing was accepted
            axes.plot(right_end, place, ">", color=color, ms=5, clip_on=False)
        axes.plot(ratio.value, place, "o", color=color, ms=5)
    axes.set_title(title)
    axes.set_xlim(0, right_end)


def _reasons(styles: Sequence[StyleSummary]) -> str:
    total: Counter[str] = Counter()
    for style in styles:
        total.update(style.reasons)
    by_count = [reason for reason, _ in total.most_common()]
    plotted = by_count if len(by_count) <= len(_STYLES) else by_count[: len(_STYLES) - 1]
    rare = by_count[len(plotted) :]
    bars = [(reason_label(reason), [reason]) for reason in plotted]
    if rare:
        bars.append((f"{len(rare)} rarer reasons", rare))
    figure = _figure(0.6 + 0.3 * len(styles) + 0.2 * len(bars))
    axes = figure.subplots()
    places = _rows(axes, _names(styles))
    start = np.zeros(len(styles))
    for color, (label, reasons) in zip(_STYLES, bars, strict=False):
        counts = np.array([sum(style.reasons.get(reason, 0) for reason in reasons) for style in styles])
        axes.barh(places, counts, left=start, height=0.55, color=color, label=label)
        start += counts
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("rejected pictures (a picture can have several reasons)")
    figure.legend(loc="outside upper left", ncols=1, handlelength=0.9)
    return _svg(figure, "reasons of rejection by style")


def _likeness(judge: str, entries: Sequence[VerificationEntry]) -> str:
    figure = _figure(0.8 + 0.52 * len(entries))
    axes = figure.subplots()
    places = _rows(axes, _names(entries))
    for place, entry in zip(places, entries, strict=True):
        for histogram, color in ((entry.impostor, MUTED), (entry.genuine, ACCENT)):
            counts = np.array(histogram.counts, float)
            edges = np.linspace(histogram.start, histogram.end, len(counts) + 1)
            smooth = np.convolve(counts, [0.25, 0.5, 0.25], "same")
            height = 0.78 * smooth / max(smooth.max(), 1e-9)
            middle = (edges[1:] + edges[:-1]) / 2
            axes.fill_between(middle, place - 0.35, place - 0.35 + height, color=color, alpha=0.55, lw=0)
        axes.plot([entry.threshold] * 2, [place - 0.4, place + 0.45], color=RED, lw=1.4)
    axes.plot([], [], color=ACCENT, lw=6, alpha=0.6, label="the person")
    axes.plot([], [], color=MUTED, lw=6, alpha=0.6, label="others")
    axes.plot([], [], color=RED, label="threshold")
    axes.set_ylim(-0.6, len(entries) - 0.3)
    axes.set_xlabel(f"similarity by {judge}")
    figure.legend(loc="outside upper left", ncols=3, handlelength=1.1, columnspacing=1.2)
    return _svg(figure, f"similarities by {judge}")


def _roc(judge: str, entries: Sequence[VerificationEntry]) -> str:
    figure = _figure(3.0)
    axes = figure.subplots()
    axes.set_xscale("log")
    for color, entry, name in zip(_STYLES * 9, entries, _names(entries), strict=False):
        points = np.array(entry.det)
        points = points[points[:, 1] > 0]  # a logarithmic axis cannot show 0 false accepts
        axes.plot(points[:, 1], 1 - points[:, 2], color=color, label=name, lw=1.3)
    axes.set_xlim(min(0.8 / entry.impostor_pairs for entry in entries), 1.0)
    axes.set_ylim(-0.03, 1.03)
    axes.grid()
    axes.set_xlabel("false accept rate (others that pass)")
    axes.set_ylabel("true accept rate")
    axes.set_title(f"ROC, {judge}")
    _legend(figure, entries)
    return _svg(figure, f"ROC by {judge}")


def _det(judge: str, entries: Sequence[VerificationEntry]) -> str:
    figure = _figure(3.0)
    axes = figure.subplots()
    ticks = np.array([0.001, 0.01, 0.05, 0.2, 0.5, 0.9])
    labels = [f"{tick:g}" for tick in ticks]
    ends = ndtri([0.0004, 0.93])
    for color, entry, name in zip(_STYLES * 9, entries, _names(entries), strict=False):
        rates = np.array(entry.det)[:, 1:]
        # That no error was observed does not mean a rate of 0: the curve ends before it.
        rates = rates[((rates > 0) & (rates < 1)).all(1)]
        label = name if len(rates) else f"{name} (no errors)"
        axes.plot(*ndtri(rates).T, color=color, label=label, lw=1.3)
    axes.set_xticks(ndtri(ticks), labels)
    axes.set_yticks(ndtri(ticks), labels)
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    axes.plot(ends, ends, color=GRID, lw=0.8)
    axes.grid()
    axes.set_xlabel("false accept rate")
    axes.set_ylabel("false reject rate")
    axes.set_title(f"DET, {judge}")
    _legend(figure, entries)
    return _svg(figure, f"DET by {judge}")


def _legend(figure: Figure, entries: Sequence[VerificationEntry]) -> None:
    if len(entries) <= 12:
        figure.legend(loc="outside lower left", ncols=4 if len(entries) > 3 else 3, handlelength=1.0, columnspacing=0.9)


def _differences(comparison: Comparison) -> str:
    """Each measure and style in units of its tolerance, so that all fit on one axis."""
    measures = list(dict.fromkeys((row.measure, row.judge) for row in comparison.rows))
    # By measure, each starting with that over all styles.
    rows = sorted(comparison.rows, key=lambda row: measures.index((row.measure, row.judge)))
    figure = _figure(0.9 + 0.19 * len(rows) + 0.2 * len(measures))
    axes = figure.subplots()
    axes.axvspan(-1, 1, color=GRID, alpha=0.45, lw=0)
    axes.axvline(0, color=MUTED, lw=0.8)
    places = _rows(axes, [row.style or measure_label(row.measure, row.judge) for row in rows])
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("normal" if row.style else "bold")
        label.set_color(MUTED if row.style else INK)
    colors: dict[Outcome, str] = {"stable": GREEN, "drifted": RED, "inconclusive": MUTED}
    for place, row in zip(places, rows, strict=True):
        low, high = (end / row.tolerance for end in row.interval)
        color = colors[row.verdict]
        axes.plot([low, high], [place] * 2, color=color, lw=1.5, solid_capstyle="round")
        axes.plot(row.difference / row.tolerance, place, "o", color=color, ms=3.5 if row.style else 5)
    _show_all(axes, max(abs(end) / row.tolerance for row in rows for end in row.interval))
    axes.set_xlabel("difference, in tolerances (gray band)")
    for name, color in colors.items():
        axes.plot([], [], "o-", color=color, ms=4, label=name)
    figure.legend(loc="outside upper left", ncols=3, handlelength=1.2, columnspacing=1.0)
    return _svg(figure, "differences to the baseline")


def _show_all(axes: Axes, furthest: float) -> None:
    """Extend the axis to the furthest end of an interval, in tolerances; logarithmic if that is far away."""
    reach = max(1.6, 1.05 * furthest)
    if reach > _LINEAR_REACH:  # otherwise small ones would be indistinguishable; nothing is cut off
        axes.set_xscale("symlog", linthresh=2, linscale=2)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        reach *= 1.3
    axes.set_xlim(-reach, reach)
