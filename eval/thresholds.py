"""Why photo-to-photo thresholds fail: the same portraits judged by them and by calibrated thresholds.

    python eval/thresholds.py --data FACES      # writes eval/thresholds.json

Held-out people, each stylized once per style at balance 0.5. Per style and judge: the share of genuine pairs accepted (TAR,
with Wilson's interval) and of impostor pairs (FAR), with the photo threshold at a FAR of 0.001 (which `portrait compare` uses)
and with the calibrated one at the same rate. Each person's calibrated threshold is derived from all other people
(`held_out_people.left_out`); the photo thresholds were measured on everybody.

Impostors are all other people, women and men; `far_same_group` counts only pairs whose photos are in the same folder, that
is, of the same sex: the harder ones.

The last columns are about the check of the style, which is independent of likeness: the other styles whose right pictures it
would mostly accept (`calibration.weak_checks`), so that it would not notice a model that drew those instead; and how many of
the `SPOILED` photos the whole gate accepts at a FAR of 0.01 as portraits in that style.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from held_out_people import (
    JUDGES,
    calibrated_rates,
    calibration_sample,
    data_argument,
    held_out,
    left_out,
    limits_of_each_judge,
    name_of,
    subjects,
)

from portrait.calibrate.statistics import weak_checks
from portrait.calibrate.thresholds import thresholds_from
from portrait.files import write_json
from portrait.generate.framing import frame_portrait
from portrait.intervals import wilson
from portrait.judge.checks import format_confusable
from portrait.judge.thresholds import photo_thresholds, thresholds_for
from portrait.judge.verdict import decide
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.load import load_loop
from portrait.records import RgbImage
from portrait.records.calibration import CalibrationTable
from portrait.settings import Settings


def _jpeg(photo: RgbImage) -> RgbImage:
    coded = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 5])[1]
    return RgbImage(np.asarray(cv2.imdecode(coded, 1), np.uint8))


def _pixels(photo: RgbImage) -> RgbImage:
    small = cv2.resize(photo, None, fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA)
    return RgbImage(np.asarray(cv2.resize(small, photo.shape[1::-1], interpolation=cv2.INTER_NEAREST), np.uint8))


def _equalized(photo: RgbImage) -> RgbImage:
    lab = cv2.cvtColor(photo, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(4, (8, 8)).apply(lab[..., 0])
    return RgbImage(np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8))


SPOILED = {
    "jpeg quality 5": _jpeg,
    "pixels of 8 x 8": _pixels,
    "four levels a channel": lambda photo: photo // 64 * 64 + 32,
    "local contrast (CLAHE)": _equalized,
}
"""Photos degraded beyond what calibration counts as a copy; they are not portraits, though some resemble a style."""


def spoiled_accepted(loop: AttemptLoop, data: Path, files: dict[str, Path], far: float) -> dict[str, dict[str, float]]:
    """Style -> kind of `SPOILED` -> the share of held-out people whose spoiled photo the whole gate accepts."""
    people = subjects(loop, held_out(data))
    results: dict[str, dict[str, list[bool]]] = {style: {kind: [] for kind in SPOILED} for style in loop.recipe.styles}
    for subject in people:
        framed = frame_portrait(subject.photo.pixels, subject.face, "bust", loop.recipe.resolution)
        file = files[name_of(subject.photo.path)]
        limits = {
            style: loop.judges.with_drawing(thresholds_for("mini", style, far, file, judges=JUDGES))
            for style in results
        }
        for kind, spoil in SPOILED.items():
            picture = RgbImage(np.ascontiguousarray(spoil(framed.image), np.uint8))
            score = loop.judges.score_picture(framed, subject.identity, picture)
            for style, kinds in results.items():
                drawn = loop.judges.how_drawn(framed, picture, limits[style], score.face)
                kinds[kind].append(decide(replace(score.measurement, **drawn), limits[style]).accepted)
    return {style: {k: round(float(np.mean(v)), 4) for k, v in kinds.items()} for style, kinds in results.items()}


def rates(scores: np.ndarray, limits: np.ndarray, same_group: np.ndarray) -> dict[str, Any]:
    """The genuine and impostor pairs accepted.

    Args:
        scores: (references, P) likeness, the portraits' own photos first.
        limits: (P,) the limit of each portrait.
        same_group: (references, P) bool, whether the photos of both people are in the same folder.
    """
    rows, count = scores.shape
    is_own = np.arange(rows)[:, None] == np.arange(count)
    passed = scores >= limits
    accepted = int(passed[is_own].sum())
    low, high = wilson(accepted, count)
    return {
        "threshold": round(float(limits.mean()), 4),
        "tar": round(accepted / count, 4),
        "tar_interval": [round(low, 4), round(high, 4)],
        "far": round(float(passed[~is_own].mean()), 5),
        "far_same_group": round(float(passed[~is_own & same_group].mean()), 5),
    }


def markdown(styles: dict[str, Any]) -> str:
    """A line per style and judge, with the check of the style on the first of them."""
    lines = [
        "| style | judge | photo: own, others accepted | calibrated: own, others, of the same group | style check is weak | "
        "spoiled photos accepted |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for style, judges in styles.items():
        weak = judges["not_told_apart"]
        remark = f"{format_confusable(weak)} pass it" if weak else "no"
        spoiled = ", ".join(f"{k} {share:.0%}" for k, share in judges["spoiled_photos_accepted"].items() if share)
        for judge in ("arcface", "dlib"):
            cells = [
                f"{row['tar']:.0%}, {row['far']:.2%}" for row in (judges[judge][k] for k in ("photo", "calibrated"))
            ]
            cells[1] += f", {judges[judge]['calibrated']['far_same_group']:.2%}"
            lines.append(f"| {style} | {judge} | " + " | ".join([*cells, remark, spoiled]) + " |")
            remark = spoiled = ""
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "thresholds.json")
    args = parser.parse_args()
    loop = load_loop(Settings())
    sample, files, photo = calibration_sample(loop, args.data), left_out(loop, args.data), photo_thresholds()
    spoiled = spoiled_accepted(loop, args.data, files, 0.01)
    folders = np.array([name.split("/")[0] for name in (*sample.people, *sample.impostors)])
    same_group = folders[:, None] == folders[: len(sample.people)]
    weak = weak_checks(CalibrationTable.model_validate(thresholds_from(sample, calibrated_rates(), intervals=False)))
    table: dict[str, dict[str, Any]] = {}
    for style, style_pictures in sample.styles.items():
        limits = [limits_of_each_judge(files[person], style, photo.far) for person in sample.people]
        table[style] = {"not_told_apart": weak.get(style, {}), "spoiled_photos_accepted": spoiled[style]}
        for judge, scores in style_pictures.scores.items():
            if judge not in photo.limits:
                continue  # this judge has no photo threshold
            bare = np.full(len(limits), photo.limits[judge])
            judge_limits = np.array([values[judge] for values in limits])
            table[style][judge] = {
                "photo": rates(scores, bare, same_group),
                "calibrated": rates(scores, judge_limits, same_group),
            }
            loose = [limits_of_each_judge(files[person], style, 0.01)[judge] for person in sample.people]
            table[style][judge]["calibrated at 0.01"] = rates(scores, np.array(loose), same_group)
    print(markdown(table))
    count = len(sample.people)
    pairs = count * (count - 1 + len(sample.impostors))
    result = {"people": count, "impostor_pairs": pairs, "balance": 0.5, "asked_far": photo.far, "styles": table}
    print(write_json(args.output, result | {"weights": loop.generator.digests}))


if __name__ == "__main__":
    main()
