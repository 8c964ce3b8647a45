"""Make and measure the pictures from which thresholds are derived: a recipe's portraits of your own people."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from portrait.calibrate.degrade import DEGRADATIONS, copies, degrade
from portrait.calibrate.journal import Journal, Key
from portrait.calibrate.statistics import copy_limit, require_pairs
from portrait.errors import FaceError, ImageReadError, SettingsError
from portrait.generate.framing import Framed, frame_portrait
from portrait.images import read_photo
from portrait.judge.thresholds import photo_thresholds
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.scoring import face_features, face_features_shown, face_style
from portrait.records import Identity, Knobs, RgbImage

log = logging.getLogger(__name__)

DIAL = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Dial positions at which portraits are drawn if limits must hold for the whole dial."""
OnPicture = Callable[[str, int, int, RgbImage | None], None]
"""Called with (style, number from 1, total number of pictures, picture or None if measured before)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleOptions:
    """Which pictures a calibration makes.

    Attributes:
        styles: Styles of the recipe.
        rates: False accept rates of all judges together, each in (0, 1).
        balance: The portraits' balance, in [0, 1]; None spreads the people over the whole dial, so that the limits hold for
            all of it.
        seed: Seed of the first portrait of each style; each further one has the next, for a seed decides the palette too.
        impostors: Photos of still other people, one each; only their faces are compared, which gives more impostor
            pairs and so allows lower rates.
        curves: A file of curves for the dial, to use instead of the recipe's.
        journal: A file of earlier measurements, with which an interrupted run continues.
    """

    styles: Sequence[str]
    rates: Sequence[float]
    balance: float | None = None
    seed: int = 1
    impostors: Sequence[Path] = ()
    curves: str = ""
    journal: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StylePictures:
    """The measurements of P people's portraits in one style.

    `positions` are the (P,) dial positions of the portraits, and `knobs` those of its middle. `scores` is judge -> (P +
    impostors, P) similarity of each photo to each portrait, the candidates' own photos first. `features` are (P, F)
    `face_style_features`, `shown` (P,) `features_shown`; all others are (P,). `degraded_...` are for the second portraits,
    from degraded photos. `missed` and `degraded_missed` are portraits in which no detector found a face.
    """

    knobs: Knobs
    positions: np.ndarray
    scores: dict[str, np.ndarray]
    missed: np.ndarray
    styled: np.ndarray
    burned: np.ndarray
    features: np.ndarray
    shown: np.ndarray
    degraded_likeness: dict[str, np.ndarray]
    degraded_styled: np.ndarray
    degraded_features: np.ndarray
    degraded_shown: np.ndarray
    degraded_missed: np.ndarray

    def without(self, person: int, impostors: int) -> StylePictures:
        """The same measurements without one of the people; `impostors` is the number of further photos."""
        people = len(self.styled)
        columns = np.arange(people) != person
        rows = np.concatenate([columns, np.ones(impostors, bool)])
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays = {name: value[columns] for name, value in values.items() if isinstance(value, np.ndarray)}
        return replace(
            self,
            **arrays,
            scores={judge: scores[np.ix_(rows, columns)] for judge, scores in self.scores.items()},
            degraded_likeness={judge: likeness[columns] for judge, likeness in self.degraded_likeness.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """Everything that calibration measures, before limits are derived.

    `people` and `impostors` map name to SHA-256; `unused` are photos without a usable face; `copies` maps a kind of copy to
    (P,) `style_on_face`.
    """

    people: dict[str, str]
    impostors: dict[str, str]
    unused: list[str]
    copies: dict[str, np.ndarray]
    styles: dict[str, StylePictures]

    def without(self, person: str) -> Sample:
        """The same sample without one person: neither their photo nor portraits nor copies affect its limits."""
        index = list(self.people).index(person)
        return replace(
            self,
            people={name: digest for name, digest in self.people.items() if name != person},
            copies={kind: np.delete(values, index) for kind, values in self.copies.items()},
            styles={style: pictures.without(index, len(self.impostors)) for style, pictures in self.styles.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Person:
    """The parts of a photo that are kept: the identity and the framed square, not all of its pixels."""

    name: str
    sha256: str
    identity: Identity
    framed: Framed


class _Scored(BaseModel):
    """One portrait: its similarity to each of R reference photos by judge, and the other measurements, as in the journal."""

    model_config = ConfigDict(frozen=True)

    likeness: dict[str, list[float]]
    missed: bool
    styled: float
    burned: float
    features: list[float]
    shown: float


def measure_sample(
    loop: AttemptLoop, photos: Sequence[Path], options: SampleOptions, on_picture: OnPicture | None = None
) -> Sample:
    """Make the portraits from which thresholds are derived; arguments and errors as in `calibrate_thresholds`."""
    styles, balance, seed = options.styles, options.balance, options.seed
    loop.recipe.knobs_at(0.5 if balance is None else balance)  # refuse before anything is made
    require_pairs(len(photos), len(photos) + len(options.impostors), options.rates)
    people, unused = read_people(loop, photos)
    others, unused_others = read_people(loop, options.impostors)
    require_pairs(len(people), len(people) + len(others), options.rates)
    _require_different([*people, *others])
    # Copies first: their limit decides where the dial starts, and so which knobs each portrait is drawn with.
    copied = measure_copies(loop, [person.framed for person in people])
    limit = copy_limit(copied)
    total = 2 * len(styles) * len(people)
    count = 0
    references = {judge: _embeddings(judge, [*people, *others]) for judge in loop.judges.names}
    earlier = None if options.journal is None else Journal(options.journal, _header(loop, people, others, seed))
    measured: dict[str, StylePictures] = {}
    for style in styles:
        turn = list(loop.recipe.styles).index(style)  # independent of which styles are measured together
        positions = dial_positions(len(people), turn) if balance is None else [balance] * len(people)

        def knobs_at(position: float, style: str = style) -> Knobs:
            return loop.knobs_for_balance(style, position, limit, options.curves)

        rows: list[_Scored] = []
        sittings = _sittings(people, [knobs_at(p) for p in positions], (knobs_at(0.0), knobs_at(1.0)))
        for number, sitting in enumerate(sittings):
            degraded, index = divmod(number, len(people))
            key: Key = (style, index, bool(degraded), json.dumps(asdict(sitting[2])))
            row, picture = _measured(loop, sitting, style, seed + number, references, earlier, key)
            rows.append(row)
            count += 1
            if on_picture is not None:
                on_picture(style, count, total, picture)
        measured[style] = _style_pictures(knobs_at(0.5 if balance is None else balance), positions, rows)
    return Sample(
        people={person.name: person.sha256 for person in people},
        impostors={person.name: person.sha256 for person in others},
        unused=[path.name for path in (*unused, *unused_others)],
        copies=copied,
        styles=measured,
    )


def dial_positions(people: int, turn: int) -> list[float]:
    """The dial position of each person: evenly over `DIAL`, in a new order each round."""
    return [DIAL[(person + turn) % len(DIAL)] for person in range(people)]


def _sittings(
    people: Sequence[Person], knobs: Sequence[Knobs], ends: tuple[Knobs, Knobs]
) -> list[tuple[Person, Framed, Knobs]]:
    """Each person once with their own knobs, then once more from a degraded photo at an end of the dial.

    So a style's statistics cover the whole dial and all kinds of photos.
    """
    plain = [(person, person.framed, its_knobs) for person, its_knobs in zip(people, knobs, strict=True)]
    degraded = []
    for i, person in enumerate(people):
        framed = replace(person.framed, image=degrade(person.framed.image, i))
        degraded.append((person, framed, ends[i // len(DEGRADATIONS) % 2]))
    return [*plain, *degraded]


def _header(loop: AttemptLoop, people: Sequence[Person], others: Sequence[Person], seed: int) -> dict[str, object]:
    """The conditions under which a journal's pictures are made."""
    return {
        "recipe": loop.recipe.name,
        "first_seed": seed,
        "measured": list(_Scored.model_fields),
        "models": loop.digests,
        "judges": loop.judges.names,
        "form": loop.judges.form,
        "people": [person.sha256 for person in people],
        "impostors": [person.sha256 for person in others],
    }


