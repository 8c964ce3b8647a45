"""How well the person is separated from the background: the shipped matte compared with GrabCut, which it replaced.

    python eval/matte.py --data FACES --mattes WORK/mattes [--sheet matte.jpg]     # writes eval/matte.json

On the 36 held-out people: against the teacher's refined mattes of their photos (from `weights/training/matte_teacher.py`),
and on the same people composited onto the backgrounds of two others, where the true matte is known. IoU at one half; boundary
F, precision and recall of the outline within three pixels at 512 px; mean absolute error overall and within a band around the
outline, hair included. Means over people, with 95 % intervals that resample people. Also the milliseconds for a 512 px photo
on one thread.

Reference:
    Rother et al. 2004, "GrabCut: interactive foreground extraction using iterated graph cuts".
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from held_out_people import data_argument, held_out, name_of
from measures import bootstrap_mean

from portrait.faces.insightface_analyzer import InsightFaceAnalyzer
from portrait.files import write_json
from portrait.generate.background import filled_in, unmixed
from portrait.generate.matte import matte_sha256, subject_matte
from portrait.images import read_photo, resized, write_picture
from portrait.records import Face, RgbImage

SIZE = 512
TOLERANCE = 3
"""Pixels by which an outline may be off."""


def grabcut(photo: RgbImage, face: Face, side: int = 256) -> np.ndarray:
    """The person by color alone, (H, W) float32 of 0 and 1: the former method.

    The inner face is certainly person; head, hair and the torso below are probably person; a border of the photo
    above the shoulders is certainly background.
    """
    height, width = photo.shape[:2]
    scale = min(1.0, side / max(height, width))
    h, w = max(8, round(height * scale)), max(8, round(width * scale))
    small = resized(photo, w, h)
    x, y = (v * scale for v in face.center)
    fw, fh = face.width * scale, face.height * scale
    seeds = np.full((h, w), cv2.GC_BGD, np.uint8)

    def ellipse(cx: float, cy: float, rx: float, ry: float, value: int) -> None:
        cv2.ellipse(seeds, ((cx, cy), (2 * rx, 2 * ry), 0.0), value, -1)

    ellipse(x, y + 0.1 * fh, 2.1 * fw, 2.1 * fh, cv2.GC_PR_BGD)
    seeds[int(min(h - 1, y + 0.5 * fh)) :] = cv2.GC_PR_BGD
    ellipse(x, y - 0.05 * fh, 0.8 * fw, 0.85 * fh, cv2.GC_PR_FGD)  # with hair
    trunk = np.array([[x - 0.45 * fw, y], [x + 0.45 * fw, y], [x + 1.5 * fw, h], [x - 1.5 * fw, h]]).astype(np.int32)
    cv2.fillConvexPoly(seeds, trunk, cv2.GC_PR_FGD)
    ellipse(x, y, 0.42 * fw, 0.45 * fh, cv2.GC_FGD)
    if not ((seeds == cv2.GC_BGD) | (seeds == cv2.GC_PR_BGD)).any():
        return np.ones((height, width), np.float32)
    background, person_model = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    bgr = np.ascontiguousarray(small[:, :, ::-1])
    cv2.grabCut(bgr, seeds, (0, 0, 0, 0), background, person_model, 4, cv2.GC_INIT_WITH_MASK)
    person = ((seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD)).astype(np.uint8)
    _, labels = cv2.connectedComponents(person)
    label = labels[int(np.clip(y, 0, h - 1)), int(np.clip(x, 0, w - 1))]
    person = ((labels == label) & (person > 0)).astype(np.uint8)
    _, gaps = cv2.connectedComponents(1 - person)  # a gap that no side or top reaches is clothing
    person[~np.isin(gaps, np.unique(np.concatenate([gaps[0], gaps[:, 0], gaps[:, -1]])))] = 1
    person = cv2.dilate(person, np.ones((3, 3), np.uint8))
    return np.asarray(cv2.resize(person.astype(np.float32), (width, height)) > 0.3, np.float32)


METHODS: dict[str, Callable[[RgbImage, Face], np.ndarray]] = {"matte": subject_matte, "grabcut": grabcut}


def measure(matte: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The measurements of one matte; both (H, W) float32."""
    person, true_person = matte > 0.5, truth > 0.5
    outline, true_outline = _outline(person), _outline(true_person)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * TOLERANCE + 1, 2 * TOLERANCE + 1))
    precision = float((outline & _grown(true_outline, disk)).sum() / max(1, outline.sum()))
    recall = float((true_outline & _grown(outline, disk)).sum() / max(1, true_outline.sum()))
    band = _grown((truth > 0.05) & (truth < 0.95), disk)
    return {
        "iou": float((person & true_person).sum() / max(1, (person | true_person).sum())),
        "boundary_f": 2 * precision * recall / max(1e-9, precision + recall),
        "error": float(np.abs(matte - truth).mean()),
        "error_at_outline": float(np.abs(matte - truth)[band].mean()),
    }


