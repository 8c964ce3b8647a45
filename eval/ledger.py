"""Is the ledger still instant at 100,000 attempts: what a run and `status` ask of it, timed.

python eval/ledger.py            # writes eval/ledger.json
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from portrait.campaign.ledger import FILE, Ledger
from portrait.campaign.plan import PlannedPicture
from portrait.images import write_json
from portrait.recipes.load import load_recipe

PEOPLE, ATTEMPTS = 6250, 4


def attempt(n: int) -> dict[str, Any]:
    """As large as a real one."""
    knobs = {"strength": 1.0, "guidance_scale": 1.5, "ip_adapter_scale": 1.0, "controlnet_conditioning_scale": 0.65}
    return {
        "knobs": knobs | {"num_inference_steps": 4}, "seed": n, "similarity": {"arcface": 0.7134, "dlib": 0.9712},
        "style_on_face": 0.6123, "face_found": True, "accepted": n % 4 == 3, "seconds": 1.234, "burned": 0.00123,
        "reasons": [] if n % 4 == 3 else ["identity_low:dlib"], "kept": {}, "batch": [n],
    }  # fmt: skip


def fill(ledger: Ledger, styles: list[str]) -> None:
    pictures = [
        PlannedPicture(subject=f"person {p:05}", recipe="mini", style=style, axes=(), variant=0)
        for p in range(PEOPLE)
        for style in styles
    ]
    with ledger.transaction():
        ledger.put_subjects(
            (f"person {p:05}", [{"path": f"/photos/{p}.jpg", "sha256": "0" * 64}], {}) for p in range(PEOPLE)
        )
        ledger.put_jobs((f"{n:064x}", picture) for n, picture in enumerate(pictures))
    tries = [attempt(n) for n in range(ATTEMPTS)]
    record = {"status": "accepted", "attempts": tries, "filler": "x" * 4000}
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
            found = {
                "jobs": ledger.counts().jobs,
                "attempts": ledger.counts().attempts,
                "megabytes": round((Path(folder) / FILE).stat().st_size / 2**20, 1),
                "milliseconds": {
                    "open": timed(lambda: Ledger.open(Path(folder)).close()),
                    "counts (after each job)": timed(ledger.counts),
                    "counts by style (status)": timed(ledger.counts_by_style),
                    "reasons of all attempts (status)": timed(ledger.reasons, 3),
                    "next batch of a run": timed(lambda: ledger.next_batch(-1, 8)),
                    "write a job with its attempts": timed(lambda: ledger.end(last, "pending", attempts=tries)),
                    "attempts of one job": timed(lambda: ledger.attempts(last.id)),
                },
            }
    print(json.dumps(found, indent=1))
    write_json(Path(__file__).with_suffix(".json"), found)


if __name__ == "__main__":
    main()
