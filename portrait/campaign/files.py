"""Where the files of a run lie in its folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from portrait.errors import InputError
from portrait.paths import below

PICTURES, BEFORE, PLAN = "pictures", "before", "campaign.toml"


def make_folder(folder: Path) -> None:
    """Make a run's folder, if it is not there.

    Raises:
        InputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}; name another one with -o") from None


def output_file(stem: str, state: str, suffix: str) -> str:
    """Where a job's picture lies in a run's folder, given its verdict."""
    return f"{PICTURES}/{stem}{'' if state == 'accepted' else '-rejected'}{suffix}"


def before_file(subject: str, recipe: str) -> str:
    """Where the framed photo of a person lies in a run's folder."""
    return f"{BEFORE}/{subject}/{recipe}.jpg"


def is_there(folder: Path, output: str | None) -> bool:
    """Whether a run has the picture that its ledger names."""
    return bool(output) and below(folder, str(output)).is_file()


def free_bytes(folder: Path) -> int:
    """Free space where the run's folder is or will be."""
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
