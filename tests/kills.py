"""Campaigns on the fakes, killed with SIGKILL at random moments of run, retry, drift, export and prune: nothing is lost.

python -m tests.kills 1000 --seed 1 --minutes 10     # this many kills, or as many as the time allows

One person's photo has no face, so that there is a failed job to retry. After each kill, every finished picture must still be
there and complete, and no incomplete file may have its final name. After a campaign's last kill the same command is run
to its end: pictures, ledger and export must equal those of an undisturbed run, and no temporary file may be left. The exit
code is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from portrait.campaign.engines import Engine
from portrait.campaign.export import export_run
from portrait.campaign.ledger import Ledger
from portrait.campaign.plan import read_plan
from portrait.campaign.prune import prune_run
from portrait.campaign.run import run_campaign
from portrait.errors import CampaignError
from portrait.files import leftovers
from portrait.images import write_picture
from portrait.report.write import write_report
from tests.campaigns import NO_FACE, Load, local, person, pictures, write_campaign

SIZES = ["original", "round-256"]
WAITS = (0.02, 0.1, 0.3, 0.8, 2, 4)
"""The range in seconds from which the delay of each kill is drawn."""


class Trial:
    """A plan, the result of an undisturbed run, and the kills so far."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        self.kills = 0
        self.problems: list[str] = []
        self.plan = write_campaign(folder, people=6, styles=("oil", "comic"), max_attempts=1)
        write_picture(folder / "people" / "p05.png", person(5, blue=NO_FACE))
        self.whole = self.finished(folder / "whole")

    def finished(self, run: Path) -> dict[str, object]:
        """Run, retry, export and prune a plan without kills; return the result."""
        run_campaign(read_plan(self.plan), run, local())
        self.retry(run, local())
        return self.ended(run)

    def retry(self, run: Path, engine: Callable[[int], Engine]) -> None:
        """Retry rejected jobs once, and failed ones; continues a retry that was killed."""
        with Ledger.open(run) as ledger:
            has_begun = any(job.round for job in ledger.jobs())
        run_campaign(read_plan(self.plan), run, engine, retry=["failed"] if has_begun else ["rejected", "failed"])

    def ended(self, run: Path) -> dict[str, object]:
        """Export and prune a finished run; return the result."""
        out = run.with_name(f"{run.name}-export")
        export_run(run, out, SIZES)
        prune_run(run, rejected=True)
        return self.state(run, out)

    def state(self, run: Path, out: Path) -> dict[str, object]:
        """Pictures, ledger and export, without what differs between any two runs."""
        with Ledger.open(run) as ledger:
            jobs = [(job.key, job.state, job.attempts, job.round, job.output) for job in ledger.jobs()]
        text = (out / "manifest.csv").read_text("utf-8-sig")
        rows = [
            {name: cell for name, cell in row.items() if name != "run"} for row in csv.DictReader(text.splitlines())
        ]
        exported = {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.png"))}
        return {"pictures": pictures(run), "jobs": jobs, "manifest": rows, "exported": exported}

    def disturbed(self, run: Path) -> None:
        """Run one campaign with kills in each of its commands, and compare it with the undisturbed one."""
        out = run.with_name(f"{run.name}-export")
        pause = self.chance.choice([0.0, 0.0, 0.02])
        self.through(lambda: run_campaign(read_plan(self.plan), run, local(Load(pause))), run, 12)
        run_campaign(read_plan(self.plan), run, local())
        self.through(lambda: self.retry(run, local(Load(pause))), run, 6)
        self.retry(run, local())
        self.through(lambda: write_report(run, None, html=run / "report" / "index.html"), run, 2)
        self.through(lambda: export_run(run, out, SIZES), out, 6)
        self.through(lambda: prune_run(run, rejected=True), run, 3)
        state = self.ended(run)
        self.problems += [f"{run.name}: {name} differ" for name, value in state.items() if value != self.whole[name]]
        begun = [path for top in (run, out) for folder, _, _ in os.walk(top) for path in leftovers(Path(folder))]
        self.problems += [f"{run.name}: {path} is left" for path in begun]
        for folder in (run, out):
            shutil.rmtree(folder)

    def through(self, command: Callable[[], object], folder: Path, most: int) -> None:
        """Do something despite this many kills, or until it finishes; check the files after each kill."""
        for _ in range(most):
            ended = accepted_files(folder)
            status = killed(command, self.chance.choice(WAITS) * self.chance.random())
            self.kills += status is None
            self.problems += [f"{folder.name}: {name} is lost" for name in ended - present(folder)]
            self.problems += [f"{path} is not whole" for path in folder.rglob("*") if not is_whole(path)]
            if status == 0:
                return
            if status is not None:
                self.problems.append(f"{folder.name}: a command ended with {status}")


def killed(command: Callable[[], object], seconds: float) -> int | None:
    """The exit code of a command run as a process; None if it was killed after the given number of seconds."""
    process = os.fork()
    if not process:
        try:
            command()
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def accepted_files(run: Path) -> set[str]:
    """The pictures that are accepted according to a run's ledger; none without a ledger."""
    try:
        with Ledger.open(run) as ledger:
            return {str(job.output) for job in ledger.jobs("accepted")}
    except CampaignError:
        return set()


def present(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def is_whole(path: Path) -> bool:
    """Whether a picture or record with its final name can be read completely."""
    if path.name.startswith(".") or not path.is_file():
        return True
    try:
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix in (".png", ".jpg"):
            with Image.open(path) as image:
                image.load()
    except (OSError, ValueError):
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int, nargs="?", default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60.0)
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    end = time.monotonic() + 60 * args.minutes
    with tempfile.TemporaryDirectory(prefix="portrait-kills-") as name:
        os.environ["PORTRAIT_CACHE"] = str(Path(name) / "cache")
        trial, runs = Trial(Path(name), args.seed), 0
        while trial.kills < args.kills and time.monotonic() < end:
            runs += 1
            trial.disturbed(Path(name) / f"run{runs}")
    print(f"seed {args.seed}: {trial.kills} kills in {runs} campaigns, {len(trial.problems)} problems")
    print("\n".join(sorted(set(trial.problems))), end="")
    return 1 if trial.problems else 0


if __name__ == "__main__":
    sys.exit(main())
