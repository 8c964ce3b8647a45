"""The people that training never saw, and how their photos become subjects."""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path

import numpy as np

from portrait.images import read_photo
from portrait.stylizer import Stylizer, Subject

_CONFIG = Path(__file__).parents[1] / "weights" / "training" / "config.toml"
VALIDATION_EVERY = tomllib.loads(_CONFIG.read_text("utf-8"))["data"]["validation_every"]


def held_out(data: Path) -> list[Path]:
    """Every fifth portrait of each folder: 36 of the 180, 18 women and 18 men."""
    found: list[Path] = []
    for folder in sorted(p for p in data.iterdir() if p.is_dir()):
        found += sorted(folder.glob("*.jpg"), key=lambda p: int(p.stem))[::VALIDATION_EVERY]
    if not found:
        raise SystemExit(f"no FOLDER/*.jpg below {data}")
    return found


def everyone(data: Path) -> list[Path]:
    return sorted(data.glob("*/*.jpg"))


def subjects(stylizer: Stylizer, paths: list[Path]) -> list[Subject]:
    return [stylizer.subjects(read_photo(path), "largest")[0] for path in paths]


def data_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with female/*.jpg and male/*.jpg (the CC0 portraits)"
    )


def interval(values: np.ndarray, people: np.ndarray, rounds: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of the mean that resamples people, not pictures.

    Args:
        values: (N,) one per picture.
        people: (N,) which person each belongs to.
        rounds: Bootstrap rounds.
        seed: Of the bootstrap.
    """
    names = np.unique(people)
    sums = np.array([values[people == n].sum() for n in names])
    counts = np.array([(people == n).sum() for n in names])
    picks = np.random.default_rng(seed).integers(len(names), size=(rounds, len(names)))
    means = sums[picks].sum(1) / counts[picks].sum(1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))
