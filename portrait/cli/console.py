"""What the commands print: bars on stderr while they work, lines and tables on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portrait.errors import PortraitError

if TYPE_CHECKING:
    from portrait.records.portrait import FailureRecord
    from portrait.report.save import SavedPortrait


def complain(error: PortraitError) -> None:
    """Say an error on stderr, in one line."""
    print(f"portrait: {error}", file=sys.stderr)


def failure_record(
    path: Path, error: PortraitError, recipe: str = "", licenses: Sequence[Mapping[str, str]] = ()
) -> FailureRecord:
    """What `--json` prints of a photo of which nothing came."""
    from portrait.records.portrait import FailedInput, FailureRecord, LicenseLink

    return FailureRecord(
        reasons=(str(error),),
        input=FailedInput(path=str(path)),
        recipe=recipe,
        licenses=tuple(LicenseLink(**link) for link in licenses),
    )


class Console:
    """Everything that stylize prints: bars on stderr while it works, lines and a table on stdout."""

    def __init__(self, *, quiet: bool) -> None:
        """Print nothing at all if `quiet`."""
        from rich.console import Console

        self.quiet = quiet
        self.out = Console(quiet=quiet, highlight=False)
        self.err = Console(stderr=True, quiet=quiet)

    @contextmanager
    def status(self, text: str) -> Iterator[None]:
        """Show a spinner with `text` while the block runs."""
        with self.err.status(text):
            yield

    @contextmanager
    def attempts(self, text: str, unit: str = "attempt") -> Iterator[Any]:
        """Show a bar while the block runs; yields what moves it: (attempt from 1, steps done, steps in all)."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}", markup=False),  # a file name may hold brackets
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.err, transient=True, disable=self.quiet) as progress:
            task = progress.add_task(text, total=1, note="")

            def on_step(attempt: int, step: int, total: int) -> None:
                progress.update(
                    task,
                    total=total,
                    completed=step,
                    note=f"{unit} {attempt}, step {step}/{total}" if unit else f"{step}/{total}",
                )

            yield on_step

    def result(self, row: SavedPortrait) -> None:
        """Say why a portrait was rejected; of an accepted one the summary says enough."""
        from rich.markup import escape

        from portrait.judge.verdict import describe_reason

        if not row.accepted:
            why = "; ".join(describe_reason(reason) for reason in row.record.reasons)
            self.out.print(f"[red]rejected[/] {escape(str(row.path))}: {why}", soft_wrap=True)

    def _print_whole(self, table: Any) -> None:
        """Print a table at its own width: no name is cut, however narrow the terminal."""
        from rich.measure import Measurement

        width = Measurement.get(self.out, self.out.options.update(max_width=1000), table).maximum
        self.out.width = max(self.out.width, width)
        self.out.print(table)

    def calibration(self, table: dict[str, Any], path: Path) -> None:
        """Print the thresholds that were measured, and where the style check is weak."""
        from rich.markup import escape
        from rich.table import Table

        from portrait.calibrate.thresholds import weak_checks
        from portrait.judge.checks import format_confusable

        shown = Table(box=None, pad_edge=False)
        for name in ("style", "judge", "FAR", "threshold", "95 % interval", "own portraits accepted", "first attempts"):
            shown.add_column(name, no_wrap=True)
        for style, entry in table["styles"].items():
            for judge, found in entry["recognisers"].items():
                for rate, value in found["thresholds"].items():
                    low, high = found["threshold_intervals"][rate]
                    tar, first = found["tar"][rate], entry["first_attempt_accepted"][rate]
                    cells = (f"{value:.3f}", f"{low:.3f} to {high:.3f}", f"{tar['rate']:.0%} of {tar['of']}")
                    shown.add_row(style, judge, rate, *cells, f"{first['rate']:.0%}")
        self._print_whole(shown)
        for style, weak in weak_checks(table).items():
            self.out.print(f"[yellow]{style}: its style check is weak[/]: {format_confusable(weak)} pass it too")
        self.out.print(f"Written to {escape(str(path))}; use it with --thresholds.", soft_wrap=True)

    def summary(self, rows: Sequence[SavedPortrait], sheets: Sequence[Path]) -> None:
        """Print a table with a line per portrait, and where the files are."""
        from rich.markup import escape
        from rich.table import Table

        judges = list(rows[0].record.thresholds)
        table = Table(box=None, pad_edge=False)
        for name in ("style", "verdict", *judges, "attempts", "seconds", "file"):
            table.add_column(
                name, justify="right" if name in (*judges, "attempts", "seconds") else "left", no_wrap=True
            )
        for row in rows:
            record = row.record
            similarity = record.chosen_attempt.similarity
            scores = [f"{similarity[judge]:.3f} (>= {record.thresholds[judge].value:.3f})" for judge in judges]
            verdict = "[green]accepted[/]" if row.accepted else "[red]rejected[/]"
            count, seconds = str(len(record.attempts)), f"{record.seconds:.1f}"
            table.add_row(record.style, verdict, *scores, count, seconds, escape(str(row.path)))
        self._print_whole(table)
        if note := rows[0].record.provisional_thresholds:
            self.out.print(f"Note: {note}.", soft_wrap=True)
        accepted = sum(row.accepted for row in rows)
        folder = escape(str(sheets[0].parent))
        self.out.print(
            f"{accepted} of {len(rows)} accepted. Pictures, before/after strips (*-before-after.jpg) and records (.json): "
            f"{folder}; contact sheet: {escape(', '.join(map(str, sheets)))}",
            soft_wrap=True,
        )
