"""Train the person matte, which is independent of the other stages.

    python weights/training/matte.py --data FACES --teacher selfie_segmentation.tflite --out WORK [--minutes 25]

Makes the teacher's missing mattes (`matte_teacher.py` says where the teacher is from), then trains on small pictures,
on which steps are cheap, and in the second part at the size that the product uses. Writes OUT/matte.checkpoint (to
resume), OUT/matte.safetensors, OUT/matte.csv and OUT/matte.png (held-out people: photo, the teacher's matte, the
network's), and weights/mini/matte.safetensors with its entry in the manifest.
"""

from __future__ import annotations

import math
import time
import tomllib
from pathlib import Path

import cv2
import numpy as np
import torch
from dataset import people, read, read_matte
from device import DEVICE, autocast, here
from export import write_manifest
from matte_net import MatteNet
from matte_scenes import Scenes, load_person, stored_pictures
from matte_teacher import make_mattes
from safetensors.torch import save_file
from stage import Average, Stage, arguments
from torch import Tensor
from torch.nn import functional as F

from portrait.generate.matte import SIDE

ALL = tomllib.loads((Path(__file__).parent / "config.toml").read_text())
CONFIG = ALL["matte"]


def matte_loss(logits: Tensor, matte: Tensor) -> Tensor:
    """Cross entropy, more of it near the edge; the overlap as a whole; the edge's steepness."""
    logits = logits.float()
    alpha = torch.sigmoid(logits)
    high = F.max_pool2d(matte, 9, 1, 4)
    low = -F.max_pool2d(-matte, 9, 1, 4)
    weight = 1 + CONFIG["edge_weight"] * (high - low)
    entropy = (weight * F.binary_cross_entropy_with_logits(logits, matte, reduction="none")).sum() / weight.sum()
    both, either = (alpha * matte).sum((1, 2, 3)), (alpha + matte - alpha * matte).sum((1, 2, 3))
    overlap = 1 - ((both + 50) / (either + 50)).mean()
    slopes = [
        (a.diff(dim=d) - m.diff(dim=d)).abs().mean()
        for a, m in ((alpha, matte), (F.avg_pool2d(alpha, 2), F.avg_pool2d(matte, 2)))
        for d in (2, 3)
    ]
    return entropy + overlap + CONFIG["slope_weight"] * sum(slopes)


def score(net: MatteNet, pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float, list[np.ndarray]]:
    """Mean overlap at one half, mean absolute error, and the mattes."""
    overlaps, errors, mattes = [], [], []
    for photo, target in pairs:
        with torch.inference_mode():
            alpha = torch.sigmoid(net(torch.from_numpy(photo).permute(2, 0, 1)[None]))[0, 0].numpy()
        a, b = alpha > 0.5, target > 0.5
        overlaps.append((a & b).sum() / max(1, (a | b).sum()))
        errors.append(np.abs(alpha - target).mean())
        mattes.append(alpha)
    return float(np.mean(overlaps)), float(np.mean(errors)), mattes


def sheet(path: Path, pairs: list[tuple[np.ndarray, np.ndarray]], mattes: list[np.ndarray], columns: int = 6) -> None:
    green = np.array([0.16, 0.78, 0.24], np.float32)
    cells = [
        np.hstack([photo, *(photo * a[..., None] + green * (1 - a[..., None]) for a in (target, alpha))])
        for (photo, target), alpha in zip(pairs, mattes, strict=True)
    ]
    rows = [np.hstack(cells[i : i + columns]) for i in range(0, len(cells) - columns + 1, columns)]
    cv2.imwrite(str(path), (np.vstack(rows)[:, :, ::-1] * 255).clip(0, 255).astype(np.uint8))


