"""Campaigns on the fakes: people drawn as stripes, and a worker that a test can start and kill as a process.

python -m tests.campaigns PLAN.toml RUN [local|ray] [milliseconds per picture]
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from portrait.campaign.engines import Engine, LocalEngine
from portrait.campaign.ledger import FILE, Ledger
from portrait.cli import campaign
from portrait.cli.main import main as command_line
from portrait.errors import CampaignError
from portrait.images import write_picture
from portrait.loop.attempt_loop import AttemptLoop
from portrait.recipes.load import load_recipe
from portrait.records import Face, Knobs, RgbImage
from portrait.settings import Settings
from tests.fakes import SIZE, DecoderHere, FakeAnalyzer, a_face, fake_loop

ROOT = Path(__file__).parents[1]
STYLES = ("watercolor", "oil", "sketch", "comic")
NO_FACE = 255
"""A photo with this mean blue shows nobody."""


def person(n: int, blue: int = 60) -> RgbImage:
    """(SIZE, SIZE, 3) uint8: stripes whose mean red and green are unique to the n-th person."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    stripes = 40 * np.sin(x / 4 + n) + 20 * np.sin(y / 3)
    channels = np.stack([stripes + 60 + 4 * n % 120, stripes + 180 - 3 * n % 110, 0 * x + blue], -1)
    return RgbImage(channels.clip(0, 255).astype(np.uint8))


def paint(photo: RgbImage, knobs: Knobs, seed: int) -> RgbImage:
    """Other stripes in the person's colors; one seed of three misses the likeness, by less at a higher adapter scale."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    pattern = 40 * np.sin(y / 5 + seed % 7)
    out = np.stack([pattern, pattern, 20 * np.sin(x / 9)], -1)
    noise = np.random.default_rng(seed).normal(0, 4)
    miss = (60 if seed % 3 == 0 else 0) + 20 * max(0.0, 1 - knobs.ip_adapter_scale) + noise
    out += photo.reshape(-1, 3).mean(0) - out.reshape(-1, 3).mean(0) + np.array([miss, miss, 0])
    return RgbImage(out.clip(0, 255).astype(np.uint8))


def faces(image: RgbImage) -> list[Face]:
    return [] if image[..., 2].mean() > 250 else [a_face(image.shape[0])]


class Load:
    """Makes the fake AttemptLoop; picklable, so that a Ray actor can call it. `die_at` ends the process at a picture."""

    def __init__(self, pause: float = 0.0, die_once: str = "") -> None:
        self.pause, self.die_once = pause, die_once

    def __call__(self, settings: Settings) -> AttemptLoop:
        def slow(photo: RgbImage, knobs: Knobs, seed: int) -> RgbImage:
            time.sleep(self.pause)
            if self.die_once and seed % 5 == 0 and not Path(self.die_once).exists():
                Path(self.die_once).write_text("dead")
                os._exit(1)
            return paint(photo, knobs, seed)

        recipe = replace(load_recipe("mini"), resolution=SIZE)
        return fake_loop(slow, FakeAnalyzer(faces), recipe=recipe)


def write_limits(path: Path, value: float = 0.98) -> Path:
    recognizers = {n: {"thresholds": {"0.01": value}, "impostor_pairs": 1000} for n in ("arcface", "dlib")}
    style = {"recognisers": recognizers, "style_on_face": {"limit": 0.1}}
    path.write_text(json.dumps({"styles": dict.fromkeys(load_recipe("mini").styles, style), "burned": {"limit": 0.05}}))
    return path


def write_campaign(folder: Path, people: int = 4, styles: tuple[str, ...] = STYLES[:2], **settings: object) -> Path:
    """Photos and a plan in `folder`; returns the plan's path."""
    for n in range(people):
        write_picture(folder / "people" / f"p{n:02}.png", person(n))
    write_limits(folder / "limits.json")
    values = {"thresholds": "limits.json", "threads": 1, "max_attempts": 3} | settings
    lines = ['name = "test"', 'subjects = "people"', f"styles = {json.dumps(styles)}", "[settings]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    (folder / "campaign.toml").write_text("\n".join(lines) + "\n")
    return folder / "campaign.toml"


def local(load: Callable[[Settings], AttemptLoop] | None = None) -> Callable[[int], Engine]:
    return lambda threads: LocalEngine(load or Load(), DecoderHere())


def pictures(run: Path) -> dict[str, bytes]:
    """Every picture of a run: path -> bytes."""
    return {str(p.relative_to(run)): p.read_bytes() for p in sorted((run / "pictures").rglob("*.png"))}


def start(plan: Path, folder: Path, pause: float = 4) -> subprocess.Popen[bytes]:
    """`portrait campaign run` as a process, with fake pictures."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PORTRAIT_CACHE": str(folder.parent / "cache")}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.campaigns", str(pause), "campaign", "run", str(plan), "-o", str(folder)],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def done(folder: Path) -> int:
    """The number of jobs done in a run; 0 while there is no ledger."""
    try:
        with Ledger.open(folder) as ledger:
            return ledger.counts().done
    except (CampaignError, sqlite3.Error):
        return 0


@contextmanager
def database(run: Path) -> Iterator[sqlite3.Connection]:
    """A run's ledger opened with plain SQLite: to damage it, or to read it as another program would."""
    with closing(sqlite3.connect(run / FILE)) as connection, connection:
        yield connection


class CountingConnection(sqlite3.Connection):
    """Counts the instructions of SQLite's virtual machine, in hundreds; `opened` lists all connections."""

    opened: ClassVar[list[CountingConnection]] = []

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.hundreds = 0
        self.set_progress_handler(self._count, 100)
        self.opened.append(self)

    def _count(self) -> int:
        self.hundreds += 1
        return 0


def main() -> int:
    """The command line, with a local engine that makes fake pictures in a given number of milliseconds each."""
    pause = float(sys.argv[1]) / 1000
    campaign.LocalEngine = lambda: LocalEngine(Load(pause))  # type: ignore[assignment,misc]
    return command_line(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
