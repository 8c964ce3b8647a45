"""Stage 2: train the autoencoder on photos and styled targets, half of the time with the photo in sight.

    python weights/training/autoencoder.py --out work [--minutes 28] [--resume]

Writes OUT/vae (a diffusers folder), OUT/autoencoder.csv and OUT/autoencoder.png (rows: held-out
pictures, their reconstructions without and with the photo). The last line gives PSNR on people that training never sees, whole
and around the eyes.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import cv2
import numpy as np
import torch
from device import DEVICE, autocast, here
from muon import Muon
from stage import Stage, arguments
from torch import Tensor
from torch.nn import functional as F

from portrait.generate.autoencoder import PATCH, PatchAutoencoder

ALL = tomllib.loads((Path(__file__).parent / "config.toml").read_text())
CONFIG = ALL["autoencoder"]


class Pictures:
    """The pictures of stage 1, kept as JPEG bytes in memory, decoded when drawn."""

    def __init__(self, out: Path, validation: bool) -> None:
        index = np.load(out / "index.npz")
        rows = np.flatnonzero(index["validation"] == validation)
        self.bytes: list[np.ndarray] = []
        self.kps: list[np.ndarray] = []
        self.names: list[str] = []
        self.photo: list[int] = []  # index of the photo that each picture was painted from
        for r in rows:
            photo = len(self.bytes)
            for style in ["photo", *(s for s in str(index["styles"][r]).split(",") if s in ALL["styles"])]:
                path = out / "pictures" / f"{index['id'][r]:05d}-{style}.jpg"
                self.bytes.append(np.fromfile(path, np.uint8))
                self.kps.append(index["kps"][r])
                self.names.append(style)
                self.photo.append(photo)

    def __len__(self) -> int:
        return len(self.bytes)

    def __getitem__(self, i: int) -> np.ndarray:
        return cv2.cvtColor(cv2.imdecode(self.bytes[i], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def to_tensor(images: list[np.ndarray]) -> Tensor:
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return batch.contiguous(memory_format=torch.channels_last)


def draw_batch(pictures: Pictures, rng: np.random.Generator, batch: int, crop: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures, the photos behind them and loss weights: (B, 3 | 3 | 1, crop, crop); eyes, nose and mouth count more."""
    images, photos, masks = [], [], []
    for _ in range(batch):
        i = int(rng.integers(len(pictures)))
        image, photo, kps = pictures[i], pictures[pictures.photo[i]], pictures.kps[i]
        size = image.shape[0]
        side = int(rng.choice([crop, crop, int(crop * 1.5)]))
        if rng.random() < 0.6:
            x, y = kps.mean(0) - side / 2 + rng.uniform(-side / 4, side / 4, 2)
        else:
            x, y = rng.uniform(0, size - side, 2)
        x, y = int(np.clip(x, 0, size - side)), int(np.clip(y, 0, size - side))
        mask = np.ones((size, size), np.float32)
        radius = float(np.linalg.norm(kps[1] - kps[0]))
        for point, r in zip(kps, (0.35, 0.35, 0.2, 0.3, 0.3), strict=True):
            cv2.circle(mask, tuple(int(v) for v in point), int(r * radius) + 1, 3.0, -1)
        three = [a[y : y + side, x : x + side] for a in (image, photo, mask)]
        if side != crop:
            three = [cv2.resize(a, (crop, crop), interpolation=cv2.INTER_AREA) for a in three]
        if rng.random() < 0.5:
            three = [a[:, ::-1] for a in three]
        for kept, a in zip((images, photos, masks), three, strict=True):
            kept.append(np.ascontiguousarray(a))
    return to_tensor(images), to_tensor(photos), torch.from_numpy(np.stack(masks))[:, None]


def reconstruction_loss(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted L1 of values and of gradients at three scales: sharp edges without an adversary."""
    loss = output.new_zeros(())
    for _ in range(3):
        difference = output - target
        loss = loss + (weight * difference.abs()).mean()
        across, down = difference.diff(dim=3).abs(), difference.diff(dim=2).abs()
        loss = loss + 0.8 * (weight[..., 1:] * across).mean() + 0.8 * (weight[:, :, 1:] * down).mean()
        output, target, weight = (F.avg_pool2d(x, 2) for x in (output, target, weight))
    return loss


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 pictures, dB."""
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9)))


