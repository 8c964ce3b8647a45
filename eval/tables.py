"""Write the tables of measurements in README.md, docs/ and the model card from the results in eval/.

    python eval/tables.py            # rewrites every table between its markers
    python eval/tables.py --check    # changes nothing; exits with 1 if a table is out of date

A table is the text between `<!-- table: NAME -->` and `<!-- end of table -->`, where NAME is a key of `TABLES`. Measured
numbers are never typed: run the script that measures them, then this one.
"""

from __future__ import annotations

import argparse
import json
import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from groups import gaps, labels
from groups import table as groups_table
from held_out_people import RUNTIME, measured_on, weights_today
from skin import table as skin_table

HERE = Path(__file__).parent
ROOT = HERE.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "weights" / "mini" / "README.md"]
_MARKED = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n)(?P<body>.*?)(<!-- end of table -->)", re.S)


_notes: set[str] = set()
"""The lines to write below the table that is being made: what in it is older than the shipped model or its runtime."""


def results(name: str) -> dict[str, Any]:
    """What `eval/NAME.py` wrote."""
    content: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text("utf-8"))
    if "weights" in content and not content["weights"].items() >= weights_today().items():
        _notes.add(of_earlier_weights(name))
    return content


def timed_results(name: str) -> dict[str, Any]:
    """What `eval/NAME.py` wrote, for a table that shows seconds or memory."""
    content = results(name)
    if content.get("runtime") != RUNTIME:
        _notes.add(of_another_runtime(name, content.get("runtime")))
    return content


def not_measured(script: str) -> str:
    """The text in place of a table without a result, which needs no notes."""
    _notes.clear()
    return f"*Not measured yet: `python eval/{script}.py`.*\n"


def of_earlier_weights(script: str) -> str:
    """The line below a table that new weights may have changed."""
    return f"*Measured with earlier weights of `mini`; `python eval/{script}.py` measures it anew.*\n"


def of_another_runtime(script: str, runtime: str | None) -> str:
    """The line below a table whose seconds and memory are those of another runtime, or of a time when there was only torch."""
    measured = f"in {runtime}" if runtime else "in torch, before `mini` ran in onnxruntime"
    return f"*Seconds and memory were measured {measured}; `python eval/{script}.py` measures them anew.*\n"


def cores(result: dict[str, Any]) -> str:
    """The hardware on which the seconds of a result were measured."""
    count = result.get("cores", 1)
    return "one core" if count == 1 else f"{count} cores"


def shipped_thresholds() -> dict[str, Any]:
    """The calibration of `mini` that is part of the package."""
    path = ROOT / "portrait" / "recipes" / "mini.thresholds.json"
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(cells) + " |\n" for cells in (header, *rows)]
    lines.insert(1, "|---" * len(header) + "|\n")
    return "".join(lines)


def interval(low: float, high: float) -> str:
    """Two shares as percentages."""
    return f"{low:.0%} to {high:.0%}"


def held_out() -> str:
    """Per style: likeness to oneself and to others, and how many portraits were accepted."""
    styles = results("held_out")["styles"]
    calibrated = shipped_thresholds()["styles"]
    rows = []
    for style, row in styles.items():
        judges = calibrated[style]["recognisers"]
        first = calibrated[style]["first_attempt_accepted"]["0.001"]["rate"]
        rows.append(
            [
                style,
                f"{judges['arcface']['genuine_mean']:.2f} / {judges['arcface']['impostor_mean']:.2f}",
                f"{judges['dlib']['genuine_mean']:.3f} / {judges['dlib']['impostor_mean']:.3f}",
                f"{row['first attempt']} of {row['portraits']} ({interval(*row['first attempt, wilson'])})",
                f"{row['accepted']} of {row['portraits']} ({interval(*row['accepted, wilson'])})",
                f"{first:.0%}",
                f"{row['style_on_face, median']:.2f}",
            ]
        )
    header = [
        "style",
        "ArcFace own / others",
        "dlib own / others",
        "first attempt, FAR 0.01",
        "within three attempts, FAR 0.01",
        "first attempt, FAR 0.001",
        "style on face, median",
    ]
    return markdown(header, rows)