def held_out_pairs(data: Path, mattes: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = []
    for name, validation in people(data):
        if validation:
            photo = cv2.resize(read(data / name), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            matte = read_matte((mattes / name).with_suffix(".png"))
            matte = cv2.resize(matte, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            pairs.append((photo.astype(np.float32) / 255, matte.astype(np.float32) / 255))
    return pairs


def take_step(net: MatteNet, optimizer: torch.optim.Optimizer, picture: Tensor, matte: Tensor) -> float:
    """One step of the optimizer; returns the loss before it."""
    with autocast():
        logits = net(picture.contiguous(memory_format=torch.channels_last))
    loss = matte_loss(logits, matte)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


def main() -> None:
    parser = arguments(__doc__, CONFIG["minutes"])
    parser.add_argument("--data", type=Path, required=True, help="folder with female/*.jpg and male/*.jpg")
    parser.add_argument("--teacher", type=Path, help="selfie_segmentation.tflite, where mattes are absent")
    parser.add_argument("--threads", type=int, default=0, help="processor threads, 0 for torch's own choice")
    parser.add_argument("--to", type=Path, default=Path(__file__).parents[1] / "mini")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
        cv2.setNumThreads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    mattes = make_mattes(args.data, args.out, args.teacher)
    training = [
        load_person(args.data / name, (mattes / name).with_suffix(".png"))
        for name, validation in people(args.data)
        if not validation
    ]
    pairs = held_out_pairs(args.data, mattes)

    torch.manual_seed(ALL["seed"])
    net = MatteNet().to(DEVICE, memory_format=torch.channels_last).train()
    average = Average(net, CONFIG["ema"])
    flat = [p for p in net.parameters() if p.ndim < 2]
    solid = [p for p in net.parameters() if p.ndim >= 2]
    groups = [{"params": solid, "weight_decay": CONFIG["weight_decay"]}, {"params": flat, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=CONFIG["lr"], betas=(0.9, 0.99))
    state = {f"net.{k}": v for k, v in net.state_dict().items()} | {f"ema.{k}": v for k, v in average.mean.items()}
    stage = Stage(
        args.out / "matte.checkpoint", args.minutes, state | {"steps": average.steps}, [optimizer], args.resume
    )
    rng = stage.rng(ALL["seed"])
    pictures = stored_pictures()
    sizes = {size: Scenes(training, pictures, size) for size in (SIDE // 2, SIDE)}
    log, losses, last_report = (args.out / "matte.csv").open("a"), [], time.time()
    while stage.progress < 1:
        small = stage.progress < CONFIG["small_share"]
        scenes = sizes[SIDE // 2 if small else SIDE]
        warm, falling = min(1, (stage.step + 1) / 100), 0.5 * (1 + math.cos(math.pi * min(1, stage.progress)))
        for group in optimizer.param_groups:
            group["lr"] = CONFIG["lr"] * warm * falling  # a plain float: the checkpoint holds nothing else
        picture, matte = (
            here(torch.from_numpy(x).permute(0, 3, 1, 2)) for x in scenes.batch(CONFIG["batch"][0 if small else 1], rng)
        )
        losses.append(take_step(net, optimizer, picture, matte))
        average.update()
        stage.step += 1
        if stage.step % 250 == 0 or stage.progress >= 1:
            overlap, error, estimates = score(average.averaged(), pairs)
            line = f"{stage.step},{stage.seconds:.0f},{np.mean(losses[-250:]):.4f},{overlap:.4f},{error:.4f}"
            print(line, flush=True)
            print(line, file=log, flush=True)
            if time.time() - last_report > 120 or stage.progress >= 1:
                last_report = time.time()
                stage.save()
                sheet(args.out / "matte.png", pairs, estimates)
    weights = {
        name: v.half().contiguous() for name, v in average.mean.items() if not name.endswith("num_batches_tracked")
    }
    save_file(weights, args.out / "matte.safetensors")
    save_file(weights, args.to / "matte.safetensors")
    write_manifest(args.to)
    print(f"{(args.to / 'matte.safetensors').stat().st_size} bytes in {args.to / 'matte.safetensors'}")


if __name__ == "__main__":
    main()
