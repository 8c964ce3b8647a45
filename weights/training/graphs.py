"""Write the graphs of `mini`'s networks, with which onnxruntime draws on a CPU without torch: weights/mini/onnx/*.onnx.

    python weights/training/graphs.py [--to weights/mini]

A graph holds no weights, only their names, which are those in the folder's safetensors files. It follows from the folder's
configurations and the code alone: it is traced with random weights. `export.py` writes graphs and weights; this script writes
the graphs alone, after a change of the code, and lists them in the manifest. Needs `onnx`, which comes with insightface.

| graph | inputs | outputs |
|---|---|---|
| text | tokens (B, T) | embeddings (B, T, D) |
| photo | photo (1, 3, S, S) in [-1, 1] | unscaled latents (1, C, h, w) |
| unet | noisy latents (B, C, h, w), the photo's latents and noise (1, C, h, w), level, timestep, texts (B, T, D), identity (B, 1, 512), scale of the adapter | v (B, C, h, w) |
| decoder | unscaled latents (1, C, h, w), photo (1, 3, S, S), level; guides (1, G, S/2, S/2) if it is guided | maps of marks (1, CHANNELS, S/4, S/4) and values (1, GLOBALS), in [0, 1] |
| matte | photo (1, 3, 256, 256) in [-1, 1] | matte (256, 256) in [0, 1], the mean with the mirrored photo's |
| face_mesh | aligned face (1, 3, 128, 128) in [-1, 1] | points (468, 2) from its middle, in units of the eyes' distance |
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import torch
from face_mesh_net import FaceMeshNet
from matte_net import MatteNet
from onnx import numpy_helper
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from portrait.generate.families.loading import quiet_libraries
from portrait.generate.families.mini.face_mesh import SIDE as FACE_SIDE
from portrait.generate.families.mini.family import NETWORKS
from portrait.generate.families.mini.marks.layout import GUIDES
from portrait.generate.families.mini.structure import detail_of, noise_augment, signal_of
from portrait.generate.families.stable_diffusion.adapters import load_adapter
from portrait.generate.families.stable_diffusion.load import load_pipeline
from portrait.generate.matte import SIDE
from portrait.hub.files import GRAPHS
from portrait.recipes.load import load_recipe

OPSET = 17
BLOCK = 16
"""Channels that onnxruntime convolves at once on processors with AVX-512; with others it is half as many."""
LARGEST_CONSTANT = 4096
"""Bytes of the largest constant that may stay in a graph; anything larger must be a weight."""


class TextEncoder(nn.Module):
    """Tokens to embeddings."""

    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self.encoder = pipe.text_encoder

    def forward(self, tokens: Tensor) -> Tensor:
        texts: Tensor = self.encoder(tokens)[0]
        return texts


class PhotoEncoder(nn.Module):
    """A photo to latents."""

    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self.vae = pipe.vae

    def forward(self, photo: Tensor) -> Tensor:
        latents: Tensor = self.vae.encode(photo, return_dict=False)[0]
        return latents


class Denoiser(nn.Module):
    """The UNet, with everything that it is told as inputs."""

    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self.unet = pipe.unet

    def forward(
        self,
        sample: Tensor,
        photo: Tensor,
        noise: Tensor,
        level: Tensor,
        timestep: Tensor,
        texts: Tensor,
        identity: Tensor,
        scale: Tensor,
    ) -> Tensor:
        for processor in self.unet.attn_processors.values():
            if hasattr(processor, "scale"):
                processor.scale = [scale]
        source = noise_augment(photo, signal_of(level), noise)
        with mock.patch.multiple(self.unet, source=source, level=level.reshape(1, 1, 1, 1)):
            v: Tensor = self.unet(
                sample,
                timestep,
                encoder_hidden_states=texts,
                added_cond_kwargs={"image_embeds": [identity]},
                return_dict=False,
            )[0]
        return v


class Decoder(nn.Module):
    """Latents and a photo to marks."""

    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self.vae = pipe.vae

    def forward(
        self, latents: Tensor, photo: Tensor, level: Tensor, guides: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        with mock.patch.multiple(self.vae, source=photo, guides=guides, source_level=detail_of(level)):
            maps, values = self.vae.decode_marks(latents)
        return maps.sigmoid(), values.sigmoid()


class FaceMesh(nn.Module):
    """An aligned face to its mesh."""

    def __init__(self, net: FaceMeshNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, face: Tensor) -> Tensor:
        mesh: Tensor = self.net(face)[0]
        return mesh


class Matte(nn.Module):
    """A photo to its matte."""

    def __init__(self, net: MatteNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, photo: Tensor) -> Tensor:
        photo = (photo + 1) / 2
        mattes = torch.sigmoid(self.net(torch.cat([photo, photo.flip(3)])))[:, 0]
        return (mattes[0] + mattes[1].flip(1)) / 2


def write_graphs(folder: Path) -> None:
    """Write the graphs of a folder that holds configurations and weights."""
    (folder / GRAPHS).mkdir(exist_ok=True)
    with random_weights(folder) as (likeness, names), quiet_libraries():
        recipe = replace(load_recipe("mini"), base=likeness)
        adapter = likeness / "faceid" / "ip-adapter-faceid_mini.safetensors"
        pipe = load_pipeline(recipe, torch.float32, NETWORKS)
        load_adapter(pipe, adapter, recipe.adapter_kind, recipe.adapter_lora, 0)
        side, length = recipe.resolution, pipe.tokenizer.model_max_length
        cells, channels = side // pipe.vae_scale_factor, pipe.unet.config.out_channels
        photo, latents, level = torch.zeros(1, 3, side, side), torch.zeros(1, channels, cells, cells), torch.tensor(0.5)
        networks: dict[str, tuple[nn.Module, dict[str, Tensor], tuple[str, ...]]] = {
            "text": (TextEncoder(pipe), {"tokens": torch.zeros(2, length, dtype=torch.long)}, ("texts",)),
            "photo": (PhotoEncoder(pipe), {"photo": photo}, ("latents",)),
            "unet": (
                Denoiser(pipe),
                {
                    "sample": latents.repeat(2, 1, 1, 1),
                    "photo": latents,
                    "noise": latents,
                    "level": level,
                    "timestep": torch.tensor(1.0),
                    "texts": torch.zeros(2, length, pipe.unet.config.cross_attention_dim),
                    "identity": torch.zeros(2, 1, 512),
                    "scale": torch.tensor(1.0),
                },
                ("v",),
            ),
            "decoder": (Decoder(pipe), {"latents": latents, "photo": photo, "level": level}, ("maps", "values")),
        }
        if pipe.vae.config.guided:
            networks["decoder"][1]["guides"] = torch.zeros(1, len(GUIDES), side // 2, side // 2)
        if (weights := likeness / "face_mesh.safetensors").is_file():
            face_mesh = FaceMeshNet()
            face_mesh.load_state_dict(load_file(weights))
            networks["face_mesh"] = (FaceMesh(face_mesh), {"face": torch.zeros(1, 3, FACE_SIDE, FACE_SIDE)}, ("mesh",))
        if (weights := likeness / "matte.safetensors").is_file():
            net = MatteNet()
            net.load_state_dict(net.state_dict() | load_file(weights))
            networks["matte"] = (Matte(net), {"photo": torch.zeros(1, 3, SIDE, SIDE)}, ("matte",))
        for name, (network, inputs, outputs) in networks.items():
            file = likeness / f"{name}.onnx"
            trace(network, file, inputs, outputs)
            model = without_weights(onnx.load(file), names)
            make_independent_of_threads(model.graph)
            onnx.save(model, folder / GRAPHS / f"{name}.onnx")


@contextmanager
def random_weights(folder: Path) -> Iterator[tuple[Path, Mapping[bytes, str]]]:
    """A copy of the folder with random weights, and the name of each weight in its file by its float32 bytes."""
    noise = torch.Generator().manual_seed(0)
    names: dict[bytes, str] = {}
    with tempfile.TemporaryDirectory() as work:
        for path in sorted(p for p in folder.rglob("*") if p.suffix in (".json", ".safetensors")):
            copy = Path(work) / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".json":
                shutil.copyfile(path, copy)
                continue
            state = {name: torch.rand(value.shape, generator=noise) for name, value in load_file(path).items()}
            names |= {value.numpy().tobytes(): name for name, value in state.items()}
            save_file(state, copy)
        yield Path(work), names


def trace(network: nn.Module, file: Path, inputs: Mapping[str, Tensor], outputs: tuple[str, ...]) -> None:
    """Write a graph with its weights; the first axis of inputs that hold two of something may have any length."""
    batch = {name: {0: "batch"} for name, value in inputs.items() if value.ndim and len(value) == 2}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of conditions on sizes, which the tracer takes for constants
        torch.onnx.export(
            network.eval(),
            tuple(inputs.values()),
            str(file),
            dynamo=False,  # the other exporter needs onnxscript
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=batch | {name: {0: "batch"} for name in outputs if batch},
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,  # otherwise norms are folded into convolutions
        )


def without_weights(model: onnx.ModelProto, names: Mapping[bytes, str]) -> onnx.ModelProto:
    """Replace each weight by its name, as one that is stored elsewhere.

    Raises:
        ValueError: a large constant is no weight.
    """
    renamed = {}
    for tensor in model.graph.initializer:
        data = numpy_helper.to_array(tensor).tobytes()
        if data not in names:
            if len(data) > LARGEST_CONSTANT:
                raise ValueError(f"{tensor.name}, {tuple(tensor.dims)}, is no weight of a file")
            continue
        renamed[tensor.name] = tensor.name = names[data]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(
            key="location", value="weights"
        )  # there is no such file, so a missing weight is an error
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = renamed.get(name, name)
        node.ClearField("doc_string")
    return model


def make_independent_of_threads(graph: onnx.GraphProto) -> None:
    """Replace what onnxruntime divides among its threads in a way that rounds differently with another number of them.

    Means over tokens become matrix products. Convolutions get empty input channels up to a multiple of `BLOCK`, because whole
    blocks of channels are added up in one order.
    """
    sizes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        if node.op_type == "ReduceMean" and list(node.attribute[0].ints) == [1]:
            node.CopyFrom(_mean_over_tokens(graph, node))
        if node.op_type == "Conv" and _groups(node) == 1 and (missing := -sizes[node.input[1]][1] % BLOCK):
            fill = np.array([0, 0, 0, 0, 0, missing, 0, 0], np.int64)
            graph.initializer.append(numpy_helper.from_array(fill, f"{node.name}_fill"))
            for position in (0, 1):
                filled = f"{node.name}_filled_{position}"
                graph.node.append(onnx.helper.make_node("Pad", [node.input[position], f"{node.name}_fill"], [filled]))
                node.input[position] = filled
        graph.node.append(node)


def _groups(node: onnx.NodeProto) -> int:
    return int(next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1))


def _mean_over_tokens(graph: onnx.GraphProto, node: onnx.NodeProto) -> onnx.NodeProto:
    tokens = graph.input[[value.name for value in graph.input].index("texts")].type.tensor_type.shape.dim[1].dim_value
    share = numpy_helper.from_array(np.full((1, tokens), 1 / tokens, np.float32), f"{node.name}_share")
    graph.initializer.append(share)
    return onnx.helper.make_node("MatMul", [share.name, node.input[0]], node.output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path(__file__).parents[1] / "mini")
    folder = parser.parse_args().to
    write_graphs(folder)
    from export import write_manifest

    write_manifest(folder)


if __name__ == "__main__":
    main()
