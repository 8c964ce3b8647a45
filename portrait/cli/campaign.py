"""`portrait campaign` (new, plan, run, status, retry, export, prune) and `portrait drift`."""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portrait.cli.console import Commands
from portrait.errors import InputError, SettingsError

if TYPE_CHECKING:
    from portrait.campaign.engines import Engine
    from portrait.campaign.ledger import Counts
    from portrait.campaign.plan import Plan
    from portrait.campaign.run import Progress

_EPILOG = """examples:
  portrait campaign new                                     writes campaign.toml, a commented plan
  portrait campaign plan campaign.toml                      the matrix, attempts, disk and time
  portrait campaign run campaign.toml -o run                make it; the same line goes on after a stop of any kind
  portrait campaign run campaign.toml -o run --engine ray --gpus 0.5
  portrait campaign status run
  portrait campaign retry run --rejected                    once more, from other seeds
  portrait campaign export run -o delivery --size square --size round-512
  portrait campaign prune run --rejected
  portrait drift run --baseline last-month

exit codes: 0 every job has ended, 1 stopped before that, or nothing was accepted, 2 invalid input
"""
_DRIFT_EPILOG = """examples:
  portrait drift run                                        writes run/report/index.html, report.json, report.csv
  portrait drift run --baseline last-month --html report.html
  portrait drift run --json accepted.json                   a baseline to keep
  portrait drift run --baseline accepted.json --fail-on drifted

exit codes: 0 done, 2 invalid input, 3 drifted (with --fail-on drifted), or inconclusive (with
--fail-on unclear, which also fails on drift)
"""


