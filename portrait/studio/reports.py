"""The viewer's run folders: those below one folder, and nothing else on this computer."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from portrait.campaign.ledger import FILE
from portrait.errors import CampaignError

_MAX_DEPTH = 3
_PAGE = "report/index.html"


class Reports:
    """The runs of campaigns below `root`, at most three folders deep."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def names(self) -> list[str]:
        """Run folders, relative to the root, the most recently changed first."""
        runs = []
        for path, subfolders, files in os.walk(self.root):
            folder = Path(path)
            name = folder.relative_to(self.root)
            if FILE in files:
                runs.append((_changed(folder), name.as_posix()))
            if FILE in files or len(name.parts) >= _MAX_DEPTH:
                subfolders.clear()  # os.walk goes no deeper
            else:
                subfolders[:] = [subfolder for subfolder in subfolders if not subfolder.startswith(".")]
        return [name for _, name in sorted(runs, reverse=True)]

    def page(self, name: str, baseline: str = "") -> str:
        """The drift report of a run as one self-contained HTML page, compared with another run if one is named.

        The page written by `portrait drift` is used if it is newer than the run; else a new one is made.

        Raises:
            CampaignError: it is not one of `names`.
            EvaluationError, SettingsError: as `report.page.drift_page`.
        """
        names = self.names()
        for run in filter(None, (name, baseline)):
            if run not in names:
                raise CampaignError(f"no run {run!r} below {self.root}")
        folder = self.root / name
        written = folder / _PAGE
        if not baseline and written.is_file() and written.stat().st_mtime >= _changed(folder):
            try:
                return written.read_text("utf-8")
            except (OSError, ValueError) as error:
                raise CampaignError(f"cannot read {written}: {error}") from None
        from portrait.report.page import drift_page

        return drift_page(folder, self.root / baseline if baseline else None)


def _changed(run: Path) -> float:
    """When a run's ledger was last written: while a process works on it, the newest rows are in the log beside the file."""
    with suppress(FileNotFoundError):
        log = (run / f"{FILE}-wal").stat()
        if log.st_size:
            return max(log.st_mtime, (run / FILE).stat().st_mtime)
    return (run / FILE).stat().st_mtime
