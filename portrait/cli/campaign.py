"""`portrait campaign`: new, plan, run, status, retry, export, prune."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar

from portrait.campaign.engines import Engine, LocalEngine, RayEngine
from portrait.campaign.enter import load_recipes, plan_of, require_photos_of
from portrait.campaign.export import export_run
from portrait.campaign.ledger import Counts, Ledger, Swapped
from portrait.campaign.plan import Plan, read_plan, template
from portrait.campaign.prune import prune_run
from portrait.campaign.rates import Forecast, MeasuredRates, forecast, measured_rates, picture_bytes
from portrait.campaign.run import Progress, run_campaign
from portrait.cli.console import as_cell, plain_table, print_table
from portrait.cli.signing import signer_of
from portrait.cli.terminal import say
from portrait.errors import InputError, NoPeopleError, SettingsError
from portrait.files import write_bytes
from portrait.images.search import describe
from portrait.judge.verdict import describe_reason
from portrait.paths import format_size, free_bytes


def write_plan(args: argparse.Namespace) -> int:
    """`portrait campaign new`."""
    if args.plan.exists():
        raise InputError(f"{args.plan} already exists; name another file")
    write_bytes(args.plan, template().encode())
    say(f"{args.plan} written. Next: edit it, then portrait campaign plan {args.plan}")
    return 0


def preview_plan(args: argparse.Namespace) -> int:
    """`portrait campaign plan`."""
    plan = read_plan(args.plan)
    recipes, _ = load_recipes(plan)
    measured = measured_rates()
    rows = forecast(plan, recipes, measured)
    preview = _Preview(
        plan=plan,
        rows=rows,
        jobs=sum(row.jobs for row in rows),
        bytes=sum(row.jobs * picture_bytes(recipes[row.recipe], plan.settings.format, measured) for row in rows),
        attempts=[sum(row.jobs * row.attempts[i] for row in rows) for i in range(3)],
        seconds=_forecast_seconds(rows, measured, max(1, args.workers)),
        missing_photos=[str(photo) for person in plan.people for photo in person.photos if not photo.is_file()],
    )
    if args.json:
        say(json.dumps(preview.entry()))
    else:
        _print_preview(preview, args.workers)
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Preview:
    """The estimate for a plan. `attempts` and `seconds` are (expected, low, high); seconds are None if not measured."""

    plan: Plan
    rows: list[Forecast]
    jobs: int
    bytes: float
    attempts: list[float]
    seconds: list[float] | None
    missing_photos: list[str]

    def entry(self) -> dict[str, object]:
        """What `--json` prints."""
        return {
            "name": self.plan.name,
            "people": len(self.plan.people),
            "jobs": self.jobs,
            "attempts": self.attempts,
            "bytes": round(self.bytes),
            "seconds": [None] * 3 if self.seconds is None else self.seconds,
            "missing_photos": self.missing_photos,
            "passed_over": [{"path": str(item.path), "reason": item.reason} for item in self.plan.passed_over],
            "styles": [asdict(row) for row in self.rows],
        }


def _forecast_seconds(
    rows: Sequence[Forecast], measured: Mapping[str, MeasuredRates], workers: int
) -> list[float] | None:
    """(expected, low, high); None if the time of a recipe's attempt was never measured."""
    totals = [0.0, 0.0, 0.0]
    for row in rows:
        if row.recipe not in measured:
            return None
        seconds = measured[row.recipe].seconds_per_attempt
        for i, attempts in enumerate(row.attempts):
            totals[i] += row.jobs * attempts * seconds
    return [total / workers for total in totals]


def _print_preview(preview: _Preview, workers: int) -> None:
    plan = preview.plan
    say(f"{plan.name}: {_matrix(plan, len(preview.rows))} = {preview.jobs} pictures")
    _print_forecast(preview.rows)
    expected, low, high = preview.attempts
    limit = plan.settings.max_attempts
    say(f"attempts: about {expected:.0f} ({low:.0f} to {high:.0f}), at most {limit} per picture")
    free = free_bytes(Path.cwd())
    warning = "  TOO LITTLE" if preview.bytes > free else ""
    say(f"disk: about {format_size(preview.bytes)}; free here: {format_size(free)}{warning}")
    _print_time(preview.seconds, workers)
    if missing := preview.missing_photos:
        more = " ..." if len(missing) > 3 else ""
        say(f"{len(missing)} photo(s) are missing and will fail: {', '.join(missing[:3])}{more}")
    if plan.passed_over:
        say(describe(plan.passed_over))


def _matrix(plan: Plan, styles: int) -> str:
    several = sum(len(person.photos) > 1 for person in plan.people)
    people = f"{len(plan.people)} people" + (f" ({several} with several photos)" if several else "")
    axes = "".join(f" x {len(values)} {axis}" for axis, values in plan.axes)
    return f"{people} x {styles} styles{axes} x {plan.variants} variant(s)"