def add(commands: Commands) -> None:
    """Add `campaign` and `drift` to the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    campaign = commands.add_parser(
        "campaign",
        help="many people, many styles: resumable",
        description="Make portraits of many people from a plan. A run survives being killed at any moment and goes on "
        "where it was; each picture's seed comes from what determines the picture, so it is the same on any worker.",
        epilog=_EPILOG,
        formatter_class=raw,
    )
    actions = campaign.add_subparsers(dest="action", metavar="ACTION", required=True)

    new = actions.add_parser("new", help="write a commented plan")
    new.add_argument("plan", nargs="?", type=Path, default=Path("campaign.toml"), metavar="PLAN.toml")
    new.set_defaults(run=_new)

    plan = actions.add_parser(
        "plan",
        help="what a plan comes to",
        description="Print the matrix of a plan, and the attempts, disk and time that it will take. The rates are those "
        "measured by runs on this machine, or else the recipe's calibration; time needs one measured run.",
    )
    plan.add_argument("plan", type=Path, metavar="PLAN.toml")
    plan.add_argument("--workers", type=int, default=1, metavar="N", help="workers that will share it (default: 1)")
    plan.add_argument("--json", action="store_true", help="one JSON object")
    plan.set_defaults(run=_plan)

    run = actions.add_parser("run", help="make what is not made yet")
    run.add_argument("plan", type=Path, metavar="PLAN.toml")
    run.add_argument("-o", "--output", type=Path, default=Path("run"), metavar="RUN", help="folder (default: run)")
    _engine_flags(run)
    run.add_argument(
        "--accept-changes", action="store_true", help="go on although the plan was changed since the start"
    )
    run.set_defaults(run=_run)

    status = actions.add_parser("status", help="how far a run is")
    status.add_argument("folder", type=Path, metavar="RUN")
    status.add_argument("--json", action="store_true", help="one JSON object")
    status.set_defaults(run=_status)

    retry = actions.add_parser(
        "retry",
        help="try again what was rejected or failed",
        description="Make rejected pictures again from other seeds, or failed ones as they were. A retry that is rejected "
        "too replaces a picture only if it came closer; every attempt stays in the ledger.",
    )
    retry.add_argument("folder", type=Path, metavar="RUN")
    retry.add_argument("--rejected", action="store_true", help="pictures that were not accepted")
    retry.add_argument("--failed", action="store_true", help="jobs of which nothing came")
    retry.add_argument("--plan", type=Path, metavar="PLAN.toml", help="the plan, if it lies elsewhere now")
    _engine_flags(retry)
    retry.set_defaults(run=_retry)

    export = actions.add_parser(
        "export",
        help="accepted pictures by person and style, in sizes for platforms",
        description="Write the accepted pictures by person and style with a manifest.csv, cut to sizes around the face.",
    )
    export.add_argument("folder", type=Path, metavar="RUN")
    export.add_argument("-o", "--output", type=Path, default=Path("export"), metavar="FOLDER", help="(default: export)")
    export.add_argument(
        "--size",
        action="append",
        default=[],
        metavar="NAME",
        help="original, square, portrait, wide, story, avatar-512, avatar-256, avatar-128, round-512, round-256; may be "
        "repeated (default: those of the plan)",
    )
    export.set_defaults(run=_export)

    prune = actions.add_parser(
        "prune",
        help="remove what a run no longer needs",
        description="Remove files that no job refers to and jobs that the plan no longer names; with flags also more.",
    )
    prune.add_argument("folder", type=Path, metavar="RUN")
    prune.add_argument(
        "--rejected", action="store_true", help="also pictures that were not accepted; their scores stay"
    )
    prune.add_argument(
        "--embeddings",
        action="store_true",
        help="also the faces' embeddings, which are biometric data; reports made later lack ROC, DET and likeness over styles",
    )
    prune.add_argument("--dry-run", action="store_true", help="only say what would go")
    prune.set_defaults(run=_prune)

    drift = commands.add_parser(
        "drift",
        help="report on a run: did identity drift",
        description="Measure a run, alone or against a baseline, and write one self-contained HTML page, JSON and CSV. "
        "Two runs are compared person by person; the verdict is stable, drifted or inconclusive.",
        epilog=_DRIFT_EPILOG,
        formatter_class=raw,
    )
    drift.add_argument("folder", type=Path, metavar="RUN")
    drift.add_argument(
        "--baseline", type=Path, metavar="RUN|FILE.json", help="an earlier run, or the JSON of its report"
    )
    drift.add_argument("--html", type=Path, metavar="FILE", help="the page (default: RUN/report/index.html)")
    drift.add_argument("--json", type=Path, metavar="FILE", help="the numbers (default: RUN/report/report.json)")
    drift.add_argument("--csv", type=Path, metavar="FILE", help="the numbers (default: RUN/report/report.csv)")
    drift.add_argument("--fail-on", choices=("drifted", "unclear"), help="exit with 3 if the verdict is this, or worse")
    drift.add_argument("--quiet", action="store_true", help="print errors only")
    drift.set_defaults(run=_drift)


def _engine_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="(default: local)")
    parser.add_argument(
        "--address", default="", metavar="ADDRESS", help="of a Ray cluster, or auto (default: a local one of its own)"
    )
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="Ray actors (default: as many as fit)")
    parser.add_argument("--gpus", type=float, default=0.0, metavar="X", help="GPUs per actor, such as 1 or 0.5")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="make at most N pictures now")
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="jobs of one person per batch (default: 8)")
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    parser.add_argument("--verbose", action="store_true", help="log what the loop does")


def _new(args: argparse.Namespace) -> int:
    from portrait.campaign.plan import template
    from portrait.images import write_bytes

    if args.plan.exists():
        raise InputError(f"{args.plan} is there already; name another file")
    write_bytes(args.plan, template().encode())
    print(f"{args.plan} written. Next: edit it, then portrait campaign plan {args.plan}")
    return 0


def _plan(args: argparse.Namespace) -> int:
    from portrait.campaign.enter import load_recipes
    from portrait.campaign.files import free_bytes
    from portrait.campaign.plan import read_plan
    from portrait.campaign.rates import forecast, measured_rates, picture_bytes

    plan = read_plan(args.plan)
    recipes, _ = load_recipes(plan)
    measured = measured_rates()
    rows = forecast(plan, recipes, measured)
    jobs = sum(row.jobs for row in rows)
    disk = sum(row.jobs * picture_bytes(recipes[row.recipe], plan.settings.format, measured) for row in rows)
    attempts = [sum(row.jobs * row.attempts[i] for row in rows) for i in range(3)]
    seconds: list[float | None] = []
    for i in range(3):
        total = 0.0
        for row in rows:
            each = measured.get(row.recipe, {}).get("seconds_per_attempt")
            total = total + row.jobs * row.attempts[i] * each if each is not None else float("nan")
        seconds.append(None if total != total else total / max(1, args.workers))
    missing = [str(path) for person in plan.people for path in person.photos if not path.is_file()]
    found = {
        "name": plan.name, "people": len(plan.people), "jobs": jobs, "attempts": attempts, "bytes": round(disk),
        "seconds": seconds, "missing_photos": missing,
        "styles": [
            {"recipe": r.recipe, "style": r.style, "jobs": r.jobs, "accept": r.accept, "attempts": r.attempts, "source": r.source}
            for r in rows
        ],
    }  # fmt: skip
    if args.json:
        print(json.dumps(found))
        return 0
    several = sum(len(person.photos) > 1 for person in plan.people)
    texts = "".join(f" x {len(values)} {axis}" for axis, values in plan.axes)
    people = f"{len(plan.people)} people" + (f" ({several} with several photos)" if several else "")
    print(f"{plan.name}: {people} x {len(rows)} styles{texts} x {plan.variants} variant(s) = {jobs} pictures")
    table = _table("recipe", "style", "pictures", "first attempts accepted", "attempts per picture", "rate from")
    for row in rows:
        accept, low, high = row.accept
        share = f"{accept:.0%} ({low:.0%} to {high:.0%})" if row.source[0] != "a" else "unknown"
        tries = f"{row.attempts[0]:.2f} ({row.attempts[1]:.2f} to {row.attempts[2]:.2f})"
        table.add_row(row.recipe, row.style, str(row.jobs), share, tries, row.source)
    _console().print(table)
    print(
        f"attempts: about {attempts[0]:.0f} ({attempts[1]:.0f} to {attempts[2]:.0f}), at most {plan.settings.max_attempts} a picture"
    )
    free = free_bytes(Path.cwd())
    print(f"disk: about {_size(disk)}; free here: {_size(free)}" + ("  TOO LITTLE" if disk > free else ""))
    if seconds[0] is None:
        print("time: nothing was measured on this machine yet; portrait campaign run PLAN --limit 10 measures it")
    else:
        low_s, high_s = (_duration(s) for s in (seconds[1] or 0.0, seconds[2] or 0.0))
        workers = f" with {args.workers} workers" if args.workers > 1 else ""
        print(f"time: about {_duration(seconds[0])} ({low_s} to {high_s}){workers}, as measured on this machine")
    if missing:
        print(
            f"{len(missing)} photo(s) are not there and will fail: {', '.join(missing[:3])}{' ...' if missing[3:] else ''}"
        )
    if "mini" in plan.recipes and (plan.axes or plan.settings.prompt):
        print("note: mini knows only its styles; texts of [axes] and prompt move its pictures at random")
    return 0


def _run(args: argparse.Namespace) -> int:
    from portrait.campaign.plan import read_plan

    return _make(read_plan(args.plan), args.output, args, accept_changes=args.accept_changes)


def _retry(args: argparse.Namespace) -> int:
    from portrait.campaign.enter import plan_of
    from portrait.campaign.ledger import Ledger
    from portrait.campaign.plan import read_plan

    if not (args.rejected or args.failed):
        raise SettingsError("say what to try again: --rejected, --failed or both")
    plan = read_plan(args.plan) if args.plan else plan_of(args.folder)
    states = [name for name in ("rejected", "failed") if getattr(args, name)]
    with Ledger.open(args.folder) as ledger:
        counts = ledger.counts()
    if not counts.pending and not any(getattr(counts, state) for state in states):
        print("nothing to try again")
        return 0
    return _make(plan, args.folder, args, retry=states)


def _make(
    plan: Plan, folder: Path, args: argparse.Namespace, *, accept_changes: bool = False, retry: Sequence[str] = ()
) -> int:
    from portrait.campaign.engines import LocalEngine, RayEngine
    from portrait.campaign.run import run_campaign

    for name in ("workers", "limit", "gpus"):
        if getattr(args, name) < 0:
            raise SettingsError(f"--{name} {getattr(args, name)} is below 0")
    if args.batch < 1:
        raise SettingsError(f"--batch {args.batch} is below 1")
    if args.engine == "local" and (args.workers > 1 or args.gpus or args.address):
        raise SettingsError("--workers, --gpus and --address go with --engine ray")

    def engine(threads: int) -> Engine:
        if args.engine == "local":
            return LocalEngine()
        return RayEngine(address=args.address, workers=args.workers, gpus=args.gpus, threads=threads)

    if not args.verbose:
        logging.getLogger("portrait.campaign").setLevel(logging.WARNING)
    with _interrupts() as stop, _progress(quiet=args.quiet) as show:
        counts = run_campaign(
            plan,
            folder,
            engine,
            accept_changes=accept_changes,
            retry=retry,
            limit=args.limit,
            batch=args.batch,
            stop=stop,
            on_progress=show,
        )
    if not args.quiet:
        _say(counts, folder)
        if counts.pending:
            again = shlex.join(["portrait", "campaign", "run", str(plan.path), "-o", str(folder), *_engine_words(args)])
            print(f"{counts.pending} jobs are left; nothing is lost. To go on: {again}")
        else:
            print(f"Next: portrait drift {folder}; portrait campaign export {folder} -o export")
    return 1 if counts.pending or not counts.accepted else 0


def _engine_words(args: argparse.Namespace) -> list[str]:
    """The flags of the engine as they were given, for the same command again."""
    if args.engine == "local":
        return []
    given = {"--address": args.address, "--workers": args.workers, "--gpus": args.gpus}
    return ["--engine", args.engine, *(word for flag, value in given.items() if value for word in (flag, f"{value}"))]


def _say(counts: Counts, folder: Path) -> None:
    judged = counts.accepted + counts.rejected
    rate = f" ({counts.accepted / judged:.0%} of those judged)" if judged else ""
    failed = f", {counts.failed} failed" if counts.failed else ""
    print(
        f"{folder}: {counts.done} of {counts.jobs} jobs: {counts.accepted} accepted{rate}, {counts.rejected} rejected{failed}; "
        f"{counts.attempts} attempts"
    )


def _status(args: argparse.Namespace) -> int:
    from portrait.campaign.ledger import Ledger
    from portrait.judge.verdict import describe_reason

    with Ledger.open(args.folder) as ledger:
        counts, styles, reasons = ledger.counts(), ledger.counts_by_style(), ledger.count_reasons()
        failed = [(person.name, person.failure) for person in ledger.subjects() if person.failure]
        swapped, alike = ledger.swapped(), ledger.get("alike") or []
    if args.json:
        keys = ("pending", "accepted", "rejected", "failed", "attempts", "seconds")
        rows = [{"recipe": r, "style": s} | {k: getattr(c, k) for k in keys} for r, s, c in styles]
        total = {k: getattr(counts, k) for k in keys}
        more = {"swapped": swapped, "alike": alike}
        print(json.dumps(total | {"styles": rows, "reasons": reasons, "failed_photos": dict(failed)} | more))
        return 0
    _say(counts, args.folder)
    table = _table("recipe", "style", "done", "accepted", "rejected", "failed", "attempts")
    for recipe, style, c in styles:
        cells = (f"{c.done} of {c.jobs}", c.accepted, c.rejected, c.failed, c.attempts)
        table.add_row(recipe, style, *map(str, cells))
    _console().print(table)
    for reason, count in list(reasons.items())[:6]:
        print(f"  {count} attempts: {describe_reason(reason)}")
    for name, failure in failed[:10]:
        print(f"  {name} failed: {failure}")
    for one in swapped[:6]:
        print(
            f"  {one['pictures']} portraits of {one['subject']} look more like {one['other']}; if they are one person, "
            "name them as one subject"
        )
    for a, b in alike[:6]:
        print(f"  {a} and {b} look like one person to every judge; if they are, name them as one subject")
    return 0


def _export(args: argparse.Namespace) -> int:
    from portrait.campaign.export import export_run
    from portrait.campaign.ledger import Ledger

    done = export_run(args.folder, args.output, args.size)
    print(f"{done.files} files of {done.pictures} accepted pictures in {args.output}; list: {done.manifest}")
    if done.enlarged:
        print(
            f"{done.enlarged} of them had to be enlarged (column enlarged); a recipe of a higher resolution is sharper"
        )
    if done.removed:
        print(f"{done.removed} files of the export before, which are no longer accepted or asked for, are removed")
    if not done.finalized:
        print(
            f"{args.folder} is being worked on, or cannot be written to: its last portraits were not judged against "
            "everybody of the run yet; export it again when it has ended"
        )
    with Ledger.open(args.folder) as ledger:
        if pending := ledger.counts().pending:
            print(f"the run is not finished: {pending} jobs are left, and nobody was judged against those people yet")
    return 0 if done.pictures else 1


def _prune(args: argparse.Namespace) -> int:
    from portrait.campaign.prune import prune_run

    files, rows = prune_run(args.folder, rejected=args.rejected, embeddings=args.embeddings, dry_run=args.dry_run)
    for path in files if args.dry_run else ():
        print(path)
    print(f"{len(files)} files {'would go' if args.dry_run else 'and ' + str(rows) + ' rows of the ledger removed'}")
    return 0


def _drift(args: argparse.Namespace) -> int:
    from portrait.report.words import summary_lines
    from portrait.report.write import write_report

    place = args.folder / "report"
    html, numbers, table = (
        args.html or place / "index.html",
        args.json or place / "report.json",
        args.csv or place / "report.csv",
    )
    if args.fail_on and not args.baseline:
        raise SettingsError("--fail-on needs --baseline: without another run there is nothing to have drifted from")
    report = write_report(args.folder, args.baseline, html=html, json_file=numbers, csv_file=table)
    if not args.quiet:
        for line in summary_lines(report):
            print(line)
        print(f"page: {html}; the same numbers: {numbers}, {table}")
    verdict = report.verdict.verdict if report.verdict else ""
    failing = {"drifted": ("drifted",), "unclear": ("drifted", "inconclusive")}.get(args.fail_on, ())
    return 3 if verdict in failing else 0


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Ctrl-C once: what is in flight ends, and no more begins. Twice: stop at once, which loses no more than that."""
    asked = False

    def handle(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print("\nfinishing the batches in flight; Ctrl-C again stops at once", file=sys.stderr, flush=True)

    old = signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, old)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal; elsewhere, a log file say, a line every half minute."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True, quiet=quiet)
    columns = (BarColumn(), MofNCompleteColumn(), TaskProgressColumn(), TextColumn("{task.fields[note]}"))
    with Bar(*columns, console=console, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("", total=None, note="loading models")
        said = 0.0

        def show(now: Progress) -> None:
            nonlocal said
            rate = f"{now.rate:.1f} pictures/min" if now.rate else ""
            share = f"{now.accept_rate:.0%} accepted" if now.accept_rate is not None else ""
            left = f"{_duration(now.left)} left" if now.left and now.counts.pending else ""
            note = ", ".join(filter(None, (rate, share, left)))
            bar.update(task, total=now.counts.jobs, completed=now.counts.done, note=note)
            if not quiet and not console.is_terminal and time.monotonic() - said > 30:
                said = time.monotonic()
                print(
                    f"{now.counts.done} of {now.counts.jobs}; {note}" if note else f"{now.counts.jobs} jobs",
                    file=sys.stderr,
                )

        yield show


def _console() -> Any:
    from rich.console import Console

    console = Console(highlight=False)
    console.width = max(console.width, 120)
    return console


def _table(*names: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, no_wrap=True)
    return table


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _size(count: float) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**29 else f"{count / 2**20:.1f} MiB"
