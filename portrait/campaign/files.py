"""Paths of the files in a run's folder."""

from __future__ import annotations

import os
from pathlib import Path

from portrait.files import leftovers
from portrait.paths import below

PICTURES, BEFORE, REPORT, PLAN = "pictures", "before", "report", "campaign.toml"


def output_file(stem: str, state: str, suffix: str) -> str:
    """Path of a job's picture in the run's folder, given its verdict."""
    return f"{PICTURES}/{stem}{'' if state == 'accepted' else '-rejected'}{suffix}"


def before_file(stem: str) -> str:
    """Path of the framed photo of a job's person in the run's folder, one for each recipe."""
    folder, recipe, _ = stem.split("/")
    return f"{BEFORE}/{folder}/{recipe}.jpg"


def leftovers_of(run: Path) -> list[Path]:
    """Temporary files of killed processes in a run's folder. Only the holder of the run's lock may remove them."""
    folders = [run]
    for place in (PICTURES, BEFORE, REPORT):
        folders += [Path(folder) for folder, _, _ in os.walk(below(run, place))]
    return [path for folder in folders for path in leftovers(folder)]


def is_there(folder: Path, output: str | None) -> bool:
    """Whether a run has the picture that its ledger names."""
    return bool(output) and below(folder, str(output)).is_file()
