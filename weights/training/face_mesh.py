"""Train the face mesh network, which is independent of the other stages.

    python weights/training/face_mesh.py --data FACES --teachers TEACHERS --out WORK [--minutes 14] [--resume]

The teacher is MediaPipe's face mesh (`teachers.py` says where it is from). Its points on variants of the training people
are written once to OUT/face_mesh.npz, with the aligned faces; then the network learns to find them in crops that are turned,
moved and spoiled. Writes OUT/face_mesh.checkpoint (to resume), OUT/face_mesh.safetensors, OUT/face_mesh.csv and
OUT/face_mesh.jpg (held-out people: the teacher's points, the network's), and weights/mini/face_mesh.safetensors with its
entry in the manifest.
"""

from __future__ import annotations

import json
import os
import tomllib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import numpy as np
import torch
from dataset import SIZE, bending, like_poses, main_face, mesh_of, people, read, relight, set_face
from device import DEVICE, autocast, here
from export import write_manifest
from face_mesh_net import FaceMeshNet
from muon import Muon
from safetensors.torch import save_file
from stage import Average, Stage, arguments, learning_rate
from torch import Tensor

from portrait.faces.alignment import similarity_transform, warp_smoothly
from portrait.generate.families.mini.face_mesh import EYE_DISTANCE, MESH_POINTS, SIDE, TEMPLATE
from portrait.generate.families.mini.sitter import (
    BROWS,
    CREASES,
    LIPS,
    LOWER_LIDS,
    MOUTH_BOTTOM,
    MOUTH_TOP,
    NOSE_BASE,
    NOSTRILS,
    OVAL,
    UPPER_LIDS,
)
from portrait.records import Face, RgbImage

ALL = tomllib.loads((Path(__file__).parent / "config.toml").read_text())
CONFIG = ALL["face_mesh"]
MARGIN = 28
"""Pixels around an aligned face in a stored crop, from which turned and moved ones are cut."""
Faces = dict[str, np.ndarray]


def point_weights() -> Tensor:
    """(MESH_POINTS,): what drawings are made of counts most; the mean is 1."""
    weight = torch.full((MESH_POINTS,), CONFIG["other_weight"])
    for name, chains in {
        "outline_weight": [OVAL, *CREASES],
        "brow_weight": [*BROWS, NOSE_BASE, *NOSTRILS],
        "feature_weight": [*UPPER_LIDS, *LOWER_LIDS, LIPS, MOUTH_TOP, MOUTH_BOTTOM],
    }.items():
        for chain in chains:
            weight[chain] = CONFIG[name]
    return weight / weight.mean()


def read_small(path: Path, face: Face) -> tuple[np.ndarray, Face]:
    """A photo at 512 px, which is enough for the crops and a quarter of the work, and its face there."""
    photo = read(path)
    scale = SIZE / photo.shape[0]
    return cv2.resize(photo, (SIZE, SIZE), interpolation=cv2.INTER_AREA), face.moved(scale, 0, 0)


