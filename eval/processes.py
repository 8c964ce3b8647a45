"""Run scripts as processes, each on its share of the cores."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
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
