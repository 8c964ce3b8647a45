"""Fetch the parts of the manifest, check every byte against its pin, and lay them out as libraries expect them.

Hub files go through huggingface_hub: its cache, its mirrors and tokens (`HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`,
`HF_HUB_OFFLINE`, `HF_TOKEN`). InsightFace archives come from their release page, or from the address in
`PORTRAIT_INSIGHTFACE_URL`. What is loaded later is a folder of links to verified files and nothing else, so a file
that another program put into the cache is never loaded by accident.

The bytes themselves are streamed here and not by `hf_hub_download`: it asks the hub a second time and believes the
second answer, throws away what arrived when it is interrupted, and puts a file into the shared cache before anybody
has checked it. Here a file is resumed in the next run too, and enters the cache verified or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from portrait.errors import WeightsCorruptError, WeightsError, WeightsMissingError
from portrait.manifest import Part, PartFile
from portrait.runtime import cache_dir
from portrait.weights import sha256_of, whole_folder

log = logging.getLogger(__name__)

INSIGHTFACE_URL = "https://github.com/deepinsight/insightface/releases/download"
RESERVE = 512 * 2**20
"""Free bytes that a download leaves on the disk."""
_UNPINNED_LIMITS = {".safetensors": 16 * 2**30, ".bin": 8 * 2**30}  # a file of unknown size may not be larger
_TEXT_LIMIT = 64 * 2**20
_RETRIES, _PROGRESS = 5, 2**16  # so many connections in a row may bring fewer bytes than this
_SLOWEST, _PATIENCE = 1024, 30.0  # bytes a second over so many seconds: below, the connection is given up
_BUSY = (408, 429, 500, 502, 503, 504)
_PARTIAL = ".portrait.incomplete"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT = re.compile(r"[0-9a-f]{40}")
_ETAG = re.compile(r"[A-Za-z0-9_-]{1,128}")

Report = Callable[[str, int, int], None]
"""Called with (file, bytes done, bytes in all); from several threads."""


def offline() -> bool:
    """Whether the user forbids network access, by huggingface_hub's own variables."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


def endpoint() -> str:
    """The hub that is asked: `HF_ENDPOINT`, or huggingface_hub's default."""
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def hub_cache() -> Path:
    """huggingface_hub's cache folder, by `HF_HUB_CACHE` or `HF_HOME`."""
    from huggingface_hub import constants

    if own := os.environ.get("HF_HUB_CACHE"):
        return Path(own).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return Path(constants.HF_HUB_CACHE)


# ---- pins


def lock_file() -> Path:
    """Where hashes seen on first use are kept: `PORTRAIT_LOCK`, or weights.lock.json in the user's data folder."""
    own = os.environ.get("PORTRAIT_LOCK")
    return Path(own) if own else Path(platformdirs.user_data_dir("portrait", appauthor=False)) / "weights.lock.json"


def pins() -> dict[str, str]:
    """Pin name -> SHA-256 of the lock file; empty when there is none.

    Raises:
        WeightsCorruptError: the file is damaged; it is left as it is.
    """
    path = lock_file()
    try:
        found = json.loads(path.read_text("utf-8"))["files"]
        if not all(isinstance(k, str) and _SHA256.fullmatch(v) for k, v in found.items()):
            raise ValueError("an entry is not a SHA-256")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsCorruptError(
            f"the lock file {path} cannot be used ({error!r}); restore it, or move it away to pin anew"
        ) from None
    return dict(found)


def pinned(part: Part, file: PartFile) -> str:
    """The SHA-256 that a file must have: the manifest's, else the lock file's, else empty."""
    return file.sha256 or pins().get(part.pin_name(file), "")


def pin(digests: dict[str, str]) -> None:
    """Add pins to the lock file, whole or not at all; what is pinned already is never changed.

    Raises:
        WeightsCorruptError: a name is pinned to another hash.
        WeightsError: the lock file cannot be written.
    """
    from huggingface_hub.utils import WeakFileLock

    path = lock_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(path.with_name(f".{path.name}.lock")):
            known = pins()
            for name, digest in digests.items():
                if known.setdefault(name, digest) != digest:
                    raise WeightsCorruptError(
                        f"{name} has SHA-256 {digest[:16]}..., but {known[name][:16]}... was pinned on first use in {path}"
                    )
            handle, staging = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                json.dump({"version": 1, "files": dict(sorted(known.items()))}, out, indent=1)
            os.replace(staging, path)
    except OSError as error:
        raise WeightsError(
            f"cannot write the lock file {path} ({error.strerror}); set PORTRAIT_LOCK to a file that can be written"
        ) from None


