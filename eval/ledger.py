"""How fast the ledger is at 100,000 attempts: the queries of a run and of `status`, timed.

python eval/ledger.py            # writes eval/ledger.json
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from portrait.campaign.ledger import FILE, Ledger
from portrait.campaign.plan import PlannedPicture
from portrait.files import write_json
from portrait.recipes.load import load_recipe
from portrait.records.portrait import AttemptRecord, read_portrait
from portrait.records.reasons import Reason

PEOPLE, ATTEMPTS = 6250, 4


RECORD = read_portrait((Path(__file__).parents[1] / "tests" / "golden" / "accepted.json").read_bytes())


def attempt(n: int) -> AttemptRecord:
    accepted = n % 4 == 3
    changes = {"accepted": accepted, "reasons": () if accepted else (Reason("identity_low:dlib"),)}
    return RECORD.chosen_attempt.model_copy(update=changes | {"seed": n, "batch": (n,)})


def fill(ledger: Ledger, styles: list[str]) -> None:
    pictures = [
        PlannedPicture(
            subject=f"person {p:05}", folder=f"person {p:05}", recipe="mini", style=style, axes=(), variant=0
        )
        for p in range(PEOPLE)
        for style in styles
    ]
    with ledger.transaction():
        for p in range(PEOPLE):
            ledger.put_subject(f"person {p:05}", [{"path": f"/photos/{p}.jpg", "sha256": "0" * 64}], {})
        ledger.put_jobs((f"{n:064x}", picture) for n, picture in enumerate(pictures))
    tries = tuple(attempt(n) for n in range(ATTEMPTS))
    record = RECORD.model_copy(update={"attempts": tries})
    jobs = list(ledger.jobs())
    ledger._db.execute("PRAGMA synchronous=OFF")  # only while it is filled
    for job in jobs[: -len(styles)]:
        ledger.end(job, "accepted", record=record, attempts=tries, output=job.stem, look={"lightness": 50.0})
    ledger._db.execute("PRAGMA synchronous=FULL")


def timed(what: Callable[[], object], times: int = 9) -> float:
    """Median milliseconds."""
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        what()
        spent.append(1000 * (time.perf_counter() - start))
    return round(statistics.median(spent), 2)


def main() -> None:
    styles = list(load_recipe("mini").styles)[:4]
    with tempfile.TemporaryDirectory() as folder:
        with Ledger.create(Path(folder)) as ledger:
            fill(ledger, styles)
        with Ledger.open(Path(folder)) as ledger:
            last = ledger.next_batch(-1, 1)[0]
            tries = [attempt(n) for n in range(ATTEMPTS)]
            results = {
                "jobs": ledger.counts().jobs,
                "attempts": ledger.counts().attempts,
                "megabytes": round((Path(folder) / FILE).stat().st_size / 2**20, 1),
                "milliseconds": {
                    "open": timed(lambda: Ledger.open(Path(folder)).close()),
                    "counts (after each job)": timed(ledger.counts),
                    "counts by style (status)": timed(ledger.counts_by_style),
                    "reasons of all attempts (status)": timed(ledger.count_reasons, 3),
                    "next batch of a run": timed(lambda: ledger.next_batch(-1, 8)),
                    "write a job with its attempts": timed(lambda: ledger.end(last, "pending", attempts=tries)),
                    "attempts of one job": timed(lambda: ledger.attempts(last.id)),
                },
            }
    print(json.dumps(results, indent=1))
    write_json(Path(__file__).with_suffix(".json"), results)


if __name__ == "__main__":
    main()
