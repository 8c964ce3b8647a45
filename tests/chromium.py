"""What the tests in a real browser share: the Chromium, how long they wait, and a page that holds still.

Nothing here is read at once after an action that takes a moment: `expect` waits until it is so.
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
"""Milliseconds for anything on a busy machine; what is there sooner is taken sooner."""
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
    """A page without transitions and animations: a color that is read is the one that stays."""
    page = context.new_page()
    page.set_default_timeout(LONG)
    page.add_init_script(_STILL)
    return page


def keep_picture(page: Any, name: str, **options: Any) -> None:
    """With PORTRAIT_SCREENSHOTS=FOLDER, the page as a picture, to be looked at."""
    if folder := os.environ.get("PORTRAIT_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", **options)
