"""Stage 3: train the denoiser, its text encoder and its FaceID adapter together.

    python weights/training/denoiser.py --out work [--minutes 65] [--resume]

Reads OUT/vae and what stage 1 wrote; writes OUT/latents.npy once, then OUT/denoiser.checkpoint (to resume),
OUT/ema.safetensors (what export.py takes), OUT/denoiser.csv and sample sheets OUT/samples.jpg of people
that training never sees.

The coarseness of a target is tied to how much of the source is seen: bold marks come with a source that is partly
covered with noise, fine marks with one in full sight. So one dial means both.

The source is covered with noise in most samples: otherwise its pixels carry the identity and the
adapter learns nothing. Where it is covered heavily, morphs often come with the face they replaced as
their source, so that only the embedding tells whose face is wanted. In the second part a frozen ArcFace
judges the decoded estimate.
"""

from __future__ import annotations

import json
import time
import tomllib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from autoencoder import grown
from device import DEVICE, autocast, here
from diffusers import DDIMScheduler
from diffusers.models.attention_processor import AttnProcessor2_0, IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import IPAdapterFaceIDImageProjection, MultiIPAdapterImageProjection
from examples import Index, Target, to_guides, to_tensor
from muon import Muon
from proxy import from_afar
from recognizer import OnnxRecognizer, alignment_grid
from safetensors.torch import load_file, save_file
from stage import Stage, arguments, learning_rate
from text import LENGTH, PROMPTS, WIDTH, all_prompts, build_text_encoder, build_tokenizer, draw_prompt, name_palette
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTokenizer

from portrait.faces.insightface_analyzer import find_pack
from portrait.generate.families.mini.marks.autoencoder import MarkAutoencoder
from portrait.generate.families.mini.structure import NOISE_SCHEDULE, MarkUNet, detail_of, noise_augment, signal_of

ALL = tomllib.loads((Path(__file__).parent / "config.toml").read_text())
CONFIG = ALL["denoiser"]
STYLES = list(PROMPTS)
CHANNELS = (80, 144, 208)
LATENT, GRID, ID_TOKENS = 32, 32, 4
OUTER = ("conv_in", "conv_out", "embeddings", "time_embedding")  # left to AdamW, as Muon's authors advise


def build_unet() -> MarkUNet:
    """A v-prediction UNet over 32 x 32 x 32 latents with a FaceID adapter, as diffusers would load it."""
    unet = MarkUNet(
        sample_size=GRID,
        in_channels=2 * LATENT + 1,
        out_channels=LATENT,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
        addition_embed_type="text",  # the style reaches every block with the time embedding: far faster to learn
        addition_embed_type_num_heads=4,
    )
    projection = IPAdapterFaceIDImageProjection(
        image_embed_dim=512, cross_attention_dim=WIDTH, mult=2, num_tokens=ID_TOKENS
    )
    unet.encoder_hid_proj = MultiIPAdapterImageProjection([projection])
    unet.config.encoder_hid_dim_type = "ip_image_proj"
    processors: dict[str, nn.Module] = {}
    for name in unet.attn_processors:
        if name.endswith("attn1.processor"):
            processors[name] = AttnProcessor2_0()
            continue
        block = int(name.split(".")[1]) if not name.startswith("mid") else -1
        width = CHANNELS[block] if name.startswith("down") else CHANNELS[::-1][block]
        width = CHANNELS[-1] if name.startswith("mid") else width
        processors[name] = IPAdapterAttnProcessor2_0(
            hidden_size=width, cross_attention_dim=WIDTH, scale=1.0, num_tokens=(ID_TOKENS,)
        )
    unet.set_attn_processor(processors)
    return unet


