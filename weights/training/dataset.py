"""Stage 1: portraits -> photo variants, their styles as marks, and their ArcFace embeddings.

    python weights/training/dataset.py --data FACES --mattes MATTES --teachers TEACHERS --out WORK

Writes OUT/pictures/{id:05d}-{photo|own}.jpg, OUT/marks/{id:05d}-{style}.npy, (channels, 128, 128) uint8, and
OUT/index.npz. 180 portraits are few, so each training person is multiplied by crops, light, color and camera
faults, and new identities are made by setting the inner face of one person, matched in pose and skin color, into the
head of another. For these, the same crop with the original face is kept too (`own`): the two differ only in
identity. Pictures are saved as the model will see them, without the outlines of their backgrounds; the painters see
those. Each target has its palette and its coarseness, from fine marks (0) to bold ones (1).
"""

from __future__ import annotations

import argparse
import copy
import os
import time
import tomllib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import numpy as np
from faces import fetch_all
from painters.palettes import PALETTES
from painters.registry import PAINTERS
from painters.scene import Scene
from teachers import FaceMesh

from portrait.faces.alignment import similarity_transform
from portrait.faces.insightface_analyzer import InsightFaceAnalyzer
from portrait.generate.families.mini.marks.layout import GLOBALS
from portrait.generate.families.mini.surroundings import without_outlines
from portrait.records import Face, RgbImage

CONFIG = tomllib.loads((Path(__file__).parent / "config.toml").read_text())
SIZE = CONFIG["data"]["size"]


def people(data: Path) -> list[tuple[str, bool]]:
    """(path relative to `data`, is validation) of every portrait, in a fixed order."""
    held_out = (Path(__file__).parent / CONFIG["data"]["held_out"]).read_text().split("\n")
    portraits = []
    for folder in sorted(p for p in data.iterdir() if p.is_dir()):
        for path in sorted(folder.glob("*.jpg"), key=lambda p: int(p.stem)):
            name = f"{folder.name}/{path.name}"
            portraits.append((name, name in held_out))
    absent = {n for n in held_out if n and not n.startswith("#")} - {name for name, _ in portraits}
    if absent:  # else they would be trained on under another name
        raise SystemExit(f"{data} lacks {sorted(absent)[0]} and {len(absent) - 1} more of the people to hold out")
    return portraits


def read(path: Path) -> RgbImage:
    bgr = cv2.imread(str(path))
    if bgr is None:
        raise OSError(f"{path} is no picture that can be read")
    return RgbImage(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False))


def read_matte(path: Path) -> np.ndarray:
    """(H, W) uint8, 255 on the person."""
    matte = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if matte is None:
        raise OSError(f"{path} is no picture that can be read")
    return matte


def crop_face(
    image: np.ndarray, face: Face, fraction: float, shift: tuple[float, float] | np.ndarray = (0, 0)
) -> np.ndarray:
    """Square crop, (SIZE, SIZE[, 3]) uint8, in which the face is `fraction` of the height where the photo allows."""
    height, width = image.shape[:2]
    side = int(min(face.height / fraction, height, width))
    x, y = face.center
    left = int(np.clip(x - side * (0.5 + shift[0]), 0, width - side))
    top = int(np.clip(y - side * (0.47 + shift[1]), 0, height - side))
    shrink = cv2.INTER_AREA if side >= SIZE else cv2.INTER_CUBIC
    return cv2.resize(image[top : top + side, left : left + side], (SIZE, SIZE), interpolation=shrink)


