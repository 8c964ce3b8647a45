"""A studio for tests: a generator that waits, a model host with it, and a studio that serves on loopback."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from portrait.images import Photo, pixels_sha256
from portrait.loop.attempt_loop import VARIANT_STRIDE, AttemptLoop
from portrait.recipes.load import load_recipe
from portrait.records import Preview, RgbImage
from portrait.settings import Settings
from portrait.studio import serve
from portrait.studio.jobs import JobEvent
from portrait.studio.model_host import ModelHost
from portrait.studio.serve import private_folder
from portrait.studio.session import Session
from portrait.studio.web_settings import web_settings
from tests.campaigns import faces, paint, person, write_limits
from tests.fakes import SIZE, FakeAnalyzer, FakeGenerator, fake_loop

STEPS = 4  # as mini's


class SteppingGenerator(FakeGenerator):
    """Paints in steps, each of which waits for `go` and shows a preview."""

    def __init__(self, go: Callable[[], object] = lambda: None) -> None:
        super().__init__(paint)
        self.go = go
        self.started = threading.Event()
        self.finished = 0

    def on_the_way(
        self, pictures: list[RgbImage], on_step: Callable[[int, int], None] | None, preview: Preview | None
    ) -> None:
        self.started.set()
        for step in range(1, STEPS + 1):
            self.go()
            if on_step:
                on_step(step, STEPS)
            if preview and step in preview.steps:
                preview.show(step, [RgbImage(np.full((SIZE, SIZE, 3), step, np.uint8))])
        self.finished += 1


def a_shop(tmp_path: Path, generator: FakeGenerator | None = None, **settings: Any) -> ModelHost:
    """A model host of the fakes, with thresholds that most pictures pass."""

    def load(chosen: Settings) -> AttemptLoop:
        recipe = replace(load_recipe("mini"), resolution=SIZE)
        return fake_loop(generator or SteppingGenerator(), FakeAnalyzer(faces), recipe=recipe)

    base = Settings(thresholds=str(write_limits(tmp_path / "limits.json")), **settings)
    return ModelHost(base, load, lambda: FakeAnalyzer(faces))


def a_photo(n: int = 1, name: str = "anna.png") -> Photo:
    return Photo(pixels=person(n), path=Path(name), sha256=pixels_sha256(person(n)))


def requested(shop: ModelHost, **more: Any) -> Settings:
    return web_settings(shop.settings, {"style": "oil"} | more)


def finished(shop: ModelHost, settings: Settings, photo: Photo | None = None) -> list[JobEvent]:
    return [event for event in shop.start(photo or a_photo(), settings).events() if event.kind == "portrait"]


def a_session(tmp_path: Path, shop: ModelHost, count: int = 1, name: str = "anna.png", **more: Any) -> Session:
    """A session with the given number of pictures."""
    session = Session(tmp_path / "files")
    photo = a_photo(name=name)
    session.open(photo, faces(photo.pixels), has_file=True, face=0)
    for n in range(count):
        (event,) = finished(shop, requested(shop, seed=1 + VARIANT_STRIDE * n, **more), photo)
        assert event.portrait is not None
        assert event.settings is not None
        session.add(event.portrait, event.settings, event.portrait.picture, photo, has_file=True)
    return session


@contextmanager
def serving(tmp_path: Path, shop: ModelHost) -> Iterator[tuple[str, Path, Any]]:
    """The page's address, the studio's folder, and Gradio's blocks."""
    pytest.importorskip("gradio", reason="the studio needs gradio: pip install 'portrait-stylizer[studio]'")
    with (
        private_folder() as folder,
        serve.running(shop.settings, folder, runs=tmp_path, models=shop) as (url, blocks),
    ):
        yield url, folder, blocks


def until(what: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def ask(url: str, path: str, body: bytes | None = None, kind: str = "application/json") -> Any:
    """Send a raw request to the server; return the raw response."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    connection.request("POST" if body else "GET", f"/gradio_api/{path}", body, {"Content-Type": kind} if body else {})
    answer = connection.getresponse()
    assert answer.status == 200
    return answer


def send(url: str, data: bytes, name: str = "anna.png") -> str:
    """Upload a file as a browser does; return its path on the server."""
    head = f'--cut\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    return json.loads(ask(url, "upload", head + data + b"\r\n--cut--\r\n", "multipart/form-data; boundary=cut").read())[
        0
    ]


def tab(name: str) -> Any:
    return SimpleNamespace(session_hash=name)
