"""Export the networks of `mini` to ONNX, for `eval/runtimes.py`, which measures what they would gain.

    python eval/export_onnx.py FOLDER

Writes text.onnx, photo.onnx, unet.onnx (with the identity adapter) and decoder.onnx, all in float32 and for one guided picture
at 512 px, and what is needed to draw the demo photo with them: inputs.npz and inputs.json hold the photo, its identity, the
knobs, the tokens of the prompts, the noise of a seed, and the scheduler's coefficients. Needs `onnx`, which comes with
insightface.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from latency import Warm, demo_photo
from torch import Tensor, nn

from portrait.generate.families.mini.structure import signal_of
from portrait.paths import cpu_threads
from portrait.records import Knobs

STYLE, SEED = "oil", 1
OPSET = 17


class TextEncoder(nn.Module):
    """Tokens (1, T) -> embeddings (1, T, D)."""

    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self.encoder = pipe.text_encoder

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.encoder.token_embedding(tokens) + self.encoder.position_embedding.weight
        for layer in self.encoder.layers:
            x = layer(x)
        embedding: Tensor = self.encoder.final_layer_norm(x)
        return embedding


class PhotoEncoder(nn.Module):
    """A photo (1, 3, S, S) in [-1, 1] -> scaled latents (1, C, h, w)."""

    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self.vae = pipe.vae

    def forward(self, photo: Tensor) -> Tensor:
        latents: Tensor = self.vae.encode(photo, return_dict=False)[0] * self.vae.config.scaling_factor
        return latents


class Denoiser(nn.Module):
    """The UNet with everything that it is told as inputs: the photo's latents, how much it sees, and the adapter's scale."""

    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self.unet = pipe.unet

    def forward(
        self,
        sample: Tensor,
        source: Tensor,
        level: Tensor,
        timestep: Tensor,
        texts: Tensor,
        identity: Tensor,
        scale: Tensor,
    ) -> Tensor:
        for processor in self.unet.attn_processors.values():
            if hasattr(processor, "scale"):
                processor.scale = [scale]
        with mock.patch.multiple(self.unet, source=source, level=level.reshape(1, 1, 1, 1)):
            predicted: Tensor = self.unet(
                sample,
                timestep,
                encoder_hidden_states=texts,
                added_cond_kwargs={"image_embeds": [identity]},
                return_dict=False,
            )[0]
        return predicted


class Decoder(nn.Module):
    """Scaled latents and the photo -> maps (1, CHANNELS, H, W) and values (1, G) of the marks, in [0, 1]."""

    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self.vae = pipe.vae

    def forward(self, latents: Tensor, photo: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        with mock.patch.multiple(self.vae, source=photo, source_level=level):
            maps, values = self.vae.decode_marks(latents / self.vae.config.scaling_factor)
        return maps.sigmoid(), values.sigmoid()


def export(folder: Path) -> None:
    """Write the networks and the inputs of one picture."""
    warmed = Warm(demo_photo(), STYLE, cpu_threads(), "float32")
    pipe, knobs = warmed.generator.family.pipe, warmed.knobs
    inputs = _inputs(warmed)
    level, scale = torch.tensor(knobs.controlnet_conditioning_scale), torch.tensor(knobs.ip_adapter_scale)
    latents, texts = warmed.conditions.latents, torch.cat([warmed.conditions.negative, warmed.conditions.prompt])
    _write(folder / "text.onnx", TextEncoder(pipe), tokens=inputs["tokens"][:1])
    _write(folder / "photo.onnx", PhotoEncoder(pipe), photo=inputs["photo"])
    _write(
        folder / "unet.onnx",
        Denoiser(pipe),
        sample=torch.cat([latents, latents]),
        source=latents,
        level=level,
        timestep=torch.tensor(1.0),
        texts=texts,
        identity=inputs["identity"],
        scale=scale,
    )
    _write(folder / "decoder.onnx", Decoder(pipe), latents=latents, photo=inputs["photo"], level=level)
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    np.savez(folder / "inputs.npz", image=warmed.framed.image, schedule=_schedule(pipe.scheduler, knobs), **arrays)
    about = {
        "knobs": asdict(knobs),
        "prompt": warmed.loop.recipe.style(STYLE).prompt,
        "signal": signal_of(knobs.controlnet_conditioning_scale),
        "size": warmed.conditions.size,
        "seed": SEED,
    }
    (folder / "inputs.json").write_text(json.dumps(about), "utf-8")


def _write(file: Path, network: nn.Module, **inputs: Tensor) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of conditions on sizes, which the tracer takes for constants
        torch.onnx.export(
            network.eval(),
            tuple(inputs.values()),
            str(file),
            dynamo=False,  # the other exporter needs onnxscript
            opset_version=OPSET,
            input_names=list(inputs),
        )


def _inputs(warmed: Warm) -> dict[str, Tensor]:
    """The tensors that are fed to the networks, as `MiniPipeline` and its family make them."""
    tokenizer = warmed.generator.family.pipe.tokenizer
    embedding = torch.from_numpy(warmed.subject.identity.embeddings["arcface"])
    noise, photo_noise = (
        torch.randn(warmed.conditions.latents.shape, generator=torch.Generator("cpu").manual_seed(seed))
        for seed in (SEED, SEED ^ 0x5EED)
    )
    return {
        "tokens": torch.tensor([tokenizer.fitted(text) for text in ("", warmed.loop.recipe.style(STYLE).prompt)]),
        "photo": warmed.conditions.picture.contiguous(),
        "embedding": embedding,
        "identity": torch.stack([torch.zeros_like(embedding), embedding])[:, None],
        "noise": noise,
        "photo_noise": photo_noise,
    }


def _schedule(scheduler: Any, knobs: Knobs) -> np.ndarray:
    """(steps, 3): the time of each step, and the signal's share of the variance before and after it."""
    if knobs.strength != 1 or knobs.guidance_scale <= 1 or scheduler.config.prediction_type != "v_prediction":
        raise SystemExit("eval/runtimes.py draws from pure noise, with guidance, with networks that predict v")
    scheduler.set_timesteps(knobs.num_inference_steps)
    stride = scheduler.config.num_train_timesteps // knobs.num_inference_steps
    signal, last = scheduler.alphas_cumprod.numpy(), float(scheduler.final_alpha_cumprod)
    times = scheduler.timesteps.tolist()
    return np.array([(t, signal[t], signal[t - stride] if t >= stride else last) for t in times], np.float32)


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="it is created if there is none")
    folder = parser.parse_args().folder
    if importlib.util.find_spec("onnx") is None:
        raise SystemExit("onnx is not installed; run: pip install onnx")
    folder.mkdir(parents=True, exist_ok=True)
    export(folder)


if __name__ == "__main__":
    main()
