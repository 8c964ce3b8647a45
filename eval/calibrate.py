"""Calibrate the judge: thresholds at a false accept rate, per recogniser x style, on people that training never saw.

    python eval/calibrate.py --data FACES                 # writes portrait/recipes/mini.thresholds.json
    python eval/calibrate.py --data FACES --photos        # writes portrait/recipes/photo.thresholds.json

Impostors are the stylized portraits of other people in the same style: each held-out person's photo is
compared with every other person's portrait. Genuine pairs are a person's photo and own portrait, first
attempt, default balance; they do not move the thresholds, they tell what acceptance costs.

The limit of `style_on_face` is the 95th percentile of the worst kind of copy of the photos: compressed,
relit, noisy, blurred, tinted, and passed through the recipe's autoencoder alone. The limit of `burned` is twice the
largest share seen on the portraits themselves, at least 0.02.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import torch
from people import data_argument, everyone, held_out, interval, subjects

from portrait.faces.alignment import align_face
from portrait.generate.framing import frame_portrait
from portrait.images import write_json, write_picture
from portrait.judge.checks import burned_share, style_on_face
from portrait.judge.thresholds import threshold_at_far
from portrait.judge.verification import similarity
from portrait.report.sheet import contact_sheet
from portrait.stylizer import STYLE_CROP, Stylizer

RATES = (0.05, 0.02, 0.01)
PHOTO_FAR = 0.001
RECIPES = Path(__file__).parents[1] / "portrait" / "recipes"


def copies(photo: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """What somebody might offer in place of a stylized picture."""
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[..., None]

    def smaller(n: int) -> np.ndarray:
        return cv2.resize(cv2.resize(photo, (n, n), interpolation=cv2.INTER_AREA), photo.shape[1::-1])

    return {
        "jpeg quality 20": cv2.imdecode(cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 20])[1], 1),
        "gamma 1.5": (255 * (photo / 255) ** 1.5).astype(np.uint8),
        "contrast 1.4": np.clip((photo.astype(float) - 128) * 1.4 + 128, 0, 255).astype(np.uint8),
        "sepia": np.clip(grey * np.array([1.05, 0.95, 0.8]), 0, 255).astype(np.uint8),
        "noise 10": np.clip(photo + rng.normal(0, 10, photo.shape), 0, 255).astype(np.uint8),
        "half size": smaller(photo.shape[0] // 2),
        "third size": smaller(photo.shape[0] // 3),
    }


def equal_error_rate(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """The rate at which false accepts and false rejects are equal, as a share."""
    steps = np.sort(np.concatenate([genuine, impostor]))
    far = np.array([(impostor >= t).mean() for t in steps])
    frr = np.array([(genuine < t).mean() for t in steps])
    i = int(np.argmin(np.abs(far - frr)))
    return float((far[i] + frr[i]) / 2)


def calibrate_photos(data: Path) -> dict:
    """Photo-to-photo thresholds from all pairs of different people; there are no genuine pairs in the data."""
    stylizer = Stylizer.from_recipe("mini")
    people = subjects(stylizer, everyone(data))
    table = {}
    for name in ("arcface", "dlib"):
        vectors = np.stack([s.identity.embeddings[name] for s in people])
        scores = (vectors @ vectors.T)[np.triu_indices(len(people), 1)]
        value = round_up(threshold_at_far(scores, PHOTO_FAR))
        table[name] = {"threshold": value, "impostor_pairs": len(scores), "people": len(people)}
        print(name, table[name])
    return {"far": PHOTO_FAR, "recognisers": table, "note": "false rejects were not measured: one photo a person"}


def calibrate(data: Path, recipe: str, balance: float, sheet: Path | None) -> dict:
    stylizer = Stylizer.from_recipe(recipe)
    people = subjects(stylizer, held_out(data))
    knobs = stylizer.recipe.knobs_at(balance)
    rng, names = np.random.default_rng(0), ["arcface", "dlib"]
    framed = [frame_portrait(s.photo.pixels, s.face, "bust", stylizer.recipe.resolution) for s in people]
    unstyled: dict[str, list[float]] = {}
    for f in framed:
        own = align_face(f.image, f.face.kps, STYLE_CROP)
        offered = copies(f.image, rng)
        offered["autoencoder alone"] = through_autoencoder(stylizer, f.image)
        for kind, picture in offered.items():
            crop = align_face(np.ascontiguousarray(picture), f.face.kps, STYLE_CROP)
            unstyled.setdefault(kind, []).append(style_on_face(own, crop))
    limit = max(float(np.quantile(values, 0.95)) for values in unstyled.values())
    styles, burned, cells = {}, [], []
    for style in stylizer.recipe.styles:
        vectors: dict[str, list[np.ndarray]] = {n: [] for n in names}
        styled, missed = [], 0
        for s, f in zip(people, framed, strict=True):
            prompt = stylizer.recipe.style(style).prompt
            conditions = stylizer.generator.prepare(f.image, s.identity.embeddings["arcface"], prompt)
            (picture,) = stylizer.generator.generate(conditions, knobs, [1])
            face, embeddings = stylizer.look(picture, f.face)
            missed += face is None
            for n in names:
                vectors[n].append(embeddings[n])
            styled.append(style_on_face(*(align_face(x, f.face.kps, STYLE_CROP) for x in (f.image, picture))))
            burned.append(burned_share(f.image, picture))
            if len(cells) % 8 or len(styled) == 1:
                cells.append((picture, style, None))
        entry = {}
        passed = np.array(styled) >= limit
        for n in names:
            matrix = np.array([[similarity(s.identity.embeddings[n], v) for v in vectors[n]] for s in people])
            genuine, impostor = np.diag(matrix), matrix[~np.eye(len(people), dtype=bool)]
            found = {f"{rate:g}": round_up(threshold_at_far(impostor, rate)) for rate in RATES}
            accepted = genuine >= found["0.01"]
            passed &= accepted
            entry[n] = {
                "thresholds": found,
                "impostor_pairs": len(impostor),
                "impostor_people": len(people),
                "genuine_pairs": len(genuine),
                "genuine_mean": round(float(genuine.mean()), 4),
                "impostor_mean": round(float(impostor.mean()), 4),
                "tar_at_0.01": round(float(accepted.mean()), 4),
                "tar_interval": [round(v, 4) for v in interval(accepted, np.arange(len(people)))],
                "eer": round(equal_error_rate(genuine, impostor), 4),
            }
            print(style, n, json.dumps(entry[n]), flush=True)
        styles[style] = {
            "recognisers": entry,
            "faces_missed": missed,
            "first_attempt_accepted": round(float(passed.mean()), 4),
            "style_on_face": {
                "limit": round(limit, 4),
                "percentiles_5_50_95": [round(float(v), 4) for v in np.quantile(styled, [0.05, 0.5, 0.95])],
            },
        }
        print(
            style,
            "first attempt accepted",
            styles[style]["first_attempt_accepted"],
            "style",
            styles[style]["style_on_face"],
        )
    if sheet is not None:
        write_picture(sheet, contact_sheet(cells, columns=8, side=256), quality=80)
    return {
        "recipe": recipe,
        "balance": balance,
        "knobs": vars_of(knobs),
        "people": [str(s.photo.path.relative_to(data)) for s in people],
        "weights": stylizer.generator.digests,
        "styles": styles,
        "burned": {"limit": round(max(0.02, 2 * max(burned)), 4), "largest_seen": round(max(burned), 4)},
        "copies_95th_percentile": {k: round(float(np.quantile(v, 0.95)), 4) for k, v in unstyled.items()},
    }


@torch.inference_mode()
def through_autoencoder(stylizer: Stylizer, image: np.ndarray) -> np.ndarray:
    """The photo encoded and decoded, nothing else, and without a look at the photo."""
    vae = stylizer.generator.pipe.vae
    out = vae(torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1)[0]
    return ((out.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()


def round_up(value: float) -> float:
    """To four places, never down: a threshold rounded down would accept more than its rate."""
    return float(np.ceil(value * 1e4) / 1e4)


def vars_of(knobs: object) -> dict:
    return {name: getattr(knobs, name) for name in knobs.__dataclass_fields__}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_argument(parser)
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--balance", type=float, default=0.5)
    parser.add_argument("--photos", action="store_true", help="calibrate photo to photo instead")
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet of the portraits")
    parser.add_argument("--output", type=Path, help="another file to write")
    args = parser.parse_args()
    if args.photos:
        table, name = calibrate_photos(args.data), "photo"
    else:
        table, name = calibrate(args.data, args.recipe, args.balance, args.sheet), args.recipe
    print(write_json(args.output or RECIPES / f"{name}.thresholds.json", table))


if __name__ == "__main__":
    main()
