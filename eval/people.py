"""The people that training never saw, and how their photos become subjects."""

from __future__ import annotations

import argparse
from pathlib import Path

from portrait.images import read_photo
from portrait.stylizer import Stylizer, Subject

HELD_OUT = Path(__file__).parents[1] / "weights" / "training" / "held_out.txt"


def held_out(data: Path) -> list[Path]:
    """The people that training never sees: 36 of the 180, 18 women and 18 men."""
    names = [line for line in HELD_OUT.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    missing = [name for name in names if not (data / name).is_file()]
    if missing:
        raise SystemExit(f"{data} lacks {missing[0]} and {len(missing) - 1} more; it should hold the CC0 portraits")
    return [data / name for name in names]


def everyone(data: Path) -> list[Path]:
    return sorted(data.glob("*/*.jpg"))


def subjects(stylizer: Stylizer, paths: list[Path]) -> list[Subject]:
    return [stylizer.subjects(read_photo(path), "largest")[0] for path in paths]


def data_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with female/*.jpg and male/*.jpg (the CC0 portraits)"
    )