def held_out_summary() -> str:
    """All styles together, as one paragraph."""
    result = timed_results("held_out")
    total = result["all"]
    low, high = total["accepted, wilson"]
    unmeasured = [row for row in result["rows"] if row["person"] not in measured_on()]
    text = (
        f"{total['people']} people that training never saw, in every style: {total['first attempt']} of "
        f"{total['portraits']} portraits are accepted at the first attempt and {total['accepted']} within three "
        f"({interval(low, high)}: Wilson's 95 % interval over people), at a false accept rate of 0.01 and "
        f"{total['seconds per accepted']:.1f} s per accepted portrait on {cores(result)} with AVX-512. "
        f"The curves that move the knobs were measured on {len(measured_on())} of these people; of the portraits of the others "
        f"{sum(row['first_accepted'] for row in unmeasured)} of {len(unmeasured)} are accepted at first, "
        f"{sum(row['accepted'] for row in unmeasured)} within three. The default allows four attempts."
    )
    return textwrap.fill(text, 120) + "\n"


def groups() -> str:
    """The held-out results by group of people."""
    return groups_table(results("held_out")["rows"], labels())


def ablation() -> str:
    """What each part of `mini` contributes; in brackets the paired difference from the default."""
    names = {
        "default": "default",
        "no adapter": "without the adapter",
        "no structure": "without structure",
        "no guidance": "without guidance",
        "plain img2img": "plain img2img: no adapter, no structure, strength 0.5",
        "filter": "the classical filter alone",
    }
    formats = {"arcface": ".3f", "dlib": ".4f", "style_on_face": ".3f"}
    result = timed_results("ablation")
    parts = result["parts"]
    rows = []
    for part in parts:
        cells = [names[part]]
        for measure, digits in formats.items():
            value = parts[part][measure]
            gap = value.get("against default")
            change = "" if gap is None or part == "default" else f" ({gap[1]:+{digits}} to {gap[2]:+{digits}})"
            cells.append(f"{value['mean']:{digits}}{change}")
        cells.append(f"{parts[part]['accepted']['mean']:.0%}")
        cells.append(f"{parts[part]['seconds']['mean']:.2f}")
        rows.append(cells)
    return markdown(["", "ArcFace", "dlib", "style on face", "accepted", f"seconds, {cores(result)}"], rows)


def robustness() -> str:
    """The robustness of `mini` to photos that were degraded in ordinary ways."""
    rows = []
    for photo, row in results("robustness")["photos"].items():
        rows.append(
            [
                photo,
                f"{row['accepted']} of {row['pictures']} ({interval(*row['wilson'])})",
                f"{row['arcface']:.2f}",
                f"{row['arcface against the clean photo']:.2f}",
            ]
        )
    header = ["photo", "first attempts accepted, FAR 0.01", "ArcFace to the degraded photo", "to the good one"]
    return markdown(header, rows)


def loop(setting: str) -> str:
    """The closed loop and its baselines in one setting of `eval/loop.py`."""
    rows = []
    result = timed_results("loop")
    for arm, row in result["settings"][setting]["arms"].items():
        accepted, low, high = row["accepted"]
        rows.append(
            [
                arm,
                f"{accepted:.0%} ({interval(low, high)})",
                f"{row['style_of_accepted']:.3f}",
                f"{row['arcface']:.3f}",
                f"{row['dlib']:.4f}",
                f"{row['passes_per_accepted']:.1f}",
                f"{row['seconds_per_accepted']:.1f}",
            ]
        )
    header = [
        "",
        "accepted",
        "style of accepted",
        "ArcFace",
        "dlib",
        "UNet passes per accepted",
        f"seconds, {cores(result)}",
    ]
    return markdown(header, rows)


def loop_gain(setting: str) -> str:
    """The difference of the loop from each baseline, paired by person, style and seed."""
    rows = []
    for arm, baselines in results("loop")["settings"][setting]["loop_minus"].items():
        for baseline, gains in baselines.items():
            accepted, style, passes = gains["accepted"], gains["style"], gains["passes"]
            rows.append(
                [
                    f"{arm}, minus {baseline}",
                    f"{accepted[0]:+.0%} ({accepted[1]:+.0%} to {accepted[2]:+.0%})",
                    f"{style[0]:+.3f} ({style[1]:+.3f} to {style[2]:+.3f})",
                    f"{passes[0]:+.1f} ({passes[1]:+.1f} to {passes[2]:+.1f})",
                ]
            )
    return markdown(["", "accepted", "style, rejected counting as 0", "UNet passes"], rows)


