"""Calibrate the judge: thresholds at false accept rates, per recogniser x style, on a recipe's own pictures.

Impostors are stylized portraits of other people in the same style: every photo is compared with every
other person's portrait. Genuine pairs are a photo and its own portrait, first attempt; they do not move
the thresholds, they tell what acceptance costs. The limit of `style_on_face` comes from copies of the
photos, that of `burned` from the portraits themselves, and so do the statistics of each style, for which every
person is drawn once more at one of the dial's ends, from a photo as people have them: grey, faded, dark, small.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from portrait.errors import FaceError, SettingsError, TooFewPairsError
from portrait.generate.framing import Framed, frame_portrait
from portrait.images import read_photo
from portrait.intervals import bootstrap_pairs, wilson
from portrait.judge.checks import (
    LEAST_FOR_STATISTICS,
    STYLE_FEATURES,
    StyleStatistics,
    burned_share,
    left_out_distances,
    style_distance,
)
from portrait.judge.thresholds import MIN_EXPECTED_ACCEPTS, order_statistic, photo_thresholds, threshold_at_far
from portrait.judge.verification import similarities
from portrait.records import Identity, RgbImage
from portrait.stylizer import Stylizer, face_features, face_style, library_versions

log = logging.getLogger(__name__)

COPY_QUANTILE = 0.95
"""`style_on_face` must reach this quantile of the kind of copy that reaches furthest."""
STYLE_REJECTED = 0.02
"""So many of a style's own right pictures may be farther from its statistics than the limit."""
BURNED_QUANTILE, BURNED_LEAST, BURNED_MOST = 0.95, 0.02, 0.25
"""The limit of `burned` is twice this quantile of the portraits' own shares, kept between the two ends."""


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
        SettingsError: a rate is not in (0, 1), or a photo was given twice.
        ImageReadError: a photo cannot be read.
    """
    stylizer.recipe.knobs_at(balance)  # refused before anything is made
    _require_pairs(len(photos), len(photos) + len(impostors), rates)
    people, unseen = _people(stylizer, photos)
    others, unseen_others = _people(stylizer, impostors)
    _require_pairs(len(people), len(people) + len(others), rates)
    _require_different([*people, *others])
    framed = [p.framed for p in people]
    reached = {
        kind: float(np.quantile(values, COPY_QUANTILE, method="higher"))
        for kind, values in copies_measured(stylizer, framed).items()
    }
    limit = round_up(max(reached.values()))
    table, burned = {}, []
    drawn: dict[str, _Drawn] = {}
    total, made = 2 * len(styles) * len(people), 0
    for style in styles:
        vectors: dict[str, list[np.ndarray]] = {}
        styled, missed = [], 0
        knobs = stylizer.dialled(style, balance, limit)
        ends = [stylizer.dialled(style, end, limit) for end in (0.0, 1.0)]
        features: list[np.ndarray] = []
        for person in people:
            frame = person.framed
            picture = stylizer.draw(frame, person.identity, style, knobs, seed)
            face, embeddings = stylizer.look(picture, frame.face)
            missed += face is None
            for name, vector in embeddings.items():
                vectors.setdefault(name, []).append(vector)
            styled.append(face_style(frame, picture))
            burned.append(burned_share(frame.image, picture))
            features.append(face_features(frame, picture))
            made += 1
            if on_picture is not None:
                on_picture(style, made, total, picture)
        others_drawn = []  # the same people again: the style is what it is all along the dial, and for every photo
        for i, person in enumerate(people):
            frame = replace(person.framed, image=ordinary(person.framed.image, i))
            picture = stylizer.draw(frame, person.identity, style, ends[i // len(ORDINARY) % 2], seed)
            embeddings = stylizer.look(picture, frame.face)[1]
            likeness = similarities(person.identity, embeddings)
            others_drawn.append((likeness, face_style(frame, picture), face_features(frame, picture)))
            made += 1
            if on_picture is not None:
                on_picture(style, made, total, picture)
        passed, recognisers = {rate: np.array(styled) >= limit for rate in rates}, {}
        for name, candidates in vectors.items():
            references = np.stack([p.identity.embeddings[name] for p in (*people, *others)])
            recognisers[name], accepted = _recogniser(references @ np.stack(candidates).T, rates)
            passed = {rate: passed[rate] & accepted[rate] for rate in rates}
        loose = max(rates)
        least = {name: entry["thresholds"][f"{loose:g}"] for name, entry in recognisers.items()}
        rows = [(x, value, i) for i, (x, value) in enumerate(zip(features, styled, strict=True)) if passed[loose][i]]
        rows += [
            (x, style_value, i)
            for i, (likeness, style_value, x) in enumerate(others_drawn)
            if style_value >= limit and all(likeness[name] >= value for name, value in least.items())
        ]
        drawn[style] = _Drawn(
            features=np.array([x for x, _, _ in rows]).reshape(-1, len(STYLE_FEATURES)),
            styled=[value for _, value, _ in rows],
            people=[i for _, _, i in rows],
        )
        table[style] = {
            "knobs": asdict(knobs),
            "recognisers": recognisers,
            "faces_missed": missed,
            "first_attempt_accepted": {f"{rate:g}": _rate(values) for rate, values in passed.items()},
            "style_on_face": {
                "limit": limit,
                "percentiles_5_50_95": [round(float(v), 4) for v in np.quantile(styled, [0.05, 0.5, 0.95])],
            },
        }
    for style, entry in _statistics(drawn).items():
        table[style]["style_statistics"] = entry
    usual = float(np.quantile(burned, BURNED_QUANTILE))
    return {
        "recipe": stylizer.recipe.name,
        "styles": table,
        "burned": {
            "limit": round(min(BURNED_MOST, max(BURNED_LEAST, 2 * usual)), 4),
            "percentile_95": round(usual, 4),
            "largest_seen": round(max(burned), 4),
        },
        "copies": {"quantile": COPY_QUANTILE, "style_on_face": {k: round(v, 4) for k, v in reached.items()}},
        "balance": balance,
        "seed": seed,
        "failure_to_acquire": [path.name for path in (*unseen, *unseen_others)],
        "people": {p.name: p.sha256 for p in people},
        "impostors": {p.name: p.sha256 for p in others},
        "weights": stylizer.generator.digests,
        "versions": library_versions(),
    }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Drawn:
    """`style_features` (N, F) and `style_on_face` of the accepted pictures of one style, and whose they are."""

    features: np.ndarray
    styled: list[float]
    people: list[int]


def _statistics(drawn: dict[str, _Drawn]) -> dict[str, dict[str, Any] | None]:
    """Per style: how its faces are drawn, and the limit of the distance from that; None for too few pictures.

    The limit is the order statistic of the distances of each picture from the other people's that lets all but
    `STYLE_REJECTED` of new right pictures pass (the jackknife of conformal prediction), or the largest distance
    where there are too few pictures for that rate; `right_pictures_rejected` is the rate that it stands for. `least` is
    the same for `style_on_face`, from below; the two may reject different pictures, so up to twice the rate. Of the
    other styles' pictures the share that is rejected is told, style by style.

    Reference:
        Vovk et al. 2005, "Algorithmic Learning in a Random World".
    """
    found: dict[str, dict[str, Any] | None] = {}
    for style, own in drawn.items():
        count = len(own.features)
        if count < LEAST_FOR_STATISTICS:
            found[style] = None
            continue
        distances = np.sort(left_out_distances(own.features, own.people))
        rank = min(count, int(np.ceil((count + 1) * (1 - STYLE_REJECTED))))
        low = max(1, int((count + 1) * STYLE_REJECTED))
        least = np.floor(np.sort(own.styled)[low - 1] * 1e4) / 1e4
        statistics = StyleStatistics.of(own.features, round_up(float(distances[rank - 1])), float(least))
        rejected = {
            other: round(
                float(
                    np.mean(
                        [
                            style_distance(x, statistics) > statistics.limit or value < statistics.least
                            for x, value in zip(d.features, d.styled, strict=True)
                        ]
                    )
                ),
                4,
            )
            for other, d in drawn.items()
            if other != style and len(d.features)
        }
        found[style] = {
            "limit": statistics.limit,
            "least": statistics.least,
            "right_pictures_rejected": round(max(1 - rank / (count + 1), 0.0), 4),
            "pictures": count,
            "percentiles_5_50_95": [round(float(v), 4) for v in np.quantile(distances, [0.05, 0.5, 0.95])],
            "others_rejected": rejected,
            "features": list(STYLE_FEATURES),
            "mean": [round(float(v), 5) for v in statistics.mean],
            "precision": [[round(float(v), 5) for v in row] for row in statistics.precision],
        }
    return found


def copies_measured(stylizer: Stylizer, framed: Sequence[Framed]) -> dict[str, list[float]]:
    """`style_on_face` of what somebody might offer in place of a stylized picture: kind -> a value per photo."""
    rng, found = np.random.default_rng(0), dict[str, list[float]]()
    for frame in framed:
        offered = copies(frame.image, rng)
        reconstruct = getattr(stylizer.generator, "reconstruct", None)
        if reconstruct is not None:
            offered["autoencoder alone"] = reconstruct(frame.image)
        for kind, picture in offered.items():
            found.setdefault(kind, []).append(face_style(frame, np.ascontiguousarray(picture)))
    return found


def _toned(photo: np.ndarray, grey: float, contrast: float, paper: Sequence[float]) -> np.ndarray:
    """`photo` in [0, 1], part of its colour gone, its contrast shrunk towards the colour of the paper."""
    luma = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[..., None]
    tint = np.array(paper, np.float32)
    return contrast * (grey * luma * tint / tint.max() + (1 - grey) * photo) + (1 - contrast) * tint


def _small(photo: np.ndarray) -> np.ndarray:
    """At a third of the size, compressed."""
    height, width = photo.shape[:2]
    small = cv2.resize((255 * photo).astype(np.uint8), (width // 3, height // 3), interpolation=cv2.INTER_AREA)
    coded = cv2.imdecode(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], 1)
    assert coded is not None  # it was coded a line ago
    return cv2.resize(coded, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32) / 255


ORDINARY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda photo: photo,
    "grey": lambda photo: _toned(photo, 1.0, 1.0, (1.0, 1.0, 1.0)),
    "faded": lambda photo: _toned(photo, 0.6, 0.55, (0.85, 0.78, 0.64)),
    "low contrast": lambda photo: _toned(photo, 0.0, 0.4, (0.55, 0.55, 0.55)),
    "dark": lambda photo: 0.85 * photo**1.9,
    "bright": lambda photo: 1.25 * photo**0.8,
    "yellow light": lambda photo: photo * np.array([1.1, 0.95, 0.65], np.float32),
    "small": _small,
}
"""The photos that people have, made of a good one: (H, W, 3) float32 in [0, 1] -> the same, not yet clipped."""


def ordinary(photo: RgbImage, kind: int) -> RgbImage:
    """A photo as ordinary light, cameras, prints and messengers leave it; `kind` counts through `ORDINARY`."""
    spoil = list(ORDINARY.values())[kind % len(ORDINARY)]
    return (np.clip(spoil(photo.astype(np.float32) / 255), 0, 1) * 255 + 0.5).astype(np.uint8)


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


def _recogniser(scores: np.ndarray, rates: Sequence[float]) -> tuple[dict[str, Any], dict[float, np.ndarray]]:
    """What one recogniser does in one style, and which genuine pairs it accepts at each rate.

    `scores` is (references, candidates); the first references are the candidates' own people.
    """
    rows, columns = scores.shape
    own = np.arange(rows)[:, None] == np.arange(columns)
    genuine, impostor = scores[own], scores[~own]
    masked = np.where(own, np.nan, scores)
    found = {rate: round_up(threshold_at_far(impostor, rate)) for rate in rates}
    spread = {rate: bootstrap_pairs(masked, partial(order_statistic, far=rate)) for rate in rates}
    accepted = {rate: genuine >= value for rate, value in found.items()}
    det = [order_statistic(impostor, rate) for rate in np.geomspace(1 / impostor.size, 0.9, 40)]
    return {
        "thresholds": {f"{rate:g}": value for rate, value in found.items()},
        "threshold_intervals": {f"{rate:g}": [round(v, 4) for v in ends] for rate, ends in spread.items()},
        "tar": {f"{rate:g}": _rate(values) for rate, values in accepted.items()},
        "impostor_pairs": impostor.size,
        "genuine_pairs": genuine.size,
        "genuine_mean": round(float(genuine.mean()), 4),
        "impostor_mean": round(float(impostor.mean()), 4),
        "eer": round(equal_error_rate(genuine, impostor), 4),
        "det": [
            [round(float(t), 4), round(float((impostor >= t).mean()), 5), round(float((genuine < t).mean()), 5)]
            for t in det
        ],
    }, accepted


def equal_error_rate(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """The rate at which false accepts and false rejects are equal, as a share."""
    steps = np.sort(np.concatenate([genuine, impostor]))
    far = 1 - np.searchsorted(np.sort(impostor), steps) / len(impostor)
    frr = np.searchsorted(np.sort(genuine), steps) / len(genuine)
    i = int(np.argmin(np.abs(far - frr)))
    return float((far[i] + frr[i]) / 2)


def round_up(value: float) -> float:
    """To four places, never down: a threshold rounded down would accept more than its rate."""
    return float(np.ceil(value * 1e4) / 1e4)


def _rate(passed: np.ndarray) -> dict[str, Any]:
    """A share with its interval and its count."""
    low, high = wilson(int(passed.sum()), len(passed))
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Person:
    """What is kept of a photo: who it is and the framed square, not all of its pixels."""

    name: str
    sha256: str
    identity: Identity
    framed: Framed


def _people(stylizer: Stylizer, photos: Sequence[Path]) -> tuple[list[_Person], list[Path]]:
    """The people, and the photos in which no face was found: these are not scored, and counted."""
    found, unseen = [], []
    for path in photos:
        photo = read_photo(path)
        try:
            (subject,) = stylizer.subjects(photo, "largest")
        except FaceError:
            unseen.append(path)
            continue
        framed = frame_portrait(photo.pixels, subject.face, "bust", stylizer.recipe.resolution)
        name = f"{path.parent.name}/{path.name}"
        found.append(_Person(name=name, sha256=photo.sha256, identity=subject.identity, framed=framed))
    return found, unseen


def _require_different(people: Sequence[_Person]) -> None:
    """A photo that stands for two people would be an impostor of itself and lift every threshold."""
    first: dict[str, str] = {}
    for person in people:
        if (other := first.setdefault(person.sha256, person.name)) != person.name:
            raise SettingsError(f"{person.name} and {other} are the same photo; give each person once")
    limits = photo_thresholds()["recognisers"]
    for name in people[0].identity.embeddings if people else ():
        vectors = np.stack([p.identity.embeddings[name] for p in people])
        alike = np.triu(vectors @ vectors.T, 1) >= limits[name]["threshold"] if name in limits else np.zeros((0, 0))
        for a, b in zip(*np.nonzero(alike), strict=True):
            log.warning(
                "%s: %s and %s look like one person; give each person once", name, people[a].name, people[b].name
            )