def _embeddings(judge: str, people: Sequence[Person]) -> np.ndarray:
    return np.stack([person.identity.embeddings[judge] for person in people])


def _measured(
    loop: AttemptLoop,
    sitting: tuple[Person, Framed, Knobs],
    style: str,
    seed: int,
    references: dict[str, np.ndarray],
    earlier: Journal | None,
    key: Key,
) -> tuple[_Scored, RgbImage | None]:
    """One portrait measured, and its picture; None if the journal of an earlier run has it, so that it is not drawn."""
    if earlier is not None and (row := earlier.get(key)) is not None:
        return _Scored.model_validate(row), None
    person, framed, knobs = sitting
    picture = loop.draw(framed, person.identity, style, knobs, seed)
    scored = _score(loop, person, framed, picture, references)
    if earlier is not None:
        earlier.put(key, scored.model_dump())
    return scored, picture


def _score(
    loop: AttemptLoop, person: Person, framed: Framed, picture: RgbImage, references: dict[str, np.ndarray]
) -> _Scored:
    score = loop.judges.score_picture(framed, person.identity, picture)
    return _Scored(
        likeness={judge: (references[judge] @ each).tolist() for judge, each in score.embeddings.items()},
        missed=score.face is None,
        styled=score.measurement.style_on_face,
        burned=score.measurement.burned,
        features=face_features(framed, picture).tolist(),
        shown=face_features_shown(framed, picture, score.face),
    )