def one_judge(setting: str) -> str:
    """How often the judge that did not decide accepts what the other one chose."""
    rows = []
    for arm, row in results("loop")["settings"][setting]["arms"].items():
        other, low, high = row["accepted_also_by_the_other_judge"]
        rows.append([arm, f"{row['accepted'][0]:.0%}", f"{other:.0%} ({interval(low, high)})"])
    return markdown(["", "accepted by the judge that decides", "by the other judge too"], rows)


def thresholds() -> str:
    """Photo-to-photo thresholds beside calibrated ones at the same false accept rate."""
    rows = []
    for style, judges in results("thresholds")["styles"].items():
        for judge in ("arcface", "dlib"):
            photo, calibrated = judges[judge]["photo"], judges[judge]["calibrated"]
            rows.append(
                [
                    style,
                    judge,
                    f"{photo['threshold']:.3f}",
                    f"{photo['tar']:.0%}",
                    f"{photo['far']:.2%}",
                    f"{calibrated['threshold']:.3f}",
                    f"{calibrated['tar']:.0%}",
                    f"{calibrated['far']:.2%}",
                ]
            )
    header = ["style", "judge", "photo threshold", "TAR", "FAR", "calibrated threshold", "TAR", "FAR"]
    return markdown(header, rows)


_JUDGES = {"arcface": "ArcFace", "dlib": "dlib", "sface": "SFace"}


def adapter() -> str:
    """Likeness against the identity adapter's scale, and the paired differences."""
    result = results("adapter")
    likeness, difference = result["likeness"], result["difference"]
    judges = list(next(iter(likeness.values())))
    titles = [_JUDGES[judge] for judge in judges]
    rows = [[name, *(f"{scores[judge]:.4f}" for judge in judges)] for name, scores in likeness.items()]
    text = markdown(["identity adapter", *titles], rows)
    rows = []
    for pair in dict.fromkeys(key.rpartition(", ")[0] for key in difference):
        gaps = [difference[f"{pair}, {judge}"] for judge in judges]
        rows.append([pair, *(f"{mean:+.4f} ({low:+.4f} to {high:+.4f})" for mean, low, high in gaps)])
    return text + "\n" + markdown(["difference", *titles], rows)


def dial() -> str:
    """How much the dial and the seed change one face."""
    result = results("dial")
    header = [
        "style",
        "balance 0 against 1",
        "two seeds",
        *(_JUDGES[j] for j in _JUDGES if j in _first(result["styles"])),
        "accepted",
    ]
    rows = []
    for style, row in result["styles"].items():
        likeness = [f"{row[judge]:.3f}" for judge in _JUDGES if judge in row]
        rows.append([style, f"{row['dial']:.1f}", f"{row['seeds']:.1f}", *likeness, "yes" if row["accepted"] else "no"])
    for title, row in (("oil, comic, watercolor", result["named"]), ("all styles", result["all"])):
        rows.append([f"**{title}**", f"{row['dial']:.1f}", f"{row['seeds']:.1f}", *[""] * (len(header) - 3)])
    return markdown(header, rows)


def _first(table: dict[str, Any]) -> Any:
    return next(iter(table.values()))


def skin() -> str:
    """Whether the order of skin tones is preserved."""
    rows = results("held_out")["rows"]
    return skin_table(rows, labels()) if "lightness" in rows[0] else not_measured("held_out")


def grid() -> str:
    """Whether the latents' cells can be seen in flat areas."""
    result = results("grid")
    frequencies = list(_first(result["styles"])["pictures"])
    rows = []
    for style, row in result["styles"].items():
        painters = row["painters"] or {}
        cells = [
            f"{row['pictures'][f]:.1f} / {painters[f]:.1f}" if painters else f"{row['pictures'][f]:.1f}"
            for f in frequencies
        ]
        rows.append([style, *cells])
    return markdown(["style", *(f"{f} cycles a pixel" for f in frequencies)], rows)


