"""The plots of a report, as SVG that takes its colours and its font from the page."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import norm

from portrait.report.words import reason_label

INK, MUTED, GRID = "#101112", "#707172", "#d0d1d2"
ACCENT, SECOND, RED, GREEN = "#0f5b63", "#c46a2b", "#b3362b", "#2d6a4f"
_VARIABLES = {
    INK: "ink", MUTED: "muted", GRID: "line", ACCENT: "accent", SECOND: "second", RED: "bad", GREEN: "good",
}  # fmt: skip
_STYLES = ("#0f5b64", "#c46a2c", "#7a4e9e", "#4f7f3a", "#b0405f", "#3a6ea5", "#8a6d1d", "#5f6b73")
_WIDTH = 4.0  # inches; the page shows it at 340 to 460 pixels

_LOOK: Any = {
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


def plots(report: Mapping[str, Any]) -> dict[str, str]:
    """Name -> inline SVG of every plot that this report has the numbers for."""
    with mpl.rc_context(_LOOK):
        found = {"accepted": _accepted(report), "effort": _effort(report)}
        if any(style.get("reasons") for style in report["styles"]):
            found["reasons"] = _reasons(report)
        for judge in dict.fromkeys(entry["judge"] for entry in report["verification"]):
            own = [entry for entry in report["verification"] if entry["judge"] == judge]
            found[f"likeness {judge}"] = _likeness(judge, own)
            found[f"roc {judge}"] = _roc(judge, own)
            found[f"det {judge}"] = _det(judge, own)
        if report["comparison"] and report["comparison"]["rows"]:
            found["differences"] = _differences(report["comparison"])
    return found


def _figure(height: float, width: float = _WIDTH) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Figure, name: str) -> str:
    """Inline SVG: colours as the page's variables, ids of its own, no size but its shape."""
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
    text = re.sub(
        r'<svg [^>]*?viewBox="([^"]+)"[^>]*>',
        rf'<svg class="plot" viewBox="\1" role="img" aria-label="{name}">',
        text,
        count=1,
    )
    return re.sub(r"\n\s*", "\n", text)


