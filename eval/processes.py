"""Run scripts as processes: each on its share of the cores, or one with what it spends."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


def all_cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return sorted(affinity(0)) if affinity else list(range(os.cpu_count() or 1))


def shares(parts: int) -> list[list[int]]:
    """Divide the cores into `parts` shares; each has all cores if there are fewer cores than parts."""
    cores = all_cores()
    return [cores[number::parts] or cores for number in range(parts)]


def start(
    command: Sequence[str], cores: Sequence[int], log: Path, folder: Path, more: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a command in a folder, restricted to these cores; its output is appended to `log`.

    `more` are additional environment variables.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(len(cores)), **(more or {})}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH", "")]))
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            os.sched_setaffinity(process.pid, cores)
    return process


def last_line(log: Path) -> str:
    """The last line of a log that is not blank."""
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A process that has ended: its exit code, its output, and what it spent with the processes that it waited for."""

    code: int
    output: str
    seconds: float
    processor: float
    megabytes: int


def run_measured(command: Sequence[str], more: Mapping[str, str] | None = None) -> Ended:
    """Run a command to its end, on all cores and with these additional environment variables; its errors are shown."""
    with tempfile.TemporaryFile("w+") as output:
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, env={**os.environ, **(more or {})})
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        return Ended(
            code=process.returncode,
            output=output.read(),
            seconds=seconds,
            processor=used.ru_utime + used.ru_stime,
            megabytes=used.ru_maxrss // (2**20 if sys.platform == "darwin" else 2**10),
        )