def _print_forecast(rows: Sequence[Forecast]) -> None:
    table = plain_table("recipe", "style", "pictures", "first attempts accepted", "attempts per picture", "rate from")
    for row in rows:
        accept, low, high = row.accept
        expected, low_attempts, high_attempts = row.attempts
        share = "unknown" if row.source.startswith("a") else f"{accept:.0%} ({low:.0%} to {high:.0%})"
        attempts = f"{expected:.2f} ({low_attempts:.2f} to {high_attempts:.2f})"
        table.add_row(*map(as_cell, (row.recipe, row.style, row.jobs, share, attempts, row.source)))
    print_table(table)


def _print_time(seconds: Sequence[float] | None, workers: int) -> None:
    if seconds is None:
        say("time: nothing was measured on this machine yet; portrait campaign run PLAN --limit 10 measures it")
        return
    expected, low, high = (_duration(value) for value in seconds)
    shared = f" with {workers} workers" if workers > 1 else ""
    say(f"time: about {expected} ({low} to {high}){shared}, as measured on this machine")


@contextmanager
def _counted_photos(run: Path) -> Iterator[None]:
    """While a plan is read: count the photos of a run that was started before, if their folder is not mounted."""
    try:
        yield
    except NoPeopleError:
        require_photos_of(run)
        raise


def run_plan(args: argparse.Namespace) -> int:
    """`portrait campaign run`."""
    with _counted_photos(args.output):
        plan = read_plan(args.plan)
    if plan.passed_over and not args.quiet:
        say(describe(plan.passed_over), error=True)
    return _make(plan, args.output, args, accept_changes=args.accept_changes)


def retry_jobs(args: argparse.Namespace) -> int:
    """`portrait campaign retry`."""
    if not (args.rejected or args.failed):
        raise SettingsError("say what to try again: --rejected, --failed or both")
    with _counted_photos(args.folder):
        plan = read_plan(args.plan) if args.plan else plan_of(args.folder)
    states = [name for name in ("rejected", "failed") if getattr(args, name)]
    with Ledger.open(args.folder) as ledger:
        counts = ledger.counts()
    if not counts.pending and not any(getattr(counts, state) for state in states):
        say("nothing to try again")
        return 0
    return _make(plan, args.folder, args, retry=states)


def _make(
    plan: Plan, folder: Path, args: argparse.Namespace, *, accept_changes: bool = False, retry: Sequence[str] = ()
) -> int:
    _check_engine_flags(args)

    def engine(threads: int) -> Engine:
        if args.engine == "local":
            return LocalEngine()
        return RayEngine(address=args.address, workers=args.workers, gpus=args.gpus, threads=threads)

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
        _print_counts(counts, folder)
        _print_next(counts, plan, folder, args)
    return 1 if counts.pending or not counts.accepted else 0


def _check_engine_flags(args: argparse.Namespace) -> None:
    for name in ("workers", "limit", "gpus"):
        if getattr(args, name) < 0:
            raise SettingsError(f"--{name} {getattr(args, name)} is below 0")
    if args.batch < 1:
        raise SettingsError(f"--batch {args.batch} is below 1")
    if args.engine == "local" and (args.workers > 1 or args.gpus or args.address):
        raise SettingsError("--workers, --gpus and --address need --engine ray")


def _print_next(counts: Counts, plan: Plan, folder: Path, args: argparse.Namespace) -> None:
    if counts.failed:
        say(f"Why jobs failed: portrait campaign status {folder}")
    if counts.pending:
        flags = _engine_flags_given(args)
        again = shlex.join(["portrait", "campaign", "run", str(plan.path), "-o", str(folder), *flags])
        say(f"{counts.pending} jobs are left; nothing is lost. To continue: {again}")
    else:
        say(f"Next: portrait drift {folder}; portrait campaign export {folder} -o export")


def _engine_flags_given(args: argparse.Namespace) -> list[str]:
    """The engine's flags as given, to repeat the command."""
    if args.engine == "local":
        return []
    flags = {"--address": args.address, "--workers": args.workers, "--gpus": args.gpus}
    return ["--engine", args.engine, *(word for flag, value in flags.items() if value for word in (flag, f"{value}"))]


def _print_counts(counts: Counts, folder: Path) -> None:
    judged = counts.accepted + counts.rejected
    rate = f" ({counts.accepted / judged:.0%} of those judged)" if judged else ""
    failed = f", {counts.failed} failed" if counts.failed else ""
    say(
        f"{folder}: {counts.done} of {counts.jobs} jobs: {counts.accepted} accepted{rate}, {counts.rejected} rejected{failed}; "
        f"{counts.attempts} attempts"
    )


