"""The studio under attack: request bodies, uploads, passwords, other pages, other people's pictures."""

from __future__ import annotations

import errno
import http.client
import io
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from portrait.studio import guard, serve
from portrait.studio import session_registry as registry
from portrait.studio.downloads import links
from portrait.studio.serve import private_folder
from tests.studio import a_session, a_shop, serving, tab, until


@pytest.fixture(scope="module")
def open_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, Any]]:
    """A studio shared by tests that leave nothing in its folder."""
    tmp_path = tmp_path_factory.mktemp("attacked")
    with serving(tmp_path, a_shop(tmp_path)) as opened:
        yield opened


@pytest.fixture
def attacked(open_studio: tuple[str, Path, Any]) -> tuple[str, Path]:
    return open_studio[:2]


def test_the_page_lets_the_browser_reach_nobody_else(attacked: Any) -> None:
    import urllib.error
    import urllib.request

    url, _ = attacked
    with urllib.request.urlopen(url) as answer:
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        body = answer.read().decode()
    assert "fonts.googleapis" not in body
    assert '"run_history":false' in body.replace(" ", "")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(url, headers={"Host": "evil.example"}))
    assert refused.value.code == 400


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/gradio_api/file=https://example.com/x.png", {}, 403),
        ("/gradio_api/file=http%3A%2F%2Fexample.com%2Fx.png", {}, 403),
        ("/config", {"Origin": "https://evil.example"}, 403),
        ("/config", {"Origin": "http://localhost:3000"}, 403),
        ("/config", {"Origin": "null"}, 403),
        ("/config", {}, 200),
    ],
)
def test_other_pages_and_other_addresses_are_refused(
    attacked: Any, path: str, headers: dict[str, str], status: int
) -> None:
    url, _ = attacked
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    connection.request("GET", path, headers=headers)
    assert connection.getresponse().status == status


def test_the_page_itself_is_no_other_origin(attacked: Any) -> None:
    url, _ = attacked
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    connection.request("GET", "/config", headers={"Origin": url.rstrip("/")})
    assert connection.getresponse().status == 200


def connect(url: str) -> socket.socket:
    """A raw connection."""
    host, _, port = urlsplit(url).netloc.partition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def begin(url: str, path: str, body: bytes, length: int | None, kind: str = "application/json") -> socket.socket:
    """Send a request whose body may be shorter or longer than it states; None sends it in chunks."""
    framing = f"Content-Length: {length}" if length is not None else "Transfer-Encoding: chunked"
    head = f"POST {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Type: {kind}\r\n{framing}\r\n\r\n"
    connection = connect(url)
    connection.sendall(head.encode())
    with suppress(ConnectionError):  # it may be refused before all of it is sent
        connection.sendall(body if length is not None else b"%x\r\n%s\r\n" % (len(body), body))
    return connection


def status_of(connection: socket.socket) -> int:
    return int(connection.makefile("rb").readline().split()[1])


MULTIPART = "multipart/form-data; boundary=cut"
PART = b'--cut\r\nContent-Disposition: form-data; name="files"; filename="anna.png"\r\n\r\n'


def left_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]


@pytest.mark.parametrize("path", ["/gradio_api/queue/join", "/gradio_api/call/stylize", "/gradio_api/run/x", "/login"])
@pytest.mark.parametrize("length", [2_000_000, None])
def test_no_body_is_read_beyond_its_limit_whatever_length_it_states(
    attacked: Any, path: str, length: int | None
) -> None:
    url, _ = attacked
    body = b'{"data": ["' + b"x" * 1_999_987 + b'"]}'
    kind = "application/x-www-form-urlencoded" if path == "/login" else "application/json"
    with begin(url, path, body[:100] if length else body, length, kind) as connection:
        assert status_of(connection) == 413


def test_an_upload_that_is_too_long_is_refused_and_leaves_no_file(
    attacked: Any,
) -> None:
    url, folder = attacked
    with begin(url, "/gradio_api/upload", PART, 1_000_000_000, MULTIPART) as connection:
        assert status_of(connection) == 413
    with begin(url, "/gradio_api/upload", PART + bytes(102_000_000), None, MULTIPART) as connection:
        assert status_of(connection) == 413
    until(lambda: not left_in(folder))


def test_an_upload_that_is_broken_off_is_deleted_at_once(attacked: Any) -> None:
    url, folder = attacked
    with begin(url, "/gradio_api/upload", PART + bytes(300_000), 900_000, MULTIPART):
        until(lambda: left_in(folder))
    until(lambda: not left_in(folder))


