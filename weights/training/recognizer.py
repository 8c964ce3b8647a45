"""ArcFace as a torch module, so that likeness can be a loss: the ONNX graph, interpreted.

Only the operators of `w600k_mbf.onnx` are known; another graph raises. Weights are frozen.
Reference: PuLID (Guo et al. 2024, arXiv 2404.16022) for an identity loss on the decoded estimate.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from portrait.faces.alignment import ARCFACE_TEMPLATE, similarity_transform


class OnnxRecognizer(nn.Module):
    """(B, 3, 112, 112) RGB in [-1, 1] -> (B, 512) unit embeddings, differentiable."""

    def __init__(self, path: Path, device: torch.device) -> None:
        super().__init__()
        graph = onnx.load(path).graph
        self.nodes = list(graph.node)
        self.input, self.output = graph.input[0].name, graph.output[0].name
        self.values = {
            t.name: torch.from_numpy(np.array(numpy_helper.to_array(t))).contiguous().to(device)
            for t in graph.initializer
        }

    def forward(self, x: Tensor) -> Tensor:
        values = dict(self.values)
        values[self.input] = x
        for node in self.nodes:
            inputs = [values[name] for name in node.input]
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            values[node.output[0]] = self._run(node.op_type, inputs, attributes)
        return F.normalize(values[self.output].float(), dim=1)

    @staticmethod
    def _run(kind: str, x: list[Tensor], a: dict) -> Tensor:
        if kind == "Conv":
            bias = x[2] if len(x) > 2 else None
            return F.conv2d(x[0], x[1], bias, a["strides"], a["pads"][:2], a.get("dilations", 1), a.get("group", 1))
        if kind == "PRelu":
            return F.prelu(x[0], x[1].flatten())
        if kind == "BatchNormalization":
            return F.batch_norm(x[0], x[3], x[4], x[1], x[2], False, 0.0, a.get("epsilon", 1e-5))
        if kind == "Add":
            return x[0] + x[1]
        if kind == "Flatten":
            return x[0].flatten(a.get("axis", 1))
        if kind == "Gemm":
            return F.linear(x[0], x[1] if a.get("transB") else x[1].T, x[2] if len(x) > 2 else None)
        if kind == "Reshape":
            return x[0].reshape(x[0].shape[0], -1)
        raise ValueError(f"operator {kind} is not one of w600k_mbf")


def alignment_grid(kps: np.ndarray, side: int) -> Tensor:
    """(N, 5, 2) points in a side x side crop -> (N, 112, 112, 2) sampling grid for `F.grid_sample`."""
    matrices = []
    for points in kps:
        forward = np.vstack([similarity_transform(points, ARCFACE_TEMPLATE), [0, 0, 1]])
        back = np.linalg.inv(forward)
        ours, theirs = np.diag([2 / side, 2 / side, 1.0]), np.diag([56, 56, 1.0])
        ours[:2, 2], theirs[:2, 2] = -1, 56
        matrices.append((ours @ back @ theirs)[:2])
    theta = torch.from_numpy(np.stack(matrices)).float()
    return F.affine_grid(theta, [len(kps), 3, 112, 112], align_corners=False)