def adapter_state(unet: MarkUNet) -> dict[str, torch.Tensor]:
    """The FaceID part of a trained unet, under the keys of the original IP-Adapter repository."""
    projection = unet.encoder_hid_proj.image_projection_layers[0].state_dict()
    names = {"ff.net.0.proj": "proj.0", "ff.net.2": "proj.2", "norm": "norm"}
    state = {}
    for key, value in projection.items():
        module, leaf = key.rsplit(".", 1)
        state[f"image_proj.{names[module]}.{leaf}"] = value
    for i, processor in enumerate(unet.attn_processors.values()):
        if hasattr(processor, "to_k_ip"):
            state[f"ip_adapter.{i}.to_k_ip.weight"] = processor.to_k_ip[0].weight
            state[f"ip_adapter.{i}.to_v_ip.weight"] = processor.to_v_ip[0].weight
    return state


def build_scheduler() -> DDIMScheduler:
    """v-prediction with zero terminal SNR and trailing steps (Lin et al. 2024, arXiv 2305.08891)."""
    return DDIMScheduler(
        **NOISE_SCHEDULE,
        prediction_type="v_prediction",
        clip_sample=False,
        timestep_spacing="trailing",
        set_alpha_to_one=True,
    )


def level_of(coarse: np.ndarray) -> np.ndarray:
    """How much of the source is seen with marks of this coarseness: 1 for the finest, `bold_level` for the boldest."""
    return 1 - (1 - CONFIG["bold_level"]) * coarse


class Examples:
    """Latents of photos and of their paintings, with embeddings and faces, by person set."""

    def __init__(self, out: Path, vae: MarkAutoencoder, validation: bool) -> None:
        self.index = Index(out, validation)
        everybody = [Index(out, False), Index(out, True)] if not (out / "latents.npy").exists() else []
        if everybody:
            encode_all(out, vae, everybody)
        table = json.loads((out / "latents.json").read_text())
        self.place = {name: row for row, name in enumerate(table)}
        self.latents = np.load(out / "latents.npy", mmap_mode="r")
        self.pairs: list[Target] = self.index.targets
        self.morphs = np.array([i for i, t in enumerate(self.pairs) if self.index.morph[t.row]], int)
        self.bold = np.array([t.coarse for t in self.pairs])

    def latent(self, row: int, kind: str) -> np.ndarray:
        return self.latents[self.place[f"{row}-{kind}"]]

    def get(self, picks: list[int], exchange: np.ndarray | None = None) -> dict[str, Any]:
        """The pairs `picks`; where `exchange` (bool, for morphs alone), the source shows the face that was replaced."""
        targets = [self.pairs[i] for i in picks]
        rows = [t.row for t in targets]
        kinds = ["own" if exchange is not None and exchange[k] else "photo" for k in range(len(picks))]
        sources = np.stack([self.latent(row, kind) for row, kind in zip(rows, kinds, strict=True)])
        paintings = np.stack([self.latent(t.row, t.style) for t in targets])
        inside = np.zeros((len(picks), 1, GRID, GRID), np.float32)
        for k, row in enumerate(rows):
            x1, y1, x2, y2 = (np.clip(self.index.bbox[row] / 512, 0, 1) * GRID).round().astype(int)
            inside[k, 0, y1:y2, x1:x2] = 1
        weights = [cv2.resize(self.index.weight(row), (GRID, GRID), interpolation=cv2.INTER_AREA) for row in rows]
        return {
            "source": torch.from_numpy(sources.astype(np.float32)),
            "target": torch.from_numpy(paintings.astype(np.float32)),
            "embedding": torch.from_numpy(self.index.embedding[rows]),
            "kps": self.index.kps[rows],
            "face": torch.from_numpy(inside),
            "weight": torch.from_numpy(np.stack(weights)[:, None]),
            "styles": [t.style for t in targets],
            "palettes": [t.palette for t in targets],
            "coarse": np.array([t.coarse for t in targets], np.float32),
            "photos": rows,
        }

    def pictures(self, rows: list[int]) -> Tensor:
        """(B, 3, 512, 512) photos in [-1, 1], for the decoder's skip connections."""
        return to_tensor([self.index.photo(row) for row in rows])

    def guides(self, rows: list[int]) -> Tensor:
        """(B, len(GUIDES), 256, 256) in [0, 1], shown with the photos."""
        return to_guides([self.index.guides(row) for row in rows])


