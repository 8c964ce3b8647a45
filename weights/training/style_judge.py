"""Train the style judge: a small network that classifies a face by style, or as a photograph.

    python weights/training/style_crops.py --out WORK
    python weights/training/style_judge.py --out WORK [--pictures DIR] [--minutes 10] [--resume]

Learns from the crops of `style_crops.py`, from a model's own pictures of training people in DIR/STYLE/*.png
(`eval/styles.py --draw`), and, as negative examples, from photographs that were filtered, tinted, made blocky or mixed with
a drawing. Writes OUT/judge/style.onnx and OUT/judge/config.json. Its limits reject 2 % of right pictures on which the
network was not trained. How light each style draws the skin, and how far it moves a mouth, is measured on the same crops.
`export.py` copies both files into the model's folder.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
from changes import LOCAL_COLOR, Faces, darker, faces, fit_expression, fit_skin, lighter, mouth_opened, rejected_share
from dataset import read
from examples import Index
from fakes import fake
from onnx import TensorProto, helper, numpy_helper
from painters.registry import PAINTERS
from stage import Stage, arguments
from style_crops import KINDS, part_of
from style_crops import SIDE as PIECE
from torch import Tensor, nn
from torch.nn import functional as F

from portrait.faces.insightface_analyzer import InsightFaceAnalyzer
from portrait.files import write_json
from portrait.generate.families.mini.marks.layout import FULL_SIZE
from portrait.judge.changes import mouth_shift
from portrait.judge.style_judge import PHOTO, StyleJudge, face_window
from portrait.records import RgbImage

ALL = tomllib.loads((Path(__file__).parent / "config.toml").read_text())
CONFIG = ALL["style_judge"]
SIDE = 128
STYLES = sorted(PAINTERS)
LEAST = 0.2
"""The lowest limit: a picture with a lower probability is more likely something else."""
CLASSES = [*STYLES, PHOTO]
WIDTHS = ((16, 5, 2), (32, 3, 2), (48, 3, 1), (64, 3, 2), (64, 3, 1))
"""Channels, kernel size and stride of the convolutions."""


class StyleNet(nn.Sequential):
    """Convolutions averaged over the face: the appearance of the marks counts, not their position."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        channels = 3
        for width, kernel, stride in WIDTHS:
            layers += [
                nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            channels = width
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, len(CLASSES)))


@dataclass(frozen=True)
class Pieces:
    """Crops of pictures, (N, PIECE, PIECE, 3) uint8, and the class of each."""

    pixels: np.ndarray
    labels: np.ndarray

    def of(self, label: int) -> np.ndarray:
        return self.pixels[self.labels == label]


def read_drawn(out: Path, part: str) -> Pieces:
    """The crops of a part from `style_crops.py`."""
    pixels: list[np.ndarray] = []
    labels: list[int] = []
    for label, style in enumerate(STYLES):
        for kind in KINDS:
            for path in sorted((out / "judge" / part / kind / style).glob("*.png")):
                pixels.append(read(path))
                labels.append(label)
    return Pieces(np.stack(pixels), np.array(labels))


def read_pictures(folder: Path) -> Pieces:
    """A model's whole pictures, DIR/STYLE/*.png; those without a face are left out and counted."""
    analyzer = InsightFaceAnalyzer(threads=1)
    pixels: list[np.ndarray] = []
    labels: list[int] = []
    faceless = 0
    for label, style in enumerate(STYLES):
        for path in sorted((folder / style).glob("*.png")):
            picture = read(path)
            face = max(analyzer.detect(picture), key=lambda f: f.size, default=None)
            if face is None:
                faceless += 1
                continue
            pixels.append(face_window(picture, face.kps, FULL_SIZE, PIECE))
            labels.append(label)
    print(f"{len(pixels)} pictures of {folder}, {faceless} without a face left out", flush=True)
    return Pieces(np.stack(pixels) if pixels else np.zeros((0, PIECE, PIECE, 3), np.uint8), np.array(labels, int))


def joined(*parts: Pieces) -> Pieces:
    return Pieces(np.concatenate([p.pixels for p in parts]), np.concatenate([p.labels for p in parts]))