def _names(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    several = len({entry["recipe"] for entry in entries}) > 1
    return [f"{entry['style']} · {entry['recipe']}" if several else entry["style"] for entry in entries]


def _rows(axes: Any, names: Sequence[str]) -> np.ndarray:
    """Rows from the top, one name each."""
    places = np.arange(len(names))[::-1]
    axes.set_yticks(places, names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    return places


def _accepted(report: Mapping[str, Any]) -> str:
    styles = [style for style in report["styles"] if style["pictures"]]
    figure = _figure(0.75 + 0.3 * len(styles))
    axes = figure.subplots()
    places = _rows(axes, _names(styles))
    for key, color, shift, label in (
        ("first_attempt_accepted", MUTED, -0.16, "first attempt"),
        ("accepted", ACCENT, 0.16, "in the end"),
    ):
        for n, (place, style) in enumerate(zip(places, styles, strict=True)):
            low, high = style[key]["interval"]
            axes.plot([low, high], [place + shift] * 2, color=color, lw=1.4, solid_capstyle="round")
            axes.plot(style[key]["rate"], place + shift, "o", color=color, ms=5, label=label if n == 0 else None)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100 %"])
    figure.legend(loc="outside upper left", ncols=2, handletextpad=0.3, columnspacing=1.2)
    return _svg(figure, "accept rate by style")


def _effort(report: Mapping[str, Any]) -> str:
    styles = [style for style in report["styles"] if style["pictures"] and style["attempts_per_accepted"]["value"]]
    figure = _figure(0.75 + 0.3 * max(1, len(styles)))
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, key, color, title in (
        (left, "attempts_per_accepted", ACCENT, "attempts"),
        (right, "seconds_per_accepted", SECOND, "seconds"),
    ):
        places = _rows(axes, _names(styles))
        ends = [end for style in styles for end in (style[key]["value"], style[key]["interval"][1]) if end is not None]
        right_end = 1.12 * max(ends, default=1.0)
        for place, style in zip(places, styles, strict=True):
            low, high = style[key]["interval"]
            value = style[key]["value"]
            axes.plot([low, right_end if high is None else high], [place] * 2, color=color, lw=1.4)
            if high is None:  # the interval has no upper end: some draws of people have nothing accepted
                axes.plot(right_end, place, ">", color=color, ms=5, clip_on=False)
            axes.plot(value, place, "o", color=color, ms=5)
        axes.set_title(title)
        axes.set_xlim(0, right_end)
    return _svg(figure, "attempts and seconds per accepted picture")


def _reasons(report: Mapping[str, Any]) -> str:
    styles = [style for style in report["styles"] if style["pictures"]]
    total: dict[str, int] = {}
    for style in styles:
        for reason, count in style["reasons"].items():
            total[reason] = total.get(reason, 0) + count
    reasons = sorted(total, key=lambda reason: -total[reason])
    rest = reasons[len(_STYLES) - 1 :] if len(reasons) > len(_STYLES) else []
    reasons = [*reasons[: len(reasons) - len(rest)], *([""] if rest else [])]  # "": the rarer ones together
    figure = _figure(0.6 + 0.3 * len(styles) + 0.2 * len(reasons))
    axes = figure.subplots()
    places = _rows(axes, _names(styles))
    start = np.zeros(len(styles))
    for color, reason in zip(_STYLES, reasons, strict=False):
        counts = np.array([sum(style["reasons"].get(r, 0) for r in ([reason] if reason else rest)) for style in styles])
        label = reason_label(reason) if reason else f"{len(rest)} rarer reasons"
        axes.barh(places, counts, left=start, height=0.55, color=color, label=label)
        start += counts
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("rejected pictures (a picture can have several reasons)")
    figure.legend(loc="outside upper left", ncols=1, handlelength=0.9)
    return _svg(figure, "reasons of rejection by style")


def _likeness(judge: str, entries: Sequence[Mapping[str, Any]]) -> str:
    figure = _figure(0.8 + 0.52 * len(entries))
    axes = figure.subplots()
    places = _rows(axes, _names(entries))
    for place, entry in zip(places, entries, strict=True):
        for key, color in (("impostor", MUTED), ("genuine", ACCENT)):
            histogram = entry[key]
            counts = np.array(histogram["counts"], float)
            edges = np.linspace(histogram["from"], histogram["to"], len(counts) + 1)
            smooth = np.convolve(counts, [0.25, 0.5, 0.25], "same")
            height = 0.78 * smooth / max(smooth.max(), 1e-9)
            middle = (edges[1:] + edges[:-1]) / 2
            axes.fill_between(middle, place - 0.35, place - 0.35 + height, color=color, alpha=0.55, lw=0)
        axes.plot([entry["threshold"]] * 2, [place - 0.4, place + 0.45], color=RED, lw=1.4)
    axes.plot([], [], color=ACCENT, lw=6, alpha=0.6, label="the person")
    axes.plot([], [], color=MUTED, lw=6, alpha=0.6, label="others")
    axes.plot([], [], color=RED, label="threshold")
    axes.set_ylim(-0.6, len(entries) - 0.3)
    axes.set_xlabel(f"similarity by {judge}")
    figure.legend(loc="outside upper left", ncols=3, handlelength=1.1, columnspacing=1.2)
    return _svg(figure, f"similarities by {judge}")


def _roc(judge: str, entries: Sequence[Mapping[str, Any]]) -> str:
    figure = _figure(3.0)
    axes = figure.subplots()
    axes.set_xscale("log")
    for color, entry, name in zip(_STYLES * 9, entries, _names(entries), strict=False):
        points = np.array(entry["det"])
        far = np.maximum(points[:, 1], 0.3 / entry["impostor_pairs"])
        axes.plot(far, 1 - points[:, 2], color=color, label=name, lw=1.3)
    axes.set_xlim(min(0.3 / entry["impostor_pairs"] for entry in entries), 1.0)
    axes.set_ylim(-0.03, 1.03)
    axes.grid()
    axes.set_xlabel("false accept rate (others that pass)")
    axes.set_ylabel("true accept rate")
    axes.set_title(f"ROC, {judge}")
    _legend(figure, entries)
    return _svg(figure, f"ROC by {judge}")


def _det(judge: str, entries: Sequence[Mapping[str, Any]]) -> str:
    figure = _figure(3.0)
    axes = figure.subplots()
    ticks = np.array([0.001, 0.01, 0.05, 0.2, 0.5, 0.9])
    for color, entry, name in zip(_STYLES * 9, entries, _names(entries), strict=False):
        points = np.array(entry["det"])
        far = np.clip(points[:, 1], 0.3 / entry["impostor_pairs"], 1 - 1e-4)
        frr = np.clip(points[:, 2], 0.3 / entry["genuine_pairs"], 1 - 1e-4)
        axes.plot(norm.ppf(far), norm.ppf(frr), color=color, label=name, lw=1.3)
    for axis, setter in ((axes.set_xticks, axes.set_xlim), (axes.set_yticks, axes.set_ylim)):
        axis(norm.ppf(ticks), [f"{tick:g}" for tick in ticks])
        setter(norm.ppf(0.0004), norm.ppf(0.93))
    axes.plot(norm.ppf([0.0004, 0.93]), norm.ppf([0.0004, 0.93]), color=GRID, lw=0.8)
    axes.grid()
    axes.set_xlabel("false accept rate")
    axes.set_ylabel("false reject rate")
    axes.set_title(f"DET, {judge}")
    _legend(figure, entries)
    return _svg(figure, f"DET by {judge}")


def _legend(figure: Figure, entries: Sequence[Mapping[str, Any]]) -> None:
    if len(entries) <= 12:
        figure.legend(loc="outside lower left", ncols=4 if len(entries) > 3 else 3, handlelength=1.0, columnspacing=0.9)


def _differences(comparison: Mapping[str, Any]) -> str:
    """Each measure and style in units of its tolerance, so that all can stand on one axis."""
    rows = comparison["rows"]
    measures = list(dict.fromkeys((row["measure"], row["judge"]) for row in rows))
    styles = list(dict.fromkeys(row["style"] for row in rows))
    figure = _figure(0.9 + 0.19 * len(rows) + 0.2 * len(measures), width=_WIDTH)
    axes = figure.subplots()
    names, values = [], []
    for measure, judge in measures:
        title = {"likeness": f"likeness, {judge}", "style_on_face": "style on the face", "accepted": "accept rate"}[
            measure
        ]
        own = [
            row
            for style in styles
            for row in rows
            if (row["measure"], row["judge"], row["style"]) == (measure, judge, style)
        ]
        for row in own:
            names.append(title if row["style"] is None else f"{row['style']}")
            values.append(row)
    axes.axvspan(-1, 1, color=GRID, alpha=0.45, lw=0)
    axes.axvline(0, color=MUTED, lw=0.8)
    places = _rows(axes, names)
    colors = {"stable": GREEN, "drifted": RED, "too few to say": MUTED}
    reach = 1.6
    for place, row in zip(places, values, strict=True):
        low, high = (end / row["tolerance"] for end in row["interval"])
        color = colors[row["verdict"]]
        axes.plot([low, high], [place] * 2, color=color, lw=1.5, solid_capstyle="round")
        axes.plot(row["difference"] / row["tolerance"], place, "o", color=color, ms=5 if row["style"] is None else 3.5)
        reach = max(reach, min(8.0, max(abs(low), abs(high)) * 1.05))
    for label, row in zip(axes.get_yticklabels(), values, strict=True):
        label.set_fontweight("bold" if row["style"] is None else "normal")
        label.set_color(INK if row["style"] is None else MUTED)
    axes.set_xlim(-reach, reach)
    axes.set_xlabel("difference, in tolerances (grey band)")
    for name, color in colors.items():
        axes.plot([], [], "o-", color=color, ms=4, label=name)
    figure.legend(loc="outside upper left", ncols=3, handlelength=1.2, columnspacing=1.0)
    return _svg(figure, "differences to the baseline")
