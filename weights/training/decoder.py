"""Stage 4: let the decoder learn the denoiser's own latents.

    python weights/training/decoder.py --out work [--minutes 18] [--init weights/mini]

The denoiser's few steps leave its latents smoother than a painter's. Here the decoder, which sees the photo beside
them, learns to ask for the painter's marks from what it will really get: latents sampled as the product samples
them, each at the structure that its coarseness comes with. The encoder and so the latents stay as they are.

Writes OUT/estimates-DIGEST.npz once per denoiser, OUT/vae (the earlier one is kept as OUT/vae-before) and OUT/decoder.jpg
(rows: a held-out photo, its painter's marks, drawn from estimates before and after). With --init it starts from the decoder
and the denoiser of an exported chain, whose encoder then makes the latents: new paintings are learned without stages 2 and 3.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import tomllib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from autoencoder import decode, marks_loss
from denoiser import GRID, Examples, Trainer, level_of, unpack
from device import here
from examples import flat_photo, to_guides, to_tensor
from muon import Muon
from stage import Stage, arguments, learning_rate
from torch import Tensor

from portrait.generate.families.mini.marks.autoencoder import CELLS_PER_LATENT, MarkAutoencoder, marks_from
from portrait.generate.families.mini.marks.layout import CELL, Marks
from portrait.generate.families.mini.marks.rasterize import draw
from portrait.generate.families.mini.structure import detail_of

ALL = tomllib.loads((Path(__file__).parent / "config.toml").read_text())
CONFIG = ALL["decoder"]


def sample_estimates(trainer: Trainer, examples: Examples, count: int, seed: int) -> dict[str, np.ndarray]:
    """Latents as the product samples them: pick (N,), level (N,), latents (N, 32, 32, 32) float16."""
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    picks = rng.choice(len(examples.pairs), min(count, len(examples.pairs)), replace=False)
    level = np.clip(level_of(examples.bold[picks]) + rng.uniform(-0.05, 0.05, len(picks)), 0, 1).astype(np.float32)
    chunks = []
    start = time.time()
    for i in range(0, len(picks), 12):
        batch = examples.get(picks[i : i + 12].tolist())
        levels = torch.from_numpy(level[i : i + 12])[:, None, None, None]
        guidance = float(rng.uniform(*CONFIG["guidance"]))
        chunks.append(trainer.denoise(batch, levels, generator, guidance=guidance).half().cpu().numpy())
        if i % 120 == 0:
            print(f"sampled {i}/{len(picks)}, {time.time() - start:.0f} s", flush=True)
    return {"pick": picks, "level": level, "latents": np.concatenate(chunks)}


class Estimates:
    """Estimated latents with the marks that were meant, the photo, its guides and the face, cropped to the latents' grid."""

    def __init__(self, examples: Examples, table: dict[str, np.ndarray]) -> None:
        self.examples = examples
        self.pick = table["pick"]
        self.level = table["level"]
        self.latents = table["latents"]

    def draw(self, rng: np.random.Generator, size: int, cells: int) -> dict[str, Tensor]:
        """A batch of crops of cells x cells latents. Some are the painter's own, some a photo's that is to come back."""
        index = self.examples.index
        columns: dict[str, list[Tensor]] = {}
        photos = []
        for i in rng.integers(len(self.pick), size=size):
            target = self.examples.pairs[self.pick[i]]
            x, y = rng.integers(0, GRID - cells + 1, 2)
            if rng.random() < 0.6:
                center = index.kps[target.row].mean(0) / 16 - cells / 2 + rng.uniform(-cells / 4, cells / 4, 2)
                x, y = (int(np.clip(round(v), 0, GRID - cells)) for v in center)
            latent = self.latents[i].astype(np.float32)
            level = float(self.level[i])
            maps = index.maps(target)
            values = target.values
            photo = index.photo(target.row)
            kind = rng.random()
            if kind < CONFIG["true_share"] + CONFIG["photo_share"]:
                if kind < CONFIG["true_share"]:
                    latent = self.examples.latent(target.row, target.style).astype(np.float32)
                else:
                    latent = self.examples.latent(target.row, "photo").astype(np.float32)
                    maps, values = flat_photo(photo)
                    level = 0.0
                latent = latent + rng.uniform(0, 0.3) * rng.standard_normal(latent.shape, np.float32)
            fine = CELLS_PER_LATENT
            window = np.s_[fine * y : fine * (y + cells), fine * x : fine * (x + cells)]
            finer = np.s_[2 * fine * y : 2 * fine * (y + cells), 2 * fine * x : 2 * fine * (x + cells)]
            row = {
                "latents": torch.from_numpy(np.ascontiguousarray(latent[:, y : y + cells, x : x + cells])),
                "level": torch.tensor([[[detail_of(level)]]]),
                "maps": torch.from_numpy(np.ascontiguousarray(maps[:, *window])).float() / 255,
                "values": torch.from_numpy(np.ascontiguousarray(values, np.float32)),
                "guides": to_guides([index.guides(target.row, rng)[:, *finer]])[0],
                "weight": torch.from_numpy(index.weight(target.row)[window].copy())[None],
            }
            for name, value in row.items():
                columns.setdefault(name, []).append(value)
            side = CELL * CELLS_PER_LATENT
            photos.append(np.ascontiguousarray(photo[side * y : side * (y + cells), side * x : side * (x + cells)]))
        return {name: torch.stack(v) for name, v in columns.items()} | {"photo": to_tensor(photos)}


