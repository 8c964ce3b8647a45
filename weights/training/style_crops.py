"""Pictures for the style judge: faces as the painters draw them, and as the autoencoder draws them after a round trip.

    python weights/training/style_crops.py --out WORK

Writes OUT/judge/{learn,settle,held}/{painter,autoencoder}/{style}/{row:05d}.png, each (192, 192, 3), cut around the face at
512 px: training people that the network learns from, training people whose pictures its limits are read off, and people
whom nothing has seen. What is there is not drawn again. The latents of `autoencoder` are noisy, as a denoiser's are.
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
from examples import Index, Target, to_tensor

from portrait.generate.families.mini.marks.autoencoder import MarkAutoencoder, marks_from
from portrait.generate.families.mini.marks.layout import FULL_SIZE, Marks
from portrait.generate.families.mini.marks.rasterize import draw
from portrait.judge.style_judge import face_window
from portrait.records import RgbImage

SIDE = 192
"""Of the pieces that are kept: larger than what the judge looks at, so that training can move it."""
KINDS = ("painter", "autoencoder")
COUNTS = {"learn": (50, 30), "settle": (12, 8), "held": (24, 12)}
"""Part -> pictures of each style by `KINDS`: that the painters draw, and that come through the autoencoder."""
SETTLE_EVERY = 6
"""Every so many training people the limits are read off, and the network does not see."""
NOISE = 0.3
"""Up to this deviation is added to the latents."""


def part_of(index: Index, row: int, people: list[str]) -> str:
    """Which part a picture of a training person belongs to."""
    return "settle" if people.index(index.person[row]) % SETTLE_EVERY == 0 else "learn"


@dataclass(frozen=True)
class Job:
    """One picture: whose, in which part, and how it is drawn."""

    target: Target
    part: str
    kind: str
    order: float


def plan(index: Index, part: str) -> list[Job]:
    """The pictures of a part; morphs are left out, they are two people. Any beginning has all styles in equal shares."""
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
            photo = to_tensor([index.photo(target.row)])
            marks = marks_from(*decode(vae, latents, photo, float(rng.uniform(0.4, 1))))[0]
    return RgbImage((draw(marks, FULL_SIZE, seed) * 255 + 0.5).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="work folder")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long; another run goes on")
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
