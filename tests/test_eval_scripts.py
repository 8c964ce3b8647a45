"""Every script of eval/ works with the current library: it can be imported and has a docstring."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from portrait.images import write_picture
from tests.scripts import EVAL, script


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in EVAL.glob("*.py")))
def test_each_script_loads_and_says_what_it_does(name: str) -> None:
    assert len((script(name).__doc__ or "").splitlines()) >= 1


def test_latency_looks_for_photos_in_the_folders_below(tmp_path: Path) -> None:
    latency = script("latency")
    with pytest.raises(SystemExit, match="no photos in"):
        latency._photos(tmp_path)
    photo = write_picture(tmp_path / "women" / "anna.png", np.zeros((8, 8, 3), np.uint8))
    assert latency._photos(tmp_path) == latency._photos(photo) == [photo]


def test_latency_keeps_what_was_measured_before_of_the_same_weights_and_runtime_on_the_same_machine() -> None:
    machine = {
        "weights": {"unet": "1"},
        "runtime": "onnxruntime",
        "processor": "x",
        "cores": 2,
        "threads": 2,
        "style": "oil",
    }
    before = machine | {"runs": ["cold and batches"], "quiet": {"cold": 1}, "batches": 2}
    now = machine | {"runs": ["warm"], "quiet": {"warm": 3}}
    joined = script("latency").joined
    assert joined(before, now) == machine | {
        "runs": ["cold and batches", "warm"],
        "quiet": {"cold": 1, "warm": 3},
        "batches": 2,
    }
    assert joined({}, now) == now
    for other in ({"weights": {"unet": "2"}}, {"runtime": "torch"}):
        assert joined(before, now | other) == now | other
    without_runtime = {name: value for name, value in before.items() if name != "runtime"}
    assert joined(without_runtime, now) == now


def test_a_measured_process_returns_its_code_its_output_and_what_it_spent() -> None:
    program = "import os, sys; print(os.environ['GREETING'], len(bytearray(100_000_000))); sys.exit(3)"
    ended = script("processes").run_measured([sys.executable, "-S", "-c", program], {"GREETING": "hello"})
    assert (ended.code, ended.output) == (3, "hello 100000000\n")
    assert ended.megabytes >= 95
    assert ended.processor > 0
