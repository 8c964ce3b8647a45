"""The studio in a real Chromium, with the real `mini`: what visitors see and do.

Run with `make browser`. Needs the package playwright and a Chromium (Debian: apt install chromium;
PORTRAIT_CHROMIUM names another). With PORTRAIT_SCREENSHOTS=FOLDER the pages are kept as pictures, to be looked at.
"""

from __future__ import annotations

import base64
import io
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from portrait.hub.manifest import find_part
from portrait.recipes.load import load_recipe
from tests import public
from tests.campaigns import write_campaign
from tests.chromium import CHROMIUM, LONG, MARKS, expect, keep_picture, new_page, sync_api
from tests.hub_server import environment, serving

pytest.importorskip("gradio", reason="the studio needs gradio: pip install 'portrait-stylizer[studio]'")
pytestmark = MARKS

STUDIO = """
import sys
from portrait.cli.main import main
from portrait.studio import serve, session_registry
session_registry.AWAY_SECONDS, serve.SWEEP_SECONDS = 5.0, 1.0  # what a closed tab leaves behind is in nobody's way
sys.exit(main(["studio", *sys.argv[1:]]))
"""


class Server:
    """`portrait studio` as a process whose temporary folder can be inspected."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url, self.folder = f"http://127.0.0.1:{port}", folder
        self.said = folder / "said.txt"
        with self.said.open("w") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-c", STUDIO, "--port", str(port), *options],
                cwd=folder,
                env=os.environ | {"TMPDIR": str(folder)} | environment,
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Server:
        end = time.monotonic() + LONG / 1000
        while f"portrait studio: {self.url}" not in self.said.read_text():
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                raise AssertionError(f"the studio does not start: {self.said.read_text()}")
            time.sleep(0.1)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Stop it; no handler may have failed meanwhile."""
        try:
            if kind is None:
                self.stop()
                assert "Traceback" not in self.said.read_text(), self.said.read_text()
        finally:
            self.process.kill()

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(LONG / 1000) == 0

    def private(self) -> list[Path]:
        """The folder in which everything lies that the studio writes."""
        return list(self.folder.glob("portrait-studio-*"))

    def pictures(self) -> list[str]:
        return [name for _, _, names in os.walk(self.folder) for name in names]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("studio")) as running:
        yield running


