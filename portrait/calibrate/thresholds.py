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
from dataclasses import asdict, dataclass, fields, replace
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
    FACE_STYLE_FEATURES,
    MIN_PICTURES_FOR_STATISTICS,
    StyleStatistics,
    confusable_styles,
    format_confusable,
    leave_one_person_out_distances,
    style_distance,
)
from portrait.judge.thresholds import MIN_EXPECTED_ACCEPTS, order_statistic, photo_thresholds, threshold_at_far
from portrait.loop.record import library_versions
from portrait.loop.scoring import face_features, face_style
from portrait.loop.stylizer import AttemptLoop
from portrait.records import Identity, Knobs, RgbImage

log = logging.getLogger(__name__)

COPY_QUANTILE = 0.95
"""`style_on_face` must reach this quantile of the kind of copy that reaches furthest."""
STYLE_REJECTED = 0.02
"""So many of a style's own right pictures may be farther from its statistics than the limit."""
BURNED_QUANTILE, BURNED_LEAST, BURNED_MOST = 0.95, 0.02, 0.25
"""The limit of `burned` is twice this quantile of the portraits' own shares, kept between the two ends."""


def calibrate(
    stylizer: AttemptLoop,
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
    sample = measure(
        stylizer,
        photos,
        styles=styles,
        rates=rates,
        balance=balance,
        seed=seed,
        impostors=impostors,
        on_picture=on_picture,
    )
    limits = read_off(sample, rates)
    for style, weak in weak_checks(limits).items():
        log.warning("%s: the check of the style is weak: %s pass it too", style, format_confusable(weak))
    return {
        "recipe": stylizer.recipe.name,
        **limits,
        "balance": balance,
        "seed": seed,
        "failure_to_acquire": sample.unseen,
        "people": sample.people,
        "impostors": sample.impostors,
        "weights": stylizer.generator.digests,
        "versions": library_versions(),
    }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pictures:
    """What was measured on the P people's portraits in one style.

    `scores` is judge -> (P + impostors, P) likeness of each photo to each portrait, the candidates' own photos first.
    `features` are (P, F) `face_style_features`; all else is (P,). `ordinary_...` are those of the second portraits, from
    ordinary photos.
    """

    knobs: Knobs
    scores: dict[str, np.ndarray]
    missed: np.ndarray
    styled: np.ndarray
    burned: np.ndarray
    features: np.ndarray
    ordinary_likeness: dict[str, np.ndarray]
    ordinary_styled: np.ndarray
    ordinary_features: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """All that calibration measures, before a limit is read off it. `people` and `impostors` map name to SHA-256;
    `copies` maps a kind of copy to (P,) `style_on_face`."""

    people: dict[str, str]
    impostors: dict[str, str]
    unseen: list[str]
    copies: dict[str, np.ndarray]
    styles: dict[str, Pictures]

    def without(self, person: str) -> Sample:
        """The same without one person: neither photo nor portraits nor copies are in any limit that is read off it."""
        keep = np.array([name != person for name in self.people])
        rows = np.concatenate([keep, np.ones(len(self.impostors), bool)])

        def kept(pictures: Pictures) -> Pictures:
            values = {field.name: getattr(pictures, field.name) for field in fields(pictures)}
            return replace(
                pictures,
                **{name: value[keep] for name, value in values.items() if isinstance(value, np.ndarray)},
                scores={judge: values[np.ix_(rows, keep)] for judge, values in pictures.scores.items()},
                ordinary_likeness={judge: values[keep] for judge, values in pictures.ordinary_likeness.items()},
            )

        return replace(
            self,
            people={name: digest for name, digest in self.people.items() if name != person},
            copies={kind: values[keep] for kind, values in self.copies.items()},
            styles={style: kept(pictures) for style, pictures in self.styles.items()},
        )


def measure(
    stylizer: AttemptLoop,
    photos: Sequence[Path],
    *,
    styles: Sequence[str],
    rates: Sequence[float],
    balance: float = 0.5,
    seed: int = 1,
    impostors: Sequence[Path] = (),
    on_picture: Callable[[str, int, int, RgbImage], None] | None = None,
) -> Sample:
    """Make the portraits that `calibrate` reads its limits off, and measure them; arguments and errors are its own."""
    stylizer.recipe.knobs_at(balance)  # refused before anything is made
    _require_pairs(len(photos), len(photos) + len(impostors), rates)
    people, unseen = _people(stylizer, photos)
    others, unseen_others = _people(stylizer, impostors)
    _require_pairs(len(people), len(people) + len(others), rates)
    _require_different([*people, *others])
    copied = {kind: np.array(v) for kind, v in copies_measured(stylizer, [p.framed for p in people]).items()}
    limit = _copy_limit(copied)
    found = {}
    total, made = 2 * len(styles) * len(people), 0
    for style in styles:
        knobs = stylizer.knobs_for_balance(style, balance, limit)
        ends = [stylizer.knobs_for_balance(style, end, limit) for end in (0.0, 1.0)]
        # Each once as asked, then once more: the style is what it is all along the dial, and for every photo.
        plain = [(p, p.framed, knobs) for p in people]
        spoiled = [
            (p, replace(p.framed, image=ordinary(p.framed.image, i)), ends[i // len(ORDINARY) % 2])
            for i, p in enumerate(people)
        ]
        rows = []
        for person, frame, chosen in (*plain, *spoiled):
            picture = stylizer.draw(frame, person.identity, style, chosen, seed)
            score = stylizer.judges.score_picture(frame, person.identity, picture)
            measured = score.measurement
            row = (score.face is None, measured.style_on_face, measured.burned, face_features(frame, picture))
            rows.append((*row, score.embeddings, measured.similarity))
            made += 1
            if on_picture is not None:
                on_picture(style, made, total, picture)
        missed, styled, burned, features, embeddings, likeness = zip(*rows, strict=True)
        n, judges = len(people), list(likeness[0])
        references = {j: np.stack([p.identity.embeddings[j] for p in (*people, *others)]) for j in judges}
        found[style] = Pictures(
            knobs=knobs,
            scores={j: references[j] @ np.stack([e[j] for e in embeddings[:n]]).T for j in judges},
            missed=np.array(missed[:n]),
            styled=np.array(styled[:n]),
            burned=np.array(burned[:n]),
            features=np.array(features[:n]),
            ordinary_likeness={j: np.array([row[j] for row in likeness[n:]]) for j in judges},
            ordinary_styled=np.array(styled[n:]),
            ordinary_features=np.array(features[n:]),
        )
    return Sample(
        people={p.name: p.sha256 for p in people},
        impostors={p.name: p.sha256 for p in others},
        unseen=[path.name for path in (*unseen, *unseen_others)],
        copies=copied,
        styles=found,
    )


def read_off(sample: Sample, rates: Sequence[float], *, intervals: bool = True) -> dict[str, Any]:
    """The limits that a sample gives, as `thresholds_for` reads them.

    Args:
        sample: From `measure`.
        rates: False accept rates, each in (0, 1).
        intervals: Whether the thresholds' intervals are wanted; they take most of the time.

    Raises:
        TooFewPairsError: there are too few people for a rate.
    """
    limit = _copy_limit(sample.copies)
    table: dict[str, dict[str, Any]] = {}
    drawn = {}
    for style, seen in sample.styles.items():
        passed, recognisers = {rate: seen.styled >= limit for rate in rates}, {}
        for name, scores in seen.scores.items():
            recognisers[name], accepted = _recogniser(scores, rates, intervals)
            passed = {rate: passed[rate] & accepted[rate] for rate in rates}
        loose = max(rates)
        least = {name: entry["thresholds"][f"{loose:g}"] for name, entry in recognisers.items()}
        again = seen.ordinary_styled >= limit
        for name, likeness in seen.ordinary_likeness.items():
            again &= likeness >= least[name]
        people = np.arange(len(again))
        drawn[style] = _Drawn(
            features=np.concatenate([seen.features[passed[loose]], seen.ordinary_features[again]]),
            styled=[*seen.styled[passed[loose]], *seen.ordinary_styled[again]],
            people=[*people[passed[loose]], *people[again]],
        )
        table[style] = {
            "knobs": asdict(seen.knobs),
            "recognisers": recognisers,
            "faces_missed": int(seen.missed.sum()),
            "first_attempt_accepted": {f"{rate:g}": _rate(values) for rate, values in passed.items()},
            "style_on_face": {
                "limit": limit,
                "percentiles_5_50_95": [round(float(v), 4) for v in np.quantile(seen.styled, [0.05, 0.5, 0.95])],
            },
        }
    for style, entry in _statistics(drawn).items():
        table[style]["style_statistics"] = entry
    burned = np.concatenate([seen.burned for seen in sample.styles.values()])
    usual = float(np.quantile(burned, BURNED_QUANTILE))
    return {
        "styles": table,
        "burned": {
            "limit": round(min(BURNED_MOST, max(BURNED_LEAST, 2 * usual)), 4),
            "percentile_95": round(usual, 4),
            "largest_seen": round(float(burned.max()), 4),
        },
        "copies": {
            "quantile": COPY_QUANTILE,
            "style_on_face": {kind: round(reached, 4) for kind, reached in _reached(sample.copies).items()},
        },
    }


def _reached(copied: dict[str, np.ndarray]) -> dict[str, float]:
    return {kind: float(np.quantile(v, COPY_QUANTILE, method="higher")) for kind, v in copied.items()}


def _copy_limit(copied: dict[str, np.ndarray]) -> float:
    """What `style_on_face` must reach: more than all but a few copies of the kind that reaches furthest."""
    return round_up(max(_reached(copied).values()))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Drawn:
    """`face_style_features` (N, F) and `style_on_face` of the accepted pictures of one style, and whose they are."""

    features: np.ndarray
    styled: list[float]
    people: list[int]


def _statistics(drawn: dict[str, _Drawn]) -> dict[str, dict[str, Any] | None]:
    """Per style: how its faces are drawn, and the limit of the distance from that; None for too few pictures.

    The limit is the order statistic of the distances of each picture from the other people's that lets all but
    `STYLE_REJECTED` of new right pictures pass (the jackknife of conformal prediction), or the largest distance
    where there are too few pictures for that rate; `right_pictures_rejected` is the rate that it stands for. `least` is
    the same for `style_on_face`, from below; the two may reject different pictures, so up to twice the rate.
    `other_styles_rejected` is the share of each other style's right pictures that this style's limits reject: what the
    check is worth against a model that draws the wrong style. Likeness has no part in it.

    Reference:
        Vovk et al. 2005, "Algorithmic Learning in a Random World".
    """
    found: dict[str, dict[str, Any] | None] = {}
    for style, own in drawn.items():
        count = len(own.features)
        if count < MIN_PICTURES_FOR_STATISTICS:
            found[style] = None
            continue
        distances = np.sort(leave_one_person_out_distances(own.features, own.people))
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
            "other_styles_rejected": rejected,
            "features": list(FACE_STYLE_FEATURES),
            "mean": [round(float(v), 5) for v in statistics.mean],
            "precision": [[round(float(v), 5) for v in row] for row in statistics.precision],
        }
    return found


def weak_checks(table: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Of a calibration's table: the styles whose check lets most pictures of other styles pass, with `confusable_styles`."""
    statistics = {style: entry["style_statistics"] or {} for style, entry in table["styles"].items()}
    found = {style: confusable_styles(own.get("other_styles_rejected", {})) for style, own in statistics.items()}
    return {style: weak for style, weak in found.items() if weak}


def copies_measured(stylizer: AttemptLoop, framed: Sequence[Framed]) -> dict[str, list[float]]:
    """`style_on_face` of what somebody might offer in place of a stylized picture: kind -> a value per photo."""
    rng, found = np.random.default_rng(0), dict[str, list[float]]()
    for frame in framed:
        offered = copies(frame.image, rng)
        reconstruct = getattr(stylizer.generator, "reconstruct", None)
        if reconstruct is not None:
            offered["autoencoder alone"] = reconstruct(frame.image)
        for kind, picture in offered.items():
            picture = RgbImage(np.ascontiguousarray(picture))
            face = stylizer.judges.find_face(picture, frame.face)
            # Where no face is, the copy is no candidate: whatever its style, it is rejected as `no_face`.
            found.setdefault(kind, []).append(0.0 if face is None else face_style(frame, picture, face))
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
    """A photo compressed, shrunk, moved, relit, tinted and with grain: nothing of it is a style. (H, W, 3) uint8 each."""
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[..., None]
    height, width = photo.shape[:2]

    def smaller(n: int) -> RgbImage:
        small = cv2.resize(photo, (width // n, height // n), interpolation=cv2.INTER_AREA)
        return RgbImage(cv2.resize(small, (width, height)).astype(np.uint8, copy=False))

    def compressed(image: RgbImage) -> RgbImage:
        coded = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 20])[1], 1)
        assert coded is not None  # it was coded a line ago
        return RgbImage(coded.astype(np.uint8, copy=False))

    def moved(degrees: float, zoom: float, shift: float) -> RgbImage:
        """Turned and zoomed about the middle, shifted by a share of the width."""
        affine = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, zoom)
        affine[:, 2] += shift * width
        moved = cv2.warpAffine(photo, affine, (width, height), borderMode=cv2.BORDER_REFLECT)
        return RgbImage(moved.astype(np.uint8, copy=False))

    return {
        "jpeg quality 20": compressed(photo),
        "shifted": moved(0, 1, 0.006),
        "turned, compressed": compressed(moved(3, 1, 0)),
        "zoomed": moved(0, 1.04, 0),
        "mirrored": np.ascontiguousarray(photo[:, ::-1]),
        "gamma 1.5": (255 * (photo / 255) ** 1.5).astype(np.uint8),
        "contrast 1.4": np.clip((photo.astype(float) - 128) * 1.4 + 128, 0, 255).astype(np.uint8),
        "sepia": np.clip(grey * np.array([1.05, 0.95, 0.8]), 0, 255).astype(np.uint8),
        "duotone": (grey / 255 * np.array([200, 60, 90]) + np.array([40, 20, 120])).astype(np.uint8),
        "noise 10": np.clip(photo + rng.normal(0, 10, photo.shape), 0, 255).astype(np.uint8),
        "half size": smaller(2),
        "third size": smaller(3),
    }


def _recogniser(
    scores: np.ndarray, rates: Sequence[float], intervals: bool
) -> tuple[dict[str, Any], dict[float, np.ndarray]]:
    """What one recogniser does in one style, and which genuine pairs it accepts at each rate.

    `scores` is (references, candidates); the first references are the candidates' own people.
    """
    rows, columns = scores.shape
    own = np.arange(rows)[:, None] == np.arange(columns)
    genuine, impostor = scores[own], scores[~own]
    masked = np.where(own, np.nan, scores)
    found = {rate: round_up(threshold_at_far(impostor, rate)) for rate in rates}
    spread = {rate: bootstrap_pairs(masked, partial(order_statistic, far=rate)) for rate in rates if intervals}
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


def _people(stylizer: AttemptLoop, photos: Sequence[Path]) -> tuple[list[_Person], list[Path]]:
    """The people, and the photos in which no face was found: these are not scored, and counted."""
    found, unseen, names = [], [], set[str]()
    for path in photos:
        photo = read_photo(path)
        try:
            (subject,) = stylizer.subjects(photo, "largest")
        except FaceError:
            unseen.append(path)
            continue
        framed = frame_portrait(photo.pixels, subject.face, "bust", stylizer.recipe.resolution)
        name = f"{path.parent.name}/{path.name}"
        name = path.as_posix() if name in names else name
        names.add(name)
        found.append(_Person(name=name, sha256=photo.sha256, identity=subject.identity, framed=framed))
    return found, unseen


def _require_different(people: Sequence[_Person]) -> None:
    """A photo that stands for two people would be an impostor of itself and lift every threshold."""
    first: dict[str, str] = {}
    for person in people:
        if person.sha256 in first:
            raise SettingsError(f"{person.name} and {first[person.sha256]} are the same photo; give each person once")
        first[person.sha256] = person.name
    limits = photo_thresholds()["recognisers"]
    for name in people[0].identity.embeddings if people else ():
        vectors = np.stack([p.identity.embeddings[name] for p in people])
        alike = np.triu(vectors @ vectors.T, 1) >= limits[name]["threshold"] if name in limits else np.zeros((0, 0))
        for a, b in zip(*np.nonzero(alike), strict=True):
            log.warning(
                "%s: %s and %s look like one person; give each person once", name, people[a].name, people[b].name
            )
