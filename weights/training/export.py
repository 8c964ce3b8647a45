"""Stage 6: write weights/mini from the trained parts, in the layouts that diffusers and IP-Adapter use.

    python weights/training/export.py --out work [--to weights/mini]

fp16 safetensors: a diffusers folder (unet, vae, text_encoder, tokenizer, scheduler) and
faceid/ip-adapter-faceid_mini.safetensors with the flat keys of h94/IP-Adapter-FaceID; and their graphs (`graphs.py`).
manifest.json holds SHA-256 and size of every file. The style judge goes with it if `style_judge.py` has made one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path
from typing import TypedDict

from denoiser import STYLES, adapter_state, build_scheduler, build_unet
from graphs import write_graphs
from safetensors.torch import load_file, save_file
from text import build_text_encoder, build_tokenizer

from portrait.generate.families.mini.marks.autoencoder import MarkAutoencoder
from portrait.generate.families.mini.structure import MarkUNet
from portrait.hub.files import GRAPHS
from portrait.judge.style_judge import STYLE_JUDGE_FILES

MODEL_INDEX = {
    "_class_name": "StableDiffusionImg2ImgPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderTiny"],
}


def bare_unet(trained: MarkUNet) -> MarkUNet:
    """The unet without its adapter, as a base checkpoint is stored."""
    config = {k: v for k, v in trained.config.items() if not k.startswith("_")} | {"encoder_hid_dim_type": None}
    bare = MarkUNet(**config)
    bare.load_state_dict({k: v for k, v in trained.state_dict().items() if k in bare.state_dict()})
    return bare


class FileEntry(TypedDict):
    """What the manifest says of a file."""

    sha256: str
    bytes: int


def write_manifest(folder: Path) -> dict[str, FileEntry]:
    """List SHA-256 and size of every file; returns those of the model.

    The style judge and the graphs have sections of their own: curves and thresholds are of the weights, and outlive them. So
    has the face mesh as long as the decoder is not guided, and nothing is drawn with it.
    """
    files: dict[str, FileEntry] = {}
    for path in sorted(
        p for p in folder.rglob("*") if p.is_file() and p.suffix in (".json", ".safetensors", ".txt", ".onnx")
    ):
        if path.name != "manifest.json":
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            files[path.relative_to(folder).as_posix()] = {"sha256": digest, "bytes": path.stat().st_size}
    sections = {
        section: {name: files.pop(name) for name in list(files) if name.startswith(f"{section}/")}
        for section in ("judge", GRAPHS)
    }
    if not json.loads((folder / "vae" / "config.json").read_text()).get("guided"):
        sections["unused"] = {name: files.pop(name) for name in list(files) if name == "face_mesh.safetensors"}
    manifest = {"name": "mini", "files": files} | {name: listed for name, listed in sections.items() if listed}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="work folder of the training")
    parser.add_argument("--to", type=Path, default=Path(__file__).parents[1] / "mini")
    args = parser.parse_args()
    weights = load_file(args.out / "ema.safetensors")
    unet = build_unet()
    own = {k.removeprefix("unet."): v for k, v in weights.items() if k.startswith("unet.")}
    unet.load_state_dict(unet.state_dict() | own)
    tokenizer = build_tokenizer(args.out / "tokenizer")
    text = build_text_encoder(tokenizer)
    text.load_state_dict({k.removeprefix("text."): v for k, v in weights.items() if k.startswith("text.")})
    bare_unet(unet).half().save_pretrained(args.to / "unet")
    MarkAutoencoder.from_pretrained(args.out / "vae").half().save_pretrained(args.to / "vae")
    text.half().save_pretrained(args.to / "text_encoder")
    tokenizer.save_pretrained(args.to / "tokenizer")
    build_scheduler().save_pretrained(args.to / "scheduler")
    (args.to / "model_index.json").write_text(json.dumps(MODEL_INDEX, indent=1) + "\n")
    (args.to / "faceid").mkdir(exist_ok=True)
    adapter = {k: v.detach().half().contiguous() for k, v in adapter_state(unet).items()}
    save_file(adapter, args.to / "faceid" / "ip-adapter-faceid_mini.safetensors", metadata={"styles": ",".join(STYLES)})
    if (args.out / "judge" / "style.onnx").is_file():
        (args.to / "judge").mkdir(exist_ok=True)
        for name in STYLE_JUDGE_FILES:
            shutil.copyfile(args.out / "judge" / name, args.to / "judge" / name)
    for path in args.to.rglob("config.json"):  # diffusers notes where a part was loaded from: nobody's business
        kept = {k: v for k, v in json.loads(path.read_text()).items() if k != "_name_or_path"}
        path.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")
    write_graphs(args.to)
    files = write_manifest(args.to)
    print(f"{sum(f['bytes'] for f in files.values()) / 2**20:.1f} MiB in {args.to}")


if __name__ == "__main__":
    main()
