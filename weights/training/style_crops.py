"""Crops for training the style judge: faces by the painters, and the same after a round trip through the autoencoder.

    python weights/training/style_crops.py --out WORK

Writes OUT/judge/{learn,settle,held}/{painter,autoencoder}/{style}/{row:05d}.png, each (192, 192, 3), cropped around the face
at 512 px: training people that the network learns from, training people from whose pictures its limits are derived, and
held-out people. Existing crops are not drawn again. The latents of `autoencoder` are noisy, like those of a denoiser.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from autoencoder import decode
from examples import Index, Target, to_guides, to_tensor

from portrait.generate.families.mini.marks.autoencoder import MarkAutoencoder, marks_from
from portrait.generate.families.mini.marks.layout import FULL_SIZE, Marks
from portrait.generate.families.mini.marks.rasterize import draw
from portrait.judge.style_judge import face_window
from portrait.records import RgbImage

SIDE = 192
"""Side of the crops: larger than the judge's input, so that training can shift it."""
KINDS = ("painter", "autoencoder")
COUNTS = {"learn": (50, 30), "settle": (12, 8), "held": (24, 12)}
"""Part -> the number of pictures per style by `KINDS`: by the painters, and through the autoencoder."""
SETTLE_EVERY = 6
"""The limits are derived from every n-th training person, on whom the network is not trained."""
NOISE = 0.3
"""Maximum standard deviation of the noise that is added to the latents."""


def part_of(index: Index, row: int, people: list[str]) -> str:
    """The part that a picture of a training person belongs to."""
    return "settle" if people.index(index.person[row]) % SETTLE_EVERY == 0 else "learn"


@dataclass(frozen=True)
class Job:
    """One picture: its person, its part, and how it is drawn."""

    target: Target
    part: str
    kind: str
    order: float


def plan(index: Index, part: str) -> list[Job]:
    """The pictures of a part, without morphs, which are two people. Any first few have all styles in equal shares."""
    people = sorted({str(index.person[row]) for row in index.rows})
    rng = np.random.default_rng(7)
    by_style: dict[str, list[Target]] = {}
    for target in index.targets:
        if not index.morph[target.row] and part in ("held", part_of(index, target.row, people)):
            by_style.setdefault(target.style, []).append(target)
    jobs = []
    for style in sorted(by_style):
        chosen = rng.permutation(len(by_style[style]))
        start = 0
        for kind, count in zip(KINDS, COUNTS[part], strict=True):
            picked = chosen[start : start + count]
            jobs += [Job(by_style[style][i], part, kind, k / len(picked)) for k, i in enumerate(picked)]
            start += count
    return jobs


def drawn(index: Index, target: Target, vae: MarkAutoencoder | None, seed: int) -> RgbImage:
    """A target's picture, (512, 512, 3) uint8."""
    rng = np.random.default_rng(seed)
    maps = index.maps(target).astype(np.float32) / np.float32(255)
    marks = Marks(maps=maps, values=target.values)
    if vae is not None:
        with torch.no_grad():
            latents = vae.encode_marks(torch.from_numpy(maps)[None], torch.from_numpy(target.values)[None]).float()
            noise = torch.from_numpy(rng.normal(size=latents.shape).astype(np.float32))
            latents = latents + rng.uniform(0, NOISE) * noise
            photo, guides = to_tensor([index.photo(target.row)]), to_guides([index.guides(target.row)])
            marks = marks_from(*decode(vae, latents, photo, guides, float(rng.uniform(0.4, 1))))[0]
    return RgbImage((draw(marks, FULL_SIZE, seed) * 255 + 0.5).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="work folder")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="stop after this time; another run continues"
    )
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    vae = MarkAutoencoder.from_pretrained(args.out / "vae").eval()
    indices = {validation: Index(args.out, validation) for validation in (False, True)}
    jobs = [
        (validation, job)
        for validation in indices
        for part in COUNTS
        if validation == (part == "held")
        for job in plan(indices[validation], part)
    ]
    jobs.sort(key=lambda pair: pair[1].order)
    start = time.time()
    for number, (validation, job) in enumerate(jobs):
        path = args.out / "judge" / job.part / job.kind / job.target.style / f"{job.target.row:05d}.png"
        if path.is_file():
            continue
        if time.time() - start > 60 * args.minutes:
            break
        path.parent.mkdir(parents=True, exist_ok=True)
        index = indices[validation]
        picture = drawn(index, job.target, vae if job.kind == "autoencoder" else None, number)
        cut = face_window(picture, index.kps[job.target.row], FULL_SIZE, SIDE)
        cv2.imwrite(str(path), cv2.cvtColor(cut, cv2.COLOR_RGB2BGR))
        if number % 100 == 0:
            print(f"{number} of {len(jobs)}, {time.time() - start:.0f} s", flush=True)
    else:
        print(f"{len(jobs)} pictures", flush=True)


if __name__ == "__main__":
    main()
