"""The folders for caches and the user's own configuration, and how many cores there are."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """The folder for what can be built again; `PORTRAIT_CACHE` overrides the platform's own."""
    override = os.environ.get("PORTRAIT_CACHE")
    return Path(override) if override else Path(platformdirs.user_cache_dir("portrait", appauthor=False))


def config_dir() -> Path:
    """The folder for the user's own recipes and styles; `PORTRAIT_CONFIG` overrides the platform's own."""
    override = os.environ.get("PORTRAIT_CONFIG")
    return Path(override) if override else Path(platformdirs.user_config_dir("portrait", appauthor=False))


def cpu_threads() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return max(1, len(affinity(0)) if affinity else os.cpu_count() or 1)
