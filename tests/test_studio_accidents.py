"""Accidents, over HTTP like a browser: a page is reloaded, a file is wrong, a tab is duplicated, a studio ends."""

from __future__ import annotations

import io
import json
import re
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from portrait.errors import WeightsMissingError
from portrait.images import encode_picture
from portrait.loop.attempt_loop import AttemptLoop
from portrait.recipes.load import load_recipe
from portrait.settings import Settings
from portrait.studio import session as of_session
from portrait.studio import session_registry as registry
from portrait.studio import strings, viewer
from portrait.studio.downloads import file_of, links
from portrait.studio.session import Session
from tests.campaigns import person
from tests.studio import SteppingGenerator, a_shop, ask, send, serving, until

pytestmark = pytest.mark.slow
PHOTO = encode_picture(person(1), "png")


class Tab:
    """A browser's tab: it keeps connections open as long as it exists, and sends actions."""

    def __init__(self, url: str, blocks: Any, name: str) -> None:
        self.url, self.blocks, self.name = url, blocks, name
        self.told: list[str] = []
        """The studio's answer."""
        self._is_open = True
        self._heart = self._get(f"heartbeat/{name}")
        threading.Thread(target=self._listen, daemon=True).start()

    def _get(self, path: str) -> socket.socket:
        host, _, port = urlsplit(self.url).netloc.partition(":")
        connection = socket.create_connection((host, int(port)), timeout=60)
        connection.sendall(f"GET /gradio_api/{path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        assert connection.recv(15).startswith(b"HTTP/1.1 ")
        return connection

    def _listen(self) -> None:
        while self._is_open:  # a stream ends whenever nothing is pending
            with suppress(OSError, AssertionError), self._get(f"queue/data?session_hash={self.name}") as stream:
                for line in stream.makefile("rb"):
                    self.told.append(line.decode())
                    if not self._is_open or b"close_stream" in line:
                        break
            time.sleep(0.02)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_open = False
        self._heart.close()

    @property
    def sessions(self) -> registry.Sessions:
        """The studio's sessions of all tabs."""
        (unload,) = [fn.fn for fn in self.blocks.fns.values() if any(event == "unload" for _, event in fn.targets)]
        sessions: registry.Sessions = unload.__self__
        return sessions

    @property
    def session(self) -> Session:
        return self.sessions._sessions[self.name]

    def act(self, **action: Any) -> str:
        """Do something on the page; returns the name of the event."""
        (submit,) = [fn for fn in self.blocks.fns.values() if any(event == "submit" for _, event in fn.targets)]
        body = {"data": [], "event_data": action, "fn_index": submit._id, "session_hash": self.name}
        answer = ask(self.url, "queue/join", json.dumps(body).encode())
        return str(json.loads(answer.read())["event_id"])

    def done(self, **action: Any) -> str:
        """Do something, and wait until the studio has answered; return its messages since."""
        before = len(self.told)
        event = self.act(**action)
        until(lambda: any("process_completed" in line and event in line for line in self.told))
        return "".join(self.told[before:])

    def begin_with(self, photo: bytes) -> str:
        """Open the page and drop a photo on it, as visitors begin; return the last update."""
        self.done(act="hello", key="")
        return self.done(**self.upload(photo))

    def upload(self, data: bytes, name: str = "anna.png") -> dict[str, Any]:
        return {"act": "photo", "path": send(self.url, data, name), "name": name, "size": len(data)}


@pytest.fixture
def gate() -> Iterator[threading.Semaphore]:
    gate = threading.Semaphore(0)
    yield gate
    gate.release(1000)


@pytest.fixture
def studio(tmp_path: Path, gate: threading.Semaphore) -> Iterator[tuple[str, Any]]:
    """A studio whose steps wait for the gate."""
    with serving(tmp_path, a_shop(tmp_path, SteppingGenerator(gate.acquire), max_attempts=1)) as (url, _, blocks):
        yield url, blocks


def test_a_page_that_is_reloaded_in_the_middle_of_a_portrait_gets_it(
    studio: tuple[str, Any], gate: threading.Semaphore
) -> None:
    with Tab(*studio, "before") as before:
        before.done(act="hello", key="")
        key = before.session.key
        before.act(**before.upload(PHOTO))
        until(lambda: before.session.is_working)
    with Tab(*studio, "after") as after:
        event = after.act(act="hello", key=key)
        until(lambda: "after" in after.sessions._sessions)
        assert after.session.key == key
        assert after.session.is_working
        gate.release(1000)
        until(lambda: any("process_completed" in line and event in line for line in after.told))
        assert [entry.number for entry in after.session.history] == [1]
        assert "anna-watercolor-1.png" in "".join(after.told)


def test_a_wrong_file_leaves_photo_and_work_alone(studio: tuple[str, Any], gate: threading.Semaphore) -> None:
    with Tab(*studio, "anna") as tab:
        tab.done(act="hello", key="")
        tab.act(**tab.upload(PHOTO))
        until(lambda: tab.session.is_working)
        job = tab.session.job
        assert "notes.txt" in tab.done(**tab.upload(b"no picture", "notes.txt"))
        assert tab.session.photo is not None
        assert tab.session.photo.path.name == "anna.png"
        assert tab.session.job is job
        gate.release(1000)
        until(lambda: [entry.photo for entry in tab.session.history] == ["anna.png"])


def test_a_second_tab_begins_empty_and_the_first_keeps_everything(
    studio: tuple[str, Any], gate: threading.Semaphore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "RELOAD_SECONDS", 0.2)
    gate.release(1000)
    with Tab(*studio, "first") as first, Tab(*studio, "second") as second:
        first.begin_with(PHOTO)
        update = second.done(act="hello", key=first.session.key)  # as a tab that was duplicated does
        assert second.session.photo is None
        assert strings.LOST not in update
        assert len(first.session.history) == 1


def test_a_studio_that_was_restarted_says_that_everything_is_gone(tmp_path: Path, gate: threading.Semaphore) -> None:
    gate.release(1000)
    with serving(tmp_path, a_shop(tmp_path)) as (url, _, blocks), Tab(url, blocks, "anna") as tab:
        tab.begin_with(PHOTO)
        key = tab.session.key
    with serving(tmp_path, a_shop(tmp_path)) as (url, _, blocks):
        with Tab(url, blocks, "ben") as loaded:
            assert strings.LOST in loaded.done(act="hello", key=key)
            assert strings.LOST not in loaded.done(act="history", do="undo")  # once
        with Tab(url, blocks, "anna") as still_open:
            assert strings.LOST in still_open.done(act="make", values={})


def test_on_a_full_disk_portraits_are_made_and_taken_away(
    studio: tuple[str, Any], gate: threading.Semaphore, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.release(1000)
    with Tab(*studio, "anna") as tab:
        tab.done(act="hello", key="")
        photo = tab.upload(PHOTO)

        def full(*args: object, **kwargs: object) -> None:
            raise OSError(28, "No space left on device")

        for name in ("mkstemp", "mkdtemp", "NamedTemporaryFile"):
            monkeypatch.setattr(f"tempfile.{name}", full)
        tab.done(**photo)
        (entry,) = tab.session.history
        assert file_of(entry, links(tab.session, entry).picture.name)
        update = tab.done(**(photo | {"act": "backdrop"}))
        assert strings.UPLOAD_FAILED in update  # it was read already
        with pytest.raises(Exception, match=strings.DISK_FULL):
            tab.session.take_backdrop(PHOTO, "beach.png")


def test_a_photo_that_is_replaced_in_the_middle_of_a_portrait_stops_it_and_what_is_finished_stays(
    studio: tuple[str, Any], gate: threading.Semaphore
) -> None:
    gate.release(1000)
    with Tab(*studio, "anna") as tab:
        tab.begin_with(PHOTO)
        while gate.acquire(blocking=False):
            pass
        before = tab.session.job
        tab.act(act="make", values={})
        until(lambda: tab.session.job is not before)
        replaced = tab.session.job
        tab.act(**tab.upload(encode_picture(person(2), "png"), "ben.png"))
        until(lambda: replaced is not None and replaced.cancelled)
        gate.release(1000)
        until(lambda: [entry.photo for entry in tab.session.history] == ["anna.png", "ben.png"])


def test_a_click_while_variations_are_made_does_not_end_the_choice(tmp_path: Path) -> None:
    sessions: list[Session] = []
    goes_on = threading.Event()

    def step() -> None:  # the second variation waits
        if sessions and len(sessions[0].history) == 2:
            goes_on.wait()

    shop = a_shop(tmp_path, SteppingGenerator(step), max_attempts=1)
    with serving(tmp_path, shop) as (url, _, blocks), Tab(url, blocks, "anna") as tab:
        try:
            tab.begin_with(PHOTO)
            sessions.append(tab.session)
            event = tab.act(act="make", values=dict(tab.session.form) | {"variants": "3"})
            until(lambda: len(tab.session.history) == 2)
            tab.done(act="history", do="show", number=1)
            tab.done(act="history", do="delete", number=1)
            goes_on.set()
            until(lambda: any("process_completed" in line and event in line for line in tab.told))
            assert tab.session.choices == (2, 3, 4)
            assert 'data-state="choices"' in viewer.result_html(tab.session, load_recipe("mini"))
            tab.done(act="history", do="delete", number=3)
            assert 'data-state="choices"' in viewer.result_html(tab.session, load_recipe("mini"))  # of the other two
        finally:
            goes_on.set()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError("no memory"), "Unexpected error: MemoryError"),
        (RuntimeError("a bug"), "Unexpected error: RuntimeError"),
        (WeightsMissingError("mini is not here; run: portrait weights fetch mini"), "run: portrait weights fetch mini"),
    ],
)
def test_a_portrait_that_cannot_be_made_ends_in_a_sentence_and_the_next_one_is_made(
    tmp_path: Path, error: Exception, says: str
) -> None:
    shop, failures = a_shop(tmp_path, max_attempts=1), [error]
    load = shop._load

    def load_unless_it_fails(settings: Settings) -> AttemptLoop:
        if failures:
            raise failures[0]
        return load(settings)

    shop._load = load_unless_it_fails
    with serving(tmp_path, shop) as (url, _, blocks), Tab(url, blocks, "anna") as tab:
        tab.done(act="hello", key="")
        assert says in tab.done(**tab.upload(PHOTO))
        failures.clear()
        tab.done(act="make", values={})
        assert len(tab.session.history) == 1