@torch.no_grad()
def encode_all(out: Path, vae: MarkAutoencoder, people: list[Index]) -> None:
    """Encode every photo and painting once: OUT/latents.npy, (N, 32, 32, 32) float16, and their names beside it."""
    start = time.time()
    names: list[str] = []
    chunks: list[np.ndarray] = []
    for index in people:
        paintings: dict[int, list[Target]] = {}
        for target in index.targets:
            paintings.setdefault(target.row, []).append(target)
        for row, targets in paintings.items():
            kinds = ["photo", "own"] if index.morph[row] else ["photo"]
            photos = here(to_tensor([index.photo(row, kind) for kind in kinds]))
            maps = here(torch.from_numpy(np.stack([index.maps(t) for t in targets])).float() / 255)
            values = here(torch.from_numpy(np.stack([t.values for t in targets])))
            with autocast():
                encoded = vae.encode(photos)
                assert not isinstance(encoded, tuple)  # it is one on demand alone
                chunks.append(encoded.latents.half().cpu().numpy())
                chunks.append(vae.encode_marks(maps, values).half().cpu().numpy())
            names += [f"{row}-{kind}" for kind in kinds] + [f"{row}-{t.style}" for t in targets]
            if len(names) % 500 < len(kinds) + len(targets):
                print(f"encoded {len(names)}, {time.time() - start:.0f} s", flush=True)
    (out / "latents.json").write_text(json.dumps(names))
    np.save(out / "latents.partial.npy", np.concatenate(chunks))
    (out / "latents.partial.npy").rename(out / "latents.npy")


