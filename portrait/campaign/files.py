"""Where the files of a run lie in its folder."""

from __future__ import annotations

import os
from pathlib import Path

from portrait.images import leftovers
from portrait.paths import below

PICTURES, BEFORE, REPORT, PLAN = "pictures", "before", "report", "campaign.toml"


def output_file(stem: str, state: str, suffix: str) -> str:
    """Where a job's picture lies in a run's folder, given its verdict."""
    return f"{PICTURES}/{stem}{'' if state == 'accepted' else '-rejected'}{suffix}"


def before_file(stem: str) -> str:
    """Where the framed photo of a job's person lies in a run's folder, one for each recipe."""
    folder, recipe, _ = stem.split("/")
    return f"{BEFORE}/{folder}/{recipe}.jpg"


def leftovers_of(run: Path) -> list[Path]:
    """What processes that were killed left of writing files of a run. Only who holds the run's lock may remove it."""
    folders = [run]
    for place in (PICTURES, BEFORE, REPORT):
        folders += [Path(folder) for folder, _, _ in os.walk(below(run, place))]
    return [path for folder in folders for path in leftovers(folder)]


def is_there(folder: Path, output: str | None) -> bool:
    """Whether a run has the picture that its ledger names."""
    return bool(output) and below(folder, str(output)).is_file()
