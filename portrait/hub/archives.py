"""InsightFace's archives: download, check, and unpack the listed files."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

from portrait.errors import WeightsCorruptError, WeightsMissingError
from portrait.hub.files import sha256_of
from portrait.hub.manifest import Part
from portrait.hub.store import disk_error, folder_of, staged, status, write_list
from portrait.hub.stream import Meter, Report, TooLongError, locked, short, stream
from portrait.paths import cache_dir

INSIGHTFACE_URL = "https://github.com/deepinsight/insightface/releases/download"


def fetch_archive(part: Part, force: bool, report: Report | None, stop: threading.Event) -> None:
    """Download an InsightFace archive, check it, and lay out the listed files flat; other members are not unpacked."""
    digests = {file.path: file.sha256 for file in part.files}
    folder = folder_of(part, digests)
    base = os.environ.get("PORTRAIT_INSIGHTFACE_URL", INSIGHTFACE_URL).rstrip("/")
    url = f"{base}/{part.revision}/{part.archive}"
    partial = cache_dir() / "downloads" / f"{part.archive}-{part.sha256[:12]}.incomplete"
    with _archive_errors(part, url):
        partial.parent.mkdir(parents=True, exist_ok=True)
        with locked(partial.with_name(f".{partial.name}.lock"), stop):
            if not force and status(part).complete:
                return  # another process was first
            stream(
                url,
                partial,
                part.bytes,
                {},
                Meter(f"{part.name}/{part.archive}", part.bytes, part.bytes, report, stop),
            )
            if (seen := sha256_of(partial)) != part.sha256:
                partial.unlink()
                raise WeightsCorruptError(
                    f"{url} has SHA-256 {seen[:16]}..., pinned is {part.sha256[:16]}...; it was not unpacked, nothing "
                    "was kept. Try again, or name a mirror in PORTRAIT_INSIGHTFACE_URL"
                )
            with staged(part, folder, replace=force) as staging:
                _unpack(partial, part, staging)
                write_list(part, digests, staging)
            partial.unlink()


@contextlib.contextmanager
def _archive_errors(part: Part, url: str) -> Iterator[None]:
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    except (errors.OfflineModeIsEnabled, httpx2.RequestError, httpx2.InvalidURL) as error:
        raise WeightsMissingError(
            f"cannot reach {url} ({short(error)}); what arrived is kept: run the same command again, or name a "
            "mirror in PORTRAIT_INSIGHTFACE_URL"
        ) from None
    except errors.HfHubHTTPError as error:
        raise WeightsMissingError(
            f"{url} answered {error.response.status_code}; name a mirror in PORTRAIT_INSIGHTFACE_URL"
        ) from None
    except TooLongError as error:
        raise WeightsCorruptError(f"{url}: {error}; the download was stopped") from None
    except OSError as error:
        raise disk_error(error, cache_dir(), part.archive) from None


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
