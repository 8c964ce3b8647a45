"""Stage 5: the identity adapter alone, where it has something to do.

    python weights/training/adapter.py --out work [--minutes 12]

Everything but the FaceID projection and its attention weights is frozen, so styles and structure stay as
they are. Sources are covered as the product covers them, mostly where marks are bold; a few show the face that a morph
replaced, covered more. Most times are noisy, and ArcFace judges each estimate, decoded as the product would. Reads and writes
OUT/ema.safetensors (the earlier one is kept as OUT/ema-before.safetensors); prints the likeness of sampled
pictures of people that training never sees, with their own embedding, another's, and the adapter off.
"""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import torch
from denoiser import CONFIG as DENOISER
from denoiser import Trainer, level_of
from device import here
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from muon import Muon
from recognizer import alignment_grid
from safetensors.torch import save_file
from stage import Stage, arguments, learning_rate
from text import draw_prompt
from torch.nn import functional as F

from portrait.generate.families.mini.structure import detail_of, noise_augment, signal_of

ALL = tomllib.loads((Path(__file__).parent / "config.toml").read_text())
CONFIG = ALL["adapter"]


def draw(trainer: Trainer) -> dict:
    """A batch of sources as the product covers them, mostly at bold levels; some show the face that the morph replaced."""
    rng, size = trainer.rng, CONFIG["batch"]
    morph = rng.random(size) < CONFIG["morphs"]
    pairs = trainer.train
    picks = np.where(morph, rng.choice(pairs.morphs, size), rng.integers(len(pairs.pairs), size=size))
    bold = np.flatnonzero(level_of(pairs.bold) <= CONFIG["levels"][1])
    picks = np.where(level_of(pairs.bold[picks]) <= CONFIG["levels"][1], picks, rng.choice(bold, size))
    morph = pairs.index.morph[[pairs.pairs[i].row for i in picks]]
    exchange = morph & (rng.random(size) < CONFIG["exchange"])
    batch = pairs.get(picks.tolist(), exchange)
    tied = np.clip(level_of(pairs.bold[picks]) + rng.uniform(-0.1, 0.05, size), *CONFIG["levels"]).astype(np.float32)
    level = torch.from_numpy(tied)[:, None, None, None]
    shown = torch.where(torch.from_numpy(exchange)[:, None, None, None], level, signal_of(level))
    batch["source"] = noise_augment(batch["source"], shown, torch.randn_like(batch["source"]))
    batch["level"] = level.expand(-1, 1, *batch["source"].shape[2:])
    batch["detail"] = detail_of(level) * torch.from_numpy(~exchange)[:, None, None, None]
    batch["prompts"] = [draw_prompt(s, p, rng) for s, p in zip(batch["styles"], batch["palettes"], strict=True)]
    batch["has_id"], batch["weak"], batch["exchange"] = np.ones(size, bool), np.ones(size, bool), exchange
    batch["t"] = torch.from_numpy((999 - 700 * rng.random(size) ** 2.5).astype(np.int64))
    batch["noise"] = torch.randn_like(batch["target"])
    return batch


@torch.no_grad()
def likeness(trainer: Trainer, count: int = 18, level: float = 0.5) -> dict[str, float]:
    """Mean ArcFace of sampled held-out people to themselves: own embedding, another person's, adapter off."""
    pairs = trainer.held_out
    batch = pairs.get([i * (len(pairs.pairs) // count) for i in range(count)])
    own = batch["embedding"]
    means = {}
    processors = [p for p in trainer.unet.attn_processors.values() if isinstance(p, IPAdapterAttnProcessor2_0)]
    for name, embedding, scale in (("own", own, 1.0), ("swapped", own.roll(count // 2, 0), 1.0), ("off", own, 0.0)):
        for processor in processors:
            processor.scale = [scale]
        batch["embedding"] = embedding
        scores = []
        for start in range(0, count, 6):
            part = {k: v[start : start + 6] for k, v in batch.items()}
            levels = torch.full((len(part["source"]), 1, 1, 1), level)
            z = trainer.denoise(part, levels, torch.Generator().manual_seed(start))
            pictures = trainer.decode_held_out(z, part["photos"], level)
            grid = here(alignment_grid(part["kps"], 512))
            embedded = trainer.recognizer(F.grid_sample(pictures, grid, align_corners=False))
            scores.append((embedded.cpu() * own[start : start + 6]).sum(1))
        means[name] = round(float(torch.cat(scores).mean()), 4)
    for processor in processors:
        processor.scale = [1.0]
    return means


def main() -> None:
    args = arguments(__doc__, CONFIG["minutes"]).parse_args()
    before, after = args.out / "ema-before.safetensors", args.out / "ema.safetensors"
    if not before.exists():
        shutil.copyfile(after, before)
    DENOISER["identity_batch"] = CONFIG["batch"]
    trainer = Trainer(args.out)
    trainer.start_from(before)
    named = {n: p for n, p in trainer.named.items() if "_ip." in n or "encoder_hid_proj" in n}
    for parameter in trainer.named.values():
        parameter.requires_grad_(False)
    for parameter in named.values():
        parameter.requires_grad_(True)
    optimizers = [
        Muon([p for p in named.values() if p.ndim >= 2], lr=CONFIG["lr"]),
        torch.optim.AdamW([p for p in named.values() if p.ndim < 2], lr=CONFIG["lr"], weight_decay=0.0),
    ]
    print(f"{sum(p.numel() for p in named.values()) / 1e6:.2f} M parameters", json.dumps(likeness(trainer)), flush=True)
    stage = Stage(args.out / "adapter.checkpoint", args.minutes, named, optimizers, args.resume)
    trainer.rng = stage.rng(ALL["seed"])
    history: list[tuple[float, float]] = []
    while (progress := stage.progress) < 1:
        rate = learning_rate(stage.step, progress, warmup=20)
        for group in (g for o in optimizers for g in o.param_groups):
            group["lr"] = CONFIG["lr"] * rate
        denoising, distance = trainer.losses(draw(trainer), True)
        for optimizer in optimizers:
            optimizer.zero_grad()
        (denoising + CONFIG["identity_weight"] * distance).backward()
        for optimizer in optimizers:
            optimizer.step()
        history.append((denoising.item(), distance.item()))
        stage.step += 1
        if stage.step % 100 == 0:
            stage.save()
            mean = np.mean(history[-100:], axis=0).round(4).tolist()
            row = {"step": stage.step, "seconds": int(stage.seconds), "loss": mean[0], "identity": mean[1]}
            print(json.dumps(row | (likeness(trainer) if stage.step % 200 == 0 else {})), flush=True)
    weights = trainer.ema | {n: p.detach() for n, p in named.items()}
    save_file({k: v.contiguous() for k, v in weights.items()}, args.out / "ema.partial")
    (args.out / "ema.partial").rename(after)
    print("final", json.dumps(likeness(trainer)))


if __name__ == "__main__":
    main()