def photo_pieces(index: Index, part: str, count: int) -> np.ndarray:
    """(N, PIECE, PIECE, 3) uint8: photographs around the face, those of a part's people."""
    people = sorted({str(index.person[row]) for row in index.rows})
    rows = [row for row in index.rows if part == "held" or part_of(index, int(row), people) == part]
    chosen = np.random.default_rng(3).permutation(rows)[:count]
    return np.stack([face_window(RgbImage(index.photo(r)), index.kps[r], FULL_SIZE, PIECE) for r in chosen])


def varied(piece: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(SIDE, SIDE, 3): moved, mirrored, a little larger or smaller, sometimes compressed as people send pictures."""
    side = int(SIDE / rng.uniform(0.88, 1.14))
    y, x = rng.integers(0, PIECE - side + 1, 2)
    cut = piece[y : y + side, x : x + side]
    cut = cv2.resize(cut, (SIDE, SIDE), interpolation=cv2.INTER_AREA if side > SIDE else cv2.INTER_CUBIC)
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    if rng.random() < 0.2:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 97))]
        decoded = cv2.imdecode(cv2.imencode(".jpg", cut, quality)[1], cv2.IMREAD_COLOR)
        assert decoded is not None
        cut = decoded
    if rng.random() < 0.3:
        cut = np.clip(cut * rng.uniform(0.92, 1.08) + rng.uniform(-6, 6), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(cut)


def draw_batch(drawn: Pieces, photos: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Styles in equal shares, and a share of `fake_share` negative examples."""
    pictures = []
    labels = []
    for _ in range(CONFIG["batch"]):
        label = int(rng.integers(len(STYLES)))
        crops = drawn.of(label)
        piece = crops[rng.integers(len(crops))]
        if rng.random() < CONFIG["fake_share"]:
            piece, label = fake(photos[rng.integers(len(photos))], piece, rng), len(STYLES)
        pictures.append(varied(piece, rng))
        labels.append(label)
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    return batch.contiguous(memory_format=torch.channels_last), torch.tensor(labels)


def to_onnx(net: StyleNet) -> onnx.ModelProto:
    """The network with its norms folded into the convolutions, and a softmax behind it."""
    nodes = []
    weights = []
    name = "faces"

    def constant(key: str, value: Tensor) -> str:
        weights.append(numpy_helper.from_array(value.detach().numpy().astype(np.float32), key))
        return key

    layers = list(net)
    for k in range(len(WIDTHS)):
        conv, norm = layers[3 * k], layers[3 * k + 1]
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_var is not None
        assert norm.running_mean is not None
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        kernel = constant(f"weight{k}", conv.weight * gain.view(-1, 1, 1, 1))
        bias = constant(f"bias{k}", norm.bias - gain * norm.running_mean)
        pad = [conv.kernel_size[0] // 2] * 4
        nodes.append(helper.make_node("Conv", [name, kernel, bias], [f"conv{k}"], pads=pad, strides=list(conv.stride)))
        nodes.append(helper.make_node("Relu", [f"conv{k}"], [f"relu{k}"]))
        name = f"relu{k}"
    linear = layers[-1]
    assert isinstance(linear, nn.Linear)
    last = [constant("weight", linear.weight), constant("bias", linear.bias)]
    nodes += [
        helper.make_node("GlobalAveragePool", [name], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", *last], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "style_judge",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", len(CLASSES)])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def write_judge(net: StyleNet, folder: Path, settle: Pieces, changes: dict[str, Any]) -> StyleJudge:
    """Write style.onnx and config.json, with limits derived from pictures on which the network was not trained."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(to_onnx(net), str(folder / "style.onnx"))
    config: dict[str, Any] = {"scale": FULL_SIZE, "side": SIDE, "classes": CLASSES, "least": dict.fromkeys(STYLES, 0.5)}
    config |= changes
    write_json(folder / "config.json", config)
    probabilities = StyleJudge(folder, {}).classify(middle(settle.pixels))
    for label, style in enumerate(STYLES):
        right = np.sort(probabilities[settle.labels == label, label])
        rank = int((len(right) + 1) * CONFIG["rejected"])  # the order statistic that lets all but that share pass
        config["least"][style] = round(float(np.clip(right[max(0, rank - 1)], LEAST, 0.5)) if len(right) else 0.5, 4)
    write_json(folder / "config.json", config)
    return StyleJudge(folder, {})


def change_limits(out: Path, index: Index) -> dict[str, Any]:
    """The changes of a face that styles make, for config.json; printed with the effect on held-out people.

    If a style draws mouths so freely that its limit would let most opened mouths pass, its expression is not judged.
    """
    held_out = Index(out, True)
    pairs_of = {style: faces(out, index, ("learn", "settle"), style) for style in STYLES}
    fitted = {style: fit_expression(pairs, CONFIG["rejected"]) for style, pairs in pairs_of.items()}
    expression = {
        style: limit
        for style, limit in fitted.items()
        if rejected_share(mouth_shift, limit, planted(pairs_of[style], mouth_opened)) > 0.5
    }
    skin = {style: fit_skin(pairs_of[style], CONFIG["rejected"]) for style in LOCAL_COLOR}
    for style, limit in fitted.items():
        new = faces(out, held_out, ("held",), style)
        print(f"{style}, from {len(pairs_of[style])} pictures; rejected of {len(new)} of held-out people:", flush=True)
        shares = [rejected_share(mouth_shift, limit, p) for p in (new, planted(new, mouth_opened))]
        note = "" if style in expression else "; not judged"
        print(
            f"  expression, at most {limit}: {shares[0]:.0%}; with the mouth opened {shares[1]:.0%}{note}", flush=True
        )
        if style in skin:
            limits = skin[style]
            kinds = (new, planted(new, lighter), planted(new, darker))
            shares = [rejected_share(limits.change, limits.most, p) for p in kinds]
            print(f"  skin, {limits}: {shares[0]:.0%}; lightened {shares[1]:.0%}, darkened {shares[2]:.0%}", flush=True)
    return {"skin": {style: asdict(limits) for style, limits in skin.items()}, "expression": expression}


def planted(pairs: Faces, fault: Callable[[RgbImage], RgbImage]) -> Faces:
    """The same crops with a fault in every picture."""
    return [(photo, fault(picture)) for photo, picture in pairs]


def middle(pieces: np.ndarray) -> np.ndarray:
    """The judge's input from crops: (N, SIDE, SIDE, 3)."""
    edge = (PIECE - SIDE) // 2
    return pieces[:, edge : edge + SIDE, edge : edge + SIDE]


def main() -> None:
    parser = arguments(__doc__, CONFIG["minutes"])
    parser.add_argument("--pictures", type=Path, help="a model's own pictures of training people, DIR/STYLE/*.png")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    index = Index(args.out, False)
    drawn, settle = read_drawn(args.out, "learn"), read_drawn(args.out, "settle")
    if args.pictures:
        own_pieces = read_pictures(args.pictures)
        last = np.arange(len(own_pieces.labels)) % 5 == 0
        drawn = joined(drawn, Pieces(own_pieces.pixels[~last], own_pieces.labels[~last]))
        settle = joined(settle, Pieces(own_pieces.pixels[last], own_pieces.labels[last]))
    photos = photo_pieces(index, "learn", CONFIG["photos"])
    print(f"{len(drawn.labels)} drawings, {len(photos)} photographs; {len(settle.labels)} for the limits", flush=True)
    torch.manual_seed(ALL["seed"])
    net = StyleNet().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=CONFIG["lr"], weight_decay=0.02)
    buffers = {name: buffer for name, buffer in net.named_buffers()}
    stage = Stage(
        args.out / "judge.checkpoint", args.minutes, dict(net.named_parameters()) | buffers, [optimizer], args.resume
    )
    rng = stage.rng(ALL["seed"])
    losses: list[float] = []
    while (progress := stage.progress) < 1:
        for group in optimizer.param_groups:
            warm = min(1, (stage.step + 1) / 30)
            group["lr"] = CONFIG["lr"] * warm * float(0.5 * (1 + np.cos(np.pi * progress)) + 0.01)
        batch, labels = draw_batch(drawn, photos, rng)
        loss = F.cross_entropy(net(batch), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        stage.step += 1
        if stage.step % 25 == 0:
            row = {"step": stage.step, "seconds": int(stage.seconds), "loss": round(float(np.mean(losses[-25:])), 4)}
            print(json.dumps(row), flush=True)
        if stage.step % 200 == 0:
            stage.save()
    stage.save()
    judge = write_judge(net.eval(), args.out / "judge", settle, change_limits(args.out, index))
    size = (args.out / "judge" / "style.onnx").stat().st_size
    print(f"{size} bytes; limits { {s: x.probability for s, x in judge.limits.items()} }")


if __name__ == "__main__":
    main()
