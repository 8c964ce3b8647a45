"""The viewer's run folders: those below one folder, and nothing else of this computer."""

from __future__ import annotations

import os
from pathlib import Path

from portrait.campaign.ledger import FILE
from portrait.errors import CampaignError

_DEPTH = 3
_PAGE = "report/index.html"


class Reports:
    """The runs of campaigns below `root`, at most three folders deep."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def names(self) -> list[str]:
        """Run folders, relative to the root, the one that was worked on last first."""
        found = []
        for folder, below, files in os.walk(self.root):
            place = Path(folder)
            below[:] = [] if len(place.relative_to(self.root).parts) >= _DEPTH else [n for n in below if n[0] != "."]
            if FILE in files:
                found.append(((place / FILE).stat().st_mtime, place.relative_to(self.root).as_posix()))
                below.clear()
        return [name for _, name in sorted(found, reverse=True)]

    def page(self, name: str, baseline: str = "") -> str:
        """The drift report of a run as one self-contained HTML page, against another run if one is named.

        The page that `portrait drift` wrote is shown where it is newer than the run; else one is made.

        Raises:
            CampaignError: it is not one of `names`.
            EvaluationError, SettingsError: as `report.page.drift_page`.
        """
        known = self.names()
        for one in filter(None, (name, baseline)):
            if one not in known:
                raise CampaignError(f"no run {one!r} below {self.root}")
        folder = self.root / name
        written = folder / _PAGE
        if not baseline and written.is_file() and written.stat().st_mtime >= (folder / FILE).stat().st_mtime:
            try:
                return written.read_text("utf-8")
            except (OSError, ValueError) as error:
                raise CampaignError(f"cannot read {written}: {error}") from None
        from portrait.report.page import drift_page

        return drift_page(folder, self.root / baseline if baseline else None)