def set_face(image: np.ndarray, face: Face, donor: np.ndarray, donor_face: Face, amount: float) -> np.ndarray:
    """`image` with the donor's inner face warped onto its five points, matched in color and blended."""
    matrix, _ = cv2.estimateAffine2D(donor_face.kps, face.kps)
    height, width = image.shape[:2]
    warped = cv2.warpAffine(donor, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    eyes, mouth = face.kps[:2].mean(0), face.kps[3:].mean(0)
    axis = mouth - eyes
    center = eyes + 0.45 * axis
    angle = np.degrees(np.arctan2(axis[1], axis[0])) - 90
    long, wide = 1.25 * np.linalg.norm(axis), 1.12 * np.linalg.norm(face.kps[1] - face.kps[0])
    mask = np.zeros((height, width), np.float32)
    cv2.ellipse(mask, (tuple(center.tolist()), (float(2 * wide), float(2 * long)), float(angle)), 1.0, -1)
    inside = mask > 0.5
    a = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    b = cv2.cvtColor(warped, cv2.COLOR_RGB2LAB).astype(np.float32)
    for c in range(3):
        ratio = np.clip(a[inside, c].std() / (b[inside, c].std() + 1e-3), 0.7, 1.4)
        b[..., c] = (b[..., c] - b[inside, c].mean()) * ratio + a[inside, c].mean()
    warped = cv2.cvtColor(np.clip(b, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)
    soft = cv2.GaussianBlur(mask, (0, 0), float(0.16 * wide))[..., None] * amount
    return (image * (1 - soft) + warped * soft + 0.5).astype(np.uint8)


def relight(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vary light and camera: exposure, contrast, color cast, fading, gray."""
    x = image.astype(np.float32) / 255
    if rng.random() < 0.6:
        x = x ** rng.uniform(0.7, 1.45)
        x = (x - 0.5) * rng.uniform(0.65, 1.2) + 0.5 + rng.uniform(-0.06, 0.06)
        x *= 1 + rng.uniform(-0.12, 0.12, 3).astype(np.float32)
    if rng.random() < 0.25:  # light from one side
        y, xx = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
        angle = rng.uniform(0, 2 * np.pi)
        x *= (1 + rng.uniform(0.1, 0.4) * (np.cos(angle) * xx + np.sin(angle) * y)).astype(np.float32)[..., None]
    fault = rng.random()
    if fault < 0.06:  # too dark
        x = rng.uniform(0.7, 0.95) * np.clip(x, 0, 1) ** rng.uniform(1.5, 2.2)
    elif fault < 0.12:  # a flash from the camera: bright in the middle, clipped, dark behind
        y, xx = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
        fall = np.exp(-(xx**2 + y**2) / (2 * rng.uniform(0.4, 0.7) ** 2))
        x *= (rng.uniform(0.55, 0.8) + rng.uniform(0.5, 0.9) * fall).astype(np.float32)[..., None]
    if rng.random() < 0.18:
        gray = x @ np.array([0.299, 0.587, 0.114], np.float32)
        keep = 0.0 if rng.random() < 0.7 else rng.uniform(0, 0.5)
        x = keep * x + (1 - keep) * gray[..., None]
    return (np.clip(x, 0, 1) * 255 + 0.5).astype(np.uint8)


def shake(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Motion blur: a straight movement of up to 3 % of the side while the shutter is open."""
    length, angle = rng.uniform(0.008, 0.03) * SIZE, rng.uniform(0, np.pi)
    reach = int(np.ceil(length / 2)) + 1
    kernel, end = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32), 0.5 * length
    step = np.array([np.cos(angle), np.sin(angle)]) * end
    first, last = (tuple(np.round((reach + sign * step) * 16).astype(int).tolist()) for sign in (-1, 1))
    cv2.line(kernel, first, last, 1.0, 1, cv2.LINE_AA, 4)
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)


def damage(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Degrade as ordinary cameras and messengers do: shake, small sizes, blur, noise, JPEG. The target stays clean."""
    x = image
    if rng.random() < 0.12:
        x = shake(x, rng)
    if rng.random() < 0.3:
        n = int(rng.uniform(0.3, 0.8) * SIZE)
        x = cv2.resize(cv2.resize(x, (n, n), interpolation=cv2.INTER_AREA), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.15:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.6, 1.8))
    if rng.random() < 0.25:
        x = np.clip(x + rng.normal(0, rng.uniform(2, 14), x.shape), 0, 255).astype(np.uint8)
    if rng.random() < 0.35:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 85))]
        decoded = cv2.imdecode(cv2.imencode(".jpg", x, quality)[1], cv2.IMREAD_COLOR)
        assert decoded is not None
        x = decoded
    return x


_ANALYZER: InsightFaceAnalyzer | None = None
_MESH: FaceMesh | None = None


def mesh_of(image: np.ndarray, kps: np.ndarray, teachers: Path) -> np.ndarray | None:
    """The face mesh, (468, 2); None if it does not fit the five points."""
    global _MESH
    if _MESH is None:
        _MESH = FaceMesh(teachers)
    points = _MESH.points(image, kps)
    corners = np.stack([(points[33] + points[133]) / 2, (points[362] + points[263]) / 2, points[61], points[291]])
    misfit = np.abs(corners - kps[[0, 1, 3, 4]]).max()
    return points if misfit < 0.3 * np.linalg.norm(kps[1] - kps[0]) + 4 else None


def analyzer() -> InsightFaceAnalyzer:
    global _ANALYZER
    if _ANALYZER is None:
        cv2.setNumThreads(1)
        _ANALYZER = InsightFaceAnalyzer(threads=1)
    return _ANALYZER


def main_face(image: RgbImage) -> Face | None:
    return max(analyzer().detect(image), key=lambda f: f.size, default=None)


def like_poses(faces: dict[int, Face], pool: list[int], i: int, count: int) -> list[int]:
    """The people of `pool` whose five points fit those of person i best."""

    def misfit(j: int) -> float:
        matrix = similarity_transform(faces[j].kps, faces[i].kps)
        moved = faces[j].kps @ matrix[:, :2].T + matrix[:, 2]
        return float(np.abs(moved - faces[i].kps).mean() / faces[i].size)

    return sorted((j for j in pool if j != i), key=misfit)[:count]


def make_one(job: dict) -> dict | None:
    """Render one variant and its styles; None if no face is found in it."""
    rng = np.random.default_rng(job["seed"])
    image: np.ndarray = read(job["path"])
    original = None
    if job["donor"] is not None:
        original = image
        image = set_face(image, job["face"], read(job["donor"]), job["donor_face"], rng.uniform(0.75, 1.0))
    data = CONFIG["data"]
    matte: np.ndarray = read_matte(job["matte"])
    matte = cv2.resize(matte, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    if job["plain"]:
        clean = crop_face(image, job["face"], 0.45)
        photo = RgbImage(clean)
        matte = crop_face(matte, job["face"], 0.45)
    else:
        fraction, shift = rng.uniform(*data["face_fraction"]), rng.uniform(-0.07, 0.07, 2)
        mirror, light, camera = rng.random() < 0.5, *rng.spawn(2)

        def shoot(whole: np.ndarray, light: np.random.Generator) -> np.ndarray:
            crop = crop_face(whole, job["face"], fraction, shift)
            return relight(np.ascontiguousarray(crop[:, ::-1]) if mirror else crop, light)

        if original is not None:
            original = shoot(original, copy.deepcopy(light))
        clean = shoot(image, light)
        photo = RgbImage(damage(clean, camera))
        matte = crop_face(matte, job["face"], fraction, shift)
        matte = np.ascontiguousarray(matte[:, ::-1]) if mirror else matte
    face = main_face(photo)
    mesh = None if face is None else mesh_of(clean, face.kps, job["teachers"])
    if face is None or mesh is None:
        return None
    seen = without_outlines(photo, face)
    stem = f"{job['out']}/pictures/{job['id']:05d}"
    jpeg = [cv2.IMWRITE_JPEG_QUALITY, 97, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    cv2.imwrite(f"{stem}-photo.jpg", cv2.cvtColor(seen, cv2.COLOR_RGB2BGR), jpeg)
    if original is not None:
        original = without_outlines(RgbImage(original), face)
        cv2.imwrite(f"{stem}-own.jpg", cv2.cvtColor(original, cv2.COLOR_RGB2BGR), jpeg)
    styles = list(PAINTERS)
    if not job["plain"]:
        styles = rng.choice(styles, data["styles_per_variant"], replace=False).tolist()
    palettes = [str(rng.choice(list(PALETTES[style]))) for style in styles]
    # Bold and fine are what the dial is for: both ends are met more often than the middle.
    coarse = rng.beta(0.8, 0.9, len(styles)).astype(np.float32)
    scene = Scene(clean.astype(np.float32) / np.float32(255), matte.astype(np.float32) / np.float32(255), mesh)
    values = []
    for style, name, boldness in zip(styles, palettes, coarse, strict=True):
        if job["only"] and style not in job["only"]:
            values.append(np.full(len(GLOBALS), np.nan, np.float32))
            continue
        marks = PAINTERS[style](scene, float(boldness), name)
        maps = np.round(marks.maps * 255).astype(np.uint8)
        np.save(f"{job['out']}/marks/{job['id']:05d}-{style}.npy", maps)
        values.append(marks.values)
    room = len(PAINTERS) - len(styles)
    return {
        "id": job["id"],
        "person": job["person"],
        "validation": job["validation"],
        "morph": job["donor"] is not None,
        "styles": ",".join(styles),
        "palettes": ",".join(palettes),
        "coarse": np.pad(coarse, (0, room)),
        "values": np.pad(np.stack(values), ((0, room), (0, 0))),
        "mesh": mesh,
        "embedding": analyzer().embed(photo, face.kps),
        "kps": face.kps,
        "bbox": face.bbox,
    }


def plan(data: Path, mattes: Path, teachers: Path, out: Path, only: frozenset[str]) -> list[dict]:
    """All jobs, in a fixed order; validation people get one plain crop each."""
    entries = people(data)
    candidates = [main_face(read(data / name)) for name, _ in entries]
    faces = {i: face for i, face in enumerate(candidates) if face is not None}
    seed = np.random.SeedSequence(CONFIG["seed"])
    jobs: list[dict] = []

    def add(i: int, donor: int | None = None, plain: bool = False) -> None:
        name, validation = entries[i]
        jobs.append(
            {
                "id": len(jobs),
                "person": name,
                "path": data / name,
                "matte": (mattes / name).with_suffix(".png"),
                "teachers": teachers,
                "face": faces[i],
                "donor": None if donor is None else data / entries[donor][0],
                "donor_face": None if donor is None else faces[donor],
                "validation": validation,
                "plain": plain,
                "seed": seed.spawn(1)[0],
                "only": only,
                "out": str(out),
            }
        )

    training = [i for i in faces if not entries[i][1]]
    for i in faces:
        add(i, plain=True)
    rng = np.random.default_rng(CONFIG["seed"])
    near = {i: like_poses(faces, training, i, 18) for i in training}
    for k in range(max(CONFIG["data"]["own_variants"], CONFIG["data"]["morphs"])):
        for i in training:
            if k < CONFIG["data"]["own_variants"]:
                add(i)
            if k < CONFIG["data"]["morphs"]:
                add(i, donor=int(rng.choice(near[i])))
    return jobs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, help="folder with female/*.jpg and male/*.jpg (default: fetched to OUT/faces)"
    )
    parser.add_argument("--mattes", type=Path, required=True, help="folder that matte_teacher.py wrote")
    parser.add_argument("--teachers", type=Path, required=True, help="folder that teachers.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="work folder")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="stop after this time and keep what is done"
    )
    parser.add_argument("--only", default="", help="paint these styles anew, such as oil,comic; OUT has all the others")
    args = parser.parse_args()
    only = frozenset(args.only.split(",")) if args.only else frozenset()
    if unknown := only - PAINTERS.keys():
        parser.error(f"--only {','.join(sorted(unknown))}: there is no such style; there are {', '.join(PAINTERS)}")
    for folder in ("pictures", "marks"):
        (args.out / folder).mkdir(parents=True, exist_ok=True)
    if args.data is None:
        args.data = args.out / "faces"
        fetch_all(args.data)
    start = time.time()
    jobs = plan(args.data, args.mattes, args.teachers, args.out, only)
    rows: list[dict] = []
    pool = ProcessPoolExecutor(os.cpu_count())
    pending = [pool.submit(make_one, job) for job in jobs]
    for n, task in enumerate(pending, 1):
        row = task.result()
        if row is not None:
            rows.append(row)
        if n % 100 == 0 or n == len(jobs):
            print(f"{n}/{len(jobs)} variants, {time.time() - start:.0f} s", flush=True)
        if time.time() - start > 60 * args.minutes:
            print(f"{args.minutes} minutes are over: {n} of {len(jobs)} variants", flush=True)
            break
    pool.shutdown(cancel_futures=True)
    table: dict[str, Any] = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    if only:
        with np.load(args.out / "index.npz") as before:
            row_of = {number: row for row, number in enumerate(before["id"].tolist())}
            earlier = before["values"][[row_of[number] for number in table["id"].tolist()]]
        table["values"] = np.where(np.isnan(table["values"]), earlier, table["values"])
    np.savez(args.out / "index.npz", **table)
    print(f"{len(rows)} variants kept, of {len(jobs)} planned; a variant that lost the face is left out")


if __name__ == "__main__":
    main()
