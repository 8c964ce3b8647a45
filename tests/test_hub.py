"""Public weights: pinned, verified, and fetched by the real client from a hub that may be slow, wrong or hostile."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from portrait.cli.main import main
from portrait.errors import PortraitError, WeightsCorruptError, WeightsError, WeightsMissingError
from portrait.hub import store, stream
from portrait.hub.download import fetch
from portrait.hub.files import shipped
from portrait.hub.manifest import Part, find_part, manifest
from portrait.hub.partial import ABANDONED
from portrait.hub.pins import read_lock
from portrait.hub.store import part_folder, status, verify_part
from tests.hub_server import Hub, environment, serving, use

REVISION = "0123456789abcdef0123456789abcdef01234567"
REPO = "someone/tiny"
LARGE, SMALL = bytes(range(256)) * 400, b'{"a": 1}\n'
FILES = {"unet/weights.safetensors": LARGE, "unet/config.json": SMALL}


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def entry(name: str, files: dict[str, bytes], *, unpinned: tuple[str, ...] = (), **more: str) -> str:
    about = {"title": name, "repo": REPO, "revision": REVISION, "license": "MIT", "commercial": "yes"} | more
    lines = [f"[{name}]", *(f'{key} = "{value}"' for key, value in about.items()), "files = ["]
    for path, data in files.items():
        pin = "" if path in unpinned else f', sha256 = "{sha(data)}", bytes = {len(data)}'
        lines.append(f'  {{ path = "{path}"{pin} }},')
    return "\n".join([*lines, "]", ""])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving() as server:
        use(monkeypatch, server, tmp_path)
        server.files = {(REPO, REVISION, path): data for path, data in FILES.items()}
        (tmp_path / "manifest.toml").write_text(entry("tiny", FILES))
        yield server


@pytest.fixture
def tiny(hub: Hub) -> Part:
    return find_part("tiny")


# ---- the list


def test_every_shipped_part_is_pinned_by_commit_and_licence() -> None:
    for part in manifest().values():
        assert part.license, part.name
        assert part.archive or len(part.revision) == 40
        for file in part.files:
            large = file.path.endswith((".safetensors", ".bin", ".onnx"))
            assert file.sha256 or not large, f"{part.name}: {file.path} is large and has no hash"
            assert bool(file.sha256) == bool(file.sources), file.path


def test_what_is_not_licensed_for_commercial_use_says_so() -> None:
    parts = manifest()
    assert all(parts[name].commercial == "no" for name in ("faceid_sd15", "instantid", "buffalo_l", "antelopev2"))
    assert parts["sdxl-turbo"].commercial == "conditional"
    assert parts["ip-adapter-plus-face_sd15"].commercial == "yes"


@pytest.mark.parametrize(
    "path", ["../evil", "/etc/passwd", "a/../../evil", "a\\\\..\\\\evil", "C:evil", "", "a//b", "./a", "a\\u0000b"]
)
def test_a_path_that_would_leave_its_folder_is_refused(hub: Hub, tmp_path: Path, path: str) -> None:
    (tmp_path / "manifest.toml").write_text(entry("bad", {path: b"x"}))
    with pytest.raises(WeightsError, match=r"part 'bad': \[\[files\]\] 1 path must be a relative path inside|not TOML"):
        manifest()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ((REVISION, "main"), "revision must be a full commit, got 'main'"),
        ((REPO, "../x"), "repo must be owner/name, got '../x'"),
        ((REVISION, "../../evil"), "revision must be a plain name, got '../../evil'"),
        (("[tiny]", '["../evil"]'), "name must be a plain name, got '../evil'"),
        ((f'repo = "{REPO}"', 'archive = "../evil.zip"'), "archive must be a plain file name, got '../evil.zip'"),
        ((f'repo = "{REPO}"', 'archive = "a.zip"'), "an archive needs its sha256 and its bytes"),
        ((f'repo = "{REPO}"', ""), "needs either repo or archive"),
        (
            ('commercial = "yes"', 'commercial = "maybe"'),
            "commercial 'maybe' is not one of: yes, no, conditional, unknown",
        ),
        (("license =", "licence ="), "unknown key 'licence'; did you mean license?"),
        ((sha(LARGE), "1234"), "[[files]] 1 sha256 must be 64 hex digits, got '1234'"),
        ((f"bytes = {len(LARGE)}", 'bytes = "many"'), "[[files]] 1 bytes must be a whole number, got 'many'"),
        ((f"bytes = {len(LARGE)}", "bytes = -1"), "[[files]] 1 bytes must be at least 0, got -1"),
        (('title = "tiny"', r'title = "\u001b[2J"'), r"title must be printable text on one line, got '\x1b[2J'"),
        (("unet/config.json", "manifest.json"), "[[files]] 2 path must not be manifest.json"),
        (("unet/config.json", "Unet/Weights.safetensors"), "a file is listed twice"),
    ],
)
def test_an_entry_that_does_not_fit_is_named(hub: Hub, tmp_path: Path, change: tuple[str, str], says: str) -> None:
    (tmp_path / "manifest.toml").write_text(entry("tiny", FILES).replace(*change))
    with pytest.raises(WeightsError, match=re.escape(says)):
        manifest()


def test_an_unknown_part_suggests_the_near_one() -> None:
    with pytest.raises(WeightsError, match="did you mean faceid_sd15"):
        find_part("faceid-sd15")


# ---- fetch


def test_a_part_is_fetched_verified_and_laid_out_without_strangers(hub: Hub, tiny: Part) -> None:
    progress: dict[str, int] = {}
    assert not status(tiny).here
    fetch([tiny], report=lambda name, done, total: progress.__setitem__(name, done))
    assert progress["tiny/unet/weights.safetensors"] == len(LARGE)
    snapshot = store.find_file(tiny, tiny.files[0])
    assert snapshot is not None
    (snapshot.parent / "stranger.safetensors").write_bytes(b"put there by somebody else")
    folder = part_folder(tiny)
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == [
        "manifest.json",
        "unet/config.json",
        "unet/weights.safetensors",
    ]
    assert (folder / "unet/weights.safetensors").read_bytes() == LARGE
    assert os.stat(folder / "unet/weights.safetensors").st_ino == os.stat(snapshot.resolve()).st_ino  # no second copy


def test_what_is_here_is_not_requested_again(hub: Hub, tiny: Part) -> None:
    fetch([tiny])
    hub.requests.clear()
    fetch([tiny])
    assert hub.requests == []


def test_only_the_hub_that_was_named_is_asked_and_no_token_leaves_it(
    hub: Hub, tiny: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with serving() as other:
        other.files, hub.elsewhere = dict(hub.files), other.url
        hub.faults["unet/weights.safetensors"] = "elsewhere"
        fetch([tiny])
        assert other.paths("GET")
        assert any(headers.get("authorization") == "Bearer hf_secret" for _, _, headers in hub.requests)
        assert all("authorization" not in headers for _, _, headers in other.requests)
        assert {path.split("/")[1] for path in hub.paths("GET")} <= {"someone", "cdn"}  # no telemetry, no registry


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_a_download_that_breaks_or_hangs_half_way_is_resumed(
    hub: Hub, tiny: Part, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 4096)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.4)
    hub.faults["unet/weights.safetensors"] = fault
    fetch([tiny])
    ranges = [h["range"] for verb, path, h in hub.requests if verb == "GET" and "range" in h]
    assert ranges, "it started again from zero"
    assert int(ranges[0].removeprefix("bytes=").rstrip("-")) > 0
    assert verify_part(tiny)["unet/weights.safetensors"] == sha(LARGE)


@pytest.mark.slow
def test_a_hub_slower_than_a_kilobyte_a_second_is_given_up_and_gone_on_with_later(
    hub: Hub, tiny: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_RATE_WINDOW", 0.2)
    monkeypatch.setattr(stream, "_MAX_FAILURES", 1)
    hub.faults["unet/weights.safetensors"] = "drip"
    with pytest.raises(
        WeightsMissingError, match=r"fewer than 1024 bytes per second arrived\); the partial download is kept"
    ):
        fetch([tiny])
    (partial,) = partials(tmp_path)
    have = partial.stat().st_size
    assert len(LARGE) // 2 <= have < len(LARGE)
    hub.faults.clear()
    hub.requests.clear()
    fetch([tiny])
    assert next(h["range"] for verb, _, h in hub.requests if verb == "GET" and "range" in h) == f"bytes={have}-"
    assert not partials(tmp_path)


def partials(folder: Path) -> list[Path]:
    """Files that are being downloaded, or were."""
    return list(folder.glob("cache/downloads/*"))


def wait_for(what: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("kind", "by"), [("hub", "INT"), ("archive", "INT"), ("hub", "TERM"), ("hub", "HUP")])
def test_ctrl_c_keeps_what_arrived_and_the_same_command_continues(hub: Hub, tmp_path: Path, kind: str, by: str) -> None:
    name, slow = "tiny", "unet/weights.safetensors"
    if kind == "archive":
        name, slow = "antelopev2", "antelopev2.zip"
        a_pack(hub, tmp_path, {"glintr100.onnx": LARGE}, {"glintr100.onnx": LARGE})
    hub.faults[slow] = "drip"
    command = [sys.executable, "-m", "portrait", "weights", "fetch", name]
    env = {**os.environ, **environment(hub, tmp_path)}
    running = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: sum(p.stat().st_size for p in partials(tmp_path)) > len(LARGE) // 3)
    running.send_signal(signal.Signals[f"SIG{by}"])
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert "interrupted; run the same command again to resume the download" in err
    assert "Traceback" not in err + out
    assert LARGE not in [p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()]
    hub.faults.clear()
    hub.requests.clear()
    again = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    ranges = [h["range"] for verb, _, h in hub.requests if verb == "GET" and "range" in h]
    assert int(ranges[0].removeprefix("bytes=").rstrip("-")) > len(LARGE) // 3
    assert LARGE in [p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()]


NO_LOCKS = (
    "import fcntl, sys; fcntl.flock = lambda *a: None; from portrait.cli.main import main; sys.exit(main(sys.argv[1:]))"
)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="flock of POSIX")
@pytest.mark.parametrize("code", [("-m", "portrait"), ("-c", NO_LOCKS)], ids=["locks", "no locks"])
@pytest.mark.parametrize("handed_on", [0, 40_000])
def test_two_processes_at_once_both_succeed(
    hub: Hub, tmp_path: Path, code: tuple[str, str], handed_on: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "manifest.toml").write_text(entry("tiny", FILES, unpinned=("unet/config.json",)))
    if handed_on:  # by an interrupted run: one of the two takes it over
        downloads = tmp_path / "cache" / "downloads"
        downloads.mkdir(parents=True)
        (downloads / f"{sha(LARGE)}.part").write_bytes(LARGE[:handed_on])
    hub.slow = 0.05
    command = [sys.executable, *code, "weights", "fetch", "tiny"]
    env = {**os.environ, **environment(hub, tmp_path)}
    both = [subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    resumed = [h["range"] for verb, _, h in hub.requests if verb == "GET" and "range" in h]
    assert set(resumed) == ({f"bytes={handed_on}-"} if handed_on else set())
    assert sorted(p.read_bytes() for p in blobs(tmp_path)) == sorted(FILES.values())
    assert not partials(tmp_path)
    use(monkeypatch, hub, tmp_path)
    assert read_lock() == {f"{REPO}@{REVISION}/unet/config.json": sha(SMALL)}


def test_a_process_that_is_downloading_keeps_its_file_and_that_of_a_dead_one_is_taken_over(
    hub: Hub, tiny: Part, tmp_path: Path
) -> None:
    downloads = tmp_path / "cache" / "downloads"
    downloads.mkdir(parents=True)
    live = downloads / f"{sha(LARGE)}.0123.live"
    live.write_bytes(LARGE[:1000])
    fetch([tiny])
    assert live.read_bytes() == LARGE[:1000]
    assert not [h for _, _, h in hub.requests if "range" in h]
    long_ago = time.time() - 2 * ABANDONED
    os.utime(live, (long_ago, long_ago))
    fetch([tiny], force=True)
    assert {h["range"] for _, _, h in hub.requests if "range" in h} == {"bytes=1000-"}
    assert not partials(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="links of POSIX")
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_partial_file_that_is_a_link_is_not_written_to(
    hub: Hub, tiny: Part, tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(LARGE[:1000])
    downloads = tmp_path / "cache" / "downloads"
    downloads.mkdir(parents=True)
    link(victim, downloads / f"{sha(LARGE)}.part")
    fetch([tiny])
    assert victim.read_bytes() == LARGE[:1000]
    assert all(not p.is_symlink() for p in blobs(tmp_path))
    assert (part_folder(tiny) / "unet/weights.safetensors").read_bytes() == LARGE


def test_a_file_that_is_gone_is_named_and_the_others_stay(hub: Hub, tiny: Part) -> None:
    hub.faults["unet/config.json"] = "gone"
    with pytest.raises(WeightsMissingError, match=r"no longer has the file unet/config\.json of someone/tiny@0123"):
        fetch([tiny])
    del hub.faults["unet/config.json"]
    fetch([tiny])
    hub.requests.clear()
    assert verify_part(tiny)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("norev", "no longer has the revision of unet/weights"),
        ("norepo", "has no repository someone/tiny, or it needs a token: set HF_TOKEN"),
        ("gated", "is gated: accept its terms at http://127"),
        ("error", "answered 500"),
    ],
)
def test_each_refusal_of_the_hub_says_what_to_do(hub: Hub, tiny: Part, fault: str, says: str) -> None:
    hub.faults["unet/weights.safetensors"] = fault
    with pytest.raises(WeightsMissingError, match=says):
        fetch([tiny])


def test_a_hub_that_cannot_be_reached_is_one_line(hub: Hub, tiny: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WeightsMissingError, match=r"cannot reach http://127\.0\.0\.1:9") as caught:
        fetch([tiny])
    assert "\n" not in str(caught.value)


# ---- a hostile hub


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("commit", "it is from commit 'ffff"),
        ("huge", "it has 10000000000000 bytes, but the pin has 102400"),
    ],
)
def test_a_hub_that_lies_in_its_headers_is_refused_before_the_first_byte(
    hub: Hub, tiny: Part, tmp_path: Path, fault: str, says: str
) -> None:
    hub.faults["unet/weights.safetensors"] = fault
    with pytest.raises(WeightsCorruptError, match=says):
        fetch([tiny])
    assert not hub.paths("GET")
    assert not list(tmp_path.rglob("evil*"))


def test_other_weights_under_the_same_name_are_refused_before_they_are_downloaded(hub: Hub, tiny: Part) -> None:
    hub.files[REPO, REVISION, "unet/weights.safetensors"] = LARGE[::-1]
    with pytest.raises(WeightsCorruptError, match="the pin is .* nothing was downloaded"):
        fetch([tiny])
    assert not hub.paths("GET")


def blobs(folder: Path) -> list[Path]:
    """The verified files of the store."""
    return list(folder.glob("cache/blobs/*"))


def test_a_tag_of_the_hub_never_names_a_file(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "manifest.toml").write_text(entry("tiny", FILES, unpinned=tuple(FILES)))
    hub.faults = dict.fromkeys(FILES, "tag")
    fetch([find_part("tiny")])
    assert not list(tmp_path.rglob("*evil*"))
    assert sorted(p.name for p in blobs(tmp_path)) == sorted(map(sha, FILES.values()))


def test_wrong_bytes_never_enter_the_cache(hub: Hub, tiny: Part, tmp_path: Path) -> None:
    hub.faults["unet/weights.safetensors"] = "wrong"
    with pytest.raises(WeightsCorruptError, match=r"sent another unet/weights\.safetensors .* it was discarded"):
        fetch([tiny])
    assert store.find_file(tiny, tiny.files[0]) is None
    assert not partials(tmp_path)  # resuming wrong bytes would never end well
    hub.faults.clear()
    fetch([tiny])
    assert (part_folder(tiny) / "unet/weights.safetensors").read_bytes() == LARGE


@pytest.mark.parametrize("path", FILES)
def test_a_hub_that_sends_something_else_than_it_promised_is_refused(hub: Hub, tmp_path: Path, path: str) -> None:
    (tmp_path / "manifest.toml").write_text(entry("tiny", FILES, unpinned=tuple(FILES)))
    part = find_part("tiny")
    hub.faults = {path: "turn"}  # nothing is pinned: all there is to go by is the hub's first answer
    with pytest.raises(WeightsCorruptError, match=f"sent another {path} .* it was discarded"):
        fetch([part])
    assert path not in "".join(read_lock())
    assert not list(tmp_path.rglob("evil*"))
    hub.faults = {}
    fetch([part])
    requests = [each for each in hub.paths("HEAD") if each.endswith(path) and not each.startswith("/cdn")]
    assert len(requests) == 2  # one question a run


def in_hub_cache(folder: Path, files: dict[str, bytes]) -> dict[Path, bytes]:
    """Lay files out as huggingface_hub does; returns what lies in its cache."""
    repository = folder / "hf" / "hub" / f"models--{REPO.replace('/', '--')}"
    for path, data in files.items():
        blob = repository / "blobs" / sha(data)
        pointer = repository / "snapshots" / REVISION / path
        for each in (blob, pointer):
            each.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        pointer.symlink_to(blob)
    return contents(folder / "hf")


def contents(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_files_of_huggingface_hub_are_used_where_they_lie(hub: Hub, tiny: Part, tmp_path: Path) -> None:
    cached = in_hub_cache(tmp_path, FILES)
    fetch([tiny])
    folder = part_folder(tiny)
    assert (folder / "unet/weights.safetensors").read_bytes() == LARGE
    assert hub.requests == []
    assert not blobs(tmp_path)
    store.prune([], everything=True)
    assert contents(tmp_path / "hf") == cached


def test_a_wrong_file_of_another_program_is_left_and_replaced_on_demand(hub: Hub, tiny: Part, tmp_path: Path) -> None:
    cached = in_hub_cache(tmp_path, FILES | {"unet/weights.safetensors": bytes(len(LARGE))})
    with pytest.raises(
        WeightsCorruptError, match="left as it is. To download it again: portrait weights fetch --force tiny"
    ):
        part_folder(tiny)
    fetch([tiny], force=True)
    assert contents(tmp_path / "hf") == cached
    assert (part_folder(tiny) / "unet/weights.safetensors").read_bytes() == LARGE


@pytest.mark.parametrize("fault", ["loop", "spin"])
def test_a_redirect_in_a_circle_is_an_error(hub: Hub, tiny: Part, fault: str) -> None:
    hub.faults["unet/config.json"] = fault
    with pytest.raises(WeightsMissingError, match=r"cannot reach .* \(TooManyRedirects"):
        fetch([tiny])


def test_an_error_with_an_endless_body_is_an_error(hub: Hub, tiny: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_MAX_FAILURES", 0)
    hub.faults["unet/config.json"] = "endless"
    with pytest.raises(WeightsMissingError, match="answered 500"):
        fetch([tiny])


def test_a_stream_without_end_is_cut_off_at_the_pinned_size(hub: Hub, tiny: Part, tmp_path: Path) -> None:
    hub.faults["unet/weights.safetensors"] = "long"
    with pytest.raises(WeightsCorruptError, match="more than 102400 bytes came"):
        fetch([tiny])
    assert all(p.stat().st_size <= len(LARGE) for p in tmp_path.rglob("*") if p.is_file())


@pytest.mark.parametrize("code", [302, 307, 308])
def test_the_body_of_a_redirect_is_never_read(hub: Hub, tiny: Part, code: int) -> None:
    hub.faults["unet/weights.safetensors"] = f"fat{code}"
    fetch([tiny])
    assert (part_folder(tiny) / "unet/weights.safetensors").read_bytes() == LARGE
    assert hub.sent < 4 * 2**20  # of a body without end, what fits into the sockets' buffers


@pytest.mark.parametrize("coding", ["gzip", "br"])
def test_a_bomb_in_a_redirect_is_not_decoded(
    hub: Hub, tiny: Part, monkeypatch: pytest.MonkeyPatch, coding: str
) -> None:
    import httpx2

    plain = bytes(2**24)
    hub.bomb = gzip.compress(plain) if coding == "gzip" else pytest.importorskip("brotli").compress(plain, quality=5)
    assert len(hub.bomb) < 2**15
    hub.faults["unet/weights.safetensors"] = f"bomb-{coding}"
    decoded: list[tuple[str, int]] = []
    decoder = httpx2.Response._get_content_decoder

    def note(response: httpx2.Response) -> Any:
        decoded.append((response.request.method, response.status_code))
        return decoder(response)

    monkeypatch.setattr(httpx2.Response, "_get_content_decoder", note)
    fetch([tiny])
    assert (part_folder(tiny) / "unet/weights.safetensors").read_bytes() == LARGE
    assert ("GET", 302) not in decoded


@pytest.mark.parametrize("coding", ["gzip", "br"])
def test_a_compressed_body_is_refused_and_not_decoded(hub: Hub, tiny: Part, coding: str) -> None:
    hub.faults["unet/weights.safetensors"] = coding
    with pytest.raises(WeightsMissingError, match="sent a compressed body for unet/weights"):
        fetch([tiny])
    encodings = [headers for verb, path, headers in hub.requests if verb == "GET" and "weights.safetensors" in path]
    assert {headers["accept-encoding"] for headers in encodings} == {"identity"}
    assert len(encodings) == 2  # the hub and its CDN, once: trying again would not help


def test_a_file_of_unknown_size_that_the_hub_cannot_resume_is_downloaded_again(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "manifest.toml").write_text(entry("tiny", FILES, unpinned=tuple(FILES)))
    part = find_part("tiny")
    hub.large, hub.slow = 10**9, 0.002
    hub.faults["unet/weights.safetensors"] = "unsized"

    def interrupt(name: str, done: int, total: int) -> None:
        assert total == 0 or "config" in name
        if done > 50_000:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(WeightsError, match="Input/output error"):
        fetch([part], report=interrupt)
    (partial,) = partials(tmp_path)
    assert partial.stat().st_size > 10_000
    fetch([part])
    assert [h["range"] for verb, _, h in hub.requests if verb == "GET" and "range" in h]
    assert read_lock()[f"{REPO}@{REVISION}/unet/weights.safetensors"] == sha(LARGE)


@pytest.mark.slow
def test_a_hub_that_lets_a_download_begin_again_and_again_is_given_up(
    hub: Hub, tiny: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_MAX_FAILURES", 2)
    monkeypatch.setattr(stream, "_PROGRESS", 1024)  # so that each beginning counts as progress
    hub.faults["unet/weights.safetensors"] = "again"
    with pytest.raises(WeightsMissingError, match="there is no byte"):
        fetch([tiny])


# ---- first use


def test_a_file_without_a_hash_is_pinned_on_first_use_and_held_to_it(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "manifest.toml").write_text(entry("tiny", FILES, unpinned=("unet/config.json",)))
    part = find_part("tiny")
    fetch([part])
    assert read_lock() == {f"{REPO}@{REVISION}/unet/config.json": sha(SMALL)}
    lock, other = tmp_path / "weights.lock.json", tmp_path / "manifest.toml"
    assert lock.stat().st_mode == other.stat().st_mode  # whoever may read other new files may read it
    shutil.rmtree(tmp_path / "cache")  # a new machine that brought its lock file along
    hub.files[REPO, REVISION, "unet/config.json"] = b'{"a": 2}\n'
    for _ in range(2):  # also with --force, and also the second time
        with pytest.raises(WeightsCorruptError, match="expected"):
            fetch([part], force=True)
        assert read_lock() == {f"{REPO}@{REVISION}/unet/config.json": sha(SMALL)}
        assert store.find_file(part, part.files[1]) is None
    hub.files[REPO, REVISION, "unet/config.json"] = SMALL
    fetch([part])
    assert (part_folder(part) / "unet/config.json").read_bytes() == SMALL


def test_a_damaged_lock_file_is_refused_and_left(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "manifest.toml").write_text(entry("tiny", FILES, unpinned=("unet/config.json",)))
    lock = tmp_path / "weights.lock.json"
    lock.write_text('{"files": {"x": "not a hash"}}')
    with pytest.raises(WeightsCorruptError, match="the lock file .* cannot be used"):
        fetch([find_part("tiny")])
    assert "not a hash" in lock.read_text()


def test_a_file_changed_later_is_noticed_before_it_is_used(hub: Hub, tiny: Part) -> None:
    fetch([tiny])
    folder = part_folder(tiny)
    place = folder / "unet/weights.safetensors"
    place.write_bytes(LARGE[:-1] + b"!")
    with pytest.raises(WeightsCorruptError, match=r"weights\.safetensors has SHA-256"):
        part_folder(tiny)
    assert place.exists()
    fetch([tiny], force=True)
    assert (part_folder(tiny) / "unet/weights.safetensors").read_bytes() == LARGE


# ---- disk and network


def test_a_disk_that_is_too_small_is_seen_first(hub: Hub, tiny: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=store.RESERVE + 1000))
    with pytest.raises(WeightsError, match="are needed in .* are free"):
        fetch([tiny])
    assert not hub.paths("GET")


def test_the_room_for_a_pickles_safetensors_is_counted_too(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    free = usage._replace(free=store.RESERVE + len(LARGE) * 3 // 2)
    monkeypatch.setattr("shutil.disk_usage", lambda path: free)
    for path, fits in (("adapter.bin", False), ("adapter.safetensors", True)):
        hub.files[REPO, REVISION, path] = LARGE
        (tmp_path / "manifest.toml").write_text(entry("tiny", {path: LARGE}))
        if fits:
            fetch([find_part("tiny")])
            continue
        with pytest.raises(WeightsError, match="are needed in .* are free"):
            fetch([find_part("tiny")])


def test_a_disk_that_fills_up_on_the_way_leaves_no_half_file(
    hub: Hub, tiny: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(name: str, done: int, total: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(WeightsError, match=r"the disk of .* is full for unet/.* run the same command again"):
        fetch([tiny], report=full)
    assert not blobs(tmp_path)
    fetch([tiny])
    assert verify_part(tiny)


def test_offline_with_a_cache_everything_works_and_without_it_says_so(
    hub: Hub, tiny: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsMissingError, match="HF_HUB_OFFLINE is set"):
        fetch([tiny])
    assert hub.requests == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    fetch([tiny])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.requests.clear()
    fetch([tiny])
    assert (part_folder(tiny) / "unet/config.json").read_bytes() == SMALL
    assert hub.requests == []


def test_a_part_that_is_not_here_says_how_to_get_it(hub: Hub, tiny: Part) -> None:
    with pytest.raises(WeightsMissingError, match="2 of 2 files are not on this machine.*portrait weights fetch tiny"):
        part_folder(tiny)


# ---- InsightFace archives


def archive(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as opened:
        for name, data in members.items():
            opened.writestr(name, data)
    return out.getvalue()


def a_pack(
    hub: Hub,
    folder: Path,
    members: dict[str, bytes],
    wanted: dict[str, bytes],
    data: bytes = b"",
    name: str = "antelopev2",
) -> Part:
    data = data or archive(members)
    hub.archives[f"/releases/v0.7/{name}.zip"] = data
    listed = "".join(f'  {{ path = "{n}", sha256 = "{sha(d)}", bytes = {len(d)} }},\n' for n, d in wanted.items())
    (folder / "manifest.toml").write_text(
        f'[{name}]\ntitle = "pack"\narchive = "{name}.zip"\nrevision = "v0.7"\nsha256 = "{sha(data)}"\n'
        f'bytes = {len(data)}\nlicense = "research"\ncommercial = "no"\nfiles = [\n{listed}]\n'
    )
    return find_part(name)


def test_an_archive_is_unpacked_flat_and_only_what_is_listed(hub: Hub, tmp_path: Path) -> None:
    members = {"antelopev2/glintr100.onnx": LARGE, "antelopev2/genderage.onnx": SMALL, "../../evil.onnx": b"x"}
    part = a_pack(hub, tmp_path, members, {"glintr100.onnx": LARGE})
    fetch([part])
    folder = part_folder(part)
    assert sorted(p.name for p in folder.iterdir()) == ["glintr100.onnx", "manifest.json"]
    assert not list(tmp_path.rglob("evil.onnx"))
    assert not partials(tmp_path)


def test_the_fetched_detector_and_recognizer_are_those_that_find_faces(hub: Hub, tmp_path: Path) -> None:
    from portrait.faces.insightface_analyzer import find_pack

    files = {"det_500m.onnx": LARGE, "w600k_mbf.onnx": LARGE[::-1]}
    part = a_pack(hub, tmp_path, files, files, name="buffalo_sc")
    fetch([part])
    assert find_pack() == part_folder(part)
    (find_pack() / "det_500m.onnx").write_bytes(SMALL)
    with pytest.raises(WeightsCorruptError, match=r"det_500m\.onnx has SHA-256"):
        find_pack()


def test_an_archive_is_resumed_by_the_next_run(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = a_pack(hub, tmp_path, {"glintr100.onnx": LARGE}, {"glintr100.onnx": LARGE})
    downloads = tmp_path / "cache" / "downloads"
    downloads.mkdir(parents=True)
    data = hub.archives["/releases/v0.7/antelopev2.zip"]
    (downloads / f"{sha(data)}.part").write_bytes(data[:50_000])
    fetch([part])
    assert [h.get("range") for verb, _, h in hub.requests if verb == "GET"] == ["bytes=50000-"]


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"glintr100.onnx": LARGE[::-1]}, "glintr100.onnx in antelopev2.zip has SHA-256"),
        ({"glintr100.onnx": LARGE + b"x"}, "does not contain glintr100.onnx with 102400 bytes"),
        ({"other.onnx": LARGE}, "does not contain glintr100.onnx"),
    ],
)
def test_a_member_that_is_another_one_is_not_used(
    hub: Hub, tmp_path: Path, members: dict[str, bytes], says: str
) -> None:
    part = a_pack(hub, tmp_path, members, {"glintr100.onnx": LARGE})
    with pytest.raises(WeightsCorruptError, match=says):
        fetch([part])
    assert not status(part).here


def test_an_archive_with_a_wrong_hash_is_not_unpacked(hub: Hub, tmp_path: Path) -> None:
    part = a_pack(hub, tmp_path, {"glintr100.onnx": LARGE}, {"glintr100.onnx": LARGE})
    hub.faults["antelopev2.zip"] = "wrong"
    data = hub.archives["/releases/v0.7/antelopev2.zip"]
    hub.archives["/releases/v0.7/antelopev2.zip"] = data[:-1] + b"!"
    with pytest.raises(WeightsCorruptError, match="it was not unpacked"):
        fetch([part])
    hub.archives["/releases/v0.7/antelopev2.zip"] = data
    fetch([part])


def test_an_archive_that_states_a_smaller_size_than_it_unpacks_to_is_refused(hub: Hub, tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("glintr100.onnx", bytes(50 * 2**20))
    bomb = out.getvalue().replace((50 * 2**20).to_bytes(4, "little"), len(LARGE).to_bytes(4, "little"))
    part = a_pack(hub, tmp_path, {}, {"glintr100.onnx": LARGE}, data=bomb)
    with pytest.raises(WeightsCorruptError, match=r"antelopev2\.zip"):
        fetch([part])
    assert sum(p.stat().st_size for p in tmp_path.rglob("*.onnx")) == 0
    assert not status(part).here


def test_a_pack_that_is_here_outlives_a_forced_fetch_that_fails(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = a_pack(hub, tmp_path, {"glintr100.onnx": LARGE}, {"glintr100.onnx": LARGE})
    fetch([part])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsMissingError, match="HF_HUB_OFFLINE is set"):
        fetch([part], force=True)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    hub.archives.clear()
    with pytest.raises(WeightsMissingError, match="answered"):
        fetch([part], force=True)
    assert (part_folder(part) / "glintr100.onnx").read_bytes() == LARGE


def test_a_damaged_file_of_a_pack_is_replaced_by_a_forced_fetch_and_a_lost_one_by_any(hub: Hub, tmp_path: Path) -> None:
    part = a_pack(hub, tmp_path, {"glintr100.onnx": LARGE}, {"glintr100.onnx": LARGE})
    fetch([part])
    file = part_folder(part) / "glintr100.onnx"
    file.write_bytes(LARGE[::-1])
    fetch([part], force=True)
    assert part_folder(part) / "glintr100.onnx" == file
    assert file.read_bytes() == LARGE
    file.unlink()
    fetch([part])
    assert part_folder(part) / "glintr100.onnx" == file
    assert file.read_bytes() == LARGE


def test_insightfaces_own_nested_folder_is_found_and_not_downloaded(hub: Hub, tmp_path: Path) -> None:
    part = a_pack(hub, tmp_path, {"glintr100.onnx": LARGE}, {"glintr100.onnx": LARGE})
    nested = tmp_path / "insightface" / "models" / "antelopev2" / "antelopev2"
    nested.mkdir(parents=True)
    (nested / "glintr100.onnx").write_bytes(LARGE)
    fetch([part])
    assert hub.requests == []
    assert (part_folder(part) / "glintr100.onnx").read_bytes() == LARGE


# ---- the command


@pytest.mark.slow
def test_the_command_fetches_in_a_process_of_its_own(hub: Hub, tmp_path: Path) -> None:
    env = {**os.environ, **environment(hub, tmp_path)}

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "portrait", "weights", *argv], env=env, capture_output=True, text=True, check=False
        )

    done = run("fetch", "tiny")
    assert done.returncode == 0, done.stderr
    assert "tiny: 2 files" in done.stdout
    assert Path(run("path", "tiny").stdout.strip(), "unet/config.json").read_bytes() == SMALL


def test_list_verify_and_prune_say_what_is_here(
    hub: Hub, tiny: Part, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights", "list", "tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tiny"]["here"] == 0
    assert main(["weights", "fetch", "tiny", "--quiet"]) == 0
    assert main(["weights", "list", "tiny"]) == 0
    assert "here: here" in capsys.readouterr().out
    folder = part_folder(tiny)
    cache = tmp_path / "cache"
    unneeded = [cache / "models" / "tiny-000000000000", cache / "blobs" / sha(b"old"), cache / "downloads" / "abc.part"]
    unneeded[0].mkdir()
    for file in unneeded[1:]:
        file.write_bytes(b"old")
    live = cache / "downloads" / "abc.0123.live"
    live.write_bytes(b"being downloaded")
    adapter = cache / "adapters" / "faceid.safetensors"
    adapter.parent.mkdir()
    adapter.write_bytes(b"of a pickle")
    assert main(["weights", "prune", "--dry-run", "--all"]) == 0
    printed = capsys.readouterr().out.splitlines()
    in_use = [folder, adapter, *(cache / "blobs" / sha(data) for data in FILES.values())]
    assert sorted(printed) == sorted(f"would remove {path}" for path in [*unneeded, *in_use])
    assert main(["weights", "prune", "--dry-run"]) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(f"would remove {path}" for path in unneeded)
    assert main(["weights", "prune"]) == 0
    assert not any(path.exists() for path in unneeded)
    assert all(path.exists() for path in [live, *in_use])
    capsys.readouterr()
    assert main(["weights", "verify"]) == 0
    assert "tiny: 2 files as pinned" in capsys.readouterr().out
    (folder / "unet/config.json").write_bytes(b"changed")
    assert main(["weights", "verify", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_an_unknown_name_is_one_line(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "fetch", "tinny"]) == 1
    printed = capsys.readouterr().err
    assert "did you mean tiny" in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize("action", ["list", "fetch", "verify"])
def test_a_recipe_that_is_shipped_has_nothing_to_fetch(
    hub: Hub, capsys: pytest.CaptureFixture[str], action: str
) -> None:
    assert main(["weights", action, "mini"]) == 0
    printed = capsys.readouterr()
    assert printed.err.strip() == "mini is shipped: nothing to fetch"
    assert printed.out == ""
    assert hub.requests == []


def test_a_typo_is_compared_with_recipes_and_parts_together(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    for typo, suggestion in (("sd15-plusface", "sd15-plus-face"), ("clip-vith", "clip-vit-h")):
        assert main(["weights", "fetch", typo]) == 1
        says = f"no recipe and no part '{typo}'; did you mean {suggestion}? portrait weights list shows all parts"
        assert says in capsys.readouterr().err


def test_the_shipped_manifest_is_read_without_the_network() -> None:
    assert shipped("manifest.toml").is_file()
    assert isinstance(PortraitError(), Exception)
    parts: dict[str, Any] = dict(manifest())
    assert {"sd15", "sdxl", "clip-vit-h", "instantid"} <= parts.keys()
