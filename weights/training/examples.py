"""The pictures of stage 1: photos, and the marks of each style, drawn as crops or whole."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from portrait.generate.families.mini.marks.layout import CELL, CHANNELS, GLOBALS, GUIDES, LAYERS, SLICES

CONFIG = tomllib.loads((Path(__file__).parent / "config.toml").read_text())["data"]
CELLS = 128


@dataclass(frozen=True)
class Target:
    """One painting: the row of its photo in the index, style, palette, coarseness and its values."""

    row: int
    style: str
    palette: str
    coarse: float
    values: np.ndarray


class Index:
    """OUT/index.npz, and the files beside it.

    Args:
        out: Work folder.
        validation: Whether to read the held-out people instead of the training people.
    """

    def __init__(self, out: Path, validation: bool) -> None:
        with np.load(out / "index.npz") as file:
            table = {name: file[name] for name in file.files}  # each access to the file reads it anew
        self.out = out
        self.rows = np.flatnonzero(table["validation"] == validation)
        self.ids = table["id"]
        self.person = table["person"]
        self.morph = table["morph"]
        self.embedding = table["embedding"]
        self.kps = table["kps"]
        self.bbox = table["bbox"]
        self.targets: list[Target] = []
        for row in self.rows:
            names = str(table["styles"][row]).split(",")
            palettes = str(table["palettes"][row]).split(",")
            for k, (style, palette) in enumerate(zip(names, palettes, strict=True)):
                coarse = float(table["coarse"][row, k])
                self.targets.append(Target(int(row), style, palette, coarse, table["values"][row, k]))

    def photo(self, row: int, kind: str = "photo") -> np.ndarray:
        """(512, 512, 3) uint8 RGB; for morphs, `own` is the same crop with the original face."""
        path = self.out / "pictures" / f"{self.ids[row]:05d}-{kind}.jpg"
        bgr = cv2.imread(str(path))
        if bgr is None:
            raise OSError(f"{path} is no picture that can be read")
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)

    def guides(self, row: int, rng: np.random.Generator | None = None) -> np.ndarray:
        """(len(GUIDES), 256, 256) uint8; with `rng` now and then 0, as if no mesh fitted the face."""
        if rng is not None and rng.random() < CONFIG["unguided_share"]:
            return np.zeros((len(GUIDES), 2 * CELLS, 2 * CELLS), np.uint8)
        path = self.out / "pictures" / f"{self.ids[row]:05d}-guides.png"
        planes = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if planes is None:
            raise OSError(f"{path} is no picture that can be read")
        return planes.reshape(len(GUIDES), 2 * CELLS, 2 * CELLS)

    def maps(self, target: Target) -> np.ndarray:
        """(CHANNELS, 128, 128) uint8, mapped from the disk."""
        path = self.out / "marks" / f"{self.ids[target.row]:05d}-{target.style}.npy"
        return np.load(path, mmap_mode="r")

    def weight(self, row: int) -> np.ndarray:
        """(128, 128) float32: eyes, nose and mouth count most, the face more than the rest."""
        mask = np.ones((CELLS, CELLS), np.float32)
        kps = self.kps[row] / CELL
        radius = float(np.linalg.norm(kps[1] - kps[0]))
        x1, y1, x2, y2 = (int(v) for v in np.clip(self.bbox[row] / CELL, 0, CELLS))
        mask[y1:y2, x1:x2] = 2.0
        for point, share in zip(kps, (0.42, 0.42, 0.24, 0.34, 0.34), strict=True):
            cv2.circle(mask, tuple(int(v) for v in point), int(share * radius) + 1, 4.0, -1)
        return mask


def to_tensor(images: list[np.ndarray]) -> Tensor:
    """uint8 RGB pictures -> (B, 3, H, W) float32 in [-1, 1], channels last."""
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return batch.contiguous(memory_format=torch.channels_last)


def to_guides(planes: list[np.ndarray]) -> Tensor:
    """uint8 guides -> (B, len(GUIDES), H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.stack(planes)).float() / 255


def flat_photo(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The marks of a plain copy: nothing but the photo's colors as the sheet. uint8 maps and values."""
    cells = photo.shape[0] // CELL
    maps = np.zeros((CHANNELS, cells, cells), np.uint8)
    maps[SLICES["paper"]] = cv2.resize(photo, (cells, cells), interpolation=cv2.INTER_AREA).transpose(2, 0, 1)
    return maps, np.zeros(len(GLOBALS), np.float32)


def relevance(maps: Tensor, values: Tensor) -> Tensor:
    """The weight of each channel at each place, (B, CHANNELS, h, w): 0 where nothing is drawn."""
    least = 0.03
    weight = torch.ones_like(maps)

    def use(*layers: str) -> Tensor:
        gates = torch.stack([values[:, GLOBALS.index(f"use_{layer}")] for layer in layers])
        return gates.amax(0).view(-1, 1, 1, 1)

    for layer in LAYERS:
        weight[:, SLICES[layer]] = least + use(layer)
    shapes = maps[:, SLICES["shape"]].unflatten(1, (-1, 4)).amax(2)
    start = SLICES["glaze"].start
    for k in range(shapes.shape[1]):
        inside = ((shapes[:, k : k + 1] - 0.25) / 0.3).clamp(0, 1)
        weight[:, start + 3 * k : start + 3 * k + 3] = least + use("shape") * inside
    painted = torch.cat([maps[:, SLICES[layer]] * use(layer) for layer in ("stroke", "facet")], 1)
    weight[:, SLICES["color"]] = 2 * (least + (4 * painted.amax(1, keepdim=True)).clamp(0, 1))
    weight[:, SLICES["direction"]] = least + use("stroke", "groove")
    weight[:, SLICES["detail"]] = least + use("stroke", "facet", "groove")
    weight[:, SLICES["dot_color"]] = least + use("dot") * (4 * maps[:, SLICES["dot"]]).clamp(0, 1)
    weight[:, SLICES["shape"]] *= 1.6
    weight[:, SLICES["line"]] *= 3.0
    return weight
