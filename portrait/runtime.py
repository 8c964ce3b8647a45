"""Device, threads, seeds, clocks and the folder for caches."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """The folder for what can be built again; `PORTRAIT_CACHE` overrides the platform's own."""
    override = os.environ.get("PORTRAIT_CACHE")
    return Path(override) if override else Path(platformdirs.user_cache_dir("portrait", appauthor=False))


def cpu_threads() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return max(1, len(affinity(0)) if affinity else os.cpu_count() or 1)