def _outline(person: np.ndarray) -> np.ndarray:
    """Pixels of the person that touch the background; the picture's border is not part of the outline."""
    inner = cv2.erode(person.astype(np.uint8), np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)
    return person & (inner == 0)


def _grown(region: np.ndarray, disk: np.ndarray) -> np.ndarray:
    return cv2.dilate(region.astype(np.uint8), disk) > 0


def read_pairs(data: Path, mattes: Path) -> list[tuple[str, RgbImage, np.ndarray]]:
    """Name, photo and the teacher's matte of each held-out person, at 512 x 512."""
    pairs = []
    for path in held_out(data):
        file = (mattes / name_of(path)).with_suffix(".png")
        if not file.is_file():
            raise SystemExit(f"no {file}; run weights/training/matte_teacher.py")
        truth = read_photo(file).pixels[..., 0].astype(np.float32) / 255
        pairs.append((name_of(path), resized(read_photo(path).pixels, SIZE, SIZE), truth))
    return pairs


def elsewhere(pairs: list[tuple[str, RgbImage, np.ndarray]], step: int) -> list[tuple[str, RgbImage, np.ndarray]]:
    """Everybody on the mirrored background of the person `step` places further on."""
    moved = []
    for i, (name, photo, truth) in enumerate(pairs):
        _, other, other_truth = pairs[(i + step) % len(pairs)]
        near = cv2.dilate(other_truth, np.ones((13, 13), np.uint8)) > 0.03
        room = filled_in(other, ~near)[:, ::-1]
        share = truth[..., None]
        mixed = unmixed(photo, truth)[0] * share + room * (1 - share)
        moved.append((name, RgbImage((mixed + 0.5).astype(np.uint8)), truth))
    return moved


def summarize(rows: list[list[dict[str, float]]]) -> dict[str, list[float]]:
    """Measure -> mean and the ends of its interval.

    Args:
        rows: For each person, a list of measurements.
    """
    summary = {}
    for key in rows[0][0]:
        people = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        values = np.array([measurement[key] for row in rows for measurement in row])
        low, high = bootstrap_mean(values, people)
        summary[key] = [round(float(v), 4) for v in (values.mean(), low, high)]
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--mattes", type=Path, required=True, help="folder with female/*.png and male/*.png")
    parser.add_argument("--sheet", type=Path, help="also write a picture: photo, teacher, matte, GrabCut, on green")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "matte.json")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    analyzer = InsightFaceAnalyzer(threads=1)
    plain = read_pairs(args.data, args.mattes)
    faces = [max(analyzer.detect(photo), key=lambda face: face.size) for _, photo, _ in plain]
    sets = {"photos": [plain], "other backgrounds": [elsewhere(plain, 7), elsewhere(plain, 19)]}
    result: dict[str, object] = {"people": len(plain), "matte_sha256": matte_sha256()}
    cells = []
    for title, scenes in sets.items():
        rows: dict[str, list[list[dict[str, float]]]] = {name: [[] for _ in plain] for name in METHODS}
        for pairs in scenes:
            for i, (_, photo, truth) in enumerate(pairs):
                mattes = {name: method(photo, faces[i]) for name, method in METHODS.items()}
                for name, matte in mattes.items():
                    rows[name][i].append(measure(matte, truth))
                cells.append(_cell(photo, [truth, *mattes.values()]))
        result[title] = {name: summarize(rows[name]) for name in METHODS}
        for name in METHODS:
            worst = sorted(range(len(plain)), key=lambda i: min(r["iou"] for r in rows[name][i]))[:5]
            worst_text = ", ".join(f"{plain[i][0]} {min(r['iou'] for r in rows[name][i]):.3f}" for i in worst)
            print(f"{title}, {name}: {result[title][name]}; worst: {worst_text}", flush=True)  # type: ignore[index]
    start = time.perf_counter()
    for (_, photo, _), face in zip(plain, faces, strict=True):
        subject_matte(photo, face)
    result["milliseconds_512"] = round((time.perf_counter() - start) / len(plain) * 1000, 1)
    print(f"{result['milliseconds_512']} ms", write_json(args.output, result))
    if args.sheet:
        write_picture(args.sheet, RgbImage(np.vstack([np.hstack(cells[i : i + 3]) for i in range(0, len(cells), 3)])))


def _cell(photo: RgbImage, mattes: list[np.ndarray]) -> np.ndarray:
    green = np.array([40, 200, 60], np.float32)
    composites = [photo * matte[..., None] + green * (1 - matte[..., None]) for matte in mattes]
    pictures = [photo, *(RgbImage(np.asarray(composite + 0.5, np.uint8)) for composite in composites)]
    return np.hstack([resized(picture, 256, 256) for picture in pictures])


if __name__ == "__main__":
    main()
