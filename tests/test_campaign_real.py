"""A campaign with the real parts: `mini`, InsightFace, dlib; killed, and on Ray, it makes the same pictures."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portrait.campaign.engines import LocalEngine
from portrait.campaign.ledger import Ledger
from portrait.campaign.plan import read_plan
from portrait.campaign.run import run_campaign
from portrait.generate.families.mini.generator import MiniGenerator
from portrait.generate.inputs import MAX_PROMPTS, Cache
from portrait.generate.onnx_network import OnnxNetwork
from portrait.images import read_photo, write_picture
from portrait.loop.attempt_loop import AttemptLoop
from portrait.paths import cpu_threads
from portrait.recipes.load import load_recipe
from portrait.records import Embedding, RgbImage
from portrait.records.portrait import read_portrait
from portrait.report.drift import compute_report
from portrait.report.page import drift_page
from portrait.report.runs import read_run
from tests.campaigns import ROOT, done, pictures

pytestmark = [pytest.mark.weights, pytest.mark.slow]


@pytest.fixture(scope="module")
def plan(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The astronaut and one guest of the group photo, and a cat, in the recipe's first two styles."""
    folder = tmp_path_factory.mktemp("real")
    write_picture(folder / "people" / "astronaut.png", read_photo(photos / "astronaut.png").pixels)
    write_picture(folder / "people" / "guest.png", read_photo(photos / "t1.png").pixels[78:358, 191:451].copy())
    write_picture(folder / "people" / "chelsea.png", read_photo(photos / "chelsea.png").pixels)
    styles = json.dumps(list(load_recipe("mini").styles)[:2])
    settings = f'max_attempts = 1\nface = "largest"\nthreads = {cpu_threads()}\n'
    (folder / "campaign.toml").write_text(f'subjects = "people"\nstyles = {styles}\n[settings]\n{settings}')
    return folder / "campaign.toml"


@pytest.fixture(scope="module")
def whole(plan: Path, mini: AttemptLoop) -> Path:
    """The undisturbed run."""
    counts = run_campaign(read_plan(plan), plan.parent / "whole", lambda threads: LocalEngine(lambda settings: mini))
    assert (counts.jobs, counts.failed) == (6, 2)
    return plan.parent / "whole"


def start(plan: Path, run: Path, *more: str) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "portrait", "campaign", "run", str(plan), "-o", str(run), "--quiet", *more]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PORTRAIT_CACHE": str(run.parent / "cache")}
    return subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, start_new_session=True)


def test_a_run_of_mini_killed_with_sigkill_equals_an_undisturbed_one(plan: Path, whole: Path) -> None:
    run, chance = plan.parent / "killed", random.Random(3)
    for goal in (1, 4):
        process = start(plan, run)
        while process.poll() is None and done(run) < goal:
            time.sleep(0.02)
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        time.sleep(chance.random() * 0.3)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert start(plan, run).wait() == 0
    assert pictures(run) == pictures(whole)
    with Ledger.open(run) as ledger:
        assert ledger.counts().attempts == 4


def test_ray_with_mini_makes_the_same_pictures(plan: Path, whole: Path) -> None:
    pytest.importorskip("ray")
    process = start(plan, plan.parent / "ray", "--engine", "ray", "--workers", "1")
    assert process.wait() == 0, process.stderr and process.stderr.read().decode()
    assert pictures(plan.parent / "ray") == pictures(whole)


def test_a_campaign_picture_replays(plan: Path, whole: Path, mini: AttemptLoop) -> None:
    record = read_portrait(next((whole / "pictures").rglob("astronaut/**/*.json")).read_bytes())
    again = mini.replay(record, read_photo(plan.parent / "people" / "astronaut.png"))
    assert (again == read_photo(whole / str(record.output)).pixels).all()


def test_the_report_of_a_real_run_is_one_page(whole: Path) -> None:
    report = compute_report(read_run(whole))
    assert report.failure_to_acquire.count == 1
    assert report.overall.pictures == 4
    page = drift_page(whole)
    assert page.count("data:image/webp") >= 6  # four portraits and two photos
    assert 'src="http' not in page
    assert "no face found in" in page


def test_the_styles_of_a_photo_share_its_latents_and_the_people_of_a_style_its_prompt(
    mini: AttemptLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, calls = mini.generator, list[str]()
    assert isinstance(generator, MiniGenerator)

    def counted(name: str, network: OnnxNetwork) -> Callable[..., Any]:
        def count(**inputs: Any) -> Any:
            calls.append(name)
            return network(**inputs)

        return count

    monkeypatch.setattr(generator, "_encoder", counted("photo", generator._encoder))
    monkeypatch.setattr(generator, "_text", counted("prompt", generator._text))
    monkeypatch.setattr(generator, "_texts", Cache[Any](MAX_PROMPTS))
    rng = np.random.default_rng(1)
    anna, bo = (RgbImage(rng.integers(0, 255, (512, 512, 3), np.uint8)) for _ in range(2))
    embedding = Embedding(np.eye(1, 512, dtype=np.float32)[0])
    first = generator.prepare(anna, embedding, "oil")
    generator.prepare(anna, embedding, "comic")
    generator.prepare(bo, embedding, "comic")
    assert calls == ["photo", "prompt", "prompt", "photo"]
    again = generator.prepare(anna, embedding, "oil")
    assert (first.latents == again.latents).all()
    assert (first.texts == again.texts).all()
