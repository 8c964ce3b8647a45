"""Shared by the tests in a real browser: the Chromium, the time limit, and a page without animations.

Nothing is read right after an action that takes a moment: `expect` waits until the claim is true.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright: pip install 'portrait-stylizer[browser]'"
)
expect = sync_api.expect

CHROMIUM = os.environ.get("PORTRAIT_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
LONG = 240_000
"""Time limit in milliseconds for anything on a busy machine; a shorter wait ends sooner."""
expect.set_options(timeout=LONG)

MARKS = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; apt install chromium, or set PORTRAIT_CHROMIUM"),
]

_STILL = """
const sheet = new CSSStyleSheet();
sheet.replaceSync("*, *::before, *::after { transition: none !important; animation: none !important; }");
document.adoptedStyleSheets.push(sheet);
"""


def new_page(context: Any) -> Any:
    """A page without transitions and animations, so that a color that is read is the final one."""
    page = context.new_page()
    page.set_default_timeout(LONG)
    page.add_init_script(_STILL)
    return page


def keep_picture(page: Any, name: str, **options: Any) -> None:
    """With PORTRAIT_SCREENSHOTS=FOLDER, save a screenshot of the page."""
    if folder := os.environ.get("PORTRAIT_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", **options)
