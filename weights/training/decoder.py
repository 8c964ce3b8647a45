"""Stage 4: let the decoder learn the denoiser's own latents.

    python weights/training/decoder.py --out work [--minutes 18]

The denoiser's few steps leave its latents smoother than a painting's. Here the decoder, which sees the
photo beside them, learns to draw the painting from what it will really get: latents sampled as the
product samples them, at all structure levels. The encoder and so the latents stay as they are. Texture
that no decoder could place is asked for by its local energy, not pixel by pixel.

Writes OUT/estimates-DIGEST.npz once per denoiser, OUT/vae (the earlier one is kept as OUT/vae-before) and OUT/decoder.png
(rows: a held-out photo, its painting, decoded before and after).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import tomllib
from pathlib import Path

import cv2
import numpy as np
import torch
from autoencoder import reconstruction_loss, to_tensor
from denoiser import GRID, Examples, Trainer
from device import autocast, here
from muon import Muon
from stage import Stage, arguments
from torch import Tensor
from torch.nn import functional as F

from portrait.generate.autoencoder import PATCH, PatchAutoencoder

ALL = tomllib.loads((Path(__file__).parent / "config.toml").read_text())
CONFIG = ALL["decoder"]


def sample_estimates(trainer: Trainer, examples: Examples, count: int, seed: int) -> dict[str, np.ndarray]:
    """Latents as the product samples them: pick (N,), level (N,), latents (N, 32, 32, 32) float16, unscaled."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    picks = rng.choice(len(examples.pairs), count, replace=False)
    kind = rng.random(count)
    level = np.where(kind < CONFIG["full_share"], 1.0, rng.uniform(CONFIG["least_level"], 1.0, count)).astype(
        np.float32
    )
    found, start = [], time.time()
    for i in range(0, count, 12):
        batch = examples.get(picks[i : i + 12].tolist())
        levels = torch.from_numpy(level[i : i + 12])[:, None, None, None]
        guidance = float(rng.uniform(*CONFIG["guidance"]))
        latents = trainer.denoise(batch, levels, generator, guidance=guidance) / examples.scale
        found.append(latents.half().cpu().numpy())
        if i % 120 == 0:
            print(f"sampled {i}/{count}, {time.time() - start:.0f} s", flush=True)
    return {"pick": picks, "level": level, "latents": np.concatenate(found)}


class Estimates:
    """Estimated latents with the painting that was meant, the photo and the face, cropped to the latents' grid."""

    def __init__(self, examples: Examples, table: dict[str, np.ndarray]) -> None:
        self.examples = examples
        self.pick, self.level, self.latents = table["pick"], table["level"], table["latents"]

    def jpeg(self, row: int) -> np.ndarray:
        path = self.examples.folder / f"{self.examples.names[row]}.jpg"
        return cv2.imread(str(path))[:, :, ::-1]

    def draw(self, rng: np.random.Generator, size: int, cells: int) -> tuple[Tensor, ...]:
        """A batch of crops of cells x cells latents.

        Returns:
            Latents (B, 32, cells, cells), level and weight (B, 1, 1, 1), painting and photo (B, 3, S, S) with
            S = 16 cells. Some latents are the painting's own, some a photo's that is to come back as it is.
        """
        latents, levels, weights, paintings, photos = [], [], [], [], []
        for i in rng.integers(len(self.pick), size=size):
            variant, photo, _, target = self.examples.pairs[self.pick[i]]
            x, y = rng.integers(0, GRID - cells + 1, 2)
            if rng.random() < 0.6:
                x, y = self.examples.kps[variant].mean(0) / PATCH - cells / 2 + rng.uniform(-cells / 4, cells / 4, 2)
                x, y = (int(np.clip(round(v), 0, GRID - cells)) for v in (x, y))
            z, level, kind = self.latents[i].astype(np.float32), float(self.level[i]), rng.random()
            weight = level  # a weak source leaves the painting's shapes open
            if kind < CONFIG["true_share"] + CONFIG["photo_share"]:
                if kind >= CONFIG["true_share"]:
                    target, level = photo, 0.0
                z, weight = self.examples.latents[target].astype(np.float32), 1.0
                z = z + rng.uniform(0, 0.3) * z.std() * rng.standard_normal(z.shape, np.float32)
            window = np.s_[PATCH * y : PATCH * (y + cells), PATCH * x : PATCH * (x + cells)]
            latents.append(torch.from_numpy(np.ascontiguousarray(z[:, y : y + cells, x : x + cells])))
            levels.append(level)
            weights.append(weight)
            paintings.append(np.ascontiguousarray(self.jpeg(target)[window]))
            photos.append(np.ascontiguousarray(self.jpeg(photo)[window]))
        column = (torch.tensor(v).view(-1, 1, 1, 1) for v in (levels, weights))
        return torch.stack(latents), *column, to_tensor(paintings), to_tensor(photos)


def decode(vae: PatchAutoencoder, latents: Tensor, level: Tensor, photo: Tensor) -> Tensor:
    latents, level, photo = map(here, (latents, level, photo))
    with autocast():
        vae.source, vae.source_level = photo, (2 * level - 1).clamp(min=0)
        out = vae.decode(latents.contiguous(memory_format=torch.channels_last)).sample
        vae.source, vae.source_level = None, 1.0
    return out.float()


