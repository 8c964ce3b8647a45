"""Fetch the parts of the manifest from a hub or a release page, and verify every byte before anything uses it.

Files come from the hub through huggingface_hub (`HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`), InsightFace's archives from
their release page or `PORTRAIT_INSIGHTFACE_URL`. Unlike with `hf_hub_download`, the next run resumes an interrupted file,
only the hub's first answer counts, and only verified files enter the store.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import httpx2
from huggingface_hub import constants, errors, get_hf_file_metadata, get_token, hf_hub_url

from portrait.errors import WeightsCorruptError, WeightsMissingError
from portrait.hub.archives import archive_url, fetch_archive
from portrait.hub.files import folder_for, sha256_of
from portrait.hub.manifest import SHA256, Part, PartFile
from portrait.hub.partial import partial_file
from portrait.hub.pins import expected_digests, extend_lock
from portrait.hub.store import add_blob, check_disk, disk_error, downloads, find_file, hub_cache, status, verify_part
from portrait.hub.stream import AnswerError, Meter, Report, TooLongError, download
from portrait.paths import cache_dir

log = logging.getLogger(__name__)

_MAX_WEIGHTS, _MAX_TEXT = 16 * 2**30, 64 * 2**20  # maximum bytes of a file whose size is not pinned


def offline() -> bool:
    """Whether the user forbids network access, by huggingface_hub's variables."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


def endpoint() -> str:
    """The hub to use: `HF_ENDPOINT`, or huggingface_hub's default."""
    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubDownload:
    """A file to download from the hub, as the hub describes it.

    `size` is in bytes, 0 if unknown; `tag` the hub's ETag: the SHA-256 of a large file, git's SHA-1 of a small one, or
    anything else; `sha256` what is expected: the pin, or else as announced by the hub, or else empty.
    """

    part: Part
    file: PartFile
    url: str
    size: int
    tag: str
    sha256: str

    @property
    def key(self) -> str:
        """Name of the partial file: a hash of the content or of its origin."""
        origin = f"{endpoint()}\0{self.part.pin_name(self.file)}\0{self.tag}"
        return self.sha256 or hashlib.sha256(origin.encode()).hexdigest()

    def is_expected(self, path: Path, digest: str) -> bool:
        """Whether a file is what was pinned or, without a pin, what the hub announced."""
        if self.sha256:
            return digest == self.sha256
        if not re.fullmatch(r"[0-9a-f]{40}", self.tag):
            return True
        content = path.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == self.tag


def fetch(
    parts: Sequence[Part], *, force: bool = False, jobs: int = 4, report: Report | None = None
) -> dict[str, dict[str, str]]:
    """Download parts to this machine and verify them.

    Parts that are already here are only verified. Before the first byte, the sizes stated by the hub are compared with the
    pins, and their sum with the free disk space. Complete files stay if another one fails, and so does the partial content
    of an interrupted file: the next run resumes it. `force` downloads again what is already here, for a file whose hash is
    wrong; `jobs` files are downloaded at once.

    Returns:
        Part name -> path -> SHA-256.

    Raises:
        WeightsMissingError: network access is forbidden or fails, there is no such file or revision, or a token is needed.
        WeightsCorruptError: the hub offers or sent other bytes than the pinned ones.
        WeightsError: there is too little disk space.
    """
    files = [(part, file) for part in parts if not part.archive for file in part.files]
    missing = [(part, file) for part, file in files if force or find_file(part, file) is None]
    archives = [part for part in parts if part.archive and (force or not status(part).complete)]
    _require_online([*(part for part, _ in missing), *archives])
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        todo = list(pool.map(lambda pair: _describe(*pair), missing))
        check_disk(_room_for(todo, archives))
        futures = [pool.submit(_fetch_file, job, report, stop) for job in todo]
        futures += [pool.submit(_fetch_archive, part, report, stop) for part in archives]
        _finish(futures, pool, stop)
    for part in parts if force else ():  # folders built from it: a damaged copy would be preferred to the new file
        shutil.rmtree(folder_for("models", part.name, expected_digests(part)), ignore_errors=True)
    return {part.name: verify_part(part) for part in parts}


def _room_for(todo: Sequence[HubDownload], archives: Sequence[Part]) -> int:
    """Bytes that downloads still need on the disk."""
    arrived = sum(path.stat().st_size for job in todo for path in downloads().glob(f"{job.key}.part"))
    converted = sum(job.size for job in todo if job.file.path.endswith(".bin"))  # a converted copy is stored too
    unpacked = sum(part.bytes + part.size for part in archives)
    return max(0, sum(job.size for job in todo) - arrived) + converted + unpacked


def _finish(futures: Iterable[Future[None]], pool: ThreadPoolExecutor, stop: threading.Event) -> None:
    try:
        for future in as_completed(futures):
            future.result()
    except BaseException:  # Ctrl-C too: running downloads stop at their next block
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _require_online(parts: Sequence[Part]) -> None:
    if offline() and parts:
        raise WeightsMissingError(
            f"{parts[0].name} is not on this machine and HF_HUB_OFFLINE is set; unset it, or copy {cache_dir()} or "
            f"{hub_cache()} from a machine that has it"
        )


