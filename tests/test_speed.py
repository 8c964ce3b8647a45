"""What keeps portrait fast beside other programs and from a cold start: counted and read back, never timed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from portrait.faces.insightface_analyzer import InsightFaceAnalyzer

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def run_python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter, with nothing of how this one waits."""
    clean = {name: value for name, value in os.environ.items() if name not in WAITING}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=clean | env, capture_output=True, text=True, check=False
    )


def openmp_settings(**env: str) -> str:
    """What torch's OpenMP says of its settings when it is loaded after portrait."""
    spec = importlib.util.find_spec("torch")
    library = Path(str(spec.origin if spec else "")).parent / "lib" / "libgomp.so.1"
    if not library.exists():
        pytest.skip("torch brings no libgomp here")
    result = run_python(f"import portrait, ctypes; ctypes.CDLL({str(library)!r})", OMP_DISPLAY_ENV="VERBOSE", **env)
    assert result.returncode == 0, result.stderr
    return result.stderr


def test_threads_that_wait_at_a_barrier_sleep() -> None:
    settings = openmp_settings()
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in settings
    assert "GOMP_SPINCOUNT = '0'" in settings


@pytest.mark.parametrize(("name", "value"), [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "12345")])
def test_a_waiting_policy_that_the_user_sets_stays(name: str, value: str) -> None:
    assert f"{name} = '{value}'" in openmp_settings(**{name: value})


def test_the_judges_threads_do_not_spin_either(analyzer: InsightFaceAnalyzer) -> None:
    for session in (analyzer._detector.session, analyzer._recogniser.session):
        assert session.get_session_options().get_session_config_entry("session.intra_op.allow_spinning") == "0"
