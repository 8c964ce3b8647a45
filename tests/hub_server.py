"""A hub on loopback: the protocol of the real one, for the real huggingface_hub client, and faults on demand."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest


@dataclass
class Hub:
    """Serves `files`, (repo, revision, path) -> bytes, and `archives`, url path -> bytes.

    `faults` maps a path to what goes wrong: cut (the connection breaks half-way, once), stall (it hangs half-way,
    once), gone (404), norev (404 of the revision), norepo (401), gated (403), error (500), wrong (other bytes of the
    same length), long (more bytes than stated), tag (a tag with a path out of the cache), commit (another commit),
    huge (states 10 TB), elsewhere (redirects to `elsewhere`), turn (announces one file and sends another, with another
    tag), drip (half of it, then single bytes), endless (an error whose body
    never ends), loop (a redirect to itself), spin (the same, only for the download), again (breaks off half-way and
    then rejects the range, every time), unsized (states neither size nor hash, and rejects ranges),
    fat302 and the like (a redirect of that code with a body that never ends), bomb-gzip and bomb-br (a redirect with
    `bomb` in that coding), gzip and br (a body in that coding).
    Large files are redirected to /cdn as the hub does; a small file's tag is git's, as the hub's is.
    """

    files: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    archives: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    url: str = ""
    elsewhere: str = ""
    large: int = 2048
    slow: float = 0.0
    """Seconds before each kilobyte of a body."""
    sent: int = 0
    """Bytes of bodies that never end."""
    bomb: bytes = b""

    def paths(self, method: str) -> list[str]:
        return [path for verb, path, _ in self.requests if verb == method]


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def refuse(self, code: int, name: str) -> None:
            self.send_response(code)
            self.send_header("X-Error-Code", name)
            self.send_header("X-Error-Message", name)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def answer(self, *, body: bool) -> None:
            path = unquote(self.path)
            hub.requests.append((self.command, path, {k.lower(): v for k, v in self.headers.items()}))
            if path in hub.archives:
                self.send(hub.archives[path], {}, path.rpartition("/")[2], body=body)
                return
            cdn = path.startswith("/cdn/")
            repo, _, rest = path.removeprefix("/cdn").strip("/").partition("/resolve/")
            revision, _, name = rest.partition("/")
            fault = hub.faults.get(name, "")
            refusals = {
                "gone": (404, "EntryNotFound"),
                "norev": (404, "RevisionNotFound"),
                "norepo": (401, "RepoNotFound"),
                "gated": (403, "GatedRepo"),
                "error": (500, ""),
            }
            if fault in refusals:
                self.refuse(*refusals[fault])
                return
            data = hub.files.get((repo, revision, name))
            if data is None:
                revisions = {r for r, _, _ in hub.files}
                self.refuse(404 if repo in revisions else 401, "EntryNotFound" if repo in revisions else "RepoNotFound")
                return
            big = len(data) > hub.large
            tag = hashlib.sha256(data).hexdigest() if big else hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            if fault == "tag" or (fault == "turn" and body):
                tag = "../../../../evil"
            if fault == "turn" and body:
                data = data[::-1]
            if fault == "unsized":
                tag = "one-for-all"
            if fault == "endless" and body:
                self.send_response(500)
                self.endless()
                return
            about = {"X-Repo-Commit": "f" * 40 if fault == "commit" else revision, "ETag": f'"{tag}"'}
            if fault == "loop" or (fault == "spin" and body):
                self.redirect(self.path, about, tag, len(data))
            elif fault == "elsewhere":
                self.redirect(f"{hub.elsewhere}/cdn{self.path}", about, tag, len(data))
            elif big and not cdn:
                self.redirect(f"/cdn{self.path}", about, tag, len(data), fault)
            else:
                if fault == "wrong":
                    data = bytes(len(data))
                self.send(data, about, name, body=body)

        def endless(self) -> None:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.close_connection = True
            with suppress(OSError):
                while True:
                    self.wfile.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
                    hub.sent += 0x4000

        def redirect(self, target: str, about: dict[str, str], tag: str, size: int, fault: str = "") -> None:
            self.send_response(int(fault.removeprefix("fat")) if fault.startswith("fat") else 302)
            for key, value in about.items():
                self.send_header(key, value)
            self.send_header("X-Linked-Etag", f'"{tag}"')
            self.send_header("X-Linked-Size", str(size))
            self.send_header("Location", target)
            if fault.startswith("fat") and self.command == "GET":
                self.send_header("Content-Encoding", "br")
                self.endless()
                return
            if fault.startswith("bomb-"):
                self.send_header("Content-Encoding", fault.removeprefix("bomb-"))
            bomb = hub.bomb if fault.startswith("bomb-") and self.command == "GET" else b""
            self.send_header("Content-Length", str(len(bomb)))
            self.end_headers()
            self.wfile.write(bomb)

        def send(self, data: bytes, about: dict[str, str], name: str, *, body: bool) -> None:
            fault = hub.faults.get(name, "")
            start = 0
            if byte_range := self.headers.get("Range"):
                start = int(byte_range.removeprefix("bytes=").partition("-")[0])
            part = data[start:]
            if byte_range and fault in ("again", "unsized"):
                self.refuse(416, "")
                return
            self.send_response(206 if byte_range else 200)
            for key, value in about.items():
                self.send_header(key, value)
            self.send_header("Accept-Ranges", "bytes")
            if fault in ("gzip", "br"):
                self.send_header("Content-Encoding", fault)
            if byte_range:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            if fault == "long" and body:
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for _ in range(8):
                    self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.wfile.write(b"0\r\n\r\n")
                return
            if body or fault != "unsized":
                self.send_header("Content-Length", str(10**13 if fault == "huge" else len(part)))
            self.end_headers()
            if not body:
                return
            if fault == "drip":
                self.wfile.write(part[: len(part) // 2])
                with suppress(OSError):
                    for byte in part[len(part) // 2 :]:
                        self.wfile.write(bytes([byte]))
                        self.wfile.flush()
                        time.sleep(0.05)
                return
            if fault in ("cut", "stall", "again"):
                if fault != "again" or len(hub.requests) > 60:
                    del hub.faults[name]
                self.wfile.write(part[: len(part) // 2])
                self.wfile.flush()
                if fault == "stall":
                    time.sleep(1.5)
                self.close_connection = True
                self.connection.close()
                return
            for block in range(0, len(part), 1024) if hub.slow else ():
                time.sleep(hub.slow)
                self.wfile.write(part[block : block + 1024])
            if not hub.slow:
                self.wfile.write(part)

    return Handler


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub on a free port of 127.0.0.1 within the block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def environment(hub: Hub, folder: Path) -> dict[str, str]:
    """The variables that keep a test inside `folder` and send every download to `hub`."""
    return {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_CACHE": str(folder / "hf" / "hub"),
        "HF_HUB_OFFLINE": "",
        "TRANSFORMERS_OFFLINE": "",
        "HF_TOKEN": "",
        "PORTRAIT_CACHE": str(folder / "cache"),
        "PORTRAIT_LOCK": str(folder / "weights.lock.json"),
        "PORTRAIT_MANIFEST": str(folder / "manifest.toml"),
        "PORTRAIT_INSIGHTFACE_URL": f"{hub.url}/releases",
        "INSIGHTFACE_HOME": str(folder / "insightface"),
    }


def use(monkeypatch: pytest.MonkeyPatch, hub: Hub, folder: Path) -> None:
    """Set the variables of `environment` for this process."""
    for name, value in environment(hub, folder).items():
        if value:
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name, raising=False)