def _style_pictures(knobs: Knobs, positions: Sequence[float], rows: Sequence[_Scored]) -> StylePictures:
    plain, degraded = rows[: len(positions)], rows[len(positions) :]
    judges = list(rows[0].likeness)
    return StylePictures(
        knobs=knobs,
        positions=np.array(positions),
        scores={judge: np.array([row.likeness[judge] for row in plain], np.float32).T for judge in judges},
        missed=np.array([row.missed for row in plain]),
        styled=np.array([row.styled for row in plain]),
        burned=np.array([row.burned for row in plain]),
        features=np.array([row.features for row in plain]),
        shown=np.array([row.shown for row in plain]),
        degraded_likeness={
            judge: np.array([row.likeness[judge][index] for index, row in enumerate(degraded)], np.float32)
            for judge in judges
        },
        degraded_styled=np.array([row.styled for row in degraded]),
        degraded_features=np.array([row.features for row in degraded]),
        degraded_shown=np.array([row.shown for row in degraded]),
        degraded_missed=np.array([row.missed for row in degraded]),
    )


def measure_copies(loop: AttemptLoop, framed: Sequence[Framed]) -> dict[str, np.ndarray]:
    """`style_on_face` of copies that might pass for stylized pictures: kind -> one value per photo."""
    rng = np.random.default_rng(0)
    values: dict[str, list[float]] = {}
    for frame in framed:
        offered = copies(frame.image, rng)
        reconstructed = loop.generator.reconstruct(frame.image)
        if reconstructed is not None:
            offered["autoencoder alone"] = RgbImage(np.ascontiguousarray(reconstructed))
        for kind, picture in offered.items():
            face = loop.judges.find_face(picture, frame.face)
            # A copy without a detectable face does not count: it would be rejected as `no_face` anyway.
            styled = 0.0 if face is None else face_style(frame, picture, face)
            values.setdefault(kind, []).append(styled)
    return {kind: np.array(styled) for kind, styled in values.items()}


def read_people(loop: AttemptLoop, photos: Sequence[Path]) -> tuple[list[Person], list[Path]]:
    """The people; and the photos that cannot be read or show no usable face, which are said and counted but not scored."""
    people: list[Person] = []
    unused: list[Path] = []
    names: set[str] = set()
    for path in photos:
        try:
            photo = read_photo(path)
            (subject,) = loop.subjects(photo, "largest")
        except (ImageReadError, FaceError) as error:
            log.warning("not used: %s", error)
            unused.append(path)
            continue
        framed = frame_portrait(photo.pixels, subject.face, "bust", loop.recipe.resolution)
        name = f"{path.parent.name}/{path.name}"
        name = path.as_posix() if name in names else name
        names.add(name)
        people.append(Person(name=name, sha256=photo.sha256, identity=subject.identity, framed=framed))
    return people, unused


def _require_different(people: Sequence[Person]) -> None:
    """Refuse a photo that is given for two people: it would be its own impostor and raise every threshold."""
    first: dict[str, str] = {}
    for person in people:
        if person.sha256 in first:
            raise SettingsError(f"{person.name} and {first[person.sha256]} are the same photo; give each person once")
        first[person.sha256] = person.name
    limits = photo_thresholds().limits
    for judge in people[0].identity.embeddings if people else ():
        if judge not in limits:
            continue
        embeddings = np.stack([person.identity.embeddings[judge] for person in people])
        alike = np.triu(embeddings @ embeddings.T, 1) >= limits[judge]
        for a, b in zip(*np.nonzero(alike), strict=True):
            names = people[a].name, people[b].name
            log.warning("%s: %s and %s look like one person; give each person once", judge, *names)
