"""Stage 1: portraits -> photo variants, their styles as marks, and their ArcFace embeddings.

    python weights/training/dataset.py --data FACES --mattes MATTES --teachers TEACHERS --out WORK

In two passes, photos first; what an earlier run has finished is kept:

1. OUT/pictures/{id:05d}-{photo|own}.jpg, as the model will see them; OUT/pictures/{id:05d}-guides.png, what its decoder is
   shown beside the photo; and OUT/scenes/{id:05d}.npz, what the painters look at, with the face and its embedding.
2. OUT/marks/{id:05d}-{style}.npy, (channels, 128, 128) uint8, OUT/marks/{id:05d}-{style}-values.npy, and OUT/index.npz.

180 portraits are few, so each training person is multiplied by crops, light, color and camera faults, by bending heads to
other proportions, and new identities are made by setting the inner face of one person, matched in pose and skin color, into
the head of another. For these, the same crop with the original face is kept too (`own`): the two differ only in
identity. The painters see the photo as it was taken, and the teacher's face mesh; the guides are drawn from the mesh of the
product's own network. Each target has its palette and its coarseness, from fine marks (0) to bold ones (1).
"""

from __future__ import annotations

import argparse
import copy
import os
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

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
from portrait.generate.families.mini.face_mesh import fits
from portrait.generate.families.mini.seen import look_at
from portrait.records import Face, RgbImage

CONFIG = tomllib.loads((Path(__file__).parent / "config.toml").read_text())
SIZE = CONFIG["data"]["size"]
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 97, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
Result = TypeVar("Result")


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


