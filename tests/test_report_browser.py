"""The report's page in a real Chromium: slider, filters and keys, and no requests.

Run with `make browser`. Needs the package playwright and a Chromium (Debian: apt install chromium;
PORTRAIT_CHROMIUM names another). With PORTRAIT_SCREENSHOTS=FOLDER the pages are kept as pictures, to be looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portrait.campaign.plan import read_plan
from portrait.campaign.run import run_campaign
from portrait.report.page import drift_page
from portrait.report.runs import read_run
from tests.campaigns import local, write_campaign
from tests.chromium import CHROMIUM, MARKS, expect, keep_picture, new_page, sync_api

pytestmark = MARKS


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 people in two styles, compared with the same from other seeds: `index.html`, beside the run."""
    folder = tmp_path_factory.mktemp("report")
    plan = write_campaign(folder, people=16, max_attempts=1)
    run_campaign(read_plan(plan), folder / "before", local())
    plan.write_text(plan.read_text() + "seed = 2\n")
    run_campaign(read_plan(plan), folder / "run", local())
    (folder / "index.html").write_text(drift_page(folder / "run", folder / "before"), "utf-8")
    return folder


@pytest.fixture
def page(report: Path) -> Iterator[Any]:
    """The page, opened as a file; at the end there must be no request to a server and no failed script."""
    strangers: list[str] = []
    broken: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = new_page(browser.new_context(viewport={"width": 1280, "height": 900}))
        opened.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else strangers.append(r.url))
        opened.on("pageerror", lambda error: broken.append(str(error)))
        opened.goto((report / "index.html").as_uri())
        yield opened
        keep_picture(opened, "report")
        browser.close()
    assert strangers == []
    assert broken == []


def test_filters_keys_and_the_slider_do_what_they_say(page: Any, report: Path) -> None:
    jobs = read_run(report / "run").jobs
    count, cards = page.locator(".filters output"), page.locator(".card:visible")
    expect(count).to_have_text("32 of 32 pictures")
    expect(cards).to_have_count(24)
    page.get_by_role("button", name="Show all 32").click()
    expect(cards).to_have_count(32)

    page.locator("[name=style]").select_option("oil")
    expect(count).to_have_text("16 of 32 pictures")
    assert {cards.nth(n).get_attribute("data-style") for n in range(cards.count())} == {"oil"}
    reason = next(job.reasons[0] for job in jobs if job.reasons)
    page.locator("[name=style]").select_option("")
    page.locator("[name=reason]").select_option(reason)
    expect(cards).to_have_count(sum(reason in job.reasons for job in jobs))
    page.locator("[name=reason]").select_option("")

    page.locator("h1").click()
    page.keyboard.press("/")
    page.keyboard.type("P03")
    expect(cards).to_have_count(2)
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    page.locator("[name=order]").select_option("name")
    cards.first.focus()
    for key, subject in (("ArrowRight", "p00"), ("ArrowRight", "p01"), ("End", "p15"), ("Home", "p00")):
        page.keyboard.press(key)
        page.wait_for_function("(subject) => document.activeElement.dataset.subject === subject", arg=subject)

    page.keyboard.press("Enter")
    dialog, slider = page.locator("dialog"), page.locator(".stage input")
    expect(dialog).to_be_visible()
    expect(dialog.locator("h3")).to_contain_text("p00 · ")
    expect(slider).to_have_value("50")
    for _ in range(10):
        page.keyboard.press("ArrowLeft")  # the slider has the focus
    expect(slider).to_have_value("40")
    page.wait_for_function("getComputedStyle(document.querySelector('.stage')).getPropertyValue('--cut') === '40%'")
    before = "getComputedStyle(document.querySelector('.stage .before')).backgroundImage"
    photo = page.evaluate(before)
    assert photo.startswith('url("data:image/webp')
    page.keyboard.press("b")
    page.wait_for_function(f"(photo) => ![photo, 'none'].includes({before})", arg=photo)
    page.keyboard.press("b")
    page.wait_for_function(f"(photo) => {before} === photo", arg=photo)
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(dialog.locator("h3")).to_contain_text("p01 · ")
    page.keyboard.press("k")
    expect(dialog.locator("h3")).to_contain_text("p00 · ")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.wait_for_function("document.activeElement.dataset.subject === 'p00'")


def test_a_phone_sees_the_page_without_scrolling_sideways(page: Any) -> None:
    page.set_viewport_size({"width": 375, "height": 800})
    page.wait_for_function("innerWidth === 375")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
