"""The training portraits come from a pinned commit, and must have the pinned bytes."""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parents[1] / "weights" / "training" / "faces.py"


@pytest.fixture
def faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, with two small pins in place of the 180."""
    spec = importlib.util.spec_from_file_location("training_faces", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pins = tmp_path / "pins"
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("female/0.jpg", "male/7.jpg")}
    pins.write_text("".join(f"{digest}  {name}\n" for name, digest in digests.items()))
    monkeypatch.setattr(module, "PINS", pins)
    return module


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """A server of tmp_path/mirror on loopback: its address, its folder, the requested paths."""
    root, requests = tmp_path / "mirror", []
    for name in ("female/0.jpg", "male/7.jpg"):
        path = root / name.replace("/", "/512/")
        path.parent.mkdir(parents=True)
        path.write_bytes(name.encode())

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, directory=str(root), **kwargs)  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            requests.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", root, requests
    server.shutdown()
    server.server_close()


def test_portraits_are_fetched_once_to_where_training_reads_them(
    faces: ModuleType, mirror: tuple[str, Path, list[str]], tmp_path: Path
) -> None:
    address, _, requests = mirror
    assert faces.fetch_all(tmp_path / "faces", address) == 2
    assert (tmp_path / "faces/male/7.jpg").read_bytes() == b"male/7.jpg"
    assert sorted(requests) == ["/female/512/0.jpg", "/male/512/7.jpg"]
    assert faces.fetch_all(tmp_path / "faces", address) == 0
    assert len(requests) == 2


def test_other_bytes_are_refused_and_not_kept(
    faces: ModuleType, mirror: tuple[str, Path, list[str]], tmp_path: Path
) -> None:
    address, root, _ = mirror
    (root / "male/512/7.jpg").write_bytes(b"somebody else")
    with pytest.raises(SystemExit, match=r"male/512/7\.jpg has SHA-256 .* it was not kept"):
        faces.fetch_all(tmp_path / "faces", address)
    assert not (tmp_path / "faces/male/7.jpg").exists()


def test_a_missing_portrait_says_where_it_was_looked_for(
    faces: ModuleType, mirror: tuple[str, Path, list[str]], tmp_path: Path
) -> None:
    address, root, _ = mirror
    (root / "female/512/0.jpg").unlink()
    with pytest.raises(SystemExit, match=r"cannot fetch http://127\.0\.0\.1:\d+/female/512/0\.jpg: HTTP Error 404"):
        faces.fetch_all(tmp_path / "faces", address)


def test_all_180_portraits_are_pinned() -> None:
    lines = (FILE.parent / "faces.sha256").read_text().splitlines()
    names = [line.split()[1] for line in lines]
    assert len(set(names)) == 180
    assert all(len(line.split()[0]) == 64 for line in lines)
    held_out = (FILE.parent / "held_out.txt").read_text().splitlines()
    assert {name for name in held_out if not name.startswith("#")} <= set(names)