# ---- what is here


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How much of a part is on this machine: files that are here, files in all, bytes that are here."""

    part: Part
    here: int
    bytes: int

    @property
    def complete(self) -> bool:
        return self.here == len(self.part.files)


def status(part: Part) -> Status:
    """Look for a part's files without hashing them."""
    found = [path for file in part.files if (path := find_file(part, file)) is not None]
    return Status(part=part, here=len(found), bytes=sum(path.stat().st_size for path in found))


def find_file(part: Part, file: PartFile) -> Path | None:
    """Where a file of a part lies on this machine, not verified; None if it does not."""
    assembled = _assembled(part)
    if assembled is not None and (assembled / file.path).is_file():
        return assembled / file.path
    if part.archive:
        root = Path(os.environ.get("INSIGHTFACE_HOME", "~/.insightface")).expanduser() / "models" / part.name
        places = [root / file.path, root / part.name / file.path]  # antelopev2 unpacks into a folder of its own name
        return next((place for place in places if place.is_file()), None)
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(part.repo, file.path, cache_dir=hub_cache(), revision=part.revision)
    return Path(found) if isinstance(found, str) else None


def _assembled(part: Part) -> Path | None:
    """The folder of verified links, if every hash is known and the folder was built; its name carries the hashes."""
    known = pins() if any(not file.sha256 for file in part.files) else {}
    digests = {file.path: file.sha256 or known.get(part.pin_name(file), "") for file in part.files}
    folder = _folder(part, digests)
    return folder if all(digests.values()) and (folder / "manifest.json").is_file() else None


def _is_whole(part: Part, folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("manifest.json", *(file.path for file in part.files)))


def _folder(part: Part, digests: dict[str, str]) -> Path:
    mark = hashlib.sha256("".join(f"{n}\0{d}\n" for n, d in sorted(digests.items())).encode()).hexdigest()
    return cache_dir() / "models" / f"{part.name}-{mark[:12]}"


# ---- verify and lay out


def verify_part(part: Part) -> dict[str, str]:
    """Hash every file of a part against its pin; a file that was never pinned is pinned now.

    Returns:
        Path within the part -> SHA-256.

    Raises:
        WeightsMissingError: files are not on this machine; says how to get them.
        WeightsCorruptError: a file is another one. Nothing is deleted.
    """
    places = {file: find_file(part, file) for file in part.files}
    if missing := [file for file, place in places.items() if place is None]:
        raise WeightsMissingError(
            f"{part.name}: {len(missing)} of {len(part.files)} files are not on this machine, such as "
            f"{missing[0].path}{_size_note(missing)}; run: portrait weights fetch {part.name}"
        )
    return _checked(part, {file: place for file, place in places.items() if place is not None})


def _checked(part: Part, places: dict[PartFile, Path]) -> dict[str, str]:
    digests, first_seen = {}, {}
    for file, place in places.items():
        digests[file.path] = seen = sha256_of(place.resolve())
        wanted = pinned(part, file)
        if wanted and seen != wanted:
            raise WeightsCorruptError(
                f"{place} has SHA-256 {seen[:16]}..., expected {wanted[:16]}... for {part.origin}; it was left as it "
                f"is. To download it again: portrait weights fetch --force {part.name}"
            )
        if not wanted:
            first_seen[part.pin_name(file)] = seen
    if first_seen:
        pin(first_seen)
        log.info("%s: %d file(s) pinned on first use", part.name, len(first_seen))
    return digests


def part_folder(part: Part) -> Path:
    """Return a folder that holds exactly the verified files of a part, under their own paths, and `manifest.json`.

    The files are links where the file system has them, so they take no room twice.

    Raises:
        WeightsMissingError, WeightsCorruptError: as `verify_part`.
    """
    digests = verify_part(part)
    folder = _folder(part, digests)
    if _is_whole(part, folder):
        return folder
    with _staging(part, folder) as staging:
        for file in part.files:
            source = find_file(part, file)
            if source is None:
                raise WeightsMissingError(f"{part.name}: {file.path} went away while it was used; try again")
            target = staging / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(source.resolve(), target)
        _list(part, digests, staging)
    return folder