@torch.no_grad()
def validate(vae: PatchAutoencoder, pictures: Pictures, sheet: Path | None = None) -> dict[str, float]:
    whole: dict[str, list[float]] = {}
    eyes, rows = [], []
    for i in range(0, len(pictures), 7):
        image, styled = pictures[i], pictures.photo[i] != i
        with autocast():
            x = here(to_tensor([image]))
            alone = vae(x).float()[0]
            vae.source = here(to_tensor([pictures[pictures.photo[i]]])) if styled else None
            out = vae(x).float()[0]
            vae.source = None
        alone, out = (
            ((o.permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5).round().byte().cpu().numpy() for o in (alone, out)
        )
        whole.setdefault(pictures.names[i], []).append(psnr(image, out))
        whole.setdefault("no source", []).append(psnr(image, alone))
        radius = int(0.3 * np.linalg.norm(pictures.kps[i][1] - pictures.kps[i][0])) + 4
        for x, y in pictures.kps[i][:2].astype(int):
            box = np.s_[max(y - radius, 0) : y + radius, max(x - radius, 0) : x + radius]
            eyes.append(psnr(image[box], out[box]))
        if len(rows) < 12:
            rows.append(np.concatenate([image, alone, out], 0))
    if sheet is not None:
        picture = np.concatenate([np.concatenate(rows[:6], 1), np.concatenate(rows[6:12], 1)], 0)
        cv2.imwrite(str(sheet), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    result = {name: float(np.mean(v)) for name, v in sorted(whole.items())}
    result["eyes"] = float(np.mean(eyes))
    return {k: round(v, 2) for k, v in result.items()}


def set_scale(vae: PatchAutoencoder, pictures: Pictures) -> None:
    """Make `scaling_factor` bring the latents of the training pictures to unit variance."""
    with torch.no_grad():
        chosen = [pictures[i] for i in range(0, len(pictures), max(1, len(pictures) // 64))]
        latents = torch.cat([vae.encode(here(to_tensor([image]))).latents for image in chosen])
    vae.register_to_config(scaling_factor=float(1 / latents.std()))


def main() -> None:
    parser = arguments(__doc__, CONFIG["minutes"])
    parser.add_argument("--validate", action="store_true", help="only measure OUT/vae on the held-out people")
    args = parser.parse_args()
    if args.validate:
        vae = PatchAutoencoder.from_pretrained(args.out / "vae").to(DEVICE)
        print("held out:", json.dumps(validate(vae, Pictures(args.out, True), args.out / "autoencoder.png")))
        return
    torch.manual_seed(ALL["seed"])
    rng = np.random.default_rng(ALL["seed"])
    train, held_out = Pictures(args.out, False), Pictures(args.out, True)
    vae = PatchAutoencoder()
    if not args.resume:
        patches = []
        for image in (train[int(i)] for i in rng.choice(len(train), 400)):
            for y, x in rng.integers(0, 512 - PATCH, (40, 2)):
                patches.append(image[y : y + PATCH, x : x + PATCH].transpose(2, 0, 1).ravel())
        kept = vae.start_from_pca(torch.from_numpy(np.stack(patches)).float() / 127.5 - 1)
        print(f"PCA keeps {kept:.4f} of the variance", flush=True)
    vae.to(DEVICE, memory_format=torch.channels_last)
    parameters = list(vae.parameters())
    print(f"{sum(p.numel() for p in parameters) / 1e6:.2f} M parameters, {len(train)} pictures", flush=True)
    linear = [p for name, p in vae.named_parameters() if name.startswith("linear_")]
    learned = [p for name, p in vae.named_parameters() if not name.startswith("linear_")]
    vectors = [p for p in learned if p.ndim < 2]
    optimizers = [
        Muon([p for p in learned if p.ndim >= 2], lr=CONFIG["lr"]),
        torch.optim.AdamW(
            [{"params": vectors, "share": 1.0}, {"params": linear, "share": CONFIG["linear_share"]}],
            lr=CONFIG["lr"],
            betas=(0.9, 0.98),
            weight_decay=1e-4,
            fused=True,
        ),
    ]
    log = (args.out / "autoencoder.csv").open("a" if args.resume else "w")
    stage = Stage(
        args.out / "autoencoder.checkpoint", args.minutes, dict(vae.named_parameters()), optimizers, args.resume
    )
    rng = stage.rng(ALL["seed"])
    losses: list[float] = []
    while (progress := stage.progress) < 1:
        rate = float(min(1, (stage.step + 1) / 30) * (0.5 * (1 + np.cos(np.pi * progress)) * 0.97 + 0.03))
        for group in (g for o in optimizers for g in o.param_groups):
            group["lr"] = CONFIG["lr"] * group.get("share", 1.0) * rate
        x, photo, weight = map(here, draw_batch(train, rng, CONFIG["batch"], CONFIG["crop"]))
        level = rng.random(len(x)) * (rng.random(len(x)) < 0.75)
        level = np.where(rng.random(len(x)) < 0.6, np.ceil(level), level)  # mostly in full sight, or out of it
        level[((photo - x).abs().amax((1, 2, 3)) == 0).cpu().numpy()] = 0  # a photo may not look at itself
        with autocast():
            latents = vae.encode(x).latents.float()
            amount = CONFIG["latent_noise"] * torch.rand(len(x), 1, 1, 1, device=DEVICE) * latents.detach().std()
            vae.source, vae.source_level = photo, here(torch.from_numpy(level).float()[:, None, None, None])
            output = vae.decode(latents + amount * torch.randn_like(latents)).sample
            vae.source, vae.source_level = None, 1.0
        loss = reconstruction_loss(output.float(), x, weight) + 1e-5 * latents.square().mean()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
        stage.step += 1
        if stage.step % 400 == 0 or stage.step == 100:
            scores = validate(vae, held_out, args.out / "autoencoder.png")
            row = {
                "step": stage.step,
                "seconds": int(stage.seconds),
                "loss": round(np.mean(losses[-100:]), 4),
                **scores,
            }
            print(json.dumps(row), flush=True)
            log.write(json.dumps(row) + "\n")
            log.flush()
            stage.save()
    set_scale(vae, train)
    vae.save_pretrained(args.out / "vae")
    print("held out:", json.dumps(validate(vae, held_out, args.out / "autoencoder.png")), vae.config.scaling_factor)


if __name__ == "__main__":
    main()