def test_a_line_that_is_too_long_is_reported_and_changes_nothing(tmp_path: Path, gate: threading.Semaphore) -> None:
    gate.release(1000)
    shop = a_shop(tmp_path, SteppingGenerator(gate.acquire), max_attempts=1)
    with serving(tmp_path, shop) as (url, _, blocks), Tab(url, blocks, "anna") as tab:
        tab.begin_with(PHOTO)
        shop.queue.max_waiting = -1
        assert strings.QUEUE_FULL.format(n=-1) in tab.done(act="make", values={})
        assert tab.session.photo is not None
        assert len(tab.session.history) == 1


def test_another_person_or_a_broken_look_is_a_sentence_and_changes_nothing(
    studio: tuple[str, Any], gate: threading.Semaphore
) -> None:
    gate.release(1000)
    nobody = encode_picture(person(1, blue=255), "png")
    with Tab(*studio, "anna") as tab:
        tab.begin_with(PHOTO)
        form = tab.session.form
        assert "in ben.png" in tab.done(**(tab.upload(nobody, "ben.png") | {"act": "reference"}))
        assert "is not TOML" in tab.done(**(tab.upload(b"style = ", "look.toml") | {"act": "look"}))
        assert tab.session.references == ()
        assert tab.session.form == form
        assert len(tab.session.history) == 1