def _list(part: Part, digests: dict[str, str], folder: Path) -> None:
    listed = {name: {"sha256": digest} for name, digest in digests.items()}
    (folder / "manifest.json").write_text(json.dumps({"part": part.name, "files": listed}, indent=1), "utf-8")


@contextlib.contextmanager
def _staging(part: Part, folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """`weights.whole_folder` for a part's files and `manifest.json`; a full disk is said as such."""
    try:
        with whole_folder(folder, lambda: _is_whole(part, folder), replace=replace) as staging:
            yield staging
    except OSError as error:
        raise _disk_error(error, folder.parent) from None


def _link(source: Path, target: Path) -> None:
    for way in (os.link, os.symlink, shutil.copyfile):
        with contextlib.suppress(OSError):
            way(source, target)
            return
    raise OSError(errno.EIO, f"cannot link or copy {source}")


# ---- fetch


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """A hub file to download: how many bytes it has (0: unknown), and the hub's tag for it."""

    part: Part
    file: PartFile
    size: int
    tag: str

    @property
    def partial(self) -> Path:
        """Where its bytes are gathered: beside huggingface_hub's blobs, so that moving it costs nothing."""
        return _repository(self.part) / "blobs" / f"{self.tag}{_PARTIAL}"

    @property
    def left(self) -> int:
        return max(0, self.size - (self.partial.stat().st_size if self.partial.is_file() else 0))


def fetch(
    parts: Sequence[Part], *, force: bool = False, jobs: int = 4, report: Report | None = None
) -> dict[str, dict[str, str]]:
    """Bring parts to this machine and verify them.

    What is here already is only verified. The sizes that the hub states are compared with the pins, and the free
    disk with their sum, before the first byte. Files that arrived stay when another one fails.

    Args:
        parts: From the manifest.
        force: Download again what is here, for a file whose hash is wrong.
        jobs: Files at once.
        report: Progress.

    Returns:
        Part name -> path -> SHA-256.

    Raises:
        WeightsMissingError: offline, not reachable, no such file or revision, or a token is needed.
        WeightsCorruptError: the hub offers or sent other bytes than are pinned.
        WeightsError: not enough disk.
    """
    stop = threading.Event()
    wanted = [(p, f) for p in parts if not p.archive for f in p.files if force or find_file(p, f) is None]
    archives = [p for p in parts if p.archive and (force or not status(p).complete)]
    if (wanted or archives) and offline():
        first = wanted[0][0] if wanted else archives[0]
        raise WeightsMissingError(
            f"{first.name} is not on this machine and HF_HUB_OFFLINE is set; unset it, or copy the cache "
            f"{hub_cache()} from a machine that has it"
        )
    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        todo = list(pool.map(lambda pair: _offered(*pair), wanted))
        ours = sum(2 * part.bytes for part in archives)  # the archive, and what is unpacked of it
        ours += sum(job.size for job in todo if job.file.path.endswith(".bin"))  # is kept as safetensors too
        _check_disk({hub_cache(): sum(job.left for job in todo), cache_dir(): ours})
        waiting = [pool.submit(_download, job, force, report, stop) for job in todo]
        waiting += [pool.submit(_fetch_archive, part, force, report, stop) for part in archives]
        try:
            for one in as_completed(waiting):
                one.result()
        except BaseException:  # also Ctrl-C: what runs stops at its next block
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if force:  # the folders of links are ours; a damaged link would hide the new file
        for stale in [folder for part in parts if not part.archive and (folder := _assembled(part)) is not None]:
            shutil.rmtree(stale, ignore_errors=True)
    return {part.name: verify_part(part) for part in parts}


def _offered(part: Part, file: PartFile) -> _Job:
    """Ask the hub for a file's size and tag, and check what it says about itself. It is asked only once."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(part.repo, file.path, revision=part.revision, endpoint=endpoint())
    with _hub_errors(part, file):
        about = get_hf_file_metadata(url, endpoint=endpoint())
    what = f"{endpoint()} offers another {file.path} of {part.origin}"
    if about.commit_hash != part.revision:
        raise WeightsCorruptError(f"{what}: it is of commit {about.commit_hash!r}; nothing was downloaded")
    if about.etag is None or not _ETAG.fullmatch(about.etag):  # huggingface_hub takes it for a file name
        raise WeightsCorruptError(f"{what}: its tag {str(about.etag)[:60]!r} is no hash; nothing was downloaded")
    wanted = pinned(part, file)
    if wanted and _SHA256.fullmatch(about.etag) and about.etag != wanted:
        raise WeightsCorruptError(
            f"{what}: SHA-256 {about.etag[:16]}..., pinned is {wanted[:16]}...; nothing was downloaded"
        )
    if file.bytes and about.size and about.size != file.bytes:
        raise WeightsCorruptError(f"{what}: {about.size} bytes, pinned are {file.bytes} bytes; nothing was downloaded")
    if about.size and about.size > _limit(file):
        raise WeightsCorruptError(f"{what}: {about.size} bytes are too many for such a file; nothing was downloaded")
    return _Job(part=part, file=file, size=int(about.size or file.bytes), tag=about.etag)


def _limit(file: PartFile) -> int:
    return file.bytes or _UNPINNED_LIMITS.get(Path(file.path).suffix, _TEXT_LIMIT)


def _repository(part: Part) -> Path:
    from huggingface_hub.file_download import repo_folder_name

    return hub_cache() / repo_folder_name(repo_id=part.repo, repo_type="model")


def _download(job: _Job, force: bool, report: Report | None, stop: threading.Event) -> None:
    """Bring one hub file into huggingface_hub's cache, verified before it enters."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    part, file, partial = job.part, job.file, job.partial
    url = hf_hub_url(part.repo, file.path, revision=part.revision, endpoint=endpoint())
    with _hub_errors(part, file):
        partial.parent.mkdir(parents=True, exist_ok=True)
        with _locked(hub_cache() / ".locks" / partial.parents[1].name / f"{job.tag}.lock", stop):
            if not force and find_file(part, file) is not None:
                return  # another process was first
            meter = _Meter(f"{part.name}/{file.path}", job.size, _limit(file), report, stop)
            _stream(url, partial, job.size, build_hf_headers(), meter)
            digest = sha256_of(partial)
            wanted = pinned(part, file)
            if digest != wanted if wanted else not _is_tagged(partial, digest, job.tag):
                partial.unlink()
                raise WeightsCorruptError(
                    f"{endpoint()} sent another {file.path} of {part.origin}: SHA-256 {digest[:16]}..., expected "
                    f"{(wanted or job.tag)[:16]}...; nothing of it was kept. Try again, or name a mirror in HF_ENDPOINT"
                )
            if not wanted:
                pin({part.pin_name(file): digest})
                log.info("%s: %s pinned on first use", part.name, file.path)
            _store(job, digest)


def _is_tagged(path: Path, digest: str, tag: str) -> bool:
    """Whether a file is the one of the hub's tag: its SHA-256, or git's SHA-1 of it; other tags say nothing."""
    if _SHA256.fullmatch(tag):
        return digest == tag
    if _GIT.fullmatch(tag):
        data = path.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == tag
    return True


def _store(job: _Job, digest: str) -> None:
    """Move a verified file to where huggingface_hub looks for it: blobs/TAG, and a link to it in snapshots/COMMIT."""
    pointer = _repository(job.part) / "snapshots" / job.part.revision / job.file.path
    blob = job.partial.with_name(job.tag)
    if blob.exists() and job.tag != digest and sha256_of(blob) != digest:
        blob = blob.with_name(digest)  # the tag is no hash, and is taken by another file: that one stays
    os.replace(job.partial, blob)
    pointer.parent.mkdir(parents=True, exist_ok=True)
    staging = pointer.with_name(f".{pointer.name}.{os.getpid()}")
    staging.unlink(missing_ok=True)
    try:
        os.symlink(os.path.relpath(blob, pointer.parent), staging)
        os.replace(staging, pointer)
    except OSError:  # a system without links: huggingface_hub keeps the file itself there
        staging.unlink(missing_ok=True)
        os.replace(blob, pointer)


@contextlib.contextmanager
def _locked(path: Path, stop: threading.Event) -> Iterator[None]:
    """One process at a time, by huggingface_hub's own lock; waiting ends on demand."""
    from filelock import Timeout
    from huggingface_hub.utils import WeakFileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(WeakFileLock(path, timeout=0.5))
                break
            except Timeout:
                if stop.is_set():
                    raise _StoppedError from None
        yield


class _TooLongError(Exception):
    """More bytes came than were pinned."""


class _StoppedError(Exception):
    """Another download failed, or the user stopped them."""


class _Meter:
    """Counts bytes: reports them, and stops a download that grows beyond `limit`, or on demand."""

    def __init__(self, name: str, total: int, limit: int, report: Report | None, stop: threading.Event) -> None:
        self.name, self.total, self.limit, self.report, self.stop = name, total, limit, report, stop

    def at(self, done: int) -> None:
        if done > self.limit:
            raise _TooLongError(f"more than {self.limit} bytes came")
        if self.stop.is_set():
            raise _StoppedError
        if self.report is not None:
            self.report(self.name, done, self.total)


def _stream(url: str, partial: Path, size: int, headers: dict[str, str], meter: _Meter) -> None:
    """Download `url` into `partial`, going on where it ends; what arrived stays when it fails.

    Args:
        url: Asked anew for each connection, since the addresses it redirects to expire.
        partial: What arrived before, or nothing.
        size: Bytes in all; 0 if nobody knows.
        headers: Of each request; the authorization does not follow a redirect to another host.
        meter: Called with the bytes so far as they come.

    Raises:
        httpx2.HTTPError, HfHubHTTPError: after `_RETRIES` connections in a row that brought next to nothing, or as
            many that began anew, whatever came in between.
        _TooLongError: the file was removed.
    """
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import get_session, hf_raise_for_status

    failures = restarts = 0
    with partial.open("ab") as out:
        if size and out.tell() > size:
            _empty(out)
        while not size or out.tell() < size:
            have = out.tell()
            ask = headers | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
            try:
                with get_session().stream(
                    "GET", url, headers=ask, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT, follow_redirects=True
                ) as answer:
                    if answer.status_code == 416:  # what is here is not the beginning of what is there
                        restarts += 1
                        _empty(out)
                        raise httpx2.RemoteProtocolError(f"there is no byte {have}")
                    if answer.is_error:  # without its body, which may be endless
                        about = {k: v for k, v in answer.headers.items() if k.startswith("x-error")}
                        hf_raise_for_status(
                            httpx2.Response(answer.status_code, headers=about, content=b"", request=answer.request)
                        )
                    if have and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                        restarts += 1
                        _empty(out)
                    _receive(answer, out, meter)
                if not size or out.tell() >= size:
                    return
                raise httpx2.RemoteProtocolError("the connection ended too early")
            except (httpx2.TransportError, HfHubHTTPError) as error:
                failures = 0 if out.tell() - have >= _PROGRESS else failures + 1
                busy = not isinstance(error, HfHubHTTPError) or error.response.status_code in _BUSY
                if not busy or max(failures, restarts) > _RETRIES:
                    raise
                log.info("%s: %s; going on at byte %d", url, error, out.tell())
                if meter.stop.wait(min(8.0, 0.25 * 2**failures)):
                    raise _StoppedError from None
            except _TooLongError:
                _empty(out)
                raise


def _empty(out: Any) -> None:
    out.seek(0)
    out.truncate()


def _receive(answer: Any, out: Any, meter: _Meter) -> None:
    """Write what comes, as it comes. A connection slower than `_SLOWEST` is a broken one."""
    import httpx2

    since, mark = time.monotonic(), out.tell()
    for block in answer.iter_bytes():
        meter.at(out.tell() + len(block))
        out.write(block)
        if (now := time.monotonic()) - since >= _PATIENCE:
            if out.tell() - mark < _SLOWEST * _PATIENCE:
                raise httpx2.ReadTimeout(f"fewer than {_SLOWEST} bytes a second came")
            since, mark = now, out.tell()


@contextlib.contextmanager
def _hub_errors(part: Part, file: PartFile) -> Iterator[None]:
    """Say what happened, where, and what to do: the door through which huggingface_hub's errors come."""
    import httpx2
    from huggingface_hub import errors

    what = f"{file.path} of {part.origin}"
    try:
        yield
    except errors.GatedRepoError:
        raise WeightsMissingError(
            f"{what} is gated: accept its terms at {endpoint()}/{part.repo}, then set HF_TOKEN or run: hf auth login"
        ) from None
    except errors.RepositoryNotFoundError:
        raise WeightsMissingError(
            f"{endpoint()} has no repository {part.repo}, or it needs a token: set HF_TOKEN, or name a mirror in HF_ENDPOINT"
        ) from None
    except (errors.RevisionNotFoundError, errors.RemoteEntryNotFoundError) as error:
        missing = "revision" if isinstance(error, errors.RevisionNotFoundError) else "file"
        raise WeightsMissingError(
            f"{endpoint()} has no such {missing} any more: {what}; try a mirror in HF_ENDPOINT"
        ) from None
    except (errors.OfflineModeIsEnabled, httpx2.RequestError, httpx2.InvalidURL) as error:
        raise WeightsMissingError(
            f"cannot reach {endpoint()} for {what} ({_short(error)}); what arrived is kept: check the network, "
            "then run the same command again, or name a mirror in HF_ENDPOINT"
        ) from None
    except errors.HfHubHTTPError as error:
        raise WeightsMissingError(
            f"{endpoint()} answered {error.response.status_code} for {what}; try again later, or a mirror in HF_ENDPOINT"
        ) from None
    except errors.FileMetadataError as error:
        raise WeightsMissingError(f"{endpoint()} does not speak the hub's protocol for {what}: {error}") from None
    except _TooLongError as error:
        raise WeightsCorruptError(f"{what}: {error}; the download was stopped and nothing was kept") from None
    except OSError as error:
        raise _disk_error(error, hub_cache(), what) from None
    except ValueError as error:  # huggingface_hub's checks of names and paths
        raise WeightsCorruptError(f"{what} cannot be fetched: {error}") from None


def _short(error: BaseException) -> str:
    """An error of the network in a few words, on one line."""
    return " ".join(f"{type(error).__name__} {error}".split())[:120]


def _disk_error(error: OSError, folder: Path, what: str = "") -> WeightsError:
    about = f" for {what}" if what else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return WeightsError(
            f"the disk of {folder} is full{about}; free some space, or set HF_HOME or PORTRAIT_CACHE to another disk, "
            "then run the same command again: it goes on where this one ended"
        )
    return WeightsError(f"cannot write to {folder}{about}: {error.strerror or error}")


def _check_disk(needed: dict[Path, int]) -> None:
    """Raises WeightsError if a disk has too little room for what comes to the folders on it."""
    disks: dict[int, list[Path]] = {}
    for folder in needed:
        place = next(p for p in (folder, *folder.parents) if p.exists())
        disks.setdefault(place.stat().st_dev, []).append(folder)
    for folders in disks.values():
        total = sum(needed[folder] for folder in folders)
        free = shutil.disk_usage(next(p for p in (folders[0], *folders[0].parents) if p.exists())).free
        if total and total + RESERVE > free:
            raise WeightsError(
                f"{_gib(total)} are needed in {' and '.join(map(str, folders))}, {_gib(free)} are free (and "
                f"{_gib(RESERVE)} stay free); free some space, or set HF_HOME or PORTRAIT_CACHE to another disk"
            )


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**29 else f"{size / 2**20:.1f} MiB"


def _size_note(files: Iterable[PartFile]) -> str:
    size = sum(file.bytes for file in files)
    return f" ({_gib(size)})" if size else ""


# ---- archives


def _fetch_archive(part: Part, force: bool, report: Report | None, stop: threading.Event) -> None:
    """Download an InsightFace archive, check it, and lay out the listed files flat; other members are not unpacked."""
    digests = {file.path: file.sha256 for file in part.files}
    folder = _folder(part, digests)
    base = os.environ.get("PORTRAIT_INSIGHTFACE_URL", INSIGHTFACE_URL).rstrip("/")
    url = f"{base}/{part.revision}/{part.archive}"
    partial = cache_dir() / "downloads" / f"{part.archive}-{part.sha256[:12]}.incomplete"
    with _archive_errors(part, url):
        partial.parent.mkdir(parents=True, exist_ok=True)
        with _locked(partial.with_name(f".{partial.name}.lock"), stop):
            if not force and status(part).complete:
                return  # another process was first
            _stream(
                url,
                partial,
                part.bytes,
                {},
                _Meter(f"{part.name}/{part.archive}", part.bytes, part.bytes, report, stop),
            )
            if (seen := sha256_of(partial)) != part.sha256:
                partial.unlink()
                raise WeightsCorruptError(
                    f"{url} has SHA-256 {seen[:16]}..., pinned is {part.sha256[:16]}...; it was not unpacked, nothing "
                    "was kept. Try again, or name a mirror in PORTRAIT_INSIGHTFACE_URL"
                )
            with _staging(part, folder, replace=force) as staging:
                _unpack(partial, part, staging)
                _list(part, digests, staging)
            partial.unlink()


@contextlib.contextmanager
def _archive_errors(part: Part, url: str) -> Iterator[None]:
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    except (errors.OfflineModeIsEnabled, httpx2.RequestError, httpx2.InvalidURL) as error:
        raise WeightsMissingError(
            f"cannot reach {url} ({_short(error)}); what arrived is kept: run the same command again, or name a "
            "mirror in PORTRAIT_INSIGHTFACE_URL"
        ) from None
    except errors.HfHubHTTPError as error:
        raise WeightsMissingError(
            f"{url} answered {error.response.status_code}; name a mirror in PORTRAIT_INSIGHTFACE_URL"
        ) from None
    except _TooLongError as error:
        raise WeightsCorruptError(f"{url}: {error}; the download was stopped") from None
    except OSError as error:
        raise _disk_error(error, cache_dir(), part.archive) from None


def _unpack(archive: Path, part: Part, folder: Path) -> None:
    """Write the part's own files, taken by their base name from wherever they lie in the archive, each verified."""
    try:
        with zipfile.ZipFile(archive) as opened:
            for file in part.files:
                name = Path(file.path).name
                found = [i for i in opened.infolist() if i.filename.rpartition("/")[2] == name]
                member = next((i for i in found if i.file_size == file.bytes), None)
                if member is None:
                    raise WeightsCorruptError(f"{part.archive} holds no {name} of {file.bytes} bytes")
                digest, left = hashlib.sha256(), file.bytes
                with opened.open(member) as source, (folder / file.path).open("wb") as out:
                    while left > 0 and (block := source.read(min(left, 1 << 20))):
                        digest.update(block)
                        out.write(block)
                        left -= len(block)
                if digest.hexdigest() != file.sha256 or left:
                    raise WeightsCorruptError(
                        f"{name} in {part.archive} has SHA-256 {digest.hexdigest()[:16]}..., pinned is {file.sha256[:16]}..."
                    )
    # zipfile raises RuntimeError for encrypted members, NotImplementedError for compressions that it does not know.
    except (zipfile.BadZipFile, zipfile.LargeZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        raise WeightsCorruptError(f"{part.archive} cannot be unpacked: {error}") from None


# ---- prune


def leftovers(parts: Iterable[Part], *, everything: bool = False) -> list[Path]:
    """What of our own cache no part needs any more: broken-off downloads and folders of other versions.

    Args:
        parts: The parts that are kept.
        everything: Also the folders that are in use, and every pickled adapter's copy as safetensors; they are built
            anew from the hub's cache, archives are downloaded again.

    Returns:
        Files and folders under `cache_dir()`, and what broken-off downloads of ours left in huggingface_hub's cache;
        nothing else of that cache, which is shared with other programs.
    """
    keep = set() if everything else {folder for part in parts if (folder := _assembled(part)) is not None}
    found = []
    for place in (cache_dir() / "models", cache_dir() / "downloads", cache_dir() / "adapters"):
        if not place.is_dir():
            continue
        whole = place.name == "adapters" and not everything
        found += [path for path in sorted(place.iterdir()) if path not in keep and not whole]
    return found + sorted(hub_cache().glob(f"models--*/blobs/*{_PARTIAL}"))


def prune(parts: Iterable[Part], *, everything: bool = False) -> list[Path]:
    """Remove `leftovers`; returns what was removed."""
    removed = leftovers(parts, everything=everything)
    for path in removed:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return removed
