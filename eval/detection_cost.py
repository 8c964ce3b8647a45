"""The cost of face detection on photos of several sizes: faces found, seconds and peak memory.

    python eval/detection_cost.py

Each photo is gray with 16 copies of the demo photo's face at 100 px, and once more with a large face beside them. Each is
measured in its own process: seconds on one thread, and by how much the process's peak memory grows.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import cv2
import numpy as np
from skimage.data import astronaut

from portrait.faces.insightface_analyzer import InsightFaceAnalyzer
from portrait.records import RgbImage

SIZES = ((1500, 1000), (4000, 3000), (6000, 4000), (12000, 9000))
_FACE_PIXELS = 93  # of the cut of the demo photo


def group(width: int, height: int, *, is_large_added: bool) -> RgbImage:
    """A gray photo with 16 faces of 100 px in its left half and, on request, one as high as the photo in its right."""
    cut = astronaut()[20:240, 110:330]
    small = cv2.resize(cut, None, fx=100 / _FACE_PIXELS, fy=100 / _FACE_PIXELS, interpolation=cv2.INTER_CUBIC)
    photo = np.full((height, width, 3), 128, np.uint8)
    for i in range(16):
        top, left = i // 4 * height // 4, i % 4 * width // 8
        photo[top : top + len(small), left : left + len(small)] = small
    if is_large_added:
        photo[:, -(width // 2) :] = cv2.resize(cut, (height, height))[:, : width // 2]
    return RgbImage(photo)


def measure(width: int, height: int, *, is_large_added: bool) -> None:
    """Print one line about one photo."""
    analyzer = InsightFaceAnalyzer(threads=1)
    photo = group(width, height, is_large_added=is_large_added)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    faces = analyzer.detect(photo)
    seconds, after = time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    expected = 17 if is_large_added else 16
    memory = (after - before) / 1024
    print(f"{width} x {height}: {len(faces)} of {expected} faces, {seconds:.2f} s, {memory:.0f} MB", flush=True)


def main() -> None:
    """Measure the photo that the arguments describe, or all of them in processes of their own."""
    if len(sys.argv) == 4:
        measure(int(sys.argv[1]), int(sys.argv[2]), is_large_added=sys.argv[3] == "1")
        return
    for width, height in SIZES:
        for added in "01":
            subprocess.run([sys.executable, __file__, str(width), str(height), added], check=True)


if __name__ == "__main__":
    main()