def _describe(part: Part, file: PartFile) -> HubDownload:
    """Ask the hub once for a file's size and tag, and refuse what does not match the pins."""
    url = hf_hub_url(part.repo, file.path, revision=part.revision, endpoint=endpoint())
    with _network_errors(f"{file.path} of {part.origin}", endpoint(), "HF_ENDPOINT"), _hub_errors(part, file):
        metadata = get_hf_file_metadata(url, endpoint=endpoint())
    size = metadata.size or 0
    tag = metadata.etag or ""
    announced = tag if re.fullmatch(SHA256, tag) else ""
    pinned = expected_digests(part)[file.path]
    offered = f"{endpoint()} offers another {file.path} of {part.origin}"
    if metadata.commit_hash != part.revision:
        raise WeightsCorruptError(f"{offered}: it is from commit {metadata.commit_hash!r}; nothing was downloaded")
    if pinned and announced and announced != pinned:
        raise WeightsCorruptError(
            f"{offered}: its SHA-256 is {announced[:16]}..., but the pin is {pinned[:16]}...; nothing was downloaded"
        )
    _check_size(file, size, offered)
    return HubDownload(part=part, file=file, url=url, size=size or file.bytes, tag=tag, sha256=pinned or announced)


def _check_size(file: PartFile, size: int, offered: str) -> None:
    if file.bytes and size and size != file.bytes:
        raise WeightsCorruptError(
            f"{offered}: it has {size} bytes, but the pin has {file.bytes}; nothing was downloaded"
        )
    if not 0 <= size <= _limit(file):
        raise WeightsCorruptError(f"{offered}: {size} bytes are too many for such a file; nothing was downloaded")


def _limit(file: PartFile) -> int:
    return file.bytes or (_MAX_WEIGHTS if file.path.endswith((".safetensors", ".bin")) else _MAX_TEXT)


def _fetch_file(job: HubDownload, report: Report | None, stop: threading.Event) -> None:
    part, file = job.part, job.file
    token = "" if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token() or ""
    meter = Meter(name=f"{part.name}/{file.path}", size=job.size, limit=_limit(file), report=report, stop=stop)
    what = f"{file.path} of {part.origin}"
    with _network_errors(what, endpoint(), "HF_ENDPOINT"), partial_file(downloads(), job.key) as path:
        download(job.url, path, meter, token)
        digest = sha256_of(path)
        if not job.is_expected(path, digest):
            path.unlink()
            raise WeightsCorruptError(
                f"{endpoint()} sent another {what}: SHA-256 {digest[:16]}..., expected "
                f"{(job.sha256 or job.tag)[:16]}...; it was discarded. Try again, or name a mirror in HF_ENDPOINT"
            )
        if not expected_digests(part)[file.path]:
            extend_lock({part.pin_name(file): digest})
            log.info("%s: %s pinned on first use", part.name, file.path)
        add_blob(path, digest)


def _fetch_archive(part: Part, report: Report | None, stop: threading.Event) -> None:
    meter = Meter(name=f"{part.name}/{part.archive}", size=part.bytes, limit=part.bytes, report=report, stop=stop)
    with _network_errors(part.archive, archive_url(part), "PORTRAIT_INSIGHTFACE_URL"):
        fetch_archive(part, meter)


@contextlib.contextmanager
def _network_errors(what: str, host: str, mirror: str) -> Iterator[None]:
    """Turn errors while `what` is downloaded into ours; `mirror` is the variable that can name another host."""
    try:
        yield
    except AnswerError as error:
        raise WeightsMissingError(f"{host} {error} for {what}; try again later, or name a mirror in {mirror}") from None
    except (errors.OfflineModeIsEnabled, httpx2.RequestError, httpx2.InvalidURL) as error:
        reason = "".join(c if c.isprintable() else " " for c in f"{type(error).__name__} {error}")[:120].strip()
        raise WeightsMissingError(
            f"cannot reach {host} for {what} ({reason}); the partial download is kept: check the network, then run the same "
            f"command again, or name a mirror in {mirror}"
        ) from None
    except TooLongError as error:
        raise WeightsCorruptError(
            f"{host}: {error} for {what}; the download was stopped, and nothing was kept"
        ) from None
    except OSError as error:
        raise disk_error(error, cache_dir(), what) from None


@contextlib.contextmanager
def _hub_errors(part: Part, file: PartFile) -> Iterator[None]:
    """Turn the hub's refusals into ours, with advice on each."""
    what = f"{file.path} of {part.origin}"
    try:
        yield
        return
    except errors.GatedRepoError:
        message = (
            f"{what} is gated: accept its terms at {endpoint()}/{part.repo}, then set HF_TOKEN or run: hf auth login"
        )
    except errors.RepositoryNotFoundError:
        message = f"{endpoint()} has no repository {part.repo}, or it needs a token: set HF_TOKEN, or name a mirror in HF_ENDPOINT"
    except errors.RevisionNotFoundError:
        message = f"{endpoint()} no longer has the revision of {what}; try a mirror in HF_ENDPOINT"
    except errors.RemoteEntryNotFoundError:
        message = f"{endpoint()} no longer has the file {what}; try a mirror in HF_ENDPOINT"
    except errors.HfHubHTTPError as error:
        message = f"{endpoint()} answered {error.response.status_code} for {what}; try again later, or a mirror in HF_ENDPOINT"
    except ValueError as error:  # huggingface_hub's checks of the server's answer
        raise WeightsCorruptError(f"{what} cannot be fetched: {error}") from None
    raise WeightsMissingError(message)
