"""Calibrate the judge: thresholds at false accept rates, per recogniser x style, on a recipe's own pictures.

Impostors are stylized portraits of other people in the same style: every photo is compared with every
other person's portrait. Genuine pairs are a photo and its own portrait, first attempt; they do not move
the thresholds, they tell what acceptance costs. The limit of `style_on_face` comes from copies of the
photos, that of `burned` from the portraits themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from portrait.errors import FaceError, SettingsError, TooFewPairsError
from portrait.faces.alignment import align_face
from portrait.generate.framing import Framed, frame_portrait
from portrait.images import read_photo
from portrait.intervals import bootstrap_mean, bootstrap_pairs
from portrait.judge.checks import burned_share, style_on_face
from portrait.judge.thresholds import MIN_EXPECTED_ACCEPTS, threshold_at_far
from portrait.records import RgbImage
from portrait.stylizer import STYLE_CROP, Stylizer, Subject, library_versions

COPY_QUANTILE = 0.95
"""`style_on_face` must exceed this quantile of the kind of copy that reaches furthest."""


def calibrate(
    stylizer: Stylizer,
    photos: Sequence[Path],
    *,
    styles: Sequence[str],
    rates: Sequence[float],
    balance: float = 0.5,
    seed: int = 1,
    impostors: Sequence[Path] = (),
    on_picture: Callable[[str, int, int, RgbImage], None] | None = None,
) -> dict[str, Any]:
    """Stylize every person in every style and read the thresholds off the impostor pairs.

    Args:
        stylizer: The recipe with its judges.
        photos: One photo for each of at least two people that the recipe was not trained on.
        styles: Styles of the recipe.
        rates: False accept rates, each in (0, 1).
        balance: Of the portraits, in [0, 1].
        seed: Of each portrait.
        impostors: Photos of still other people, one each; only their faces are compared, which makes more
            impostor pairs and so lower rates possible.
        on_picture: Called with (style, number from 1, number of all pictures, picture).

    Returns:
        The table that `judge.thresholds.thresholds_for` reads, with counts, 95 % intervals that resample
        people, EER, TAR, points of the DET curve, and what is needed to repeat it.

    Raises:
        TooFewPairsError: there are too few people for a rate. Said before anything is generated.
        SettingsError: a rate is not in (0, 1).
    """
    _require_pairs(len(photos), len(photos) + len(impostors), rates)
    people, unseen = _subjects(stylizer, photos)
    others, unseen_others = _subjects(stylizer, impostors)
    _require_pairs(len(people), len(people) + len(others), rates)
    resolution = stylizer.recipe.resolution
    framed = [frame_portrait(s.photo.pixels, s.face, "bust", resolution) for s in people]
    reached = {
        kind: float(np.quantile(values, COPY_QUANTILE)) for kind, values in copies_measured(stylizer, framed).items()
    }
    limit = round_up(max(reached.values()))
    knobs, table, burned = stylizer.recipe.fitted(stylizer.recipe.knobs_at(balance)), {}, [0.0]
    total, made = len(styles) * len(people), 0
    for style in styles:
        vectors: dict[str, list[np.ndarray]] = {}
        styled, missed = [], 0
        for subject, frame in zip(people, framed, strict=True):
            embedding = stylizer.conditioning(subject.identity)
            recipe = stylizer.recipe
            prompt, negative = recipe.prompt_of(recipe.style(style)), recipe.negative_prompt
            conditions = stylizer.generator.prepare(frame.image, embedding, prompt, negative, frame.face)
            (picture,) = stylizer.generator.generate(conditions, knobs, [seed])
            face, embeddings = stylizer.look(picture, frame.face)
            missed += face is None
            for name, vector in embeddings.items():
                vectors.setdefault(name, []).append(vector)
            styled.append(style_on_face(*(align_face(x, frame.face.kps, STYLE_CROP) for x in (frame.image, picture))))
            burned.append(burned_share(frame.image, picture))
            made += 1
            if on_picture is not None:
                on_picture(style, made, total, picture)
        passed, recognisers = np.array(styled) >= limit, {}
        for name, candidates in vectors.items():
            references = np.stack([s.identity.embeddings[name] for s in (*people, *others)])
            recognisers[name], accepted = _recogniser(references @ np.stack(candidates).T, rates)
            passed &= accepted
        table[style] = {
            "recognisers": recognisers,
            "faces_missed": missed,
            "first_attempt_accepted": _rate(passed),
            "style_on_face": {
                "limit": limit,
                "percentiles_5_50_95": [round(float(v), 4) for v in np.quantile(styled, [0.05, 0.5, 0.95])],
            },
        }
    return {
        "recipe": stylizer.recipe.name,
        "styles": table,
        "burned": {"limit": round(max(0.02, 2 * max(burned)), 4), "largest_seen": round(max(burned), 4)},
        "copies": {"quantile": COPY_QUANTILE, "style_on_face": {k: round(v, 4) for k, v in reached.items()}},
        "balance": balance,
        "knobs": asdict(knobs),
        "seed": seed,
        "failure_to_acquire": [path.name for path in (*unseen, *unseen_others)],
        "people": [_named(s) for s in people],
        "impostors": [_named(s) for s in others],
        "weights": stylizer.generator.digests,
        "versions": library_versions(),
    }


def copies_measured(stylizer: Stylizer, framed: Sequence[Framed]) -> dict[str, list[float]]:
    """`style_on_face` of what somebody might offer in place of a stylized picture: kind -> a value per photo."""
    rng, found = np.random.default_rng(0), dict[str, list[float]]()
    for frame in framed:
        own = align_face(frame.image, frame.face.kps, STYLE_CROP)
        for kind, picture in copies(frame.image, rng).items():
            crop = align_face(np.ascontiguousarray(picture), frame.face.kps, STYLE_CROP)
            found.setdefault(kind, []).append(style_on_face(own, crop))
        reconstruct = getattr(stylizer.generator, "reconstruct", None)
        if reconstruct is not None:
            crop = align_face(reconstruct(frame.image), frame.face.kps, STYLE_CROP)
            found.setdefault("autoencoder alone", []).append(style_on_face(own, crop))
    return found


def copies(photo: RgbImage, rng: np.random.Generator) -> dict[str, RgbImage]:
    """A photo compressed, shrunk, relit, tinted and with grain: nothing of it is a style. (H, W, 3) uint8 each."""
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[..., None]
    height, width = photo.shape[:2]

    def smaller(n: int) -> RgbImage:
        small = cv2.resize(photo, (width // n, height // n), interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (width, height))

    return {
        "jpeg quality 20": cv2.imdecode(cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 20])[1], 1),
        "gamma 1.5": (255 * (photo / 255) ** 1.5).astype(np.uint8),
        "contrast 1.4": np.clip((photo.astype(float) - 128) * 1.4 + 128, 0, 255).astype(np.uint8),
        "sepia": np.clip(grey * np.array([1.05, 0.95, 0.8]), 0, 255).astype(np.uint8),
        "duotone": (grey / 255 * np.array([200, 60, 90]) + np.array([40, 20, 120])).astype(np.uint8),
        "noise 10": np.clip(photo + rng.normal(0, 10, photo.shape), 0, 255).astype(np.uint8),
        "half size": smaller(2),
        "third size": smaller(3),
    }


def _recogniser(scores: np.ndarray, rates: Sequence[float]) -> tuple[dict[str, Any], np.ndarray]:
    """What one recogniser does in one style, and which genuine pairs it accepts at the middle rate.

    `scores` is (references, candidates); the first references are the candidates' own people.
    """
    rows, columns = scores.shape
    own = np.arange(rows)[:, None] == np.arange(columns)
    genuine, impostor = scores[own], scores[~own]
    masked = np.where(own, np.nan, scores)
    found = {rate: round_up(threshold_at_far(impostor, rate)) for rate in rates}
    spread = {rate: bootstrap_pairs(masked, partial(np.quantile, q=1 - rate)) for rate in rates}
    accepted = genuine >= found[min(rates, key=lambda r: abs(np.log(r / 0.01)))]
    steps = np.quantile(np.concatenate([genuine, impostor]), np.linspace(0, 1, 41))
    return {
        "thresholds": {f"{rate:g}": value for rate, value in found.items()},
        "threshold_intervals": {f"{rate:g}": [round(v, 4) for v in ends] for rate, ends in spread.items()},
        "tar": {f"{rate:g}": _rate(genuine >= value) for rate, value in found.items()},
        "impostor_pairs": impostor.size,
        "genuine_pairs": genuine.size,
        "genuine_mean": round(float(genuine.mean()), 4),
        "impostor_mean": round(float(impostor.mean()), 4),
        "eer": round(equal_error_rate(genuine, impostor), 4),
        "det": [
            [round(float(t), 4), round(float((impostor >= t).mean()), 5), round(float((genuine < t).mean()), 5)]
            for t in steps
        ],
    }, accepted


def equal_error_rate(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """The rate at which false accepts and false rejects are equal, as a share."""
    steps = np.sort(np.concatenate([genuine, impostor]))
    far = np.array([(impostor >= t).mean() for t in steps])
    frr = np.array([(genuine < t).mean() for t in steps])
    i = int(np.argmin(np.abs(far - frr)))
    return float((far[i] + frr[i]) / 2)


def round_up(value: float) -> float:
    """To four places, never down: a threshold rounded down would accept more than its rate."""
    return float(np.ceil(value * 1e4) / 1e4)


def _rate(passed: np.ndarray) -> dict[str, Any]:
    """A share with its interval and its count."""
    low, high = bootstrap_mean(passed.astype(float), np.arange(len(passed)))
    return {"rate": round(float(passed.mean()), 4), "interval": [round(low, 4), round(high, 4)], "of": len(passed)}


def _require_pairs(candidates: int, references: int, rates: Sequence[float]) -> None:
    pairs = candidates * (references - 1)
    for rate in rates:
        if not 0 < rate < 1:
            raise SettingsError(f"a false accept rate of {rate} is not between 0 and 1")
        if rate * pairs < MIN_EXPECTED_ACCEPTS:
            raise TooFewPairsError(
                f"{candidates} people and {references - candidates} further faces make {pairs} impostor pairs; a FAR of "
                f"{rate:g} needs {int(np.ceil(MIN_EXPECTED_ACCEPTS / rate))}: give more people or --impostors"
            )


def _subjects(stylizer: Stylizer, photos: Sequence[Path]) -> tuple[list[Subject], list[Path]]:
    """The people, and the photos in which no face was found: these are not scored, and counted."""
    found, unseen = [], []
    for path in photos:
        try:
            found.append(stylizer.subjects(read_photo(path), "largest")[0])
        except FaceError:
            unseen.append(path)
    return found, unseen


def _named(subject: Subject) -> dict[str, str]:
    path = subject.photo.path
    return {"photo": f"{path.parent.name}/{path.name}", "sha256": subject.photo.sha256}
