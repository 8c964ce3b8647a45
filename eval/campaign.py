"""Campaigns with the real model: killed ten times, run with other seeds, and run with a planted change.

    python eval/campaign.py --data FACES             # 30 people x 4 styles, writes eval/campaign.json; resumable
    python eval/campaign.py --data FACES --people 6 --styles 1 --kills 2 -o elsewhere.json

The run that is killed with SIGKILL at random moments must equal the undisturbed one, picture by picture, and must have been
killed as often as requested; the run with other seeds must not be called drifted; the run with the dial at 1 must. The exit
code is 1 otherwise. Another `--work` starts over.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from held_out_people import data_argument, held_out, weights_today

from portrait.campaign.ledger import Ledger
from portrait.errors import CampaignError
from portrait.files import write_bytes, write_json
from portrait.paths import cpu_threads
from portrait.recipes.load import load_recipe
from portrait.report.compare import compare
from portrait.report.runs import read_run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--people", type=int, default=30)
    parser.add_argument("--styles", type=int, default=4)
    parser.add_argument("--attempts", type=int, default=1, help="maximum per picture (default: 1, no retries)")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--work", type=Path, default=Path(__file__).parents[1] / "work" / "campaign")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    people = held_out(args.data)[: args.people]
    rows = [f"{p.parent.name}-{p.stem},{p.resolve()},{p.parent.name}" for p in people]
    write_bytes(args.work / "people.csv", "\n".join(["subject,photo,sex", *rows]).encode())
    styles = list(load_recipe("mini").styles)[: args.styles]
    runs = {name: args.work / name for name in ("whole", "killed", "seeds", "planted")}
    kills: list[int] = []
    for name, folder in runs.items():
        plan = write_plan(args.work, name, styles, args.attempts)
        if name == "killed":
            kills = kill(plan, folder, args.kills, len(people) * len(styles))
        elif start(plan, folder).wait() not in (0, 1):
            return 1
    base = read_run(runs["whole"])
    verdicts = {name: compare(read_run(runs[name]), base)[1] for name in ("seeds", "planted")}
    results = {
        "people": len(people), "styles": styles, "most_attempts": args.attempts,
        "jobs": len(base.jobs) + base.pending, "pending": base.pending, "pictures": len(pictures(runs["whole"])),
        "kills": len(kills), "jobs_ended_at_each_kill": kills,
        "pictures_that_differ": different(pictures(runs["whole"]), pictures(runs["killed"])),
        "ledgers_equal": ledger(runs["whole"]) == ledger(runs["killed"]),
        "verdicts": {name: {"verdict": v.verdict, "why": v.why} for name, v in verdicts.items()},
    }  # fmt: skip
    print(json.dumps(results, indent=1))
    write_json(args.output, results | {"weights": weights_today()})
    good = (
        len(kills) == args.kills
        and not base.pending
        and not results["pictures_that_differ"]
        and results["ledgers_equal"]
        and verdicts["seeds"].verdict != "drifted"
        and verdicts["planted"].verdict == "drifted"
    )
    return 0 if good else 1


def different(some: dict[str, bytes], others: dict[str, bytes]) -> list[str]:
    """The names of the pictures that are only in one of two runs, or not the same in both."""
    return sorted(name for name in some.keys() | others.keys() if some.get(name) != others.get(name))


def write_plan(work: Path, name: str, styles: list[str], attempts: int) -> Path:
    more = {"seeds": "seed = 2\n", "planted": "balance = 1.0\n"}.get(name, "")
    text = f'name = "{name}"\nsubjects = "people.csv"\nstyles = {json.dumps(styles)}\n[settings]\n'
    text += f"threads = {cpu_threads()}\nmax_attempts = {attempts}\n{more}"
    return write_bytes(work / f"{name}.toml", text.encode())


def start(plan: Path, folder: Path) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "portrait", "campaign", "run", str(plan), "-o", str(folder), "--quiet"]
    return subprocess.Popen(argv, start_new_session=True)


def kill(plan: Path, folder: Path, times: int, jobs: int) -> list[int]:
    """Run a plan to its end despite `times` SIGKILLs at random moments; return how many jobs were done at each.

    A kill counts if the process was still alive and had done a job since it was started.
    """
    chance, at = random.Random(11), list[int]()
    while len(at) < times:
        already = ended(folder)
        goal = already + chance.randint(1, max(1, 2 * (jobs - already) // (times - len(at) + 1) - 1))
        process = start(plan, folder)
        while process.poll() is None and ended(folder) < goal:
            time.sleep(0.05)
        time.sleep(chance.random() * 0.5)
        if process.poll() is not None:
            return at  # it finished first
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        at.append(ended(folder))
    start(plan, folder).wait()
    return at


def ended(folder: Path) -> int:
    try:
        with Ledger.open(folder) as ledger:
            return ledger.counts().done
    except CampaignError:
        return 0


def pictures(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted((folder / "pictures").rglob("*.png"))}


def ledger(folder: Path) -> list[Any]:
    """The result of each job, without times."""
    with Ledger.open(folder) as ledger:
        return [(job.key, job.state, job.reasons, job.attempts, job.output) for job in ledger.jobs()]


if __name__ == "__main__":
    sys.exit(main())
