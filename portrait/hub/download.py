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
import hashlib
import logging
import os
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from portrait.errors import WeightsCorruptError, WeightsMissingError
from portrait.hub.archives import fetch_archive
from portrait.hub.files import sha256_of
from portrait.hub.manifest import Part, PartFile
from portrait.hub.pins import SHA256, pin, pinned
from portrait.hub.store import PARTIAL, assembled, check_disk, disk_error, find_file, hub_cache, status, verify_part
from portrait.hub.stream import Meter, Report, TooLongError, locked, short, stream
from portrait.paths import cache_dir

log = logging.getLogger(__name__)

_UNPINNED_LIMITS = {".safetensors": 16 * 2**30, ".bin": 8 * 2**30}  # a file of unknown size may not be larger
_TEXT_LIMIT = 64 * 2**20
_GIT = re.compile(r"[0-9a-f]{40}")
_ETAG = re.compile(r"[A-Za-z0-9_-]{1,128}")


def offline() -> bool:
    """Whether the user forbids network access, by huggingface_hub's own variables."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


def endpoint() -> str:
    """The hub that is asked: `HF_ENDPOINT`, or huggingface_hub's default."""
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


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
        return _repository(self.part) / "blobs" / f"{self.tag}{PARTIAL}"

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
        check_disk({hub_cache(): sum(job.left for job in todo), cache_dir(): ours})
        waiting = [pool.submit(_download, job, force, report, stop) for job in todo]
        waiting += [pool.submit(fetch_archive, part, force, report, stop) for part in archives]
        try:
            for one in as_completed(waiting):
                one.result()
        except BaseException:  # also Ctrl-C: what runs stops at its next block
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if force:  # the folders of links are ours; a damaged link would hide the new file
        for stale in [folder for part in parts if not part.archive and (folder := assembled(part)) is not None]:
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
    if wanted and SHA256.fullmatch(about.etag) and about.etag != wanted:
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
        with locked(hub_cache() / ".locks" / partial.parents[1].name / f"{job.tag}.lock", stop):
            if not force and find_file(part, file) is not None:
                return  # another process was first
            meter = Meter(f"{part.name}/{file.path}", job.size, _limit(file), report, stop)
            stream(url, partial, job.size, build_hf_headers(), meter)
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
    if SHA256.fullmatch(tag):
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
            f"cannot reach {endpoint()} for {what} ({short(error)}); what arrived is kept: check the network, "
            "then run the same command again, or name a mirror in HF_ENDPOINT"
        ) from None
    except errors.HfHubHTTPError as error:
        raise WeightsMissingError(
            f"{endpoint()} answered {error.response.status_code} for {what}; try again later, or a mirror in HF_ENDPOINT"
        ) from None
    except errors.FileMetadataError as error:
        raise WeightsMissingError(f"{endpoint()} does not speak the hub's protocol for {what}: {error}") from None
    except TooLongError as error:
        raise WeightsCorruptError(f"{what}: {error}; the download was stopped and nothing was kept") from None
    except OSError as error:
        raise disk_error(error, hub_cache(), what) from None
    except ValueError as error:  # huggingface_hub's checks of names and paths
        raise WeightsCorruptError(f"{what} cannot be fetched: {error}") from None