def test_an_upload_to_a_full_disk_says_so_and_leaves_no_file(attacked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from gradio.route_utils import GradioUploadFile

    url, folder = attacked

    async def full(file: GradioUploadFile, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(GradioUploadFile, "write", full)
    with begin(url, "/gradio_api/upload", PART + b"a photo\r\n--cut--\r\n", None, MULTIPART) as connection:
        assert status_of(connection) == 507
    until(lambda: not left_in(folder))


def test_uploads_that_nobody_reads_do_not_fill_the_disk(attacked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url, folder = attacked
    monkeypatch.setattr(guard, "MAX_WAITING_BYTES", 10_000)
    body = PART + bytes(20_000) + b"\r\n--cut--\r\n"
    answers = []
    for _ in range(2):
        with begin(url, "/gradio_api/upload", body, len(body), MULTIPART) as connection:
            answers.append(status_of(connection))
    assert answers == [200, 507]
    for path in left_in(folder):
        path.unlink()


def test_a_tab_that_is_closed_is_noticed_and_its_session_waits(open_studio: Any) -> None:
    url, _, blocks = open_studio
    (unload,) = [fn.fn for fn in blocks.fns.values() if any(event == "unload" for _, event in fn.targets)]
    sessions: registry.Sessions = unload.__self__
    session = sessions.get(tab("anna"))
    host, _, port = urlsplit(url).netloc.partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(f"GET /gradio_api/heartbeat/anna HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        assert b"200" in connection.recv(1000)
        assert not session.is_away.is_set()
    assert session.is_away.wait(20)
    assert sessions.resume(tab("ben"), session.key) is session


def test_only_the_requested_part_of_an_upload_stays(attacked: Any) -> None:
    url, folder = attacked
    other = PART.replace(b'"files"', b'"other"')
    body = PART + b"a photo\r\n" + other + b"something else\r\n--cut--\r\n"
    with begin(url, "/gradio_api/upload", body, len(body), MULTIPART) as connection:
        assert status_of(connection) == 200
    until(lambda: [path.read_bytes() for path in left_in(folder)] == [b"a photo"])
    left_in(folder)[0].unlink()


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A studio with a password."""
    pytest.importorskip("gradio", reason="the studio needs gradio: pip install 'portrait-stylizer[studio]'")
    shop = a_shop(tmp_path_factory.mktemp("locked"))
    with (
        private_folder() as folder,
        serve.running(shop.settings, folder, models=shop, auth=("anna", "secret")) as (url, _),
    ):
        yield url


def log_in(url: str, password: str) -> tuple[int, str]:
    """The status of the answer, and the cookie."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    form = f"username=anna&password={password}"
    connection.request("POST", "/login", form, {"Content-Type": "application/x-www-form-urlencoded"})
    answer = connection.getresponse()
    cookies = [value.partition(";")[0] for name, value in answer.getheaders() if name == "set-cookie"]
    return answer.status, "; ".join(cookies)


def test_wrong_passwords_are_answered_later_each_time_and_a_right_one_at_once(
    locked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    async def note(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(guard, "_sleep", note)
    assert [log_in(locked, "wrong")[0] for _ in range(7)] == [400] * 7
    assert log_in(locked, "secret")[0] == 200
    assert log_in(locked, "wrong")[0] == 400
    assert waited == [0.5, 1, 2, 4, 8, 16, 16, 0, 0.5]


def test_few_passwords_are_tried_at_a_time(locked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "FIRST_LOGIN_SECONDS", 0.2)
    monkeypatch.setattr(guard, "MAX_LOGINS", 2)
    with ThreadPoolExecutor(8) as pool:
        answers = [status for status, _ in pool.map(lambda _: log_in(locked, "wrong"), range(8))]
    assert {400, 429} == set(answers)


@pytest.mark.parametrize("path", ["/gradio_api/queue/join", "/gradio_api/upload"])
def test_who_is_not_logged_in_is_not_listened_to_for_long(locked: str, path: str) -> None:
    with begin(locked, path, b"{", 2_000_000) as connection:
        assert status_of(connection) in (401, 413)


def test_only_who_knows_the_session_and_is_logged_in_can_fetch_pictures(
    locked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    session = a_session(tmp_path, a_shop(tmp_path))
    monkeypatch.setattr(registry.Sessions, "find", lambda self, key: session if key == session.key else None)

    def fetch(href: str, cookie: str = "") -> tuple[int, bytes, str]:
        connection = http.client.HTTPConnection(urlsplit(locked).netloc, timeout=20)
        connection.request("GET", f"/{href}", headers={"Cookie": cookie} if cookie else {})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.getheader("cache-control") or ""

    (entry,) = session.history
    href, cookie = links(session, entry).picture.href, log_in(locked, "secret")[1]
    assert fetch(href)[0] == 401
    status, data, cache = fetch(href, cookie)
    assert (status, cache) == (200, "no-store")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), entry.portrait.picture)
    for other in (href.replace(session.key, "x" * 22), href.replace("/1/", "/2/"), href.replace(".png", ".exe")):
        assert fetch(other, cookie)[0] == 404
