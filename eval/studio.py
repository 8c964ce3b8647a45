"""How long a visitor of the studio page waits: for the first picture, and for each adjustment.

    python eval/studio.py                       # writes eval/studio.json

A new `portrait studio` process is opened in Chromium. Time is measured from the choice of a photo, which starts the first
portrait, or from a click, until the picture is on the page. After the first portrait the photo is previewed in every style;
the first and the last of these small pictures are timed too. There are three visits: one that begins while the models are
still being loaded, and two later ones. Adjustments: the slider, another style, another variant. Needs playwright and a
Chromium, like the browser tests; run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from held_out_people import RUNTIME, weights_today
from skimage.data import astronaut

from portrait.files import write_json
from portrait.images import write_picture
from portrait.paths import cpu_threads

if TYPE_CHECKING:  # in the extra `browser`: `--help` works without it
    from playwright.sync_api import Page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--port", type=int, default=7899)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("PORTRAIT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        photo = write_picture(Path(folder) / "astronaut.png", astronaut())
        began = time.perf_counter()
        server = subprocess.Popen(
            [sys.executable, "-m", "portrait", "studio", "--recipe", args.recipe, "--port", str(args.port)],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            server.stdout.readline()
            results: dict[str, Any] = {"recipe": args.recipe, "cores": cpu_threads()}
            results["page_is_up"] = round(time.perf_counter() - began, 2)
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            visits = [visit(browser.new_page(), f"http://127.0.0.1:{args.port}", photo) for _ in range(3)]
        finally:
            server.terminate()
            server.wait()
    results |= {"first_visit": visits[0], "later_visits": visits[1:]}
    print(json.dumps(results, indent=1))
    write_json(args.output, results | {"runtime": RUNTIME, "weights": weights_today()})


CLOCK = """(places) => {
  const since = performance.now(), seen = window.seen = {};
  const look = () => {
    for (const name in places) if (!(name in seen) && document.querySelector(places[name])) seen[name] = (performance.now() - since) / 1000;
    if (window.seen === seen && Object.keys(seen).length < Object.keys(places).length) requestAnimationFrame(look);
  };
  look();
}"""
"""Records in `seen` after how many seconds each of the places exists."""


def visit(page: Page, url: str, photo: Path) -> dict[str, Any]:
    """Seconds of one visit from the photo to faces, first portrait and previews; of each adjustment, with its attempts."""
    page.set_default_timeout(600_000)
    page.goto(url)
    page.wait_for_selector("#wire [data-session]", state="attached")
    seconds: dict[str, Any] = {}

    def timed(name: str, act: Callable[[], object], **further: str) -> None:
        count = page.locator(".history li").count()
        places = {name: f".history li:nth-child({count + 1})", **further}
        page.evaluate(CLOCK, places)
        act()
        page.wait_for_function("(count) => Object.keys(window.seen).length === count", arg=len(places))
        page.wait_for_selector(".viewer[data-state=done]")
        seconds.update({place: round(value, 2) for place, value in page.evaluate("window.seen").items()})
        seconds[f"{name}_attempts"] = page.locator("#viewer pre").last.text_content().count("\nAttempt ")  # type: ignore[union-attr]

    def slide() -> None:
        page.focus("#balance-range")
        page.keyboard.press("ArrowLeft")

    preview = "#previews [data-place]"
    previews = page.locator("label.style").count() + page.locator("[data-strength]").count()
    timed(
        "first_picture",
        lambda: page.set_input_files("#photo input[data-file]", photo),
        faces="#photo .photo",
        first_preview=preview,
        all_previews=f"{preview}:nth-child({previews})",
    )
    timed("slider", slide)
    timed("style", lambda: page.locator("label.style").nth(1).click())
    timed("another_one", lambda: page.click("[data-more=another]"))
    page.close()
    return seconds


if __name__ == "__main__":
    main()