def loss_of(vae: MarkAutoencoder, batch: dict[str, Tensor]) -> Tensor:
    batch = {name: here(v) for name, v in batch.items()}
    logits, values = decode(vae, batch["latents"], batch["photo"], batch["guides"], batch["level"])
    return marks_loss(logits, values, batch)


@torch.no_grad()
def pictures(vae: MarkAutoencoder, held_out: Estimates) -> list[np.ndarray]:
    """Held-out pictures drawn from estimates, eight of them at most."""
    drawn = []
    for i in range(min(8, len(held_out.pick))):
        target = held_out.examples.pairs[held_out.pick[i]]
        latents = here(torch.from_numpy(held_out.latents[i].astype(np.float32))[None])
        index = held_out.examples.index
        photo, guides = here(to_tensor([index.photo(target.row)])), here(to_guides([index.guides(target.row)]))
        maps, values = decode(vae, latents, photo, guides, detail_of(float(held_out.level[i])))
        (marks,) = marks_from(maps, values)
        drawn.append((draw(marks, 512, i) * 255).astype(np.uint8))
    return drawn


def comparison(held_out: Estimates, earlier: list[np.ndarray], later: list[np.ndarray]) -> np.ndarray:
    """(H, W, 3) uint8, RGB. Rows: photo, the painter's marks, drawn from estimates before and after; a column each."""
    columns = []
    for i, (before, after) in enumerate(zip(earlier, later, strict=True)):
        target = held_out.examples.pairs[held_out.pick[i]]
        index = held_out.examples.index
        marks = Marks(maps=index.maps(target).astype(np.float32) / np.float32(255), values=target.values)
        meant = (draw(marks, 512, i) * 255).astype(np.uint8)
        columns.append(np.concatenate([index.photo(target.row), meant, before, after], 0))
    return np.concatenate(columns, 1)


def set_out(out: Path, init: Path | None) -> Trainer:
    """The denoiser with the decoder of stage 2, or both of an exported chain; a checkpoint goes over the decoder."""
    if init:
        shutil.copyfile(unpack(init, out), out / "ema.safetensors")
        shutil.rmtree(out / "vae-before", ignore_errors=True)
    if (out / "vae-before").exists():
        shutil.rmtree(out / "vae")
        shutil.copytree(out / "vae-before", out / "vae")
    else:
        shutil.copytree(out / "vae", out / "vae-before")
    trainer = Trainer(out)
    trainer.start_from(out / "ema.safetensors")
    return trainer


def all_estimates(trainer: Trainer) -> tuple[Estimates, Estimates]:
    """Those of training people and of held-out ones, sampled once per denoiser."""
    digest = hashlib.sha256((trainer.out / "ema.safetensors").read_bytes()).hexdigest()
    path = trainer.out / f"estimates-{digest[:12]}.npz"
    if not path.exists():
        table = sample_estimates(trainer, trainer.train, CONFIG["estimates"], 1)
        unseen = sample_estimates(trainer, trainer.held_out, 48, 2)
        estimates: dict[str, Any] = table | {f"held_out_{k}": v for k, v in unseen.items()}
        np.savez(path, **estimates)
    stored = np.load(path)
    keys = ("pick", "level", "latents")
    train = Estimates(trainer.train, {k: stored[k] for k in keys})
    return train, Estimates(trainer.held_out, {k: stored[f"held_out_{k}"] for k in keys})


def main() -> None:
    parser = arguments(__doc__, CONFIG["minutes"])
    parser.add_argument("--init", type=Path, help="an exported chain to start from, in place of stages 2 and 3")
    args = parser.parse_args()
    if args.init and (args.resume or (args.out / "latents.npy").exists()):
        parser.error("--init CHAIN brings its own autoencoder: OUT may hold no latents.npy of another, and no --resume")
    trainer = set_out(args.out, args.init)
    train, held_out = all_estimates(trainer)
    vae = trainer.vae
    earlier = pictures(vae, held_out)
    named = [(n, p) for n, p in vae.named_parameters() if not n.startswith("encoder")]
    for _, p in named:
        p.requires_grad_(True)
    optimizers = [
        Muon([p for _, p in named if p.ndim >= 2], lr=CONFIG["lr"]),
        torch.optim.AdamW([p for _, p in named if p.ndim < 2], lr=CONFIG["lr"], weight_decay=0.0, fused=True),
    ]
    stage = Stage(args.out / "decoder.checkpoint", args.minutes, dict(named), optimizers, args.resume)
    rng = stage.rng(ALL["seed"])
    fixed = np.random.default_rng(3)
    check = [held_out.draw(fixed, CONFIG["batch"], CONFIG["cells"]) for _ in range(6)]
    losses: list[float] = []
    while (progress := stage.progress) < 1:
        if stage.step % 200 == 0:
            with torch.no_grad():
                check_loss = float(np.mean([loss_of(vae, batch).item() for batch in check]))
            row = {"step": stage.step, "seconds": int(stage.seconds), "held_out": round(check_loss, 4)}
            print(json.dumps(row | {"loss": round(float(np.mean(losses[-200:] or [0])), 4)}), flush=True)
            stage.save()
        rate = learning_rate(stage.step, progress, warmup=30)
        for group in (g for o in optimizers for g in o.param_groups):
            group["lr"] = CONFIG["lr"] * rate
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
    cv2.imwrite(str(args.out / "decoder.jpg"), comparison(held_out, earlier, pictures(vae, held_out))[:, :, ::-1])


if __name__ == "__main__":
    main()
