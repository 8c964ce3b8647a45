"""The commands' output: progress bars on stderr (lines without a terminal), lines and tables on stdout."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from portrait.cli.terminal import printable, printable_lines
from portrait.errors import PortraitError
from portrait.faces.identity import photo_notes
from portrait.judge.verdict import describe_reason
from portrait.loop.types import Subject
from portrait.records.calibration import CalibrationTable, GateRate
from portrait.records.curves import StyleCurves
from portrait.records.portrait import FailedInput, FailureRecord, LicenseLink, PortraitRecord
from portrait.report.save import SavedPortrait

SECONDS_BETWEEN_LINES = 5.0
"""Without a terminal, progress is printed as a line at most this often."""


def failure_record(
    path: Path, error: PortraitError, recipe: str = "", licenses: Sequence[LicenseLink] = ()
) -> FailureRecord:
    """What `--json` prints of a photo of which nothing came."""
    return FailureRecord(
        reasons=(str(error),),
        input=FailedInput(path=str(path)),
        recipe=recipe,
        licenses=tuple(licenses),
    )


class Console:
    """Everything that stylize and calibrate print; only errors if `quiet`."""

    def __init__(self, *, quiet: bool, verbose: bool = False) -> None:
        self.verbose = verbose
        self.quiet = quiet
        self.out = RichConsole(quiet=quiet, highlight=False)
        self.err = RichConsole(stderr=True, quiet=quiet)
        self._last_line = time.monotonic()
        self._noted: set[str] = set()

    def line(self, text: str) -> None:
        """Print text that may hold brackets, such as a file's name, and is never wrapped."""
        self.out.print(printable_lines(text), markup=False, soft_wrap=True)

    @contextmanager
    def status(self, text: str) -> Iterator[None]:
        """Say on stderr what is being done."""
        if not self.err.is_terminal:
            self._progress_line(text)
            yield
            return
        with self.err.status(printable(text)):
            yield

    def notes(self, subject: Subject) -> None:
        """Print what the user should know about a photo before it is used, on stderr."""
        photo = subject.photo
        for note in photo_notes(photo, subject.warnings):
            hint = "; --upright off leaves it as it is" if note.startswith("turned by") else ""
            self.note(f"{photo.path}: {note}{hint}")

    def note(self, text: str) -> None:
        """Print a note on stderr before anything is made; each text only once."""
        if text not in self._noted:
            self._noted.add(text)
            self.err.print(printable(text), markup=False, soft_wrap=True)

    @contextmanager
    def attempts(self, text: str, unit: str = "attempt") -> Iterator[Callable[[int, int, int], None]]:
        """A progress bar on stderr; yields a function to call with (attempt from 1, steps done, total steps).

        Without a terminal it prints a line at most every `SECONDS_BETWEEN_LINES`, over all bars.
        """

        def note(attempt: int, step: int, total: int) -> str:
            return f"{unit} {attempt}, step {step}/{total}" if unit else f"{step}/{total}"

        if not self.err.is_terminal:

            def on_step_line(attempt: int, step: int, total: int) -> None:
                if time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
                    self._progress_line(f"{text}: {note(attempt, step, total)}")

            yield on_step_line
            return
        columns = (
            TextColumn("{task.description}", markup=False),  # a file name may hold brackets
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.err, transient=True, disable=self.quiet) as progress:
            task = progress.add_task(printable(text), total=1, note="")

            def on_step(attempt: int, step: int, total: int) -> None:
                progress.update(task, total=total, completed=step, note=note(attempt, step, total))

            yield on_step

    def _progress_line(self, text: str) -> None:
        self.err.print(printable(text), markup=False, highlight=False, soft_wrap=True)
        self._last_line = time.monotonic()

    def result(self, row: SavedPortrait) -> None:
        """Print why a portrait was rejected; nothing for an accepted one."""
        if not row.record.accepted:
            why = "; ".join(describe_reason(reason) for reason in row.record.reasons)
            self.out.print(f"[red]rejected[/] {as_cell(f'{row.path}: {why}')}", soft_wrap=True)

    def summary(self, rows: Sequence[SavedPortrait], sheets: Sequence[Path]) -> None:
        """Print a table of all portraits, and where they are."""
        judges = list(rows[0].record.thresholds)
        numbers = (*judges, "attempts", "seconds")
        table = plain_table("style", "verdict", *numbers, "file", numbers=numbers)
        for row in rows:
            record = row.record
            scores = [_score(record, judge, verbose=self.verbose) for judge in judges]
            verdict = "[green]accepted[/]" if row.record.accepted else "[red]rejected[/]"
            attempts = str(len(record.attempts))
            numbers_of_row = (*scores, attempts, f"{record.seconds:.1f}")
            table.add_row(as_cell(record.style), verdict, *numbers_of_row, as_cell(row.path))
        print_table(table, self.out)
        if any(row.record.chosen_attempt.strangers for row in rows):
            self.line(
                "Numbers: how many of 1,000 strangers would look as much like the photo to each judge; --verbose shows cosines."
            )
        if note := rows[0].record.provisional_thresholds:
            self.line(f"Note: {note}.")
        accepted = sum(row.record.accepted for row in rows)
        self.line(
            f"{accepted} of {len(rows)} accepted. Pictures, before/after strips (*-before-after.jpg) and records (.json): "
            f"{rows[0].path.parent}; contact sheet: {', '.join(map(str, sheets)) or 'none'}"
        )

    def curves(self, style: str, curves: StyleCurves) -> None:
        """Print likeness and style along the dial, from one style's curves."""
        self.line(f"{style}: along the dial " + ", ".join(curves.outputs))
        for position, means in zip(curves.dial.at, curves.dial.mean, strict=True):
            self.line(f"  {position:.2f}  " + "  ".join(f"{value:.3f}" for value in means))

    def calibration(self, table: CalibrationTable, path: Path, curves: Path) -> None:
        """Print the thresholds of every style and judge, and how to use them."""
        rows = plain_table(
            "style", "judges", "requested FAR", "measured", "95 % interval", "own portraits accepted", "first"
        )
        for style, entry in table.styles.items():
            for gate in entry.gates:
                everybody = len(gate.judges) == len(entry.recognizers)
                for rate, limits in gate.rates.items():
                    first = f"{entry.first_attempt_accepted[rate].rate:.0%}" if everybody else ""
                    rows.add_row(
                        *map(as_cell, (style, " + ".join(gate.judges), f"{rate:g}", *_rate_cells(limits), first))
                    )
        print_table(rows, self.out)
        self.line(f"Written to {path} and {curves}; use them with --thresholds {path} --curves {curves}.")