def make_variant(job: dict) -> tuple[np.ndarray, np.ndarray, bool] | None:
    """An aligned face with MARGIN, uint8, and its mesh there, (MESH_POINTS, 2); None if no face or no mesh is found."""
    rng = np.random.default_rng(job["seed"])
    image, face = read_small(job["path"], job["face"])
    if not job["validation"]:
        if rng.random() < CONFIG["morph_share"]:
            image = set_face(image, face, *read_small(job["donor"], job["donor_face"]), rng.uniform(0.75, 1.0))
        if rng.random() < CONFIG["bent_share"]:
            image = cv2.remap(image, *bending(image.shape[:2], face, rng), cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        image = np.ascontiguousarray(image[:, ::-1])
    shot = RgbImage(relight(image, rng))
    seen = main_face(shot)
    mesh = None if seen is None else mesh_of(image, seen.kps, job["teachers"])
    if seen is None or mesh is None:
        return None
    matrix = similarity_transform(seen.kps, TEMPLATE + MARGIN)
    aligned = warp_smoothly(shot, matrix, SIDE + 2 * MARGIN)
    return aligned, (mesh @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32), job["validation"]


def make_faces(data: Path, teachers: Path, out: Path) -> None:
    """Write OUT/face_mesh.npz: crop (N, side, side, 3) uint8, mesh (N, MESH_POINTS, 2) and validation (N,)."""
    entries = people(data)
    found = [main_face(read(data / name)) for name, _ in entries]
    faces = {i: face for i, face in enumerate(found) if face is not None}
    training = [i for i in faces if not entries[i][1]]
    near = {i: like_poses(faces, training, i, 18) for i in training}
    rng = np.random.default_rng(ALL["seed"])
    jobs = []
    for i in faces:
        validation = entries[i][1]
        for k in range(CONFIG["held_out_variants"] if validation else CONFIG["variants"]):
            donor = i if validation else int(rng.choice(near[i]))
            jobs.append(
                {
                    "path": data / entries[i][0],
                    "face": faces[i],
                    "donor": data / entries[donor][0],
                    "donor_face": faces[donor],
                    "validation": validation,
                    "teachers": teachers,
                    "seed": [ALL["seed"], i, k],
                }
            )
    made = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for number, variant in enumerate(pool.map(make_variant, jobs, chunksize=8), 1):
            if variant is not None:
                made.append(variant)
            if number % 200 == 0:
                print(f"{number}/{len(jobs)} faces", flush=True)
    crops, meshes, are_held_out = (np.stack([row[column] for row in made]) for column in range(3))
    np.savez(out / "face_mesh.partial.npz", crop=crops, mesh=meshes, validation=are_held_out)
    (out / "face_mesh.partial.npz").rename(out / "face_mesh.npz")


def spoil(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur, noise, JPEG and other colors, as of bad cameras and of far faces; (SIDE, SIDE, 3) uint8."""
    if rng.random() < 0.25:
        small = int(SIDE * rng.uniform(0.3, 0.8))
        face = cv2.resize(cv2.resize(face, (small, small), interpolation=cv2.INTER_AREA), (SIDE, SIDE))
    if rng.random() < 0.2:
        face = cv2.GaussianBlur(face, (0, 0), rng.uniform(0.5, 1.6))
    if rng.random() < 0.5:
        colors = face * rng.uniform(0.75, 1.25, 3) + rng.uniform(-25, 25)
        face = np.clip(colors, 0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        face = np.clip(face + rng.normal(0, rng.uniform(2, 12), face.shape), 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 80))]
        face = np.asarray(cv2.imdecode(cv2.imencode(".jpg", face, quality)[1], cv2.IMREAD_COLOR), np.uint8)
    return face


def cut(crop: np.ndarray, mesh: np.ndarray, rng: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray]:
    """What the network sees of a stored crop, turned, scaled and moved at random, and the points in its units."""
    angle, scale, shift = 0.0, 1.0, np.zeros(2)
    if rng is not None:
        angle = float(np.clip(rng.normal(0, 5), -15, 15))
        scale, shift = float(np.exp(rng.normal(0, 0.05))), rng.normal(0, 2.0, 2)
    middle = MARGIN + SIDE / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), angle, scale)
    matrix[:, 2] = matrix[:, 2] + shift - MARGIN
    face = cv2.warpAffine(crop, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    points = (mesh @ matrix[:, :2].T + matrix[:, 2] - SIDE / 2) / EYE_DISTANCE
    return face if rng is None else spoil(face, rng), points.astype(np.float32)


def batch_of(faces: Faces, picks: np.ndarray, rng: np.random.Generator | None) -> tuple[Tensor, Tensor]:
    """(B, 3, SIDE, SIDE) faces in [-1, 1] and their (B, MESH_POINTS, 2) points."""
    pairs = [cut(faces["crop"][i], faces["mesh"][i], rng) for i in picks]
    seen = torch.from_numpy(np.stack([face for face, _ in pairs])).permute(0, 3, 1, 2).float() / 127.5 - 1
    points = torch.from_numpy(np.stack([points for _, points in pairs]))
    return here(seen.contiguous(memory_format=torch.channels_last)), here(points)


def distances(found: Tensor, points: Tensor) -> Tensor:
    """(B, MESH_POINTS): how far each point is off, in units of the eyes' distance."""
    return (found - points).square().sum(-1).add(1e-8).sqrt()


def openness(points: Tensor) -> Tensor:
    """(B, 3, 2): from the upper to the lower lid of each eye, and from the upper to the lower lip."""
    return points[:, [159, 386, 13]] - points[:, [145, 374, 14]]


def mesh_loss(found: Tensor, points: Tensor, weight: Tensor) -> Tensor:
    """Mean distance of the points, weighted, and of how open eyes and mouth are."""
    gaps = (openness(found) - openness(points)).abs().mean()
    return (weight * distances(found, points)).mean() + CONFIG["openness_weight"] * gaps


@torch.inference_mode()
def validate(net: FaceMeshNet, faces: Faces, weight: Tensor, sheet: Path | None = None) -> dict[str, float]:
    """Errors on held-out people in percent of the eyes' distance; draws a sheet of twelve."""
    seen, points = batch_of(faces, np.arange(len(faces["crop"])), None)
    found = torch.cat([net(part) for part in seen.split(32)])
    off = 100 * distances(found, points)
    parts = {"eyes": [*UPPER_LIDS[0], *UPPER_LIDS[1], *LOWER_LIDS[0], *LOWER_LIDS[1]], "mouth": LIPS, "oval": OVAL}
    scores = {"all": off.mean().item(), "weighted": (weight * off).mean().item()}
    scores |= {name: off[:, chain].mean().item() for name, chain in parts.items()}
    if sheet is not None:
        picks = np.linspace(0, len(seen) - 1, 12).astype(int)
        cells = [np.vstack([dotted(seen[i], points[i]), dotted(seen[i], found[i])]) for i in picks]
        cv2.imwrite(str(sheet), np.hstack(cells)[:, :, ::-1])
    return {name: round(value, 3) for name, value in scores.items()}


def dotted(face: Tensor, points: Tensor) -> np.ndarray:
    """A face with its points, three times as large, uint8 RGB."""
    picture = ((face + 1) * 127.5).byte().permute(1, 2, 0).cpu().numpy()
    picture = cv2.resize(picture, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    for x, y in 3 * (EYE_DISTANCE * points.cpu().numpy() + SIDE / 2):
        cv2.circle(picture, (round(float(x)), round(float(y))), 1, (0, 255, 0), -1)
    return picture


def stored_faces(path: Path) -> tuple[Faces, Faces]:
    """Training faces and held-out ones."""
    with np.load(path) as file:
        crop, mesh, validation = (file[name] for name in ("crop", "mesh", "validation"))
    train, held_out = ({"crop": crop[of], "mesh": mesh[of]} for of in (~validation, validation))
    return train, held_out


def build_net(mesh: np.ndarray) -> FaceMeshNet:
    """An untrained network, which takes every face for the mean of stored meshes (N, MESH_POINTS, 2)."""
    net = FaceMeshNet()
    middle = torch.from_numpy((mesh.mean(0) - MARGIN - SIDE / 2) / EYE_DISTANCE)
    with torch.no_grad():
        net.points.bias.copy_(middle.flatten())
    return net.to(DEVICE, memory_format=torch.channels_last)


def take_step(
    net: FaceMeshNet, optimizers: list[torch.optim.Optimizer], batch: tuple[Tensor, Tensor], weight: Tensor
) -> float:
    """One step of the optimizers; returns the loss before it."""
    seen, points = batch
    with autocast():
        found = net(seen)
    loss = mesh_loss(found, points, weight)
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    return loss.item()


def main() -> None:
    parser = arguments(__doc__, CONFIG["minutes"])
    parser.add_argument("--data", type=Path, required=True, help="folder with female/*.jpg and male/*.jpg")
    parser.add_argument("--teachers", type=Path, required=True, help="folder that teachers.py wrote")
    parser.add_argument("--to", type=Path, default=Path(__file__).parents[1] / "mini")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if not (args.out / "face_mesh.npz").exists():
        make_faces(args.data, args.teachers, args.out)
    train, held_out = stored_faces(args.out / "face_mesh.npz")
    torch.manual_seed(ALL["seed"])
    net = build_net(train["mesh"])
    average, weight = Average(net, CONFIG["ema"]), here(point_weights())
    parameters = list(net.parameters())
    optimizers = [
        Muon([p for p in parameters if p.ndim >= 2], lr=CONFIG["lr"]),
        torch.optim.AdamW([p for p in parameters if p.ndim < 2], lr=CONFIG["lr"], weight_decay=0.0),
    ]
    state = {f"net.{k}": v for k, v in net.state_dict().items()} | {f"ema.{k}": v for k, v in average.mean.items()}
    state["steps"] = average.steps
    stage = Stage(args.out / "face_mesh.checkpoint", args.minutes, state, optimizers, args.resume)
    rng = stage.rng(ALL["seed"])
    print(f"{sum(p.numel() for p in parameters) / 1e6:.2f} M parameters, {len(train['crop'])} faces", flush=True)
    log, losses = (args.out / "face_mesh.csv").open("a"), []
    while (progress := stage.progress) < 1:
        for group in (g for o in optimizers for g in o.param_groups):
            group["lr"] = CONFIG["lr"] * learning_rate(stage.step, progress)
        picks = rng.integers(len(train["crop"]), size=CONFIG["batch"])
        losses.append(take_step(net, optimizers, batch_of(train, picks, rng), weight))
        average.update()
        stage.step += 1
        if stage.step % 200 == 0:
            row = {"step": stage.step, "seconds": int(stage.seconds), "loss": round(float(np.mean(losses[-200:])), 4)}
            line = json.dumps(row | validate(average.averaged(), held_out, weight))
            print(line, flush=True)
            print(line, file=log, flush=True)
            stage.save()
    stage.save()
    weights = {name: value.half().contiguous() for name, value in average.mean.items()}
    save_file(weights, args.out / "face_mesh.safetensors")
    save_file(weights, args.to / "face_mesh.safetensors")
    write_manifest(args.to)
    scores = validate(average.averaged(), held_out, weight, args.out / "face_mesh.jpg")
    print("held out, percent of the eyes' distance:", json.dumps(scores))


if __name__ == "__main__":
    main()
