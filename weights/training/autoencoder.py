"""Stage 2: train the autoencoder on marks and photos, half of the time with the photo in sight.

    python weights/training/autoencoder.py --out work [--minutes 28] [--resume]

Writes OUT/vae (a diffusers folder), OUT/autoencoder.csv and OUT/autoencoder.jpg (held-out people: the painter's marks
drawn, and the decoder's without and with the photo in sight). The last line gives the mean error of each map on people
that training never sees.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import cv2
import numpy as np
import torch
from device import DEVICE, autocast, here
from examples import CELLS, Index, flat_photo, relevance, to_guides, to_tensor
from muon import Muon
from proxy import from_afar
from safetensors.torch import load_file
from stage import Stage, arguments, learning_rate
from torch import Tensor
from torch.nn import functional as F

from portrait.generate.families.mini.marks.autoencoder import CELLS_PER_LATENT, MarkAutoencoder, marks_from, read_photo
from portrait.generate.families.mini.marks.layout import CELL, LAYERS, SLICES, Marks
from portrait.generate.families.mini.marks.rasterize import draw

ALL = tomllib.loads((Path(__file__).parent / "config.toml").read_text())
CONFIG = ALL["autoencoder"]

Batch = dict[str, Tensor]
GATES = slice(0, len(LAYERS))
"""Where among the values it stands which layers are used."""


def draw_batch(index: Index, rng: np.random.Generator, size: int, cells: int) -> Batch:
    """Crops of marks with their photo: maps, values, photo, guides, weight, and which of them are plain photos."""
    maps = []
    values = []
    photos = []
    guides = []
    weights = []
    plain = []
    for _ in range(size):
        target = index.targets[int(rng.integers(len(index.targets)))]
        photo = index.photo(target.row)
        weight = index.weight(target.row)
        center = index.kps[target.row].mean(0) / CELL + rng.uniform(-cells / 3, cells / 3, 2)
        if rng.random() < 0.4:
            center = rng.uniform(0, CELLS, 2)
        x, y = (int(v) for v in (np.clip(center - cells / 2, 0, CELLS - cells) // CELLS_PER_LATENT) * CELLS_PER_LATENT)
        is_photo = rng.random() < CONFIG["photo_share"]
        if is_photo:
            own_maps, own_values = flat_photo(photo)
        else:
            own_maps = index.maps(target)
            own_values = target.values
        window = np.s_[y : y + cells, x : x + cells]
        maps.append(torch.from_numpy(np.ascontiguousarray(own_maps[:, *window])))
        values.append(torch.from_numpy(np.ascontiguousarray(own_values, np.float32)))
        photos.append(np.ascontiguousarray(photo[CELL * y : CELL * (y + cells), CELL * x : CELL * (x + cells)]))
        guides.append(index.guides(target.row, rng)[:, 2 * y : 2 * (y + cells), 2 * x : 2 * (x + cells)])
        weights.append(torch.from_numpy(weight[window].copy()))
        plain.append(is_photo)
    return {
        "maps": torch.stack(maps).float() / 255,
        "values": torch.stack(values),
        "photo": to_tensor(photos),
        "guides": to_guides(guides),
        "weight": torch.stack(weights)[:, None],
        "plain": torch.tensor(plain),
    }


def maps_loss(logits: Tensor, maps: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    """Weighted L1 of the maps, and of the slopes of those that hold outlines."""
    predicted = logits.sigmoid()
    relevant = relevance(maps, values)
    full = relevant * weight
    loss = (full * (predicted - maps).abs()).mean()
    fine = slice(SLICES["shape"].start, SLICES["line"].stop)
    outlines = F.pixel_shuffle(predicted[:, fine], 2)
    wanted = F.pixel_shuffle(maps[:, fine], 2)
    large = F.interpolate(weight, scale_factor=2)
    large = large * F.pixel_shuffle(relevant[:, fine], 2).clamp(max=1)
    across = (outlines.diff(dim=3) - wanted.diff(dim=3)).abs()
    down = (outlines.diff(dim=2) - wanted.diff(dim=2)).abs()
    return loss + 0.4 * (large[..., 1:] * across).mean() + 0.4 * (large[:, :, 1:] * down).mean()


def marks_loss(logits: Tensor, value_logits: Tensor, batch: Batch) -> Tensor:
    """How far marks are from those that were meant: map by map, value by value, and in what they look like from afar."""
    predicted = from_afar(logits.sigmoid(), value_logits.sigmoid())
    wanted = from_afar(batch["maps"], batch["values"])
    weight = F.interpolate(batch["weight"], scale_factor=2)
    seen = (weight * (predicted - wanted).abs()).mean()
    # A medium is named by its layers: a wrong one is a wrong picture.
    values = 2 * (value_logits.sigmoid() - batch["values"]).abs().mean()
    values = values + 0.2 * F.binary_cross_entropy_with_logits(value_logits[:, GATES], batch["values"][:, GATES])
    return maps_loss(logits, batch["maps"], batch["values"], batch["weight"]) + values + CONFIG["afar_weight"] * seen


def decode(
    vae: MarkAutoencoder, latents: Tensor, photo: Tensor | None, guides: Tensor | None, level: Tensor | float
) -> tuple[Tensor, Tensor]:
    """Float32 logits of maps and values; a decoder that is not guided ignores the guides."""
    with autocast():
        vae.source = photo
        vae.guides = guides if vae.config.guided else None
        vae.source_level = level
        maps, values = vae.decode_marks(latents.contiguous(memory_format=torch.channels_last))
        vae.source = vae.guides = None
        vae.source_level = 1.0
    return maps.float(), values.float()


@torch.no_grad()
def validate(vae: MarkAutoencoder, index: Index, sheet: Path | None, count: int = 60) -> dict[str, float]:
    """Mean absolute error of each map where it matters, with the photo in sight; draws a sheet of eight."""
    errors: dict[str, list[float]] = {}
    columns = []
    picks = np.linspace(0, len(index.targets) - 1, count).astype(int)
    shown = set(picks[:: max(1, count // 8)][:8].tolist())
    for i in picks:
        target = index.targets[i]
        maps = torch.from_numpy(index.maps(target).copy())[None].float() / 255
        values = torch.from_numpy(target.values)[None]
        photo, guides = to_tensor([index.photo(target.row)]), to_guides([index.guides(target.row)])
        with autocast():
            latents = vae.encode_marks(here(maps), here(values)).float()
        logits, value_logits = decode(vae, latents, here(photo), here(guides), 1.0)
        error = (logits.sigmoid().cpu() - maps).abs()
        weight = relevance(maps, values)
        for name, where in SLICES.items():
            errors.setdefault(name, []).append(
                float((error[:, where] * weight[:, where]).sum() / weight[:, where].sum())
            )
        errors.setdefault("values", []).append(float((value_logits.sigmoid().cpu() - values).abs().mean()))
        if sheet is not None and int(i) in shown:
            blind, blind_values = decode(vae, latents, None, None, 1.0)
            meant = Marks(maps=maps[0].numpy(), values=values[0].numpy())
            decoded = [*marks_from(blind, blind_values), *marks_from(logits, value_logits)]
            columns.append(np.concatenate([draw(marks, 512, 1) for marks in (meant, *decoded)], 0))
    if sheet is not None:
        picture = (np.concatenate(columns, 1)[:, :, ::-1] * 255).astype(np.uint8)
        cv2.imwrite(str(sheet), picture, [cv2.IMWRITE_JPEG_QUALITY, 92])
    return {name: round(float(np.mean(v)), 4) for name, v in errors.items()}


def off_unit(latents: Tensor) -> Tensor:
    """How far the channels of latents are from mean 0 and deviation 1; photos and paintings are each held to that."""
    spread = latents.transpose(0, 1).flatten(1)
    return spread.mean(1).square().mean() + (spread.std(1) - 1).square().mean()


def start_from(named: dict[str, torch.nn.Parameter], checkpoint: Path) -> None:
    """Take the parameters of an earlier training, where names and shapes agree."""
    earlier = torch.load(checkpoint, weights_only=True, map_location=DEVICE)["tensors"]
    with torch.no_grad():
        for name, parameter in named.items():
            if name in earlier and earlier[name].shape == parameter.shape:
                parameter.copy_(earlier[name])


def grown(folder: Path) -> MarkAutoencoder:
    """The autoencoder in a folder, now guided and with all the blocks of `config.toml`.

    The new blocks change nothing yet: it computes what it did before, as long as there are no guides.
    """
    before = MarkAutoencoder.load_config(folder)
    vae = MarkAutoencoder.from_config(before, decoder_blocks=CONFIG["decoder_blocks"], guided=True)
    state = load_file(folder / "diffusion_pytorch_model.safetensors")
    starts = {"stage16": 1, "stage8": 0, "stage4": 0}  # where the blocks begin in each stage
    for (stage, start), few, many in zip(
        starts.items(), before["decoder_blocks"], CONFIG["decoder_blocks"], strict=True
    ):
        end = start + few
        for name in [n for n in state if n.startswith(f"{stage}.") and int(n.split(".")[1]) >= end]:
            number, rest = name.split(".")[1], name.split(".", 2)[2]
            state[f"{stage}.{int(number) + many - few}.{rest}"] = state.pop(name)
    vae.load_state_dict(vae.state_dict() | {name: value.float() for name, value in state.items()})
    return vae


def loss_of(vae: MarkAutoencoder, batch: Batch, level: Tensor) -> Tensor:
    """Marks that are decoded from noisy latents against the painter's; the latents themselves are kept near unit size."""
    # A photo is encoded as the product encodes it, and comes back as a sheet in its colors.
    plain = batch["plain"].view(-1, 1, 1, 1)
    inputs = torch.where(plain, read_photo(batch["photo"]), batch["maps"])
    with autocast():
        latents = vae.encode_marks(inputs, batch["values"]).float()
    amount = CONFIG["latent_noise"] * torch.rand(len(latents), 1, 1, 1, device=DEVICE)
    noisy = latents + amount * torch.randn_like(latents)
    logits, value_logits = decode(vae, noisy, batch["photo"], batch["guides"], level)
    parts = (latents[batch["plain"]], latents[~batch["plain"]])
    unit = torch.stack([off_unit(part) for part in parts if len(part)])
    return marks_loss(logits, value_logits, batch) + CONFIG["unit_weight"] * unit.sum()