def texture_loss(output: Tensor, target: Tensor) -> Tensor:
    """How the local energy of oriented differences differs, at two scales: strokes and grain, wherever they lie.

    A small cousin of the constraints of Portilla & Simoncelli 2000, "A parametric texture model based on
    joint statistics of complex wavelet coefficients".
    """

    def energies(x: Tensor) -> list[Tensor]:
        found = []
        for _ in range(2):
            right, down = x[..., :-1, 1:] - x[..., :-1, :-1], x[..., 1:, :-1] - x[..., :-1, :-1]
            slash, back = x[..., 1:, 1:] - x[..., :-1, :-1], x[..., 1:, :-1] - x[..., :-1, 1:]
            for d in (right, down, slash, back):
                found.append((F.avg_pool2d(d.square(), 8, 4) + 1e-4).sqrt())
            x = F.avg_pool2d(x, 2)
        return found

    return torch.stack([(a - b).abs().mean() for a, b in zip(energies(output), energies(target), strict=True)]).sum()


def loss_of(vae: PatchAutoencoder, batch: tuple[Tensor, ...]) -> Tensor:
    latents, level, weight, painting, photo = map(here, batch)
    output = decode(vae, latents, level, photo)
    exact = reconstruction_loss(output, painting, weight.expand(-1, 1, *painting.shape[2:]))
    return exact + CONFIG["texture_weight"] * texture_loss(output, painting)


@torch.no_grad()
def pictures(vae: PatchAutoencoder, held_out: Estimates) -> list[np.ndarray]:
    """Decoded held-out pictures, eight of them at most."""
    found = []
    for i in range(min(8, len(held_out.pick))):
        _, photo, _, _ = held_out.examples.pairs[held_out.pick[i]]
        z, level = (
            torch.from_numpy(held_out.latents[i].astype(np.float32))[None],
            torch.tensor(float(held_out.level[i])),
        )
        out = decode(vae, z, level.view(1, 1, 1, 1), to_tensor([held_out.jpeg(photo).copy()]))[0]
        found.append(((out.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy())
    return found


def main() -> None:
    args = arguments(__doc__, CONFIG["minutes"]).parse_args()
    if (args.out / "vae-before").exists():  # always from what stage 2 trained; a checkpoint goes over it
        shutil.rmtree(args.out / "vae")
        shutil.copytree(args.out / "vae-before", args.out / "vae")
    else:
        shutil.copytree(args.out / "vae", args.out / "vae-before")
    trainer = Trainer(args.out)
    trainer.start_from(args.out / "ema.safetensors")
    digest = hashlib.sha256((args.out / "ema.safetensors").read_bytes()).hexdigest()
    path = args.out / f"estimates-{digest[:12]}.npz"
    if not path.exists():
        table = sample_estimates(trainer, trainer.train, CONFIG["estimates"], 1)
        unseen = sample_estimates(trainer, trainer.held_out, 48, 2)
        np.savez(path, **table, **{f"held_out_{k}": v for k, v in unseen.items()})
    stored = np.load(path)
    keys = ("pick", "level", "latents")
    train = Estimates(trainer.train, {k: stored[k] for k in keys})
    held_out = Estimates(trainer.held_out, {k: stored[f"held_out_{k}"] for k in keys})
    vae = trainer.vae
    earlier = pictures(vae, held_out)
    named = [(n, p) for n, p in vae.named_parameters() if n.split(".")[0] not in ("encoder", "linear_encoder")]
    for _, p in named:
        p.requires_grad_(True)
    linear = [p for n, p in named if n.startswith("linear")]
    learned = [p for n, p in named if not n.startswith("linear")]
    groups = [
        {"params": [p for p in learned if p.ndim < 2], "share": 1.0},
        {"params": linear, "share": CONFIG["linear_share"]},
    ]
    optimizers = [
        Muon([p for p in learned if p.ndim >= 2], lr=CONFIG["lr"]),
        torch.optim.AdamW(groups, lr=CONFIG["lr"], weight_decay=0.0, fused=True),
    ]
    stage = Stage(args.out / "decoder.checkpoint", args.minutes, dict(named), optimizers, args.resume)
    rng = stage.rng(ALL["seed"])
    fixed = np.random.default_rng(3)
    check = [held_out.draw(fixed, CONFIG["batch"], CONFIG["cells"]) for _ in range(4)]
    losses: list[float] = []
    while (progress := stage.progress) < 1:
        if stage.step % 200 == 0:
            with torch.no_grad():
                unseen = float(np.mean([loss_of(vae, batch).item() for batch in check]))
            row = {"step": stage.step, "seconds": int(stage.seconds), "held_out": round(unseen, 4)}
            print(json.dumps(row | {"loss": round(float(np.mean(losses[-200:] or [0])), 4)}), flush=True)
            stage.save()
        rate = float(min(1, (stage.step + 1) / 30) * (0.5 * (1 + np.cos(np.pi * progress)) * 0.97 + 0.03))
        for group in (g for o in optimizers for g in o.param_groups):
            group["lr"] = CONFIG["lr"] * group.get("share", 1.0) * rate
        loss = loss_of(vae, train.draw(rng, CONFIG["batch"], CONFIG["cells"]))
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
        stage.step += 1
    stage.save()
    vae.save_pretrained(args.out / "vae")
    rows = []
    for i, (a, b) in enumerate(zip(earlier, pictures(vae, held_out), strict=True)):
        _, photo, _, target = held_out.examples.pairs[held_out.pick[i]]
        rows.append(np.concatenate([held_out.jpeg(photo), held_out.jpeg(target), a, b], 0))
    cv2.imwrite(str(args.out / "decoder.png"), np.concatenate(rows, 1)[:, :, ::-1])


if __name__ == "__main__":
    main()