@pytest.fixture(scope="module")
def browser(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Chromium with a camera that sees the astronaut."""
    film = tmp_path_factory.mktemp("camera") / "astronaut.y4m"
    picture = Image.open(photos / "astronaut.png").convert("YCbCr")
    y, u, v = (np.asarray(plane) for plane in picture.split())
    with film.open("wb") as file:
        file.write(b"YUV4MPEG2 W512 H512 F10:1 Ip A1:1 C420jpeg\n")
        for _ in range(5):
            file.write(b"FRAME\n" + y.tobytes() + u[::2, ::2].tobytes() + v[::2, ::2].tobytes())
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    camera.append(f"--use-file-for-fake-video-capture={film}")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *camera])
        yield chromium
        chromium.close()


Open = Callable[..., Any]


@pytest.fixture
def visit(browser: Any, server: Server, request: pytest.FixtureRequest) -> Iterator[Open]:
    """Open the page; at the end there must be no request to another server and no failed script.

    If the test fails, the page's messages are printed.
    """
    strangers: list[str] = []
    broken: list[str] = []
    contexts = []
    failed = request.session.testsfailed

    def open_page(**options: Any) -> Any:
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        contexts.append(context)
        page = new_page(context)
        page.on(
            "request", lambda r: None if r.url.startswith((server.url, "data:", "blob:")) else strangers.append(r.url)
        )
        page.on("pageerror", lambda error: broken.append(str(error)))
        return greeted(page, server.url)

    yield open_page
    for context in contexts:
        for page in context.pages if request.session.testsfailed > failed else ():
            print(f"--- {page.url}", page.inner_text("body"), sep="\n")
        context.close()
    assert strangers == []
    assert broken == []


def greeted(page: Any, url: str) -> Any:
    """Open the page and wait for the studio's answer; earlier actions may be lost."""
    page.goto(url)
    page.wait_for_selector("#wire [data-session]", state="attached")
    return page


def upload(page: Any, file: Path) -> None:
    page.set_input_files("#photo input[data-file]", file)


def with_photo(page: Any, file: Path) -> None:
    upload(page, file)
    page.wait_for_selector("#photo .photo")


def made(page: Any, count: int) -> None:
    """Wait until this many pictures are in the history and nothing is being made."""
    page.wait_for_selector(f".history li:nth-child({count})")
    page.wait_for_selector(".viewer:not([data-state=working])")
    page.wait_for_selector("#make")


def command_of(page: Any, says: str) -> str:
    """The folded command of the shown picture, once it matches `says`."""
    expect(page.locator(".command code")).to_have_text(re.compile(says))
    return str(page.text_content(".command code"))


def details_say(page: Any, text: str) -> None:
    """Expect a text in the folded scores and record of the shown picture."""
    expect(page.locator("#viewer [data-fold=details] .panel")).to_contain_text(text)


def start_over(page: Any) -> None:
    page.click("[data-act=reset]")
    page.click("#ask [value=yes]")
    page.wait_for_selector(".drop")


def minutes_of_work(page: Any) -> None:
    """Settings whose picture takes longer than a visitor's next action, on any machine."""
    page.click("#advanced summary")
    page.locator("#until").get_by_text("Most stylized").click()
    page.fill("#advanced-max_attempts input", "32")
    page.get_by_label("Drawing steps: automatic").uncheck()
    page.locator("#num_inference_steps-range").fill("100")


UNNAMED = """() => [...document.querySelectorAll('button, input, select, textarea, a[href], img, iframe')]
  .filter((e) => e.offsetParent !== null || e.classList.contains('sr'))
  .filter((e) => !(e.tagName === 'IMG' ? e.hasAttribute('alt') : (e.getAttribute('aria-label') || e.textContent.trim()
     || (e.labels && e.labels.length && e.labels[0].textContent.trim()) || e.title || e.getAttribute('aria-labelledby'))))
  .map((e) => e.outerHTML.slice(0, 120))"""

FAINT = """() => {
  const read = (c) => { const n = c.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const over = (top, below) => below.map((v, i) => i === 3 ? 1 : top[i] * top[3] + v * (1 - top[3]));
  const behind = (e) => {
    const layers = [];
    for (; e; e = e.parentElement) {
      const color = read(getComputedStyle(e).backgroundColor);
      layers.push(color);
      if (color[3] === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    const style = getComputedStyle(e);
    if (!own || e.offsetParent === null || style.visibility === 'hidden' || e.closest('.sr, :disabled, .pair, .stage')) continue;
    const back = behind(e), front = over(read(style.color), back);
    const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.6 && style.fontWeight >= 700);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5)) found.push(`${ratio.toFixed(2)} ${e.tagName}.${e.className} "${e.textContent.trim().slice(0, 40)}"`);
  }
  return found;
}"""


def test_a_photo_becomes_a_portrait_and_every_adjustment_another(visit: Open, server: Server, photos: Path) -> None:
    page = visit()
    keep_picture(page, "1-empty")
    with_photo(page, photos / "astronaut.png")  # it begins at once
    expect(page.locator("#photo")).to_contain_text("One face found")
    keep_picture(page, "2-photo")
    page.wait_for_selector(".working img.forming:not(.waits)")
    keep_picture(page, "3-forming")
    made(page, 1)
    expect(page.locator("#viewer .say")).to_contain_text(re.compile("Looks like you|Not"))
    for label in ("ArcFace", "dlib", "needs", "Redrawn", "Watercolor", "Blown-out colors", "at most"):
        details_say(page, label)

    page.focus("#balance input[type=range]")
    page.keyboard.press("ArrowLeft")
    made(page, 2)
    expect(page.locator("[data-show='2']")).to_have_attribute("aria-label", re.compile("2: Watercolor.*strength 0.45"))

    page.locator("label.style").nth(1).click()
    made(page, 3)
    page.click("[data-more=style]")
    made(page, 4)
    expect(page.locator("#balance-range")).to_have_value("0.6")
    keep_picture(page, "4-result", full_page=True)

    page.click("[data-act=undo]")
    page.wait_for_selector("[data-show='3'][aria-current]")
    expect(page.locator("#balance-range")).to_have_value("0.45")
    page.click("[data-act=compare]")
    page.select_option("[data-compare]", "1")
    page.wait_for_selector(".pair .tag.left:has-text('Picture 1')")
    page.check("[data-side]")
    keep_picture(page, "5-side-by-side")
    page.uncheck("[data-side]")
    page.focus("[data-key=cut]")
    page.keyboard.press("Home")
    expect(page.locator(".pair")).to_have_attribute("style", re.compile("--cut: 0%"))

    start_over(page)
    page.wait_for_selector(".gallery")
    assert [name for name in server.pictures() if name.startswith("astronaut")] == []


def test_the_shown_command_makes_the_downloaded_picture_pixel_for_pixel(
    visit: Open, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = visit()
    with_photo(page, photos / "astronaut.png")
    made(page, 1)
    page.click("#keep summary")
    page.locator("#keep").get_by_label("Background").check()
    page.locator("label.style").nth(2).click()
    made(page, 2)
    command = command_of(page, "^portrait stylize astronaut.png --style .*--keep background")
    keep_picture(page, "6-command", full_page=True)
    with page.expect_download() as picture:
        page.click("#viewer a.primary")
    page.click("[data-key=sizes]")
    with page.expect_download() as archive:
        page.click("a[download$='.zip']")
    names = zipfile.ZipFile(archive.value.path()).namelist()
    assert any("avatar-256" in name for name in names)
    assert any(name.endswith(".json") for name in names)

    from portrait.cli.main import main

    monkeypatch.chdir(photos)
    main([*shlex.split(command)[1:], "-o", str(tmp_path / "out"), "--quiet"])
    (again,) = [p for p in (tmp_path / "out").glob("*.png") if "contact" not in p.name]
    downloaded = np.asarray(Image.open(io.BytesIO(Path(picture.value.path()).read_bytes())))
    np.testing.assert_array_equal(downloaded, np.asarray(Image.open(again)))


def test_a_photo_that_comes_while_another_is_looked_at_takes_its_place(
    visit: Open, photos: Path, tmp_path: Path
) -> None:
    Image.open(photos / "t1.png").resize((7900, 7900)).save(tmp_path / "slow.png", compress_level=1)
    page = visit()
    upload(page, tmp_path / "slow.png")
    page.set_input_files("#photo .busy input[data-file]", photos / "astronaut.png")
    made(page, 1)
    command_of(page, "astronaut.png")


def test_of_six_faces_one_is_chosen_by_click_or_key(visit: Open, photos: Path) -> None:
    page = visit()
    with_photo(page, photos / "t1.png")
    expect(page.locator("#viewer .faces [data-face]")).to_have_count(6)
    expect(page.locator("#viewer .faces [aria-pressed=true]")).to_have_count(0)
    sides = page.locator("#viewer .faces [data-face]").evaluate_all("all => all.map(e => e.offsetWidth)")
    assert min(sides) >= 44  # for a finger
    page.click("#make")
    page.wait_for_selector("#viewer .alert:has-text('Click the right one')")
    keep_picture(page, "7-six-faces")
    page.click("#viewer .faces [data-face='2']")
    page.wait_for_selector("#photo .faces [data-face='2'][aria-pressed=true]")
    page.focus("#photo .faces [data-face='4']")
    page.keyboard.press("Enter")
    page.wait_for_selector("#photo [data-hint]:has-text('Face 4 selected')")
    expect(page.locator("#viewer .alert")).to_have_count(0)
    keep_picture(page, "8-face-chosen")
    command_of(page, "--face 4")  # the number on the page, of the command and of the record is one
    details_say(page, "face 4")


def test_what_cannot_be_used_is_reported_in_the_words_of_the_command_line(
    visit: Open, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from portrait.cli.main import main

    (tmp_path / "corrupt.jpg").write_bytes(b"\xff\xd8\xff\xe0" + b"garbage" * 300)
    (tmp_path / "notes.jpg").write_text("not a picture")
    shutil.copy(photos / "chelsea.png", tmp_path)
    monkeypatch.chdir(tmp_path)
    page = visit()
    for name in ("corrupt.jpg", "notes.jpg", "chelsea.png"):
        assert main(["stylize", name, "--quiet"]) > 0
        sentence = capsys.readouterr().err.strip().removeprefix("portrait: ")
        upload(page, tmp_path / name)
        page.wait_for_selector(f"#photo .alert:has-text('{name}')")
        expect(page.locator("#photo .alert")).to_have_text(sentence)
    Image.new("L", (10_000, 10_000)).save(tmp_path / "huge.png")
    upload(page, tmp_path / "huge.png")
    page.wait_for_selector("#photo .alert:has-text('more than the limit of 64 million')")
    keep_picture(page, "9-too-large")
    with (tmp_path / "heavy.png").open("wb") as file:
        file.truncate(101_000_000)
    upload(page, tmp_path / "heavy.png")
    page.wait_for_selector("#photo .alert:has-text('100 MB')")
    page.evaluate(
        "const both = new DataTransfer(); for (const name of ['a.png', 'b.png']) both.items.add(new File(['x'], name)); "
        "document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: both, bubbles: true }))"
    )
    page.wait_for_selector("#photo .alert:has-text('Those were 2 files')")
    uploads = re.compile("/upload")
    page.route(uploads, lambda route: route.abort())  # the connection breaks
    upload(page, photos / "astronaut.png")
    page.wait_for_selector("#photo .alert:has-text('The upload failed')")
    page.unroute(uploads)
    with_photo(page, photos / "astronaut.png")  # and nothing is lost


def test_cancel_ends_between_two_steps_and_keeps_what_there_was(visit: Open, photos: Path) -> None:
    page = visit()
    minutes_of_work(page)
    with_photo(page, photos / "astronaut.png")
    page.wait_for_selector(".viewer:has-text('of 100')")
    page.click("#cancel")
    page.wait_for_selector("#viewer .note:has-text('Canceled')")
    expect(page.locator(".history li")).to_have_count(0)
    expect(page.locator("#make")).to_be_visible()


def test_a_second_visitor_sees_their_place_and_is_served_next(visit: Open, photos: Path) -> None:
    first, second = visit(), visit()
    with_photo(first, photos / "astronaut.png")
    made(first, 1)
    minutes_of_work(first)
    first.click("#make")
    first.wait_for_selector(".viewer:has-text('of 100')")
    with_photo(second, photos / "astronaut.png")  # the very same file
    second.wait_for_selector(".viewer:has-text('number 2 in line')")
    keep_picture(second, "10-in-line")
    first.click("#cancel")
    made(second, 1)
    first.wait_for_selector("#viewer .note:has-text('Canceled')")
    expect(first.locator(".history li")).to_have_count(1)  # the picture before is still there


def test_closing_the_tab_stops_the_work(visit: Open, server: Server, photos: Path) -> None:
    page, other = visit(), visit()
    with_photo(page, photos / "astronaut.png")
    made(page, 1)
    minutes_of_work(page)
    page.click("#make")
    page.wait_for_selector(".viewer:has-text('of 100')")
    with_photo(other, photos / "astronaut.png")
    other.wait_for_selector(".viewer:has-text('number 2 in line')")
    page.close()
    made(other, 1)
    assert [name for name in server.pictures() if "astronaut" in name] == []  # nothing is ever written


SIZES = [(375, 812), (820, 1180), (1024, 768), (1366, 768), (1920, 1080)]
"""A phone, a tablet on its end and on its side, a laptop, a large screen."""
BOXES = """() => {
  const shown = (e) => e.getBoundingClientRect().width > 0;
  const box = (s) => { const b = document.querySelector(s).getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]; };
  const area = (e) => { const b = e.getBoundingClientRect(); return b.width * b.height; };
  const others = [...document.querySelectorAll('img, button, .drop')].filter(shown).filter((e) => !e.closest('.pair'));
  return { pair: box('#viewer .pair'), make: box('#make'), download: box('#viewer .primary'), wide: document.documentElement.scrollWidth,
           next: Math.max(...others.map(area)), picture: area(document.querySelector('#viewer .pair')) };
}"""


def is_in_sight(box: list[float], width: int, height: int) -> bool:
    left, top, right, bottom = box
    return left >= 0 and top >= 0 and right <= width and bottom <= height and right > left


def resize(page: Any, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_function("([width, height]) => innerWidth === width && innerHeight === height", arg=[width, height])


def test_the_portrait_is_the_largest_thing_and_its_buttons_are_in_sight_at_every_size(
    visit: Open, photos: Path
) -> None:
    page = visit()
    minutes_of_work(page)
    with_photo(page, photos / "astronaut.png")
    page.wait_for_selector(".viewer:has-text('of 100')")
    canvas = "JSON.stringify(document.querySelector('.canvas').getBoundingClientRect())"
    place = page.evaluate(canvas)
    for width, height in SIZES:
        resize(page, width, height)
        edges = "e => (({left, top, right, bottom}) => [left, top, right, bottom])(e.getBoundingClientRect())"
        assert is_in_sight(page.locator("#cancel").evaluate(edges), width, height)
    resize(page, 1280, 900)
    page.click("#cancel")
    page.wait_for_selector("#viewer .note:has-text('Canceled')")
    page.fill("#advanced-max_attempts input", "1")
    page.get_by_label("Drawing steps: automatic").check()
    page.click("#make")
    made(page, 1)
    page.wait_for_function(f"(place) => {canvas} === place", arg=place)
    for width, height in SIZES:
        resize(page, width, height)
        boxes = page.evaluate(BOXES)
        for name in ("pair", "make", "download"):
            assert is_in_sight(boxes[name], width, height), (name, width, height, boxes[name])
        assert boxes["picture"] > 4 * boxes["next"], (width, height)
        shorter = min(boxes["pair"][2] - boxes["pair"][0], boxes["pair"][3] - boxes["pair"][1])
        assert shorter >= 0.53 * min(width, height), (width, height, shorter)
        assert boxes["wide"] <= width
    resize(page, 375, 812)
    page.mouse.move(180, 700)
    page.mouse.wheel(0, 900)  # the form moves below the picture, which stays
    page.wait_for_function("window.scrollY > 300")
    boxes = page.evaluate(BOXES)
    assert all(is_in_sight(boxes[name], 375, 812) for name in ("pair", "make", "download"))


def test_a_reload_finds_everything_again(visit: Open, photos: Path) -> None:
    page = visit()
    with_photo(page, photos / "astronaut.png")
    made(page, 1)
    page.locator("label.style").nth(1).click()
    made(page, 2)
    page.click("[data-act=star]")
    page.wait_for_selector("[data-show='2'][aria-label*=starred]")
    page.reload()
    page.wait_for_selector(".viewer[data-state=done]")
    expect(page.locator(".history li")).to_have_count(2)
    expect(page.locator("[data-show='2'][aria-current][aria-label*=starred]")).to_have_count(1)
    expect(page.locator("input[name=style][value=oil]")).to_be_checked()
    expect(page.locator("#photo")).to_contain_text("astronaut.png")
    page.click("[data-act=delete]")
    page.wait_for_selector("[data-show='2']", state="detached")
    page.click("[data-act=undo]")
    page.wait_for_selector("[data-show='2'][aria-current]")
    again = visit(storage_state=None)  # another tab has nothing of it
    expect(again.locator(".history li")).to_have_count(0)


def test_a_photo_that_fails_leaves_the_work_alone(visit: Open, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("not a picture")
    page = visit()
    minutes_of_work(page)
    with_photo(page, photos / "astronaut.png")
    page.wait_for_selector(".viewer:has-text('of 100')")
    upload(page, tmp_path / "notes.jpg")
    page.wait_for_selector("#photo .alert:has-text('notes.jpg')")
    expect(page.locator(".viewer[data-state=working]")).to_have_count(1)
    expect(page.locator("#photo")).to_contain_text("astronaut.png")
    page.click("#cancel")
    page.wait_for_selector("#viewer .note:has-text('Canceled')")


def test_starting_over_with_pictures_asks_once(visit: Open, photos: Path) -> None:
    page = visit()
    with_photo(page, photos / "astronaut.png")
    made(page, 1)
    page.click("[data-act=reset]")
    expect(page.locator("#ask")).to_contain_text("have not downloaded 1")
    page.click("#ask [value='']")
    expect(page.locator("#ask")).to_be_hidden()
    expect(page.locator(".history li")).to_have_count(1)
    start_over(page)
    expect(page.locator(".history li")).to_have_count(0)


def test_a_right_click_saves_the_picture_itself(visit: Open, photos: Path) -> None:
    page = visit()
    with_photo(page, photos / "astronaut.png")
    made(page, 1)
    page.wait_for_function("document.querySelector('#viewer .after').naturalWidth > 0")
    hit = "([x, y]) => { const e = document.elementFromPoint(x, y); return [e.tagName, e.getAttribute('src'), e.naturalWidth]; }"
    box = page.locator("#viewer .pair").bounding_box()
    middle = [box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.5]
    page.mouse.move(*middle)  # dragging the picture within the page by mistake is no new photo
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1] + 60, steps=4)
    page.mouse.up()
    expect(page.locator(".alert")).to_have_count(0)
    tag, source, width = page.evaluate(hit, middle)
    assert tag == "IMG"
    assert source.endswith("astronaut-watercolor-1.png")  # the file, with its name and all of its pixels
    assert width == 512
    page.click("[data-act=compare]")
    assert page.evaluate(hit, middle) == [tag, source, width]  # the handle lies beside it
    page.mouse.click(*middle)
    page.wait_for_selector("#zoom[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("#zoom", state="hidden")


def test_a_region_is_drawn_by_hand(visit: Open, photos: Path) -> None:
    page = visit()
    with_photo(page, photos / "astronaut.png")
    made(page, 1)
    page.click("#keep summary")
    page.click("[data-act=draw]")
    box = page.locator("#draw .stage").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.75, steps=5)
    keep_picture(page, "11-region")
    page.mouse.up()
    expect(page.locator("#region input")).not_to_have_value("")
    x, y, width, height = map(int, page.input_value("#region input").split(","))
    page.click("#draw .primary")
    assert abs(x - 128) <= 2
    assert abs(y - 256) <= 2
    assert abs(width - 128) <= 3
    assert abs(height - 128) <= 3
    page.click("#make")
    made(page, 2)
    details_say(page, f"Keep region:{x},{y},{width},{height}")


def test_the_crop_is_dragged_and_moved_with_the_arrow_keys(visit: Open, photos: Path) -> None:
    page = visit()
    with_photo(page, photos / "astronaut.png")
    made(page, 1)
    previews = page.locator("label.style").count() + page.locator("[data-strength]").count()
    # After the previews nothing on the page moves by itself.
    expect(page.locator("#previews [data-place]")).to_have_count(previews)
    square, shift = page.locator(".crop i"), page.locator("#form [name=shift]")
    square.hover()
    box, photo = square.bounding_box(), page.locator(".crop").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 9 * box["width"], y, steps=4)
    page.wait_for_function("x => document.querySelector('.crop i').getBoundingClientRect().x > x", arg=box["x"])
    far = square.bounding_box()  # as far as there is room, and no further
    assert far["x"] + far["width"] <= photo["x"] + photo["width"] + 1
    page.mouse.move(x + 0.1 * box["width"], y + 0.05 * box["height"], steps=4)
    keep_picture(page, "20-crop")
    page.mouse.up()
    made(page, 2)
    right, down = map(float, shift.input_value().split(","))
    assert right == pytest.approx(0.1, abs=0.02)
    assert down == pytest.approx(0.05, abs=0.02)
    command_of(page, f"--shift {right},{down}")
    page.focus(".crop [data-axis=x]")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    made(page, 3)
    expect(shift).to_have_value(re.compile(r"^0\.0[78]\d*,0\.0[23]"))
    page.wait_for_function("document.activeElement.dataset.axis === 'x'")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_has_a_name_and_enough_contrast(visit: Open, photos: Path, scheme: str) -> None:
    page = visit(color_scheme=scheme)
    assert page.evaluate(FAINT) == []
    with_photo(page, photos / "astronaut.png")
    made(page, 1)
    page.click("#keep summary")
    page.click("#advanced summary")
    page.fill("#advanced-seed input", "seven")
    page.click("#make")
    page.wait_for_selector("#viewer .alert:has-text(\"Seed must be a whole number, got 'seven'\")")
    expect(page.locator("#advanced-seed input")).to_have_attribute("aria-invalid", "true")
    page.fill("#advanced-seed input", "7")
    page.click("#make")
    made(page, 2)
    keep_picture(page, f"12-{scheme}")
    assert page.evaluate(FAINT) == []
    assert page.evaluate(UNNAMED) == []


def test_on_a_phone_nothing_is_wider_than_the_screen(visit: Open, photos: Path) -> None:
    page = visit(viewport={"width": 390, "height": 844}, device_scale_factor=2, is_mobile=True, has_touch=True)
    keep_picture(page, "13-phone-empty", full_page=True)
    with_photo(page, photos / "astronaut.png")
    made(page, 1)
    assert page.locator("#viewer .pair").evaluate("e => e.getBoundingClientRect().top < window.innerHeight / 2")
    page.locator("label.style").nth(1).tap()
    made(page, 2)
    keep_picture(page, "14-phone", full_page=True)
    keep_picture(page, "15-phone-view")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.locator("#viewer .pair").evaluate("e => e.getBoundingClientRect().top < window.innerHeight")
    small = page.evaluate(
        "[...document.querySelectorAll('#photo button, #viewer button, #make')].filter((e) => e.offsetParent && "
        "!e.classList.contains('face')).filter((e) => e.getBoundingClientRect().height < 34).map((e) => e.outerHTML)"
    )
    assert small == []


def test_a_pasted_picture_and_one_of_the_camera_become_portraits(visit: Open, photos: Path, server: Server) -> None:
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    data = base64.b64encode((photos / "astronaut.png").read_bytes()).decode()
    page.evaluate(
        "async (data) => navigator.clipboard.write([new ClipboardItem({'image/png': "
        "await (await fetch(`data:image/png;base64,${data}`)).blob()})])",
        data,
    )
    page.keyboard.press("Control+V")
    made(page, 1)
    details_say(page, "save it first")  # a pasted picture has no file

    start_over(page)
    page.click("[data-act=camera]")
    page.wait_for_function("document.querySelector('.camera video').videoWidth > 0")
    keep_picture(page, "17-camera")
    page.click("[data-act=shoot]")
    made(page, 1)
    start_over(page)
    page.click("[data-act=camera]")
    page.wait_for_selector(".camera:not([hidden])")
    page.click("[data-act=camera-off]")
    page.wait_for_selector(".camera", state="hidden")
    page.wait_for_function("document.querySelector('.camera video').srcObject.getTracks()[0].readyState === 'ended'")


def test_another_photo_gets_the_look_of_the_picture_that_is_shown(visit: Open, photos: Path, tmp_path: Path) -> None:
    Image.open(photos / "astronaut.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored.png")
    page = visit()
    with_photo(page, photos / "astronaut.png")
    made(page, 1)
    page.locator("label.style").nth(1).click()
    made(page, 2)
    page.click("[data-more=like]")
    made(page, 3)
    page.click("[data-show='1']")
    page.wait_for_selector("[data-show='1'][aria-current]")
    page.click("[data-show='3']")
    page.wait_for_selector("[data-show='3'][aria-current]")
    expect(page.locator("#balance-range")).to_have_value("0.35")
    upload(page, tmp_path / "mirrored.png")
    expect(page.locator("#ask")).to_contain_text("3 of your pictures")
    expect(page.locator("#ask a")).to_have_attribute("download", "portraits-3.zip")
    page.click("#ask [value=yes]")
    made(page, 4)
    command_of(page, "^portrait stylize mirrored.png --style oil --balance 0.35")
    with page.expect_download():
        page.click("#viewer a.primary")
    upload(page, photos / "t1.png")  # of the others the visitor was asked before, and this one is saved
    page.wait_for_selector(".viewer[data-state=choose]")
    page.click("#viewer .faces [data-face='1']")
    made(page, 5)
    command_of(page, "^portrait stylize t1.png --style oil --balance 0.35 --face 1")


def tab_to(page: Any, what: str) -> None:
    for _ in range(80):
        if page.evaluate("(what) => document.activeElement.matches(what)", what):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab never reaches {what}")


def chosen_by_keyboard(page: Any, photo: Path) -> None:
    """Choose a photo with Space, as Chromium opens every file input.

    While the page is still being built, its input may be replaced and lose the focus; a person would try again.
    """
    choosers: list[Any] = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    for _ in range(40):
        tab_to(page, "#photo input[data-file]")
        page.keyboard.press("Space")
        page.wait_for_timeout(1000)
        if choosers:
            choosers[0].set_files(photo)
            return
    raise AssertionError("Space never opens the choice of a file")


def test_the_keyboard_alone_makes_adjusts_and_compares(visit: Open, photos: Path) -> None:
    page = visit()
    chosen_by_keyboard(page, photos / "t1.png")
    page.wait_for_selector("#viewer .faces [data-face='5']")
    tab_to(page, "#viewer .faces [data-face='2']")
    page.keyboard.press("Space")
    made(page, 1)
    tab_to(page, "input[name=style]")
    page.keyboard.press("ArrowDown")
    made(page, 2)
    tab_to(page, "#balance input[type=range]")
    page.keyboard.press("ArrowRight")
    made(page, 3)
    page.wait_for_function("document.activeElement.dataset.key === 'balance'")  # what was focused still is
    tab_to(page, "input[name=variants]")
    page.keyboard.press("ArrowRight")
    tab_to(page, "[data-more=another]")
    page.keyboard.press("Enter")
    page.wait_for_selector(".viewer[data-state=choices]")
    page.wait_for_function("document.activeElement.matches('.choices button')")
    page.keyboard.press("Enter")
    shown = page.locator("#viewer .after")
    expect(shown).to_have_attribute("src", re.compile("-4.png$"))
    tab_to(page, "[data-act=compare]")
    page.keyboard.press("Enter")
    tab_to(page, "[data-key=cut]")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("[data-key=cut]")).to_have_attribute("aria-valuetext", "49% of the first picture")
    tab_to(page, "[data-act=zoom]")
    page.keyboard.press("Enter")
    page.wait_for_selector("#zoom[open]")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#zoom img")).to_have_attribute("src", re.compile("-3.png$"))
    page.keyboard.press("Escape")
    page.wait_for_selector("#zoom", state="hidden")
    tab_to(page, "a[download]")
    with page.expect_download():
        page.keyboard.press("Enter")
    tab_to(page, "[data-act=star]")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-show='3'][aria-label*=starred]")
    page.keyboard.press("Delete")
    expect(page.locator(".history li")).to_have_count(4)
    page.keyboard.press("Control+z")
    expect(page.locator(".history li")).to_have_count(5)
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()