def main() -> None:
    parser = arguments(__doc__, CONFIG["minutes"])
    parser.add_argument("--init", type=Path, help="an earlier checkpoint to start from, where shapes agree")
    parser.add_argument("--from-progress", type=float, default=0.0, help="where on the schedule the stage starts")
    parser.add_argument("--validate", action="store_true", help="only measure OUT/vae on the held-out people")
    args = parser.parse_args()
    held_out = Index(args.out, True)
    if args.validate:
        vae = MarkAutoencoder.from_pretrained(args.out / "vae").to(DEVICE)
        print("held out:", json.dumps(validate(vae, held_out, args.out / "autoencoder.jpg")))
        return
    torch.manual_seed(ALL["seed"])
    train = Index(args.out, False)
    vae = MarkAutoencoder(decoder_blocks=CONFIG["decoder_blocks"], guided=True).to(
        DEVICE, memory_format=torch.channels_last
    )
    parameters = list(vae.parameters())
    print(f"{sum(p.numel() for p in parameters) / 1e6:.2f} M parameters, {len(train.targets)} paintings", flush=True)
    optimizers = [
        Muon([p for p in parameters if p.ndim >= 2], lr=CONFIG["lr"]),
        torch.optim.AdamW(
            [p for p in parameters if p.ndim < 2], lr=CONFIG["lr"], betas=(0.9, 0.98), weight_decay=0.0, fused=True
        ),
    ]
    log = (args.out / "autoencoder.csv").open("a" if args.resume else "w")
    named = dict(vae.named_parameters())
    if args.init:
        start_from(named, args.init)
    stage = Stage(args.out / "autoencoder.checkpoint", args.minutes, named, optimizers, args.resume)
    rng = stage.rng(ALL["seed"])
    losses: list[float] = []
    while (progress := stage.progress) < 1:
        rate = learning_rate(stage.step, args.from_progress + (1 - args.from_progress) * progress)
        for group in (g for o in optimizers for g in o.param_groups):
            group["lr"] = CONFIG["lr"] * rate
        batch = {name: here(v) for name, v in draw_batch(train, rng, CONFIG["batch"], CONFIG["cells"]).items()}
        count = len(batch["maps"])
        level = rng.random(count) * (rng.random(count) < 0.7)
        level = np.where(rng.random(count) < 0.6, np.ceil(level), level)  # mostly in full sight, or out of it
        level[batch["plain"].cpu().numpy()] = 0  # a photo may not look at itself
        loss = loss_of(vae, batch, here(torch.from_numpy(level).float().view(-1, 1, 1, 1)))
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
        stage.step += 1
        if stage.step % 50 == 0:
            print(
                json.dumps(
                    {"step": stage.step, "seconds": int(stage.seconds), "loss": round(float(np.mean(losses[-50:])), 4)}
                ),
                flush=True,
            )
        if stage.step % 400 == 0 or stage.step == 100:
            scores = validate(vae, held_out, args.out / "autoencoder.jpg")
            row = {
                "step": stage.step,
                "seconds": int(stage.seconds),
                "loss": round(float(np.mean(losses[-100:])), 4),
                **scores,
            }
            print(json.dumps(row), flush=True)
            log.write(json.dumps(row) + "\n")
            log.flush()
            stage.save()
    stage.save()
    vae.save_pretrained(args.out / "vae")
    print("held out:", json.dumps(validate(vae, held_out, args.out / "autoencoder.jpg")))


if __name__ == "__main__":
    main()