def speed() -> str:
    """Seconds and memory at every size."""
    result = timed_results("speed")
    rows = [
        [f"{size} px", f"{row['draw']:.2f}", f"{row['judge']:.2f}", f"{row['peak_mib']:,}"]
        for size, row in result["sizes"].items()
    ]
    return markdown(["size", f"seconds to draw, {cores(result)}", "seconds to judge", "peak memory, MiB"], rows)


def latency() -> str:
    """Seconds from the shell and of an attempt, on a quiet machine and beside busy processes."""
    result = timed_results("latency")
    beside = [name for name in result if name.startswith(("quiet", "beside"))]

    def row(title: str, *path: str, unit: str = "{:.2f}") -> list[str]:
        return [title, *(unit.format(value) if (value := _at(result[name], path)) else "-" for name in beside)]

    rows = [
        row("`portrait stylize`, from the shell to the written picture", "cold", "median"),
        row("one attempt, models loaded", "warm", "attempt", "median"),
        row("- drawing", "warm", "drawing", "median"),
        row("- of which marks to pixels", "warm", "rasterizer", "median"),
        row("- judging", "warm", "judging", "median"),
        row(
            "rate of the networks as a share of a large matrix product's", "warm", "share_of_matmul_rate", unit="{:.0%}"
        ),
        row("memory of `portrait stylize`, MB", "cold", "megabytes", unit="{:,.0f}"),
    ]
    rows = [cells for cells in rows if set(cells[1:]) != {"-"}]
    machine = f"{result['processor']}, {cores(result)}"
    named = (name.replace("1 busy processes", "1 busy process") for name in beside)
    pipes = {name: row["least"] for name, row in result["diffusers"].items() if isinstance(row, dict)}
    turns = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in pipes.items())
    return (
        markdown([f"seconds on {machine}", *named], rows)
        + f"\nThe same weights in portrait's and in diffusers' img2img pipeline, in turn: {turns} a picture.{_differing(result)}\n"
        + _in_torch(result)
    )


def _differing(result: dict[str, Any]) -> str:
    share = result["diffusers"].get("share_of_pixels_that_differ")
    return "" if share is None else f" By more than one level of 255 differ {share:.2%} of the pixels."


def _in_torch(result: dict[str, Any]) -> str:
    rows = result.get("torch")
    if rows is None:
        return ""
    turns = ", ".join(f"in {name} {row['median']:.2f} s and {row['megabytes']:,} MB" for name, row in rows.items())
    return f"\n`portrait stylize` from the shell, in turn: {turns}.\n"


def _at(table: dict[str, Any], path: Sequence[str]) -> Any:
    """The value at a path of keys; None if it was not measured."""
    value: Any = table
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def latency_accepted() -> str:
    """The cost of an accepted portrait by each method, and by diffusers' own pipeline."""
    result = timed_results("latency")
    ways = {name: row for name, row in result["accepted"].items() if isinstance(row, dict)}
    rows = [
        [
            name,
            f"{row['accepted']:.0%}",
            f"{row['seconds_per_accepted']:.2f}",
            f"{row['processor_seconds_per_accepted']:.2f}",
            f"{row['style_of_accepted']:.3f}",
        ]
        for name, row in ways.items()
    ]
    header = [f"{result['accepted']['portraits']} portraits", "accepted", "seconds per accepted"]
    return markdown([*header, "processor seconds per accepted", "style of accepted"], rows)


def latency_batches() -> str:
    """Seconds and memory as a batch grows, and memory after many pictures."""
    batches = timed_results("latency")["batches"]
    sizes = {size: row for size, row in batches.items() if size.isdecimal()}
    rows = [
        ["seconds a picture", *(f"{row['seconds_a_picture']:.2f}" for row in sizes.values())],
        ["memory, MB", *(f"{row['megabytes']:,}" for row in sizes.values())],
    ]
    before, after = (batches[f"megabytes_{when}_30_pictures"] for when in ("before", "after"))
    return (
        markdown(["batch of", *sizes], rows) + f"\nBefore 30 further pictures {before:,} MB, after them {after:,} MB.\n"
    )