def test_a_password_is_asked_for(browser: Any, photos: Path, tmp_path: Path) -> None:
    with Server(tmp_path, PORTRAIT_STUDIO_AUTH="anna:se:cret") as server:
        page = new_page(browser)
        for path in ("config", "gradio_api/info", "gradio_api/file=/etc/passwd"):
            assert page.request.get(f"{server.url}/{path}").status in (401, 403, 404), path
        for word in ("cret", "se:cret"):
            page.goto(server.url)
            page.fill("input[type=password]", word)
            page.locator("input:not([type=password]), textarea").first.fill("anna")
            keep_picture(page, "18-login")
            page.get_by_role("button", name="Login").click()
            if word == "cret":
                page.wait_for_selector("text=Incorrect")
                expect(page.locator(".drop")).to_have_count(0)
        page.wait_for_selector("#wire [data-session]", state="attached")
        with_photo(page, photos / "astronaut.png")
        made(page, 1)
        page.close()


def test_a_public_recipe_is_chosen_from_the_list_and_judged(browser: Any, photos: Path, tmp_path: Path) -> None:
    with serving() as hub:
        hub.files, hub.archives, manifest = public.shelf(
            find_part(part) for part in load_recipe("sd15-faceid-fast").part_names
        )
        (tmp_path / "manifest.toml").write_text(manifest)
        (tmp_path / "recipes").mkdir()
        (tmp_path / "recipes" / "small.toml").write_text(
            'extends = "sd15-faceid-fast"\nname = "small"\ntitle = "Tiny"\nresolution = 128\n'
        )
        places = environment(hub, tmp_path) | {"PORTRAIT_CONFIG": str(tmp_path)}
        fetch = [sys.executable, "-m", "portrait", "weights", "fetch", "small", "--quiet"]
        subprocess.run(fetch, env=os.environ | places, cwd=Path(__file__).parents[1], check=True)
        with Server(tmp_path, "--device", "cpu", "--memory", "full", **places) as server:
            page = greeted(new_page(browser), server.url)
            page.click("#advanced summary")
            page.select_option("#recipe select", "small")
            page.wait_for_selector("#styles .none")
            page.fill("#advanced-max_attempts input", "1")
            with_photo(page, photos / "astronaut.png")
            made(page, 1)
            keep_picture(page, "19-public")
            expect(page.locator("#viewer .verdict")).to_contain_text("Not")  # random weights keep nobody's likeness
            details_say(page, "photo-to-photo thresholds")
            page.close()


def test_sigterm_leaves_nothing_behind(browser: Any, photos: Path, tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        (private,) = server.private()
        page = greeted(new_page(browser), server.url)
        minutes_of_work(page)
        with_photo(page, photos / "astronaut.png")
        assert [name for name in server.pictures() if "astronaut" in name] == []  # the upload itself is gone already
        page.wait_for_selector(".viewer:has-text('of 100')")
        server.stop()
        assert not private.exists()
        page.close()


def test_a_run_is_opened_and_its_report_shown_in_a_frame_of_its_own(visit: Open, server: Server) -> None:
    run: list[str | Path] = [
        "campaign",
        "run",
        write_campaign(server.folder / "plan"),
        "-o",
        server.folder / "june",
        "--quiet",
    ]
    subprocess.run([sys.executable, "-m", "tests.campaigns", "0", *run], check=True, cwd=Path(__file__).parents[1])
    page = visit()
    page.click("button[role=tab]:has-text('Reports')")
    page.click("#run input")
    page.click("#run [role=option]:has-text('june')")
    frame = page.frame_locator("iframe.report")
    frame.locator("h1").wait_for(timeout=LONG)
    keep_picture(page, "16-report")
    assert page.get_attribute("iframe.report", "sandbox") == "allow-scripts"