def test_a_download_that_breaks_off_can_be_fetched_again(studio: tuple[str, Any], gate: threading.Semaphore) -> None:
    gate.release(1000)
    with Tab(*studio, "anna") as tab:
        tab.begin_with(PHOTO)
        (entry,) = tab.session.history
        address = f"{tab.url.rstrip('/')}/{links(tab.session, entry).archive.href}"
        with urlopen(address) as broken:
            broken.read(100)
        with urlopen(address) as whole:
            names = zipfile.ZipFile(io.BytesIO(whole.read())).namelist()
        assert "anna-watercolor-1.png" in names


def test_before_something_is_lost_all_pictures_are_one_download(
    studio: tuple[str, Any], gate: threading.Semaphore
) -> None:
    gate.release(1000)
    with Tab(*studio, "anna") as tab:
        tab.begin_with(PHOTO)
        update = tab.done(act="make", values=dict(tab.session.form) | {"style": "oil"})
        (address,) = set(re.findall(r"studio/[^/]+/0/portraits-2\.zip", update))
        with urlopen(f"{tab.url.rstrip('/')}/{address}") as whole:
            names = zipfile.ZipFile(io.BytesIO(whole.read())).namelist()
        assert names == ["anna-watercolor-1.png", "anna-watercolor-1.json", "anna-oil-2.png", "anna-oil-2.json"]
        tab.done(act="reset")
        with pytest.raises(HTTPError, match="404"):
            urlopen(f"{tab.url.rstrip('/')}/{address}")


def test_what_leaves_a_full_history_is_counted(
    studio: tuple[str, Any], gate: threading.Semaphore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_session, "MAX_HISTORY", 1)
    gate.release(1000)
    with Tab(*studio, "anna") as tab:
        tab.begin_with(PHOTO)
        tab.done(act="make", values={})
        assert strings.DROPPED.format(n=1) in viewer.history_html(tab.session)
        assert len(tab.session.history) == 1
