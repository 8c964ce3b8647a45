"""Six records as the program writes them, made by the command line with the fakes' pictures: `tests/golden/*.json`.

`make golden` writes them again. Everything that depends on the machine is replaced: folders, seconds, digests, versions
and a campaign's seeds.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portrait.campaign.ledger import Ledger
from portrait.campaign.plan import read_plan
from portrait.campaign.run import run_campaign
from portrait.cli.main import main
from portrait.images import write_picture
from portrait.loop.attempt_loop import AttemptLoop
from portrait.recipes.load import load_recipe
from portrait.records import Knobs, RgbImage
from portrait.records.portrait import PortraitRecord, read_portrait
from portrait.settings import Settings
from tests.campaigns import faces, local, paint, person, write_campaign, write_limits
from tests.fakes import SIZE, FakeAnalyzer, fake_loop, photo_thresholds_of

GOLDEN = Path(__file__).parent / "golden"
CLOSE = Knobs(
    strength=0.5, guidance_scale=1.5, ip_adapter_scale=1.0, controlnet_conditioning_scale=0.7, num_inference_steps=8
)
STYLIZED = replace(CLOSE, strength=0.9, controlnet_conditioning_scale=0.45, ip_adapter_scale=0.8)
ALWAYS_SEPARATE = photo_thresholds_of(0.99999)
"""The fakes' people differ by a few colors, so only photos this similar are of one person."""


class LoadRecipe:
    """The requested recipe, with the fakes' pictures and with knobs that do not depend on the weights of `mini`."""

    def __init__(self, draw: Callable[[RgbImage, Knobs, int], RgbImage] = paint) -> None:
        self.draw = draw

    def __call__(self, settings: Settings) -> AttemptLoop:
        recipe = replace(load_recipe(settings.recipe), resolution=SIZE, balance=((0.0, CLOSE), (1.0, STYLIZED)))
        return fake_loop(self.draw, FakeAnalyzer(faces), recipe=recipe)


def stray(photo: RgbImage, knobs: Knobs, seed: int) -> RgbImage:
    """Most of the way, in color, to the next person of the campaign."""
    return (paint(photo, knobs, 1) + np.array([16, -12, 0])).clip(0, 255).astype(np.uint8)


def write_statistics(path: Path) -> None:
    """Limits with the statistics of a style's faces, which hardly any picture of the fakes satisfies."""
    write_limits(path)
    table = json.loads(path.read_text())
    for entry in table["styles"].values():
        entry["style_statistics"] = {
            "mean": [0.0] * 12,
            "precision": np.eye(12).tolist(),
            "limit": 0.5,
            "least": 0.2,
            "other_styles_rejected": {"oil": 0.95, "comic": 0.25},
        }
    path.write_text(json.dumps(table))


def stylize(folder: Path, photo: RgbImage, *flags: str, limits: bool = True) -> str:
    """The one line that `portrait stylize PHOTO --json` prints."""
    write_picture(folder / "anna.png", photo)
    threshold_flags = ["--thresholds", str(folder / "limits.json")] if limits else []
    arguments = ["stylize", str(folder / "anna.png"), "--json", "--threads", "1", "-o", str(folder / "out")]
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(printed):
        patch.setattr("portrait.cli.stylize.load_loop", LoadRecipe())
        main([*arguments, *threshold_flags, *flags])
    return next(line for line in printed.getvalue().splitlines() if line.startswith("{"))


def accepted(folder: Path) -> str:
    """The first attempt misses the likeness; a second photo of the person is given."""
    write_limits(folder / "limits.json")
    write_picture(folder / "anna-again.png", person(2, blue=70))
    return stylize(folder, person(2), "--style", "oil", "--seed", "3", "--reference", str(folder / "anna-again.png"))


def rejected(folder: Path) -> str:
    write_statistics(folder / "limits.json")
    return stylize(folder, person(2), "--seed", "3", "--max-attempts", "3", "--batch", "2")


def failed(folder: Path) -> str:
    write_limits(folder / "limits.json")
    return stylize(folder, person(2, blue=255))


def kept(folder: Path) -> str:
    write_limits(folder / "limits.json")
    mask = np.zeros((SIZE, SIZE, 3), np.uint8)
    mask[:24, :24] = 255
    write_picture(folder / "logo.png", mask)
    keeps = [f"--keep={keep}" for keep in ("pose", "colors", "region:90,100,30,20", f"mask:{folder / 'logo.png'}")]
    return stylize(folder, person(2), *keeps, "--frame", "full", "--balance", "0.25", "--stop", "best")


def swapped(folder: Path) -> str:
    """The record of a campaign's portrait that resembles another person of the campaign more."""
    plan = write_campaign(folder, people=0, styles=("watercolor", "oil"), max_attempts=1)
    write_limits(folder / "limits.json", 0.99)
    for n in range(6):
        write_picture(folder / "people" / f"p{n:02}.png", person(5 * n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("portrait.judge.gallery.photo_thresholds", lambda: ALWAYS_SEPARATE)
        run_campaign(read_plan(plan), folder / "run", local(LoadRecipe(stray)))
    with Ledger.open(folder / "run") as ledger:
        output = next(str(job.output) for job in ledger.jobs("rejected") if "swapped" in job.reasons)
    return (folder / "run" / output).with_suffix(".json").read_text()


def public(folder: Path) -> str:
    """A recipe without calibrated thresholds."""
    flags = ("--recipe", "sd15-faceid", "--max-attempts", "1")
    return stylize(folder, person(2), *flags, limits=False)


MAKERS: dict[str, Callable[[Path], str]] = {
    "accepted": accepted, "rejected": rejected, "failed": failed, "kept": kept, "swapped": swapped, "public": public
}  # fmt: skip


def same_everywhere(value: Any, key: str = "") -> Any:
    """`value` without anything that depends on the machine or the date."""
    if isinstance(value, dict):
        if key == "versions":
            return dict.fromkeys(value, "1.0")
        return {name: same_everywhere(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [same_everywhere(item, key) for item in value]
    if key == "seconds":
        return 1.25
    if key in ("seed", "batch"):
        return min(value, 1000)  # a campaign draws its seeds from the job's key
    if key in ("sha256", "pixels_sha256", "key"):
        return "0123456789abcdef" * (len(value) // 16)
    return value


def golden_text(name: str) -> str:
    """A newly made record, in the form of the files beside pictures."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        text = MAKERS[name](folder).replace(str(folder), "/photos")
    return json.dumps(same_everywhere(json.loads(text)), indent=1) + "\n"


def golden_portrait(name: str = "accepted") -> PortraitRecord:
    """A golden record as an object, for tests that change something in it."""
    return read_portrait((GOLDEN / f"{name}.json").read_bytes(), name)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name in MAKERS:
        (GOLDEN / f"{name}.json").write_text(golden_text(name))