def show_status(args: argparse.Namespace) -> int:
    """`portrait campaign status`."""
    with Ledger.open(args.folder) as ledger:
        counts = ledger.counts()
        styles = ledger.counts_by_style()
        reasons = ledger.count_reasons()
        failed = {person.name: person.failure for person in ledger.subjects() if person.failure}
        swapped = ledger.swapped()
        alike = ledger.meta().alike
        folders = ledger.folders()
    if args.json:
        entry = asdict(counts) | {
            "styles": [{"recipe": recipe, "style": style} | asdict(count) for recipe, style, count in styles],
            "reasons": reasons,
            "failed_photos": failed,
            "swapped": [asdict(pair) for pair in swapped],
            "alike": alike,
            "folders": folders,
        }
        say(json.dumps(entry))
        return 0
    _print_counts(counts, args.folder)
    table = plain_table("recipe", "style", "done", "accepted", "rejected", "failed", "attempts")
    for recipe, style, count in styles:
        cells = (f"{count.done} of {count.jobs}", count.accepted, count.rejected, count.failed, count.attempts)
        table.add_row(*map(as_cell, (recipe, style, *cells)))
    print_table(table)
    shown = {name: f"{name} (files: {folder})" for name, folder in folders.items()}
    _print_findings(reasons, failed, swapped, alike, shown)
    return 0


def _print_findings(
    reasons: Mapping[str, int],
    failed: Mapping[str, str],
    swapped: Sequence[Swapped],
    alike: Sequence[Sequence[str]],
    shown: Mapping[str, str],
) -> None:
    """Print the first problems, and people who may be the same person; `shown` holds display names of some."""
    for reason, count in list(reasons.items())[:6]:
        say(f"  {count} attempts: {describe_reason(reason)}")
    for name, failure in list(failed.items())[:10]:
        say(f"  {shown.get(name, name)} failed: {failure}")
    for pair in swapped[:6]:
        say(
            f"  {pair.pictures} portraits of {shown.get(pair.subject, pair.subject)} look more like "
            f"{shown.get(pair.other, pair.other)}; if they are one person, name them as one subject"
        )
    for first, second in alike[:6]:
        first, second = shown.get(first, first), shown.get(second, second)
        say(f"  {first} and {second} look like one person to every judge; if they are, name them as one subject")


def export_pictures(args: argparse.Namespace) -> int:
    """`portrait campaign export`."""
    done = export_run(args.folder, args.output, args.size, signer=signer_of(args))
    say(f"{done.files} files of {done.pictures} accepted pictures in {args.output}; list: {done.manifest}")
    if done.enlarged:
        say(
            f"{done.enlarged} of them had to be enlarged (column enlarged); a recipe with a higher resolution gives sharper ones"
        )
    if done.removed:
        say(f"{done.removed} files of the previous export that are no longer accepted or requested were removed")
    if not done.finalized:
        say(
            f"{args.folder} is in use by another process, or not writable: its latest portraits were not judged against "
            "everybody in the run yet; export it again when the run has ended"
        )
    with Ledger.open(args.folder) as ledger:
        if pending := ledger.counts().pending:
            say(
                f"the run is not finished: {pending} jobs are left, and pictures were not judged against those people yet"
            )
    return 0 if done.pictures else 1


def prune_files(args: argparse.Namespace) -> int:
    """`portrait campaign prune`."""
    files, rows = prune_run(args.folder, rejected=args.rejected, embeddings=args.embeddings, dry_run=args.dry_run)
    for path in files if args.dry_run else ():
        say(path)
    say(
        f"{len(files)} files {'would be removed' if args.dry_run else 'and ' + str(rows) + ' rows of the ledger removed'}"
    )
    return 0


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Ctrl-C once: finish the running batches, and start no more. Twice: stop at once, which only loses those batches."""
    interrupted = False

    def handle(number: int, frame: object) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True
        say("\nfinishing the batches in flight; Ctrl-C again stops at once", error=True)

    old = signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: interrupted
    finally:
        signal.signal(signal.SIGINT, old)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A progress bar on a terminal; elsewhere, such as in a log file, a line every half minute."""
    console = Console(stderr=True, quiet=quiet)
    columns = (BarColumn(), MofNCompleteColumn(), TaskProgressColumn(), TextColumn("{task.fields[note]}"))
    with Bar(*columns, console=console, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("", total=None, note="loading models")
        last_line = 0.0

        def show(now: Progress) -> None:
            nonlocal last_line
            rate = f"{now.rate:.1f} pictures/min" if now.rate else ""
            share = f"{now.accept_rate:.0%} accepted" if now.accept_rate is not None else ""
            left = f"{_duration(now.left)} left" if now.left and now.counts.pending else ""
            note = ", ".join(filter(None, (rate, share, left)))
            bar.update(task, total=now.counts.jobs, completed=now.counts.done, note=note)
            if not quiet and not console.is_terminal and time.monotonic() - last_line > 30:
                last_line = time.monotonic()
                done = f"{now.counts.done} of {now.counts.jobs}; {note}" if note else f"{now.counts.jobs} jobs"
                say(done, error=True)

        yield show


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