def latency_campaign() -> str:
    """Where the time of a campaign goes."""
    campaign = timed_results("latency").get("campaign")
    if campaign is None:
        return not_measured("latency")
    running = campaign["seconds"] - campaign["loading"]
    parts = {"drawing": "drawing", "judging": "judging", "faces": "faces of the photos", "rest": "everything else"}
    rows = [[title, f"{campaign[name]:.1f}", f"{campaign[name] / running:.1%}"] for name, title in parts.items()]
    header = [f"{campaign['jobs']} jobs of {campaign['people']} people, one attempt each", "seconds", "share"]
    notes = f"Loading the models before that: {campaign['loading']:.1f} s."
    if "megabytes_at_the_end" in campaign:
        tenth, end = (f"{campaign[f'megabytes_{when}']:,} MB" for when in ("after_a_tenth", "at_the_end"))
        notes += f" Memory after a tenth of the work {tenth}, at the end {end}."
    return markdown(header, rows) + f"\n{notes}\n"


def latency_at_once() -> str:
    """What portrait does in turn, and the same done at once."""
    work = timed_results("latency").get("at-once")
    if work is None:
        return not_measured("latency")
    rows = [
        [what, *(f"{ways[way][unit]:.2f}" for unit in ("median", "processor") for way in ("in turn", "at once"))]
        for what, ways in work.items()
    ]
    return markdown(["seconds", "in turn", "at once", "processor seconds in turn", "at once"], rows)


def studio() -> str:
    """How long a visitor of the studio page waits, in seconds."""
    timings = timed_results("studio")
    visits = [timings["first_visit"], *timings["later_visits"]]
    steps = {
        "faces": "faces are marked",
        "first_picture": "first portrait",
        "first_preview": "first small preview in a style",
        "all_previews": "all small previews",
        "slider": "slider moved",
        "style": "another style",
        "another_one": "another one",
    }
    rows = [[title, *(f"{visit[step]:.1f}" for visit in visits)] for step, title in steps.items() if step in visits[0]]
    later = [f"visit {number}" for number in range(2, len(visits) + 1)]
    return markdown(["seconds until", "first visit, models loading", *later], rows)


def ledger() -> str:
    """Queries of the campaign ledger at full size, in milliseconds."""
    timings = results("ledger")
    rows = [[name, f"{value:.2f}"] for name, value in timings["milliseconds"].items()]
    return markdown([f"{timings['attempts']:,} attempts, {timings['jobs']:,} jobs", "ms"], rows)


def campaign() -> str:
    """The results of `eval/campaign.py`, one sentence per line."""
    measured = results("campaign")
    verdicts = measured["verdicts"]
    differing = len(measured["pictures_that_differ"])
    ledgers = "equal" if measured["ledgers_equal"] else "NOT equal"
    return (
        f"- {measured['people']} people, {len(measured['styles'])} styles, {measured['jobs']} jobs; killed {measured['kills']} times "
        f"with SIGKILL: {differing} of {measured['pictures']} pictures differ from the undisturbed run, ledgers {ledgers}.\n"
        f"- The same plan from other seeds: **{verdicts['seeds']['verdict']}**.\n"
        f"- The same plan with the dial at 1 (a planted change): **{verdicts['planted']['verdict']}**.\n"
    )


def matte() -> str:
    """How well the person is separated from the background, by the matte and by GrabCut."""
    measured = results("matte")
    rows = []
    for scenes in ("photos", "other backgrounds"):
        for method, title in (("matte", "matte"), ("grabcut", "GrabCut")):
            scores = measured[scenes][method]
            means = [f"{mean:.3f} ({low:.3f} to {high:.3f})" for mean, low, high in scores.values()]
            rows.append([f"{scenes}: {title}", *means])
    return markdown(["", "IoU", "boundary F", "mean error", "mean error at the outline"], rows)


def intervals() -> str:
    """How often all intervals of a comparison hold simultaneously, and how often the named number of people suffices."""
    measured = results("intervals")
    coverage, suggested = measured["coverage"], measured["stable_at_the_number_told"]
    sizes = list(next(iter(coverage.values())))
    rows = [
        [
            shape,
            *(f"{shares[size]:.1%}" for size in sizes),
            f"{suggested[shape]['people']:.0f}",
            f"{suggested[shape]['stable']:.0%}",
        ]
        for shape, shares in coverage.items()
    ]
    header = ["differences", *(f"{size} people" for size in sizes), "people told for `stable`", "`stable` with so many"]
    return markdown(header, rows) + f"\n{measured['trials']} simulated comparisons a cell.\n"