def bending(shape: tuple[int, ...], face: Face, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of a head with other proportions comes from: two (H, W) float32 maps for `cv2.remap`.

    The head becomes wider or narrower, longer or shorter, with another jaw and other eyes, and the room fades back to what
    it was.
    """
    wide, tall, jaw, eye = rng.uniform(-CONFIG["data"]["bent_by"], CONFIG["data"]["bent_by"], 4)
    middle, line = face.kps.mean(0), face.kps[1] - face.kps[0]
    span = float(np.linalg.norm(line))
    axes = np.array([line, [-line[1], line[0]]]) / span  # to the right and down, as the face sees it
    coarse = (
        -(-shape[0] // 4),
        -(-shape[1] // 4),
    )  # the way of a pixel changes slowly: it is computed at a quarter of the size
    rows, columns = 4 * np.mgrid[0 : coarse[0], 0 : coarse[1]].astype(np.float32) + 1.5
    across, down = (
        (axis[0] * (columns - middle[0]) + axis[1] * (rows - middle[1])).astype(np.float32) / span for axis in axes
    )
    near = np.exp(-(across**2 + down**2) / (2 * 1.7**2))
    right = -across * (wide + jaw / (1 + np.exp(-4 * (down - 0.6)))) * near
    below = -down * tall * near
    for x, y in (face.kps[:2] - middle) @ axes.T / span:
        close = eye * np.exp(-((across - x) ** 2 + (down - y) ** 2) / (2 * 0.3**2))
        right, below = right - (across - x) * close, below - (down - y) * close
    way = np.stack([span * (right * axes[0, i] + below * axes[1, i]) for i in (0, 1)], 2).astype(np.float32)
    whole = cv2.resize(way, (4 * coarse[1], 4 * coarse[0]), interpolation=cv2.INTER_LINEAR)[: shape[0], : shape[1]]
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    return columns + whole[..., 0], rows + whole[..., 1]


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
    """The teacher's face mesh, (468, 2); None if it does not fit the five points."""
    global _MESH
    if _MESH is None:
        _MESH = FaceMesh(teachers)
    points = _MESH.points(image, kps)
    return points if fits(points, kps) else None


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


def encoded(image: np.ndarray, kind: str) -> np.ndarray:
    """An image as the bytes of a file, (N,) uint8."""
    return np.asarray(cv2.imencode(kind, image, JPEG if kind == ".jpg" else [])[1], np.uint8).ravel()


def decoded(file: np.ndarray, flags: int) -> np.ndarray:
    """The image in the bytes of a file, as float32 in [0, 1]."""
    image = cv2.imdecode(file, flags)
    if image is None:
        raise OSError("a scene holds no image that can be read")
    return image.astype(np.float32) / np.float32(255)


def take_photo(job: dict) -> bool:
    """Pass 1: write one variant as the model will see it, and its scene; False if no face is found in it."""
    number, out = job["id"], Path(job["out"])
    scene = out / "scenes" / f"{number:05d}.npz"
    if scene.exists():
        return True
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
        bend = bending(image.shape, job["face"], rng) if rng.random() < data["bent_share"] else None

        def framed(whole: np.ndarray) -> np.ndarray:
            whole = whole if bend is None else cv2.remap(whole, *bend, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
            crop = crop_face(whole, job["face"], fraction, shift)
            return np.ascontiguousarray(crop[:, ::-1]) if mirror else crop

        if original is not None:
            original = relight(framed(original), copy.deepcopy(light))
        clean = relight(framed(image), light)
        photo = RgbImage(damage(clean, camera))
        matte = framed(matte)
    face = main_face(photo)
    mesh = None if face is None else mesh_of(clean, face.kps, job["teachers"])
    if face is None or mesh is None:
        return False
    stem = f"{out}/pictures/{number:05d}"
    seen = look_at(photo, face, guided=True)
    cv2.imwrite(f"{stem}-photo.jpg", cv2.cvtColor(seen.picture, cv2.COLOR_RGB2BGR), JPEG)
    cv2.imwrite(f"{stem}-guides.png", np.concatenate(np.round(255 * seen.guides).astype(np.uint8)))
    if original is not None:
        replaced = look_at(RgbImage(original), face, guided=True).picture
        cv2.imwrite(f"{stem}-own.jpg", cv2.cvtColor(replaced, cv2.COLOR_RGB2BGR), JPEG)
    partial = scene.with_suffix(".partial.npz")
    np.savez(
        partial,
        shot=encoded(cv2.cvtColor(clean, cv2.COLOR_RGB2BGR), ".jpg"),
        matte=encoded(matte, ".png"),
        mesh=mesh,
        embedding=analyzer().embed(photo, face.kps),
        kps=face.kps,
        bbox=face.bbox,
    )
    partial.rename(scene)
    return True


def commissions(number: int, plain: bool) -> list[tuple[str, str, float]]:
    """The styles of a variant, each with its palette and its coarseness; all of them for a plain crop."""
    rng = np.random.default_rng([CONFIG["seed"], number])
    styles = (
        list(PAINTERS) if plain else rng.permutation(list(PAINTERS))[: CONFIG["data"]["styles_per_variant"]].tolist()
    )
    which = rng.random(len(styles))  # a style with more palettes changes no other style's
    # Bold and fine are what the dial is for: both ends are met more often than the middle.
    coarse = rng.beta(0.8, 0.9, len(styles)).tolist()
    palettes = [list(PALETTES[style])[int(w * len(PALETTES[style]))] for style, w in zip(styles, which, strict=True)]
    return list(zip(styles, palettes, coarse, strict=True))


def paint(job: dict) -> dict:
    """Pass 2: paint what is missing of one variant's styles; returns its row of the index."""
    number, out = job["id"], Path(job["out"])
    with np.load(out / "scenes" / f"{number:05d}.npz") as file:
        row = {name: file[name] for name in file.files}
    matte, shot = row.pop("matte"), row.pop("shot")
    ordered = commissions(number, job["plain"])
    marks_of = {style: out / "marks" / f"{number:05d}-{style}.npy" for style, _, _ in ordered}
    values_of = {style: out / "marks" / f"{number:05d}-{style}-values.npy" for style in marks_of}
    missing = [order for order in ordered if not values_of[order[0]].exists()]
    if missing:
        picture = np.ascontiguousarray(decoded(shot, cv2.IMREAD_COLOR)[..., ::-1])
        scene = Scene(picture, decoded(matte, cv2.IMREAD_GRAYSCALE), row["mesh"])
    for style, palette, coarse in missing:
        marks = PAINTERS[style](scene, coarse, palette)
        np.save(marks_of[style], np.round(marks.maps * 255).astype(np.uint8))
        np.save(values_of[style], marks.values)  # last: a painting with values is whole
    room = len(PAINTERS) - len(ordered)
    return row | {
        "id": number,
        "person": job["person"],
        "validation": job["validation"],
        "morph": job["donor"] is not None,
        "styles": ",".join(style for style, _, _ in ordered),
        "palettes": ",".join(palette for _, palette, _ in ordered),
        "coarse": np.pad(np.array([coarse for _, _, coarse in ordered], np.float32), (0, room)),
        "values": np.pad(np.stack([np.load(values_of[style]) for style in marks_of]), ((0, room), (0, 0))),
    }


def plan(data: Path, mattes: Path, teachers: Path, out: Path) -> list[dict]:
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


def in_parallel(work: Callable[[dict], Result], jobs: list[dict], until: float, what: str) -> list[Result]:
    """The results of the jobs in their order, as far as they are done at the time `until`, in seconds of `time.time`."""
    start, results = time.time(), []
    pool = ProcessPoolExecutor(os.cpu_count())
    for number, task in enumerate([pool.submit(work, job) for job in jobs], 1):
        results.append(task.result())
        if number % 100 == 0 or number == len(jobs):
            print(f"{number}/{len(jobs)} {what}, {time.time() - start:.0f} s", flush=True)
        if time.time() > until and number < len(jobs):
            print(f"the time is over: {number} of {len(jobs)} {what}", flush=True)
            break
    pool.shutdown(cancel_futures=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, help="folder with female/*.jpg and male/*.jpg (default: fetched to OUT/faces)"
    )
    parser.add_argument("--mattes", type=Path, required=True, help="folder that matte_teacher.py wrote")
    parser.add_argument("--teachers", type=Path, required=True, help="folder that teachers.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="work folder")
    parser.add_argument(
        "--minutes",
        type=float,
        default=float("inf"),
        help="stop after this time, the photos after a third of it, and keep what is done",
    )
    parser.add_argument("--photos-only", action="store_true", help="stop after the first pass")
    parser.add_argument("--only", default="", help="paint these styles anew, such as oil,comic")
    args = parser.parse_args()
    only = args.only.split(",") if args.only else []
    if unknown := set(only) - PAINTERS.keys():
        parser.error(f"--only {','.join(sorted(unknown))}: there is no such style; there are {', '.join(PAINTERS)}")
    for folder in ("pictures", "scenes", "marks"):
        (args.out / folder).mkdir(parents=True, exist_ok=True)
    if args.data is None:
        args.data = args.out / "faces"
        fetch_all(args.data)
    for style in only:
        for values in (args.out / "marks").glob(f"?????-{style}-values.npy"):
            values.unlink()
    start, seconds = time.time(), 60 * args.minutes
    jobs = plan(args.data, args.mattes, args.teachers, args.out)
    found = in_parallel(take_photo, jobs, start + seconds / 3, "photos")
    seen = [job for job, is_seen in zip(jobs, found, strict=False) if is_seen]
    print(f"{len(seen)} of {len(found)} photos kept; one in which no face is found is left out", flush=True)
    if args.photos_only:
        return
    rows = in_parallel(paint, seen, start + seconds, "variants painted")
    table: dict[str, Any] = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    np.savez(args.out / "index.npz", **table)


if __name__ == "__main__":
    main()