def _rate_cells(limits: GateRate) -> tuple[str, str, str]:
    """The measured false accept rate, its interval, and the share of right portraits that are accepted."""
    if limits.far is None or limits.far_interval is None or limits.tar is None:
        return "", "", ""
    low, high = limits.far_interval
    return f"{limits.far:.4f}", f"{low:.4f} to {high:.4f}", f"{limits.tar.rate:.0%} of {limits.tar.of}"


def as_cell(value: object) -> str:
    """A value for a table: no markup, and nothing that steers a terminal."""
    return escape(printable(str(value)))


def print_table(table: Table, console: RichConsole | None = None) -> None:
    """Print a table at its own width: no name is cut, however narrow the terminal."""
    out = console or RichConsole(highlight=False)
    width = Measurement.get(out, out.options.update(max_width=1000), table).maximum
    out.width = max(out.width, width)
    out.print(table)


def _score(record: PortraitRecord, judge: str, *, verbose: bool) -> str:
    """How many of 1,000 strangers would be as alike to a judge; its cosine where that is not known, or asked for."""
    attempt = record.chosen_attempt
    cosine = f"{attempt.similarity[judge]:.3f} (>= {record.thresholds[judge].value:.3f})"
    share = attempt.strangers.get(judge)
    if share is None:
        return cosine
    count = "< 1" if share < 0.001 else f"{1000 * share:.0f}"
    return f"{count} in 1,000" + (f", {cosine}" if verbose else "")


def plain_table(*names: str, numbers: Sequence[str] = ()) -> Table:
    """A table without lines, its columns as wide as they need; those of `numbers` are aligned to the right."""
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, justify="right" if name in numbers else "left", no_wrap=True)
    return table