def styles() -> str:
    """What passes as each style: right portraits, the style most mistaken for it, and the worst kind of photograph."""
    measured = results("styles")
    drawn, photographs, changed = measured["drawn"]["mini"], measured["photographs"], measured["changed"]
    rows = []
    for style, row in drawn.items():
        other, mistaken = max(
            ((name, other["passing"][style]) for name, other in drawn.items() if name != style),
            key=lambda cell: cell[1],
        )
        kind, photos = max(
            ((name, photo["passing_both"][style]) for name, photo in photographs.items()), key=lambda cell: cell[1]
        )
        rows.append(
            [
                style,
                f"{row['passing'][style]:.0%} of {row['pictures']}",
                f"{mistaken:.0%} ({other})" if mistaken else "none",
                f"{photos:.0%} ({kind})" if photos else "none",
                *(f"{changed[style][what]:.0%}" if what in changed[style] else "-" for what in ("skin", "expression")),
            ]
        )
    header = [
        "style",
        "its own portraits that pass",
        "most of another style's",
        "most of a kind of photograph",
        "rejected as `changed:skin`",
        "as `changed:expression`",
    ]
    return markdown(header, rows)


_SETTINGS = {
    "loop-far-0001": "balance 0.5, FAR 0.001",
    "loop-far-001": "balance 0.5, FAR 0.01",
    "loop-balance-08": "balance 0.8, FAR 0.001",
}
TABLES: dict[str, Callable[[], str]] = {
    "held-out": held_out,
    "held-out-summary": held_out_summary,
    "groups": groups,
    "group-gaps": lambda: gaps(results("held_out")["rows"], labels()),
    "ablation": ablation,
    "robustness": robustness,
    "thresholds": thresholds,
    "adapter": adapter,
    "dial": dial,
    "skin": skin,
    "grid": grid,
    "speed": speed,
    "latency": latency,
    "latency-accepted": latency_accepted,
    "latency-batches": latency_batches,
    "latency-campaign": latency_campaign,
    "latency-at-once": latency_at_once,
    "studio": studio,
    "ledger": ledger,
    "campaign": campaign,
    "matte": matte,
    "styles": styles,
    "intervals": intervals,
    "loop-gain": lambda: loop_gain("balance 0.5, FAR 0.001"),
    "loop-arcface-decides": lambda: one_judge("balance 0.8, FAR 0.001, ArcFace decides"),
    "loop-dlib-decides": lambda: one_judge("balance 0.8, FAR 0.001, dlib decides"),
    **{name: lambda setting=setting: loop(setting) for name, setting in _SETTINGS.items()},  # type: ignore[misc]
}
"""Name of a marker -> its table."""


def filled(text: str) -> str:
    """Write each table of a page between its markers.

    Raises:
        SystemExit: a marker names a table that does not exist, or has no end.
    """
    if text.count("<!-- table: ") != len(_MARKED.findall(text)):
        raise SystemExit("a table lacks its <!-- end of table -->")

    def fill(match: re.Match[str]) -> str:
        if match["name"] not in TABLES:
            raise SystemExit(f"there is no table {match['name']!r}; tables: {', '.join(TABLES)}")
        _notes.clear()
        try:
            table = TABLES[match["name"]]()
            table += "".join(f"\n{note}" for note in sorted(_notes))
        except FileNotFoundError as error:  # not measured for the current weights
            table = not_measured(Path(error.filename).stem)
        return match[1] + "\n" + table + "\n" + match[4]

    return _MARKED.sub(fill, text)


def main() -> int:
    """Rewrite the pages, or say which would change."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a table is out of date")
    args = parser.parse_args()
    outdated = []
    for page in PAGES:
        text = page.read_text("utf-8")
        if filled(text) == text:
            continue
        outdated.append(page)
        if not args.check:
            page.write_text(filled(text), "utf-8")
        print(f"{page.relative_to(ROOT)}: {'out of date' if args.check else 'written'}")
    return 1 if args.check and outdated else 0


if __name__ == "__main__":
    raise SystemExit(main())
