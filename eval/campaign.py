"""How issue-size campaigns behave with the real model: killed ten times, with other seeds, with a planted change.

    python eval/campaign.py --data FACES             # 30 people x 4 styles; an hour on two busy cores; resumable
    python eval/campaign.py --data FACES --people 6 --styles 1 --kills 2

The run killed with SIGKILL at random moments must equal the undisturbed one, picture by picture; the run from other
seeds must not be called drifted; the run with the dial at 1 must be. The exit code is 1 if not.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from people import data_argument, held_out

from portrait.campaign.ledger import Ledger
from portrait.errors import CampaignError
from portrait.images import write_bytes
from portrait.recipes.recipe import load_recipe
from portrait.report.drift import compare, read_run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--people", type=int, default=30)
    parser.add_argument("--styles", type=int, default=4)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--work", type=Path, default=Path(__file__).parents[1] / "work" / "campaign")
    args = parser.parse_args()
    rows = [f"{p.parent.name}-{p.stem},{p.resolve()}" for p in held_out(args.data)[: args.people]]
    write_bytes(args.work / "people.csv", "\n".join(["subject,photo", *rows]).encode())
    styles = list(load_recipe("mini").styles)[: args.styles]
    runs = {name: args.work / name for name in ("whole", "killed", "seeds", "planted")}
    for name, folder in runs.items():
        more = {"seeds": "seed = 2\n", "planted": "balance = 1.0\n"}.get(name, "")
        text = f'subjects = "people.csv"\nstyles = {styles}\n[settings]\nthreads = 2\nmax_attempts = 3\n{more}'
        plan = write_bytes(args.work / f"{name}.toml", text.replace("'", '"').encode())
        if name == "killed":
            kill(plan, folder, args.kills)
        elif start(plan, folder).wait() not in (0, 1):
            return 1
    equal = pictures(runs["whole"]) == pictures(runs["killed"])
    base = read_run(runs["whole"])
    verdicts = {name: compare(read_run(runs[name]), base)["verdict"] for name in ("seeds", "planted")}
    print(f"killed {args.kills} times: {'equal, picture by picture' if equal else 'DIFFERENT'}")
    for name, verdict in verdicts.items():
        print(f"{name}: {verdict['verdict']}: {verdict['why']}")
    good = equal and verdicts["seeds"]["verdict"] != "drifted" and verdicts["planted"]["verdict"] == "drifted"
    return 0 if good else 1


def start(plan: Path, folder: Path) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "portrait", "campaign", "run", str(plan), "-o", str(folder), "--quiet"]
    return subprocess.Popen(argv, start_new_session=True)


def kill(plan: Path, folder: Path, times: int) -> None:
    """Run a plan to its end through so many SIGKILLs at random moments."""
    chance = random.Random(11)
    for _ in range(times):
        process, goal = start(plan, folder), ended(folder) + chance.randint(1, 12)
        while process.poll() is None and ended(folder) < goal:
            time.sleep(0.05)
        time.sleep(chance.random() * 0.5)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    start(plan, folder).wait()


def ended(folder: Path) -> int:
    try:
        with Ledger.open(folder) as ledger:
            return ledger.counts().done
    except CampaignError:
        return 0


def pictures(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted((folder / "pictures").rglob("*.png"))}


if __name__ == "__main__":
    sys.exit(main())
