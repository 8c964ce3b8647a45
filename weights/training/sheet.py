"""A sheet of held-out people in every style, fine and bold, drawn by the trained parts: OUT/samples.jpg.

python weights/training/sheet.py --out WORK
"""

from __future__ import annotations

import argparse
from pathlib import Path

from denoiser import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="work folder")
    args = parser.parse_args()
    trainer = Trainer(args.out)
    trainer.start_from(args.out / "ema.safetensors")
    trainer.sheet()


if __name__ == "__main__":
    main()