class Trainer:
    """The denoiser, its text encoder and their moving averages, with what trains, checks and samples them."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.rng = np.random.default_rng(ALL["seed"])
        torch.manual_seed(ALL["seed"])
        self.vae = MarkAutoencoder.from_pretrained(out / "vae").eval().requires_grad_(False)
        self.vae.to(DEVICE, memory_format=torch.channels_last)
        self.train, self.held_out = Examples(out, self.vae, False), Examples(out, self.vae, True)
        self.tokenizer = build_tokenizer(out / "tokenizer")
        self.text = build_text_encoder(self.tokenizer).to(DEVICE)
        self.unet = build_unet().to(DEVICE, memory_format=torch.channels_last)
        self.scheduler = build_scheduler()
        self.alphas = here(self.scheduler.alphas_cumprod)
        self.recognizer = OnnxRecognizer(find_pack() / "w600k_mbf.onnx", DEVICE)
        self.prompts = ["", *all_prompts()]
        tokens = self.tokenizer(
            self.prompts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
        ).input_ids
        self.tokens = here(tokens)
        self.named = {f"unet.{n}": p for n, p in self.unet.named_parameters()}
        self.named |= {f"text.{n}": p for n, p in self.text.named_parameters()}
        self.ema = {n: p.detach().clone() for n, p in self.named.items()}
        inner = [n for n, p in self.named.items() if p.ndim >= 2 and not any(k in n for k in OUTER)]
        self.optimizers = [
            Muon([self.named[n] for n in inner], lr=CONFIG["lr"], steps=4),
            torch.optim.AdamW(
                [p for n, p in self.named.items() if n not in inner],
                lr=CONFIG["lr"],
                betas=(0.9, 0.98),
                weight_decay=1e-3,
                fused=True,
            ),
        ]

    def predict(
        self, x: Tensor, source: Tensor, level: Tensor, t: Tensor, prompts: list[str], embedding: Tensor
    ) -> Tensor:
        """The predicted v, float32, on `DEVICE`; the arguments may lie anywhere."""
        x, source, level, t, embedding = map(here, (x, source, level, t, embedding))
        with autocast():
            table = self.text(self.tokens).last_hidden_state
            text = table[[self.prompts.index(p) for p in prompts]]
            self.unet.source, self.unet.level = source, level
            v = self.unet(
                x, t, encoder_hidden_states=text, added_cond_kwargs={"image_embeds": [embedding[:, None]]}
            ).sample
        return v.float()

    def draw(self) -> dict:
        """One training batch with everything random in it."""
        rng = self.rng
        size = CONFIG["batch"]
        picks = rng.integers(len(self.train.pairs), size=size)
        morph = rng.random(size) < CONFIG["morph_share"]
        picks = np.where(morph, rng.choice(self.train.morphs, size), picks)
        bold = self.train.bold[picks]
        # Where the source is covered heavily, morphs often show the face that was replaced in its place.
        exchange = morph & (rng.random(size) < CONFIG["exchange"] * np.clip(2 * bold, 0, 1))
        batch = self.train.get(picks.tolist(), exchange)
        level = np.clip(level_of(bold) + rng.uniform(-0.06, 0.06, size), 0, 1)
        level[rng.random(size) < CONFIG["drop_structure"]] = 0
        weak = level < CONFIG["weak_level"]
        drop = rng.random(size)
        no_text = drop < 0.10
        no_id = ((drop < 0.07) | ((drop > 0.10) & (drop < 0.14))) & ~exchange
        batch["prompts"] = [
            "" if without else draw_prompt(style, palette, rng)
            for style, palette, without in zip(batch["styles"], batch["palettes"], no_text, strict=True)
        ]
        batch["embedding"] = batch["embedding"] * torch.from_numpy(~no_id).float()[:, None]
        level = torch.from_numpy(level.astype(np.float32))[:, None, None, None]
        only_face = (
            torch.from_numpy(rng.random(size) < CONFIG["only_face"]).float()[:, None, None, None]
            * batch["face"].clone()
        )
        only_face = torch.where(only_face.amax((1, 2, 3), keepdim=True) > 0, only_face, torch.ones(()))
        level_map = 1 - only_face * (1 - level)
        # As the product draws, more is shown than is told; an exchanged face stays covered.
        covered = torch.from_numpy(exchange | (rng.random(size) < CONFIG["shown_as_told"]))[:, None, None, None]
        shown = torch.where(covered, level_map, signal_of(level_map))
        batch["source"] = noise_augment(batch["source"], shown, torch.randn_like(batch["source"]))
        batch["level"] = level_map
        batch["detail"] = detail_of(level) * torch.from_numpy(~exchange)[:, None, None, None]
        batch["has_id"], batch["weak"], batch["exchange"] = ~no_id, weak, exchange
        # Few steps are taken, the first ones decide, and the decoder brings the detail: noisy times count most.
        batch["t"] = torch.from_numpy((999 - (999 - CONFIG["least_t"]) * rng.random(size) ** 2).astype(np.int64))
        batch["noise"] = torch.randn_like(batch["target"])
        return batch

    def losses(self, batch: dict, identity: bool) -> tuple[Tensor, Tensor]:
        batch = {name: here(v) if isinstance(v, Tensor) else v for name, v in batch.items()}
        alpha = self.alphas[batch["t"]][:, None, None, None]
        a, s = alpha.sqrt(), (1 - alpha).sqrt()
        x = a * batch["target"] + s * batch["noise"]
        v = a * batch["noise"] - s * batch["target"]
        out = self.predict(x, batch["source"], batch["level"], batch["t"], batch["prompts"], batch["embedding"])
        weight = batch["weight"] / batch["weight"].mean()
        denoising = (weight * (out - v).square()).mean()
        if not identity:
            return denoising, torch.zeros((), device=DEVICE)
        batch["detail"] = batch["detail"].float()
        eyes = np.linalg.norm(batch["kps"][:, 1] - batch["kps"][:, 0], axis=1)
        fits = batch["has_id"] & (eyes < 90)
        picks = np.flatnonzero(fits)
        first = 2 * batch["exchange"][picks] + batch["weak"][picks]  # where the embedding has most to say
        picks = picks[np.argsort(-first, kind="stable")][: CONFIG["identity_batch"]]
        if not len(picks):
            return denoising, torch.zeros((), device=DEVICE)
        return denoising, self.identity_loss((a * x - s * out)[picks], batch, picks)

    def identity_loss(self, x0: Tensor, batch: dict, picks: np.ndarray, cells: int = 18) -> Tensor:
        """1 - cosine of ArcFace between the decoded face of the estimate and the conditioning embedding."""
        corners = (batch["kps"][picks].mean(1) / 16 - cells / 2).round().clip(0, GRID - cells).astype(int)
        crops = torch.stack([z[:, y : y + cells, x : x + cells] for z, (x, y) in zip(x0, corners, strict=True)])
        rows = [batch["photos"][i] for i in picks]  # never the exchanged face

        def around_face(whole: Tensor, scale: int) -> Tensor:
            """The part of (B, C, H, W) that the crops show; `scale` pixels are one latent."""
            side = scale * cells
            return torch.stack(
                [w[:, y : y + side, x : x + side] for w, (x, y) in zip(whole, scale * corners, strict=True)]
            )

        seen, guides = around_face(here(self.train.pictures(rows)), 16), around_face(here(self.train.guides(rows)), 8)
        with autocast():
            self.vae.source = seen.contiguous(memory_format=torch.channels_last)
            self.vae.guides = guides if self.vae.config.guided else None
            self.vae.source_level = batch["detail"][picks]
            maps, values = self.vae.decode_marks(crops.contiguous(memory_format=torch.channels_last))
            self.vae.source = self.vae.guides = None
        faces = from_afar(maps.float().sigmoid(), values.float().sigmoid()) * 2 - 1
        grid = here(alignment_grid(batch["kps"][picks] - corners[:, None] * 16, cells * 16))
        with autocast():
            embedded = self.recognizer(F.grid_sample(faces, grid, align_corners=False))
        likeness = (embedded * batch["embedding"][picks]).sum(1)
        return ((1 - likeness) * self.alphas[batch["t"][picks]].sqrt().clamp(min=0.3)).mean()

    def update(self, step: int, progress: float) -> tuple[float, float]:
        rate = learning_rate(step, progress)
        for group in (g for o in self.optimizers for g in o.param_groups):
            group["lr"] = CONFIG["lr"] * rate
        identity = progress > CONFIG["identity_start"]
        denoising, likeness = self.losses(self.draw(), identity)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        (denoising + CONFIG["identity_weight"] * likeness).backward()
        nn.utils.clip_grad_norm_(self.named.values(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        if step % 4 == 3:
            decay = min(CONFIG["ema"], (2 + step) / (11 + step)) ** 4
            with torch.no_grad():
                torch._foreach_lerp_(list(self.ema.values()), [p.detach() for p in self.named.values()], 1 - decay)
        return denoising.item(), likeness.item()

    def with_ema(self) -> EmaWeights:
        return EmaWeights(self)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Denoising loss on people that training never sees, full source and no source."""
        generator = torch.Generator().manual_seed(1)
        picks = list(range(0, len(self.held_out.pairs), 5))
        batch = self.held_out.get(picks)
        batch["t"] = torch.linspace(CONFIG["least_t"], 999, len(picks)).long()
        batch["noise"] = torch.randn(batch["target"].shape, generator=generator)
        batch["prompts"] = self.named_prompts(batch)
        cover = torch.randn(batch["source"].shape, generator=generator)
        level = torch.from_numpy(level_of(batch["coarse"])).view(-1, 1, 1, 1)
        batch["source"] = noise_augment(batch["source"], signal_of(level), cover)
        batch["level"] = level
        fine = torch.from_numpy(batch["coarse"] < 0.5)
        scores = {"val": round(self.losses(batch, False)[0].item(), 4)}
        for name, chosen in (("val_fine", fine), ("val_bold", ~fine)):
            part = {
                k: v[chosen] if isinstance(v, Tensor) else [x for x, c in zip(v, chosen, strict=True) if c]
                for k, v in batch.items()
            }
            scores[name] = round(self.losses(part, False)[0].item(), 4)
        return scores

    @staticmethod
    def named_prompts(batch: dict) -> list[str]:
        return [name_palette(PROMPTS[s][0], p) for s, p in zip(batch["styles"], batch["palettes"], strict=True)]

    @torch.no_grad()
    def denoise(
        self, batch: dict, level: Tensor, generator: torch.Generator, steps: int = 4, guidance: float = 1.5
    ) -> Tensor:
        """DDIM from noise, as the product does it; scaled latents (B, 32, 32, 32). `level` is (B, 1, 1, 1)."""
        shape, embedding = batch["source"].shape, batch["embedding"]
        source = noise_augment(batch["source"], signal_of(level), torch.randn(shape, generator=generator))
        x = here(torch.randn(shape, generator=generator))
        prompts = [""] * len(x) + self.named_prompts(batch)
        self.scheduler.set_timesteps(steps)
        for t in self.scheduler.timesteps:
            both = torch.cat([x, x]), source, level, t.expand(2 * len(x))
            v0, v1 = self.predict(*both, prompts, torch.cat([torch.zeros_like(embedding), embedding])).chunk(2)
            x = self.scheduler.step(v0 + guidance * (v1 - v0), t, x).prev_sample
        return x

    @torch.no_grad()
    def decode_held_out(
        self, latents: Tensor, photos: list[int], level: float, seeds: list[int] | None = None
    ) -> Tensor:
        """Draw latents of held-out people's photos; (B, 3, 512, 512) in [-1, 1]."""
        with autocast():
            self.vae.source = here(self.held_out.pictures(photos))
            self.vae.guides = here(self.held_out.guides(photos)) if self.vae.config.guided else None
            self.vae.source_level = detail_of(level)
            self.vae.seeds = seeds
            image: Tensor = self.vae.decode(latents).sample.float()
            self.vae.source = self.vae.guides = None
            self.vae.seeds = None
        return image.clamp(-1, 1)

    @torch.no_grad()
    def sample(self, batch: dict, level: float, steps: int = 4, guidance: float = 1.5, seed: int = 0) -> np.ndarray:
        """Pictures of held-out people, (B, 512, 512, 3) uint8 RGB."""
        levels = torch.full((len(batch["source"]), 1, 1, 1), level)
        x = self.denoise(batch, levels, torch.Generator().manual_seed(seed), steps, guidance)
        image = self.decode_held_out(x, batch["photos"], level, [seed] * len(x))
        return ((image + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()

    def sheet(self) -> None:
        """Rows: three held-out people, fine, then bold with their own and with a swapped identity; columns: the styles."""
        rows = []
        n = len(STYLES)
        people = [p * n for p in (2, 17, 30)]
        for p, start in enumerate(people):
            batch = self.held_out.get(list(range(start, start + n)))
            photo = self.held_out.index.photo(batch["photos"][0])
            other = self.held_out.get([people[(p + 1) % 3]])["embedding"]
            own = batch["embedding"]
            for level, embedding in (
                (0.9, own),
                (CONFIG["bold_level"] + 0.1, own),
                (CONFIG["bold_level"] + 0.1, other),
            ):
                batch["embedding"] = embedding.expand(len(own), -1)
                rows.append(np.concatenate([photo, *self.sample(batch, level)], 1))
        picture = cv2.resize(np.concatenate(rows, 0), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(self.out / "samples.jpg"), picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])

    def start_from(self, path: Path) -> None:
        """Take the averaged weights of an earlier training, where names and shapes agree."""
        found = {n: w for n, w in load_file(path).items() if n in self.named and self.named[n].shape == w.shape}
        with torch.no_grad():
            for name, value in found.items():
                self.named[name].copy_(value)
                self.ema[name].copy_(value)
        print(f"{len(found)} of {len(self.named)} parameters from {path}", flush=True)


def unpack(chain: Path, out: Path) -> Path:
    """Take an exported chain (weights/mini) apart into OUT/vae, guided from now on, and named weights to start from."""
    grown(chain / "vae").save_pretrained(out / "vae")
    own = {k: v.float() for k, v in load_file(chain / "unet" / "diffusion_pytorch_model.safetensors").items()}
    unet = build_unet()
    adapter = load_file(chain / "faceid" / "ip-adapter-faceid_mini.safetensors")
    for key, value in adapter_state(unet).items():
        value.data.copy_(adapter[key].float())
    state = {f"unet.{n}": own.get(n, p.detach()).contiguous() for n, p in unet.named_parameters()}
    text = {n: w.float() for n, w in load_file(chain / "text_encoder" / "model.safetensors").items()}
    state |= {f"text.{n}": w.contiguous() for n, w in known_words(text, chain / "tokenizer", out).items()}
    save_file(state, out / "start.safetensors")
    return out / "start.safetensors"


def known_words(text: dict[str, Tensor], tokenizer: Path, out: Path) -> dict[str, Tensor]:
    """The text encoder's weights with the embeddings moved to where today's vocabulary has their tokens.

    Tokens that the chain did not know get small random embeddings.
    """
    today = build_tokenizer(out / "tokenizer").get_vocab()
    earlier = CLIPTokenizer.from_pretrained(tokenizer).get_vocab()
    key = next(n for n in text if n.endswith("token_embedding.weight"))
    table = 0.02 * torch.randn(len(today), text[key].shape[1], generator=torch.Generator().manual_seed(ALL["seed"]))
    for token, row in today.items():
        if token in earlier:
            table[row] = text[key][earlier[token]]
    return text | {key: table}


class EmaWeights:
    """`with trainer.with_ema():` the model computes with the averaged weights."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def _swap(self) -> None:
        with torch.no_grad():
            for name, parameter in self.trainer.named.items():
                kept = parameter.detach().clone()
                parameter.copy_(self.trainer.ema[name])
                self.trainer.ema[name].copy_(kept)

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *_: object) -> None:
        self._swap()


def main() -> None:
    parser = arguments(__doc__, CONFIG["minutes"])
    parser.add_argument("--init", type=Path, help="an earlier OUT/ema.safetensors, or an exported chain, to start from")
    parser.add_argument("--from-progress", type=float, default=0.0, help="where on the schedule the stage starts")
    args = parser.parse_args()
    if args.init and args.init.is_dir() and (args.resume or (args.out / "latents.npy").exists()):
        parser.error("--init CHAIN brings its own autoencoder: OUT may hold no latents.npy of another, and no --resume")
    start_from = unpack(args.init, args.out) if args.init and args.init.is_dir() else args.init
    trainer = Trainer(args.out)
    if start_from:
        trainer.start_from(start_from)
    tensors = trainer.named | {f"ema.{n}": w for n, w in trainer.ema.items()}
    stage = Stage(args.out / "denoiser.checkpoint", args.minutes, tensors, trainer.optimizers, args.resume)
    trainer.rng = stage.rng(ALL["seed"])
    print(f"{sum(p.numel() for p in trainer.named.values()) / 1e6:.2f} M parameters, {len(trainer.train.pairs)} pairs")
    log = (args.out / "denoiser.csv").open("a" if args.resume else "w")
    first, start, history, sheets = stage.step, stage.seconds, [], 0

    def keep() -> None:
        stage.save()
        save_file({n: w.contiguous() for n, w in trainer.ema.items()}, args.out / "ema.safetensors")

    while (spent := stage.progress) < 1:
        history.append(trainer.update(stage.step, args.from_progress + (1 - args.from_progress) * spent))
        stage.step += 1
        if stage.step % 100 == 0:
            with trainer.with_ema():
                scores = trainer.validate()
                if (stage.seconds - start) / 300 > sheets:
                    sheets += 1
                    trainer.sheet()
            denoising, likeness = np.mean(history[-200:], axis=0).round(4).tolist()
            row = {
                "step": stage.step,
                "seconds": int(stage.seconds),
                "loss": denoising,
                "identity": likeness,
                **scores,
                "it/s": round((stage.step - first) / max(stage.seconds - start, 1), 2),
            }
            print(json.dumps(row), flush=True)
            log.write(json.dumps(row) + "\n")
            log.flush()
            keep()
    keep()
    with trainer.with_ema():
        trainer.sheet()
        print("final", json.dumps(trainer.validate()))


if __name__ == "__main__":
    main()
