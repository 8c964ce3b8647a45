"""The training targets of the matte network: mattes of the portraits by another network and closed-form matting.

    npm pack @mediapipe/selfie_segmentation@0.1.1675465747     # holds selfie_segmentation.tflite, Apache-2.0
    pip install ai-edge-litert pymatting                        # of the training alone
    python weights/training/matte_teacher.py --data FACES --teacher selfie_segmentation.tflite --out WORK

Writes OUT/mattes/{female,male}/N.png, 8 bits, 512 x 512, white on the person; existing mattes are kept. The teacher's
masks have 256 x 256 soft pixels. Their mean over mirrored and cropped pictures determines where the person certainly is
and is not; in between, the photo's colors decide, with a weight toward the teacher.

Reference:
    Levin et al. 2008, "A closed-form solution to natural image matting".
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from dataset import people, read
from tqdm import tqdm

SIZE = 512
TEACHER_SIDE = 256
TEACHER_SHA256 = "8d13b7fae74af625c641226813616a2117bd6bca19eb3b75574621fc08557f27"
SURE_PERSON, SURE_BACKGROUND = 0.9, 0.08
PULL = 1e-3
"""Weight of the teacher's mask in between, because closed-form matting alone leaves a haze."""

Teacher = Callable[[np.ndarray], np.ndarray]
"""(256, 256, 3) float32 RGB in [0, 1] -> (256, 256) float32."""


def load_teacher(path: Path) -> Teacher:
    """The teacher, verified.

    Raises:
        SystemExit: the file is another one.
    """
    from ai_edge_litert.interpreter import Interpreter

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != TEACHER_SHA256:
        raise SystemExit(f"{path} has SHA-256 {digest}, not {TEACHER_SHA256}")
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    first, last = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def teacher(pixels: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(first, pixels[None])
        interpreter.invoke()
        return np.array(interpreter.get_tensor(last)[0, :, :, 0])

    return teacher


def mean_mask(photo: np.ndarray, teacher: Teacher) -> np.ndarray:
    """The teacher's mask of a square photo, (S, S) float32: a mean over the whole, its four corners, and mirrors."""

    def mask(image: np.ndarray) -> np.ndarray:
        small = cv2.resize(image, (TEACHER_SIDE, TEACHER_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        both = (teacher(small) + teacher(np.ascontiguousarray(small[:, ::-1]))[:, ::-1]) / 2
        return np.clip(cv2.resize(both, image.shape[1::-1], interpolation=cv2.INTER_CUBIC), 0, 1)

    side = len(photo)
    part = int(0.8 * side)
    ramp = np.hanning(part + 2)[1:-1].astype(np.float32)
    window = np.outer(ramp, ramp) + 0.02  # a cut knows least about its own border
    total, weight = 1.5 * mask(photo), np.full((side, side), 1.5, np.float32)
    for top in (0, side - part):
        for left in (0, side - part):
            place = slice(top, top + part), slice(left, left + part)
            total[place] += window * mask(np.ascontiguousarray(photo[place]))
            weight[place] += window
    return total / weight


def refine(photo: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Closed-form alpha, (S, S) float32 in [0, 1], of a photo (S, S, 3) uint8 and its soft mask."""
    import scipy.sparse
    from pymatting import cf_laplacian, cg, ichol

    def shrunk(region: np.ndarray, radius: int) -> np.ndarray:
        disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        return cv2.erode(region.astype(np.uint8), disk, borderType=cv2.BORDER_REPLICATE) > 0

    person = shrunk(mask > SURE_PERSON, SIZE // 56)
    is_certain = (person | shrunk(mask < SURE_BACKGROUND, SIZE // 73)).ravel()
    target = np.where(is_certain, person.ravel(), mask.ravel()).astype(np.float64)
    weight = np.where(is_certain, 100.0, PULL)
    system = (cf_laplacian(photo / 255.0, epsilon=1e-6, radius=1) + scipy.sparse.diags(weight)).tocsc()
    solution = cg(system, weight * target, M=ichol(system, discard_threshold=1e-4), x0=target, rtol=1e-6, maxiter=2000)
    return np.clip((solution.reshape(mask.shape) - 0.04) / 0.92, 0, 1).astype(np.float32)


def make_mattes(data: Path, out: Path, teacher_file: Path | None) -> Path:
    """The folder of all mattes; makes missing ones.

    Raises:
        SystemExit: one is absent, and no teacher is given.
    """
    folder, teacher = out / "mattes", None
    for name, _ in tqdm(people(data), desc="mattes", unit="portrait"):
        path = (folder / name).with_suffix(".png")
        if path.is_file():
            continue
        if teacher is None:
            if teacher_file is None:
                raise SystemExit(f"{path} is absent: give --teacher selfie_segmentation.tflite")
            teacher = load_teacher(teacher_file)
        photo = cv2.resize(read(data / name), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        alpha = refine(photo, mean_mask(photo, teacher))
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), (alpha * 255 + 0.5).astype(np.uint8))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with female/*.jpg and male/*.jpg")
    parser.add_argument("--teacher", type=Path, required=True, help="selfie_segmentation.tflite")
    parser.add_argument("--out", type=Path, required=True, help="work folder")
    args = parser.parse_args()
    print(make_mattes(args.data, args.out, args.teacher))


if __name__ == "__main__":
    main()
